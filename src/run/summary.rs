//! `summary.json`: what a run was and what came of it.

use serde::Serialize;

use crate::backend;
use crate::config::Recipe;
use crate::data::Scaling;
use crate::error::{Error, Result};
use crate::train::{MethodResult, StageTime, Trainer};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every stage was run.
    Finished,
    /// The user stopped it; what is here was reached until then.
    Interrupted,
    /// Training diverged or collapsed, or libtorch failed.
    Failed,
}

/// The content of `summary.json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    status: Outcome,
    /// Why it failed, where it did.
    error: Option<String>,
    recipe: String,
    data: String,
    seed: u64,
    device: String,
    threads: i32,
    n_rows: usize,
    n_features: usize,
    n_latent: usize,
    n_clusters: usize,
    /// What rows are multiplied by; null where each feature is centred, as weights.safetensors tells.
    scale: Option<f64>,
    results: Vec<MethodResult>,
    stages: Vec<StageTime>,
    rounds: u64,
    converged: bool,
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
    /// Sums up `trainer`, whose run ended with `ended` after `seconds`.
    pub fn new(recipe: &Recipe, trainer: &Trainer, ended: &Result<()>, seconds: f64) -> Self {
        let (status, error) = match ended {
            Ok(()) => (Outcome::Finished, None),
            Err(Error::Interrupted) => (Outcome::Interrupted, None),
            Err(e) => (Outcome::Failed, Some(e.to_string())),
        };
        Self {
            status,
            error,
            recipe: recipe.name.clone(),
            data: trainer.data_name().to_owned(),
            seed: recipe.config.seed,
            device: backend::device_name(trainer.dec.autoencoder.device()),
            threads: tch::get_num_threads(),
            n_rows: trainer.n_rows(),
            n_features: trainer.n_features(),
            n_latent: recipe.config.model.n_latent,
            n_clusters: recipe.config.n_clusters,
            scale: match trainer.dec.scaling {
                Scaling::Factor(factor) => Some(factor),
                Scaling::Centre { .. } => None,
            },
            results: trainer.results.clone(),
            stages: trainer.stages.clone(),
            rounds: trainer.rounds,
            converged: trainer.converged,
            seconds,
            peak_memory_bytes: backend::peak_memory_bytes(),
            versions: Versions { dec: env!("CARGO_PKG_VERSION"), libtorch: backend::libtorch_version() },
        }
    }
}
