//! What turns gradients into steps: SGD with momentum, Adam, AdamW; their state in flat tensors that can be saved.

use tch::{no_grad, Device, Kind, Tensor};

use crate::backend::dense::{self, AdamRule, Sink};
use crate::config::{Optimisation, OptimiserKind};
use crate::error::Result;

/// Float32 values of a cache line: each parameter's piece of a flat tensor begins at a multiple of it.
const LINE: i64 = 16;
/// Adam's β₂ and ε, as in Kingma & Ba 2015, Algorithm 1.
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// An optimiser's settings, but for the rate, which comes with each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimiser {
    /// v ← momentum · v + g + decay · w; w ← w − rate · v, as PyTorch has it. For a constant rate that is Keras's
    /// v ← momentum · v − rate · g; w ← w + v, with v scaled.
    Sgd {
        /// Momentum, at least 0 and below 1.
        momentum: f64,
        /// Weight decay.
        decay: f64,
    },
    /// Adam (Kingma & Ba 2015), β₂ = 0.999, ε = 1e-8.
    Adam {
        /// β₁, at least 0 and below 1.
        beta1: f64,
        /// Weight decay.
        decay: f64,
        /// Whether the decay is apart from the gradient (AdamW, Loshchilov & Hutter 2019) or added to it.
        decoupled: bool,
    },
}

impl From<&Optimisation> for Optimiser {
    fn from(settings: &Optimisation) -> Self {
        let (momentum, decay) = (settings.momentum, settings.weight_decay);
        match settings.optimiser {
            OptimiserKind::Sgd => Self::Sgd { momentum, decay },
            OptimiserKind::Adam => Self::Adam { beta1: momentum, decay, decoupled: false },
            OptimiserKind::AdamW => Self::Adam { beta1: momentum, decay, decoupled: true },
        }
    }
}

/// An [`Optimiser`] at work on given parameters.
#[derive(Debug)]
pub struct OptimiserState {
    optimiser: Optimiser,
    /// SGD's velocity; for Adam the gradient of the step at work.
    gradient: Flat,
    /// Adam's first and second moment.
    moments: Option<[Flat; 2]>,
    /// What depends on the step, where the device reads it: SGD's rate, or Adam's five values ([`dense::adam`]).
    rates: Tensor,
    /// Steps since the moments were 0.
    steps: u64,
}

impl OptimiserState {
    /// At rest: everything 0.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn new(optimiser: Optimiser, parameters: &[&Tensor]) -> Result<Self> {
        let device = parameters.first().map_or(Device::Cpu, |parameter| parameter.device());
        let (moments, rates) = match optimiser {
            Optimiser::Sgd { .. } => (None, 1),
            Optimiser::Adam { .. } => (Some([Flat::new(parameters)?, Flat::new(parameters)?]), 5),
        };
        let rates = Tensor::f_zeros([rates], (Kind::Float, device))?;
        Ok(Self { optimiser, gradient: Flat::new(parameters)?, moments, rates, steps: 0 })
    }

    /// What has to be saved, with the parameters and [`OptimiserState::steps`], to go on bit for bit: SGD's velocity, or Adam's
    /// two moments; each flat.
    pub fn tensors(&self) -> Vec<&Tensor> {
        match &self.moments {
            None => vec![&self.gradient.flat],
            Some(moments) => moments.iter().map(|moment| &moment.flat).collect(),
        }
    }

    /// Steps since the beginning or the last [`OptimiserState::reset`], which Adam's correction goes by.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Goes on as after `steps` steps.
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Forgets the past: everything 0, the parameters as they are.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn reset(&mut self) -> Result<()> {
        self.steps = 0;
        for flat in std::iter::once(&self.gradient).chain(self.moments.iter().flatten()) {
            let _ = flat.flat.shallow_clone().f_zero_()?;
        }
        Ok(())
    }

    /// What the gradients of a step are put into, flat: the old velocity is in it already for SGD.
    pub(super) fn accumulated(&self) -> &Tensor {
        &self.gradient.flat
    }

    /// Where the gradient of the parameter at `place` goes.
    pub(super) fn sink(&self, place: usize) -> Sink<'_> {
        let keep = match self.optimiser {
            Optimiser::Sgd { momentum, .. } => momentum,
            Optimiser::Adam { .. } => 0.0,
        };
        Sink { tensor: &self.gradient.views[place], keep }
    }

    /// Begins a step at `rate`.
    pub(super) fn begin(&mut self, rate: f64) -> Result<()> {
        self.steps += 1;
        let t = self.steps as f64;
        let values = match self.optimiser {
            Optimiser::Sgd { .. } => vec![rate as f32],
            Optimiser::Adam { beta1, decay, decoupled } => {
                let first = rate / (1.0 - beta1.powf(t));
                let second = 1.0 / (1.0 - BETA2.powf(t)).sqrt();
                let shrink = if decoupled { 1.0 - rate * decay } else { 1.0 };
                [first, second, shrink, rate, t].map(|value| value as f32).to_vec()
            }
        };
        Ok(self.rates.f_copy_(&Tensor::f_from_slice(&values)?)?)
    }

    /// Moves `parameters`, those from `place` on, by their gradients; a step begins with [`OptimiserState::begin`].
    pub(super) fn update(&self, parameters: &[&Tensor], place: usize) -> Result<()> {
        let (count, gradients) = (parameters.len(), self.gradient.pieces(place, parameters.len()));
        match (self.optimiser, &self.moments) {
            (Optimiser::Adam { beta1, decay, decoupled }, Some([first, second])) => {
                let (decay, apart) = if decoupled { (0.0, decay as f32) } else { (decay as f32, 0.0) };
                let rule = AdamRule { beta1: beta1 as f32, beta2: BETA2 as f32, epsilon: EPSILON as f32, decay, apart };
                let moments = [first.pieces(place, count), second.pieces(place, count)];
                dense::adam([parameters, &gradients, &moments[0], &moments[1]], &self.rates, rule)
            }
            (Optimiser::Sgd { decay, .. }, _) => dense::descend(parameters, &gradients, &self.rates, decay),
            (Optimiser::Adam { .. }, None) => Ok(()), // `new` gives Adam its moments
        }
    }

    /// One step of `parameters`, those of [`OptimiserState::new`], down the gradient of the scalar `loss` by autograd.
    ///
    /// # Errors
    /// A loss without a graph to the parameters, or another libtorch failure.
    pub fn step(&mut self, parameters: &[Tensor], loss: &Tensor, rate: f64) -> Result<()> {
        let gradients = Tensor::f_run_backward(&[loss], parameters, false, false)?;
        no_grad(|| {
            self.begin(rate)?;
            for (place, gradient) in gradients.iter().enumerate() {
                let Sink { tensor, keep } = self.sink(place);
                let mut tensor = tensor.shallow_clone();
                let _ = tensor.f_mul_scalar_(keep)?.f_add_(gradient)?;
            }
            self.update(&parameters.iter().collect::<Vec<_>>(), 0)
        })
    }
}

/// One flat tensor, and views of it in the parameters' shapes.
#[derive(Debug)]
struct Flat {
    flat: Tensor,
    views: Vec<Tensor>,
}

impl Flat {
    /// Zeros for `parameters`.
    fn new(parameters: &[&Tensor]) -> Result<Self> {
        let room = |parameter: &&Tensor| (parameter.numel() as i64 + LINE - 1) / LINE * LINE;
        let device = parameters.first().map_or(Device::Cpu, |parameter| parameter.device());
        let flat = Tensor::f_zeros([parameters.iter().map(room).sum::<i64>()], (Kind::Float, device))?;
        let mut place = 0;
        let view = |parameter: &&Tensor| {
            let piece = flat.f_narrow(0, place, parameter.numel() as i64)?;
            place += room(parameter);
            Ok(piece.f_view(parameter.size().as_slice())?)
        };
        let views = parameters.iter().map(view).collect::<Result<_>>()?;
        Ok(Self { flat, views })
    }

    /// The views of `count` parameters from `place` on.
    fn pieces(&self, place: usize, count: usize) -> Vec<&Tensor> {
        self.views.iter().skip(place).take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn zeros(shape: &[i64]) -> Tensor {
        Tensor::zeros(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn views_share_the_flat_memory_and_nothing_else() {
        let (weight, bias) = (zeros(&[3, 7]), zeros(&[3]));
        let flat = Flat::new(&[&weight, &bias]).unwrap();
        assert_eq!((flat.views[0].size(), flat.views[1].size()), (vec![3, 7], vec![3]));
        for (index, value) in [1.0, 2.0].into_iter().enumerate() {
            let _ = flat.views[index].shallow_clone().fill_(value);
        }
        let values: Vec<f32> = Vec::try_from(&flat.flat).unwrap();
        let expected = [vec![1.0; 21], vec![0.0; 11], vec![2.0; 3], vec![0.0; 13]].concat();
        assert_eq!(values, expected);
    }

    #[test]
    fn a_state_that_was_saved_goes_on_bit_for_bit() {
        let kinds = [
            Optimiser::Sgd { momentum: 0.9, decay: 0.01 },
            Optimiser::Adam { beta1: 0.9, decay: 0.01, decoupled: false },
            Optimiser::Adam { beta1: 0.9, decay: 0.01, decoupled: true },
        ];
        for optimiser in kinds {
            let target = Tensor::from_slice(&[1.0f32, -2.0, 3.0]);
            let train = |w: &Tensor, state: &mut OptimiserState, steps: u64| {
                for _ in 0..steps {
                    let loss = (w - &target).square().sum(Kind::Float);
                    state.step(&[w.shallow_clone()], &loss, 0.05).unwrap();
                }
            };
            let w = zeros(&[3]).set_requires_grad(true);
            let mut state = OptimiserState::new(optimiser, &[&w]).unwrap();
            train(&w, &mut state, 7);
            let saved: Vec<Tensor> = state.tensors().iter().map(|tensor| tensor.copy()).collect();
            let again = w.detach().copy().set_requires_grad(true);
            train(&w, &mut state, 5);

            let mut resumed = OptimiserState::new(optimiser, &[&again]).unwrap();
            for (to, from) in resumed.tensors().iter().zip(&saved) {
                to.shallow_clone().copy_(from);
            }
            resumed.set_steps(7);
            train(&again, &mut resumed, 5);
            assert_eq!(w, again, "{optimiser:?}");
            assert!((&w - &target).abs().max().double_value(&[]) < 3.0, "{optimiser:?} moves towards the minimum");

            resumed.reset().unwrap();
            assert_eq!(resumed.steps(), 0);
            assert!(resumed.tensors().iter().all(|tensor| tensor.abs().max().double_value(&[]) == 0.0));
        }
    }
}
