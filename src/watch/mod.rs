//! A run on one screen, from its `events.jsonl`.
//!
//! [`WatchState`] takes the log's lines in; [`screen`] draws it. Both are pure: who calls them reads the file and the terminal's
//! size.
//!
//! ```
//! # use dec::watch::{screen, WatchState};
//! let mut state = WatchState::new("digits", Some(1_797));
//! state.expect("pretrain", 40);
//! state.absorb(r#"{"event":"epoch","stage":"pretrain","epoch":10,"loss":0.5,"learning_rate":0.001,"seconds":20.0}"#);
//! let text = screen(&state, 80, 24, false);
//! assert!(text.ends_with("pretrain: epoch 10 of 40 · 1:00 min left · 899 rows/s · loss 0.5000"));
//! ```

mod chart;
mod screen;
mod text;

use serde_json::Value;

pub use screen::screen;

/// Warnings that are kept.
const WARNINGS: usize = 5;
/// A line of the log is not longer; one without an end is dropped.
const LONGEST_LINE: usize = 1 << 24;

/// What is known of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchState {
    /// What the screen is headed with.
    title: String,
    /// How the run stands, in a word: "running" …
    status: String,
    /// Rows of the data, if known.
    rows: Option<u64>,
    /// Epochs of stages that were told of beforehand.
    planned: Vec<(String, u64)>,
    /// In the order in which they began.
    stages: Vec<Stage>,
    /// The network at work, counted from 1, and how many there are.
    network: Option<[u64; 2]>,
    round: Option<Round>,
    results: Vec<Score>,
    /// The latest, oldest first.
    warnings: Vec<String>,
    /// The start of a line whose end has not come.
    half: Vec<u8>,
}

/// A stage of one network.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stage {
    name: String,
    network: Option<u64>,
    done: bool,
    seconds: f64,
    /// Epochs or restarts done.
    count: u64,
    kind: Kind,
    /// Of each epoch the loss, of each restart the best inertia; NaN where it was not finite.
    curve: Vec<f64>,
    learning_rate: Option<f64>,
}

/// What a stage counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Epochs,
    Restarts,
}

/// The latest round of self-training.
#[derive(Debug, Clone, Default, PartialEq)]
struct Round {
    number: u64,
    changed: Option<f64>,
    confidence: Option<f64>,
    effective: Option<f64>,
    acc: Option<f64>,
    sizes: Vec<u64>,
}

/// How a method did: its name and its scores, each with a name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Score {
    method: String,
    scores: Vec<(&'static str, f64)>,
}

impl WatchState {
    /// Nothing has happened in the run `title`, over `rows` rows if that is known. Terminal escapes in the title are stripped.
    pub fn new(title: &str, rows: Option<u64>) -> Self {
        Self { title: text::clean(title), status: "running".to_owned(), rows, ..Self::default() }
    }

    /// `stage` takes so many epochs (restarts, of a k-means), which the log does not say: for the time that is left. Without it,
    /// a stage of a later network is taken to be as long as that of the one before.
    pub fn expect(&mut self, stage: &str, epochs: u64) {
        self.planned.retain(|(name, _)| name != stage);
        self.planned.push((stage.to_owned(), epochs));
    }

    /// How the run stands, in a word: "finished", "interrupted". "running" until it is set.
    pub fn set_status(&mut self, status: &str) {
        self.status = text::clean(status);
    }

    /// Takes in more bytes of the log, as they come: the start of a line waits for its end.
    pub fn feed(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.half.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.half);
                self.absorb(&String::from_utf8_lossy(&line));
            } else if self.half.len() > LONGEST_LINE {
                self.half.clear();
            }
        }
    }

    /// Forgets the start of a line whose end has not come, and says how many bytes it had. For who reads the log: a resumed run
    /// cuts half a line off its end, so where the file is shorter than what was read, go back by so much.
    pub fn forget_half(&mut self) -> usize {
        std::mem::take(&mut self.half).len()
    }

    /// Takes in a line of the log; whether it changed anything. Half lines, lines that are no JSON, and events that are not known
    /// are passed over, and so are values of another type than expected.
    pub fn absorb(&mut self, line: &str) -> bool {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return false };
        match event["event"].as_str() {
            Some("run") => self.described(&event),
            Some("epoch") => self.counted(&event, Kind::Epochs, "epoch", "loss"),
            Some("restart") => self.counted(&event, Kind::Restarts, "restart", "inertia"),
            Some("round") => self.in_round(&event),
            Some("stage") => self.stage_done(&event),
            Some("network") => match (event["network"].as_u64(), event["networks"].as_u64()) {
                (Some(network), Some(networks)) => self.next_network(network, networks),
                _ => return false,
            },
            Some("result") => self.scored(&event["result"]),
            Some("warning") => self.warn(event["text"].as_str().unwrap_or_default()),
            Some("rolled_back") => {
                let step = |name: &str| event[name].as_u64().unwrap_or_default();
                self.warn(&format!("diverged at step {}: went back to step {}", step("at_step"), step("to_step")));
            }
            Some("resumed") => "running".clone_into(&mut self.status),
            _ => return false,
        }
        true
    }

    fn described(&mut self, event: &Value) {
        if let Some(data) = event["data"].as_str() {
            self.title = text::clean(data);
        }
        self.rows = event["n_rows"].as_u64().or(self.rows);
        for stage in event["stages"].as_array().into_iter().flatten() {
            if let (Some(name), Some(epochs)) = (stage["stage"].as_str(), stage["epochs"].as_u64()) {
                self.expect(name, epochs);
            }
        }
    }

    /// The stage that an event is of: the one at work, or another that begins with it.
    fn stage_of(&mut self, event: &Value) -> &mut Stage {
        let name = text::clean(event["stage"].as_str().unwrap_or("?"));
        let goes_on = self.stages.last().is_some_and(|stage| stage.name == name && !stage.done);
        if !goes_on {
            let network = self.network.map(|[network, _]| network);
            self.stages.push(Stage { name, network, ..Stage::default() });
        }
        let last = self.stages.len() - 1;
        let stage = &mut self.stages[last];
        stage.seconds = event["seconds"].as_f64().unwrap_or(stage.seconds);
        stage
    }

    fn counted(&mut self, event: &Value, kind: Kind, count: &str, value: &str) {
        let stage = self.stage_of(event);
        stage.kind = kind;
        stage.count = event[count].as_u64().unwrap_or(stage.count + 1);
        // After a return to an earlier step epochs come again.
        let before = usize::try_from(stage.count.saturating_sub(1)).unwrap_or(usize::MAX);
        stage.curve.truncate(before);
        stage.curve.push(event[value].as_f64().unwrap_or(f64::NAN));
        stage.learning_rate = event["learning_rate"].as_f64();
    }

    fn in_round(&mut self, event: &Value) {
        self.stage_of(event);
        let sizes = event["sizes"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.round = Some(Round {
            number: event["round"].as_u64().unwrap_or_default(),
            changed: event["changed"].as_f64(),
            confidence: event["confidence"].as_f64(),
            effective: event["effective_clusters"].as_f64(),
            acc: event["acc"].as_f64(),
            sizes: sizes.iter().map(|size| size.as_u64().unwrap_or_default()).collect(),
        });
    }

    fn stage_done(&mut self, event: &Value) {
        self.stage_of(event).done = true;
    }

    /// The stages so far were of the first network: the log tells of networks from the second on.
    fn next_network(&mut self, network: u64, networks: u64) {
        if self.network.is_none() {
            self.stages.iter_mut().for_each(|stage| stage.network = Some(1));
        }
        self.network = Some([network, networks]);
    }

    fn scored(&mut self, result: &Value) {
        let scores = ["acc", "nmi", "ari", "silhouette"];
        let scores = scores.into_iter().filter_map(|name| Some((name, result[name].as_f64()?))).collect();
        let method = text::clean(result["method"].as_str().unwrap_or("?"));
        self.results.push(Score { method, scores });
    }

    fn warn(&mut self, warning: &str) {
        self.warnings.push(text::clean(warning));
        let surplus = self.warnings.len().saturating_sub(WARNINGS);
        self.warnings.drain(..surplus);
    }

    /// Epochs (restarts) that `stage` takes in all, if known: as planned, or as an earlier one of that name took.
    fn planned_for(&self, stage: &Stage) -> Option<u64> {
        let planned = self.planned.iter().find(|(name, _)| *name == stage.name).map(|(_, epochs)| *epochs);
        let earlier = || self.stages.iter().find(|other| other.done && other.name == stage.name && other.count > 0);
        planned.or_else(|| earlier().map(|stage| stage.count))
    }

    /// Seconds until `stage` ends, at its speed so far.
    fn left_of(&self, stage: &Stage) -> Option<f64> {
        let all = self.planned_for(stage)?;
        let is_known = !stage.done && stage.count > 0 && stage.count <= all;
        is_known.then(|| stage.seconds / stage.count as f64 * (all - stage.count) as f64)
    }

    /// Rows a second that `stage` trains on.
    fn rate_of(&self, stage: &Stage) -> Option<f64> {
        let is_known = stage.kind == Kind::Epochs && stage.count > 0 && stage.seconds > 0.0;
        is_known.then_some(self.rows? as f64 * stage.count as f64 / stage.seconds)
    }
}

#[cfg(test)]
mod tests;
