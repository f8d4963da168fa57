//! Fine-tuning: the whole autoencoder on the mean squared error, without dropout (Xie et al. 2016, §3.2).

use tch::Reduction;

use super::engine::{Engine, EngineParams, Objective};
use super::observer::{Event, Observer, Stage};
use super::step::{Autograd, Batch, Step};
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
    let batches = Batches::new(rows.n_rows(), config.batch_size, rows.device(), seed)?;
    let step: Box<dyn Step> = match autoencoder.stack() {
        Some(stack) => {
            let objective = Objective { reconstruction: Some(1.0), clustering: None };
            let params =
                EngineParams { batch_size: batches.batch_size(), dropout: 0.0, momentum: config.momentum, seed };
            Box::new(Engine::new(stack, objective, rows, params)?)
        }
        None => Box::new(autograd(autoencoder, rows, config.momentum)?),
    };
    let mut steps = Steps::new(stage, step, config.schedule(), batches);
    let count = config.steps.unwrap_or(config.epochs.saturating_mul(steps.per_epoch()));
    observer.on_event(&Event::StageStarted { stage, steps: count });
    steps.train(count, observer)?;
    steps.finish(observer)?;
    Ok(steps.done())
}

/// The same steps by autograd.
pub(super) fn autograd<'a>(autoencoder: &'a Autoencoder, rows: &'a Rows, momentum: f64) -> Result<impl Step + 'a> {
    Autograd::new(autoencoder.parameters(), momentum, rows.device(), |batch: &Batch| {
        let x = rows.batch(batch.indices)?;
        Ok(autoencoder.forward(&x).f_mse_loss(&x, Reduction::Mean)?)
    })
}
