//! The step engine: gradient steps of a stack of dense layers without an autograd graph.
//!
//! Forward, closed backward (mean squared error of the reconstruction, KL(P‖Q) of the latent, or their weighted sum) and the
//! update of SGD with momentum or Adam, over memory that is set aside once. The engine trains the very tensors that the
//! `nn::Sequential` holds, and what it computes is what autograd and the plain optimiser compute, up to rounding
//! (`tests` below, for every stage).
//!
//! # Contract
//!
//! - A step is a function of the parameters, the [optimiser's state](Step::optimiser), the batch's row indices, the learning
//!   rate and the step's number, from which dropout masks and augmentation follow; in self-training also of p. Who saves and
//!   restores these goes on bit for bit.
//! - Processes that train together ([`crate::backend::ranks`]) each compute on their part of the batch, and sum what that gives, one flat
//!   tensor, before the parameters are moved: what is in it from earlier steps (SGD's velocity) is the same in all of them, and a part of it
//!   goes into each sum. Masks and augmentation go by the row's place in the whole batch, so that this is what one process gives.
//! - With SGD a weight's gradient is never held by itself: the product that makes it accumulates into the velocity,
//!   v ← momentum · v + δᵀ a, and then w ← w − rate · v. Adam's gradient lies in a flat tensor of its own.
//! - Nothing waits for the device: losses are summed on it, rates and the key of what is drawn are read from it.

use tch::{no_grad, Device, Kind, TchError, Tensor};

use super::augmentation::Augmentation;
use super::optimiser::{Optimiser, OptimiserState};
use super::replay::Replay;
use super::step::{Batch, Step};
pub use crate::backend::dense::Factors;
use crate::backend::dense::{self, Dropout, Sink};
use crate::backend::precision::{forget_rounded, RoundedOnce};
use crate::backend::ranks::{self, Ranks};
use crate::data::{hash, Rows};
use crate::error::Result;
use crate::model::DenseStack;

/// What a step descends.
#[derive(Debug)]
pub enum Loss {
    /// The mean squared error between the stack's output and its clean input.
    Reconstruction,
    /// `weight` · the clustering loss on the output of the last layer.
    Clustering(ClusteringTerm),
    /// `reconstruction` · mean squared error + `weight` · the clustering loss on the output of a layer before the last.
    Both {
        /// Weight of the mean squared error.
        reconstruction: f64,
        /// The clustering term.
        clustering: ClusteringTerm,
    },
}

impl Loss {
    fn reconstruction(&self) -> Option<f64> {
        match self {
            Self::Reconstruction => Some(1.0),
            Self::Clustering(_) => None,
            Self::Both { reconstruction, .. } => Some(*reconstruction),
        }
    }

    fn clustering(&self) -> Option<&ClusteringTerm> {
        match self {
            Self::Reconstruction => None,
            Self::Clustering(term) | Self::Both { clustering: term, .. } => Some(term),
        }
    }

    /// Whether a stack of `depth` layers can be trained on this.
    fn check(&self, depth: usize) -> Result<()> {
        let fits = match self {
            Self::Reconstruction => true,
            Self::Clustering(term) => term.layer + 1 == depth,
            Self::Both { clustering, .. } => clustering.layer + 1 < depth,
        };
        if fits {
            return Ok(());
        }
        let layer = self.clustering().map_or(0, |term| term.layer);
        Err(TchError::Shape(format!("step engine: layer {layer} of {depth} cannot be the latent of {self:?}")).into())
    }
}

/// What draws the output of one layer towards the centroids.
#[derive(Debug)]
pub struct ClusteringTerm {
    /// The layer whose output is the latent, counted from 0.
    pub layer: usize,
    /// μ \[k, m\].
    pub centroids: Tensor,
    /// p \[n, k\] of all rows. The caller may overwrite it between steps.
    pub p: Tensor,
    /// How.
    pub pull: Pull,
    /// γ, the term's weight in the loss.
    pub weight: f64,
}

/// The loss between latent rows and centroids.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pull {
    /// KL(P‖Q), q by a Student-t kernel with so many degrees of freedom; the centroids are trained too (Xie et al. 2016,
    /// Eq. 2).
    StudentT(f64),
    /// Σ_j p_ij ‖z_i − μ_j‖² / m, the mean over the batch's rows; the centroids stay (Guo et al. 2020, where p is 1 for a
    /// confident row's cluster and 0 elsewhere).
    Squared,
}

impl ClusteringTerm {
    /// The centroids, if they are trained.
    fn trained(&self) -> Option<&Tensor> {
        matches!(self.pull, Pull::StudentT(_)).then_some(&self.centroids)
    }
}

/// Trains a [`DenseStack`]; see the module.
#[derive(Debug)]
pub struct Engine {
    stack: DenseStack,
    loss: Loss,
    rows: Rows,
    /// The probability with which dropout drops a value of each layer's input.
    dropout: f64,
    augmentation: Option<Augmentation>,
    seed: u64,
    factors: Factors,
    /// Of weight and bias of each layer, then of the centroids.
    optimiser: OptimiserState,
    key: Tensor,
    loss_sum: Tensor,
    memory: Memory,
    /// Views of `memory` for the batch size of the last step.
    views: Views,
    replay: Replay,
    ranks: Ranks,
    part: Part,
}

/// What of a batch is computed on here.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Its first row.
    first: i64,
    /// Its share of the batch, which losses are multiplied by.
    portion: f64,
    /// The share of what was accumulated before that goes into the sum over all parts.
    past: f64,
}

impl Part {
    const WHOLE: Self = Self { first: 0, portion: 1.0, past: 1.0 };
}

/// When the parameters are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    /// Each as soon as its gradient is known and its weight has passed the gradient on: both are still in the processor's cache then.
    AtOnce,
    /// All together, by [`Engine::apply`]: once they are summed over processes, and on a GPU, which starts that as one.
    Later,
}

/// What the activations and their gradients are kept in, for the largest batch.
#[derive(Debug)]
struct Memory {
    indices: Tensor,
    input: Tensor,
    corrupted: Option<Tensor>,
    outputs: Vec<Tensor>,
    /// The gradient that a layer is given, and the one that it passes on, by turns.
    deltas: [Tensor; 2],
    latent_delta: Option<Tensor>,
}

/// [`Memory`] as tensors [b, width].
#[derive(Debug)]
struct Views {
    rows: i64,
    indices: Tensor,
    input: Tensor,
    corrupted: Option<Tensor>,
    outputs: Vec<Tensor>,
    /// For each layer the gradient with respect to its output, but for the last: that is in `outputs`, or in
    /// `latent_delta`.
    deltas: Vec<Tensor>,
    latent_delta: Option<Tensor>,
}

/// How an [`Engine`] trains, but for the rate, which comes with each step.
#[derive(Debug, Clone, Copy)]
pub struct EngineParams {
    /// Rows of the largest batch.
    pub batch_size: i64,
    /// The probability with which dropout drops a value of each layer's input, at least 0 and below 1.
    pub dropout: f64,
    /// How the rows are changed at random.
    pub augmentation: Option<Augmentation>,
    /// What turns gradients into steps.
    pub optimiser: Optimiser,
    /// Seed of the dropout masks and of the augmentation.
    pub seed: u64,
    /// What the factors of the step's products are rounded to.
    pub factors: Factors,
    /// On a CUDA device, record the step and start it as a whole ([`crate::backend::cuda`]).
    pub cuda_graphs: bool,
}

impl Engine {
    /// An engine at rest (the optimiser's state 0) that trains `stack` on `rows`.
    ///
    /// # Errors
    /// A loss that does not fit the stack, or a libtorch failure, such as memory for a batch's activations that is not
    /// there.
    pub fn new(stack: DenseStack, loss: Loss, rows: &Rows, params: EngineParams) -> Result<Self> {
        loss.check(stack.layers().len())?;
        if !(0.0..1.0).contains(&params.dropout) {
            return Err(TchError::Shape(format!("step engine: dropout of {}", params.dropout)).into());
        }
        let device = rows.device();
        let float = (Kind::Float, device);
        let centroids = loss.clustering().and_then(ClusteringTerm::trained);
        let parameters: Vec<&Tensor> = stack.parameters().chain(centroids).collect();
        let optimiser = OptimiserState::new(params.optimiser, &parameters)?;

        let (b, ranks) = (params.batch_size, ranks::world());
        let input = || Tensor::f_empty([b * rows.n_features()], float);
        let widths: Vec<i64> = stack.widths().collect();
        let widest = widths.iter().copied().max().unwrap_or(1);
        let memory = Memory {
            indices: Tensor::f_zeros([b], (Kind::Int64, device))?,
            input: input()?,
            corrupted: (params.dropout > 0.0).then(input).transpose()?,
            outputs: widths.iter().map(|width| Tensor::f_empty([b * width], float)).collect::<Result<_, _>>()?,
            deltas: [Tensor::f_empty([b * widest], float)?, Tensor::f_empty([b * widest], float)?],
            latent_delta: loss.clustering().map(|term| Tensor::f_empty([b * widths[term.layer]], float)).transpose()?,
        };
        let views = memory.views(b, rows.n_features(), &widths, &loss)?;
        Ok(Self {
            stack,
            loss,
            rows: rows.shallow_clone(),
            dropout: params.dropout,
            augmentation: params.augmentation,
            seed: params.seed,
            factors: params.factors,
            optimiser,
            key: Tensor::f_zeros([2], (Kind::Int64, device))?,
            loss_sum: Tensor::f_zeros([1], (Kind::Double, device))?,
            memory,
            views,
            // Rows that are read meanwhile are no part of a recording, nor are other processes.
            replay: Replay::new(device, params.cuda_graphs && !rows.is_streamed() && ranks.size() == 1),
            ranks,
            part: Part::WHOLE,
        })
    }

    /// One step with the other processes: the gradient of each one's part of the batch, their sum, then the same update in all.
    fn step_together(&mut self, batch: &Batch, learning_rate: f64) -> Result<()> {
        let before = self.loss_sum()?;
        self.set_loss_sum(0.0)?;
        self.accumulate(batch, self.ranks)?;
        self.ranks.sum(self.optimiser.accumulated())?;
        self.ranks.sum(&self.loss_sum)?;
        self.set_loss_sum(before + self.loss_sum()?)?;
        self.optimiser.begin(learning_rate)?;
        self.apply()
    }

    /// The first half of a step: what the part of the batch that is `ranks`' gives, to be summed over all.
    fn accumulate(&mut self, batch: &Batch, ranks: Ranks) -> Result<()> {
        let b = batch.indices.size1()?;
        let share = ranks.share(b);
        let rows = share.end - share.start;
        let (portion, past) = (rows as f64 / b as f64, 1.0 / ranks.size() as f64);
        self.compute_on(Part { first: share.start, portion, past })?;
        let indices = batch.indices.f_narrow(0, share.start, rows)?;
        self.prepare(&Batch { indices: &indices, number: batch.number })?;
        self.read_part(batch, ranks)?;
        self.compute(Update::Later)
    }

    /// The second half: the parameters are moved.
    fn apply(&self) -> Result<()> {
        let centroids = self.loss.clustering().and_then(ClusteringTerm::trained);
        self.optimiser.update(&self.stack.parameters().chain(centroids).collect::<Vec<_>>(), 0)
    }

    /// From now on of each batch on this part.
    fn compute_on(&mut self, part: Part) -> Result<()> {
        if part.first != self.part.first {
            let _ = self.key.f_narrow(0, 1, 1)?.f_fill_(part.first)?;
        }
        self.part = part;
        Ok(())
    }

    /// Writes down what the step depends on besides parameters and the optimiser's state.
    fn prepare(&mut self, batch: &Batch) -> Result<()> {
        let b = batch.indices.size1()?;
        if b != self.views.rows {
            let widths: Vec<i64> = self.stack.widths().collect();
            self.views = self.memory.views(b, self.rows.n_features(), &widths, &self.loss)?;
        }
        if self.dropout > 0.0 || self.augmentation.is_some() {
            // Filled, and not copied to: a device need not be waited for.
            let _ = self.key.f_narrow(0, 0, 1)?.f_fill_(step_key(self.seed, batch.number))?;
        }
        Ok(self.views.indices.f_copy_(batch.indices)?)
    }

    /// The rows that `views.indices` names, changed as `key` has it.
    fn read(&self) -> Result<()> {
        self.read_from(&self.rows, &self.views.indices)
    }

    /// The same where they are the part of the batch `whole` that is `ranks`'. Where a row may have a patch of any other, all of the batch is
    /// changed, and the part taken.
    fn read_part(&self, whole: &Batch, ranks: Ranks) -> Result<()> {
        let Some(augmentation) = self.augmentation.filter(Augmentation::has_patches) else {
            let (rows, places) = self.rows.part(whole.indices, ranks)?;
            return self.read_from(&rows, &places);
        };
        let Views { rows, input, .. } = &self.views;
        let all = Tensor::f_empty([whole.indices.size1()?, self.rows.n_features()], (Kind::Float, input.device()))?;
        let key = key(self.seed, whole.number, 0)?.f_to_device(input.device())?;
        augmentation.gather(&self.rows, whole.indices, &key, &all)?;
        Ok(input.shallow_clone().f_copy_(&all.f_narrow(0, self.part.first, *rows)?)?)
    }

    fn read_from(&self, rows: &Rows, indices: &Tensor) -> Result<()> {
        match &self.augmentation {
            None => rows.gather(indices, &self.views.input),
            Some(augmentation) => augmentation.gather(rows, indices, &self.key, &self.views.input),
        }
    }

    /// The step of the batch that was read, with the dropout masks of `key`.
    fn compute(&self, update: Update) -> Result<()> {
        // A weight is a factor twice, then updated; an activation or a gradient likewise, then written by a product or in the next step.
        let _once = (self.factors == Factors::Bf16).then(RoundedOnce::new);
        self.forward()?;
        self.backward(update)
    }

    fn forward(&self) -> Result<()> {
        let views = &self.views;
        let mut x = &views.input;
        if let Some(corrupted) = &views.corrupted {
            dense::dropout(x, corrupted, self.mask(0))?;
            x = corrupted;
        }
        let last = self.stack.layers().len() - 1;
        for (i, (layer, y)) in self.stack.layers().iter().zip(&views.outputs).enumerate() {
            if i == last && self.loss.reconstruction().is_some() {
                // Its bias and activation belong to the loss.
                dense::product(y, x, &layer.weight.f_tr()?, 0.0, self.factors)?;
            } else {
                let dropout = (self.dropout > 0.0 && i != last).then(|| self.mask(i + 1));
                dense::layer(y, x, &layer.weight, &layer.bias, layer.relu, dropout, self.factors)?;
            }
            x = y;
        }
        Ok(())
    }

    /// Gradients to where the optimiser wants them.
    fn backward(&self, update: Update) -> Result<()> {
        let Views { indices, input, corrupted, outputs, latent_delta, .. } = &self.views;
        let layers = self.stack.layers();
        let last = layers.len() - 1;
        let bias_sink = |layer: usize| self.sink(2 * layer + 1);

        if let (Some(term), Some(dz)) = (self.loss.clustering(), latent_delta) {
            let ClusteringTerm { layer, centroids, p, pull, weight } = term;
            let z = &outputs[*layer];
            match *pull {
                Pull::StudentT(alpha) => {
                    let (place, sum) = (2 * layers.len(), &self.loss_sum);
                    let (sink, weight) = (self.sink(place), *weight * self.part.portion);
                    dense::kl_divergence(z, centroids, p, indices, alpha, weight, dz, sink, sum)?;
                    if update == Update::AtOnce {
                        self.optimiser.update(&[centroids], place)?;
                    }
                }
                Pull::Squared => {
                    let weight = *weight * self.part.portion;
                    dense::squared_distance(z, centroids, p, indices, weight, dz, &self.loss_sum)?;
                }
            }
        }
        let mut delta = match (self.loss.reconstruction(), latent_delta) {
            (Some(weight), _) => {
                let (y, layer) = (&outputs[last], &layers[last]);
                let (sink, weight) = (bias_sink(last), weight * self.part.portion);
                dense::mean_squared_error(y, &layer.bias, layer.relu, input, weight, sink, &self.loss_sum)?;
                y
            }
            (None, Some(dz)) => {
                dense::activate_backward(dz, &outputs[last], layers[last].relu, None, bias_sink(last))?;
                dz
            }
            (None, None) => return Ok(()),
        };
        for (i, layer) in layers.iter().enumerate().rev() {
            // Nobody asks for the rows' gradient.
            let next = match i.checked_sub(1) {
                Some(below) => Some(self.pass_on(delta, below)?),
                None => None,
            };
            let x = if i == 0 { corrupted.as_ref().unwrap_or(input) } else { &outputs[i - 1] };
            let sink = self.sink(2 * i);
            dense::product(sink.tensor, &delta.f_tr()?, x, sink.keep, self.factors)?;
            if update == Update::AtOnce {
                self.optimiser.update(&[&layer.weight, &layer.bias], 2 * i)?;
            }
            delta = next.unwrap_or(delta);
        }
        Ok(())
    }

    /// From the gradient before the activation of the layer above to that of `layer`, with the gradient of its bias.
    fn pass_on(&self, delta: &Tensor, layer: usize) -> Result<&Tensor> {
        let Views { outputs, deltas, latent_delta, .. } = &self.views;
        let layers = self.stack.layers();
        let next = &deltas[layer];
        dense::product(next, delta, &layers[layer + 1].weight, 0.0, self.factors)?;
        if let (Some(term), Some(dz)) = (self.loss.clustering(), latent_delta) {
            if term.layer == layer {
                let _ = next.shallow_clone().f_add_(dz)?;
            }
        }
        let dropout = (self.dropout > 0.0).then(|| self.mask(layer + 1));
        let sink = self.sink(2 * layer + 1);
        dense::activate_backward(next, &outputs[layer], layers[layer].relu, dropout, sink)?;
        Ok(next)
    }

    /// Where the gradient of the parameter at `place` goes.
    fn sink(&self, place: usize) -> Sink<'_> {
        let Sink { tensor, keep } = self.optimiser.sink(place);
        Sink { tensor, keep: keep * self.part.past }
    }

    /// The mask on the input of `layer`.
    fn mask(&self, layer: usize) -> Dropout<'_> {
        Dropout { p: self.dropout, key: &self.key, site: layer as u32 }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.factors == Factors::Bf16 {
            forget_rounded();
        }
    }
}

impl Step for Engine {
    fn step(&mut self, batch: &Batch, learning_rate: f64) -> Result<()> {
        // Of fewer rows than ranks each computes all.
        if self.ranks.size() > 1 && batch.indices.size1()? >= self.ranks.size() as i64 {
            return no_grad(|| self.step_together(batch, learning_rate));
        }
        no_grad(|| {
            self.compute_on(Part::WHOLE)?;
            self.prepare(batch)?;
            self.optimiser.begin(learning_rate)?;
            let mut replay = std::mem::take(&mut self.replay);
            let done = replay.step(self.views.rows, || {
                self.read()?;
                match self.rows.device() {
                    Device::Cpu => self.compute(Update::AtOnce),
                    _ => self.compute(Update::Later).and_then(|()| self.apply()),
                }
            });
            self.replay = replay;
            done
        })
    }

    fn parameters(&self) -> Vec<Tensor> {
        let centroids = self.loss.clustering().and_then(ClusteringTerm::trained);
        self.stack.parameters().chain(centroids).map(Tensor::shallow_clone).collect()
    }

    fn optimiser(&self) -> &OptimiserState {
        &self.optimiser
    }

    fn optimiser_mut(&mut self) -> &mut OptimiserState {
        &mut self.optimiser
    }

    fn losses(&self) -> &Tensor {
        &self.loss_sum
    }
}

impl Memory {
    fn views(&self, b: i64, n_features: i64, widths: &[i64], loss: &Loss) -> Result<Views> {
        let view = |memory: &Tensor, width: i64| -> Result<Tensor> {
            Ok(memory.f_narrow(0, 0, b * width)?.f_view([b, width])?)
        };
        let last = widths.len() - 1;
        let latent = loss.clustering().map(|term| widths[term.layer]);
        Ok(Views {
            rows: b,
            indices: self.indices.f_narrow(0, 0, b)?,
            input: view(&self.input, n_features)?,
            corrupted: self.corrupted.as_ref().map(|memory| view(memory, n_features)).transpose()?,
            outputs: self
                .outputs
                .iter()
                .zip(widths)
                .map(|(memory, &width)| view(memory, width))
                .collect::<Result<_>>()?,
            deltas: (0..last).map(|i| view(&self.deltas[i % 2], widths[i])).collect::<Result<_>>()?,
            latent_delta: self.latent_delta.as_ref().zip(latent).map(|(memory, m)| view(memory, m)).transpose()?,
        })
    }
}

/// The key of what a step draws, dropout masks and augmentation, for rows that begin with the `first` of the batch: int64 \[2\] on the CPU.
///
/// # Errors
/// A libtorch failure.
pub(crate) fn key(seed: u64, step: u64, first: i64) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&[step_key(seed, step), first])?)
}

/// The seed is that of the batches too, so that the key is hashed apart from their seeds.
fn step_key(seed: u64, step: u64) -> i64 {
    const DROPOUT: u64 = 0x6472_6f70_6f75_7421; // "dropout!"
    hash(hash(seed ^ DROPOUT) ^ hash(step + 1)) as i64
}

#[cfg(test)]
mod tests;
