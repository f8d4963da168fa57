//! What a stage's loop asks for: one gradient step, by the step engine or by autograd.

use tch::{no_grad, Device, Kind, Tensor};

use super::optimiser::{Optimiser, OptimiserState};
use crate::error::Result;

/// The rows of one step.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Which rows: int64 \[b\] on the rows' device.
    pub indices: &'a Tensor,
    /// The step's number in its stage, counted from 0.
    pub number: u64,
}

/// Takes gradient steps and sums their losses.
pub trait Step {
    /// One step down the gradient of the batch's mean loss.
    ///
    /// # Errors
    /// A libtorch failure.
    fn step(&mut self, batch: &Batch, learning_rate: f64) -> Result<()>;

    /// Forgets the optimiser's momentum.
    ///
    /// # Errors
    /// A libtorch failure.
    fn reset_momentum(&mut self) -> Result<()>;

    /// The sum of the losses since the last call; waits for the device.
    ///
    /// # Errors
    /// A libtorch failure.
    fn take_loss(&mut self) -> Result<f64>;
}

/// Steps by autograd, for any network and any loss: what trains where the engine does not know the stack.
pub(super) struct Autograd<F> {
    loss: F,
    parameters: Vec<Tensor>,
    optimiser: OptimiserState,
    /// Kept on the device: reading it would wait for the device.
    loss_sum: Tensor,
}

impl<F: FnMut(&Batch) -> Result<Tensor>> Autograd<F> {
    /// Steps over `parameters` on `loss`, which is given a batch and returns its mean loss.
    pub(super) fn new(parameters: Vec<Tensor>, optimiser: Optimiser, device: Device, loss: F) -> Result<Self> {
        let loss_sum = Tensor::f_zeros([], (Kind::Double, device))?;
        let optimiser = OptimiserState::new(optimiser, &parameters.iter().collect::<Vec<_>>())?;
        Ok(Self { loss, parameters, optimiser, loss_sum })
    }
}

impl<F: FnMut(&Batch) -> Result<Tensor>> Step for Autograd<F> {
    fn step(&mut self, batch: &Batch, learning_rate: f64) -> Result<()> {
        let loss = (self.loss)(batch)?;
        self.optimiser.step(&self.parameters, &loss, learning_rate)?;
        self.loss_sum = no_grad(|| self.loss_sum.f_add(&loss.f_detach()?))?;
        Ok(())
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
