//! The stacked autoencoder d – h₁ – … – m – … – h₁ – d.
//!
//! ReLU between the layers, linear at the latent and at the reconstruction (Xie et al. 2016, §3.2). Encoder and decoder
//! are `nn::Sequential`s of `Linear`, `ReLU`, `Linear`, …, so a parameter's name is the one PyTorch gives to the same
//! `torch.nn.Sequential`: `encoder.0.weight`, `encoder.2.weight`, …

use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};

use super::network::{LayerPair, Network};
use super::stack::{Activation, DenseStack};
use crate::error::Result;

/// What the weights are drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// N(0, σ²) with this σ; 0.01 in Xie et al. 2016, §4.3.
    Normal(f64),
    /// Uniform in ±1/√(inputs of the layer): variance 1/(3 · inputs), as in the code of Guo et al. 2018.
    FanIn,
}

/// An encoder \[n, d\] → \[n, m\] and its mirror image, the decoder \[n, m\] → \[n, d\].
///
/// All parameters lie in one block of memory, each at the beginning of a cache line, the encoder's first.
#[derive(Debug)]
pub struct Autoencoder {
    encoder: nn::Sequential,
    decoder: nn::Sequential,
    /// The layers of both, in the order of the forward pass; they share their tensors with the `Sequential`s.
    encoder_layers: Vec<nn::Linear>,
    decoder_layers: Vec<nn::Linear>,
    activation: Activation,
}

/// Float32 values in a cache line: where a parameter may begin.
const ALIGNMENT: i64 = 16;

impl Autoencoder {
    /// A network with weights drawn by libtorch's generator (`tch::manual_seed`) as `init` says, and zero biases.
    ///
    /// `widths` are d, the hidden layers and m: `[784, 500, 500, 2000, 10]` in the paper.
    ///
    /// # Errors
    /// A libtorch failure, such as widths that do not fit in memory.
    pub fn new(widths: &[i64], device: Device, init: Init) -> Result<Self> {
        Self::with_activation(widths, device, init, Activation::Relu)
    }

    /// [`Autoencoder::new`] with another function between the layers.
    ///
    /// # Errors
    /// A libtorch failure, such as widths that do not fit in memory.
    pub fn with_activation(widths: &[i64], device: Device, init: Init, activation: Activation) -> Result<Self> {
        let mirrored: Vec<i64> = widths.iter().rev().copied().collect();
        let shapes: Vec<[i64; 2]> =
            [widths, &mirrored].iter().flat_map(|w| w.windows(2)).map(|w| [w[1], w[0]]).collect();
        let mut parameters = Block::new(&shapes, device)?;
        let (encoder, encoder_layers) = stack(&mut parameters, widths, init, activation)?;
        let (decoder, decoder_layers) = stack(&mut parameters, &mirrored, init, activation)?;
        Ok(Self { encoder, decoder, encoder_layers, decoder_layers, activation })
    }

    /// z = f(x): \[n, d\] → \[n, m\].
    pub fn encode(&self, x: &Tensor) -> Tensor {
        self.encoder.forward(x)
    }

    /// x̂ = g(z): \[n, m\] → \[n, d\].
    pub fn decode(&self, z: &Tensor) -> Tensor {
        self.decoder.forward(z)
    }

    /// The reconstruction g(f(x)): \[n, d\] → \[n, d\].
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.decode(&self.encode(x))
    }

    /// How many layers the encoder has (the decoder has as many).
    pub fn depth(&self) -> usize {
        self.encoder_layers.len()
    }

    /// Every parameter with its PyTorch-style name, the encoder's before the decoder's.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let named = |part: &'static str, layers: &[nn::Linear]| {
            let named = |(i, layer): (usize, &nn::Linear)| {
                let index = 2 * i; // a ReLU stands between two layers
                let bias = layer.bs.as_ref().map(|bias| (format!("{part}.{index}.bias"), bias.shallow_clone()));
                std::iter::once((format!("{part}.{index}.weight"), layer.ws.shallow_clone())).chain(bias)
            };
            layers.iter().enumerate().flat_map(named).collect::<Vec<_>>()
        };
        let mut all = named("encoder", &self.encoder_layers);
        all.extend(named("decoder", &self.decoder_layers));
        all
    }
}

impl Network for Autoencoder {
    fn encode(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.encoder.forward(x))
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok(self.decoder.forward(z))
    }

    fn named_parameters(&self) -> Vec<(String, Tensor)> {
        Autoencoder::named_parameters(self)
    }

    fn encoder_stack(&self) -> Option<DenseStack> {
        DenseStack::new(activations(&self.encoder_layers, self.activation))
    }

    fn decoder_stack(&self) -> Option<DenseStack> {
        DenseStack::new(activations(&self.decoder_layers, self.activation))
    }

    fn pair(&self, depth: usize) -> Option<LayerPair> {
        let last = self.depth() - 1;
        let encoder = self.encoder_layers.get(depth)?;
        Some(LayerPair::new(
            (shared(encoder), (depth != last).then_some(self.activation)),
            (shared(&self.decoder_layers[last - depth]), (depth != 0).then_some(self.activation)),
        ))
    }

    fn widest(&self) -> i64 {
        self.encoder_layers.iter().chain(&self.decoder_layers).map(|layer| layer.ws.size()[0]).max().unwrap_or(1)
    }

    fn device(&self) -> Device {
        self.encoder_layers.first().map_or(Device::Cpu, |layer| layer.ws.device())
    }

    fn share(&self) -> Box<dyn Network> {
        let share = |layers: &[nn::Linear]| layers.iter().map(shared).collect::<Vec<_>>();
        let (encoder_layers, decoder_layers) = (share(&self.encoder_layers), share(&self.decoder_layers));
        Box::new(Self {
            encoder: sequential(&encoder_layers, self.activation),
            decoder: sequential(&decoder_layers, self.activation),
            encoder_layers,
            decoder_layers,
            activation: self.activation,
        })
    }
}

/// Layers with what follows each: the activation, and nothing after the last.
fn activations(
    layers: &[nn::Linear],
    activation: Activation,
) -> impl Iterator<Item = (&nn::Linear, Option<Activation>)> {
    let last = layers.len() - 1;
    layers.iter().enumerate().map(move |(i, layer)| (layer, (i != last).then_some(activation)))
}

/// One block of memory that weights and biases are cut from.
struct Block {
    values: Tensor,
    used: i64,
}

impl Block {
    /// Room for weights of these shapes \[out, in\] with their biases \[out\], all zero.
    fn new(shapes: &[[i64; 2]], device: Device) -> Result<Self> {
        let room = |count: i64| count.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        let sizes = shapes.iter().map(|&[out, input]| room(out.saturating_mul(input)).saturating_add(room(out)));
        let total = sizes.fold(0i64, i64::saturating_add);
        Ok(Self { values: Tensor::f_zeros([total], (Kind::Float, device))?, used: 0 })
    }

    /// The next piece, as a parameter.
    fn cut(&mut self, shape: &[i64]) -> Result<Tensor> {
        let count: i64 = shape.iter().product();
        let piece = self.values.f_narrow(0, self.used, count)?.f_view(shape)?;
        self.used += (count + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        Ok(piece)
    }
}

/// `Linear`s of the given widths, and the `Sequential` of them.
fn stack(
    parameters: &mut Block,
    widths: &[i64],
    init: Init,
    activation: Activation,
) -> Result<(nn::Sequential, Vec<nn::Linear>)> {
    let layer = |pair: &[i64]| -> Result<nn::Linear> {
        let mut weight = parameters.cut(&[pair[1], pair[0]])?;
        // Drawn on the CPU for a GPU too: the same seed is the same network on every device.
        let mut drawn = match weight.device() {
            Device::Cpu => weight.shallow_clone(),
            _ => weight.f_empty_like()?.f_to_device(Device::Cpu)?,
        };
        let _ = match init {
            Init::Normal(deviation) => drawn.f_normal_(0.0, deviation)?,
            Init::FanIn => {
                let most = 1.0 / (pair[0] as f64).sqrt();
                drawn.f_uniform_(-most, most)?
            }
        };
        if weight.device() != Device::Cpu {
            weight.f_copy_(&drawn)?;
        }
        let ws = weight.f_set_requires_grad(true)?;
        let bs = Some(parameters.cut(&[pair[1]])?.f_set_requires_grad(true)?);
        Ok(nn::Linear { ws, bs })
    };
    let layers = widths.windows(2).map(layer).collect::<Result<Vec<_>>>()?;
    Ok((sequential(&layers, activation), layers))
}

/// The layers with an activation between each two, sharing their tensors.
fn sequential(layers: &[nn::Linear], activation: Activation) -> nn::Sequential {
    let mut sequential = nn::seq();
    for (i, layer) in layers.iter().enumerate() {
        if i > 0 {
            sequential = sequential.add_fn(move |x| activation.apply(x));
        }
        sequential = sequential.add(shared(layer));
    }
    sequential
}

/// The same tensors in another `Linear`.
fn shared(layer: &nn::Linear) -> nn::Linear {
    nn::Linear { ws: layer.ws.shallow_clone(), bs: layer.bs.as_ref().map(Tensor::shallow_clone) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn layers_taken_one_by_one_make_the_whole_network() {
        tch::manual_seed(1);
        let net = Autoencoder::new(&[6, 5, 4, 2], Device::Cpu, Init::Normal(0.5)).unwrap();
        let x = Tensor::randn([3, 6], (Kind::Float, Device::Cpu));
        let mut z = x.shallow_clone();
        for depth in 0..net.depth() {
            z = net.pair(depth).unwrap().encode(&z);
        }
        assert!(z.allclose(&net.encode(&x), 1e-6, 1e-7, false));
        let mut back = z;
        for depth in (0..net.depth()).rev() {
            back = net.pair(depth).unwrap().decode(&back);
        }
        assert!(back.allclose(&net.forward(&x), 1e-6, 1e-7, false));
    }

    #[test]
    fn names_are_those_of_a_pytorch_sequential() {
        let net = Autoencoder::new(&[6, 5, 2], Device::Cpu, Init::FanIn).unwrap();
        let shapes: Vec<_> = net.named_parameters().into_iter().map(|(name, t)| (name, t.size())).collect();
        let expected = [
            ("encoder.0.weight", vec![5, 6]),
            ("encoder.0.bias", vec![5]),
            ("encoder.2.weight", vec![2, 5]),
            ("encoder.2.bias", vec![2]),
            ("decoder.0.weight", vec![5, 2]),
            ("decoder.0.bias", vec![5]),
            ("decoder.2.weight", vec![6, 5]),
            ("decoder.2.bias", vec![6]),
        ];
        assert_eq!(shapes, expected.map(|(name, shape)| (name.to_owned(), shape)));
    }
}
