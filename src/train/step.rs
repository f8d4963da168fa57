//! What a stage's loop asks for: one gradient step, by the step engine or by autograd.

use tch::{no_grad, Device, Kind, Tensor};

use super::optimiser::Sgd;
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

    /// The sum of the losses since the last call; waits for the device.
    ///
    /// # Errors
    /// A libtorch failure.
    fn take_loss(&mut self) -> Result<f64>;
}

/// Steps by autograd, for any network and any loss: what trains where the engine does not know the stack.
pub(super) struct Autograd<F> {
    loss: F,
    optimiser: Sgd,
    /// Kept on the device: reading it would wait for the device.
    loss_sum: Tensor,
}

impl<F: FnMut(&Batch) -> Result<Tensor>> Autograd<F> {
    /// Steps of SGD over `parameters` on `loss`, which is given a batch and returns its mean loss.
    pub(super) fn new(parameters: Vec<Tensor>, momentum: f64, device: Device, loss: F) -> Result<Self> {
        let loss_sum = Tensor::f_zeros([], (Kind::Double, device))?;
        Ok(Self { loss, optimiser: Sgd::new(parameters, momentum)?, loss_sum })
    }
}

impl<F: FnMut(&Batch) -> Result<Tensor>> Step for Autograd<F> {
    fn step(&mut self, batch: &Batch, learning_rate: f64) -> Result<()> {
        let loss = (self.loss)(batch)?;
        self.optimiser.step(&loss, learning_rate)?;
        self.loss_sum = no_grad(|| self.loss_sum.f_add(&loss.f_detach()?))?;
        Ok(())
    }

    fn take_loss(&mut self) -> Result<f64> {
        let sum = f64::try_from(&self.loss_sum)?;
        let _ = self.loss_sum.f_zero_()?;
        Ok(sum)
    }
}
