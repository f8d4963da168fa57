//! The step engine: gradient steps of a stack of dense layers without an autograd graph.
//!
//! Forward, closed backward (mean squared error of the reconstruction, KL(P‖Q) of the latent, or their weighted sum) and the
//! update of SGD with momentum or Adam, over memory that is set aside once. The engine trains the very tensors that the
//! `nn::Sequential` holds, and what it computes is what autograd and the plain optimiser compute, up to rounding
//! (`tests` below, for every stage).
//!
//! # Contract
//!
//! - A step is a function of the parameters, the [optimiser's state](Engine::optimiser), the batch's row indices, the learning
//!   rate and the step's number, from which dropout masks and augmentation follow; in self-training also of p. Who saves and
//!   restores these goes on bit for bit.
//! - [`Engine::accumulate`] and [`Engine::apply`] are the two halves of a step. Between them, processes that hold equal
//!   parts of a batch take the mean of [`Engine::accumulated`], one flat tensor: what is in it from earlier steps (SGD's
//!   velocity) is the same in all of them, so that this is what the whole batch gives. (A mask goes by the place in the
//!   batch that the engine is given: with dropout or augmentation, give the processes seeds of their own.)
//! - With SGD a weight's gradient is never held by itself: the product that makes it accumulates into the velocity,
//!   v ← momentum · v + δᵀ a, and then w ← w − rate · v. Adam's gradient lies in a flat tensor of its own.
//! - Nothing waits for the device: losses are summed on it, rates and the key of what is drawn are read from it.

use tch::{no_grad, Kind, TchError, Tensor};

use super::augmentation::Augmentation;
use super::optimiser::{Optimiser, OptimiserState};
use super::replay::Replay;
use super::step::{Batch, Step};
use crate::backend::dense::{self, Dropout};
use crate::data::{hash, Rows};
use crate::error::Result;
use crate::model::DenseStack;

/// What a step descends.
#[derive(Debug)]
pub enum Objective {
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

impl Objective {
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
pub struct Engine<'a> {
    stack: DenseStack,
    objective: Objective,
    rows: &'a Rows,
    /// The probability with which dropout drops a value of each layer's input.
    dropout: f64,
    augmentation: Option<Augmentation>,
    seed: u64,
    /// Of weight and bias of each layer, then of the centroids.
    optimiser: OptimiserState,
    key: Tensor,
    loss_sum: Tensor,
    memory: Memory,
    /// Views of `memory` for the batch size of the last step.
    views: Views,
    replay: Replay,
}

/// When the parameters are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Update {
    /// Each as soon as its gradient is known and its weight has passed the gradient on: both are still in the cache then.
    AtOnce,
    /// By [`Engine::apply`].
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
    /// On a CUDA device, record the step and start it as a whole ([`crate::backend::cuda`]).
    pub cuda_graphs: bool,
}

impl<'a> Engine<'a> {
    /// An engine at rest (the optimiser's state 0) that trains `stack` on `rows`.
    ///
    /// # Errors
    /// An objective that does not fit the stack, or a libtorch failure, such as memory for a batch's activations that is not
    /// there.
    pub fn new(stack: DenseStack, objective: Objective, rows: &'a Rows, params: EngineParams) -> Result<Self> {
        objective.check(stack.layers().len())?;
        if !(0.0..1.0).contains(&params.dropout) {
            return Err(TchError::Shape(format!("step engine: dropout of {}", params.dropout)).into());
        }
        let device = rows.device();
        let float = (Kind::Float, device);
        let centroids = objective.clustering().and_then(ClusteringTerm::trained);
        let parameters: Vec<&Tensor> = stack.parameters().chain(centroids).collect();
        let optimiser = OptimiserState::new(params.optimiser, &parameters)?;

        let b = params.batch_size;
        let input = || Tensor::f_empty([b * rows.n_features()], float);
        let widths: Vec<i64> = stack.widths().collect();
        let widest = widths.iter().copied().max().unwrap_or(1);
        let memory = Memory {
            indices: Tensor::f_zeros([b], (Kind::Int64, device))?,
            input: input()?,
            corrupted: (params.dropout > 0.0).then(input).transpose()?,
            outputs: widths.iter().map(|width| Tensor::f_empty([b * width], float)).collect::<Result<_, _>>()?,
            deltas: [Tensor::f_empty([b * widest], float)?, Tensor::f_empty([b * widest], float)?],
            latent_delta: objective
                .clustering()
                .map(|term| Tensor::f_empty([b * widths[term.layer]], float))
                .transpose()?,
        };
        let views = memory.views(b, rows.n_features(), &widths, &objective)?;
        Ok(Self {
            stack,
            objective,
            rows,
            dropout: params.dropout,
            augmentation: params.augmentation,
            seed: params.seed,
            optimiser,
            key: Tensor::f_zeros([1], (Kind::Int64, device))?,
            loss_sum: Tensor::f_zeros([1], (Kind::Double, device))?,
            memory,
            views,
            replay: Replay::new(device, params.cuda_graphs),
        })
    }

    /// The optimiser's state; with the parameters and the step's number the whole state of the training.
    pub fn optimiser(&self) -> &OptimiserState {
        &self.optimiser
    }

    /// The same, to restore it.
    pub fn optimiser_mut(&mut self) -> &mut OptimiserState {
        &mut self.optimiser
    }

    /// What [`Engine::accumulate`] has come to, flat: SGD's velocity, or Adam's gradient.
    pub fn accumulated(&self) -> &Tensor {
        self.optimiser.accumulated()
    }

    /// The first half of a step: the batch's gradient into [`Engine::accumulated`], and its loss into the sum.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn accumulate(&mut self, batch: &Batch) -> Result<()> {
        no_grad(|| {
            self.prepare(batch)?;
            self.compute(Update::Later)
        })
    }

    /// The second half of a step: the parameters are moved.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn apply(&mut self, learning_rate: f64) -> Result<()> {
        no_grad(|| {
            self.optimiser.begin(learning_rate)?;
            let centroids = self.objective.clustering().and_then(ClusteringTerm::trained);
            for (place, parameter) in self.stack.parameters().chain(centroids).enumerate() {
                self.optimiser.update(parameter, place)?;
            }
            Ok(())
        })
    }

    /// Writes down what the step depends on besides parameters and the optimiser's state.
    fn prepare(&mut self, batch: &Batch) -> Result<()> {
        let b = batch.indices.size1()?;
        if b != self.views.rows {
            let widths: Vec<i64> = self.stack.widths().collect();
            self.views = self.memory.views(b, self.rows.n_features(), &widths, &self.objective)?;
        }
        if self.dropout > 0.0 || self.augmentation.is_some() {
            let _ = self.key.f_fill_(step_key(self.seed, batch.number))?;
        }
        Ok(self.views.indices.f_copy_(batch.indices)?)
    }

    /// The step of the batch that `views.indices` names, with the dropout masks and the augmentation of `key`.
    fn compute(&self, update: Update) -> Result<()> {
        let Views { indices, input, .. } = &self.views;
        match &self.augmentation {
            None => self.rows.gather(indices, input)?,
            Some(augmentation) => augmentation.gather(self.rows, indices, &self.key, input)?,
        }
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
            dense::product(y, x, &layer.weight.f_tr()?, 0.0)?;
            // The reconstruction's bias and activation belong to its loss.
            if i != last || self.objective.reconstruction().is_none() {
                let dropout = (self.dropout > 0.0 && i != last).then(|| self.mask(i + 1));
                dense::activate(y, &layer.bias, layer.relu, dropout)?;
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
        let bias_sink = |layer: usize| self.optimiser.sink(2 * layer + 1);

        if let (Some(term), Some(dz)) = (self.objective.clustering(), latent_delta) {
            let ClusteringTerm { layer, centroids, p, pull, weight } = term;
            let z = &outputs[*layer];
            match *pull {
                Pull::StudentT(alpha) => {
                    let (place, sum) = (2 * layers.len(), &self.loss_sum);
                    let sink = self.optimiser.sink(place);
                    dense::kl_divergence(z, centroids, p, indices, alpha, *weight, dz, sink, sum)?;
                    if update == Update::AtOnce {
                        self.optimiser.update(centroids, place)?;
                    }
                }
                Pull::Squared => dense::squared_distance(z, centroids, p, indices, *weight, dz, &self.loss_sum)?,
            }
        }
        let mut delta = match (self.objective.reconstruction(), latent_delta) {
            (Some(weight), _) => {
                let (y, layer) = (&outputs[last], &layers[last]);
                let sink = bias_sink(last);
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
            let sink = self.optimiser.sink(2 * i);
            dense::product(sink.tensor, &delta.f_tr()?, x, sink.keep)?;
            if update == Update::AtOnce {
                self.optimiser.update(&layer.weight, 2 * i)?;
                self.optimiser.update(&layer.bias, 2 * i + 1)?;
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
        dense::product(next, delta, &layers[layer + 1].weight, 0.0)?;
        if let (Some(term), Some(dz)) = (self.objective.clustering(), latent_delta) {
            if term.layer == layer {
                let _ = next.shallow_clone().f_add_(dz)?;
            }
        }
        let dropout = (self.dropout > 0.0).then(|| self.mask(layer + 1));
        let sink = self.optimiser.sink(2 * layer + 1);
        dense::activate_backward(next, &outputs[layer], layers[layer].relu, dropout, sink)?;
        Ok(next)
    }

    /// The mask on the input of `layer`.
    fn mask(&self, layer: usize) -> Dropout<'_> {
        Dropout { p: self.dropout, key: &self.key, site: layer as u32 }
    }
}

impl Step for Engine<'_> {
    fn step(&mut self, batch: &Batch, learning_rate: f64) -> Result<()> {
        no_grad(|| {
            self.prepare(batch)?;
            self.optimiser.begin(learning_rate)?;
            let mut replay = std::mem::take(&mut self.replay);
            let done = replay.step(self.views.rows, || self.compute(Update::AtOnce));
            self.replay = replay;
            done
        })
    }

    fn reset_momentum(&mut self) -> Result<()> {
        self.optimiser.reset()
    }

    fn take_loss(&mut self) -> Result<f64> {
        let sum = f64::try_from(&self.loss_sum)?;
        let _ = self.loss_sum.f_zero_()?;
        Ok(sum)
    }
}

impl Memory {
    fn views(&self, b: i64, n_features: i64, widths: &[i64], objective: &Objective) -> Result<Views> {
        let view = |memory: &Tensor, width: i64| -> Result<Tensor> {
            Ok(memory.f_narrow(0, 0, b * width)?.f_view([b, width])?)
        };
        let last = widths.len() - 1;
        let latent = objective.clustering().map(|term| widths[term.layer]);
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

/// The key of what a step draws: dropout masks, augmentation. The seed is that of the batches too, so that the key is hashed apart from their seeds.
pub(super) fn step_key(seed: u64, step: u64) -> i64 {
    const DROPOUT: u64 = 0x6472_6f70_6f75_7421; // "dropout!"
    hash(hash(seed ^ DROPOUT) ^ hash(step + 1)) as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::{Batches, Features};
    use crate::model::autoencoder::Activation;
    use crate::model::clustering::{cluster_frequency, kl_divergence, soft_assignment, target_distribution};
    use crate::model::{Autoencoder, ClusteringLayer, Init};
    use crate::train::step::Autograd;
    use crate::train::{cluster, finetune, pretrain};
    use ndarray::Array2;
    use tch::{Device, Reduction};

    const WIDTHS: [i64; 5] = [20, 16, 130, 24, 3];
    const RATE: f64 = 0.1;
    const SGD: Optimiser = Optimiser::Sgd { momentum: 0.9, decay: 0.0 };

    fn bytes() -> Rows {
        let values = Array2::from_shape_fn((70, 20), |(i, j)| ((i * i * 7 + j * 31 + i * j) % 256) as u8);
        Rows::new(&Features::U8(values), 1.0 / 128.0, Device::Cpu).unwrap()
    }

    fn network() -> Autoencoder {
        let autoencoder = Autoencoder::new(&WIDTHS, Device::Cpu, Init::Normal(0.3)).unwrap();
        // Not from libtorch's generator: tests that run beside this one draw from it too, and two networks are to be the same.
        for (place, parameter) in autoencoder.parameters().iter().enumerate().filter(|(_, p)| p.dim() == 2) {
            let value =
                |i: usize| (crate::data::hash((place << 32 | i) as u64) >> 40) as f32 / (1 << 24) as f32 * 0.8 - 0.4;
            let values: Vec<f32> = (0..parameter.numel()).map(value).collect();
            tch::no_grad(|| parameter.shallow_clone().copy_(&Tensor::from_slice(&values).view_as(parameter)));
        }
        autoencoder
    }

    fn params(dropout: f64) -> EngineParams {
        EngineParams { batch_size: 32, dropout, augmentation: None, optimiser: SGD, seed: 11, cuda_graphs: false }
    }

    /// Steps over shuffled batches, every third of them a small one; returns the sum of the losses.
    fn train(step: &mut dyn Step, numbers: std::ops::Range<u64>, rate: f64) -> f64 {
        let mut batches = Batches::new(70, 32, Device::Cpu, 3).unwrap();
        batches.seek(numbers.start).unwrap();
        for number in numbers {
            let indices = batches.next_batch().unwrap();
            step.step(&Batch { indices: &indices, number }, rate).unwrap();
        }
        step.take_loss().unwrap()
    }

    fn copies(parameters: &[Tensor]) -> Vec<Tensor> {
        parameters.iter().map(|p| p.detach().copy()).collect()
    }

    fn largest_difference(a: &[Tensor], b: &[Tensor]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a.detach() - b.detach()).abs().max().double_value(&[])).fold(0.0, f64::max)
    }

    /// 50 steps of each from the same start: the same losses and the same weights, and those have moved.
    fn assert_equal_training(
        parameters: &[Tensor],
        engine: &mut dyn Step,
        reference_parameters: &[Tensor],
        reference: &mut dyn Step,
        rate: f64,
    ) {
        let start = copies(parameters);
        assert_eq!(largest_difference(&start, reference_parameters), 0.0);
        let (loss, expected) = (train(engine, 0..50, rate), train(reference, 0..50, rate));
        assert!((loss - expected).abs() < 1e-4 * expected.abs(), "losses {loss} and {expected}");
        assert!(largest_difference(&start, parameters) > 1e-2, "nothing was trained");
        let difference = largest_difference(parameters, reference_parameters);
        assert!(difference < 1e-5, "weights differ by {difference}");
    }

    #[test]
    fn pretraining_is_what_autograd_computes_with_the_same_dropout_masks() {
        let rows = bytes();
        let (ours, theirs) = (network(), network());
        for depth in 0..ours.depth() {
            let input = match depth {
                0 => rows.shallow_clone(),
                _ => {
                    let width = ours.pair(depth).parameters()[0].size()[1];
                    let codes = Tensor::randn([70, width], (Kind::Float, Device::Cpu)).relu();
                    Rows::from_tensor(codes)
                }
            };
            let (pair, reference) = (ours.pair(depth), theirs.pair(depth));
            let objective = Objective::Reconstruction;
            let mut engine = Engine::new(pair.stack().unwrap(), objective, &input, params(0.2)).unwrap();
            let mut autograd = pretrain::autograd(&reference, &input, params(0.2)).unwrap();
            assert_equal_training(&pair.parameters(), &mut engine, &reference.parameters(), &mut autograd, RATE);
        }
    }

    #[test]
    fn fine_tuning_is_what_autograd_computes() {
        let rows = bytes();
        let (ours, theirs) = (network(), network());
        let objective = Objective::Reconstruction;
        let mut engine = Engine::new(ours.stack().unwrap(), objective, &rows, params(0.0)).unwrap();
        let mut autograd = finetune::autograd(&theirs, &rows, params(0.0)).unwrap();
        assert_equal_training(&ours.parameters(), &mut engine, &theirs.parameters(), &mut autograd, RATE);
    }

    /// Centroids on four of the rows' codes, and the targets around them.
    fn clustering(net: &Autoencoder, rows: &Rows, alpha: f64) -> (ClusteringLayer, Tensor) {
        let z = no_grad(|| net.encode(&rows.to_tensor().unwrap()));
        let layer = ClusteringLayer::new(&z.narrow(0, 3, 4), alpha).unwrap();
        let q = no_grad(|| soft_assignment(&z, layer.centroids(), alpha)).unwrap();
        let p = target_distribution(&q, &cluster_frequency(&q).unwrap()).unwrap();
        (layer, p)
    }

    #[test]
    fn self_training_is_what_autograd_computes() {
        for alpha in [1.0, 2.5] {
            let rows = bytes();
            let (ours, theirs) = (network(), network());
            let ((layer, p), (reference, _)) = (clustering(&ours, &rows, alpha), clustering(&theirs, &rows, alpha));
            let centroids = layer.centroids().shallow_clone();
            let term =
                ClusteringTerm { layer: 3, centroids, p: p.shallow_clone(), pull: Pull::StudentT(alpha), weight: 1.0 };
            let objective = Objective::Clustering(term);
            let loss = cluster::Loss { pull: Pull::StudentT(alpha), weight: 1.0, reconstructs: false };
            let mut engine = Engine::new(ours.encoder_stack().unwrap(), objective, &rows, params(0.0)).unwrap();
            let mut autograd = cluster::autograd(&theirs, &reference, &rows, &p, loss, params(0.0)).unwrap();
            let with_centroids = |net: &Autoencoder, layer: &ClusteringLayer| {
                let mut all = net.encoder_parameters();
                all.push(layer.centroids().shallow_clone());
                all
            };
            assert_equal_training(
                &with_centroids(&ours, &layer),
                &mut engine,
                &with_centroids(&theirs, &reference),
                &mut autograd,
                0.02, // faster, and rounding decides on which side of ReLU's kink some units end
            );
        }
    }

    #[test]
    fn reconstruction_and_clustering_in_one_step_are_what_autograd_computes() {
        let rows = bytes();
        let (ours, theirs) = (network(), network());
        let ((layer, p), (reference, _)) = (clustering(&ours, &rows, 1.0), clustering(&theirs, &rows, 1.0));
        let centroids = layer.centroids().shallow_clone();
        let term = ClusteringTerm { layer: 3, centroids, p: p.shallow_clone(), pull: Pull::StudentT(1.0), weight: 0.3 };
        let objective = Objective::Both { reconstruction: 0.7, clustering: term };
        let mut engine = Engine::new(ours.stack().unwrap(), objective, &rows, params(0.0)).unwrap();
        let with_centroids = |net: &Autoencoder, layer: &ClusteringLayer| {
            let mut all = net.parameters();
            all.push(layer.centroids().shallow_clone());
            all
        };
        let parameters = with_centroids(&theirs, &reference);
        let loss = |batch: &Batch| {
            let x = rows.batch(batch.indices)?;
            let z = theirs.encode(&x);
            let kl = kl_divergence(&p.index_select(0, batch.indices), &reference.log_soft_assignment(&z)?)?;
            Ok(theirs.decode(&z).mse_loss(&x, Reduction::Mean) * 0.7 + kl * 0.3)
        };
        let mut autograd = Autograd::new(copies_of_handles(&parameters), SGD, Device::Cpu, loss).unwrap();
        // A slow rate: see above.
        assert_equal_training(&with_centroids(&ours, &layer), &mut engine, &parameters, &mut autograd, 0.02);
    }

    fn copies_of_handles(tensors: &[Tensor]) -> Vec<Tensor> {
        tensors.iter().map(Tensor::shallow_clone).collect()
    }

    #[test]
    fn parameters_velocity_and_step_number_are_the_whole_state() {
        let _alone = crate::backend::threads::tests::alone();
        let rows = bytes();
        let objective = || Objective::Reconstruction;
        let whole = network();
        let pair = whole.pair(0);
        let mut engine = Engine::new(pair.stack().unwrap(), objective(), &rows, params(0.3)).unwrap();
        train(&mut engine, 0..20, RATE);
        let (weights, velocity) = (copies(&pair.parameters()), engine.accumulated().copy());
        train(&mut engine, 20..45, RATE);

        tch::manual_seed(99);
        let resumed = Autoencoder::new(&WIDTHS, Device::Cpu, Init::Normal(0.1)).unwrap();
        let pair_again = resumed.pair(0);
        no_grad(|| {
            for (to, from) in pair_again.parameters().iter_mut().zip(&weights) {
                to.copy_(from);
            }
        });
        let mut engine = Engine::new(pair_again.stack().unwrap(), objective(), &rows, params(0.3)).unwrap();
        engine.accumulated().shallow_clone().copy_(&velocity);
        train(&mut engine, 20..45, RATE);
        for (a, b) in pair_again.parameters().iter().zip(pair.parameters()) {
            assert_eq!(*a, b, "not the same bits");
        }
    }

    #[test]
    fn two_halves_with_averaged_velocities_are_the_whole_batch() {
        let rows = bytes();
        let objective = || Objective::Reconstruction;
        let nets = [network(), network(), network()];
        let sizes = [32, 32, 64];
        let mut engines: Vec<_> = nets
            .iter()
            .zip(sizes)
            .map(|(net, batch_size)| {
                let params = EngineParams { batch_size, ..params(0.0) };
                Engine::new(net.stack().unwrap(), objective(), &rows, params).unwrap()
            })
            .collect();
        let indices = Tensor::arange(64, (Kind::Int64, Device::Cpu));
        let parts = [indices.narrow(0, 0, 32), indices.narrow(0, 32, 32), indices.shallow_clone()];
        for number in 0..5 {
            for (engine, indices) in engines.iter_mut().zip(&parts).take(2) {
                engine.accumulate(&Batch { indices, number }).unwrap();
            }
            let mean = (engines[0].accumulated() + engines[1].accumulated()) / 2.0;
            for engine in &mut engines[..2] {
                engine.accumulated().shallow_clone().copy_(&mean);
                engine.apply(RATE).unwrap();
            }
            engines[2].step(&Batch { indices: &parts[2], number }, RATE).unwrap();
        }
        assert!(largest_difference(&copies(&network().parameters()), &nets[2].parameters()) > 1e-3);
        assert!(largest_difference(&nets[0].parameters(), &nets[2].parameters()) < 1e-6);
    }

    #[test]
    fn the_two_halves_of_a_step_are_the_step() {
        let rows = bytes();
        let nets = [network(), network()];
        let mut engines = nets.each_ref().map(|net| {
            let (layer, p) = clustering(net, &rows, 1.0);
            let centroids = layer.centroids().shallow_clone();
            let term = ClusteringTerm { layer: 3, centroids, p, pull: Pull::StudentT(1.0), weight: 0.3 };
            let objective = Objective::Both { reconstruction: 0.7, clustering: term };
            Engine::new(net.stack().unwrap(), objective, &rows, params(0.1)).unwrap()
        });
        let indices = Tensor::arange(32, (Kind::Int64, Device::Cpu));
        for number in 0..4 {
            let batch = Batch { indices: &indices, number };
            engines[0].step(&batch, RATE).unwrap();
            engines[1].accumulate(&batch).unwrap();
            engines[1].apply(RATE).unwrap();
        }
        assert_eq!(engines[0].accumulated(), engines[1].accumulated());
        assert!(nets[0].parameters() == nets[1].parameters());
    }

    #[test]
    fn an_objective_that_does_not_fit_the_stack_is_refused() {
        let rows = bytes();
        let net = network();
        let (layer, p) = clustering(&net, &rows, 1.0);
        let term = |layer_index| ClusteringTerm {
            layer: layer_index,
            centroids: layer.centroids().shallow_clone(),
            p: p.shallow_clone(),
            pull: Pull::StudentT(1.0),
            weight: 1.0,
        };
        let both = |layer_index| Objective::Both { reconstruction: 1.0, clustering: term(layer_index) };
        for objective in [Objective::Clustering(term(3)), Objective::Clustering(term(9)), both(7), both(9)] {
            let error = Engine::new(net.stack().unwrap(), objective, &rows, params(0.0)).unwrap_err();
            assert!(error.to_string().contains("cannot be the latent"), "{error}");
        }
        for dropout in [-0.1, 1.0, f64::NAN] {
            let stack = net.stack().unwrap();
            assert!(Engine::new(stack, Objective::Reconstruction, &rows, params(dropout)).is_err());
        }
    }

    #[test]
    fn what_is_no_dense_stack_is_left_to_autograd() {
        let net =
            Autoencoder::with_activation(&WIDTHS, Device::Cpu, Init::Normal(0.1), Activation::Function(Tensor::tanh))
                .unwrap();
        assert!(net.stack().is_none() && net.encoder_stack().is_none());
        assert!(net.pair(0).stack().is_none());
        let half = network();
        assert!(half.stack().is_some());
    }

    #[test]
    fn dropout_keys_differ_by_seed_and_step() {
        let keys: std::collections::HashSet<_> =
            (0..20).flat_map(|seed| (0..500).map(move |step| step_key(seed, step))).collect();
        assert_eq!(keys.len(), 10_000);
    }
}
