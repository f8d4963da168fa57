//! Parts of runs that several runs have in common: an autoencoder, or all that comes before self-training.
//!
//! Whoever comes to a part first trains it, and leaves it in a directory of its own, which is called by a hash of all that the part
//! depends on: the rows, the settings that have mattered until then, the seed, the device and the number of threads. Others with the
//! same hash go on from there, with the bits that they would have come to alone.
//!
//! A part is kept as a checkpoint ([`Checkpoint`]) with the events that go with it. One that is damaged, or of which only half was
//! written, is trained again. While a run is at work on a part it holds the directory's lock, and others wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{json, Value};

use super::checkpoint::{sha256, Checkpoint, Checkpoints, Identity};
use super::events::{parse_events, EventLog};
use super::keeper::Part;
use super::lock::Lock;
use super::names::{EVENTS, FORMAT};
use crate::config::{earliest_use, values_of, Config, Use};
use crate::control::{Control, Rollback};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::stage;
use crate::state::{Run, StageId, State, Task};

/// How often a run that waits looks whether a part is there.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Tries to lock a directory that nobody holds.
const TRIES: usize = 3;
/// Hexadecimal digits of the hash in a directory's name.
const HASH_DIGITS: usize = 16;

/// The parts that runs leave for each other in one directory.
#[derive(Debug)]
pub struct SharedParts {
    dir: PathBuf,
    identity: Identity,
    /// What this run is at work on, or would be.
    held: Vec<(Part, Lock)>,
}

impl SharedParts {
    /// Those in `dir`, for a run of `identity`.
    pub fn new(dir: &Path, identity: Identity) -> Self {
        Self { dir: dir.to_owned(), identity, held: Vec::new() }
    }

    /// A part that is there, which `log` takes over too; see [`super::Keeper::take`]. Where there is none, this run is the one that
    /// makes it: nobody else does until it has shared it or ended.
    ///
    /// # Errors
    /// [`Error::Interrupted`] while another run is at work on it.
    pub fn take(&mut self, run: &Run, part: Part, log: &mut EventLog, control: &Control) -> Result<Option<State>> {
        if part != Part::Start {
            self.let_go_of_networks();
        }
        let (name, dir) = match self.place(&run.task, part) {
            Ok(place) => place,
            Err(problem) => return Ok(unshared(&problem)),
        };
        let mut found = self.read(run, &dir);
        if found.is_none() {
            match hold(&dir, control) {
                Ok(lock) => self.held.push((part, lock)),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(problem) => return Ok(unshared(&problem)),
            }
            found = self.read(run, &dir); // somebody may have made it meanwhile
        }
        let Some((state, events)) = found else { return Ok(None) };
        self.held.retain(|(held, _)| *held != part);
        tracing::info!("{} from {name}, which another run has trained", said(part));
        let events = log.take(part, run.state.events, &events, &name);
        Ok(Some(State { events, ..state }))
    }

    /// Leaves a part that the run has come to the end of, unless it is there. Failing to is reported, and no reason to stop.
    pub fn share(&mut self, run: &Run, part: Part, log: &EventLog) {
        if part == Part::Start {
            self.let_go_of_networks();
        }
        if run.state.pretrained {
            self.held.clear();
            return; // its stages are others: the number of clusters was looked for
        }
        if !self.held.iter().any(|(held, _)| *held == part) {
            return; // it was taken, or cannot be shared
        }
        if let Err(problem) = self.write(run, part, log) {
            tracing::warn!("{} is not shared with other runs: {problem}", said(part));
        }
        self.held.retain(|(held, _)| *held != part);
    }

    /// Lets others train the network that came to nothing here.
    fn let_go_of_networks(&mut self) {
        self.held.retain(|(held, _)| *held == Part::Start);
    }

    /// The name of a part's directory, and where it is.
    fn place(&self, task: &Task, part: Part) -> Result<(String, PathBuf)> {
        let kind = match part {
            Part::Autoencoder(_) => "autoencoder",
            Part::Start => "start",
        };
        let name = format!("{kind}-{}", &key(task, &self.identity, part)?[..HASH_DIGITS]);
        let dir = self.dir.join(&name);
        Ok((name, dir))
    }

    fn read(&self, run: &Run, dir: &Path) -> Option<(State, Vec<Value>)> {
        let read = || -> Result<Option<(State, Vec<Value>)>> {
            let Some(checkpoint) = Checkpoint::newest(dir)? else { return Ok(None) };
            let identity =
                Identity { labels_sha256: self.identity.labels_sha256.clone(), ..checkpoint.identity().clone() };
            identity.check(&self.identity)?;
            let log = dir.join(EVENTS);
            let text = std::fs::read(&log).map_err(|e| Error::data(&log, format!("cannot be read: {e}")))?;
            let events = parse_events(&text);
            let state = checkpoint.state(&run.task, run.task.rows.device())?;
            if state.events != events.len() as u64 {
                return Err(Error::data(&log, format!("has {} events instead of {}", events.len(), state.events)));
            }
            Ok(Some((state, events)))
        };
        read().unwrap_or_else(|problem| {
            tracing::warn!("{problem}; what is there is trained again");
            None
        })
    }

    fn write(&self, run: &Run, part: Part, log: &EventLog) -> Result<()> {
        let (_, dir) = self.place(&run.task, part)?;
        let events = log.told(run.state.events, part);
        let (config, stages) = (run.task.config.to_toml()?, stage::list(&run.task).len());
        let mut checkpoints = Checkpoints::new(&dir, self.identity.clone(), config, stages, Duration::MAX, 1);
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        write_atomic(&dir.join(EVENTS), lines.as_bytes())?;
        match part {
            Part::Start if events.len() as u64 == run.state.events => checkpoints.save(&run.state),
            Part::Start => Err(Error::data(&dir, "the run's log lacks events")),
            Part::Autoencoder(network) => checkpoints.save(&autoencoder(run, network, &events)?),
        }
    }
}

/// The part's share of a state: the network alone, with what is known about its training.
fn autoencoder(run: &Run, network: usize, events: &[Value]) -> Result<State> {
    let mut networks = Vec::new();
    networks.resize_with(network, || None);
    networks.push(Some(run.state.network(network)?.share()));
    let count = stage::list(&run.task).into_iter().filter(|&id| stage::pretrains(id) == Some(network)).count();
    let stages = run.state.stages[run.state.stages.len().saturating_sub(count)..].to_vec();
    let rolled_back = events.iter().filter(|event| event["event"] == "rolled_back");
    let rollbacks: Vec<Rollback> = rolled_back.filter_map(|event| serde_json::from_value(event.clone()).ok()).collect();
    Ok(State { networks, stages, rollbacks, events: events.len() as u64, ..State::default() })
}

/// What runs on the same rows have alike where they can share an autoencoder.
///
/// # Errors
/// [`Error::Config`] for what TOML cannot say: a path that is not UTF-8.
pub fn autoencoder_group(config: &Config) -> Result<String> {
    let settings = values_of(config)?.into_iter();
    let alike = settings.filter(|(key, _)| matters(key, Part::Autoencoder(0), false));
    Ok(alike.map(|(key, value)| format!("{key}={value}\n")).collect())
}

/// Waits until nobody else is at work on the part in `dir`.
fn hold(dir: &Path, control: &Control) -> Result<Lock> {
    std::fs::create_dir_all(dir).map_err(|e| Error::output(dir, format!("cannot make this directory: {e}")))?;
    let (mut tries, mut told) = (0, false);
    loop {
        match Lock::acquire(dir) {
            Ok(lock) => return Ok(lock),
            Err(_) if Lock::is_held(dir) => {
                if !told {
                    tracing::info!("waiting for another run, which trains what this one needs");
                    told = true;
                }
            }
            Err(_) if tries < TRIES => tries += 1, // given back between the two looks
            Err(problem) => return Err(problem),
        }
        control.check()?;
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn unshared(problem: &Error) -> Option<State> {
    tracing::warn!("nothing is shared with other runs: {problem}");
    None
}

fn said(part: Part) -> String {
    match part {
        Part::Autoencoder(0) => "the autoencoder".to_owned(),
        Part::Autoencoder(network) => format!("autoencoder {}", network + 1),
        Part::Start => "all before self-training".to_owned(),
    }
}

/// SHA-256 of all that a part depends on.
fn key(task: &Task, identity: &Identity, part: Part) -> Result<String> {
    let over_clusters = stage::list(task).iter().any(|id| matches!(id, StageId::OverCluster { .. }));
    let mut settings = values_of(&task.config)?;
    settings.retain(|key, _| matters(key, part, over_clusters));
    let settings: BTreeMap<&String, String> = settings.iter().map(|(key, value)| (key, value.to_string())).collect();
    let labels = identity.labels_sha256.as_ref().filter(|_| part == Part::Start); // scores are among its events
    let network = if let Part::Autoencoder(network) = part { Some(network) } else { None };
    let all = json!({
        "dec": env!("CARGO_PKG_VERSION"), "format": FORMAT, "network": network, "rows": identity.rows_sha256, "labels": labels, "start": identity.start_sha256,
        "device": identity.device, "threads": identity.threads, "settings": settings,
    });
    Ok(sha256(all.to_string().as_bytes()))
}

/// Whether a setting has a say in a part.
fn matters(key: &str, part: Part, over_clusters: bool) -> bool {
    const LABELS: [&str; 3] = ["data.labels", "data.label_column", "data.folder_labels"];
    // Threads and device count as what they come to.
    if ["threads", "device"].contains(&key) || LABELS.contains(&key) || key.starts_with("sweep.") {
        return false;
    }
    if key.starts_with("guard.") {
        return true; // training that went wrong depends on it
    }
    let moment = earliest_use(key);
    match part {
        Part::Autoencoder(_) => moment <= Use::Finetuning && key != "n_clusters" && !key.starts_with("kmeans."),
        // Of [cluster] the search for a start reads whether rows are augmented; over-clustering reads how to train.
        Part::Start if key.starts_with("cluster.") && !over_clusters => key == "cluster.augment",
        Part::Start => moment <= Use::Start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_depends_on_what_its_stages_read() {
        let autoencoder = |key| matters(key, Part::Autoencoder(1), true);
        for key in [
            "seed",
            "data.scale",
            "model.n_latent",
            "augment.kind",
            "pretrain.lr",
            "finetune.epochs",
            "guard.max_rollbacks",
        ] {
            assert!(autoencoder(key), "{key}");
        }
        for key in
            ["n_clusters", "kmeans.n_init", "start.method", "cluster.lr", "data.labels", "threads", "output.report"]
        {
            assert!(!autoencoder(key), "{key}");
        }
        let start = |key, over_clusters| matters(key, Part::Start, over_clusters);
        for key in ["n_clusters", "kmeans.n_init", "start.method", "cluster.augment", "pretrain.lr"] {
            assert!(start(key, false) && start(key, true), "{key}");
        }
        assert!(start("cluster.lr", true) && !start("cluster.lr", false));
        for key in ["cluster.anchor", "cluster.max_rounds", "checkpoint.keep"] {
            assert!(!start(key, true) && !start(key, false), "{key}");
        }
    }
}
