//! Greedy layer-wise pretraining (Xie et al. 2016, §3.2; Vincent et al. 2010).
//!
//! Layer i is a denoising autoencoder dropout → encoder_i → dropout → decoder_i, trained on the mean squared error to its
//! own, clean input; the next layer trains on the clean code of this one.

use tch::{Kind, Reduction, Tensor};

use super::engine::{step_key, Engine, EngineParams, Objective};
use super::observer::{Observer, Stage};
use super::step::{Autograd, Batch, Step};
use super::steps::{StageRun, Steps};
use crate::backend::dense::{self, Dropout};
use crate::config::PretrainConfig;
use crate::data::{Batches, Rows};
use crate::error::Result;
use crate::model::autoencoder::LayerPair;

/// Epochs a layer that `auto` comes to: the notebook's.
const AUTO_EPOCHS: u64 = 50;

/// Trains the layer `pair` on its input `rows`; returns the number of steps taken.
pub(super) fn train_layer(
    stage: Stage,
    pair: &LayerPair,
    rows: &Rows,
    config: &PretrainConfig,
    run: StageRun,
    observer: &mut dyn Observer,
) -> Result<u64> {
    let batches = Batches::new(rows.n_rows(), config.batch_size, rows.device(), run.seed)?;
    let settings = config.optimisation();
    let params = run.engine(&batches, config.dropout, &settings);
    let step: Box<dyn Step> = match pair.stack() {
        Some(stack) => Box::new(Engine::new(stack, Objective::Reconstruction, rows, params)?),
        None => Box::new(autograd(pair, rows, params)?),
    };
    let epochs = config.epochs.or(|| AUTO_EPOCHS);
    Steps::new(stage, step, settings.rates(), batches).run(epochs, config.steps, observer)
}

/// The same steps by autograd, with the same dropout masks.
pub(super) fn autograd<'a>(pair: &'a LayerPair<'a>, rows: &'a Rows, params: EngineParams) -> Result<impl Step + 'a> {
    let drop = move |x: &Tensor, number: u64, site: u32| -> Result<Tensor> {
        if params.dropout == 0.0 {
            return Ok(x.shallow_clone());
        }
        let key = Tensor::f_full([1], step_key(params.seed, number), (Kind::Int64, x.device()))?;
        let mask = x.f_detach()?.f_ones_like()?;
        dense::dropout(&mask, &mask, Dropout { p: params.dropout, key: &key, site })?;
        Ok(x.f_mul(&mask)?)
    };
    Autograd::new(pair.parameters(), params.optimiser, rows.device(), move |batch: &Batch| {
        let x = augmented(rows, batch, params)?;
        let code = pair.encode(&drop(&x, batch.number, 0)?);
        let reconstruction = pair.decode(&drop(&code, batch.number, 1)?);
        Ok(reconstruction.f_mse_loss(&x, Reduction::Mean)?)
    })
}

/// The batch's rows as the engine would train on them.
pub(super) fn augmented(rows: &Rows, batch: &Batch, params: EngineParams) -> Result<Tensor> {
    let Some(augmentation) = params.augmentation else { return rows.batch(batch.indices) };
    let key = Tensor::f_full([1], step_key(params.seed, batch.number), (Kind::Int64, rows.device()))?;
    let x = Tensor::f_empty([batch.indices.size1()?, rows.n_features()], (Kind::Float, rows.device()))?;
    augmentation.gather(rows, batch.indices, &key, &x)?;
    Ok(x)
}

/// The clean codes of all `rows`, which the next layer trains on.
pub(super) fn codes(pair: &LayerPair, rows: &Rows, width: i64) -> Result<Rows> {
    Ok(Rows::from_tensor(match pair.encoder_stack() {
        Some(stack) => stack.map_rows(rows)?,
        None => rows.map_blocks(width, |x: &Tensor| Ok(pair.encode(x)))?,
    }))
}
