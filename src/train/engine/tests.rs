//! Every stage by the engine and by autograd; its halves; its state.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::backend::augment::Warp;
use crate::data::{Batches, Features};
use crate::model::assignment::{cluster_frequency, kl_divergence, soft_assignment, target_distribution};
use crate::model::{Activation, Autoencoder, ClusteringLayer, Init, Network};
use crate::train::build::{self, Term};
use crate::train::step::Autograd;
use ndarray::Array2;
use tch::{Device, Reduction};

const WIDTHS: [i64; 5] = [20, 16, 130, 24, 3];
const RATE: f64 = 0.1;
const SGD: Optimiser = Optimiser::Sgd { momentum: 0.9, decay: 0.0 };

fn bytes() -> Rows {
    let values = Array2::from_shape_fn((70, 20), |(i, j)| ((i * i * 7 + j * 31 + i * j) % 256) as u8);
    Rows::new(&Features::U8(values), &crate::data::Scaling::Factor(1.0 / 128.0), Device::Cpu).unwrap()
}

fn network() -> Autoencoder {
    let autoencoder = Autoencoder::new(&WIDTHS, Device::Cpu, Init::Normal(0.3)).unwrap();
    // Not from libtorch's generator: tests that run beside this one draw from it too, and two networks are to be the same.
    for (place, parameter) in autoencoder.parameters().iter().enumerate().filter(|(_, p)| p.dim() == 2) {
        let value =
            |i: usize| (crate::data::hash((place << 32 | i) as u64) >> 40) as f32 / (1 << 24) as f32 * 0.8 - 0.4;
        let values: Vec<f32> = (0..parameter.numel()).map(value).collect();
        tch::no_grad(|| parameter.shallow_clone().copy_(&Tensor::from_slice(&values).view_as(parameter)));
    }
    autoencoder
}

fn params(dropout: f64) -> EngineParams {
    EngineParams {
        batch_size: 32,
        dropout,
        augmentation: None,
        optimiser: SGD,
        seed: 11,
        factors: Factors::Float32,
        cuda_graphs: false,
    }
}

/// Steps over shuffled batches, every third of them a small one; returns the sum of the losses.
fn train(step: &mut dyn Step, numbers: std::ops::Range<u64>, rate: f64) -> f64 {
    let mut batches = Batches::new(70, 32, Device::Cpu, 3).unwrap();
    batches.seek(numbers.start).unwrap();
    for number in numbers {
        let indices = batches.next_batch().unwrap();
        step.step(&Batch { indices: &indices, number }, rate).unwrap();
    }
    step.take_loss().unwrap()
}

fn copies(parameters: &[Tensor]) -> Vec<Tensor> {
    parameters.iter().map(|p| p.detach().copy()).collect()
}

fn largest_difference(a: &[Tensor], b: &[Tensor]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a.detach() - b.detach()).abs().max().double_value(&[])).fold(0.0, f64::max)
}

/// 50 steps of each from the same start: the same losses and the same weights, and those have moved.
fn assert_equal_training(
    parameters: &[Tensor],
    engine: &mut dyn Step,
    reference_parameters: &[Tensor],
    reference: &mut dyn Step,
    rate: f64,
) {
    let start = copies(parameters);
    assert_eq!(largest_difference(&start, reference_parameters), 0.0);
    let (loss, expected) = (train(engine, 0..50, rate), train(reference, 0..50, rate));
    assert!((loss - expected).abs() < 1e-4 * expected.abs(), "losses {loss} and {expected}");
    assert!(largest_difference(&start, parameters) > 1e-2, "nothing was trained");
    let difference = largest_difference(parameters, reference_parameters);
    assert!(difference < 1e-5, "weights differ by {difference}");
}

#[test]
fn pretraining_is_what_autograd_computes_with_the_same_dropout_masks() {
    let rows = bytes();
    let (ours, theirs) = (network(), network());
    for depth in 0..ours.depth() {
        let input = match depth {
            0 => rows.shallow_clone(),
            _ => {
                let width = ours.pair(depth).unwrap().parameters()[0].size()[1];
                let codes = Tensor::randn([70, width], (Kind::Float, Device::Cpu)).relu();
                Rows::from_tensor(codes)
            }
        };
        let (pair, reference) = (ours.pair(depth).unwrap(), theirs.pair(depth).unwrap());
        let loss = Loss::Reconstruction;
        let mut engine = Engine::new(pair.stack().unwrap(), loss, &input, params(0.2)).unwrap();
        let mut autograd = build::layer_by_autograd(reference, &input, params(0.2)).unwrap();
        let theirs = autograd.parameters();
        assert_equal_training(&pair.parameters(), &mut engine, &theirs, &mut autograd, RATE);
    }
}

#[test]
fn fine_tuning_is_what_autograd_computes() {
    let rows = bytes();
    let (ours, theirs) = (network(), network());
    let loss = Loss::Reconstruction;
    let mut engine = Engine::new(ours.stack().unwrap(), loss, &rows, params(0.0)).unwrap();
    let mut autograd = build::reconstruction_by_autograd(&theirs, &rows, params(0.0)).unwrap();
    assert_equal_training(&ours.parameters(), &mut engine, &theirs.parameters(), &mut autograd, RATE);
}

/// Centroids on four of the rows' codes, and the targets around them.
fn clustering(net: &Autoencoder, rows: &Rows, alpha: f64) -> (ClusteringLayer, Tensor) {
    let z = no_grad(|| Autoencoder::encode(net, &rows.to_tensor().unwrap()));
    let layer = ClusteringLayer::new(&z.narrow(0, 3, 4), alpha).unwrap();
    let q = no_grad(|| soft_assignment(&z, layer.centroids(), alpha)).unwrap();
    let p = target_distribution(&q, &cluster_frequency(&q).unwrap()).unwrap();
    (layer, p)
}

#[test]
fn self_training_is_what_autograd_computes() {
    for alpha in [1.0, 2.5] {
        let rows = bytes();
        let (ours, theirs) = (network(), network());
        let ((layer, p), (reference, _)) = (clustering(&ours, &rows, alpha), clustering(&theirs, &rows, alpha));
        let centroids = layer.centroids().shallow_clone();
        let term =
            ClusteringTerm { layer: 3, centroids, p: p.shallow_clone(), pull: Pull::StudentT(alpha), weight: 1.0 };
        let loss = Loss::Clustering(term);
        let term = Term { pull: Pull::StudentT(alpha), weight: 1.0, reconstructs: false };
        let mut engine = Engine::new(ours.encoder_stack().unwrap(), loss, &rows, params(0.0)).unwrap();
        let mut autograd = build::clustering_by_autograd(&theirs, &reference, &p, term, &rows, params(0.0)).unwrap();
        let with_centroids = |net: &Autoencoder, layer: &ClusteringLayer| {
            let mut all = net.encoder_parameters();
            all.push(layer.centroids().shallow_clone());
            all
        };
        assert_equal_training(
            &with_centroids(&ours, &layer),
            &mut engine,
            &with_centroids(&theirs, &reference),
            &mut autograd,
            0.02, // faster, and rounding decides on which side of ReLU's kink some units end
        );
    }
}

#[test]
fn reconstruction_and_clustering_in_one_step_are_what_autograd_computes() {
    let rows = bytes();
    let (ours, theirs) = (network(), network());
    let ((layer, p), (reference, _)) = (clustering(&ours, &rows, 1.0), clustering(&theirs, &rows, 1.0));
    let centroids = layer.centroids().shallow_clone();
    let term = ClusteringTerm { layer: 3, centroids, p: p.shallow_clone(), pull: Pull::StudentT(1.0), weight: 0.3 };
    let loss = Loss::Both { reconstruction: 0.7, clustering: term };
    let mut engine = Engine::new(ours.stack().unwrap(), loss, &rows, params(0.0)).unwrap();
    let with_centroids = |net: &Autoencoder, layer: &ClusteringLayer| {
        let mut all = net.parameters();
        all.push(layer.centroids().shallow_clone());
        all
    };
    let parameters = with_centroids(&theirs, &reference);
    let mean_loss = |batch: &Batch| {
        let x = rows.batch(batch.indices)?;
        let z = Autoencoder::encode(&theirs, &x);
        let kl = kl_divergence(&p.index_select(0, batch.indices), &reference.log_soft_assignment(&z)?)?;
        Ok(Autoencoder::decode(&theirs, &z).mse_loss(&x, Reduction::Mean) * 0.7 + kl * 0.3)
    };
    let mut autograd = Autograd::new(copies_of_handles(&parameters), SGD, Device::Cpu, mean_loss).unwrap();
    // A slow rate: see above.
    assert_equal_training(&with_centroids(&ours, &layer), &mut engine, &parameters, &mut autograd, 0.02);
}

fn copies_of_handles(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}

#[test]
fn parameters_velocity_and_step_number_are_the_whole_state() {
    let _alone = crate::backend::threads::tests::alone();
    let rows = bytes();
    let loss = || Loss::Reconstruction;
    let whole = network();
    let pair = whole.pair(0).unwrap();
    let mut engine = Engine::new(pair.stack().unwrap(), loss(), &rows, params(0.3)).unwrap();
    train(&mut engine, 0..20, RATE);
    let (weights, velocity) = (copies(&pair.parameters()), engine.optimiser.accumulated().copy());
    train(&mut engine, 20..45, RATE);

    tch::manual_seed(99);
    let resumed = Autoencoder::new(&WIDTHS, Device::Cpu, Init::Normal(0.1)).unwrap();
    let pair_again = resumed.pair(0).unwrap();
    no_grad(|| {
        for (to, from) in pair_again.parameters().iter_mut().zip(&weights) {
            to.copy_(from);
        }
    });
    let mut engine = Engine::new(pair_again.stack().unwrap(), loss(), &rows, params(0.3)).unwrap();
    engine.optimiser.accumulated().shallow_clone().copy_(&velocity);
    train(&mut engine, 20..45, RATE);
    for (a, b) in pair_again.parameters().iter().zip(pair.parameters()) {
        assert_eq!(*a, b, "not the same bits");
    }
}

/// The parts of three ranks, one row apart in size, summed as MPI would: the whole batch's step, whatever is drawn.
#[test]
fn the_parts_of_a_batch_are_the_whole_batch() {
    const PARTS: usize = 3;
    let rows = bytes();
    let image = Augmentation::Warp(Warp { rotation: 0.3, shift_x: 1.0, elastic_y: 0.5, ..Warp::still(4, 5) });
    let kinds = [
        (0.0, None),
        (0.3, None),
        (0.2, Some(Augmentation::Noise { deviation: 0.1, dropout: 0.4 })),
        (0.0, Some(image)),
        (0.0, Some(image.with_patches(0.6))),
    ];
    for (kind, (dropout, augmentation)) in kinds.into_iter().enumerate() {
        for adam in [false, true] {
            let nets: Vec<_> = (0..=PARTS).map(|_| network()).collect();
            let engine = |net: &Autoencoder| {
                let (layer, p) = clustering(net, &rows, 1.0);
                let centroids = layer.centroids().shallow_clone();
                let term = ClusteringTerm { layer: 3, centroids, p, pull: Pull::StudentT(1.0), weight: 0.3 };
                let loss = Loss::Both { reconstruction: 0.7, clustering: term };
                let mut params = EngineParams { batch_size: 64, augmentation, ..params(dropout) };
                if adam {
                    params.optimiser = Optimiser::Adam { beta1: 0.9, decay: 0.01, decoupled: true };
                }
                Engine::new(net.stack().unwrap(), loss, &rows, params).unwrap()
            };
            let mut engines: Vec<_> = nets.iter().map(engine).collect();
            let (whole, parts) = engines.split_last_mut().unwrap();
            let rate = if adam { 1e-3 } else { RATE };
            for number in 0..5 {
                let indices = Tensor::arange(64, (Kind::Int64, Device::Cpu)).roll(7 * number as i64, 0);
                let batch = Batch { indices: &indices, number };
                let losses: Vec<f64> = parts
                    .iter_mut()
                    .enumerate()
                    .map(|(rank, part)| {
                        no_grad(|| part.accumulate(&batch, Ranks::of(rank, PARTS))).unwrap();
                        part.take_loss().unwrap()
                    })
                    .collect();
                let sum = parts.iter().map(|part| part.optimiser.accumulated().copy()).reduce(|a, b| a + b).unwrap();
                for part in &mut *parts {
                    part.optimiser.accumulated().shallow_clone().copy_(&sum);
                    part.optimiser.begin(rate).unwrap();
                    no_grad(|| part.apply()).unwrap();
                }
                whole.step(&batch, rate).unwrap();
                let loss = whole.take_loss().unwrap();
                assert!((losses.iter().sum::<f64>() - loss).abs() < 1e-6 * loss, "{kind}: {losses:?} {loss}");
            }
            let start = copies(&network().parameters());
            assert!(largest_difference(&start, &nets[PARTS].parameters()) > 1e-3, "{kind}");
            for net in &nets[..PARTS] {
                let apart = largest_difference(&net.parameters(), &nets[PARTS].parameters());
                assert!(apart < 2e-6, "{kind}, {adam}: {apart}");
            }
        }
    }
}

#[test]
fn a_loss_that_does_not_fit_the_stack_is_refused() {
    let rows = bytes();
    let net = network();
    let (layer, p) = clustering(&net, &rows, 1.0);
    let term = |layer_index| ClusteringTerm {
        layer: layer_index,
        centroids: layer.centroids().shallow_clone(),
        p: p.shallow_clone(),
        pull: Pull::StudentT(1.0),
        weight: 1.0,
    };
    let both = |layer_index| Loss::Both { reconstruction: 1.0, clustering: term(layer_index) };
    for loss in [Loss::Clustering(term(3)), Loss::Clustering(term(9)), both(7), both(9)] {
        let error = Engine::new(net.stack().unwrap(), loss, &rows, params(0.0)).unwrap_err();
        assert!(error.to_string().contains("cannot be the latent"), "{error}");
    }
    for dropout in [-0.1, 1.0, f64::NAN] {
        let stack = net.stack().unwrap();
        assert!(Engine::new(stack, Loss::Reconstruction, &rows, params(dropout)).is_err());
    }
}

#[test]
fn what_is_no_dense_stack_is_left_to_autograd() {
    let net = Autoencoder::with_activation(&WIDTHS, Device::Cpu, Init::Normal(0.1), Activation::Function(Tensor::tanh))
        .unwrap();
    assert!(net.stack().is_none() && net.encoder_stack().is_none());
    assert!(net.pair(0).unwrap().stack().is_none());
    let half = network();
    assert!(half.stack().is_some());
}

#[test]
fn dropout_keys_differ_by_seed_and_step() {
    let keys: std::collections::HashSet<_> =
        (0..20).flat_map(|seed| (0..500).map(move |step| step_key(seed, step))).collect();
    assert_eq!(keys.len(), 10_000);
}

/// A step of the autoencoder with all factors rounded to bf16, as its formulas have it; so the third step, and where the parameters are
/// changed from outside before.
#[test]
fn a_step_in_bf16_is_that_of_rounded_factors() {
    for (steps_before, changed) in [(0, false), (2, false), (2, true)] {
        check_a_step_in_bf16(steps_before, changed);
    }
}

/// 160 rows of 96 values, and an engine whose factors are all large enough to be rounded; where it is to cluster, towards three centroids too.
fn wide_engine(factors: Factors, dropout: f64, clusters: bool) -> (Rows, Engine) {
    let autoencoder = Autoencoder::new(&[96, 80, 70], Device::Cpu, Init::Normal(0.3)).unwrap();
    let draw = |shape: &[i64], salt: u64| {
        let count = shape.iter().product::<i64>() as u64;
        let value = |i: u64| (crate::data::hash(salt << 32 | i) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        Tensor::from_slice(&(0..count).map(value).collect::<Vec<f32>>()).view(shape)
    };
    for (place, parameter) in autoencoder.parameters().iter().enumerate() {
        no_grad(|| parameter.shallow_clone().copy_(&draw(&parameter.size(), place as u64)));
    }
    let (rows, stack) = (Rows::from_tensor(draw(&[160, 96], 99)), autoencoder.stack().unwrap());
    let loss = if clusters {
        let (centroids, p) = (draw(&[3, 70], 98), draw(&[160, 3], 97).softmax(1, None));
        let clustering = ClusteringTerm { layer: 1, centroids, p, pull: Pull::StudentT(1.0), weight: 0.3 };
        Loss::Both { reconstruction: 0.7, clustering }
    } else {
        Loss::Reconstruction
    };
    let optimiser = Optimiser::Sgd { momentum: 0.0, decay: 0.0 };
    let params = EngineParams { batch_size: 96, optimiser, factors, ..params(dropout) };
    let engine = Engine::new(stack, loss, &rows, params).unwrap();
    (rows, engine)
}

/// From the second step on the passes round what they write; where nothing is kept from step to step, every product rounds its factors.
#[test]
fn passes_round_as_products_do() {
    for (dropout, clusters) in [(0.0, false), (0.2, false), (0.0, true)] {
        let trained = |forgets: bool| {
            let (_, mut engine) = wide_engine(Factors::Bf16, dropout, clusters);
            let start = copies(&engine.parameters());
            for number in 0..6 {
                if forgets {
                    forget_rounded();
                }
                let size = [96, 96, 64][number % 3]; // a small one, and whole ones after it
                let all = Tensor::arange(160, (Kind::Int64, Device::Cpu)).roll(5 * number as i64, 0);
                engine.step(&Batch { indices: &all.narrow(0, 0, size), number: number as u64 }, 0.1).unwrap();
            }
            let end = copies(&engine.parameters());
            assert!(largest_difference(&start, &end) > 1e-3);
            end
        };
        assert_eq!(largest_difference(&trained(false), &trained(true)), 0.0);
    }
}

fn check_a_step_in_bf16(steps_before: u64, changed: bool) {
    let rounded = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16).to_kind(Kind::Float);
    let step = |factors: Factors| {
        let (rows, mut engine) = wide_engine(factors, 0.0, false);
        let indices = |number: u64| Tensor::arange(64, (Kind::Int64, Device::Cpu)).roll(5 * number as i64, 0);
        for number in 0..steps_before {
            engine.step(&Batch { indices: &indices(number), number }, 0.1).unwrap();
        }
        if changed {
            no_grad(|| {
                engine.parameters().iter().for_each(|parameter| drop(parameter.shallow_clone().g_mul_scalar_(0.7)))
            });
        }
        let before: Vec<Tensor> = engine.parameters().iter().map(Tensor::copy).collect();
        let indices = indices(steps_before);
        engine.step(&Batch { indices: &indices, number: steps_before }, 1.0).unwrap();
        let moved = before.iter().zip(engine.parameters()).map(|(before, after)| before - after).collect::<Vec<_>>();
        (before, rows.batch(&indices).unwrap(), moved)
    };
    let (parameters, x, moved) = step(Factors::Bf16);
    let (_, _, in_float32) = step(Factors::Float32);
    let layers: Vec<(&Tensor, &Tensor)> = parameters.chunks(2).map(|pair| (&pair[0], &pair[1])).collect();
    let relu = |layer: usize| layer == 0 || layer == 2; // neither the latent nor the reconstruction
    let mut inputs = vec![x.shallow_clone()];
    for (i, (weight, bias)) in layers.iter().enumerate() {
        let y = rounded(&inputs[i]).matmul(&rounded(weight).tr()) + *bias;
        inputs.push(if relu(i) { y.relu() } else { y });
    }
    let mut delta: Tensor = (&inputs[4] - &x) * (2.0 / x.numel() as f64);
    for (i, (weight, _)) in layers.iter().enumerate().rev() {
        let expected =
            [rounded(&delta).tr().matmul(&rounded(&inputs[i])), delta.sum_dim_intlist(0, false, Kind::Float)];
        let far = |moved: &Tensor, expected: &Tensor| {
            ((moved - expected).abs().max() / expected.abs().max()).double_value(&[])
        };
        let slack = if crate::backend::precision::bf16_is_native() { 0.02 } else { 2e-4 };
        for (place, expected) in [2 * i, 2 * i + 1].into_iter().zip(&expected) {
            assert!(far(&moved[place], expected) < slack, "layer {i}: {}", far(&moved[place], expected));
        }
        assert!(far(&in_float32[2 * i], &expected[0]) > 1e-3, "layer {i}: float32 cannot be told from bf16");
        delta = rounded(&delta).matmul(&rounded(weight));
        if i > 0 && relu(i - 1) {
            delta *= inputs[i].gt(0.0).to_kind(Kind::Float);
        }
    }
}
