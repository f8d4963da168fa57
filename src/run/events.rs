//! `events.jsonl`: one JSON object a line, written as it happens, so that a run can be followed and plotted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use super::keeper::Part;
use crate::control::{Event, Observer};
use crate::error::{Error, Result};
use crate::files::{faults, write_atomic};
use crate::stage;
use crate::state::Task;

/// Writes events to a file, each line in one go. Lines that cannot be written (a full disk) are kept and tried again with the
/// next; training goes on.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
    /// Bytes of the file that are whole lines.
    length: u64,
    /// Lines that are not in the file yet.
    pending: Vec<u8>,
    /// Events to come that are in the file already: those that an earlier process told after its last checkpoint.
    known: u64,
    /// Whether the log says already what run it is of.
    described: bool,
    failed: bool,
}

impl EventLog {
    /// Opens an empty log at `path`.
    ///
    /// # Errors
    /// [`Error::Output`] if the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::output(path, format!("cannot be written: {e}")))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length: 0,
            pending: Vec::new(),
            known: 0,
            described: false,
            failed: false,
        })
    }

    /// Goes on in the log of a run whose checkpoint was written after `told` events.
    ///
    /// Lines behind these stay: the events come again, the same but for times, and are passed over. Half a line at the end goes.
    ///
    /// # Errors
    /// [`Error::Output`] if the file cannot be read or written.
    pub fn resume(path: &Path, told: u64) -> Result<Self> {
        let problem = |e: io::Error| Error::output(path, format!("cannot be continued: {e}"));
        let text = match fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => text.map_err(problem)?,
        };
        let length = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let values = parse_events(&text[..length]);
        let described = values.iter().any(|value| value["event"] == "run");
        let lines = values.iter().filter(|value| is_told(value)).count() as u64;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(problem)?;
        file.set_len(length as u64).map_err(problem)?;
        let known = lines.saturating_sub(told);
        let (path, length) = (path.to_owned(), length as u64);
        let mut log = Self { path, file, length, pending: Vec::new(), known, described, failed: false };
        log.append(&json!({ "event": "resumed", "after_events": told }));
        Ok(log)
    }

    /// Writes what a reader should know before the first event, unless it is there: the data, the number of rows and clusters, and
    /// how many epochs (restarts) each stage takes at most.
    pub fn describe(&mut self, task: &Task) {
        if self.described {
            return;
        }
        self.described = true;
        self.append(&description(task));
    }

    /// What the run has told as its first `told` events; of `part` alone, where that is an autoencoder and they end with it.
    pub(super) fn told(&self, told: u64, part: Part) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(is_told);
        lines.truncate(usize::try_from(told).unwrap_or(usize::MAX));
        match part {
            Part::Start => lines,
            Part::Autoencoder(_) => lines.split_off(without_pretraining(&lines)),
        }
    }

    /// Goes on with what another run, in the directory called `from`, has told with `part`, in place of what this one has told with
    /// it in its first `told` events. Returns how many it has told then.
    pub(super) fn take(&mut self, part: Part, told: u64, others: &[Value], from: &str) -> u64 {
        let (mut own, kept): (Vec<Value>, Vec<Value>) = self.lines().into_iter().partition(is_told);
        own.truncate(usize::try_from(told).unwrap_or(usize::MAX));
        own.truncate(match part {
            Part::Start => 0,
            Part::Autoencoder(_) => without_pretraining(&own),
        });
        own.extend_from_slice(others);
        let told = own.len() as u64;
        (self.length, self.known) = (0, 0);
        self.pending.clear();
        for value in kept.iter().chain(&own).chain([&json!({ "event": "shared", "from": from })]) {
            self.push(value);
        }
        // All at once: half of it would be taken for what this run has told.
        match write_atomic(&self.path, &self.pending).and_then(|()| opened(&self.path)) {
            Ok(file) => {
                self.file = file;
                self.length = self.pending.len() as u64;
                self.pending.clear();
            }
            Err(problem) => {
                tracing::warn!("{problem}; training goes on");
                self.failed = true;
            }
        }
        told
    }

    /// All whole lines, those that wait to be written among them.
    fn lines(&self) -> Vec<Value> {
        let mut text = fs::read(&self.path).unwrap_or_default();
        text.truncate(usize::try_from(self.length).unwrap_or(usize::MAX));
        text.extend_from_slice(&self.pending);
        parse_events(&text)
    }

    fn append(&mut self, value: &Value) {
        self.push(value);
        self.flush();
    }

    fn push(&mut self, value: &Value) {
        push_line(&mut self.pending, value);
    }

    /// Tries to write what is pending.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match self.write() {
            Ok(()) => {
                self.pending.clear();
                if self.failed {
                    tracing::info!("the event log can be written again");
                }
                self.failed = false;
            }
            Err(e) => {
                if !self.failed {
                    tracing::warn!("{} cannot be written: {e}; training goes on", self.path.display());
                }
                self.failed = true;
            }
        }
    }

    /// At the end of the whole lines: what a failed try left behind is written over.
    fn write(&mut self) -> io::Result<()> {
        faults::point()?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&self.pending)?;
        let length = self.length + self.pending.len() as u64;
        if self.failed {
            self.file.set_len(length)?; // what is there may be longer
        }
        self.length = length;
        Ok(())
    }
}

impl Observer for EventLog {
    fn on_event(&mut self, event: &Event) {
        let Some(value) = to_json(event) else { return };
        if self.known > 0 {
            self.known -= 1;
            return;
        }
        self.append(&value);
    }
}

/// Keeps the text of a log in memory, and passes everything on to another observer.
pub(crate) struct Told<'a> {
    text: Vec<u8>,
    to: &'a mut dyn Observer,
}

impl<'a> Told<'a> {
    /// The log of a run of `task`, which begins with what a reader should know first.
    pub(crate) fn new(task: &Task, to: &'a mut dyn Observer) -> Self {
        let mut text = Vec::new();
        push_line(&mut text, &description(task));
        Self { text, to }
    }

    /// The lines.
    pub(crate) fn into_text(self) -> Vec<u8> {
        self.text
    }
}

impl Observer for Told<'_> {
    fn on_event(&mut self, event: &Event) {
        if let Some(value) = to_json(event) {
            push_line(&mut self.text, &value);
        }
        self.to.on_event(event);
    }

    fn should_stop(&self) -> bool {
        self.to.should_stop()
    }

    fn should_save(&self) -> bool {
        self.to.should_save()
    }

    fn saved(&mut self) {
        self.to.saved();
    }
}

fn push_line(text: &mut Vec<u8>, value: &Value) {
    text.extend_from_slice(value.to_string().as_bytes());
    text.push(b'\n');
}

/// The data, the number of rows and clusters, and how many epochs (restarts) each stage takes at most.
fn description(task: &Task) -> Value {
    let stages = stage::plan(task).into_iter().map(|(stage, epochs)| json!({ "stage": stage, "epochs": epochs }));
    json!({
        "event": "run", "data": task.data_name, "n_rows": task.n_rows(), "n_clusters": task.config.n_clusters,
        "stages": stages.collect::<Vec<_>>(),
    })
}

/// A log to write on in.
fn opened(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).open(path).map_err(|e| Error::output(path, format!("cannot be continued: {e}")))
}

/// Whether a line is of an event, and not of how the log came about.
fn is_told(value: &Value) -> bool {
    !["run", "resumed", "shared"].iter().any(|other| value["event"] == **other)
}

/// How many of `lines` there are before the pretraining and fine-tuning that they end with.
fn without_pretraining(lines: &[Value]) -> usize {
    let of_it = |value: &Value| {
        let event = value["event"].as_str().is_some_and(|event| ["epoch", "rolled_back", "stage"].contains(&event));
        event && value["stage"].as_str().is_some_and(|stage| stage == "finetune" || stage.starts_with("pretrain"))
    };
    lines.iter().rposition(|value| !of_it(value)).map_or(0, |last| last + 1)
}

/// The lines of a log that are whole.
pub fn parse_events(log: &[u8]) -> Vec<Value> {
    log.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// The line for an event; `None` for those that are not logged.
fn to_json(event: &Event) -> Option<Value> {
    Some(match event {
        Event::StageStarted { .. } | Event::Step { .. } => return None,
        Event::Epoch { stage, epoch, loss, learning_rate, seconds } => json!({
            "event": "epoch", "stage": stage.to_string(), "epoch": epoch, "loss": loss,
            "learning_rate": learning_rate, "seconds": seconds,
        }),
        Event::Restart { stage, restart, inertia, seconds } => json!({
            "event": "restart", "stage": stage.to_string(), "restart": restart, "inertia": inertia, "seconds": seconds,
        }),
        Event::Round { round, seconds } => json!({
            "event": "round", "stage": "cluster", "round": round.round, "changed": round.changed, "loss": round.loss,
            "acc": round.acc, "sizes": round.sizes, "centroid_distance": round.centroid_distance,
            "effective_clusters": round.effective_clusters, "confidence": round.confidence, "seconds": seconds,
        }),
        Event::RolledBack(rollback) => json!({
            "event": "rolled_back", "stage": rollback.stage, "at_step": rollback.at_step, "to_step": rollback.to_step,
            "rate_factor": rollback.rate_factor,
        }),
        Event::Warning { stage, text } => json!({ "event": "warning", "stage": stage.to_string(), "text": text }),
        Event::StageFinished { stage, time } => json!({
            "event": "stage", "stage": stage.to_string(), "steps": time.steps, "seconds": time.seconds,
        }),
        Event::NetworkStarted { network, networks } => {
            json!({ "event": "network", "network": network, "networks": networks })
        }
        Event::Scored(result) => json!({ "event": "result", "result": result, "seconds": result.seconds }),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tell(log: &mut EventLog, networks: std::ops::Range<u64>) {
        networks.for_each(|network| log.on_event(&Event::NetworkStarted { network, networks: 9 }));
    }

    fn networks(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        let values = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        values.filter_map(|value| value["network"].as_u64()).collect()
    }

    #[test]
    fn a_resumed_log_has_every_event_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        tell(&mut EventLog::create(&path).unwrap(), 0..5);
        let mut half = fs::read(&path).unwrap();
        half.extend(b"{\"event\":\"net");
        fs::write(&path, half).unwrap();
        // The checkpoint is of after the third: two are told again. Twice, since the second process dies too.
        tell(&mut EventLog::resume(&path, 3).unwrap(), 3..4);
        tell(&mut EventLog::resume(&path, 3).unwrap(), 3..8);
        assert_eq!(networks(&path), (0..8).collect::<Vec<_>>());
        assert_eq!(fs::read_to_string(&path).unwrap().matches("resumed").count(), 2);
    }
}
