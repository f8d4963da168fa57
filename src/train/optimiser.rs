//! Stochastic gradient descent with momentum, over parameters given as tensors.

use tch::Tensor;

use crate::backend;
use crate::error::Result;

/// SGD with momentum as PyTorch defines it: v ← momentum · v + g; w ← w − rate · v.
///
/// For a constant rate that is Keras's v ← momentum · v − rate · g; w ← w + v, with v scaled.
#[derive(Debug)]
pub struct Sgd {
    parameters: Vec<Tensor>,
    momenta: Vec<Tensor>,
    momentum: f64,
}

impl Sgd {
    /// An optimiser at rest (v = 0) over leaf tensors that require gradients.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn new(parameters: Vec<Tensor>, momentum: f64) -> Result<Self> {
        let momenta = parameters.iter().map(|p| Ok(p.f_detach()?.f_zeros_like()?)).collect::<Result<_>>()?;
        Ok(Self { parameters, momenta, momentum })
    }

    /// One step down the gradient of the scalar `loss`, which must depend on every parameter.
    ///
    /// # Errors
    /// A loss without a graph to the parameters, or another libtorch failure.
    pub fn step(&mut self, loss: &Tensor, learning_rate: f64) -> Result<()> {
        let gradients = Tensor::f_run_backward(&[loss], &self.parameters, false, false)?;
        backend::sgd_step(&self.parameters, &gradients, &self.momenta, learning_rate, self.momentum)
    }
}
