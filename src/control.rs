//! What long work tells the outside world, and how the outside world asks it to stop.
//!
//! One [`Control`] goes down through every stage, k-means and the searches of the start. It carries the [`Observer`]: events
//! out, the wish to stop in.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::backend::ranks::{self, Meeting, Ranks};
use crate::error::{Error, Result};

/// The kinds of stages, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageName {
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
    /// The search for the number of clusters.
    ChooseK,
    /// Self-training.
    Cluster,
}

impl fmt::Display for StageName {
    /// The name in `events.jsonl` and `summary.json`: `kmeans_raw`, `pretrain` or `pretrain_1` …, `finetune`, `kmeans`,
    /// `over_50` …, `start`, `choose_k`, `cluster`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KMeansRaw => f.write_str("kmeans_raw"),
            Self::Autoencoder => f.write_str("pretrain"),
            Self::Pretrain(layer) => write!(f, "pretrain_{layer}"),
            Self::Finetune => f.write_str("finetune"),
            Self::KMeans => f.write_str("kmeans"),
            Self::OverCluster(clusters) => write!(f, "over_{clusters}"),
            Self::Start => f.write_str("start"),
            Self::ChooseK => f.write_str("choose_k"),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

/// A way to cluster the rows that a run scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// k-means on the raw rows.
    #[serde(rename = "kmeans")]
    KMeans,
    /// k-means in the first network's latent space.
    #[serde(rename = "autoencoder_kmeans")]
    AutoencoderKMeans,
    /// The first assignment, where it is not the one before.
    Start,
    /// The result of self-training.
    Dec,
}

/// How one method clustered the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodResult {
    /// The method.
    pub method: Method,
    /// Accuracy under the best one-to-one matching of clusters to classes; `None` without labels.
    pub acc: Option<f64>,
    /// Normalised mutual information, arithmetic normalisation; `None` without labels.
    pub nmi: Option<f64>,
    /// Adjusted Rand index; `None` without labels.
    pub ari: Option<f64>,
    /// Mean silhouette in the scaled rows, for all methods alike; `None` with labels.
    pub silhouette: Option<f64>,
    /// Sum of squared distances to the assigned centroid, in the space that was clustered.
    pub inertia: f64,
    /// Seconds to get here: every stage that the method needs.
    pub seconds: f64,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage's name.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Optimiser steps; restarts, where the stage is a k-means.
    pub steps: u64,
}

/// What a round of self-training found when it refreshed q and p.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// The round, counted from 1.
    pub round: u64,
    /// The fraction of the rows whose cluster changed since the last refresh.
    pub changed: f64,
    /// The clustering loss over the whole data set: KL(P‖Q), or for `aspc` the mean squared distance.
    pub loss: f64,
    /// Accuracy now, where there are labels: for the log only.
    pub acc: Option<f64>,
    /// Rows in each cluster.
    pub sizes: Vec<u64>,
    /// The smallest distance between two centroids; `None` for one cluster.
    pub centroid_distance: Option<f64>,
    /// exp(entropy of the cluster frequency f): k where clusters are of equal size, 1 where all rows are in one.
    pub effective_clusters: f64,
    /// The mean over the rows of the largest q.
    pub confidence: f64,
}

/// Something that happened in training.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stage begins, or goes on in a resumed run.
    StageStarted {
        /// The stage.
        stage: StageName,
        /// Optimiser steps or restarts that it takes at most.
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
        stage: StageName,
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
        stage: StageName,
        /// The restart, counted from 1.
        restart: u64,
        /// The best inertia so far.
        inertia: f64,
        /// Seconds since the stage began.
        seconds: f64,
    },
    /// The soft assignment was refreshed at the start of a round.
    Round {
        /// What it found.
        round: &'a Round,
        /// Seconds since the stage began.
        seconds: f64,
    },
    /// Training diverged and went back to the last boundary, to go on at a lower rate.
    RolledBack(&'a Rollback),
    /// Self-training does harm: clusters shrink, merge or vanish. Said once for each kind.
    Warning {
        /// The stage.
        stage: StageName,
        /// What was seen, and what may help.
        text: &'a str,
    },
    /// A stage ended.
    StageFinished {
        /// The stage.
        stage: StageName,
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

impl Event<'_> {
    /// Whether `events.jsonl` has a line for it: not for those that come with every step, or again in a resumed run.
    pub fn is_logged(&self) -> bool {
        !matches!(self, Self::StageStarted { .. } | Self::Step { .. })
    }
}

/// A return to an earlier boundary after training diverged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// The stage's name.
    pub stage: String,
    /// The step after which the loss was not finite, or had exploded.
    pub at_step: u64,
    /// The step gone back to.
    pub to_step: u64,
    /// What the stage's rates are multiplied by from there on.
    pub rate_factor: f64,
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, at_step, to_step, rate_factor } = self;
        write!(f, "{stage} diverged at step {at_step} and went on from step {to_step} at {rate_factor} of its rate")
    }
}

/// Told what happens; asked whether to go on.
pub trait Observer {
    /// Called for every event, on the training thread.
    fn on_event(&mut self, event: &Event);

    /// Whether to stop as soon as possible; asked before every step, and several times a second elsewhere.
    fn should_stop(&self) -> bool {
        false
    }

    /// Whether to write a checkpoint at the next chance and go on; asked at the same places, until [`Observer::saved`].
    fn should_save(&self) -> bool {
        false
    }

    /// Called once the checkpoint that was asked for has been tried.
    fn saved(&mut self) {}
}

/// An observer that looks away.
impl Observer for () {
    fn on_event(&mut self, _: &Event) {}
}

/// Goes through all long work: tells the observer, and ends with [`Error::Interrupted`] where it asks to stop.
pub struct Control<'a> {
    observer: Option<&'a mut dyn Observer>,
    stage: StageName,
    /// Seconds that the stage at work took before `since`.
    before: f64,
    since: Instant,
    silent: bool,
    /// The processes that work together, as far as this work is divided among them.
    ranks: Ranks,
    /// Events told so far that a log keeps.
    told: u64,
    rollbacks: Vec<Rollback>,
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl<'a> Control<'a> {
    /// Tells and asks `observer`.
    pub fn new(observer: &'a mut dyn Observer) -> Self {
        Self { observer: Some(observer), ..Control::ignored() }
    }

    /// Tells and asks `observer`, in work that all processes that train together do at the same time: they divide it, and stop together.
    pub fn together(observer: &'a mut dyn Observer) -> Self {
        Self { ranks: ranks::world(), ..Control::new(observer) }
    }

    /// Tells nobody and never stops.
    pub fn ignored() -> Control<'static> {
        Control {
            observer: None,
            stage: StageName::KMeansRaw,
            before: 0.0,
            since: Instant::now(),
            silent: false,
            ranks: Ranks::ALONE,
            told: 0,
            rollbacks: Vec::new(),
        }
    }

    /// The same wish to stop, without events or a wish to save: for a search within a search.
    pub fn silenced(&mut self) -> Control<'_> {
        Control {
            observer: self.observer.as_mut().map(|observer| &mut **observer as &mut dyn Observer),
            stage: self.stage,
            before: self.before,
            since: self.since,
            silent: true,
            ranks: self.ranks,
            told: 0,
            rollbacks: Vec::new(),
        }
    }

    /// From now on events are of `stage`, which took `seconds` already.
    pub fn enter(&mut self, stage: StageName, seconds: f64) {
        (self.stage, self.before, self.since) = (stage, seconds, Instant::now());
    }

    /// Seconds that the stage at work has taken.
    pub fn seconds(&self) -> f64 {
        self.before + self.since.elapsed().as_secs_f64()
    }

    /// The stage at work.
    pub fn stage(&self) -> StageName {
        self.stage
    }

    /// Passes an event on.
    pub fn tell(&mut self, event: &Event) {
        if self.silent {
            return;
        }
        self.told += u64::from(event.is_logged());
        if let Event::RolledBack(rollback) = event {
            self.rollbacks.push((*rollback).clone());
        }
        if let Some(observer) = self.observer.as_mut() {
            observer.on_event(event);
        }
    }

    /// Tells of a k-means restart: how many are done, and the lowest inertia of those.
    pub fn restart(&mut self, done: usize, inertia: f64) {
        let (stage, seconds, restart) = (self.stage, self.seconds(), done as u64);
        self.tell(&Event::Restart { stage, restart, inertia, seconds });
        self.tell(&Event::Step { done: restart });
    }

    /// Whether the observer wants the work to stop.
    pub fn should_stop(&self) -> bool {
        self.observer.as_ref().is_some_and(|observer| observer.should_stop())
    }

    /// Whether the observer wants a checkpoint now.
    pub fn should_save(&self) -> bool {
        !self.silent && self.observer.as_ref().is_some_and(|observer| observer.should_save())
    }

    /// The checkpoint that the observer wanted has been tried.
    pub fn saved(&mut self) {
        if let Some(observer) = self.observer.as_mut() {
            observer.saved();
        }
    }

    /// So many events were told by an earlier process.
    pub fn count_from(&mut self, told: u64) {
        self.told = told;
    }

    /// Events told so far that a log keeps.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// The rollbacks since the last call.
    pub fn take_rollbacks(&mut self) -> Vec<Rollback> {
        std::mem::take(&mut self.rollbacks)
    }

    /// Asked between two steps or pieces of work: whether to save. Processes that work together stop, and save, at the same place.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where an observer wants the work to stop; [`Error::Processes`] where another process is gone.
    pub fn agree(&self) -> Result<bool> {
        let Meeting { save, stop, .. } = self.ranks.meet(self.should_save(), self.should_stop(), 0)?;
        if stop {
            return Err(Error::Interrupted);
        }
        Ok(save)
    }

    /// After this process's part of work that is divided among [`Control::ranks`], given how it ended: passes that on once all are there, of
    /// whom none was interrupted then. What the parts gave can be gathered. (Another error than an interruption has to end the process.)
    ///
    /// # Errors
    /// That of `part`; as for [`Control::agree`].
    pub fn divided<T>(&self, part: Result<T>) -> Result<T> {
        let interrupted = matches!(part, Err(Error::Interrupted));
        if self.ranks.size() > 1 && (part.is_ok() || interrupted) && self.ranks.meet(false, interrupted, 0)?.stop {
            return Err(Error::Interrupted);
        }
        part
    }

    /// Tells the other processes that this one was told to stop, if they do not know it.
    pub fn leave(&self) {
        if let Err(problem) = self.ranks.meet(false, true, 0) {
            tracing::debug!("other processes: {problem}");
        }
    }

    /// The processes that the work is divided among.
    pub fn ranks(&self) -> Ranks {
        self.ranks
    }

    /// Asked between two pieces of work of a fraction of a second.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the observer wants the work to stop.
    pub fn check(&self) -> Result<()> {
        if self.should_stop() {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// An observer that gives work a limited time, whatever the signals say.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So much time from now on.
    pub fn within(time: Duration) -> Self {
        Self(Instant::now() + time)
    }
}

impl Observer for Deadline {
    fn on_event(&mut self, _: &Event) {}

    fn should_stop(&self) -> bool {
        Instant::now() >= self.0
    }
}

/// An observer that asks to stop at once: for tests of what can be interrupted.
#[cfg(test)]
pub(crate) struct Stop;

#[cfg(test)]
impl Observer for Stop {
    fn on_event(&mut self, _: &Event) {}

    fn should_stop(&self) -> bool {
        true
    }
}
