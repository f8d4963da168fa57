//! `model.pt`: the fitted model as a TorchScript module that Python, C++ and [`LoadedPredictor`] load.
//!
//! The module takes *raw* rows \[n, d\] (or \[n, ...\] with d values a row, such as images \[n, 28, 28\]) of any number
//! type, n = 0 included; the recipe's scaling is inside. Its methods:
//!
//! | method | gives | shape |
//! |---|---|---|
//! | `forward` | q, the soft assignment (Xie et al. 2016, Eq. 1) | \[n, k\] |
//! | `encode` | z, the latent rows | \[n, m\] |
//! | `reconstruct` | the rows as the autoencoder gives them back, in raw units | \[n, d\] |
//! | `predict` | the cluster of each row, the largest of its q (int64) | \[n\] |
//! | `n_features`, `n_latent`, `n_clusters` | d, m, k | int |
//!
//! Weights and centroids are parameters (`encoder_0_weight`, ..., `centroids`; `groups` \[k, k'\] of 0 and 1 where clusters were joined,
//! by which q is multiplied, and k' is what the methods give; `input_mean` and `input_deviation` \[1, d\],
//! which are taken off and divided by, where rows are centred; of counts after ln(1 + x) of rows of one total, `input_total`;
//! `input_selected`, the columns that are used of rows of the file's width, and `input_offset`, float64, which is taken off first:
//! give such rows as float64), so that `.to(device)` and `.to(dtype)`
//! move them; they ask for no gradient, so that a result is ready for `.numpy()`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use tch::{no_grad, CModule, Device, IValue, Kind, TchError, Tensor};

use super::archive;
use crate::backend::ScriptModule;
use crate::data::{Intake, RowRule, Scaling, Selection};
use crate::error::{Error, Result};
use crate::model::{ClusteringLayer, DenseStack, Groups, Network, Profile};

/// How every TorchScript file (a zip archive) begins.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// Rows that [`LoadedPredictor`] gives the module at once: bounds the memory for the hidden layers' outputs.
const CHUNK_ROWS: i64 = 4096;
/// Bytes of a model that are read from a pipe at the most.
const MOST_PIPED: u64 = 4 << 30;

/// What a predictor is made of; layers in the order in which they are applied, ReLU between and none after the last.
#[derive(Clone, Copy, Debug)]
pub struct Predictor<'a> {
    /// The encoder's layers, (weight \[out, in\], bias \[out\]); the first takes the rows, the last gives the latent.
    pub encoder: &'a [(Tensor, Tensor)],
    /// The decoder's layers, likewise; the first takes the latent, the last gives the rows back.
    pub decoder: &'a [(Tensor, Tensor)],
    /// μ, \[k, m\].
    pub centroids: &'a Tensor,
    /// α, the degrees of freedom of the Student-t kernel; above 0.
    pub alpha: f64,
    /// Which centroids make up a cluster together, where clusters were joined.
    pub groups: Option<&'a Groups>,
    /// What is done to raw rows as they are read.
    pub intake: &'a Intake,
    /// What is done to rows then, before the encoder.
    pub scaling: &'a Scaling,
    /// What the training rows were like, where that is known.
    pub profile: Option<&'a Profile>,
}

impl Predictor<'_> {
    /// What `make` makes of the predictor of a `network` whose layers are dense; `None` for another.
    ///
    /// # Errors
    /// What `make` fails with.
    pub fn with<T>(
        network: &dyn Network,
        layer: &ClusteringLayer,
        (intake, scaling): (&Intake, &Scaling),
        profile: Option<&Profile>,
        make: impl Fn(&Predictor) -> Result<T>,
    ) -> Result<Option<T>> {
        let (Some(encoder), Some(decoder)) = (network.encoder_stack(), network.decoder_stack()) else {
            return Ok(None);
        };
        let pairs = |stack: &DenseStack| -> Vec<(Tensor, Tensor)> {
            let layers = stack.layers().iter();
            layers.map(|layer| (layer.weight.shallow_clone(), layer.bias.shallow_clone())).collect()
        };
        make(&Predictor {
            encoder: &pairs(&encoder),
            decoder: &pairs(&decoder),
            centroids: layer.centroids(),
            alpha: layer.alpha(),
            groups: layer.groups(),
            intake,
            scaling,
            profile,
        })
        .map(Some)
    }
}

/// The widths of a predictor, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Widths {
    features: i64,
    latent: i64,
    clusters: i64,
}

/// The bytes of `model.pt` for `predictor`, weights as float32 on the CPU.
///
/// Equal weights give equal bytes.
///
/// # Errors
///
/// [`Error::Torch`] if the layers' shapes do not fit together, α or the scale is out of range, or libtorch fails.
pub fn to_torchscript(predictor: &Predictor) -> Result<Vec<u8>> {
    let widths = check(predictor).map_err(|problem| TchError::Shape(format!("predictor: {problem}")))?;
    let mut module = ScriptModule::new("DEC")?;
    for (stack, layers) in [("encoder", predictor.encoder), ("decoder", predictor.decoder)] {
        for (index, (weight, bias)) in layers.iter().enumerate() {
            module.register_parameter(&format!("{stack}_{index}_weight"), &own(weight)?)?;
            module.register_parameter(&format!("{stack}_{index}_bias"), &own(bias)?)?;
        }
    }
    module.register_parameter("centroids", &own(predictor.centroids)?)?;
    if let Some(groups) = predictor.groups {
        module.register_parameter("groups", &groups.matrix()?)?;
    }
    for (name, tensor) in predictor.intake.tensors()? {
        module.register_parameter(&format!("input_{name}"), &tensor)?;
    }
    for (name, row) in predictor.scaling.tensors()? {
        module.register_parameter(&format!("input_{name}"), &row)?;
    }
    for (name, tensor) in predictor.profile.map(Profile::tensors).transpose()?.into_iter().flatten() {
        module.register_parameter(&format!("training_{name}"), &tensor)?;
    }
    module.define(&source(predictor, widths))?;
    module.to_bytes()
}

/// A copy with a storage of just its own size (an archive holds whole storages), apart from the trained tensor.
fn own(tensor: &Tensor) -> Result<Tensor> {
    no_grad(|| {
        let mut copy = Tensor::f_empty(tensor.size(), (Kind::Float, Device::Cpu))?;
        copy.f_copy_(&tensor.f_detach()?)?;
        Ok(copy)
    })
}

fn check(predictor: &Predictor) -> std::result::Result<Widths, String> {
    let (features, latent) = check_stack("encoder", predictor.encoder)?;
    let (decoder_in, decoder_out) = check_stack("decoder", predictor.decoder)?;
    if (decoder_in, decoder_out) != (latent, features) {
        return Err(format!(
            "the encoder goes from {features} to {latent} values and the decoder from {decoder_in} to {decoder_out}"
        ));
    }
    let clusters = match predictor.centroids.size()[..] {
        [clusters, width] if clusters > 0 && width == latent => clusters,
        ref other => return Err(format!("centroids of shape {other:?}, not [k, {latent}]")),
    };
    let clusters = match predictor.groups {
        Some(groups) if groups.cluster_of().len() as i64 != clusters => {
            return Err(format!("groups of {} centroids for {clusters} centroids", groups.cluster_of().len()));
        }
        Some(groups) => groups.n_clusters() as i64,
        None => clusters,
    };
    if !(predictor.alpha.is_finite() && predictor.alpha > 0.0) {
        return Err(format!("alpha is {}, not above 0", predictor.alpha));
    }
    match predictor.scaling {
        Scaling::Factor(factor) if !(factor.is_finite() && *factor != 0.0) => {
            return Err(format!("the scale is {factor}, not a number other than 0"));
        }
        Scaling::Centre { rows: RowRule::Counts(total), .. } if !(total.is_finite() && *total > 0.0) => {
            return Err(format!("the rows' total is {total}, not a number above 0"));
        }
        Scaling::Centre { mean, deviation, .. } if [mean.len(), deviation.len()] != [features as usize; 2] => {
            return Err(format!("{} means and {} deviations for {features} features", mean.len(), deviation.len()));
        }
        Scaling::Centre { mean, deviation, .. }
            if !(mean.iter().all(|m| m.is_finite()) && deviation.iter().all(|s| s.is_finite() && *s > 0.0)) =>
        {
            return Err("means and deviations of the features are not all numbers, deviations above 0".to_owned());
        }
        _ => {}
    }
    Ok(Widths { features, latent, clusters })
}

/// The width that goes into a stack of layers and the one that comes out.
fn check_stack(name: &str, layers: &[(Tensor, Tensor)]) -> std::result::Result<(i64, i64), String> {
    let mut ends: Option<(i64, i64)> = None;
    for (index, (weight, bias)) in layers.iter().enumerate() {
        let (out_width, in_width) = weight
            .size2()
            .map_err(|_| format!("{name} {index}: weight of shape {:?}, not [out, in]", weight.size()))?;
        if bias.size() != [out_width] {
            return Err(format!("{name} {index}: weight {:?} and bias {:?} do not fit", weight.size(), bias.size()));
        }
        let first = match ends {
            Some((_, before)) if before != in_width => {
                return Err(format!("{name} {index} takes {in_width} values, the layer before gives {before}"));
            }
            Some((first, _)) => first,
            None => in_width,
        };
        ends = Some((first, out_width));
    }
    match ends {
        Some((first, last)) if first > 0 && last > 0 => Ok((first, last)),
        _ => Err(format!("the {name} has no layers or no width")),
    }
}

/// The module's methods as TorchScript.
fn source(predictor: &Predictor, widths: Widths) -> String {
    let Widths { features, latent, clusters } = widths;
    let alpha = predictor.alpha;
    let exponent = -(alpha + 1.0) / 2.0;
    let stack = |name: &str, layers: usize| {
        let mut lines = String::new();
        for index in 0..layers {
            if index > 0 {
                lines.push_str("    h = torch.relu(h)\n");
            }
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "    h = torch.linear(h, self.{name}_{index}_weight, self.{name}_{index}_bias)");
        }
        lines
    };
    let encoder = stack("encoder", predictor.encoder.len());
    let decoder = stack("decoder", predictor.decoder.len());
    let centred = |values: &str| format!("({values} - self.input_mean) / self.input_deviation");
    let uncentred = "h * self.input_deviation + self.input_mean";
    let joined = if predictor.groups.is_some() { ".matmul(self.groups)" } else { "" };
    let (scaled, unscaled) = match predictor.scaling {
        Scaling::Factor(factor) => (format!("flat * {factor:?}"), format!("h / {factor:?}")),
        Scaling::Centre { rows: RowRule::Plain, .. } => (centred("flat"), uncentred.to_owned()),
        Scaling::Centre { rows: RowRule::Unit, .. } => (
            centred("(flat / lengths).to(flat.dtype)"),
            // Back to the row's own length.
            format!("({uncentred}) * self.lengths(rows).to(h.dtype)"),
        ),
        Scaling::Centre { rows: RowRule::Counts(total), .. } => (
            centred(&format!("torch.log1p(counts * ({total:?} / totals)).to(flat.dtype)")),
            // Back to counts of the row's own total.
            format!("torch.expm1({uncentred}) * (self.totals(rows) / {total:?}).to(h.dtype)"),
        ),
    };
    let Intake { selected, offset } = predictor.intake;
    let select = selected.as_ref().map_or_else(String::new, |Selection { of, .. }| {
        format!("    if flat.size(1) == {of}:\n        flat = flat.index_select(1, self.input_selected)\n")
    });
    // Before anything is rounded to float32.
    let less = if offset.is_some() { "    flat = flat.double() - self.input_offset\n" } else { "" };
    let back = if offset.is_some() { "    h = h.double() + self.input_offset\n" } else { "" };
    // In float32 whatever the weights are: float16 ends at 65504, bfloat16 rounds counts above 256.
    let counted = match predictor.scaling {
        Scaling::Centre { rows: RowRule::Unit, .. } => "    lengths = self.lengths(rows)\n",
        Scaling::Centre { rows: RowRule::Counts(_), .. } => {
            "    counts = self.take(rows).float()\n    assert bool((counts >= 0).all()), \"expected \
             counts, got values below 0\"\n    totals = self.totals(rows)\n"
        }
        _ => "",
    };
    // {:?} of a float is the shortest text that reads back as the same float, and always a float literal.
    format!(
        r#"
def n_features(self) -> int:
    return {features}

def n_latent(self) -> int:
    return {latent}

def n_clusters(self) -> int:
    return {clusters}

# The sum of each row's values [n, 1], at least 1.
def totals(self, rows: Tensor) -> Tensor:
    return self.take(rows).float().sum(1, keepdim=True).clamp_min(1.0)

# The length of each row [n, 1]; 1 of a row of zeros.
def lengths(self, rows: Tensor) -> Tensor:
    squares = self.take(rows).double().square().sum(1, keepdim=True)
    return torch.where(squares > 0, squares.sqrt(), torch.ones_like(squares))

# Raw rows [n, ...] as [n, {features}]: the columns that are used, less what was taken off them.
def take(self, rows: Tensor) -> Tensor:
    assert rows.dim() >= 2, "expected rows of {features} features as [n, {features}] or [n, ...], got shape {{}}".format(rows.size())
    flat = torch.flatten(rows, 1)
{select}    assert flat.size(1) == {features}, "expected rows of {features} features, got {{}} (shape {{}})".format(flat.size(1), rows.size())
{less}    return flat

# Raw rows [n, ...] as the encoder takes them: [n, {features}], the weights' type, scaled.
def prepare(self, rows: Tensor) -> Tensor:
    flat = self.take(rows).to(self.encoder_0_weight.dtype)
{counted}    return {scaled}

def encode_prepared(self, rows: Tensor) -> Tensor:
    h = rows
{encoder}    return h

# log q from -(alpha + 1) / 2 * log1p(d^2 / alpha), with d^2 of direct differences: |z|^2 - 2 z.mu + |mu|^2 cancels.
def assign(self, latent: Tensor) -> Tensor:
    squared = (latent.unsqueeze(1) - self.centroids.unsqueeze(0)).square().sum(-1)
    return torch.softmax(torch.log1p(squared / {alpha:?}) * {exponent:?}, 1){joined}

def encode(self, rows: Tensor) -> Tensor:
    return self.encode_prepared(self.prepare(rows))

def forward(self, rows: Tensor) -> Tensor:
    return self.assign(self.encode(rows))

def predict(self, rows: Tensor) -> Tensor:
    return self.forward(rows).argmax(1)

def reconstruct(self, rows: Tensor) -> Tensor:
    h = self.encode(rows)
{decoder}    h = {unscaled}
{back}    return h
"#
    )
}

/// A `model.pt` that was read back, for labelling new rows.
#[derive(Debug)]
pub struct LoadedPredictor {
    path: PathBuf,
    module: CModule,
    device: Device,
    widths: Widths,
    intake: Intake,
    profile: Option<Profile>,
    centroids: Option<Tensor>,
    groups: Option<Groups>,
}

impl LoadedPredictor {
    /// Reads `path` and puts the weights on `device`.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if there is no such file, or it is not a TorchScript module, is cut short, claims more than there is, has code
    /// that may not come to an end, or is a module of another program.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        let path = path.as_ref();
        let (start, file) = open_archive(path)?;
        let not_whole = |reason: String| {
            Error::data(
                path,
                format!("not a whole TorchScript file: {reason}. A model.pt as `dec` writes it would be right"),
            )
        };
        let unusable = |error: TchError| not_whole(summary(&error));
        let length = file.metadata().ok().filter(|found| path.to_str().is_some() && found.is_file());
        let mut module = if let Some(found) = length {
            archive::check(BufReader::new(&file), found.len()).map_err(not_whole)?;
            // Not through a buffer of ours, which libtorch would copy twice.
            CModule::load_on_device(path, device).map_err(unusable)?
        } else {
            let mut bytes = start;
            file.take(MOST_PIPED).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
            archive::check(Cursor::new(&bytes), bytes.len() as u64).map_err(not_whole)?;
            CModule::load_data_on_device(&mut bytes.as_slice(), device).map_err(unusable)?
        };
        module.f_set_eval().map_err(unusable)?;
        // Optimising these few operations takes longer than it saves, and on a GPU the JIT would compile fused kernels anew
        // for each number of rows. The switch is the thread's, but this is the only TorchScript that runs here.
        tch::jit::f_set_graph_executor_optimize(false)?;
        let width = |method: &str| match module.method_is::<IValue>(method, &[]) {
            Ok(IValue::Int(value)) if value > 0 => Ok(value),
            _ => Err(Error::data(
                path,
                format!(
                    "a TorchScript module, but not one of `dec`'s: it has no method {method}() that gives an int. \
                         The model.pt of a run directory would be right"
                ),
            )),
        };
        let widths =
            Widths { features: width("n_features")?, latent: width("n_latent")?, clusters: width("n_clusters")? };
        let named = module.named_parameters().map_err(unusable)?;
        let intake = Intake::from_tensors(|name| {
            let name = format!("input_{name}");
            named.iter().find(|(found, _)| *found == name).map(|(_, tensor)| tensor)
        })
        .map_err(|e| e.in_file(path))?;
        let tensor = |name: &str| named.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor);
        let profile = Profile::from_tensors(|name| tensor(&format!("training_{name}"))).map_err(|e| e.in_file(path))?;
        let centroids = tensor("centroids").map(|centroids| centroids.f_to_device(Device::Cpu)).transpose()?;
        let groups = tensor("groups").map(Groups::of_matrix).transpose().map_err(|e| e.in_file(path))?;
        Ok(Self { path: path.to_owned(), module, device, widths, intake, profile, centroids, groups })
    }

    /// d, the number of values in a row.
    pub fn n_features(&self) -> i64 {
        self.widths.features
    }

    /// What the module does to raw rows first, and a reader may do in its place but for the offset.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// What the training rows were like; `None` of an older model.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// μ \[k, m\] on the CPU; `None` where the module has none of that name.
    pub fn centroids(&self) -> Option<&Tensor> {
        self.centroids.as_ref()
    }

    /// Which centroids make up a cluster together, where clusters were joined.
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// m, the width of the latent.
    pub fn n_latent(&self) -> i64 {
        self.widths.latent
    }

    /// k, the number of clusters; fewer than centroids where some were joined.
    pub fn n_clusters(&self) -> i64 {
        self.widths.clusters
    }

    /// The cluster of each raw row and its confidence, the q of that cluster (0 to 1).
    ///
    /// `rows` is \[n, d\] or \[n, ...\] with d values a row, on any device, of any number type, not scaled.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] naming the model's file if the rows have another width than it takes, or it fails.
    pub fn predict(&self, rows: &Tensor) -> Result<(Vec<i64>, Vec<f32>)> {
        let q = self.soft_assignment(rows)?;
        // `gather` of the label, not `max`: the one label decides both.
        let labels = q.f_argmax(1, false)?;
        let confidence = q.f_gather(1, &labels.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
        Ok((Vec::try_from(&labels)?, Vec::try_from(&confidence)?))
    }

    /// q \[n, k\] of raw rows, float32 on the CPU.
    ///
    /// # Errors
    ///
    /// As [`LoadedPredictor::predict`].
    pub fn soft_assignment(&self, rows: &Tensor) -> Result<Tensor> {
        self.run("forward", rows, self.widths.clusters)
    }

    /// q \[n, k\] of latent rows \[n, m\], as [`LoadedPredictor::encode`] gives them.
    ///
    /// # Errors
    ///
    /// As [`LoadedPredictor::predict`].
    pub fn assign(&self, latent: &Tensor) -> Result<Tensor> {
        self.in_chunks("assign", latent, self.widths.clusters)
    }

    /// z \[n, m\] of raw rows, float32 on the CPU.
    ///
    /// # Errors
    ///
    /// As [`LoadedPredictor::predict`].
    pub fn encode(&self, rows: &Tensor) -> Result<Tensor> {
        self.run("encode", rows, self.widths.latent)
    }

    /// The autoencoder's reconstruction \[n, d\] of raw rows, in raw units, float32 on the CPU.
    ///
    /// # Errors
    ///
    /// As [`LoadedPredictor::predict`].
    pub fn reconstruct(&self, rows: &Tensor) -> Result<Tensor> {
        self.run("reconstruct", rows, self.widths.features)
    }

    /// Runs `method` over raw rows to \[n, width\].
    fn run(&self, method: &str, rows: &Tensor, width: i64) -> Result<Tensor> {
        let shape = rows.size();
        // A product that overflows is no width that a model has.
        let features = shape.iter().skip(1).try_fold(1i64, |product, &size| product.checked_mul(size));
        let selects_from = self.intake.selected.as_ref().map(|selection| selection.of as i64);
        if shape.len() < 2
            || (features != Some(self.widths.features) && (features.is_none() || features != selects_from))
        {
            return Err(self.problem(format!(
                "takes rows of {} features, the data has the shape {shape:?}",
                self.widths.features
            )));
        }
        self.in_chunks(method, rows, width)
    }

    /// Runs `method` over rows, some thousand at a time, to \[n, width\].
    fn in_chunks(&self, method: &str, rows: &Tensor, width: i64) -> Result<Tensor> {
        let n_rows = rows.size().first().copied().unwrap_or(0);
        no_grad(|| {
            let mut parts = Vec::new();
            // At least one chunk: no rows give a result of no rows.
            for start in (0..n_rows.max(1)).step_by(CHUNK_ROWS as usize) {
                let chunk = rows.f_narrow(0, start, CHUNK_ROWS.min(n_rows - start))?.f_to_device(self.device)?;
                let expected = [chunk.size()[0], width];
                let part = self
                    .module
                    .method_ts(method, &[chunk])
                    .map_err(|error| self.problem(format!("{method} fails: {}", summary(&error))))?;
                if !part.defined() || part.size() != expected {
                    return Err(self.problem(format!("{method} does not give [n, {width}]: not a model of `dec`'s")));
                }
                parts.push(part.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?);
            }
            Ok(Tensor::f_cat(&parts, 0)?)
        })
    }

    fn problem(&self, problem: String) -> Error {
        Error::data(&self.path, problem)
    }
}

/// The file behind its first bytes, and those, if it begins as a TorchScript file does: anything else, however large, is
/// not read.
fn open_archive(path: &Path) -> Result<(Vec<u8>, File)> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut start = Vec::new();
    (&mut file).take(ZIP_MAGIC.len() as u64).read_to_end(&mut start).map_err(|error| unreadable(path, &error))?;
    if start != ZIP_MAGIC {
        return Err(Error::data(
            path,
            "not a TorchScript file (it does not begin as one). The model.pt of a run directory would be right",
        ));
    }
    Ok((start, file))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::data(path, format!("cannot read the model: {error}"))
}

/// What happened, out of libtorch's long message: the first sentence, or for an error inside a method, which begins with
/// the interpreter's traceback, the last line.
fn summary(error: &TchError) -> String {
    let text = match error {
        TchError::Torch(message) => message.clone(),
        other => other.to_string(),
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("no message");
    let line = if first.contains("failed in the TorchScript interpreter") {
        lines.next_back().unwrap_or(first)
    } else {
        first.split(". ").next().unwrap_or(first)
    };
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layers(widths: &[i64]) -> Vec<(Tensor, Tensor)> {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        widths.windows(2).map(|pair| (zeros(&[pair[1], pair[0]]), zeros(&[pair[1]]))).collect()
    }

    fn predictor<'a>(
        [encoder, decoder]: [&'a [(Tensor, Tensor)]; 2],
        centroids: &'a Tensor,
        intake: &'a Intake,
        scaling: &'a Scaling,
    ) -> Predictor<'a> {
        Predictor { encoder, decoder, centroids, alpha: 1.0, groups: None, intake, scaling, profile: None }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let (encoder, decoder) = (layers(&[6, 5, 2]), layers(&[2, 5, 6]));
        let centroids = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu));
        let (intake, scaling) = (Intake::default(), &Scaling::Factor(0.02));
        let good = predictor([&encoder, &decoder], &centroids, &intake, scaling);
        assert_eq!(check(&good), Ok(Widths { features: 6, latent: 2, clusters: 3 }));

        let refused = |predictor: Predictor, part: &str| {
            let error = to_torchscript(&predictor).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(Predictor { encoder: &[], ..good }, "no layers");
        refused(Predictor { decoder: &layers(&[2, 5, 7]), ..good }, "from 2 to 7");
        let mut gap = layers(&[6, 5, 2]);
        gap[1] = layers(&[4, 2]).remove(0);
        refused(Predictor { encoder: &gap, ..good }, "takes 4 values, the layer before gives 5");
        let mut bias = layers(&[6, 5, 2]);
        bias[0].1 = Tensor::zeros([4], (Kind::Float, Device::Cpu));
        refused(Predictor { encoder: &bias, ..good }, "bias [4]");
        refused(Predictor { centroids: &Tensor::zeros([3, 4], (Kind::Float, Device::Cpu)), ..good }, "not [k, 2]");
        let groups = &Groups::new(&[0, 1, 1, 0]);
        refused(Predictor { groups: Some(groups), ..good }, "groups of 4 centroids for 3 centroids");
        let groups = &Groups::new(&[0, 1, 0]);
        let joined = check(&Predictor { groups: Some(groups), ..good });
        assert_eq!(joined, Ok(Widths { features: 6, latent: 2, clusters: 2 }));
        refused(Predictor { alpha: 0.0, ..good }, "alpha is 0");
        refused(Predictor { alpha: f64::NAN, ..good }, "alpha");
        refused(Predictor { scaling: &Scaling::Factor(0.0), ..good }, "scale is 0");
    }

    #[test]
    fn joined_clusters_are_summed_by_the_module_as_by_the_library() {
        tch::manual_seed(2);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let layers = |widths: &[i64]| -> Vec<(Tensor, Tensor)> {
            widths.windows(2).map(|pair| (random(&[pair[1], pair[0]]), random(&[pair[1]]))).collect()
        };
        let (encoder, decoder, centroids) = (layers(&[6, 5, 2]), layers(&[2, 5, 6]), random(&[4, 2]));
        let intake = Intake::default();
        let plain = predictor([&encoder, &decoder], &centroids, &intake, &Scaling::Factor(0.5));
        let groups = Groups::new(&[0, 1, 0, 2]);
        let joined = Predictor { groups: Some(&groups), ..plain };
        let folder = tempfile::tempdir().unwrap();
        let load = |predictor: &Predictor| {
            let path = folder.path().join("model.pt");
            std::fs::write(&path, to_torchscript(predictor).unwrap()).unwrap();
            LoadedPredictor::load(path, Device::Cpu).unwrap()
        };
        let (plain, joined) = (load(&plain), load(&joined));
        assert_eq!((plain.n_clusters(), joined.n_clusters()), (4, 3));
        assert_eq!((plain.groups(), joined.groups()), (None, Some(&groups)));
        let rows = random(&[50, 6]);
        let q = groups.sum(&plain.soft_assignment(&rows).unwrap()).unwrap();
        let found = joined.soft_assignment(&rows).unwrap();
        assert!(found.allclose(&q, 1e-6, 1e-7, false), "{found} {q}");
        assert!(joined.encode(&rows).unwrap().equal(&plain.encode(&rows).unwrap()));
        let labels: Vec<i64> = Vec::try_from(q.argmax(1, false)).unwrap();
        assert_eq!(joined.predict(&rows).unwrap().0, labels);
    }

    #[test]
    fn summaries_are_one_line() {
        let first = TchError::Torch("failed finding central directory. Advice.\nframe #0: somewhere".to_owned());
        assert_eq!(summary(&first), "failed finding central directory");
        let inner =
            "The following operation failed in the TorchScript interpreter.\nTraceback:\n  x\nRuntimeError: y\n";
        assert_eq!(summary(&TchError::Torch(inner.to_owned())), "RuntimeError: y");
        assert_eq!(summary(&TchError::Torch(String::new())), "no message");
    }
}
