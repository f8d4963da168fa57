//! What a run does: typed settings with defaults, read from TOML recipes and `--set key=value`.
//!
//! A recipe says only where it differs from [`Config::default`]; `configs/default.toml` lists every setting with its
//! meaning. [`Recipe::load`] reads one, [`Config::validate`] refuses values that cannot be run.

mod auto;
mod recipe;
mod schedule;
mod sweep;
mod training;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use auto::{Count, OverClustering, Probability, Scale, Switch, Threads};
pub use recipe::{Recipe, BUILT_IN};
pub use schedule::{Schedule, ScheduleKind};
pub use sweep::{members, Member};
pub use training::{Optimisation, OptimiserKind};

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
    /// How batches are changed at random.
    pub augment: AugmentConfig,
    /// Pretraining of the autoencoder.
    pub pretrain: PretrainConfig,
    /// Fine-tuning of the whole autoencoder.
    pub finetune: FinetuneConfig,
    /// k-means, on the raw rows and on the latent rows.
    pub kmeans: KMeansConfig,
    /// The first assignment of the latent rows.
    pub start: StartConfig,
    /// Self-training.
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
            augment: AugmentConfig::default(),
            pretrain: PretrainConfig::default(),
            finetune: FinetuneConfig::default(),
            kmeans: KMeansConfig::default(),
            start: StartConfig::default(),
            cluster: ClusterConfig::default(),
            sweep: BTreeMap::new(),
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
    /// What is done to the values before the network sees them. Default `auto`.
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

/// `[model]`: the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Widths of the encoder's hidden layers; the decoder mirrors them. Default `[500, 500, 2000]`.
    pub hidden: Vec<usize>,
    /// m, the width of the latent. Default 10.
    pub n_latent: usize,
    /// Where the weights start. Default `fan_in`.
    pub init: WeightInit,
    /// Standard deviation of the initial weights, for `normal`. Default 0.01.
    pub init_std: f64,
}

/// Where the weights start; biases start at 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightInit {
    /// N(0, `init_std`²) (Xie et al. 2016, §4.3).
    Normal,
    /// Uniform in ±1/√(the layer's inputs), as PyTorch's `nn.Linear` and the code of Guo et al. 2018 start.
    #[default]
    FanIn,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { hidden: vec![500, 500, 2000], n_latent: 10, init: WeightInit::FanIn, init_std: 0.01 }
    }
}

/// `[augment]`: how a batch's rows are changed at random, where a stage's `augment` asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// What is done. Default `auto`.
    pub kind: AugmentKind,
    /// Height and width of a row that is an image, where the file does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 2]>,
    /// Images: degrees of rotation either way at most. Default 10.
    pub rotation: f64,
    /// Images: shift either way at most, as a fraction of each side. Default 0.1.
    pub shift: f64,
    /// Images: zoom either way at most; 0.1 is 90 to 110 %. Default 0.1.
    pub zoom: f64,
    /// Images: shear either way at most, in pixels to the side per pixel down. Default 0.1.
    pub shear: f64,
    /// Images: how far the control points of an elastic bend move either way at most, as a fraction of each side. Default 0.14.
    pub elastic: f64,
    /// Noise: its standard deviation, as a fraction of the root mean square of all values. Default 0.1.
    pub noise: f64,
    /// Noise: the probability with which a value is dropped. Default 0.1.
    pub feature_dropout: Probability,
    /// Time shift: shift either way at most, as a fraction of the row. Default 0.1.
    pub time_shift: f64,
}

/// What augmentation does to a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AugmentKind {
    /// Nothing.
    None,
    /// `image` for rows that are known to be images, `noise` for others.
    #[default]
    Auto,
    /// Rotation and shift (Guo et al. 2018), zoom, shear and an elastic bend (Simard et al. 2003), by bilinear interpolation.
    Image,
    /// Gaussian noise and dropped features.
    Noise,
    /// A shift along the row, for spectra and time series.
    TimeShift,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            kind: AugmentKind::Auto,
            image: None,
            rotation: 10.0,
            shift: 0.1,
            zoom: 0.1,
            shear: 0.1,
            elastic: 0.14,
            noise: 0.1,
            feature_dropout: Probability::Auto,
            time_shift: 0.1,
        }
    }
}

/// `[pretrain]`: pretraining of the autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// All layers together, or one after the other. Default `end_to_end`.
    pub method: PretrainMethod,
    /// Epochs (layer-wise: a layer). Default `auto`.
    pub epochs: Count,
    /// Optimiser steps (layer-wise: a layer); replaces `epochs` where given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Rows a batch.
    pub batch_size: usize,
    /// Layer-wise: fraction of the input's and of the code's values that dropout sets to zero. Default 0.
    pub dropout: f64,
    /// Whether batches are augmented; layer-wise those of the first layer alone.
    pub augment: bool,
    /// What turns gradients into steps.
    pub optimiser: OptimiserKind,
    /// The highest learning rate.
    pub lr: f64,
    /// Momentum; Adam's β₁.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// How the rate changes over the stage.
    pub schedule: ScheduleKind,
    /// What `step` divides the rate by.
    pub lr_decay_factor: f64,
    /// Steps between two divisions of the rate, for `step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_decay_steps: Option<u64>,
}

/// How the autoencoder is pretrained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PretrainMethod {
    /// Greedily, each layer as a denoising autoencoder of its own (Xie et al. 2016, §3.2).
    Layerwise,
    /// All layers at once (Guo et al. 2018).
    #[default]
    EndToEnd,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            method: PretrainMethod::EndToEnd,
            epochs: Count::Auto,
            steps: None,
            batch_size: 256,
            dropout: 0.0,
            augment: true,
            optimiser: OptimiserKind::Adam,
            lr: 3e-3,
            momentum: 0.9,
            weight_decay: 0.0,
            schedule: ScheduleKind::OneCycle,
            lr_decay_factor: 10.0,
            lr_decay_steps: None,
        }
    }
}

/// `[finetune]`: the whole autoencoder, without dropout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// Epochs; 0 leaves the stage out. Default 0: after pretraining end to end there is nothing to fine-tune.
    pub epochs: u64,
    /// Optimiser steps; replaces `epochs` where given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Rows a batch.
    pub batch_size: usize,
    /// Whether batches are augmented.
    pub augment: bool,
    /// What turns gradients into steps.
    pub optimiser: OptimiserKind,
    /// The highest learning rate.
    pub lr: f64,
    /// Momentum; Adam's β₁.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// How the rate changes over the stage.
    pub schedule: ScheduleKind,
    /// What `step` divides the rate by.
    pub lr_decay_factor: f64,
    /// Steps between two divisions of the rate, for `step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_decay_steps: Option<u64>,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            epochs: 0,
            steps: None,
            batch_size: 256,
            augment: true,
            optimiser: OptimiserKind::Adam,
            lr: 1e-3,
            momentum: 0.9,
            weight_decay: 0.0,
            schedule: ScheduleKind::Cosine,
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

/// `[start]`: the first assignment of the latent rows, which self-training starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StartConfig {
    /// What finds it. Default `spectral`.
    pub method: StartMethod,
    /// Spectral: neighbours of a row in the graph. Default 15.
    pub n_neighbours: u64,
    /// Spectral: eigenvectors; `auto` tries several, and merges of finer clusterings, and lets them vote
    /// ([`crate::start::spectral`]). Default `auto`.
    pub n_vectors: Count,
    /// Networks that are pretrained from different weights, and vote on the first assignment together; self-training goes on with
    /// one. Default `auto`: three for a spectral start of at most 5,000 rows, else one.
    pub networks: Count,
    /// Before the k clusters, so many times k clusters are found, and the encoder is trained towards them. One entry a round;
    /// each at least 1. Default `auto`.
    pub over_clustering: OverClustering,
    /// Epochs of each of these rounds. Default `auto`.
    pub over_clustering_epochs: Count,
}

impl Default for StartConfig {
    fn default() -> Self {
        Self {
            method: StartMethod::Spectral,
            n_neighbours: 15,
            n_vectors: Count::Auto,
            networks: Count::Auto,
            over_clustering: OverClustering::Auto,
            over_clustering_epochs: Count::Auto,
        }
    }
}

/// What finds the first assignment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartMethod {
    /// k-means on the latent rows (Xie et al. 2016, §3.1.2).
    KMeans,
    /// Spectral clustering of the nearest-neighbour graph of the latent rows, to which that of the rows themselves is added where
    /// augmentation does not move their values.
    #[default]
    Spectral,
    /// A Gaussian mixture on the latent rows, by `linfa-clustering`.
    Gmm,
}

/// `[cluster]`: self-training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// What is descended. Default `dec`.
    pub objective: ObjectiveKind,
    /// `idec`: γ, the weight of KL(P‖Q) beside the reconstruction's mean squared error. Default 0.1.
    pub gamma: f64,
    /// Degrees of freedom of the Student-t kernel. Default 1.
    pub alpha: f64,
    /// Epochs that train towards the first assignment itself, smoothed, before p takes over; 0 leaves them out. Default
    /// `auto`.
    pub handover_epochs: Count,
    /// How much of the smoothed assignment goes to all clusters alike. Default 0.1.
    pub label_smoothing: f64,
    /// The share of every target that stays with the first assignment, smoothed: p ← (1 − `anchor`) p + `anchor` · start. Keeps
    /// clusters from creeping into each other where they touch, while a row that p is sure of still changes. 0 to below 1;
    /// default 0.3.
    pub anchor: f64,
    /// Stop when fewer than this fraction of the rows changed cluster between two refreshes. 0, the default: never.
    pub tol: f64,
    /// Rounds (refreshes of q and p) at most. Default `auto`.
    pub max_rounds: Count,
    /// Epochs a round.
    pub epochs_per_round: u64,
    /// Optimiser steps a round; replaces `epochs_per_round` where given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_interval_steps: Option<u64>,
    /// Train one more round after `tol` is reached, and count the first refresh, which only repeats k-means, as the Keras
    /// notebook does: its self-training is then a single round. Default false.
    pub train_after_tol: bool,
    /// Forget the optimiser's momentum at every refresh. Default false.
    pub reset_momentum: bool,
    /// Rows a batch.
    pub batch_size: usize,
    /// Whether batches are augmented; p always comes from the rows as they are (Guo et al. 2018). Default `auto`: where values
    /// are moved to other places, as in images. Noise, and features dropped, may hide what tells two clusters apart, which p
    /// then cannot bring back.
    pub augment: Switch,
    /// Of augmented images: up to this fraction of each side, a patch becomes that of another row of the batch, while the target
    /// stays (after CutMix, Yun et al. 2019). Details then count less than the rest of an image, so that rows that look alike but
    /// for one come together; it takes more rounds. 0 to 1; default 0.
    pub cutmix: f64,
    /// What turns gradients into steps.
    pub optimiser: OptimiserKind,
    /// The highest learning rate.
    pub lr: f64,
    /// Momentum; Adam's β₁.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// How the rate changes over the stage.
    pub schedule: ScheduleKind,
    /// What `step` divides the rate by.
    pub lr_decay_factor: f64,
    /// Steps between two divisions of the rate, for `step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_decay_steps: Option<u64>,
}

/// What self-training descends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveKind {
    /// KL(P‖Q) (Xie et al. 2016).
    #[default]
    Dec,
    /// The reconstruction's mean squared error + γ · KL(P‖Q) (Guo et al. 2017).
    Idec,
    /// The squared distance to the centroid of the row's cluster, for the rows that are near theirs; more of them every
    /// round (Guo et al. 2020). The centroids stay.
    Aspc,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            objective: ObjectiveKind::Dec,
            gamma: 0.1,
            alpha: 1.0,
            handover_epochs: Count::Auto,
            label_smoothing: 0.1,
            anchor: 0.3,
            tol: 0.0,
            max_rounds: Count::Auto,
            epochs_per_round: 1,
            update_interval_steps: None,
            train_after_tol: false,
            reset_momentum: false,
            batch_size: 256,
            augment: Switch::Auto,
            cutmix: 0.0,
            optimiser: OptimiserKind::Adam,
            lr: 2e-3,
            momentum: 0.9,
            weight_decay: 0.0,
            schedule: ScheduleKind::Cosine,
            lr_decay_factor: 10.0,
            lr_decay_steps: None,
        }
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
            config.threads = threads.map_or(Threads::Auto, Threads::Given);
            let word = [Scale::Auto, Scale::Centre, Scale::Standardise, Scale::Counts][(seed % 4) as usize];
            config.data = DataConfig { source, limit, scale: factor.map_or(word, Scale::Factor), ..config.data };
            let factors = |f| OverClustering::Given(vec![f; hidden.len()]);
            config.start.over_clustering = factor.map_or(OverClustering::Auto, factors);
            config.data.dir = Some(PathBuf::from("a dir/with \"quotes\""));
            config.model.hidden = hidden;
            config.pretrain.lr = lr;
            config.pretrain.lr_decay_steps = steps;
            config.pretrain.epochs = steps.map_or(Count::Auto, Count::Given);
            config.cluster.update_interval_steps = steps;
            config.sweep.insert("cluster.lr".to_owned(), vec![toml::Value::Float(lr), toml::Value::Integer(1)]);
            let again: Config = toml::from_str(&config.to_toml().unwrap()).unwrap();
            prop_assert_eq!(again, config);
        }
    }
}
