//! `model.onnx`: the fitted model for ONNX Runtime and whatever else reads ONNX, without Python or libtorch.
//!
//! One graph, of the same mathematics as `model.pt`. The scaling is inside.
//!
//! | | name | shape | type |
//! |---|---|---|---|
//! | input | `rows`, raw rows as in the file | \[n, w\] | float32; float64 where the model has an offset |
//! | output | `soft_assignment`, q (Xie et al. 2016, Eq. 1) | \[n, k\] | float32 |
//! | output | `embedding`, z | \[n, m\] | float32 |
//! | output | `reconstruction`, the rows as the autoencoder gives them back, in raw units | \[n, d\] | as the input |
//! | output | `cluster`, the largest q of each row, the first where several are | \[n\] | int64 |
//!
//! n is any number, 0 included. w is d, or the file's number of columns where a selection of d columns is used. Fetch only the
//! outputs that you need: runtimes skip the rest. `soft_assignment` takes 4 n k m bytes of working memory, so give many rows in
//! pieces.
//!
//! Of counts, a row with a value below 0 gives NaN in all outputs (`model.pt` refuses it) and a `cluster` without meaning.
//!
//! The metadata holds `n_features` (d), `n_latent` (m), `n_clusters` (k), `input_width` (w), `alpha`, `scaling`, and where
//! columns have names, `columns`: a JSON list of the d that are used.

mod graph;
mod maths;
#[cfg(test)]
mod tests;

use graph::{About, Dim, Element, Graph};

use crate::data::RowRule;
use crate::error::{Error, Result};
use crate::model::Groups;

/// No protocol buffer may be larger, ONNX's included.
const MOST_BYTES: u64 = i32::MAX as u64;
/// Bytes for all that are neither weights nor names of columns; a generous bound.
const FRAME_BYTES: u64 = 1 << 20;

/// A fully connected layer: x · weightᵀ + bias.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// \[out, in\], row by row.
    pub weight: &'a [f32],
    /// \[out\].
    pub bias: &'a [f32],
}

impl Layer<'_> {
    fn outputs(&self) -> usize {
        self.bias.len()
    }

    fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }
}

/// From raw rows to those that the encoder takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OnnxScaling<'a> {
    /// Every value times this; not 0.
    Factor(f64),
    /// Each feature less its mean, over its deviation.
    Centre {
        /// \[d\].
        mean: &'a [f32],
        /// \[d\], above 0.
        deviation: &'a [f32],
        /// What is done to each row before that.
        rows: RowRule,
    },
}

/// The columns of a file that are used.
#[derive(Debug, Clone, Copy)]
pub struct OnnxSelection<'a> {
    /// Columns that the file has.
    pub of: usize,
    /// Those that are used, \[d\], each below `of`.
    pub columns: &'a [usize],
}

/// What a fitted model is made of; layers in the order in which they are applied, ReLU between and none after the last.
#[derive(Debug, Clone, Copy)]
pub struct OnnxModel<'a> {
    /// From d features to m.
    pub encoder: &'a [Layer<'a>],
    /// From m to d.
    pub decoder: &'a [Layer<'a>],
    /// μ, \[k, m\], row by row.
    pub centroids: &'a [f32],
    /// α, the degrees of freedom of the Student-t kernel; above 0.
    pub alpha: f64,
    /// Which centroids make up a cluster together, where clusters were joined; q is then summed over them.
    pub groups: Option<&'a Groups>,
    /// What is done to rows before the encoder.
    pub scaling: &'a OnnxScaling<'a>,
    /// The columns that are used; `None` for all.
    pub selection: Option<OnnxSelection<'a>>,
    /// What is taken off each used column first, \[d\]; `None` for nothing.
    pub offset: Option<&'a [f64]>,
    /// Names of the used columns, \[d\], or of all of the file's.
    pub columns: Option<&'a [String]>,
    /// The version of `dec`.
    pub version: &'a str,
}

/// The widths of a model, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Widths {
    input: usize,
    features: usize,
    latent: usize,
    clusters: usize,
}

/// The bytes of an ONNX file (opset 13) for `model`; see the module's description.
///
/// Equal models give equal bytes.
///
/// ```
/// # use dec::export::onnx::{to_onnx, Layer, OnnxModel, OnnxScaling};
/// let layer = Layer { weight: &[0.5, -0.5], bias: &[0.1] };
/// let back = Layer { weight: &[1.0, -1.0], bias: &[0.0, 0.0] };
/// let model = OnnxModel {
///     encoder: &[layer],
///     decoder: &[back],
///     centroids: &[-1.0, 0.0, 1.0],
///     alpha: 1.0,
///     groups: None,
///     scaling: &OnnxScaling::Factor(1.0 / 255.0),
///     selection: None,
///     offset: None,
///     columns: None,
///     version: "0.1.0",
/// };
/// let bytes = to_onnx(&model)?;
/// assert_eq!(bytes[..2], [0x08, 7], "field 1, the format's version: 7");
/// # Ok::<(), dec::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Config`] if the parts do not fit together, a number is out of range, or the file would exceed 2 GiB, which is as
/// much as the format allows.
pub fn to_onnx(model: &OnnxModel) -> Result<Vec<u8>> {
    let refuse = |problem: String| Error::Config(format!("the model cannot be written as ONNX: {problem}"));
    let widths = check(model).map_err(refuse)?;
    check_size(payload_bytes(model) + FRAME_BYTES).map_err(refuse)?;
    let mut graph = Graph::default();
    let rows = maths::take(&mut graph, model);
    let scaled = maths::scale(&mut graph, model.scaling, rows);
    maths::stack(&mut graph, "encoder", model.encoder, scaled, "embedding");
    maths::assign(&mut graph, model, widths, "embedding", "soft_assignment");
    let by_row = [graph::Attribute::Int("axis", 1), graph::Attribute::Int("keepdims", 0)];
    graph.node("ArgMax", &["soft_assignment"], "cluster", &by_row);
    maths::stack(&mut graph, "decoder", model.decoder, "embedding", "decoded_rows");
    maths::unscale(&mut graph, model, "decoded_rows", "reconstruction");
    name_ends(&mut graph, model, widths);
    let about = About {
        version: model.version,
        text: "Deep embedded clustering (Xie et al. 2016): raw rows to soft assignments, embedding, reconstruction and clusters",
        metadata: &metadata(model, widths),
    };
    Ok(graph.into_model(&about).into_bytes())
}

fn name_ends(graph: &mut Graph, model: &OnnxModel, widths: Widths) {
    let raw = if model.offset.is_some() { Element::Double } else { Element::Float };
    let n = Dim::Any("n");
    let by = |width: usize| [n, Dim::Is(width)];
    graph.input("rows", raw, &by(widths.input), "Raw rows; the scaling is part of the graph");
    graph.output("soft_assignment", Element::Float, &by(widths.clusters), "q: the share of each cluster in each row");
    graph.output("embedding", Element::Float, &by(widths.latent), "z: the latent rows");
    graph.output("reconstruction", raw, &by(widths.features), "The used columns as the autoencoder gives them back");
    graph.output("cluster", Element::Int64, &[n], "The cluster of each row: the largest of its q");
}

fn metadata(model: &OnnxModel, widths: Widths) -> Vec<(&'static str, String)> {
    let scaling = match model.scaling {
        OnnxScaling::Factor(_) => "factor",
        OnnxScaling::Centre { rows: RowRule::Plain, .. } => "centre",
        OnnxScaling::Centre { rows: RowRule::Unit, .. } => "unit_then_centre",
        OnnxScaling::Centre { rows: RowRule::Counts(_), .. } => "counts_then_centre",
    };
    let mut entries = vec![
        ("n_features", widths.features.to_string()),
        ("n_latent", widths.latent.to_string()),
        ("n_clusters", widths.clusters.to_string()),
        ("input_width", widths.input.to_string()),
        ("alpha", format!("{:?}", model.alpha)),
        ("scaling", scaling.to_owned()),
    ];
    if let Some(names) = model.columns {
        let used: Vec<&String> = match model.selection {
            Some(selection) if names.len() != widths.features => {
                selection.columns.iter().filter_map(|&column| names.get(column)).collect()
            }
            _ => names.iter().collect(),
        };
        entries.push(("columns", serde_json::json!(used).to_string()));
    }
    entries
}

fn check(model: &OnnxModel) -> Result<Widths, String> {
    let (features, latent) = check_stack("encoder", model.encoder)?;
    let (decoder_in, decoder_out) = check_stack("decoder", model.decoder)?;
    if (decoder_in, decoder_out) != (latent, features) {
        return Err(format!(
            "the encoder goes from {features} to {latent} values and the decoder from {decoder_in} to {decoder_out}"
        ));
    }
    let clusters = model.centroids.len() / latent;
    if clusters == 0 || model.centroids.len() != clusters * latent {
        return Err(format!("{} values of centroids are not [k, {latent}]", model.centroids.len()));
    }
    let clusters = match model.groups {
        Some(groups) if groups.cluster_of().len() != clusters => {
            return Err(format!("groups of {} centroids for {clusters} centroids", groups.cluster_of().len()));
        }
        Some(groups) => groups.n_clusters(),
        None => clusters,
    };
    if !is_normal(model.alpha) || model.alpha < 0.0 {
        return Err(format!("alpha is {:?}, not a float32 above 0", model.alpha));
    }
    check_scaling(model.scaling, features)?;
    let input = check_intake(model, features)?;
    Ok(Widths { input, features, latent, clusters })
}

/// Whether float32 holds this number to its full precision, and not as 0 or infinity.
fn is_normal(value: f64) -> bool {
    (value as f32).is_normal()
}

fn check_scaling(scaling: &OnnxScaling, features: usize) -> Result<(), String> {
    match *scaling {
        OnnxScaling::Factor(factor) if !is_normal(factor) => {
            Err(format!("the scale is {factor:?}, not a float32 other than 0"))
        }
        OnnxScaling::Centre { rows: RowRule::Counts(total), .. } if !is_normal(total) || total < 0.0 => {
            Err(format!("the rows' total is {total:?}, not a float32 above 0"))
        }
        OnnxScaling::Centre { mean, deviation, .. } if [mean.len(), deviation.len()] != [features; 2] => {
            Err(format!("{} means and {} deviations for {features} features", mean.len(), deviation.len()))
        }
        OnnxScaling::Centre { mean, deviation, .. }
            if !(mean.iter().all(|m| m.is_finite()) && deviation.iter().all(|s| s.is_finite() && *s > 0.0)) =>
        {
            Err("means and deviations of the features are not all numbers, deviations above 0".to_owned())
        }
        _ => Ok(()),
    }
}

/// The width of the input, after checks of what is done to a file's columns.
fn check_intake(model: &OnnxModel, features: usize) -> Result<usize, String> {
    let input = match model.selection {
        None => features,
        Some(OnnxSelection { of, columns }) => {
            if columns.len() != features || columns.iter().any(|&column| column >= of) {
                return Err(format!("{} selected columns of {of} for {features} features", columns.len()));
            }
            of
        }
    };
    match model.offset {
        Some(offset) if offset.len() != features || offset.iter().any(|value| !value.is_finite()) => {
            return Err(format!("{} offsets for {features} features, or not all numbers", offset.len()));
        }
        _ => {}
    }
    match model.columns {
        Some(names) if names.len() != features && names.len() != input => {
            Err(format!("{} names for {features} features of {input} columns", names.len()))
        }
        _ => Ok(input),
    }
}

/// The width that goes into a stack of layers and the one that comes out.
fn check_stack(name: &str, layers: &[Layer]) -> Result<(usize, usize), String> {
    let mut before = None;
    for (index, layer) in layers.iter().enumerate() {
        let (inputs, outputs) = (layer.inputs(), layer.outputs());
        if inputs == 0 || layer.weight.len() != inputs * outputs {
            return Err(format!(
                "{name} {index}: {} weights and {outputs} biases, not [out, in] and [out]",
                layer.weight.len()
            ));
        }
        match before {
            Some(width) if width != inputs => {
                return Err(format!("{name} {index} takes {inputs} values, the layer before gives {width}"));
            }
            _ => before = Some(outputs),
        }
    }
    match (layers.first(), before) {
        (Some(first), Some(last)) => Ok((first.inputs(), last)),
        _ => Err(format!("the {name} has no layers")),
    }
}

/// Bytes of weights and names in the file.
fn payload_bytes(model: &OnnxModel) -> u64 {
    let layers = model.encoder.iter().chain(model.decoder);
    let scaling = match model.scaling {
        OnnxScaling::Factor(_) => 0,
        OnnxScaling::Centre { mean, deviation, .. } => mean.len() + deviation.len(),
    };
    let floats: usize = layers.map(|layer| layer.weight.len() + layer.bias.len()).sum();
    let groups = model.groups.map_or(0, |groups| groups.cluster_of().len() * groups.n_clusters());
    let wide = model.offset.map_or(0, <[f64]>::len) + model.selection.map_or(0, |selection| selection.columns.len());
    // A character takes six bytes at most as JSON, with quotes and a comma around each name.
    let names: usize = model.columns.unwrap_or_default().iter().map(|name| 6 * name.len() + 3).sum();
    4 * (floats + model.centroids.len() + groups + scaling) as u64 + 8 * wide as u64 + names as u64
}

fn check_size(bytes: u64) -> Result<(), String> {
    if bytes > MOST_BYTES {
        return Err(format!(
            "it would take {:.1} GB, and an ONNX file holds 2.1 GB at most; use model.pt, or fewer or narrower layers",
            bytes as f64 / 1e9
        ));
    }
    Ok(())
}
