//! The steps for each loss: by the engine where the network is a stack of dense layers, by autograd where not. Both train on
//! the same batches, masks and rates (the tests of [`super::engine`] compare them).

use tch::{Kind, Reduction, Tensor};

use super::engine::{key, ClusteringTerm, Engine, EngineParams, Loss, Pull};
use super::step::{Autograd, Batch, Step};
use crate::backend::dense::{self, Dropout};
use crate::data::Rows;
use crate::error::Result;
use crate::model::assignment::kl_divergence;
use crate::model::{ClusteringLayer, LayerPair, Network};

/// What a clustering step descends besides its table p.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// How latent rows and centroids attract each other.
    pub pull: Pull,
    /// Weight of the clustering loss.
    pub weight: f64,
    /// Whether the mean squared error of the reconstruction is added, with weight 1.
    pub reconstructs: bool,
}

/// Steps of a denoising layer (Vincent et al. 2010) on its clean input `rows`.
///
/// # Errors
/// A libtorch failure (out of memory, say).
pub fn layer(pair: LayerPair, rows: &Rows, params: EngineParams) -> Result<Box<dyn Step>> {
    Ok(match pair.stack() {
        Some(stack) => Box::new(Engine::new(stack, Loss::Reconstruction, rows, params)?),
        None => Box::new(layer_by_autograd(pair, rows, params)?),
    })
}

/// Steps of the whole autoencoder on the mean squared error.
///
/// # Errors
/// A libtorch failure (out of memory, say).
pub fn reconstruction(network: &dyn Network, rows: &Rows, params: EngineParams) -> Result<Box<dyn Step>> {
    Ok(match network.stack() {
        Some(stack) => Box::new(Engine::new(stack, Loss::Reconstruction, rows, params)?),
        None => Box::new(reconstruction_by_autograd(network, rows, params)?),
    })
}

/// Steps of the encoder (the whole network where it reconstructs too) and the centroids towards the rows of `p` \[n, k\].
///
/// # Errors
/// A libtorch failure (out of memory, say).
pub fn clustering(
    network: &dyn Network,
    layer: &ClusteringLayer,
    p: &Tensor,
    term: Term,
    rows: &Rows,
    params: EngineParams,
) -> Result<Box<dyn Step>> {
    let encoder = network.encoder_stack();
    let latent = encoder.as_ref().map_or(0, |stack| stack.layers().len() - 1);
    let stack = if term.reconstructs { network.stack() } else { encoder };
    Ok(match stack {
        Some(stack) => {
            let clustering = ClusteringTerm {
                layer: latent,
                centroids: layer.centroids().shallow_clone(),
                p: p.shallow_clone(),
                pull: term.pull,
                weight: term.weight,
            };
            let loss = match term.reconstructs {
                true => Loss::Both { reconstruction: 1.0, clustering },
                false => Loss::Clustering(clustering),
            };
            Box::new(Engine::new(stack, loss, rows, params)?)
        }
        None => Box::new(clustering_by_autograd(network, layer, p, term, rows, params)?),
    })
}

pub(super) fn layer_by_autograd(pair: LayerPair, rows: &Rows, params: EngineParams) -> Result<impl Step> {
    let drop = move |x: &Tensor, number: u64, site: u32| -> Result<Tensor> {
        if params.dropout == 0.0 {
            return Ok(x.shallow_clone());
        }
        let key = key(params.seed, number, 0)?.f_to_device(x.device())?;
        let mask = x.f_detach()?.f_ones_like()?;
        dense::dropout(&mask, &mask, Dropout { p: params.dropout, key: &key, site })?;
        Ok(x.f_mul(&mask)?)
    };
    let rows = rows.shallow_clone();
    Autograd::new(pair.parameters(), params.optimiser, rows.device(), move |batch: &Batch| {
        let x = augmented(&rows, batch, params)?;
        let code = pair.encode(&drop(&x, batch.number, 0)?);
        let reconstruction = pair.decode(&drop(&code, batch.number, 1)?);
        Ok(reconstruction.f_mse_loss(&x, Reduction::Mean)?)
    })
}

pub(super) fn reconstruction_by_autograd(
    network: &dyn Network,
    rows: &Rows,
    params: EngineParams,
) -> Result<impl Step> {
    let (network, rows) = (network.share(), rows.shallow_clone());
    Autograd::new(network.parameters(), params.optimiser, rows.device(), move |batch: &Batch| {
        let x = augmented(&rows, batch, params)?;
        Ok(network.decode(&network.encode(&x)?)?.f_mse_loss(&x, Reduction::Mean)?)
    })
}

pub(super) fn clustering_by_autograd(
    network: &dyn Network,
    layer: &ClusteringLayer,
    p: &Tensor,
    term: Term,
    rows: &Rows,
    params: EngineParams,
) -> Result<impl Step> {
    let mut parameters = if term.reconstructs { network.parameters() } else { network.encoder_parameters() };
    if matches!(term.pull, Pull::StudentT(_)) {
        parameters.push(layer.centroids().shallow_clone());
    }
    let (network, layer, p, rows) = (network.share(), layer.share(), p.shallow_clone(), rows.shallow_clone());
    Autograd::new(parameters, params.optimiser, rows.device(), move |batch: &Batch| {
        let x = augmented(&rows, batch, params)?;
        let z = network.encode(&x)?;
        let p = p.f_index_select(0, batch.indices)?;
        let clustering = match term.pull {
            Pull::StudentT(_) => kl_divergence(&p, &layer.log_soft_assignment(&z)?)?,
            Pull::Squared => {
                let centroids = layer.centroids().f_detach()?;
                let difference = z.f_unsqueeze(1)?.f_sub(&centroids.f_unsqueeze(0)?)?;
                let squares = difference.f_square()?.f_mul(&p.f_unsqueeze(-1)?)?;
                squares.f_sum_dim_intlist(1, false, None)?.f_mean(None)?
            }
        };
        let clustering = clustering.f_mul_scalar(term.weight)?;
        if !term.reconstructs {
            return Ok(clustering);
        }
        Ok(network.decode(&z)?.f_mse_loss(&x, Reduction::Mean)?.f_add(&clustering)?)
    })
}

/// The batch's rows as the engine would train on them.
fn augmented(rows: &Rows, batch: &Batch, params: EngineParams) -> Result<Tensor> {
    let Some(augmentation) = params.augmentation else { return rows.batch(batch.indices) };
    let key = key(params.seed, batch.number, 0)?.f_to_device(rows.device())?;
    let x = Tensor::f_empty([batch.indices.size1()?, rows.n_features()], (Kind::Float, rows.device()))?;
    augmentation.gather(rows, batch.indices, &key, &x)?;
    Ok(x)
}

/// The clean codes of all `rows`, which the next layer trains on; divided among processes that work together.
///
/// # Errors
/// A libtorch failure (out of memory, say), or [`crate::Error::Interrupted`].
pub fn codes(pair: &LayerPair, rows: &Rows, width: i64, control: &crate::control::Control) -> Result<Rows> {
    match pair.encoder_stack() {
        Some(stack) => Ok(Rows::of_own(stack.map_own(rows, control)?, rows.n_rows(), control.ranks())),
        None => Ok(Rows::from_tensor(rows.map_blocks(width, |x: &Tensor| {
            control.check()?;
            Ok(pair.encode(x))
        })?)),
    }
}
