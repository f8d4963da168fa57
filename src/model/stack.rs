//! A stack of dense layers, y = activation(x Wᵀ + b) with ReLU or nothing as the activation, as plain tensors.
//!
//! What the step engine trains and what whole-data passes go through. The tensors are those of the `nn::Sequential`s that
//! define the network, under another view.

use std::ops::Range;

use tch::{nn, no_grad, Kind, Tensor};

use crate::backend::dense::{self, Factors};
use crate::backend::ranks::Ranks;
use crate::control::Control;
use crate::data::Rows;
use crate::error::Result;

/// How many values a block of a whole-data pass holds at its widest (2,000 units by 2,000 rows, say): 16 MiB of float32.
const BLOCK_VALUES: i64 = 1 << 22;
/// The same on a GPU, which small blocks leave idle: 256 MiB.
const GPU_BLOCK_VALUES: i64 = 1 << 26;
/// Products behind each value of a pass from which on processes divide it: at 50 GFLOP/s they take as long as 4 bytes do at 0.8 GB/s.
const WORTH_DIVIDING: i64 = 128;

/// What stands between two layers.
#[derive(Debug, Clone, Copy)]
pub enum Activation {
    /// max(x, 0), the paper's.
    Relu,
    /// Any other differentiable function of tensors, value by value; the step engine leaves it to autograd.
    Function(fn(&Tensor) -> Tensor),
}

impl Activation {
    pub(super) fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            Self::Function(function) => function(x),
        }
    }
}

/// One layer of a [`DenseStack`].
#[derive(Debug)]
pub struct DenseLayer {
    /// W \[out, in\].
    pub weight: Tensor,
    /// b \[out\].
    pub bias: Tensor,
    /// Whether ReLU follows.
    pub relu: bool,
}

/// Dense layers in the order of the forward pass.
#[derive(Debug)]
pub struct DenseStack {
    layers: Vec<DenseLayer>,
}

impl DenseStack {
    /// `None` where a layer has no bias, an activation other than ReLU, or parameters that are not float32 and contiguous.
    pub(super) fn new<'a>(layers: impl Iterator<Item = (&'a nn::Linear, Option<Activation>)>) -> Option<Self> {
        let layers: Option<Vec<_>> = layers
            .map(|(layer, activation)| {
                let relu = match activation {
                    None => false,
                    Some(Activation::Relu) => true,
                    Some(Activation::Function(_)) => return None,
                };
                let plain = |tensor: &Tensor| tensor.kind() == Kind::Float && tensor.is_contiguous();
                let bias = layer.bs.as_ref().filter(|bias| plain(bias))?;
                plain(&layer.ws).then(|| DenseLayer {
                    weight: layer.ws.shallow_clone(),
                    bias: bias.shallow_clone(),
                    relu,
                })
            })
            .collect();
        layers.filter(|layers| !layers.is_empty()).map(|layers| Self { layers })
    }

    /// The layers.
    pub fn layers(&self) -> &[DenseLayer] {
        &self.layers
    }

    /// Every parameter, weight before bias, in the order of the layers.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(|layer| [&layer.weight, &layer.bias])
    }

    /// The width of each layer's output.
    pub fn widths(&self) -> impl Iterator<Item = i64> + '_ {
        self.layers.iter().map(|layer| layer.weight.size()[0])
    }

    /// These layers, and then those of `next`.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.layers.extend(next.layers);
        self
    }

    /// Applies the stack to all `rows`: \[n, d\] → \[n, m\] without a graph, in blocks that bound the memory. Processes that work together
    /// each do a part, where that takes longer than what it gives takes on its way to the others, or they have divided the rows.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`], a libtorch failure (out of memory, say), rows of another width than the first layer's.
    pub fn map_rows(&self, rows: &Rows, control: &Control) -> Result<Tensor> {
        let (n, widths) = (rows.n_rows(), self.widths_from(rows));
        let products: i64 = widths.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let (divided, last) = (rows.ranks().size() > 1, widths[widths.len() - 1]);
        if !divided && products < WORTH_DIVIDING * last {
            return control.divided(self.map_range(rows, 0..n, control));
        }
        let (ranks, own) = (ranks_of(rows, control), self.map_own(rows, control)?);
        if ranks.size() == 1 {
            return Ok(own);
        }
        let result = Tensor::f_empty([n, last], (Kind::Float, rows.device()))?;
        ranks.part_of(&result)?.f_copy_(&own)?;
        ranks.gather(&result)?;
        Ok(result)
    }

    /// The same of the rows alone that are this process's share, all where it works alone.
    ///
    /// # Errors
    /// As for [`DenseStack::map_rows`].
    pub fn map_own(&self, rows: &Rows, control: &Control) -> Result<Tensor> {
        control.divided(self.map_range(rows, ranks_of(rows, control).share(rows.n_rows()), control))
    }

    /// The widths of the rows and of each layer's output.
    fn widths_from(&self, rows: &Rows) -> Vec<i64> {
        std::iter::once(rows.n_features()).chain(self.widths()).collect()
    }

    /// What the stack makes of the rows in `range`, which this process holds.
    fn map_range(&self, rows: &Rows, range: Range<i64>, control: &Control) -> Result<Tensor> {
        no_grad(|| self.map_range_without_graph(rows, range, control))
    }

    fn map_range_without_graph(&self, rows: &Rows, range: Range<i64>, control: &Control) -> Result<Tensor> {
        let (device, last) = (rows.device(), self.layers.len() - 1);
        let widths = self.widths_from(rows);
        let result = Tensor::f_empty([range.end - range.start, widths[last + 1]], (Kind::Float, device))?;
        let widest = widths.iter().copied().max().unwrap_or(1);
        let room = if device.is_cuda() { GPU_BLOCK_VALUES } else { BLOCK_VALUES };
        let size = (room / widest).clamp(1, rows.n_rows().max(1));
        // Input and output of a layer, by turns.
        let empty = || Tensor::f_empty([size * widest], (Kind::Float, device));
        let scratch = [empty()?, empty()?];
        for start in range.clone().step_by(size as usize) {
            control.check()?;
            let count = size.min(range.end - start);
            let mut x = scratch[0].f_narrow(0, 0, count * widths[0])?.f_view([count, widths[0]])?;
            rows.copy_held(start, &x)?;
            for (i, layer) in self.layers.iter().enumerate() {
                let width = widths[i + 1];
                let y = if i == last {
                    result.f_narrow(0, start - range.start, count)?
                } else {
                    scratch[(i + 1) % 2].f_narrow(0, 0, count * width)?.f_view([count, width])?
                };
                dense::product(&y, &x, &layer.weight.f_tr()?, 0.0, Factors::Float32)?;
                dense::activate(&y, &layer.bias, layer.relu, None)?;
                x = y;
            }
        }
        Ok(result)
    }
}

/// Who divides work on `rows`: those who hold them, whether or not the caller says that they work together.
fn ranks_of(rows: &Rows, control: &Control) -> Ranks {
    match rows.ranks() {
        Ranks::ALONE => control.ranks(),
        several => several,
    }
}
