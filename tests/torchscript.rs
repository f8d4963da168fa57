//! `model.pt` written by the library, read back in Rust and, where `DEC_PYTHON` names an interpreter with PyTorch, in
//! Python (`tests/torchscript.py`); both against arithmetic done here from the weights.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;

use dec::data::{Intake, RowRule, Scaling, Selection};
use dec::export::{to_torchscript, LoadedPredictor, Predictor};
use dec::Error;
use serde_json::{json, Value};
use tch::{Device, Kind, Tensor};

const FEATURES: i64 = 12; // rows are also given as images of 3 by 4
const SCALE: f64 = 0.02;
const ALPHA: f64 = 1.5;

/// Fixed numbers without a pattern, in [-size, size].
fn noise(shape: &[i64], phase: f64, size: f64) -> Tensor {
    let n: i64 = shape.iter().product();
    let wave = (Tensor::arange(n, (Kind::Double, Device::Cpu)) * 7.31 + phase).sin() * size;
    wave.to_kind(Kind::Float).reshape(shape)
}

/// A small untrained DEC: 12-16-8-3 and back, four centroids.
struct Parts {
    encoder: Vec<(Tensor, Tensor)>,
    decoder: Vec<(Tensor, Tensor)>,
    centroids: Tensor,
}

impl Parts {
    /// The latent and the centroids lie around `offset` on every axis.
    fn new(offset: f64) -> Self {
        let layers = |widths: [i64; 4], phase: f64| -> Vec<_> {
            let layer = |(i, pair): (usize, &[i64])| {
                let phase = phase + i as f64;
                // Weights stay trainable tensors, as a training run would hand them over.
                let weight = noise(&[pair[1], pair[0]], phase, 0.6).set_requires_grad(true);
                (weight, noise(&[pair[1]], phase + 0.5, 0.3).set_requires_grad(true))
            };
            widths.windows(2).enumerate().map(layer).collect()
        };
        let mut encoder = layers([FEATURES, 16, 8, 3], 1.0);
        encoder[2].1 = encoder[2].1.detach() + offset;
        // Around the latent of four rows, so that no cluster is empty.
        let near = pass(&encoder, &scaled(&bytes(40))).index_select(0, &Tensor::from_slice(&[3i64, 14, 25, 36]));
        Self { encoder, decoder: layers([3, 8, 16, FEATURES], 5.0), centroids: near + noise(&[4, 3], 9.0, 0.1) }
    }

    fn predictor(&self) -> Predictor<'_> {
        Predictor {
            encoder: &self.encoder,
            decoder: &self.decoder,
            centroids: &self.centroids,
            alpha: ALPHA,
            groups: None,
            intake: const { &Intake { selected: None, offset: None } },
            scaling: &Scaling::Factor(SCALE),
            profile: None,
        }
    }

    /// q of latent rows, in float64 and as the paper writes it.
    fn assign(&self, z: &Tensor) -> Tensor {
        let (n, m) = z.size2().unwrap();
        let k = self.centroids.size()[0];
        let (z_values, mu) = (values(z), values(&self.centroids));
        let mut q = Vec::new();
        for row in z_values.chunks(m as usize) {
            let kernel = |centroid: &[f64]| {
                let squared: f64 = row.iter().zip(centroid).map(|(a, b)| (a - b).powi(2)).sum();
                (1.0 + squared / ALPHA).powf(-(ALPHA + 1.0) / 2.0)
            };
            let kernels: Vec<f64> = mu.chunks(m as usize).map(kernel).collect();
            let total: f64 = kernels.iter().sum();
            q.extend(kernels.iter().map(|value| value / total));
        }
        Tensor::from_slice(&q).reshape([n, k])
    }

    /// What the module ought to give, written out independently of it.
    fn expected(&self, rows: &Tensor) -> Expected {
        let z = pass(&self.encoder, &scaled(rows));
        let reconstruction = pass(&self.decoder, &z) / SCALE;
        let q = self.assign(&z);
        let largest = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as i64;
        let labels = values(&q).chunks(self.centroids.size()[0] as usize).map(largest).collect();
        Expected { z, q, labels, reconstruction }
    }
}

/// Layers with ReLU between, as plain arithmetic.
fn pass(layers: &[(Tensor, Tensor)], x: &Tensor) -> Tensor {
    let mut h = x.shallow_clone();
    for (i, (weight, bias)) in layers.iter().enumerate() {
        h = h.matmul(&weight.detach().tr()) + bias.detach();
        if i + 1 < layers.len() {
            h = h.clamp_min(0.0);
        }
    }
    h
}

/// Raw rows as the encoder takes them.
fn scaled(rows: &Tensor) -> Tensor {
    rows.to_kind(Kind::Float).reshape([-1, FEATURES]) * SCALE
}

struct Expected {
    z: Tensor,
    q: Tensor,
    labels: Vec<i64>,
    reconstruction: Tensor,
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).reshape(-1)).unwrap()
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let worst = values(found).iter().zip(values(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

/// Raw rows of whole values 0 to 255, so that they are the same as uint8 and as a float.
fn bytes(n: i64) -> Tensor {
    ((noise(&[n, FEATURES], 3.0, 1.0) + 1.0) * 127.0).floor().to_kind(Kind::Uint8)
}

fn write_model(directory: &Path, parts: &Parts) -> std::path::PathBuf {
    let path = directory.join("model.pt");
    std::fs::write(&path, to_torchscript(&parts.predictor()).unwrap()).unwrap();
    path
}

#[test]
fn rust_reads_back_what_it_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let parts = Parts::new(0.0);
    let model = LoadedPredictor::load(write_model(directory.path(), &parts), Device::Cpu).unwrap();
    assert_eq!((model.n_features(), model.n_latent(), model.n_clusters()), (12, 3, 4));

    let rows = bytes(40);
    let expected = parts.expected(&rows);
    for cluster in 0..4 {
        assert!(expected.labels.contains(&cluster), "the example leaves cluster {cluster} empty");
    }
    let images = rows.reshape([40, 3, 4]);
    for input in [&rows, &rows.to_kind(Kind::Float), &rows.to_kind(Kind::Double), &rows.to_kind(Kind::Int), &images] {
        let q = model.soft_assignment(input).unwrap();
        assert_close("q", &q, &expected.q, 1e-5);
        assert_close(
            "sums of q",
            &q.sum_dim_intlist(1, false, None),
            &Tensor::ones([40], (Kind::Float, Device::Cpu)),
            1e-5,
        );
        assert_close("z", &model.encode(input).unwrap(), &expected.z, 1e-5);
        // In raw units, 50 times the network's own.
        assert_close("reconstruction", &model.reconstruct(input).unwrap(), &expected.reconstruction, 50.0 * 1e-5);
        let (labels, confidence) = model.predict(input).unwrap();
        assert_eq!(labels, expected.labels);
        let best = expected.q.amax(1, false);
        assert_close("confidence", &Tensor::from_slice(&confidence), &best, 1e-5);
    }
}

#[test]
fn any_number_of_rows() {
    let directory = tempfile::tempdir().unwrap();
    let parts = Parts::new(0.0);
    let model = LoadedPredictor::load(write_model(directory.path(), &parts), Device::Cpu).unwrap();
    // None, one, and more than go through the module at once.
    for n in [0, 1, 4096, 9001] {
        let rows = bytes(n);
        let expected = parts.expected(&rows);
        let (labels, confidence) = model.predict(&rows).unwrap();
        assert_eq!((labels.len(), confidence.len()), (n as usize, n as usize));
        assert_close("q", &model.soft_assignment(&rows).unwrap(), &expected.q, 1e-5);
        // Where two clusters are equally near the label is anyone's guess.
        for (row, (found, right)) in labels.iter().zip(&expected.labels).enumerate() {
            let q = |label: i64| expected.q.double_value(&[row as i64, label]);
            assert!(found == right || q(*right) - q(*found) < 1e-5, "row {row} of {n}");
        }
    }
}

#[test]
fn far_from_the_origin_q_is_as_exact() {
    // With distances from |z|^2 - 2 z.mu + |mu|^2 in float32, nothing would be left of q here.
    let directory = tempfile::tempdir().unwrap();
    let parts = Parts::new(4000.0);
    let model = LoadedPredictor::load(write_model(directory.path(), &parts), Device::Cpu).unwrap();
    let rows = bytes(40);
    // q of the z that the module has: z itself is only as good as float32 is at 4000.
    let z = model.encode(&rows).unwrap();
    assert!(values(&z).iter().all(|value| (3900.0..4100.0).contains(value)));
    assert_close("q", &model.soft_assignment(&rows).unwrap(), &parts.assign(&z), 1e-5);
}

#[test]
fn standardised_rows_are_standardised_inside() {
    let directory = tempfile::tempdir().unwrap();
    let parts = Parts::new(0.0);
    let plain = LoadedPredictor::load(write_model(directory.path(), &parts), Device::Cpu).unwrap();
    let scaling = Scaling::Centre {
        mean: (0..12).map(|j| 1000.0 * j as f32).collect(),
        deviation: (0..12).map(|j| 0.5 + j as f32).collect(),
        rows: RowRule::Plain,
    };
    let path = directory.path().join("standardised.pt");
    let predictor = Predictor { scaling: &scaling, ..parts.predictor() };
    std::fs::write(&path, to_torchscript(&predictor).unwrap()).unwrap();
    let model = LoadedPredictor::load(&path, Device::Cpu).unwrap();

    // Rows that, standardised, are those that the plain model multiplies by its factor.
    let rows = bytes(40);
    let Scaling::Centre { mean, deviation, .. } = &scaling else { panic!("another scaling") };
    let (mean, deviation) = (Tensor::from_slice(&mean.to_vec()), Tensor::from_slice(&deviation.to_vec()));
    let raw = scaled(&rows).to_kind(Kind::Double) * &deviation + &mean;
    let q = plain.soft_assignment(&rows).unwrap();
    assert_close("q", &model.soft_assignment(&raw.to_kind(Kind::Float)).unwrap(), &q, 1e-3);
    let back = plain.reconstruct(&rows).unwrap() * SCALE * &deviation + &mean;
    assert_close("reconstruction", &model.reconstruct(&raw.to_kind(Kind::Float)).unwrap(), &back, 0.02);

    let narrow = Scaling::Centre {
        mean: [0.0].into_iter().collect(),
        deviation: [1.0].into_iter().collect(),
        rows: RowRule::Plain,
    };
    let refused = to_torchscript(&Predictor { scaling: &narrow, ..parts.predictor() }).unwrap_err().to_string();
    assert!(refused.contains("12 features"), "{refused}");
    let still = Scaling::Centre { mean: vec![0.0; 12].into(), deviation: vec![0.0; 12].into(), rows: RowRule::Plain };
    let refused = to_torchscript(&Predictor { scaling: &still, ..parts.predictor() }).unwrap_err().to_string();
    assert!(refused.contains("above 0"), "{refused}");
}

#[test]
fn counts_are_compressed_inside_and_come_back_as_counts() {
    let directory = tempfile::tempdir().unwrap();
    let parts = Parts::new(0.0);
    let plain = LoadedPredictor::load(write_model(directory.path(), &parts), Device::Cpu).unwrap();
    let scaling =
        Scaling::Centre { mean: vec![0.5; 12].into(), deviation: vec![2.0; 12].into(), rows: RowRule::Counts(300.0) };
    let path = directory.path().join("counts.pt");
    std::fs::write(&path, to_torchscript(&Predictor { scaling: &scaling, ..parts.predictor() }).unwrap()).unwrap();
    let model = LoadedPredictor::load(&path, Device::Cpu).unwrap();
    let rows = bytes(40);
    let _ = rows.get(3).fill_(0);
    let raw = rows.to_kind(Kind::Double);
    let sums = raw.sum_dim_intlist(1, true, None);
    let prepared = ((&raw * 300.0 / sums.clamp_min(1.0)).log1p() - 0.5) / 2.0;
    let prepared = (prepared / SCALE).to_kind(Kind::Float); // the plain model multiplies by its factor
    assert_close("q", &model.soft_assignment(&rows).unwrap(), &plain.soft_assignment(&prepared).unwrap(), 1e-4);
    let back = (plain.reconstruct(&prepared).unwrap() * SCALE * 2.0 + 0.5).expm1() * sums.clamp_min(1.0) / 300.0;
    assert_close("reconstruction", &model.reconstruct(&rows).unwrap(), &back, 1e-3);
    let refused = model.soft_assignment(&(rows.to_kind(Kind::Float) - 1.0)).unwrap_err().to_string();
    assert!(refused.contains("below 0"), "{refused}");
    let none =
        Scaling::Centre { mean: vec![0.0; 12].into(), deviation: vec![1.0; 12].into(), rows: RowRule::Counts(0.0) };
    let refused = to_torchscript(&Predictor { scaling: &none, ..parts.predictor() }).unwrap_err().to_string();
    assert!(refused.contains("above 0"), "{refused}");
}

#[test]
fn rows_of_length_one_are_made_inside_and_come_back_in_their_own_length() {
    let directory = tempfile::tempdir().unwrap();
    let parts = Parts::new(0.0);
    let plain = LoadedPredictor::load(write_model(directory.path(), &parts), Device::Cpu).unwrap();
    let scaling = Scaling::Centre { mean: vec![0.1; 12].into(), deviation: vec![0.5; 12].into(), rows: RowRule::Unit };
    let path = directory.path().join("unit.pt");
    std::fs::write(&path, to_torchscript(&Predictor { scaling: &scaling, ..parts.predictor() }).unwrap()).unwrap();
    let model = LoadedPredictor::load(&path, Device::Cpu).unwrap();
    let rows = noise(&[40, FEATURES], 2.0, 3.0);
    let _ = rows.get(3).fill_(0.0);
    let lengths = rows.to_kind(Kind::Double).square().sum_dim_intlist(1, true, None).sqrt();
    let lengths = lengths.where_self(&lengths.gt(0.0), &lengths.ones_like());
    let prepared = ((rows.to_kind(Kind::Double) / &lengths - 0.1) / 0.5 / SCALE).to_kind(Kind::Float);
    assert_close("q", &model.soft_assignment(&rows).unwrap(), &plain.soft_assignment(&prepared).unwrap(), 1e-4);
    let back = (plain.reconstruct(&prepared).unwrap() * SCALE * 0.5 + 0.1) * lengths;
    assert_close("reconstruction", &model.reconstruct(&rows).unwrap(), &back, 1e-3);
}

#[test]
fn columns_are_selected_and_an_offset_taken_off_inside() {
    let directory = tempfile::tempdir().unwrap();
    let parts = Parts::new(0.0);
    let plain = LoadedPredictor::load(write_model(directory.path(), &parts), Device::Cpu).unwrap();
    // Every other of 24 columns, and a mean that float32 could not hold beside what varies.
    let columns: Vec<usize> = (0..12).map(|j| 2 * j).collect();
    let intake = Intake { selected: Some(Selection { of: 24, columns }), offset: Some(vec![1e9; 12].into()) };
    let path = directory.path().join("intake.pt");
    std::fs::write(&path, to_torchscript(&Predictor { intake: &intake, ..parts.predictor() }).unwrap()).unwrap();
    let model = LoadedPredictor::load(&path, Device::Cpu).unwrap();
    assert_eq!(*model.intake(), intake, "it tells what it does");
    let kept = noise(&[40, FEATURES], 2.0, 30.0);
    let wide = Tensor::zeros([40, 24], (Kind::Double, Device::Cpu));
    let places = Tensor::arange(12, (Kind::Int64, Device::Cpu)) * 2;
    let wide = wide.index_copy(1, &places, &(kept.to_kind(Kind::Double) + 1e9));
    let expected = plain.soft_assignment(&kept).unwrap();
    assert_close("q", &model.soft_assignment(&wide).unwrap(), &expected, 1e-4);
    let narrow = kept.to_kind(Kind::Double) + 1e9;
    assert_close("q of selected columns", &model.soft_assignment(&narrow).unwrap(), &expected, 1e-4);
    let back = plain.reconstruct(&kept).unwrap().to_kind(Kind::Double) + 1e9;
    assert!((model.reconstruct(&narrow).unwrap().to_kind(Kind::Double) - back).abs().max().double_value(&[]) < 128.0);
}

#[test]
fn equal_weights_give_equal_bytes() {
    let first = to_torchscript(&Parts::new(0.0).predictor()).unwrap();
    assert_eq!(first, to_torchscript(&Parts::new(0.0).predictor()).unwrap());
    let parts = Parts::new(0.0);
    assert_ne!(first, to_torchscript(&Predictor { alpha: 1.0, ..parts.predictor() }).unwrap());
    assert_ne!(first, to_torchscript(&Parts::new(1.0).predictor()).unwrap());
}

#[test]
fn a_view_of_a_large_tensor_is_written_alone() {
    let parts = Parts::new(0.0);
    let alone = to_torchscript(&parts.predictor()).unwrap();
    let large =
        Tensor::cat(&[parts.centroids.shallow_clone(), Tensor::zeros([100_000, 3], (Kind::Float, Device::Cpu))], 0);
    let view = large.narrow(0, 0, 4);
    assert_eq!(alone, to_torchscript(&Predictor { centroids: &view, ..parts.predictor() }).unwrap());
}

/// The message of a model file that cannot be used: an [`Error::Data`] of one line that names the file.
fn refusal(path: &Path) -> String {
    let error = LoadedPredictor::load(path, Device::Cpu).unwrap_err();
    assert!(matches!(error, Error::Data { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    eprintln!("{message}");
    message
}

#[test]
fn files_that_are_no_model_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert!(refusal(&path("missing.pt")).contains("No such file"));
    assert!(refusal(directory.path()).contains("directory"));

    std::fs::write(path("empty.pt"), b"").unwrap();
    assert!(refusal(&path("empty.pt")).contains("not a TorchScript file"));
    std::fs::write(path("text.pt"), b"This is not a model.\n").unwrap();
    assert!(refusal(&path("text.pt")).contains("not a TorchScript file"));

    let whole = to_torchscript(&Parts::new(0.0).predictor()).unwrap();
    for length in [4, 30, whole.len() / 2, whole.len() - 1] {
        std::fs::write(path("cut.pt"), &whole[..length]).unwrap();
        assert!(refusal(&path("cut.pt")).contains("not a whole TorchScript file"));
    }

    let mut other = dec::backend::ScriptModule::new("Other").unwrap();
    other.define("def forward(self, x):\n  return x + 1\n").unwrap();
    std::fs::write(path("other.pt"), other.to_bytes().unwrap()).unwrap();
    assert!(refusal(&path("other.pt")).contains("n_features"));
}

#[test]
fn rows_of_another_width_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = write_model(directory.path(), &Parts::new(0.0));
    let model = LoadedPredictor::load(&path, Device::Cpu).unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    for shape in [&[5, 11][..], &[5, 3, 5], &[12], &[], &[0, 13]] {
        let error = model.predict(&zeros(shape)).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let message = error.to_string();
        assert!(message.contains("rows of 12 features") && message.contains(&format!("{shape:?}")), "{message}");
    }
    // The module itself, which Python calls without this check.
    let module = tch::CModule::load(&path).unwrap();
    for method in ["forward", "encode", "predict", "reconstruct"] {
        let error = module.method_ts(method, &[zeros(&[5, 11])]).unwrap_err().to_string();
        assert!(error.contains("expected rows of 12 features, got 11"), "{method}: {error}");
    }
}

#[test]
fn python_agrees() {
    let Some(python) = std::env::var_os("DEC_PYTHON").filter(|python| !python.is_empty()) else {
        eprintln!("skipped: DEC_PYTHON does not name a Python with PyTorch (scripts/test sets it)");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let parts = Parts::new(0.0);
    let model = write_model(directory.path(), &parts);
    let rows = bytes(40);
    let expected = parts.expected(&rows);
    let table = |tensor: &Tensor| -> Value {
        let width = tensor.size()[1] as usize;
        values(tensor).chunks(width).map(|row| json!(row)).collect()
    };
    let mut names = vec!["centroids".to_owned()];
    for (stack, i, part) in
        ["encoder", "decoder"].iter().flat_map(|s| (0..3).flat_map(move |i| [(s, i, "weight"), (s, i, "bias")]))
    {
        names.push(format!("{stack}_{i}_{part}"));
    }
    let case = json!({
        "image_shape": [3, 4],
        "n_latent": 3,
        "n_clusters": 4,
        "scale": SCALE,
        "parameters": names,
        "rows": table(&rows),
        "q": table(&expected.q),
        "z": table(&expected.z),
        "labels": expected.labels,
        "reconstruction": table(&expected.reconstruction),
    });
    let case_path = directory.path().join("case.json");
    std::fs::write(&case_path, case.to_string()).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torchscript.py");
    let output = Command::new(&python).arg(script).arg(model).arg(case_path).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("all agree"), "{stdout}");
    eprint!("{stdout}");
}
