//! The whole autoencoder on the mean squared error: fine-tuning after layer-wise pretraining (Xie et al. 2016, §3.2), or
//! pretraining end to end (Guo et al. 2018).

use tch::Reduction;

use super::engine::{Engine, EngineParams, Objective};
use super::observer::{Observer, Stage};
use super::pretrain::augmented;
use super::step::{Autograd, Batch, Step};
use super::steps::{StageRun, Steps};
use crate::config::Optimisation;
use crate::data::{Batches, Rows};
use crate::error::Result;
use crate::model::Autoencoder;

/// How long a stage is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub(super) epochs: u64,
    /// Instead of epochs, where given.
    pub(super) steps: Option<u64>,
}

/// Trains `autoencoder` on `rows`; returns the number of steps taken.
pub(super) fn train(
    stage: Stage,
    autoencoder: &Autoencoder,
    rows: &Rows,
    settings: &Optimisation,
    length: Length,
    run: StageRun,
    observer: &mut dyn Observer,
) -> Result<u64> {
    let batches = Batches::new(rows.n_rows(), settings.batch_size, rows.device(), run.seed)?;
    let params = run.engine(&batches, 0.0, settings);
    let step: Box<dyn Step> = match autoencoder.stack() {
        Some(stack) => Box::new(Engine::new(stack, Objective::Reconstruction, rows, params)?),
        None => Box::new(autograd(autoencoder, rows, params)?),
    };
    Steps::new(stage, step, settings.rates(), batches).run(length.epochs, length.steps, observer)
}

/// The same steps by autograd.
pub(super) fn autograd<'a>(
    autoencoder: &'a Autoencoder,
    rows: &'a Rows,
    params: EngineParams,
) -> Result<impl Step + 'a> {
    Autograd::new(autoencoder.parameters(), params.optimiser, rows.device(), move |batch: &Batch| {
        let x = augmented(rows, batch, params)?;
        Ok(autoencoder.forward(&x).f_mse_loss(&x, Reduction::Mean)?)
    })
}
