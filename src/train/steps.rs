//! The loop that every stage trains with: batches in, gradient steps, an event an epoch.

use std::time::Instant;

use super::augmentation::Augmentation;
use super::engine::EngineParams;
use super::observer::{Event, Observer, Stage};
use super::optimiser::Optimiser;
use super::step::{Batch, Step};
use crate::config::{Optimisation, Schedule};
use crate::data::Batches;
use crate::error::{Error, Result};

/// What a stage is told besides its own section of the recipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct StageRun {
    /// Seed of the batches, of the dropout masks and of the augmentation.
    pub(super) seed: u64,
    /// Whether to start steps on a GPU as CUDA graphs.
    pub(super) cuda_graphs: bool,
    /// What the stage does to its rows at random.
    pub(super) augmentation: Option<Augmentation>,
}

impl StageRun {
    /// How the step engine is to train on `batches`.
    pub(super) fn engine(self, batches: &Batches, dropout: f64, settings: &Optimisation) -> EngineParams {
        let Self { seed, cuda_graphs, augmentation } = self;
        EngineParams {
            batch_size: batches.batch_size(),
            dropout,
            augmentation,
            optimiser: Optimiser::from(settings),
            seed,
            cuda_graphs,
        }
    }
}

/// Gradient steps on shuffled batches; keeps its place between calls, so that a stage may train in several goes.
pub(super) struct Steps<'a> {
    stage: Stage,
    step: Box<dyn Step + 'a>,
    schedule: Schedule,
    batches: Batches,
    started: Instant,
    done: u64,
    /// Steps of the whole stage, which the rate goes by.
    total: u64,
    /// Steps since the last epoch event.
    summed: u64,
}

impl<'a> Steps<'a> {
    pub(super) fn new(stage: Stage, step: Box<dyn Step + 'a>, schedule: Schedule, batches: Batches) -> Self {
        Self { stage, step, schedule, batches, started: Instant::now(), done: 0, total: 0, summed: 0 }
    }

    /// Says how many steps the stage will take at most.
    pub(super) fn set_total(&mut self, steps: u64) {
        self.total = steps;
    }

    /// Forgets the optimiser's momentum.
    pub(super) fn reset_momentum(&mut self) -> Result<()> {
        self.step.reset_momentum()
    }

    pub(super) fn per_epoch(&self) -> u64 {
        self.batches.per_epoch()
    }

    /// Steps done so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Trains for a whole stage of `steps` steps, or of `epochs` where there is no such number; returns how many it were.
    pub(super) fn run(mut self, epochs: u64, steps: Option<u64>, observer: &mut dyn Observer) -> Result<u64> {
        let count = steps.unwrap_or(epochs.saturating_mul(self.per_epoch()));
        self.set_total(count);
        observer.on_event(&Event::StageStarted { stage: self.stage, steps: count });
        self.train(count, observer)?;
        self.finish(observer)?;
        Ok(self.done)
    }

    /// Trains for `count` steps.
    pub(super) fn train(&mut self, count: u64, observer: &mut dyn Observer) -> Result<()> {
        for _ in 0..count {
            if observer.should_stop() {
                return Err(Error::Interrupted);
            }
            let indices = self.batches.next_batch()?;
            self.step
                .step(&Batch { indices: &indices, number: self.done }, self.schedule.rate(self.done, self.total))?;
            self.summed += 1;
            self.done += 1;
            observer.on_event(&Event::Step { done: self.done });
            if self.done % self.per_epoch() == 0 {
                self.end_epoch(observer)?;
            }
        }
        Ok(())
    }

    /// Reports a last epoch that the stage's steps did not fill.
    pub(super) fn finish(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if self.summed > 0 {
            self.end_epoch(observer)?;
        }
        Ok(())
    }

    fn end_epoch(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let loss = self.step.take_loss()? / self.summed as f64;
        let epoch = self.done.div_ceil(self.per_epoch());
        let learning_rate = self.schedule.rate(self.done.saturating_sub(1), self.total);
        if !loss.is_finite() {
            return Err(Error::Training(format!(
                "{} diverged in epoch {epoch}: the loss is {loss} at a learning rate of {learning_rate:?}; lower the rate \
                 (--set {}.lr={:?}) or scale the rows down (--set data.scale=…)",
                self.stage,
                section(self.stage),
                learning_rate / 10.0,
            )));
        }
        self.summed = 0;
        let seconds = self.started.elapsed().as_secs_f64();
        observer.on_event(&Event::Epoch { stage: self.stage, epoch, loss, learning_rate, seconds });
        Ok(())
    }
}

/// The recipe's section that a stage's settings are in.
fn section(stage: Stage) -> &'static str {
    match stage {
        Stage::Autoencoder | Stage::Pretrain(_) => "pretrain",
        Stage::Finetune => "finetune",
        Stage::KMeansRaw | Stage::KMeans => "kmeans",
        Stage::Start => "start",
        Stage::OverCluster(_) | Stage::Cluster => "cluster",
    }
}
