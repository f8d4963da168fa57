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

    /// What the steps move: the trained parameters, sharing their memory.
    fn parameters(&self) -> Vec<Tensor>;

    /// The optimiser's state; with the parameters and the step's number the whole state of the training.
    fn optimiser(&self) -> &OptimiserState;

    /// The same, to restore it.
    fn optimiser_mut(&mut self) -> &mut OptimiserState;

    /// The sum of the losses, float64 of one value. Kept on the device: reading it waits for the device.
    fn losses(&self) -> &Tensor;

    /// The sum of the losses since it was last set; waits for the device.
    ///
    /// # Errors
    /// A libtorch failure.
    fn loss_sum(&self) -> Result<f64> {
        Ok(f64::try_from(self.losses())?)
    }

    /// Goes on summing from `sum`.
    ///
    /// # Errors
    /// A libtorch failure.
    fn set_loss_sum(&mut self, sum: f64) -> Result<()> {
        let _ = self.losses().shallow_clone().f_fill_(sum)?;
        Ok(())
    }

    /// The sum of the losses since the last call.
    ///
    /// # Errors
    /// A libtorch failure.
    fn take_loss(&mut self) -> Result<f64> {
        let sum = self.loss_sum()?;
        self.set_loss_sum(0.0)?;
        Ok(sum)
    }
}

/// Steps by autograd, for any network and any loss: what trains where the engine does not know the stack.
pub struct Autograd<F> {
    loss: F,
    parameters: Vec<Tensor>,
    optimiser: OptimiserState,
    loss_sum: Tensor,
}

impl<F: FnMut(&Batch) -> Result<Tensor>> Autograd<F> {
    /// Steps over `parameters` on `loss`, which is given a batch and returns its mean loss.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn new(parameters: Vec<Tensor>, optimiser: Optimiser, device: Device, loss: F) -> Result<Self> {
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

    fn parameters(&self) -> Vec<Tensor> {
        self.parameters.iter().map(Tensor::shallow_clone).collect()
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
