//! `summary.json`: what a run was and what came of it.

use serde::Serialize;

use super::names::FORMAT;
use super::trainer::Trainer;
use crate::backend;
use crate::config::Recipe;
use crate::control::{MethodResult, Rollback, StageTime};
use crate::data::Scaling;
use crate::error::{Error, Result};
use crate::model::ClusterNames;
use crate::state::{Kind, StartChoice};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every stage was run.
    Finished,
    /// Somebody stopped it; it can go on.
    Interrupted,
    /// Training diverged or collapsed, or libtorch failed.
    Failed,
    /// Every stage was run, and not everything could be saved.
    Unsaved,
}

/// The content of `summary.json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    format: u32,
    status: Outcome,
    /// Why it failed, where it did.
    error: Option<String>,
    /// The stage that was at work, where it did not finish.
    stopped_in: Option<String>,
    recipe: String,
    data: String,
    /// SHA-256 of the rows as they were read.
    rows_sha256: String,
    seed: u64,
    device: String,
    threads: i32,
    /// What the rows are, and how that is known.
    rows: Kind,
    n_rows: usize,
    n_features: usize,
    /// The names of the columns, where they have some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<String>,
    n_latent: usize,
    n_clusters: usize,
    /// What people call the clusters: names of the run that this one started from.
    #[serde(skip_serializing_if = "ClusterNames::is_empty")]
    names: ClusterNames,
    /// What rows are multiplied by; null where each feature is centred, as weights.safetensors tells.
    scale: Option<f64>,
    results: Vec<MethodResult>,
    stages: Vec<StageTime>,
    /// Which way the first assignment was found, and why.
    start: Option<StartChoice>,
    rounds: u64,
    converged: bool,
    rollbacks: Vec<Rollback>,
    warnings: Vec<String>,
    /// Files that could not be written.
    missing: Vec<String>,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    versions: Versions,
}

#[derive(Debug, Serialize)]
struct Versions {
    dec: &'static str,
    libtorch: String,
}

impl Summary {
    /// Sums up `trainer`, whose rows have this sum as they were read and whose run ended with `ended` after `seconds`.
    pub fn new(recipe: &Recipe, trainer: &Trainer, rows_sha256: String, ended: Option<&Error>, seconds: f64) -> Self {
        let (status, error) = match ended {
            None => (Outcome::Finished, None),
            Some(Error::Interrupted) => (Outcome::Interrupted, None),
            Some(e) => (Outcome::Failed, Some(e.to_string())),
        };
        let (task, state) = (trainer.task(), trainer.state());
        let at_work = trainer.stages().get(state.cursor).and_then(|&stage| crate::stage::name(stage));
        Self {
            format: FORMAT,
            status,
            error,
            stopped_in: at_work.map(|stage| stage.to_string()),
            recipe: recipe.name.clone(),
            data: task.data_name.clone(),
            rows_sha256,
            seed: recipe.config.seed,
            device: backend::device_name(task.rows.device()),
            threads: tch::get_num_threads(),
            rows: task.kind.clone(),
            n_rows: task.n_rows(),
            n_features: task.n_features(),
            columns: task.columns.clone(),
            n_latent: task.widths().last().map_or(0, |&m| m as usize),
            n_clusters: task.config.n_clusters,
            names: task.names(),
            scale: match task.scaling {
                Scaling::Factor(factor) => Some(factor),
                Scaling::Centre { .. } => None,
            },
            results: state.results.clone(),
            stages: state.stages.clone(),
            start: state.choice.clone(),
            rounds: state.rounds,
            converged: state.converged,
            rollbacks: state.rollbacks.clone(),
            warnings: state.warnings.clone(),
            missing: Vec::new(),
            seconds,
            peak_memory_bytes: backend::peak_memory_bytes(),
            versions: Versions { dec: env!("CARGO_PKG_VERSION"), libtorch: backend::libtorch_version() },
        }
    }

    /// Says that these files could not be written.
    pub(super) fn leave_out<'a>(&mut self, files: impl Iterator<Item = &'a str>) {
        self.missing = files.map(str::to_owned).collect();
        if !self.missing.is_empty() && self.status == Outcome::Finished {
            self.status = Outcome::Unsaved;
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// None that can happen: what is in it can be written as JSON.
    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Unsaved(format!("the summary cannot be written as JSON: {e}")))
    }
}
