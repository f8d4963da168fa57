//! Fine-tuning: the whole autoencoder on the mean squared error, without dropout (Xie et al. 2016, §3.2).

use tch::Reduction;

use super::engine::{Engine, Objective};
use super::observer::{Observer, Stage};
use super::step::{Autograd, Batch, Step};
use super::steps::{StageRun, Steps};
use crate::config::FinetuneConfig;
use crate::data::{Batches, Rows};
use crate::error::Result;
use crate::model::Autoencoder;

/// Trains `autoencoder` on `rows`; returns the number of steps taken.
pub(super) fn train(
    autoencoder: &Autoencoder,
    rows: &Rows,
    config: &FinetuneConfig,
    run: StageRun,
    observer: &mut dyn Observer,
) -> Result<u64> {
    let stage = Stage::Finetune;
    let batches = Batches::new(rows.n_rows(), config.batch_size, rows.device(), run.seed)?;
    let params = run.engine(&batches, 0.0, config.momentum);
    let step: Box<dyn Step> = match autoencoder.stack() {
        Some(stack) => Box::new(Engine::new(stack, Objective::Reconstruction, rows, params)?),
        None => Box::new(autograd(autoencoder, rows, config.momentum)?),
    };
    Steps::new(stage, step, config.schedule(), batches).run(config.epochs, config.steps, observer)
}

/// The same steps by autograd.
pub(super) fn autograd<'a>(autoencoder: &'a Autoencoder, rows: &'a Rows, momentum: f64) -> Result<impl Step + 'a> {
    Autograd::new(autoencoder.parameters(), momentum, rows.device(), |batch: &Batch| {
        let x = rows.batch(batch.indices)?;
        Ok(autoencoder.forward(&x).f_mse_loss(&x, Reduction::Mean)?)
    })
}
