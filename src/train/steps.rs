//! The loop that every stage trains with: batches in, gradient steps, an event an epoch.

use std::time::Instant;

use tch::{no_grad, Device, Kind, Tensor};

use super::observer::{Event, Observer, Stage};
use super::optimiser::Sgd;
use crate::config::Schedule;
use crate::data::Batches;
use crate::error::{Error, Result};

/// Gradient steps on shuffled batches; keeps its place between calls, so that a stage may train in several goes.
pub(super) struct Steps {
    stage: Stage,
    optimiser: Sgd,
    schedule: Schedule,
    batches: Batches,
    started: Instant,
    done: u64,
    /// The sum of the losses since the last epoch event, kept on the device: reading it would wait for the device.
    loss_sum: Tensor,
    summed: u64,
}

impl Steps {
    pub(super) fn new(stage: Stage, optimiser: Sgd, schedule: Schedule, batches: Batches, device: Device) -> Self {
        let loss_sum = Tensor::zeros([], (Kind::Double, device));
        Self { stage, optimiser, schedule, batches, started: Instant::now(), done: 0, loss_sum, summed: 0 }
    }

    pub(super) fn per_epoch(&self) -> u64 {
        self.batches.per_epoch()
    }

    /// Steps done so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Trains for `count` steps on `loss`, which is given the row indices of a batch and returns its mean loss.
    pub(super) fn train(
        &mut self,
        count: u64,
        observer: &mut dyn Observer,
        mut loss: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        for _ in 0..count {
            if observer.should_stop() {
                return Err(Error::Interrupted);
            }
            let indices = self.batches.next_batch()?;
            let loss = loss(&indices)?;
            self.optimiser.step(&loss, self.schedule.rate(self.done))?;
            self.loss_sum = no_grad(|| self.loss_sum.f_add(&loss.f_detach()?))?;
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
        let loss = f64::try_from(&self.loss_sum)? / self.summed as f64;
        let epoch = self.done.div_ceil(self.per_epoch());
        let learning_rate = self.schedule.rate(self.done.saturating_sub(1));
        if !loss.is_finite() {
            return Err(Error::Training(format!(
                "{} diverged in epoch {epoch}: the loss is {loss} at a learning rate of {learning_rate:?}; lower the rate \
                 (--set {}.lr={:?}) or scale the rows down (--set data.scale=…)",
                self.stage,
                section(self.stage),
                learning_rate / 10.0,
            )));
        }
        self.loss_sum = self.loss_sum.f_zeros_like()?;
        self.summed = 0;
        let seconds = self.started.elapsed().as_secs_f64();
        observer.on_event(&Event::Epoch { stage: self.stage, epoch, loss, learning_rate, seconds });
        Ok(())
    }
}

/// The recipe's section that a stage's settings are in.
fn section(stage: Stage) -> &'static str {
    match stage {
        Stage::Pretrain(_) => "pretrain",
        Stage::Finetune => "finetune",
        Stage::KMeansRaw | Stage::KMeans => "kmeans",
        Stage::Cluster => "cluster",
    }
}
