//! What a run is about: the recipe, the rows as training sees them, and what follows from the two.

use tch::Device;

use crate::config::{AugmentKind, CheckedConfig, Config, Scale, WeightInit};
use crate::control::StageName;
use crate::data::{self, permutation, Dataset, RowKind, Rows, Scaling};
use crate::error::Result;
use crate::kmeans::{check_rows, KMeansParams};
use crate::model::{Autoencoder, Init, Network};
use crate::train::augmentation::Augmentation;
use crate::train::seed_for;
use crate::train::steps::StageRun;

/// A recipe with its data; nothing here changes during a run.
#[derive(Debug)]
pub struct Task {
    /// The recipe.
    pub config: CheckedConfig,
    /// Row i of `rows` is row `order[i]` of the input.
    pub order: Vec<usize>,
    /// The rows, shuffled and scaled.
    pub rows: Rows,
    /// A class for each of `rows`, for scoring alone.
    pub labels_true: Option<Vec<i64>>,
    /// What the data are called.
    pub data_name: String,
    /// What is done to raw rows.
    pub scaling: Scaling,
    augmentation: Option<Augmentation>,
}

impl Task {
    /// Checks that `dataset` can be clustered, shuffles its rows from the seed, and brings them to `device`.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] for rows that cannot be clustered, or a libtorch failure.
    pub fn new(config: &CheckedConfig, dataset: &Dataset, device: Device) -> Result<Self> {
        if config.data.scale == Scale::Counts {
            data::check_counts(dataset)?;
        }
        let mut order = permutation(dataset.n_rows(), seed_for(config.seed, "shuffle"));
        order.truncate(config.data.limit.unwrap_or(usize::MAX));
        let dataset = dataset.select(&order);
        data::check_clusterable(&dataset, config.n_clusters)?;
        let image = image_shape(config, &dataset);
        let kind = match (config.augment.kind, image) {
            (AugmentKind::TimeShift, _) => RowKind::Series,
            (_, Some([height, width])) if height.min(width) >= data::LEAST_SIDE => RowKind::Image([height, width]),
            _ => RowKind::Table,
        };
        let (scaling, magnitude) = Scaling::new(config.data.scale, &dataset.features, kind);
        let augmentation = Augmentation::new(&config.augment, image, dataset.n_features(), magnitude)?;
        let rows = Rows::new(&scaling.stored(dataset.features), scaling.factor(), device)?;
        check_rows(&rows, config.n_clusters)?;
        Ok(Self {
            config: config.clone(),
            order,
            rows,
            labels_true: dataset.labels,
            data_name: dataset.name,
            scaling,
            augmentation,
        })
    }

    /// Rows that are clustered.
    pub fn n_rows(&self) -> usize {
        self.order.len()
    }

    /// Features of a row.
    pub fn n_features(&self) -> usize {
        self.rows.n_features() as usize
    }

    /// How `stage` changes rows at random, if at all.
    pub fn augmentation_of(&self, stage: StageName) -> Option<Augmentation> {
        let Config { ref pretrain, ref finetune, ref cluster, .. } = *self.config;
        let changes = |augmentation: &Augmentation| match stage {
            // A code is no image any more: deeper layers train on codes of the rows as they are.
            StageName::Pretrain(layer) => pretrain.augment && layer == 1,
            StageName::Autoencoder => pretrain.augment,
            StageName::Finetune => finetune.augment,
            StageName::KMeansRaw | StageName::KMeans => false,
            StageName::Start | StageName::OverCluster(_) | StageName::Cluster => {
                cluster.augment.or(|| augmentation.moves())
            }
        };
        let augmentation = self.augmentation.filter(changes)?;
        Some(match stage {
            StageName::Cluster => augmentation.with_patches(cluster.cutmix),
            _ => augmentation,
        })
    }

    /// Base seed of a network's stages: the recipe's for the first.
    pub fn network_seed(&self, network: usize) -> u64 {
        match network {
            0 => self.config.seed,
            _ => seed_for(self.config.seed, &format!("network {network}")),
        }
    }

    /// What `stage` is told besides its section of the recipe.
    pub fn stage_run(&self, stage: StageName, network: usize) -> StageRun {
        StageRun {
            stage,
            seed: seed_for(self.network_seed(network), &stage.to_string()),
            cuda_graphs: self.config.cuda_graphs,
            augmentation: self.augmentation_of(stage),
            guard: self.config.guard,
        }
    }

    /// How k-means searches, with the seed still to be set.
    pub fn kmeans_params(&self) -> KMeansParams {
        let Config { n_clusters, ref kmeans, .. } = *self.config;
        KMeansParams {
            n_clusters,
            n_init: kmeans.n_init,
            max_iter: kmeans.max_iter,
            tol: kmeans.tol,
            seed: 0,
            engine: kmeans.engine,
        }
    }

    /// A network with the weights that it starts with.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn new_network(&self, network: usize) -> Result<Box<dyn Network>> {
        new_network(&self.config, self.n_features(), self.rows.device(), self.network_seed(network))
    }
}

/// Height and width of the rows, where they are images: said by the recipe, by the file, or by how their values hang together.
fn image_shape(config: &Config, dataset: &Dataset) -> Option<[usize; 2]> {
    let no_images = matches!(config.augment.kind, AugmentKind::Noise | AugmentKind::TimeShift);
    config.augment.image.or(dataset.image).or_else(|| {
        let found = data::guess_image(&dataset.features).filter(|_| !no_images)?;
        tracing::info!(
            "the rows look like images of {} x {} pixels and are treated as such (--set augment.kind=noise if they are \
             not)",
            found[0],
            found[1]
        );
        Some(found)
    })
}

/// A network for rows of `n_features` values, with the weights that follow from `seed`.
///
/// # Errors
/// A libtorch failure (out of memory, say).
pub fn new_network(config: &Config, n_features: usize, device: Device, seed: u64) -> Result<Box<dyn Network>> {
    let init = match config.model.init {
        WeightInit::Normal => Init::Normal(config.model.init_std),
        WeightInit::FanIn => Init::FanIn,
    };
    tch::manual_seed(seed_for(seed, "weights") as i64);
    Ok(Box::new(Autoencoder::new(&config.widths(n_features as i64), device, init)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Switch;
    use crate::data::Features;

    #[test]
    fn self_training_changes_rows_where_values_are_moved_or_as_it_is_told() {
        let features = |columns| Features::F32(ndarray::Array2::from_shape_fn((9, columns), |(i, j)| (i + j) as f32));
        let dataset =
            |columns, image| Dataset { features: features(columns), labels: None, name: String::new(), image };
        let (table, images) = (dataset(4, None), dataset(64, Some([8, 8])));
        let mut config = Config { n_clusters: 2, ..Config::default() };
        config.model.hidden = vec![2];
        let changes = |stage, dataset, augment| {
            let mut config = config.clone();
            config.cluster.augment = augment;
            Task::new(&config.check().unwrap(), dataset, Device::Cpu).unwrap().augmentation_of(stage).is_some()
        };
        for stage in [StageName::Start, StageName::OverCluster(4), StageName::Cluster] {
            assert!(changes(stage, &images, Switch::Auto) && !changes(stage, &table, Switch::Auto), "{stage}");
            assert!(changes(stage, &table, Switch::Given(true)) && !changes(stage, &images, Switch::Given(false)));
        }
        assert!(changes(StageName::Autoencoder, &table, Switch::Auto));
        assert!(changes(StageName::Pretrain(1), &table, Switch::Auto));
        assert!(!changes(StageName::Pretrain(2), &table, Switch::Auto), "codes are as they are");
        config.cluster.cutmix = 0.5;
        let task = Task::new(&config.clone().check().unwrap(), &images, Device::Cpu).unwrap();
        let patches = |stage| matches!(task.augmentation_of(stage), Some(Augmentation::Warp(w)) if w.patch_width == 4);
        assert_eq!(
            [StageName::Autoencoder, StageName::Start, StageName::OverCluster(4), StageName::Cluster].map(patches),
            [false, false, false, true]
        );
        config.augment.kind = AugmentKind::TimeShift;
        config.pretrain.augment = false;
        let task = Task::new(&config.check().unwrap(), &table, Device::Cpu).unwrap();
        let stages = [StageName::Autoencoder, StageName::Finetune, StageName::Cluster];
        assert_eq!(stages.map(|stage| task.augmentation_of(stage).is_some()), [false, true, true]);
    }
}
