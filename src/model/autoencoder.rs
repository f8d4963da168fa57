//! The stacked autoencoder d – h₁ – … – m – … – h₁ – d.
//!
//! ReLU between the layers, linear at the latent and at the reconstruction (Xie et al. 2016, §3.2). Encoder and decoder
//! are `nn::Sequential`s of `Linear`, `ReLU`, `Linear`, …, so a parameter's name is the one PyTorch gives to the same
//! `torch.nn.Sequential`: `encoder.0.weight`, `encoder.2.weight`, …

use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};

use super::stack::DenseStack;
use crate::error::Result;

/// What stands between two layers.
#[derive(Debug, Clone, Copy)]
pub enum Activation {
    /// max(x, 0), the paper's.
    Relu,
    /// Any other differentiable function of tensors, value by value; the step engine leaves it to autograd.
    Function(fn(&Tensor) -> Tensor),
}

impl Activation {
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            Self::Function(function) => function(x),
        }
    }
}

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

    /// The pair of layers that layer-wise pretraining trains together at `depth` (0 is nearest to the data):
    /// the encoder's layer and the decoder's layer that undoes it.
    pub fn pair(&self, depth: usize) -> LayerPair<'_> {
        let last = self.depth() - 1;
        LayerPair {
            encoder: &self.encoder_layers[depth],
            decoder: &self.decoder_layers[last - depth],
            code_activation: (depth != last).then_some(self.activation),
            output_activation: (depth != 0).then_some(self.activation),
        }
    }

    /// The encoder as a stack of dense layers; `None` if it is none.
    pub fn encoder_stack(&self) -> Option<DenseStack> {
        DenseStack::new(activations(&self.encoder_layers, self.activation))
    }

    /// Encoder and decoder as one stack of dense layers; `None` if they are none.
    pub fn stack(&self) -> Option<DenseStack> {
        let decoder = activations(&self.decoder_layers, self.activation);
        DenseStack::new(activations(&self.encoder_layers, self.activation).chain(decoder))
    }

    /// Weights \[out, in\] and biases \[out\] of the encoder, in the order of the forward pass.
    pub fn encoder_weights(&self) -> Vec<(Tensor, Tensor)> {
        weights(&self.encoder_layers)
    }

    /// Weights \[out, in\] and biases \[out\] of the decoder, in the order of the forward pass.
    pub fn decoder_weights(&self) -> Vec<(Tensor, Tensor)> {
        weights(&self.decoder_layers)
    }

    /// The encoder's parameters, those that clustering trains.
    pub fn encoder_parameters(&self) -> Vec<Tensor> {
        flatten(self.encoder_weights())
    }

    /// Every parameter, the encoder's before the decoder's.
    pub fn parameters(&self) -> Vec<Tensor> {
        let mut all = self.encoder_parameters();
        all.extend(flatten(self.decoder_weights()));
        all
    }

    /// Every parameter with its PyTorch-style name, in the order of [`Autoencoder::parameters`].
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let named = |part: &'static str, layers: Vec<(Tensor, Tensor)>| {
            layers.into_iter().enumerate().flat_map(move |(i, (weight, bias))| {
                let index = 2 * i; // a ReLU stands between two layers
                [(format!("{part}.{index}.weight"), weight), (format!("{part}.{index}.bias"), bias)]
            })
        };
        named("encoder", self.encoder_weights()).chain(named("decoder", self.decoder_weights())).collect()
    }

    /// The width of the widest layer: how many values a row needs at most on its way through.
    pub fn widest(&self) -> i64 {
        self.encoder_layers.iter().chain(&self.decoder_layers).map(|layer| layer.ws.size()[0]).max().unwrap_or(1)
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.encoder_layers.first().map_or(Device::Cpu, |layer| layer.ws.device())
    }
}

/// One layer of the encoder with the layer of the decoder that undoes it.
#[derive(Debug)]
pub struct LayerPair<'a> {
    encoder: &'a nn::Linear,
    decoder: &'a nn::Linear,
    code_activation: Option<Activation>,
    output_activation: Option<Activation>,
}

impl LayerPair<'_> {
    /// The code of `x`: \[n, in\] → \[n, out\].
    pub fn encode(&self, x: &Tensor) -> Tensor {
        activate(self.encoder.forward(x), self.code_activation)
    }

    /// The reconstruction of a code: \[n, out\] → \[n, in\].
    pub fn decode(&self, code: &Tensor) -> Tensor {
        activate(self.decoder.forward(code), self.output_activation)
    }

    /// The encoder's layer as a stack of dense layers; `None` if it is none.
    pub fn encoder_stack(&self) -> Option<DenseStack> {
        DenseStack::new([(self.encoder, self.code_activation)].into_iter())
    }

    /// Both layers as a stack of dense layers; `None` if they are none.
    pub fn stack(&self) -> Option<DenseStack> {
        let layers = [(self.encoder, self.code_activation), (self.decoder, self.output_activation)];
        DenseStack::new(layers.into_iter())
    }

    /// The four parameters: encoder weight and bias, decoder weight and bias.
    pub fn parameters(&self) -> Vec<Tensor> {
        let mut all = flatten(weights(std::slice::from_ref(self.encoder)));
        all.extend(flatten(weights(std::slice::from_ref(self.decoder))));
        all
    }
}

fn activate(x: Tensor, activation: Option<Activation>) -> Tensor {
    match activation {
        Some(activation) => activation.apply(&x),
        None => x,
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

/// `Linear`s of the given widths with an activation between each two.
fn stack(
    parameters: &mut Block,
    widths: &[i64],
    init: Init,
    activation: Activation,
) -> Result<(nn::Sequential, Vec<nn::Linear>)> {
    let mut sequential = nn::seq();
    let mut layers = Vec::new();
    for (i, pair) in widths.windows(2).enumerate() {
        if i > 0 {
            sequential = sequential.add_fn(move |x| activation.apply(x));
        }
        let mut weight = parameters.cut(&[pair[1], pair[0]])?;
        let ws = match init {
            Init::Normal(deviation) => weight.f_normal_(0.0, deviation)?,
            Init::FanIn => {
                let most = 1.0 / (pair[0] as f64).sqrt();
                weight.f_uniform_(-most, most)?
            }
        };
        let ws = ws.f_set_requires_grad(true)?;
        let bs = Some(parameters.cut(&[pair[1]])?.f_set_requires_grad(true)?);
        let layer = nn::Linear { ws, bs };
        sequential = sequential.add(shared(&layer));
        layers.push(layer);
    }
    Ok((sequential, layers))
}

/// The same tensors in another `Linear`.
fn shared(layer: &nn::Linear) -> nn::Linear {
    nn::Linear { ws: layer.ws.shallow_clone(), bs: layer.bs.as_ref().map(Tensor::shallow_clone) }
}

fn weights(layers: &[nn::Linear]) -> Vec<(Tensor, Tensor)> {
    layers
        .iter()
        .filter_map(|layer| layer.bs.as_ref().map(|bias| (layer.ws.shallow_clone(), bias.shallow_clone())))
        .collect()
}

fn flatten(layers: Vec<(Tensor, Tensor)>) -> Vec<Tensor> {
    layers.into_iter().flat_map(|(weight, bias)| [weight, bias]).collect()
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
            z = net.pair(depth).encode(&z);
        }
        assert!(z.allclose(&net.encode(&x), 1e-6, 1e-7, false));
        let mut back = z;
        for depth in (0..net.depth()).rev() {
            back = net.pair(depth).decode(&back);
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
