//! What a run does: typed settings with defaults, read from TOML recipes and `--set key=value`.
//!
//! A recipe says only where it differs from [`Config::default`]; `configs/default.toml` lists every setting. A file for each
//! section holds its settings, their defaults and their ranges. [`Recipe::load`] reads a recipe; [`Config::check`] refuses
//! values that cannot be run.

mod augment;
mod auto;
mod checked;
mod checkpoint;
mod cluster;
mod data;
mod finetune;
mod guard;
mod keys;
mod kmeans;
pub(crate) mod lengths;
mod model;
mod optimisation;
mod output;
mod pretrain;
mod range;
mod recipe;
mod schedule;
mod start;
mod sweep;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use crate::data::Scale;
pub use crate::kmeans::Engine as KMeansEngine;
pub use augment::{AugmentConfig, AugmentKind};
pub use auto::{Count, OverClustering, Precision, Probability, Switch, Threads, Widths};
pub use checked::CheckedConfig;
pub use checkpoint::CheckpointConfig;
pub use cluster::{ClusterConfig, ObjectiveKind};
pub use data::DataConfig;
pub use finetune::FinetuneConfig;
pub use guard::GuardConfig;
pub(crate) use keys::values_of;
pub use keys::{changed_keys, earliest_use, Use};
pub use kmeans::KMeansConfig;
pub use model::{ModelConfig, WeightInit};
pub use optimisation::{Optimisation, OptimiserKind};
pub use output::OutputConfig;
pub use pretrain::{PretrainConfig, PretrainMethod};
pub use recipe::{Recipe, BUILT_IN};
pub use schedule::{Schedule, ScheduleKind};
pub use start::{StartConfig, StartMethod};
pub use sweep::{members, random_members, Axis, Member, Range};

use crate::error::{Error, Result};

/// Every setting of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seed of everything random, 0 to 2⁶³ − 1. Default 0.
    pub seed: u64,
    /// Device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`. Default `auto`.
    pub device: String,
    /// Threads that compute on the CPU, 1 to 1024, or `auto`. Default `auto`.
    pub threads: Threads,
    /// Whether products on a GPU may use TF32: faster, with factors rounded to 10 bits of fraction. Default false.
    pub tf32: bool,
    /// What the factors of a training step's products are rounded to. Default [`Precision::Auto`].
    pub precision: Precision,
    /// Whether a training step on a GPU is one CUDA graph ([`crate::backend::cuda`]): the same bits, faster. Default true.
    pub cuda_graphs: bool,
    /// k, the number of clusters, at least 1. Default 10.
    pub n_clusters: usize,
    /// The rows.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// Random changes of a batch's rows.
    pub augment: AugmentConfig,
    /// Pretraining of the autoencoder.
    pub pretrain: PretrainConfig,
    /// Fine-tuning of the whole autoencoder.
    pub finetune: FinetuneConfig,
    /// k-means on the raw rows and on the latent rows.
    pub kmeans: KMeansConfig,
    /// The first assignment of the latent rows.
    pub start: StartConfig,
    /// Self-training.
    pub cluster: ClusterConfig,
    /// When a run saves its state.
    pub checkpoint: CheckpointConfig,
    /// What a run does about training that goes wrong.
    pub guard: GuardConfig,
    /// What is written besides the files that always are.
    pub output: OutputConfig,
    /// Dotted keys and the values that `dec sweep` gives them: lists, or ranges that it draws from. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sweep: BTreeMap<String, Axis>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            device: "auto".to_owned(),
            threads: Threads::Auto,
            tf32: false,
            precision: Precision::Auto,
            cuda_graphs: true,
            n_clusters: 10,
            data: DataConfig::default(),
            model: ModelConfig::default(),
            augment: AugmentConfig::default(),
            pretrain: PretrainConfig::default(),
            finetune: FinetuneConfig::default(),
            kmeans: KMeansConfig::default(),
            start: StartConfig::default(),
            cluster: ClusterConfig::default(),
            checkpoint: CheckpointConfig::default(),
            guard: GuardConfig::default(),
            output: OutputConfig::default(),
            sweep: BTreeMap::new(),
        }
    }
}

impl Config {
    /// The resolved recipe as TOML.
    ///
    /// # Errors
    /// [`Error::Config`] for what TOML cannot say: a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::Config(format!("the recipe cannot be written as TOML: {e}")))
    }

    /// Whether two recipes train the same: all settings but when a run is saved, what is done about divergence, and where it is
    /// computed.
    pub fn trains_as(&self, other: &Self) -> bool {
        let plain = |config: &Self| Self {
            checkpoint: CheckpointConfig::default(),
            guard: GuardConfig::default(),
            output: OutputConfig::default(),
            threads: Threads::Auto,
            device: String::new(),
            // That of the run to start from, and what is new.
            n_clusters: if config.start.from.is_some() { 0 } else { config.n_clusters },
            ..config.clone()
        };
        plain(self) == plain(other)
    }

    /// Makes the paths absolute, so that they stay right wherever the configuration is read again.
    pub fn absolutise(&mut self) {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.start.from = self.start.from.as_deref().map(absolute);
        let data = &mut self.data;
        data.dir = data.dir.as_deref().map(absolute);
        data.labels = data.labels.as_deref().map(absolute);
        for source in std::iter::once(&mut data.source).chain(&mut data.more) {
            if crate::data::is_path(source) {
                if let Some(path) = absolute(Path::new(source)).to_str() {
                    *source = path.to_owned();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

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
            config.threads = threads.map_or(Threads::Auto, Threads::Given);
            let word = [Scale::Auto, Scale::Centre, Scale::Standardise, Scale::Counts, Scale::Unit][(seed % 5) as usize];
            config.data = DataConfig { source, limit, scale: factor.map_or(word, Scale::Factor), ..config.data };
            let factors = |f| OverClustering::Given(vec![f; hidden.len()]);
            config.start.over_clustering = factor.map_or(OverClustering::Auto, factors);
            config.data.dir = Some(PathBuf::from("a dir/with \"quotes\""));
            config.model.hidden = if hidden.is_empty() { Widths::Auto } else { Widths::Given(hidden) };
            config.pretrain.lr = lr;
            config.pretrain.lr_decay_steps = steps;
            config.pretrain.epochs = steps.map_or(Count::Auto, Count::Given);
            config.cluster.update_interval_steps = steps;
            config.checkpoint = CheckpointConfig { every_secs: seed, ..config.checkpoint };
            config.guard.rate_factor = 1.0 + lr;
            let values = vec![toml::Value::Float(lr), toml::Value::Integer(1)];
            config.sweep.insert("cluster.lr".to_owned(), Axis::Values(values));
            let again: Config = toml::from_str(&config.to_toml().unwrap()).unwrap();
            prop_assert_eq!(again, config);
        }
    }
}
