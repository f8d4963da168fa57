//! What a network has to offer to be trained and clustered by.

use std::borrow::Borrow;
use std::fmt;

use tch::nn::{self, Module};
use tch::{no_grad, Device, Kind, Tensor};

use super::stack::{Activation, DenseStack};
use crate::control::Control;
use crate::data::Rows;
use crate::error::Result;

/// An autoencoder: an encoder \[n, d\] → \[n, m\] and a decoder back.
///
/// One whose layers are dense with ReLU between shows them as a [`DenseStack`], which the step engine trains fast. Autograd
/// trains any other.
pub trait Network: fmt::Debug + Send {
    /// z = f(x): \[n, d\] → \[n, m\], with a graph.
    ///
    /// # Errors
    /// A libtorch failure.
    fn encode(&self, x: &Tensor) -> Result<Tensor>;

    /// x̂ = g(z): \[n, m\] → \[n, d\], with a graph.
    ///
    /// # Errors
    /// A libtorch failure.
    fn decode(&self, z: &Tensor) -> Result<Tensor>;

    /// Every parameter with its PyTorch-style name (`encoder.0.weight`, …), the encoder's before the decoder's. They share their
    /// memory with the network.
    fn named_parameters(&self) -> Vec<(String, Tensor)>;

    /// The encoder as dense layers, if it is that.
    fn encoder_stack(&self) -> Option<DenseStack>;

    /// The decoder as dense layers, if it is that.
    fn decoder_stack(&self) -> Option<DenseStack>;

    /// The layer of the encoder at `depth` (0 is nearest to the data) with the layer of the decoder that undoes it: what
    /// layer-wise pretraining trains together. `None` beyond the last.
    fn pair(&self, depth: usize) -> Option<LayerPair>;

    /// The width of the widest layer: the most values that a row needs on its way through.
    fn widest(&self) -> i64;

    /// Where the parameters are.
    fn device(&self) -> Device;

    /// The same network over the same memory.
    fn share(&self) -> Box<dyn Network>;

    /// Encoder and decoder as one stack of dense layers, if they are that.
    fn stack(&self) -> Option<DenseStack> {
        Some(self.encoder_stack()?.then(self.decoder_stack()?))
    }

    /// Every parameter, the encoder's before the decoder's.
    fn parameters(&self) -> Vec<Tensor> {
        self.named_parameters().into_iter().map(|(_, parameter)| parameter).collect()
    }

    /// The encoder's parameters: those that self-training moves.
    fn encoder_parameters(&self) -> Vec<Tensor> {
        let named = self.named_parameters().into_iter();
        named.filter(|(name, _)| name.starts_with("encoder.")).map(|(_, parameter)| parameter).collect()
    }
}

/// The latent rows z \[n, m\] of all `rows`, without a graph, in blocks that bound the memory.
///
/// # Errors
/// [`crate::Error::Interrupted`], or a libtorch failure (out of memory, say).
pub fn encode_all(network: &dyn Network, rows: &Rows, control: &Control) -> Result<Tensor> {
    match network.encoder_stack() {
        Some(stack) => stack.map_rows(rows, control),
        None => rows.map_blocks(network.widest(), |x| {
            control.check()?;
            network.encode(x)
        }),
    }
}

/// The latent rows of this process's share of all `rows`: \[share, m\], all where it works alone.
///
/// # Errors
/// As for [`encode_all`].
pub fn encode_own(network: &dyn Network, rows: &Rows, control: &Control) -> Result<Tensor> {
    match network.encoder_stack() {
        Some(stack) => stack.map_own(rows, control),
        None => control.ranks().part_of(&encode_all(network, rows, control)?),
    }
}

/// The latent rows z \[n, m\] of `n` rows that `fill` brings: it writes those from a number on into \[b, d\].
///
/// # Errors
/// What `fill` fails with, [`crate::Error::Interrupted`], or a libtorch failure (out of memory, say).
pub fn encode_filled(
    network: &dyn Network,
    [n, d]: [i64; 2],
    fill: &mut dyn FnMut(i64, &Tensor) -> Result<()>,
    control: &Control,
) -> Result<Tensor> {
    const BLOCK: i64 = 4096;
    let mut parts = Vec::new();
    for start in (0..n).step_by(BLOCK as usize) {
        let x = Tensor::f_empty([BLOCK.min(n - start), d], (Kind::Float, network.device()))?;
        fill(start, &x)?;
        parts.push(encode_all(network, &Rows::from_tensor(x), control)?);
    }
    Ok(Tensor::f_cat(&parts, 0)?)
}

/// Copies of `tensors` as they are now, without a history.
///
/// # Errors
/// A libtorch failure (out of memory, say).
pub fn copies<T: Borrow<Tensor>>(tensors: &[T]) -> Result<Vec<Tensor>> {
    tensors.iter().map(|tensor| Ok(tensor.borrow().f_detach_copy()?)).collect()
}

/// Copies `values`, in the order of [`Network::named_parameters`], into a network's parameters.
///
/// # Errors
/// Another number of tensors, or other shapes.
pub fn set_parameters(parameters: &[Tensor], values: &[Tensor]) -> Result<()> {
    if parameters.len() != values.len() {
        let problem = format!("{} parameters and {} values for them", parameters.len(), values.len());
        return Err(tch::TchError::Shape(problem).into());
    }
    no_grad(|| {
        for (parameter, value) in parameters.iter().zip(values) {
            if parameter.size() != value.size() {
                let problem = format!("a parameter of shape {:?} and a value of {:?}", parameter.size(), value.size());
                return Err(tch::TchError::Shape(problem).into());
            }
            parameter.shallow_clone().f_copy_(value)?;
        }
        Ok(())
    })
}

/// A layer and the activation behind it.
type Layer = (nn::Linear, Option<Activation>);

/// One layer of the encoder with the layer of the decoder that undoes it; shares their memory.
#[derive(Debug)]
pub struct LayerPair {
    encoder: Layer,
    decoder: Layer,
}

impl LayerPair {
    pub(super) fn new(encoder: Layer, decoder: Layer) -> Self {
        Self { encoder, decoder }
    }

    /// The code of `x`: \[n, in\] → \[n, out\].
    pub fn encode(&self, x: &Tensor) -> Tensor {
        apply(&self.encoder, x)
    }

    /// The reconstruction of a code: \[n, out\] → \[n, in\].
    pub fn decode(&self, code: &Tensor) -> Tensor {
        apply(&self.decoder, code)
    }

    /// The encoder's layer as a stack of dense layers, if it is that.
    pub fn encoder_stack(&self) -> Option<DenseStack> {
        DenseStack::new(std::iter::once((&self.encoder.0, self.encoder.1)))
    }

    /// Both layers as a stack of dense layers, if they are that.
    pub fn stack(&self) -> Option<DenseStack> {
        DenseStack::new([&self.encoder, &self.decoder].into_iter().map(|(layer, activation)| (layer, *activation)))
    }

    /// The four parameters: encoder weight and bias, decoder weight and bias.
    pub fn parameters(&self) -> Vec<Tensor> {
        let of = |(layer, _): &Layer| {
            std::iter::once(layer.ws.shallow_clone()).chain(layer.bs.as_ref().map(Tensor::shallow_clone))
        };
        of(&self.encoder).chain(of(&self.decoder)).collect()
    }
}

fn apply((layer, activation): &Layer, x: &Tensor) -> Tensor {
    let y = layer.forward(x);
    match activation {
        Some(activation) => activation.apply(&y),
        None => y,
    }
}
