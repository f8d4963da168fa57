//! What training tells the outside world, and how the outside world asks it to stop.

use std::fmt;

use serde::Serialize;

/// A stage of a run, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// k-means on the raw rows, the baseline.
    KMeansRaw,
    /// Pretraining of the whole autoencoder, end to end.
    Autoencoder,
    /// Layer-wise pretraining of one layer, counted from 1.
    Pretrain(usize),
    /// Fine-tuning of the whole autoencoder.
    Finetune,
    /// k-means on the latent rows: for comparison, and where the recipe says so the first assignment.
    KMeans,
    /// Training towards more clusters than are wanted, this many.
    OverCluster(usize),
    /// The first assignment of the latent rows, where it is not k-means.
    Start,
    /// Self-training.
    Cluster,
}

impl fmt::Display for Stage {
    /// The name that `events.jsonl` and `summary.json` use: `kmeans_raw`, `pretrain` or `pretrain_1` …, `finetune`, `kmeans`,
    /// `over_50` …, `start`, `cluster`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KMeansRaw => f.write_str("kmeans_raw"),
            Self::Autoencoder => f.write_str("pretrain"),
            Self::Pretrain(layer) => write!(f, "pretrain_{layer}"),
            Self::Finetune => f.write_str("finetune"),
            Self::KMeans => f.write_str("kmeans"),
            Self::OverCluster(clusters) => write!(f, "over_{clusters}"),
            Self::Start => f.write_str("start"),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

/// How one method clustered the rows. Scores against labels are `None` where there are no labels, and the silhouette is
/// where there are some.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodResult {
    /// `kmeans` (raw rows), `autoencoder_kmeans` (in the first network's latent), `start` (the first assignment, where it is not
    /// that) or `dec`.
    pub method: &'static str,
    /// Accuracy under the best one-to-one matching of clusters to classes.
    pub acc: Option<f64>,
    /// Normalised mutual information, arithmetic normalisation.
    pub nmi: Option<f64>,
    /// Adjusted Rand index.
    pub ari: Option<f64>,
    /// Mean silhouette in the space that was clustered.
    pub silhouette: Option<f64>,
    /// Sum of squared distances to the assigned centroid, in the space that was clustered.
    pub inertia: f64,
    /// Seconds that it took to get here: every stage that the method needs.
    pub seconds: f64,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTime {
    /// The stage's name.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Optimiser steps; restarts, where the stage is a k-means.
    pub steps: u64,
}

/// Something that happened in training.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stage begins, with the number of steps (restarts) that it takes at most.
    StageStarted {
        /// The stage.
        stage: Stage,
        /// Optimiser steps or restarts.
        steps: u64,
    },
    /// A step (or restart) is done; sent after every one, so it carries nothing that would cost a synchronisation.
    Step {
        /// Steps done in this stage.
        done: u64,
    },
    /// An epoch is done.
    Epoch {
        /// The stage.
        stage: Stage,
        /// The epoch, counted from 1 within its stage.
        epoch: u64,
        /// Mean loss over the epoch's steps.
        loss: f64,
        /// The learning rate of its last step.
        learning_rate: f64,
        /// Seconds since the stage began.
        seconds: f64,
    },
    /// A k-means restart is done.
    Restart {
        /// The stage.
        stage: Stage,
        /// The restart, counted from 1.
        restart: u64,
        /// The best inertia so far.
        inertia: f64,
        /// Seconds since the stage began.
        seconds: f64,
    },
    /// The soft assignment was refreshed at the start of a round.
    Round {
        /// The round, counted from 1.
        round: u64,
        /// The fraction of the rows whose cluster changed since the last refresh.
        changed: f64,
        /// KL(P‖Q) over the whole data set.
        loss: f64,
        /// Accuracy now, where there are labels: for the log only.
        acc: Option<f64>,
        /// Seconds since the stage began.
        seconds: f64,
    },
    /// A stage ended.
    StageFinished {
        /// The stage.
        stage: Stage,
        /// Its time and steps.
        time: &'a StageTime,
    },
    /// Another network is pretrained for the start; sent from the second on.
    NetworkStarted {
        /// The network, counted from 1.
        network: u64,
        /// How many there are.
        networks: u64,
    },
    /// A method was scored.
    Scored(&'a MethodResult),
}

/// Told what happens; asked whether to go on.
pub trait Observer {
    /// Called for every event, on the training thread.
    fn on_event(&mut self, event: &Event);

    /// Whether training should stop as soon as it can; asked before every step, and several times a second in k-means.
    fn should_stop(&self) -> bool {
        false
    }
}

/// An observer that looks away.
impl Observer for () {
    fn on_event(&mut self, _: &Event) {}
}
