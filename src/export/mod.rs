//! The fitted model for other programs: TorchScript, which Python and C++ load through libtorch, and ONNX.

mod archive;
pub mod onnx;
mod pickle;
mod torchscript;

use tch::{Kind, Tensor};

use crate::data::{values_of, Scaling};
use crate::error::Result;
pub use torchscript::{to_torchscript, LoadedPredictor, Predictor};

/// The bytes of `model.onnx` for `predictor`, whose columns have these names, or none; see [`onnx`].
///
/// # Errors
/// As for [`onnx::to_onnx`], or a libtorch failure.
pub fn to_onnx(predictor: &Predictor, columns: &[String]) -> Result<Vec<u8>> {
    let values = |tensor: &Tensor| -> Result<Vec<f32>> { values_of(&tensor.f_to_kind(Kind::Float)?) };
    let stack = |layers: &[(Tensor, Tensor)]| -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
        layers.iter().map(|(weight, bias)| Ok((values(weight)?, values(bias)?))).collect()
    };
    let (encoder, decoder) = (stack(predictor.encoder)?, stack(predictor.decoder)?);
    fn layers(values: &[(Vec<f32>, Vec<f32>)]) -> Vec<onnx::Layer<'_>> {
        values.iter().map(|(weight, bias)| onnx::Layer { weight, bias }).collect()
    }
    let (mean, deviation);
    let scaling = match predictor.scaling {
        Scaling::Factor(factor) => onnx::OnnxScaling::Factor(*factor),
        Scaling::Centre { mean: m, deviation: s, rows } => {
            (mean, deviation) = (m.to_vec(), s.to_vec());
            onnx::OnnxScaling::Centre { mean: &mean, deviation: &deviation, rows: *rows }
        }
    };
    let selected = predictor.intake.selected.as_ref();
    let offset = predictor.intake.offset.as_ref().map(|offset| offset.to_vec());
    onnx::to_onnx(&onnx::OnnxModel {
        encoder: &layers(&encoder),
        decoder: &layers(&decoder),
        centroids: &values(predictor.centroids)?,
        alpha: predictor.alpha,
        groups: predictor.groups,
        scaling: &scaling,
        selection: selected.map(|selection| onnx::OnnxSelection { of: selection.of, columns: &selection.columns }),
        offset: offset.as_deref(),
        columns: Some(columns).filter(|columns| !columns.is_empty()),
        version: env!("CARGO_PKG_VERSION"),
    })
}
