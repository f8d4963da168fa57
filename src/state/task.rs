//! What a run is about: the recipe, the rows as training sees them, and what follows from the two.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tch::{Device, Tensor};

use crate::backend::available_bytes;
use crate::backend::ranks::{self, Meeting, Ranks};
use crate::config::{lengths, AugmentKind, CheckedConfig, Config, Scale, WeightInit};
use crate::control::StageName;
use crate::data::{self, permutation, Dataset, Features, Intake, RowKind, RowSource, Rows, Scaling};
use crate::error::{Error, Result};
use crate::kmeans::{check_rows, KMeansParams};
use crate::model::{Autoencoder, ClusterNames, Init, Network};
use crate::train::augmentation::Augmentation;
use crate::train::seed_for;
use crate::train::steps::StageRun;
use crate::warm::{self, WarmStart};

/// A recipe with its data; nothing here changes during a run.
#[derive(Debug)]
pub struct Task {
    /// The recipe.
    pub config: CheckedConfig,
    /// Row i of `rows` is row `order[i]` of the input.
    pub order: Vec<usize>,
    /// The rows, shuffled and scaled; of those in memory each process that trains with others holds a part.
    pub rows: Rows,
    /// A class for each of `rows`, for scoring alone.
    pub labels_true: Option<Vec<i64>>,
    /// The names of `rows`, or none.
    pub ids: Vec<String>,
    /// The columns' names, or none.
    pub columns: Vec<String>,
    /// What the data are called.
    pub data_name: String,
    /// What the rows are.
    pub kind: Kind,
    /// What is done to raw rows as they are read.
    pub intake: Intake,
    /// What is done to raw rows then.
    pub scaling: Scaling,
    /// The run that this one starts from, if it does.
    pub warm: Option<WarmStart>,
    augmentation: Option<Augmentation>,
}

impl Task {
    /// Checks that `dataset` can be clustered, shuffles its rows from the seed, and brings them to `device`; those that
    /// [`stays_streamed`] come a batch at a time.
    ///
    /// # Errors
    /// [`crate::Error::Rows`] for rows that cannot be clustered, or a libtorch failure.
    pub fn new(config: &CheckedConfig, dataset: &Dataset, device: Device) -> Result<Self> {
        let ranks = ranks::world();
        check_same_rows(dataset, ranks)?;
        if config.data.scale == Scale::Counts {
            data::check_counts(dataset, ranks)?;
        }
        let order = order_of(config, dataset.n_rows());
        let chosen = in_file_order(dataset, &order);
        data::check_clusterable(&chosen, config.n_clusters)?;
        let (kind, image) = kind_of(config, &chosen)?;
        if kind.rows == RowKind::Table {
            warn_of_absurd(&chosen, &order, ranks)?;
        }
        let warm = match &config.start.from {
            Some(run) => Some((run, warm::model_for(run, dataset, device)?)),
            None => None,
        };
        let (mut scaling, magnitude) = Scaling::new(config.data.scale, &chosen.features, kind.rows, ranks)?;
        if let Some((_, model)) = &warm {
            scaling = model.scaling.clone();
        }
        let augmentation =
            Augmentation::new(&config.augment, image, dataset.channels, dataset.n_features(), magnitude)?;
        let streams = all_stream(config, &dataset.features, ranks)?;
        let rows = match &dataset.features {
            Features::Streamed(streamed) if streams => {
                tracing::info!("the rows are read a batch at a time, since they would take much of the memory");
                check_rows(&Rows::new(&chosen.features, &scaling, Device::Cpu)?, config.n_clusters)?;
                Rows::streamed(streamed.select(&order), scaling.clone(), device)
            }
            features => {
                drop(chosen);
                let rows = Rows::divided(features, &order, &scaling, device, ranks)?;
                check_rows(&rows, config.n_clusters)?;
                rows
            }
        };
        let ids = if dataset.ids.is_empty() {
            Vec::new()
        } else {
            order.iter().map(|&row| dataset.ids[row].clone()).collect()
        };
        let mut config = config.clone();
        let warm = match warm {
            Some((run, model)) => {
                let warm = WarmStart::new(run, model, &rows, config.start.max_rows, config.start.n_neighbours as i64)?;
                config = Config { n_clusters: warm.n_clusters(), ..config.into_inner() }.check()?;
                Some(warm)
            }
            None => None,
        };
        Ok(Self {
            config,
            labels_true: dataset.labels.as_ref().map(|labels| order.iter().map(|&row| labels[row]).collect()),
            ids,
            order,
            rows,
            columns: dataset.columns.clone(),
            data_name: dataset.name.clone(),
            kind,
            intake: dataset.intake.clone(),
            scaling,
            warm,
            augmentation,
        })
    }

    /// What the clusters are called: as in the run that this one starts from.
    pub fn names(&self) -> ClusterNames {
        self.warm.as_ref().map(|warm| warm.model.names.clone()).unwrap_or_default()
    }

    /// Rows that are clustered.
    pub fn n_rows(&self) -> usize {
        self.order.len()
    }

    /// Rows that a spectral start sees: the first so many. They are in random order.
    pub fn seen(&self) -> usize {
        self.n_rows().min(self.config.start.max_rows)
    }

    /// What of a tensor \[n, …\] is of those.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn seen_of(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.f_narrow(0, 0, self.seen() as i64)?)
    }

    /// Features of a row.
    pub fn n_features(&self) -> usize {
        self.rows.n_features() as usize
    }

    /// Whether augmentation moves the rows' values to other places, in whatever stage.
    pub fn is_moved(&self) -> bool {
        self.augmentation.as_ref().is_some_and(Augmentation::moves)
    }

    /// Whether the search for the first assignment sees rows whose values were moved: distances between such rows compare values at
    /// the same place, which is meant not to matter.
    pub fn moves_in_start(&self) -> bool {
        self.augmentation_of(StageName::Start).is_some_and(|augmentation| augmentation.moves())
    }

    /// The widths of the encoder's layers, from the rows to the latent.
    pub fn widths(&self) -> Vec<i64> {
        if let Some(warm) = &self.warm {
            return warm.widths();
        }
        lengths::widths(&self.config.model, self.n_features(), self.is_moved(), self.n_rows() as i64)
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
            StageName::Start | StageName::OverCluster(_) | StageName::ChooseK | StageName::Cluster => {
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
            factors: self.config.precision.factors(self.rows.device()),
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
        new_network(&self.config, &self.widths(), self.rows.device(), self.network_seed(network))
    }
}

/// The rows of `n_rows` that a run has, in its order.
pub fn order_of(config: &Config, n_rows: usize) -> Vec<usize> {
    let mut order = permutation(n_rows, seed_for(config.seed, "shuffle"));
    order.truncate(config.data.rows_of(n_rows));
    order
}

/// Whether rows that need not be in memory are left where they are: sparse ones, and those that would take more than a third of
/// the memory that there is, or that `data.max_memory` allows.
pub fn stays_streamed(config: &Config, features: &Features) -> bool {
    let Features::Streamed(rows) = features else { return false };
    let [n, d] = rows.shape();
    let n = config.data.rows_of(n);
    let bytes = (n as u64).saturating_mul(d as u64).saturating_mul(features.element_bytes() as u64);
    let allowed = config.data.max_memory.map(|megabytes| megabytes.saturating_mul(1_000_000));
    let most = allowed.or_else(available_bytes).unwrap_or(u64::MAX);
    rows.in_memory() || bytes > most / 3
}

/// Refuses to go on where processes that train together have read different rows, as far as their number and a sample tell.
fn check_same_rows(dataset: &Dataset, ranks: Ranks) -> Result<()> {
    const SAMPLE: usize = 100;
    if ranks.size() == 1 {
        return Ok(());
    }
    let features = &dataset.features;
    let shape = [features.n_rows() as u64, features.n_features() as u64];
    let values = features.sample(SAMPLE)?;
    let numbers = shape.into_iter().chain(values.iter().map(|value| value.to_bits().into()));
    let Meeting { same, stop, .. } = ranks.meet(false, false, numbers.fold(0, |sum, next| data::hash(sum ^ next)))?;
    if same || stop {
        return Ok(()); // the next meeting ends the work
    }
    let [n, d] = shape;
    Err(Error::Processes(format!(
        "the {} processes have read different rows, {n} of {d} features here: give all of them the same file",
        ranks.size()
    )))
}

/// Whether all processes that train together leave the rows where they are: what one knows of its memory is for all, since rows that are
/// divided go from one to another.
fn all_stream(config: &CheckedConfig, features: &Features, ranks: Ranks) -> Result<bool> {
    let (can, should) = (matches!(features, Features::Streamed(_)), stays_streamed(config, features));
    let mut others = [!can, should].map(|truth| f64::from(u8::from(truth)));
    ranks.fold(&mut others, f64::max)?;
    Ok(others == [0.0, 1.0])
}

/// The chosen rows in the order of the file, in which passes over a file are fastest, and sums are those of any order.
fn in_file_order<'a>(dataset: &'a Dataset, order: &[usize]) -> Cow<'a, Dataset> {
    if order.len() == dataset.n_rows() {
        return Cow::Borrowed(dataset);
    }
    let mut ascending = order.to_vec();
    ascending.sort_unstable();
    Cow::Owned(dataset.select(&ascending))
}

/// What rows are, and how that is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kind {
    /// What they are.
    #[serde(flatten)]
    pub rows: RowKind,
    /// How that is known.
    pub told_by: ToldBy,
    /// By how much the values spoke for images, where they were asked and did.
    pub margin: Option<f64>,
}

/// Who says what rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToldBy {
    /// The recipe (`augment.image`, `augment.kind`).
    Recipe,
    /// The shape of the file.
    File,
    /// The values, by how they hang together.
    Values,
}

/// Names a row that will rule the scaling of its columns; `order` are the rows that `dataset` has, ascending there.
fn warn_of_absurd(dataset: &Dataset, order: &[usize], ranks: Ranks) -> Result<()> {
    let Some((place, column, value)) = data::first_absurd(&dataset.features, ranks)? else { return Ok(()) };
    let mut ascending = order.to_vec();
    ascending.sort_unstable();
    let name = dataset.columns.get(column).map_or_else(String::new, |name| format!(" ({name:?})"));
    tracing::warn!(
        "row {} has {value:e} in column {column}{name}, counted from 0, hundreds of times as far out as others: leave it out if it \
         is a mistake",
        ascending[place]
    );
    Ok(())
}

/// What the rows are, with height and width where they have such.
fn kind_of(config: &Config, dataset: &Dataset) -> Result<(Kind, Option<[usize; 2]>)> {
    let (shape, told_by, margin) = shape_of(config, dataset)?;
    let rows = match (config.augment.kind, shape) {
        (AugmentKind::TimeShift, _) => RowKind::Series,
        (_, Some([height, width])) if height.min(width) >= data::LEAST_SIDE => match dataset.channels.count {
            1 => RowKind::Image([height, width]),
            _ => RowKind::Colour([height, width], dataset.channels),
        },
        _ => RowKind::Table,
    };
    let told_by = if config.augment.kind == AugmentKind::TimeShift { ToldBy::Recipe } else { told_by };
    Ok((Kind { rows, told_by, margin }, shape))
}

/// Height and width, who says so, and by which margin the values do.
type Shape = (Option<[usize; 2]>, ToldBy, Option<f64>);

fn shape_of(config: &Config, dataset: &Dataset) -> Result<Shape> {
    let no_images = matches!(config.augment.kind, AugmentKind::Noise | AugmentKind::TimeShift);
    if let Some(shape) = config.augment.image {
        return Ok((Some(shape), ToldBy::Recipe, None));
    }
    if let Some(shape) = dataset.image {
        return Ok((Some(shape), ToldBy::File, None));
    }
    if no_images {
        return Ok((None, ToldBy::Recipe, None));
    }
    let Some(found) = data::guess_image(&dataset.features)? else { return Ok((None, ToldBy::Values, None)) };
    let [height, width] = found.shape;
    tracing::info!(
        "the rows look like images of {height} x {width} pixels (by a margin of {:.2}; 0.10 would do) and are treated as such \
         (augment.kind=noise if they are not)",
        found.margin
    );
    Ok((Some(found.shape), ToldBy::Values, Some(found.margin)))
}

/// A network whose encoder has these widths, from the rows to the latent, with the weights that follow from `seed`.
///
/// # Errors
/// A libtorch failure (out of memory, say).
pub fn new_network(config: &Config, widths: &[i64], device: Device, seed: u64) -> Result<Box<dyn Network>> {
    let init = match config.model.init {
        WeightInit::Normal => Init::Normal(config.model.init_std),
        WeightInit::FanIn => Init::FanIn,
    };
    // The generator is the process's: two networks at once would draw from each other's stream.
    static DRAWING: Mutex<()> = Mutex::new(());
    let _alone = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed_for(seed, "weights") as i64);
    Ok(Box::new(Autoencoder::new(widths, device, init)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Switch, Widths};
    use crate::data::Features;

    #[test]
    fn self_training_changes_rows_where_values_are_moved_or_as_it_is_told() {
        let features = |columns| Features::F32(ndarray::Array2::from_shape_fn((9, columns), |(i, j)| (i + j) as f32));
        let dataset = |columns, image| Dataset { features: features(columns), image, ..Dataset::default() };
        let (table, images) = (dataset(4, None), dataset(64, Some([8, 8])));
        let mut config = Config { n_clusters: 2, ..Config::default() };
        config.model.hidden = Widths::Given(vec![2]);
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
