//! What a run does: typed settings with defaults, read from TOML recipes and `--set key=value`.
//!
//! A recipe says only where it differs from [`Config::default`]; `configs/default.toml` lists every setting with its
//! meaning. [`Recipe::load`] reads one, [`Config::validate`] refuses values that cannot be run.

mod recipe;
mod schedule;
mod sweep;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use recipe::{Recipe, BUILT_IN};
pub use schedule::Schedule;
pub use sweep::{members, Member};

use crate::backend::threads;
use crate::error::{Error, Result};

/// Every setting of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seed of everything random. Default 0.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`. Default `auto`.
    pub device: String,
    /// Threads that compute on the CPU. Default `auto`.
    pub threads: Threads,
    /// Let products on a GPU use TF32: faster, with factors rounded to 10 bits of fraction. Default false.
    pub tf32: bool,
    /// Start a training step on a GPU as one CUDA graph ([`crate::backend::cuda`]). Default false: never tried on a GPU.
    pub cuda_graphs: bool,
    /// k, the number of clusters to find. Default 10.
    pub n_clusters: usize,
    /// Where the rows come from.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// Greedy layer-wise pretraining.
    pub pretrain: PretrainConfig,
    /// Fine-tuning of the whole autoencoder.
    pub finetune: FinetuneConfig,
    /// k-means, on the raw rows and on the latent rows.
    pub kmeans: KMeansConfig,
    /// Self-training on KL(P‖Q).
    pub cluster: ClusterConfig,
    /// Dotted keys and the values that `dec sweep` gives them, one run for each combination.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sweep: BTreeMap<String, Vec<toml::Value>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            device: "auto".to_owned(),
            threads: Threads::Auto,
            tf32: false,
            cuda_graphs: false,
            n_clusters: 10,
            data: DataConfig::default(),
            model: ModelConfig::default(),
            pretrain: PretrainConfig::default(),
            finetune: FinetuneConfig::default(),
            kmeans: KMeansConfig::default(),
            cluster: ClusterConfig::default(),
            sweep: BTreeMap::new(),
        }
    }
}

/// How many threads compute on the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of threads, or \"auto\"")]
pub enum Threads {
    /// So many.
    Count(usize),
    /// As many as the process may use ([`crate::backend::threads::set`]).
    #[default]
    #[serde(with = "auto")]
    Auto,
}

impl Threads {
    /// The number, where one is given.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count),
            Self::Auto => None,
        }
    }
}

impl FromStr for Threads {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()); // parse() would take "+1" too
        match text.parse() {
            Ok(count) if plain => Ok(Self::Count(count)),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err(threads::refusal(text)),
        }
    }
}

/// `[data]`: the rows and what is done to them before training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `builtin` (the 10,000 MNIST test digits), `mnist` (all 70,000), or the path of an IDX or NPY file.
    pub source: String,
    /// Where `mnist` looks for its four files; by default the cache that `dec fetch mnist` fills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// IDX or NPY file with one integer a row, for scoring alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// What the rows are multiplied by. Default `auto`.
    pub scale: Scale,
    /// Use so many rows only, chosen at random from `seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { source: "builtin".to_owned(), dir: None, labels: None, scale: Scale::Auto, limit: None }
    }
}

/// What the rows are multiplied by before the network sees them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or \"auto\"")]
pub enum Scale {
    /// A given factor.
    Factor(f64),
    /// One over the root mean square of all values, so that the mean of ‖x‖²/d is 1 (Xie et al. 2016, §4.1).
    #[serde(with = "auto")]
    Auto,
}

/// The word `auto` as a unit.
mod auto {
    use serde::{de::Error, Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("auto")
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(()),
            other => Err(D::Error::custom(format!("`{other}` is neither a number nor \"auto\""))),
        }
    }
}

/// `[model]`: the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Widths of the encoder's hidden layers; the decoder mirrors them. Default `[500, 500, 2000]`.
    pub hidden: Vec<usize>,
    /// m, the width of the latent. Default 10.
    pub n_latent: usize,
    /// Standard deviation of the initial weights. Default 0.01.
    pub init_std: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { hidden: vec![500, 500, 2000], n_latent: 10, init_std: 0.01 }
    }
}

/// `[pretrain]`: greedy layer-wise pretraining of denoising autoencoders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Epochs a layer.
    pub epochs: u64,
    /// Optimiser steps a layer; replaces `epochs` where given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Rows a batch.
    pub batch_size: usize,
    /// Fraction of the input's and of the code's values that dropout sets to zero.
    pub dropout: f64,
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// What the rate is divided by every `lr_decay_steps`.
    pub lr_decay_factor: f64,
    /// Steps between two divisions of the rate; never where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_decay_steps: Option<u64>,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            epochs: 15,
            steps: None,
            batch_size: 256,
            dropout: 0.2,
            lr: 0.1,
            momentum: 0.9,
            lr_decay_factor: 10.0,
            lr_decay_steps: None,
        }
    }
}

/// `[finetune]`: the whole autoencoder, without dropout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// Epochs.
    pub epochs: u64,
    /// Optimiser steps; replaces `epochs` where given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Rows a batch.
    pub batch_size: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// What the rate is divided by every `lr_decay_steps`.
    pub lr_decay_factor: f64,
    /// Steps between two divisions of the rate; never where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_decay_steps: Option<u64>,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            epochs: 30,
            steps: None,
            batch_size: 256,
            lr: 0.1,
            momentum: 0.9,
            lr_decay_factor: 10.0,
            lr_decay_steps: None,
        }
    }
}

/// `[kmeans]`: the baseline on the raw rows and the start of the centroids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KMeansConfig {
    /// Restarts, of which the one of least inertia is kept. Default 20.
    pub n_init: usize,
    /// Iterations of one restart at most. Default 300.
    pub max_iter: u64,
    /// A restart has converged when the centroids moved less than this, squared and summed, relative to the mean variance
    /// of the features (scikit-learn's `tol`). Default 1e-4.
    pub tol: f64,
    /// `tensor`, all restarts together on the device, or `linfa`, by `linfa-clustering` on the CPU. Default `tensor`.
    pub engine: KMeansEngine,
}

impl Default for KMeansConfig {
    fn default() -> Self {
        Self { n_init: 20, max_iter: 300, tol: 1e-4, engine: KMeansEngine::Tensor }
    }
}

/// What runs the restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KMeansEngine {
    /// All restarts together, on the rows' device. On the CPU the result is the same for any number of threads.
    #[default]
    Tensor,
    /// `linfa-clustering`, one restart after another, on the CPU and with a float32 copy of the rows.
    Linfa,
}

/// `[cluster]`: self-training on KL(P‖Q).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Degrees of freedom of the Student-t kernel. Default 1.
    pub alpha: f64,
    /// Stop when fewer than this fraction of the rows changed cluster between two refreshes. Default 0.001. 0: never.
    pub tol: f64,
    /// Rounds (refreshes of q and p) at most.
    pub max_rounds: u64,
    /// Epochs a round.
    pub epochs_per_round: u64,
    /// Optimiser steps a round; replaces `epochs_per_round` where given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_interval_steps: Option<u64>,
    /// Train one more round after `tol` is reached, and count the first refresh, which only repeats k-means, as the Keras
    /// notebook does: its self-training is then a single round. Default false.
    pub train_after_tol: bool,
    /// Rows a batch.
    pub batch_size: usize,
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            alpha: 1.0,
            tol: 0.001,
            max_rounds: 40,
            epochs_per_round: 1,
            update_interval_steps: None,
            train_after_tol: false,
            batch_size: 256,
            lr: 0.1,
            momentum: 0.9,
        }
    }
}

impl PretrainConfig {
    /// The rate as a function of the step.
    pub fn schedule(&self) -> Schedule {
        Schedule { initial: self.lr, decay: self.lr_decay_steps.map(|every| (self.lr_decay_factor, every)) }
    }
}

impl FinetuneConfig {
    /// The rate as a function of the step.
    pub fn schedule(&self) -> Schedule {
        Schedule { initial: self.lr, decay: self.lr_decay_steps.map(|every| (self.lr_decay_factor, every)) }
    }
}

impl ClusterConfig {
    /// The rate as a function of the step.
    pub fn schedule(&self) -> Schedule {
        Schedule { initial: self.lr, decay: None }
    }
}

impl Config {
    /// The widths of the encoder's layers, from the rows' `n_features` to the latent.
    pub fn widths(&self, n_features: i64) -> Vec<i64> {
        let hidden = self.model.hidden.iter().map(|&width| width as i64);
        std::iter::once(n_features).chain(hidden).chain([self.model.n_latent as i64]).collect()
    }

    /// The resolved recipe as TOML.
    ///
    /// # Errors
    /// [`Error::Config`] for what TOML cannot say: a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::Config(format!("the recipe cannot be written as TOML: {e}")))
    }

    /// Makes the paths absolute, so that they stay right wherever the configuration is read again.
    pub fn absolutise(&mut self) {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let data = &mut self.data;
        data.dir = data.dir.as_deref().map(absolute);
        data.labels = data.labels.as_deref().map(absolute);
        if crate::data::is_path(&data.source) {
            if let Some(source) = absolute(Path::new(&data.source)).to_str() {
                source.clone_into(&mut data.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A run directory's config.toml says exactly what was run.
        #[test]
        fn a_config_survives_its_toml(
            seed in 0..=i64::MAX as u64,
            threads in proptest::option::of(1usize..=1024),
            factor in proptest::option::of(1e-300..1e300),
            limit in proptest::option::of(1usize..1_000_000),
            hidden in proptest::collection::vec(1usize..5000, 0..5),
            lr in 1e-12..1e3,
            steps in proptest::option::of(1u64..1_000_000),
            source in "[a-z /.\"'\\\\=#é]{1,20}",
        ) {
            let mut config = Config { seed, ..Config::default() };
            config.threads = threads.map_or(Threads::Auto, Threads::Count);
            config.data = DataConfig { source, limit, scale: factor.map_or(Scale::Auto, Scale::Factor), ..config.data };
            config.data.dir = Some(PathBuf::from("a dir/with \"quotes\""));
            config.model.hidden = hidden;
            config.pretrain.lr = lr;
            config.pretrain.lr_decay_steps = steps;
            config.cluster.update_interval_steps = steps;
            config.sweep.insert("cluster.lr".to_owned(), vec![toml::Value::Float(lr), toml::Value::Integer(1)]);
            let again: Config = toml::from_str(&config.to_toml().unwrap()).unwrap();
            prop_assert_eq!(again, config);
        }
    }
}
