//! `to_onnx` in ONNX Runtime, against a NumPy reference in float64 and against TorchScript.
//!
//! Needs a Python with `onnx`, `onnxruntime`, `numpy` and `torch`, named by `DEC_PYTHON`; without it a test says that it skips.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dec::data::RowRule;
use dec::export::onnx::{to_onnx, Layer, OnnxModel, OnnxScaling, OnnxSelection};
use dec::model::Groups;
use npyz::WriterBuilder;
use serde_json::json;

const ROWS: usize = 1000;
const FACTOR: f64 = 0.0042;
const TOTAL: f64 = 17.0;

/// Numbers that are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn floats(&mut self, count: usize, low: f64, high: f64) -> Vec<f32> {
        (0..count).map(|_| (low + (high - low) * self.next()) as f32).collect()
    }

    fn layers(&mut self, widths: &[usize]) -> Vec<(Vec<f32>, Vec<f32>)> {
        let mut layer = |ins: usize, outs: usize| {
            let bound = (3.0 / ins as f64).sqrt();
            (self.floats(ins * outs, -bound, bound), self.floats(outs, -0.2, 0.2))
        };
        widths.windows(2).map(|pair| layer(pair[0], pair[1])).collect()
    }
}

/// How the rows of a case come about.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Factor,
    Plain,
    Unit,
    Counts,
}

struct Case {
    name: &'static str,
    kind: Kind,
    widths: &'static [usize],
    clusters: usize,
    alpha: f64,
    /// Columns of the file, where some are selected.
    of: Option<usize>,
    offset: bool,
    /// The cluster of each centroid, where clusters were joined.
    joined: Option<&'static [usize]>,
}

const SMALL: &[usize] = &[20, 32, 16, 5];

const USUAL: Case = Case {
    name: "factor",
    kind: Kind::Factor,
    widths: SMALL,
    clusters: 4,
    alpha: 1.0,
    of: None,
    offset: false,
    joined: None,
};

fn cases() -> Vec<Case> {
    vec![
        USUAL,
        Case { name: "factor_alpha_half", alpha: 0.5, ..USUAL },
        Case { name: "factor_alpha_1000", alpha: 1000.0, ..USUAL },
        Case { name: "factor_joined", joined: Some(&[0, 1, 0, 2]), ..USUAL },
        Case { name: "factor_all_joined", joined: Some(&[0, 0, 0, 0]), ..USUAL },
        Case { name: "plain", kind: Kind::Plain, ..USUAL },
        Case { name: "plain_one_of_each", kind: Kind::Plain, widths: &[1, 1], clusters: 1, ..USUAL },
        Case { name: "unit", kind: Kind::Unit, ..USUAL },
        Case { name: "unit_alpha_half", kind: Kind::Unit, alpha: 0.5, ..USUAL },
        Case { name: "counts", kind: Kind::Counts, ..USUAL },
        Case { name: "counts_alpha_half", kind: Kind::Counts, alpha: 0.5, ..USUAL },
        Case { name: "counts_wide", kind: Kind::Counts, widths: &[2000, 64, 10], of: Some(4001), ..USUAL },
        Case { name: "factor_selection", of: Some(60), ..USUAL },
        Case { name: "unit_selection", kind: Kind::Unit, of: Some(60), ..USUAL },
        Case { name: "plain_offset", kind: Kind::Plain, offset: true, ..USUAL },
        Case { name: "factor_offset", offset: true, ..USUAL },
        Case { name: "unit_offset", kind: Kind::Unit, offset: true, ..USUAL },
        Case { name: "plain_selection_offset", kind: Kind::Plain, of: Some(60), offset: true, ..USUAL },
        Case { name: "paper_sizes", widths: &[784, 500, 500, 2000, 10], clusters: 10, ..USUAL },
    ]
}

/// A row as the file has it, before offsets.
fn row(numbers: &mut Numbers, kind: Kind, index: usize, width: usize) -> Vec<f64> {
    let empty = matches!(kind, Kind::Unit | Kind::Counts) && index % 7 == 3;
    let magnitude = match (kind, index % 11) {
        (Kind::Unit, 4) => 1e-25,
        (Kind::Unit, 5) => 1e25,
        (Kind::Counts, 4) => 1e-4,
        (Kind::Counts, 5) => 1e5,
        _ => 1.0,
    };
    let mut value = || match kind {
        _ if empty => 0.0,
        Kind::Factor => 255.0 * numbers.next(),
        Kind::Plain => 5.0 + 4.0 * numbers.next(),
        Kind::Unit => (numbers.next() - 0.5).max(0.0),
        Kind::Counts => (6.0 * numbers.next().powi(4)).floor(),
    };
    (0..width).map(|_| value() * magnitude).collect()
}

/// Weights with their biases, for each layer.
type Values = Vec<(Vec<f32>, Vec<f32>)>;

fn layers(values: &Values) -> Vec<Layer<'_>> {
    values.iter().map(|(weight, bias)| Layer { weight, bias }).collect()
}

fn shapes(values: &Values) -> Vec<[usize; 2]> {
    values.iter().map(|(weight, bias)| [bias.len(), weight.len() / bias.len()]).collect()
}

/// The numbers of a case.
struct Parts {
    encoder: Values,
    decoder: Values,
    centroids: Vec<f32>,
    mean: Vec<f32>,
    deviation: Vec<f32>,
    width: usize,
    columns: Vec<usize>,
    offset: Vec<f64>,
    /// \[ROWS, width\].
    rows: Vec<f64>,
}

impl Parts {
    fn of(case: &Case) -> Self {
        let mut numbers = Numbers(case.name.len() as u64);
        let (d, m) = (case.widths[0], *case.widths.last().unwrap());
        let back: Vec<usize> = case.widths.iter().rev().copied().collect();
        let ([low, high], [least, most]) =
            if case.kind == Kind::Plain { ([6.0, 8.0], [1.0, 2.0]) } else { ([0.0, 0.3], [0.2, 0.6]) };
        let width = case.of.unwrap_or(d);
        let step = (width - 1) / (d - 1).max(1);
        let columns: Vec<usize> = (0..d).map(|column| width - 1 - step * (d - 1 - column)).collect();
        let offset: Vec<f64> = (0..d).map(|column| 1e8 + 1e6 * column as f64).collect();
        let mut rows: Vec<f64> = (0..ROWS).flat_map(|index| row(&mut numbers, case.kind, index, width)).collect();
        for row in rows.chunks_mut(width) {
            if case.offset {
                columns.iter().zip(&offset).for_each(|(&column, off)| row[column] += off);
            } else {
                row.iter_mut().for_each(|value| *value = f64::from(*value as f32));
            }
        }
        Self {
            encoder: numbers.layers(case.widths),
            decoder: numbers.layers(&back),
            centroids: numbers.floats(case.clusters * m, -1.0, 1.0),
            mean: numbers.floats(d, low, high),
            deviation: numbers.floats(d, least, most),
            width,
            columns,
            offset,
            rows,
        }
    }

    fn scaling(&self, kind: Kind) -> OnnxScaling<'_> {
        let centre = |rows| OnnxScaling::Centre { mean: &self.mean, deviation: &self.deviation, rows };
        match kind {
            Kind::Factor => OnnxScaling::Factor(FACTOR),
            Kind::Plain => centre(RowRule::Plain),
            Kind::Unit => centre(RowRule::Unit),
            Kind::Counts => centre(RowRule::Counts(TOTAL)),
        }
    }

    fn weights(&self) -> Vec<u8> {
        let layers = self.encoder.iter().chain(&self.decoder);
        let layers = layers.flat_map(|(weight, bias)| weight.iter().chain(bias));
        let all = layers.chain(&self.centroids).chain(&self.mean).chain(&self.deviation);
        all.flat_map(|value| value.to_le_bytes()).collect()
    }
}

fn write_case(dir: &Path, case: &Case) {
    let parts = Parts::of(case);
    let names: Vec<String> = (0..parts.width).map(|column| format!("\"{column}\" é")).collect();
    let groups = case.joined.map(Groups::new);
    let model = OnnxModel {
        encoder: &layers(&parts.encoder),
        decoder: &layers(&parts.decoder),
        centroids: &parts.centroids,
        alpha: case.alpha,
        groups: groups.as_ref(),
        scaling: &parts.scaling(case.kind),
        selection: case.of.map(|of| OnnxSelection { of, columns: &parts.columns }),
        offset: case.offset.then_some(&parts.offset),
        columns: Some(&names),
        version: "0.1.0",
    };
    let kind = match case.kind {
        Kind::Factor => "factor",
        Kind::Plain => "plain",
        Kind::Unit => "unit",
        Kind::Counts => "counts",
    };
    let description = json!({
        "kind": kind, "encoder": shapes(&parts.encoder), "decoder": shapes(&parts.decoder), "clusters": case.clusters,
        "features": case.widths[0], "latent": case.widths.last(), "width": parts.width, "n_rows": ROWS,
        "alpha": case.alpha, "factor": FACTOR, "total": TOTAL,
        "groups": groups.as_ref().map(|groups| groups.cluster_of()),
        "columns": case.of.map(|_| &parts.columns), "offset": case.offset.then_some(&parts.offset),
    });
    let write = |end: &str, bytes: &[u8]| fs::write(dir.join(format!("{}.{end}", case.name)), bytes).unwrap();
    write("onnx", &to_onnx(&model).unwrap());
    write("json", description.to_string().as_bytes());
    write("rows", &parts.rows.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    write("weights", &parts.weights());
}

/// Runs a script of tests/ with the Python that has these packages, or says that this is skipped.
fn python(packages: &str, script: &str, args: &[PathBuf]) {
    let python = std::env::var("DEC_PYTHON").unwrap_or_default();
    let has = |python: &str| {
        let output = Command::new(python).args(["-c", &format!("import {packages}")]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if python.is_empty() || !has(&python) {
        eprintln!("skipped: DEC_PYTHON does not name a Python with {packages}");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output = Command::new(python).arg(script).args(args).output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    assert!(output.status.success());
}

#[test]
fn onnx_runtime_gives_what_numpy_gives() {
    let dir = tempfile::tempdir().unwrap();
    cases().iter().for_each(|case| write_case(dir.path(), case));
    python("numpy, onnx, onnxruntime", "onnx_runtime.py", &[dir.path().to_owned()]);
}

/// Rows of a kind that ends in another scaling, as float64, and the settings that it takes.
fn rows_of(kind: &str) -> (Vec<f64>, usize, &'static [&'static str]) {
    const N: usize = 120;
    let mut numbers = Numbers(kind.len() as u64);
    let mut made = |d: usize, value: &mut dyn FnMut(&mut Numbers, usize, usize) -> f64| {
        let values = (0..N * d).map(|at| value(&mut numbers, at / d, at % d)).collect();
        (values, d)
    };
    let blob = |i: usize, j: usize| if i % 3 == j % 3 { 3.0 } else { 0.0 };
    let ((values, d), settings): (_, &[&str]) = match kind {
        "factor" => (made(12, &mut |n, i, j| blob(i, j) + n.next()), &["augment.kind='time_shift'"]),
        "standardise" => {
            (made(12, &mut |n, i, j| (blob(i, j) + n.next()) * 10f64.powi(j as i32 % 5)), &["data.scale='standardise'"])
        }
        "centre" => (made(12, &mut |n, i, j| 7.0 + blob(i, j) + n.next()), &["data.scale='centre'"]),
        "unit" => (made(12, &mut |n, i, j| blob(i, j) + n.next() - 0.5), &["data.scale='unit'"]),
        "counts" => (made(60, &mut |n, i, j| ((blob(i, j) + 1.0) * 4.0 * n.next()).floor()), &["data.scale='counts'"]),
        "images" => (made(64, &mut |n, i, j| 40.0 * blob(i, j / 8) + 20.0 * n.next()), &["augment.image=[8,8]"]),
        "offset" => (made(12, &mut |n, i, j| 1e8 + blob(i, j) + n.next()), &["data.scale='standardise'"]),
        _ => (
            made(300, &mut |n, i, j| (if j < 40 { 3.0 + blob(i, j) } else { 0.4 } * n.next() * 3.0).floor()),
            &["data.scale='counts'", "data.features=50"],
        ),
    };
    (values, d, settings)
}

#[test]
fn onnx_gives_what_torchscript_gives() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for kind in ["factor", "standardise", "centre", "unit", "counts", "images", "offset", "selection"] {
        let (values, d, settings) = rows_of(kind);
        let (rows, run) = (dir.path().join(format!("{kind}.npy")), dir.path().join(kind));
        let shape = [(values.len() / d) as u64, d as u64];
        let writer = npyz::WriteOptions::new().default_dtype().shape(&shape);
        let mut writer = writer.writer(fs::File::create(&rows).unwrap()).begin_nd().unwrap();
        writer.extend(values).unwrap();
        writer.finish().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dec"));
        command.arg(&rows).arg("--out").arg(&run).args(["-q", "-k", "3", "--device", "cpu"]);
        let small = ["model.hidden=[32,16]", "model.n_latent=5", "pretrain.epochs=10", "start.method='kmeans'"];
        let ends =
            ["start.networks=1", "start.over_clustering=[]", "cluster.handover_epochs=2", "cluster.max_rounds=2"];
        let wanted = ["output.onnx=true", "output.report=false"];
        for set in small.iter().chain(&ends).chain(&wanted).chain(settings) {
            command.args(["--set", set]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        runs.extend([run, rows]);
    }
    python("numpy, onnxruntime, torch", "onnx_torchscript.py", &runs);
}
