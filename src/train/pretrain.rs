//! Greedy layer-wise pretraining (Xie et al. 2016, §3.2; Vincent et al. 2010).
//!
//! Layer i is a denoising autoencoder dropout → encoder_i → dropout → decoder_i, trained on the mean squared error to its
//! own, clean input; the next layer trains on the clean code of this one.

use tch::{Reduction, Tensor};

use super::observer::{Observer, Stage};
use super::optimiser::Sgd;
use super::steps::Steps;
use crate::config::PretrainConfig;
use crate::data::{Batches, Rows};
use crate::error::Result;
use crate::model::autoencoder::LayerPair;

/// Trains the layer `pair` on its input `rows`; returns the number of steps taken.
pub(super) fn train_layer(
    stage: Stage,
    pair: &LayerPair,
    rows: &Rows,
    config: &PretrainConfig,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<u64> {
    tch::manual_seed(seed as i64); // of the dropout masks
    let device = rows.device();
    let batches = Batches::new(rows.n_rows(), config.batch_size, device, seed)?;
    let optimiser = Sgd::new(pair.parameters(), config.momentum)?;
    let mut steps = Steps::new(stage, optimiser, config.schedule(), batches, device);
    let count = config.steps.unwrap_or(config.epochs.saturating_mul(steps.per_epoch()));
    observer.on_event(&super::Event::StageStarted { stage, steps: count });
    steps.train(count, observer, |indices| {
        let x = rows.batch(indices)?;
        let code = pair.encode(&x.f_dropout(config.dropout, true)?);
        let reconstruction = pair.decode(&code.f_dropout(config.dropout, true)?);
        Ok(reconstruction.f_mse_loss(&x, Reduction::Mean)?)
    })?;
    steps.finish(observer)?;
    Ok(steps.done())
}

/// The clean codes of all `rows`, which the next layer trains on.
pub(super) fn codes(pair: &LayerPair, rows: &Rows, width: i64) -> Result<Rows> {
    Ok(Rows::from_tensor(rows.map_blocks(width, |x: &Tensor| Ok(pair.encode(x)))?))
}
