//! The stages of a run, one file each, in the paper's order.
//!
//! 1. k-means on the raw rows, for comparison ([`kmeans`]);
//! 2. pretraining of the autoencoder, end to end or layer by layer, and fine-tuning ([`pretrain`]);
//! 3. k-means on the latent rows, for comparison or as the start ([`kmeans`]);
//! 4. training towards more clusters than are wanted ([`over_cluster`]), where the recipe asks for it;
//! 5. the first assignment, which places the centroids ([`start`], [`elect`]), where it is not that of k-means;
//! 6. self-training ([`cluster`]).
//!
//! Of few rows several networks go through 2, 4 and 5, and the first assignment is a vote of what was found in all of them.
//! [`list`] makes the list; a run goes through it. A stage advances by a bounded piece of work (an epoch, a round, so many
//! restarts, a plan of a search), and leaves the run's [`State`](crate::state::State) whole.

pub mod cluster;
pub mod elect;
pub mod kmeans;
pub mod over_cluster;
pub mod pretrain;
mod score;
pub mod start;
mod warm;

use crate::config::{lengths, Config, PretrainMethod, StartMethod};
use crate::control::{Control, StageName};
use crate::error::Result;
use crate::state::{Run, StageId, Task};

pub use score::score;

/// What is left of a stage after a piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// More of it.
    More,
    /// Nothing; it took so many optimiser steps (restarts, searches).
    All(u64),
}

/// A stage at work. What it holds besides the run's state follows from that and the task.
pub trait Stage {
    /// Optimiser steps (restarts, searches) that it takes at most.
    fn total(&self) -> u64;

    /// Does a bounded piece of work.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] where `control` wants to stop, [`crate::Error::Training`] and its like for training that
    /// failed, or a libtorch failure. The state is whole after an error too, as it was between two pieces or steps.
    fn advance(&mut self, run: &mut Run, control: &mut Control) -> Result<Done>;

    /// Writes into the run's state how far the stage is. Called after each piece, and after an interruption.
    ///
    /// # Errors
    /// A libtorch failure.
    fn save(&self, _run: &mut Run) -> Result<()> {
        Ok(())
    }

    /// Closes the stage: scores what it found. Not timed, and short.
    ///
    /// # Errors
    /// A libtorch failure.
    fn close(self: Box<Self>, _run: &mut Run, _control: &mut Control) -> Result<()> {
        Ok(())
    }
}

/// Sets up a stage where the run's state has it: at its beginning, or where an earlier process left it.
///
/// # Errors
/// As for [`Stage::advance`].
pub fn begin(id: StageId, run: &mut Run, control: &Control) -> Result<Box<dyn Stage>> {
    Ok(match id {
        StageId::KMeansRaw => Box::new(kmeans::KMeansStage::of_rows(run)?),
        StageId::KMeans => Box::new(kmeans::KMeansStage::of_latent(run, control)?),
        StageId::Autoencoder { network } => Box::new(pretrain::TrainStage::end_to_end(run, network)?),
        StageId::Layer { network, layer } => Box::new(pretrain::TrainStage::layer(run, network, layer, control)?),
        StageId::Finetune { network } => Box::new(pretrain::TrainStage::finetune(run, network)?),
        StageId::FineSearch { network, place: _, parts } => {
            Box::new(start::SearchStage::new(run, network, start::Goal::Parts(parts), control)?)
        }
        StageId::OverCluster { network, place, parts } => {
            Box::new(over_cluster::OverCluster::new(run, network, place, parts)?)
        }
        StageId::Search { network } => {
            Box::new(start::SearchStage::new(run, network, start::Goal::Candidates, control)?)
        }
        StageId::Elect => Box::new(elect::Elect),
        StageId::Warm => Box::new(warm::Warm),
        StageId::Cluster => Box::new(cluster::Cluster::new(run, control)?),
    })
}

/// The stage's name in events, times and tables; `None` for work that is not timed.
pub fn name(id: StageId) -> Option<StageName> {
    match id {
        StageId::KMeansRaw => Some(StageName::KMeansRaw),
        StageId::Autoencoder { .. } => Some(StageName::Autoencoder),
        StageId::Layer { layer, .. } => Some(StageName::Pretrain(layer + 1)),
        StageId::Finetune { .. } => Some(StageName::Finetune),
        StageId::KMeans => Some(StageName::KMeans),
        StageId::FineSearch { .. } | StageId::Search { .. } | StageId::Warm => Some(StageName::Start),
        StageId::OverCluster { parts, .. } => Some(StageName::OverCluster(parts)),
        StageId::Elect => None,
        StageId::Cluster => Some(StageName::Cluster),
    }
}

/// The stages of a task, in their order.
pub fn list(task: &Task) -> Vec<StageId> {
    if task.warm.is_some() {
        return vec![StageId::KMeansRaw, StageId::Warm, StageId::Cluster];
    }
    let config = &task.config;
    let networks = networks(task);
    let parts = over_clustering(task);
    let mut list = vec![StageId::KMeansRaw];
    for network in 0..networks {
        list.extend(pretraining(task, network));
        if network == 0 {
            list.push(StageId::KMeans);
        }
        if is_by_kmeans(config, networks, &parts) {
            continue;
        }
        for (place, &parts) in parts.iter().enumerate() {
            list.push(StageId::FineSearch { network, place, parts });
            list.push(StageId::OverCluster { network, place, parts });
        }
        list.push(StageId::Search { network });
    }
    if !is_by_kmeans(config, networks, &parts) {
        list.push(StageId::Elect);
    }
    list.push(StageId::Cluster);
    list
}

/// The epochs (restarts, of a k-means) that the stages of a task take at most, by their names.
pub fn plan(task: &Task) -> Vec<(String, u64)> {
    let config = &task.config;
    let mut plan: Vec<(String, u64)> = Vec::new();
    for id in list(task) {
        let Some(stage) = name(id).map(|stage| stage.to_string()) else { continue };
        let batch_size = match id {
            StageId::Autoencoder { .. } | StageId::Layer { .. } => config.pretrain.batch_size,
            StageId::Finetune { .. } => config.finetune.batch_size,
            _ => config.cluster.batch_size,
        };
        let count = match id {
            StageId::KMeansRaw | StageId::KMeans => config.kmeans.n_init as u64,
            _ => steps(id, task).div_ceil(lengths::per_epoch(task.rows.n_rows(), batch_size)),
        };
        if count > 0 && plan.iter().all(|(known, _)| *known != stage) {
            plan.push((stage, count));
        }
    }
    plan
}

/// Optimiser steps that a stage takes at most; 0 for one that trains nothing.
pub fn steps(id: StageId, task: &Task) -> u64 {
    match id {
        StageId::Autoencoder { .. } => pretrain::end_to_end_steps(task),
        StageId::Layer { .. } => pretrain::layer_steps(task),
        StageId::Finetune { .. } => pretrain::finetune_steps(task),
        StageId::OverCluster { .. } => over_cluster::steps(task),
        StageId::Cluster => cluster::Length::of(task).steps(),
        StageId::KMeansRaw
        | StageId::KMeans
        | StageId::FineSearch { .. }
        | StageId::Search { .. }
        | StageId::Elect
        | StageId::Warm => 0,
    }
}

/// How many networks vote on the first assignment.
pub fn networks(task: &Task) -> usize {
    let count = lengths::networks(&task.config.start, task.config.n_clusters, task.n_rows() as i64);
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Whether the first assignment is that of k-means on the latent rows.
fn is_by_kmeans(config: &Config, networks: usize, parts: &[usize]) -> bool {
    config.start.method == StartMethod::KMeans && networks == 1 && parts.is_empty()
}

/// The network that a stage pretrains or fine-tunes.
pub fn pretrains(id: StageId) -> Option<usize> {
    match id {
        StageId::Autoencoder { network } | StageId::Layer { network, .. } | StageId::Finetune { network } => {
            Some(network)
        }
        _ => None,
    }
}

/// What a network is pretrained by, fine-tuning included.
pub fn pretraining(task: &Task, network: usize) -> Vec<StageId> {
    let config = &task.config;
    let mut stages = match config.pretrain.method {
        PretrainMethod::EndToEnd => vec![StageId::Autoencoder { network }],
        PretrainMethod::Layerwise => {
            (0..task.widths().len() - 1).map(|layer| StageId::Layer { network, layer }).collect()
        }
    };
    if config.finetune.epochs > 0 || config.finetune.steps.is_some() {
        stages.push(StageId::Finetune { network });
    }
    stages
}

/// How many clusters are found before the k, in turn.
fn over_clustering(task: &Task) -> Vec<usize> {
    const OF_IMAGES: f64 = 5.0;
    let images = task.augmentation_of(StageName::Start).is_some_and(|a| a.is_of_images());
    let auto = || if images { vec![OF_IMAGES] } else { Vec::new() };
    let factors = task.config.start.over_clustering.clone().or(auto);
    let k = task.config.n_clusters;
    // Parts of fewer than ten rows say nothing.
    let parts = |factor: f64| ((factor * k as f64).ceil() as usize).min(task.n_rows() / 10);
    factors.into_iter().map(parts).filter(|&parts| parts > k).collect()
}
