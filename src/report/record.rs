//! What a run's directory says of the run.

use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;
use tch::Device;

use crate::control::{MethodResult, Rollback, StageTime};
use crate::error::{Error, Result};
use crate::run::{parse_events, Assignment, Model, ASSIGNMENTS, CONFIG, EVENTS, SUMMARY};

/// All that a run's directory says.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) summary: Summary,
    /// The recipe as it is written there.
    pub(super) recipe: String,
    pub(super) events: Vec<Value>,
    /// `None` where the run had not come so far.
    pub(super) assignment: Option<Assignment>,
    /// `None` where the run had not come so far.
    pub(super) model: Option<Model>,
    /// When the summary was written.
    pub(super) ended: Option<SystemTime>,
}

/// What a report takes from `summary.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    pub(super) status: String,
    pub(super) error: Option<String>,
    pub(super) stopped_in: Option<String>,
    pub(super) recipe: String,
    pub(super) data: String,
    pub(super) rows_sha256: Option<String>,
    pub(super) seed: u64,
    pub(super) device: String,
    pub(super) threads: usize,
    pub(super) rows: Value,
    pub(super) n_rows: u64,
    pub(super) n_features: u64,
    pub(super) n_clusters: usize,
    pub(super) columns: Vec<String>,
    pub(super) results: Vec<MethodResult>,
    pub(super) stages: Vec<StageTime>,
    pub(super) rounds: u64,
    pub(super) converged: bool,
    pub(super) rollbacks: Vec<Rollback>,
    pub(super) warnings: Vec<String>,
    pub(super) seconds: f64,
    pub(super) versions: std::collections::BTreeMap<String, String>,
}

impl Record {
    /// Reads a run's directory.
    ///
    /// # Errors
    /// [`Error::Data`] with the file that is missing or is not what a run writes.
    pub(super) fn read(run: &Path) -> Result<Self> {
        let path = run.join(SUMMARY);
        let no_run = |e: std::io::Error| {
            Error::data(run, format!("is no run directory with results: {SUMMARY} cannot be read: {e}"))
        };
        let text = std::fs::read(&path).map_err(no_run)?;
        let summary: Summary =
            serde_json::from_slice(&text).map_err(|e| Error::data(&path, format!("is no summary of a run: {e}")))?;
        let path = run.join(CONFIG);
        let recipe = std::fs::read_to_string(&path).map_err(|e| Error::data(&path, format!("cannot be read: {e}")))?;
        let assignments = run.join(ASSIGNMENTS);
        let assignment = assignments.exists().then(|| Assignment::read(&assignments)).transpose()?;
        // A run that was stopped early has no centroids yet.
        let model = match assignment {
            Some(_) => Some(Model::load(run, Device::Cpu)?),
            None => None,
        };
        let events = parse_events(&std::fs::read(run.join(EVENTS)).unwrap_or_default()); // none where there is no log
        let ended = run.join(SUMMARY).metadata().and_then(|found| found.modified()).ok();
        Ok(Self { summary, recipe, events, assignment, model, ended })
    }

    /// k.
    pub(super) fn n_clusters(&self) -> usize {
        self.model.as_ref().map_or(self.summary.n_clusters, |model| model.shape()[0])
    }
}
