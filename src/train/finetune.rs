//! Fine-tuning: the whole autoencoder on the mean squared error, without dropout (Xie et al. 2016, §3.2).

use tch::Reduction;

use super::observer::{Event, Observer, Stage};
use super::optimiser::Sgd;
use super::steps::Steps;
use crate::config::FinetuneConfig;
use crate::data::{Batches, Rows};
use crate::error::Result;
use crate::model::Autoencoder;

/// Trains `autoencoder` on `rows`; returns the number of steps taken.
pub(super) fn train(
    autoencoder: &Autoencoder,
    rows: &Rows,
    config: &FinetuneConfig,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<u64> {
    let stage = Stage::Finetune;
    let device = rows.device();
    let batches = Batches::new(rows.n_rows(), config.batch_size, device, seed)?;
    let optimiser = Sgd::new(autoencoder.parameters(), config.momentum)?;
    let mut steps = Steps::new(stage, optimiser, config.schedule(), batches, device);
    let count = config.steps.unwrap_or(config.epochs.saturating_mul(steps.per_epoch()));
    observer.on_event(&Event::StageStarted { stage, steps: count });
    steps.train(count, observer, |indices| {
        let x = rows.batch(indices)?;
        Ok(autoencoder.forward(&x).f_mse_loss(&x, Reduction::Mean)?)
    })?;
    steps.finish(observer)?;
    Ok(steps.done())
}
