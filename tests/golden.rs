//! The crate against numbers that PyTorch, SciPy and scikit-learn computed in float64: `golden/generate.py` made
//! `golden/golden.json` and says how.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use dec::config::Schedule;
use dec::control::Control;
use dec::data::Rows;
use dec::kmeans::{self, KMeansParams};
use dec::metrics::{self, Contingency};
use dec::model::assignment::{
    cluster_frequency, kl_divergence, kl_gradients, log_soft_assignment, soft_assignment, target_distribution,
    ClusteringLayer,
};
use dec::model::{Autoencoder, Init, Network};
use dec::start::{self, NeighbourGraph};
use dec::train::engine::{ClusteringTerm, Engine, EngineParams, Factors, Loss, Pull};
use dec::train::optimiser::{Optimiser, OptimiserState};
use dec::train::step::{Batch, Step};
use ndarray::Array2;
use serde::Deserialize;
use tch::{no_grad, Device, Kind, Tensor};

type Matrix = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Golden {
    clustering: Vec<Clustering>,
    autoencoder_sgd: AutoencoderSgd,
    kl_sgd: KlSgd,
    labellings: Vec<Labelling>,
    silhouettes: Vec<Silhouette>,
    kmeans: KMeans,
    objectives: Vec<ObjectiveSteps>,
    schedules: Vec<Rates>,
    spectral: Spectral,
}

#[derive(Deserialize)]
struct Clustering {
    alpha: f64,
    z: Matrix,
    centroids: Matrix,
    q: Matrix,
    log_q: Matrix,
    frequency: Vec<f64>,
    p: Matrix,
    kl_mean: f64,
    grad_z_of_sum: Matrix,
    grad_centroids_of_sum: Matrix,
}

#[derive(Deserialize)]
struct AutoencoderSgd {
    widths: Vec<i64>,
    learning_rate: f64,
    momentum: f64,
    initial: BTreeMap<String, Parameter>,
    batches: Vec<Matrix>,
    losses: Vec<f64>,
    r#final: BTreeMap<String, Parameter>,
}

#[derive(Deserialize)]
struct KlSgd {
    widths: Vec<i64>,
    learning_rate: f64,
    momentum: f64,
    alpha: f64,
    initial: BTreeMap<String, Parameter>,
    initial_centroids: Matrix,
    x: Matrix,
    p: Matrix,
    losses: Vec<f64>,
    final_encoder: BTreeMap<String, Parameter>,
    final_centroids: Matrix,
}

#[derive(Deserialize)]
struct ObjectiveSteps {
    objective: String,
    optimiser: String,
    widths: Vec<i64>,
    learning_rate: f64,
    momentum: f64,
    weight_decay: f64,
    gamma: f64,
    initial: BTreeMap<String, Parameter>,
    initial_centroids: Matrix,
    x: Matrix,
    p: Matrix,
    losses: Vec<f64>,
    r#final: BTreeMap<String, Parameter>,
    final_centroids: Matrix,
}

#[derive(Deserialize)]
struct Rates {
    schedule: String,
    lr: f64,
    rates: Vec<f64>,
}

#[derive(Deserialize)]
struct Spectral {
    rows: Matrix,
    k: i64,
    indices: Vec<Vec<i64>>,
    distances: Matrix,
    degrees: Vec<f64>,
    eigenvalues: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Parameter {
    Weight(Matrix),
    Bias(Vec<f64>),
}

#[derive(Deserialize)]
struct Labelling {
    name: String,
    labels_true: Vec<i64>,
    labels_pred: Vec<i64>,
    acc: f64,
    nmi: f64,
    ari: f64,
}

#[derive(Deserialize)]
struct Silhouette {
    rows: Matrix,
    labels: Vec<i64>,
    silhouette: f64,
}

#[derive(Deserialize)]
struct KMeans {
    n_clusters: usize,
    rows: Matrix,
    labels: Vec<i64>,
    centroids: Matrix,
    inertia: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/golden.json")).unwrap()
}

fn matrix(rows: &Matrix, kind: Kind) -> Tensor {
    Tensor::from_slice2(rows).to_kind(kind)
}

fn parameter(parameter: &Parameter) -> Tensor {
    match parameter {
        Parameter::Weight(rows) => matrix(rows, Kind::Float),
        Parameter::Bias(values) => Tensor::from_slice(values).to_kind(Kind::Float),
    }
}

fn array(rows: &Matrix) -> Array2<f32> {
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j] as f32)
}

/// Fails unless |actual − expected| ≤ tolerance · max(1, |expected|) everywhere and the shapes are the same.
#[track_caller]
fn assert_close(what: &str, actual: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(actual.size(), expected.size(), "{what}: shape");
    let (actual, expected) = (actual.detach().to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let error = ((&actual - &expected).abs() / expected.abs().clamp_min(1.0)).max().double_value(&[]);
    assert!(error <= tolerance, "{what}: off by {error:.1e}\n{actual}{expected}");
}

#[track_caller]
fn assert_near(what: &str, actual: f64, expected: f64, tolerance: f64) {
    let error = (actual - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {actual}, not {expected}");
}

/// float64 shows the formulas right, float32 shows them well-conditioned.
const PRECISIONS: [(Kind, f64); 2] = [(Kind::Double, 1e-12), (Kind::Float, 2e-6)];

#[test]
fn soft_assignments_targets_and_divergence_match() {
    for case in golden().clustering {
        for (kind, tolerance) in PRECISIONS {
            let (z, centroids) = (matrix(&case.z, kind), matrix(&case.centroids, kind));
            let expected_p = matrix(&case.p, kind);
            let q = soft_assignment(&z, &centroids, case.alpha).unwrap();
            let log_q = log_soft_assignment(&z, &centroids, case.alpha).unwrap();
            assert_close("q", &q, &matrix(&case.q, kind), tolerance);
            assert_close("log q", &log_q, &matrix(&case.log_q, kind), tolerance);

            let frequency = cluster_frequency(&q).unwrap();
            assert_close("f", &frequency, &Tensor::from_slice(&case.frequency), tolerance);
            let p = target_distribution(&q, &frequency).unwrap();
            assert_close("p", &p, &expected_p, tolerance);
            // Rows of a batch have the target that they have in the whole set.
            let batch = target_distribution(&q.narrow(0, 3, 4), &frequency).unwrap();
            assert_close("p of a batch", &batch, &expected_p.narrow(0, 3, 4), tolerance);

            let kl = kl_divergence(&expected_p, &log_q).unwrap();
            assert_near("KL", kl.double_value(&[]), case.kl_mean, tolerance);
        }
    }
}

#[test]
fn closed_gradients_match() {
    for case in golden().clustering {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
            let (z, centroids, p) = (matrix(&case.z, kind), matrix(&case.centroids, kind), matrix(&case.p, kind));
            let (grad_z, grad_centroids) = kl_gradients(&z, &centroids, &p, case.alpha).unwrap();
            assert_close("∂L/∂z", &grad_z, &matrix(&case.grad_z_of_sum, kind), tolerance);
            assert_close("∂L/∂μ", &grad_centroids, &matrix(&case.grad_centroids_of_sum, kind), tolerance);
        }
    }
}

#[test]
fn autograd_agrees_with_the_closed_gradients() {
    tch::manual_seed(5);
    for alpha in [0.5, 1.0, 7.0] {
        let z = Tensor::randn([40, 6], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let centroids = Tensor::randn([7, 6], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let q = soft_assignment(&z, &centroids, alpha).unwrap();
        let p = target_distribution(&q, &cluster_frequency(&q).unwrap()).unwrap();
        assert!(!p.requires_grad(), "p is a constant for the gradient");
        let loss = kl_divergence(&p, &log_soft_assignment(&z, &centroids, alpha).unwrap()).unwrap() * 40;
        let autograd = Tensor::run_backward(&[loss], &[&z, &centroids], false, false);
        let (grad_z, grad_centroids) = kl_gradients(&z, &centroids, &p, alpha).unwrap();
        assert!(grad_z.abs().max().double_value(&[]) > 1e-3, "there is something to compare");
        assert_close("∂L/∂z", &autograd[0], &grad_z, 1e-12);
        assert_close("∂L/∂μ", &autograd[1], &grad_centroids, 1e-12);
    }
}

/// A network whose parameters are those of the file, every one of them.
fn network(widths: &[i64], initial: &BTreeMap<String, Parameter>) -> Autoencoder {
    let net = Autoencoder::new(widths, Device::Cpu, Init::Normal(0.01)).unwrap();
    let mut named = net.named_parameters();
    assert!(named
        .iter()
        .map(|(name, _)| name)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .eq(initial.keys()));
    for (name, tensor) in &mut named {
        let value = parameter(&initial[name]);
        assert_eq!(tensor.size(), value.size(), "{name}");
        no_grad(|| tensor.copy_(&value));
    }
    net
}

#[track_caller]
fn assert_parameters(net: &Autoencoder, expected: &BTreeMap<String, Parameter>) {
    let actual: BTreeMap<String, Tensor> = net.named_parameters().into_iter().collect();
    for (name, value) in expected {
        assert_close(name, &actual[name], &parameter(value), 1e-5);
    }
}

fn optimiser(momentum: f64, parameters: &[Tensor]) -> OptimiserState {
    let parameters: Vec<&Tensor> = parameters.iter().collect();
    OptimiserState::new(Optimiser::Sgd { momentum, decay: 0.0 }, &parameters).unwrap()
}

#[test]
fn ten_steps_on_the_reconstruction_match() {
    let case = golden().autoencoder_sgd;
    let net = network(&case.widths, &case.initial);
    let parameters = net.parameters();
    let mut optimiser = optimiser(case.momentum, &parameters);
    assert_eq!(case.losses.len(), 10);
    for (step, (batch, expected)) in case.batches.iter().zip(&case.losses).enumerate() {
        let x = matrix(batch, Kind::Float);
        let loss = net.forward(&x).mse_loss(&x, tch::Reduction::Mean);
        assert_near(&format!("loss {step}"), loss.double_value(&[]), *expected, 1e-5);
        optimiser.step(&parameters, &loss, case.learning_rate).unwrap();
    }
    assert_eq!(case.r#final.len(), case.initial.len());
    assert_parameters(&net, &case.r#final);
}

#[test]
fn ten_steps_on_the_divergence_match() {
    let case = golden().kl_sgd;
    let net = network(&case.widths, &case.initial);
    let layer = ClusteringLayer::new(&matrix(&case.initial_centroids, Kind::Float), case.alpha).unwrap();
    let (x, p) = (matrix(&case.x, Kind::Float), matrix(&case.p, Kind::Float));
    let mut trained = net.encoder_parameters();
    trained.push(layer.centroids().shallow_clone());
    let mut optimiser = optimiser(case.momentum, &trained);
    assert_eq!(case.losses.len(), 10);
    for (step, expected) in case.losses.iter().enumerate() {
        let loss = kl_divergence(&p, &layer.log_soft_assignment(&Autoencoder::encode(&net, &x)).unwrap()).unwrap();
        assert_near(&format!("loss {step}"), loss.double_value(&[]), *expected, 1e-6);
        optimiser.step(&trained, &loss, case.learning_rate).unwrap();
    }
    assert_close("μ", layer.centroids(), &matrix(&case.final_centroids, Kind::Float), 1e-5);
    assert_parameters(&net, &case.final_encoder);
    // The decoder has no part in this loss.
    let decoder = case.initial.into_iter().filter(|(name, _)| name.starts_with("decoder")).collect();
    assert_parameters(&net, &decoder);
}

/// The step engine, every objective with every optimiser.
#[test]
fn ten_steps_of_the_engine_match() {
    let cases = golden().objectives;
    assert_eq!(cases.len(), 9);
    for case in cases {
        let name = format!("{} by {}", case.objective, case.optimiser);
        let net = network(&case.widths, &case.initial);
        let rows = Rows::from_tensor(matrix(&case.x, Kind::Float));
        let layer = ClusteringLayer::new(&matrix(&case.initial_centroids, Kind::Float), 1.0).unwrap();
        let clustering = ClusteringTerm {
            layer: net.depth() - 1,
            centroids: layer.centroids().shallow_clone(),
            p: matrix(&case.p, Kind::Float),
            pull: if case.objective == "aspc" { Pull::Squared } else { Pull::StudentT(1.0) },
            weight: if case.objective == "idec" { case.gamma } else { 1.0 },
        };
        let (stack, loss) = match case.objective.as_str() {
            "idec" => (net.stack(), Loss::Both { reconstruction: 1.0, clustering }),
            _ => (net.encoder_stack(), Loss::Clustering(clustering)),
        };
        let (momentum, decay) = (case.momentum, case.weight_decay);
        let optimiser = match case.optimiser.as_str() {
            "sgd" => Optimiser::Sgd { momentum, decay },
            kind => Optimiser::Adam { beta1: momentum, decay, decoupled: kind == "adamw" },
        };
        let batch_size = rows.n_rows();
        let params = EngineParams {
            batch_size,
            dropout: 0.0,
            augmentation: None,
            optimiser,
            seed: 0,
            factors: Factors::Float32,
            cuda_graphs: false,
        };
        let mut engine = Engine::new(stack.unwrap(), loss, &rows, params).unwrap();
        let indices = Tensor::arange(batch_size, (Kind::Int64, Device::Cpu));
        assert_eq!(case.losses.len(), 10);
        for (number, expected) in case.losses.iter().enumerate() {
            engine.step(&Batch { indices: &indices, number: number as u64 }, case.learning_rate).unwrap();
            assert_near(&format!("{name}: loss {number}"), engine.take_loss().unwrap(), *expected, 1e-5);
        }
        assert_close(&name, layer.centroids(), &matrix(&case.final_centroids, Kind::Float), 2e-5);
        let actual: BTreeMap<String, Tensor> = net.named_parameters().into_iter().collect();
        for (parameter_name, value) in &case.r#final {
            assert_close(&format!("{name}: {parameter_name}"), &actual[parameter_name], &parameter(value), 2e-5);
        }
    }
}

/// PyTorch's CosineAnnealingLR and OneCycleLR with its defaults.
#[test]
fn rates_are_pytorchs() {
    for case in golden().schedules {
        let schedule = match case.schedule.as_str() {
            "cosine" => Schedule::Cosine(case.lr),
            "one_cycle" => Schedule::OneCycle(case.lr),
            other => panic!("{other}"),
        };
        for (step, &expected) in case.rates.iter().enumerate() {
            let found = schedule.rate(step as u64, case.rates.len() as u64);
            let problem = format!("{} {step} of {}: {found}, not {expected}", case.schedule, case.rates.len());
            assert!((found - expected).abs() <= 1e-12 * case.lr, "{problem}");
        }
    }
}

#[test]
fn neighbours_graph_and_eigenvalues_are_scikit_learns_and_scipys() {
    let case = golden().spectral;
    let rows = matrix(&case.rows, Kind::Float);
    let control = &mut Control::ignored();
    let found = start::neighbours(None, &rows, case.k, control).unwrap();
    assert_eq!(Vec::<i64>::try_from(found.indices.view(-1)).unwrap(), case.indices.concat());
    let distances = matrix(&case.distances, Kind::Float);
    assert_close("distances", &found.distances.sqrt(), &distances, 1e-5);
    let graph = NeighbourGraph::new(&rows, case.k, control).unwrap();
    for (row, &degree) in case.degrees.iter().enumerate() {
        assert_near("degree", graph.degree(row), degree, 1e-5);
    }
    let count = case.eigenvalues.len() as i64;
    let eigen = start::leading_eigenvectors(&graph.normalised().unwrap(), count, 0, control).unwrap();
    for (found, &expected) in eigen.values.iter().zip(&case.eigenvalues) {
        assert_near("eigenvalue", *found, expected, 1e-5);
    }
}

#[test]
fn accuracy_nmi_and_ari_match() {
    for case in golden().labellings {
        let table = Contingency::new(&case.labels_true, &case.labels_pred).unwrap();
        assert_near(&format!("{}: ACC", case.name), table.accuracy(), case.acc, 1e-12);
        assert_near(&format!("{}: NMI", case.name), table.normalized_mutual_info(), case.nmi, 1e-12);
        assert_near(&format!("{}: ARI", case.name), table.adjusted_rand_index(), case.ari, 1e-12);
    }
}

#[test]
fn silhouettes_match() {
    for case in golden().silhouettes {
        for (kind, tolerance) in PRECISIONS {
            let score = metrics::silhouette(&matrix(&case.rows, kind), &case.labels, 0).unwrap().unwrap();
            assert_near("silhouette", score, case.silhouette, tolerance);
        }
    }
}

#[test]
fn kmeans_finds_what_scikit_learn_finds() {
    let case = golden().kmeans;
    let rows = array(&case.rows);
    let inertia = metrics::inertia(rows.view(), &case.labels, array(&case.centroids).view()).unwrap();
    assert_near("inertia of the same clustering", inertia, case.inertia, 1e-6);

    let params = KMeansParams { n_clusters: case.n_clusters, ..KMeansParams::default() };
    let fitted =
        kmeans::fit(&Rows::from_tensor(matrix(&case.rows, Kind::Float)), &params, &mut Control::ignored()).unwrap();
    assert_near("inertia", fitted.inertia, case.inertia, 1e-6);
    assert_eq!(Contingency::new(&case.labels, &fitted.labels).unwrap().accuracy(), 1.0);
    for (row, &label) in case.labels.iter().enumerate() {
        for (ours, theirs) in
            fitted.centroids.row(fitted.labels[row] as usize).iter().zip(&case.centroids[label as usize])
        {
            assert_near("centroid", f64::from(*ours), *theirs, 1e-6);
        }
    }
}
