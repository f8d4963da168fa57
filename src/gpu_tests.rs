//! What a GPU computes against what the CPU computes: every kernel, every kind of training step, with and without CUDA graphs,
//! k-means, neighbours and components. Each test skips itself, and says so, where there is no GPU; `scripts/check-cuda` runs them
//! where there is one.
//!
//! Run by themselves (`cargo test --lib on_a_gpu`): libtorch remembers for the whole process that it was asked about CUDA
//! before its CUDA half was there, and another test's first tensor asks.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::sync::OnceLock;

use ndarray::Array2;
use tch::{no_grad, Device, Kind, Tensor};

use crate::backend::augment::{self, Warp};
use crate::backend::dense::{self, AdamRule, Dropout, Factors, Sink};
use crate::backend::{select, DeviceRequest};
use crate::control::Control;
use crate::data::{Batches, Features, Rows};
use crate::kmeans::{fit, KMeansParams};
use crate::model::{set_parameters, Autoencoder, Init, Network};
use crate::start::{components, neighbours};
use crate::state::Clusters;
use crate::train::augmentation::Augmentation;
use crate::train::engine::{ClusteringTerm, Engine, EngineParams, Loss, Pull};
use crate::train::optimiser::Optimiser;
use crate::train::step::{Batch, Step};

/// The first GPU; `None`, with a word, where there is none.
fn gpu() -> Option<Device> {
    static FOUND: OnceLock<Option<Device>> = OnceLock::new();
    *FOUND.get_or_init(|| match select(DeviceRequest::Cuda(None)) {
        Ok(device) => Some(device),
        Err(why) => {
            eprintln!("skipped: {}", why.to_string().lines().next().unwrap_or_default());
            None
        }
    })
}

/// Calls `compute` with copies of `tensors` on the CPU and on the GPU, and holds what it returns and what it left in them
/// against each other.
fn same_on_both(gpu: Device, what: &str, tensors: &[Tensor], compute: impl Fn(&[Tensor]) -> Vec<Tensor>) {
    let run = |device: Device| {
        let copies: Vec<Tensor> = tensors.iter().map(|tensor| tensor.to_device(device).copy()).collect();
        let mut all = no_grad(|| compute(&copies));
        all.extend(copies);
        all
    };
    let (cpu, gpu) = (run(Device::Cpu), run(gpu));
    for (place, (a, b)) in cpu.iter().zip(&gpu).enumerate() {
        let (a, b) = (a.to_kind(Kind::Double), b.to_device(Device::Cpu).to_kind(Kind::Double));
        let apart = (&a - &b).abs().max().double_value(&[]);
        assert!(a.allclose(&b, 1e-4, 1e-5, false), "{what}: tensor {place} differs by up to {apart:e}");
    }
}

fn noise(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

const SHAPES: [[i64; 2]; 5] = [[1, 1], [3, 7], [65, 129], [256, 500], [17, 2000]];

#[test]
fn products_in_bf16_on_a_gpu_are_of_rounded_factors() {
    let Some(gpu) = gpu() else { return };
    tch::manual_seed(2);
    let rounded = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16).to_kind(Kind::Float);
    for [n, l, m] in [[3, 7, 5], [256, 500, 784], [784, 256, 500], [256, 10, 2000]] {
        for (keep, transposed) in [(0.0, false), (0.9, false), (0.9, true)] {
            let (a, b, before) = (noise(&[n, l]), noise(&[l, m]), noise(&[n, m]));
            let (a, b) = if transposed { (a.tr().contiguous().tr(), b.tr().contiguous().tr()) } else { (a, b) };
            let kept = if keep == 0.0 { before.zeros_like() } else { &before * keep };
            let expected = kept + rounded(&a).matmul(&rounded(&b));
            let out = if keep == 0.0 { before.full_like(f64::NAN) } else { before }.to_device(gpu);
            dense::product(&out, &a.to_device(gpu), &b.to_device(gpu), keep, Factors::Bf16).unwrap();
            let apart = (out.to_device(Device::Cpu) - expected).abs().max().double_value(&[]);
            assert!(apart < 1e-4 * (l as f64).sqrt(), "[{n}, {l}] x [{l}, {m}], keep {keep}, {transposed}: {apart:e}");
        }
    }
}

#[test]
fn kernels_on_a_gpu_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    tch::manual_seed(1);
    let key = Tensor::from_slice(&[0x1234_5678_9abc_def0_i64, 0]);
    let one = |value: f64| Tensor::from_slice(&[value]);
    for shape @ [rows, width] in SHAPES {
        let (x, w) = (noise(&[rows, 33]), noise(&[width, 33]));
        for keep in [0.0, 0.9, 1.0] {
            same_on_both(gpu, "product", &[noise(&shape), x.shallow_clone(), w.shallow_clone()], |t| {
                dense::product(&t[0], &t[1], &t[2].tr(), keep, Factors::Float32).unwrap();
                Vec::new()
            });
        }
        for (relu, drops) in [(false, false), (true, false), (false, true), (true, true)] {
            let tensors = [noise(&shape), noise(&[width]), noise(&shape), noise(&[width]), key.copy()];
            same_on_both(gpu, &format!("activation {shape:?} {relu} {drops}"), &tensors, |t| {
                let dropout = drops.then_some(Dropout { p: 0.3, key: &t[4], site: 2 });
                dense::activate(&t[0], &t[1], relu, dropout).unwrap();
                let sink = Sink { tensor: &t[3], keep: 0.9 };
                dense::activate_backward(&t[2], &t[0], relu, dropout, sink).unwrap();
                Vec::new()
            });
        }
        let tensors = [noise(&shape), x.shallow_clone(), w.shallow_clone(), noise(&[width])];
        for relu in [false, true] {
            same_on_both(gpu, "layer", &tensors, |t| {
                dense::layer(&t[0], &t[1], &t[2], &t[3], relu, None, Factors::Float32).unwrap();
                Vec::new()
            });
            let broken = x.copy();
            let _ = broken.get(0).fill_(f64::NAN);
            let [y, w, bias, broken] =
                [&tensors[0], &w, &tensors[3], &broken].map(|tensor| tensor.to_device(gpu).copy());
            dense::layer(&y, &broken, &w, &bias, relu, None, Factors::Float32).unwrap();
            assert!(bool::try_from(y.get(0).isnan().all()).unwrap(), "what is no number passes a ReLU");
        }
        let tensors = [noise(&shape), noise(&[width]), noise(&shape), noise(&[width]), one(1.5)];
        same_on_both(gpu, "mean squared error", &tensors, |t| {
            let sink = Sink { tensor: &t[3], keep: 0.0 };
            dense::mean_squared_error(&t[0], &t[1], true, &t[2], 0.5, sink, &t[4]).unwrap();
            Vec::new()
        });
        // As after one step: r₀ is the rate by 1 − β₁, r₁ is 1 by the root of 1 − β₂.
        let r1 = 1.0 / (1.0 - 0.999f32).sqrt();
        let rates = [Tensor::from_slice(&[0.3f32]), Tensor::from_slice(&[0.1f32, r1, 0.99, 0.01, 1.0])];
        let tensors = [noise(&shape), noise(&shape), noise(&shape), noise(&shape).abs()];
        same_on_both(gpu, "descend and adam", &tensors, |t| {
            let rates = rates.each_ref().map(|rate| rate.to_device(t[0].device()));
            dense::descend(&[&t[0]], &[&t[1]], &rates[0], 0.01).unwrap();
            let rule = AdamRule { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0, apart: 1.0 };
            dense::adam([&[&t[0]], &[&t[1]], &[&t[2]], &[&t[3]]], &rates[1], rule).unwrap();
            Vec::new()
        });
    }
}

#[test]
fn clustering_on_a_gpu_is_that_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    tch::manual_seed(2);
    for (n, m, k, alpha) in [(70, 10, 10, 1.0), (3000, 3, 5, 2.5), (200, 40, 300, 1.0)] {
        let zeros = |shape: &[i64], kind| Tensor::zeros(shape, (kind, Device::Cpu));
        let tensors = [noise(&[n, m]), noise(&[k, m]), zeros(&[n, k], Kind::Float), zeros(&[n], Kind::Int64)];
        same_on_both(gpu, "assignment", &tensors, |t| {
            dense::log_soft_assignment(&t[0], &t[1], alpha, &t[2]).unwrap();
            let (frequency, confidence) = dense::shares(&t[2], &t[3]).unwrap();
            let loss = dense::target_distribution(&t[2], &frequency).unwrap();
            vec![Tensor::from_slice(&[loss / n as f64, confidence / n as f64]), Tensor::from_slice(&frequency)]
        });
        let p = noise(&[n, k]).softmax(1, Kind::Float);
        let indices = Tensor::randint(n, [60], (Kind::Int64, Device::Cpu));
        let (z, loss) = (noise(&[60, m]), zeros(&[1], Kind::Double));
        let tensors = [z.copy(), noise(&[k, m]), p, indices, z.zeros_like(), noise(&[k, m]), loss];
        same_on_both(gpu, "divergence", &tensors, |t| {
            let sink = Sink { tensor: &t[5], keep: 0.9 };
            dense::kl_divergence(&t[0], &t[1], &t[2], &t[3], alpha, 0.7, &t[4], sink, &t[6]).unwrap();
            dense::squared_distance(&t[0], &t[1], &t[2], &t[3], 0.7, &t[4], &t[6]).unwrap();
            Vec::new()
        });
    }
}

#[test]
fn rows_are_changed_on_a_gpu_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    tch::manual_seed(3);
    let stored = Tensor::randint(256, [50, 28 * 28], (Kind::Uint8, Device::Cpu));
    let indices = Tensor::randint(50, [40], (Kind::Int64, Device::Cpu));
    let out = Tensor::zeros([40, 28 * 28], (Kind::Float, Device::Cpu));
    let rule = Warp {
        rotation: 0.3,
        zoom: 0.1,
        shear: 0.1,
        shift_y: 2.0,
        shift_x: 2.0,
        elastic_y: 1.0,
        elastic_x: 1.0,
        patch_height: 9,
        patch_width: 12,
        ..Warp::still(28, 28)
    };
    let tensors = [stored, indices, out, Tensor::from_slice(&[77i64, 0])];
    same_on_both(gpu, "gather", &tensors, |t| {
        dense::gather(&t[0], &t[1], 1.0 / 255.0, &t[2]).unwrap();
        augment::noise(&t[2], 0.1, &t[3], 5).unwrap();
        Vec::new()
    });
    let warped = |device: Device| {
        let t = tensors.each_ref().map(|tensor| tensor.to_device(device).copy());
        augment::warp(&t[0], &t[1], 1.0 / 255.0, &t[3], &rule, &t[2]).unwrap();
        t[2].to_device(Device::Cpu)
    };
    // Where a place rounds to the other side of a pixel's edge, one pixel is another; the mean says that nearly none is.
    let apart = (warped(Device::Cpu) - warped(gpu)).abs();
    let (mean, most) = (apart.mean(Kind::Double).double_value(&[]), apart.max().double_value(&[]));
    assert!(mean < 1e-5 && most < 0.05, "warp: {mean:e} on average, {most:e} at most");
}

const WIDTHS: [i64; 5] = [20, 16, 130, 24, 3];

/// 24 steps, every fourth of them smaller, by an engine on `device` from weights that are the same for every call; all parameters
/// after, and the losses' sum.
fn trained(device: Device, loss: &str, augmentation: Option<Augmentation>, graphs: bool, adam: bool) -> Vec<Tensor> {
    let values = Array2::from_shape_fn((110, 20), |(i, j)| ((i * i * 7 + j * 31 + i * j) % 256) as u8);
    let rows = Rows::new(&Features::U8(values), &crate::data::Scaling::Factor(1.0 / 128.0), device).unwrap();
    let network = Autoencoder::new(&WIDTHS, device, Init::Normal(0.3)).unwrap();
    let value = |i: usize| (crate::data::hash(i as u64) >> 40) as f32 / (1 << 24) as f32 * 0.8 - 0.4;
    let parameters: Vec<Tensor> = network.named_parameters().into_iter().map(|(_, parameter)| parameter).collect();
    let given: Vec<Tensor> = parameters
        .iter()
        .enumerate()
        .map(|(place, parameter)| {
            let values: Vec<f32> = (0..parameter.numel()).map(|i| value(place << 32 | i)).collect();
            Tensor::from_slice(&values).view_as(parameter).to_device(device)
        })
        .collect();
    set_parameters(&parameters, &given).unwrap();
    let wide = |i: usize, shape: [i64; 2]| {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|j| 2.0 * value(i << 40 | j as usize)).collect();
        Tensor::from_slice(&values).view(shape).to_device(device)
    };
    let centroids = wide(1, [4, 3]);
    let term = |weight, pull| ClusteringTerm {
        layer: 3,
        centroids: centroids.shallow_clone(),
        p: wide(2, [110, 4]).softmax(1, Kind::Float),
        pull,
        weight,
    };
    let (stack, loss) = match loss {
        "reconstruction" => (network.stack().unwrap(), Loss::Reconstruction),
        "clustering" => (network.encoder_stack().unwrap(), Loss::Clustering(term(1.0, Pull::StudentT(1.0)))),
        _ => (network.stack().unwrap(), Loss::Both { reconstruction: 0.7, clustering: term(0.3, Pull::Squared) }),
    };
    let optimiser = match adam {
        true => Optimiser::Adam { beta1: 0.9, decay: 0.0, decoupled: false },
        false => Optimiser::Sgd { momentum: 0.9, decay: 0.0 },
    };
    let dropout = if matches!(loss, Loss::Reconstruction) { 0.2 } else { 0.0 };
    let params = EngineParams {
        batch_size: 32,
        dropout,
        augmentation,
        optimiser,
        seed: 11,
        factors: Factors::Float32,
        cuda_graphs: graphs,
    };
    let mut engine = Engine::new(stack, loss, &rows, params).unwrap();
    let mut batches = Batches::new(110, 32, device, 3).unwrap();
    for number in 0..24 {
        let indices = batches.next_batch().unwrap();
        engine.step(&Batch { indices: &indices, number }, if adam { 1e-3 } else { 0.02 }).unwrap();
    }
    let mut all: Vec<Tensor> = parameters.iter().map(|p| no_grad(|| p.to_device(Device::Cpu).copy())).collect();
    all.extend([centroids.to_device(Device::Cpu), Tensor::from_slice(&[engine.loss_sum().unwrap()])]);
    all
}

fn furthest(a: &[Tensor], b: &[Tensor]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs().max().double_value(&[])).fold(0.0, f64::max)
}

/// Calls `check` with every kind of step: in words, and what trains by it on a device, with or without graphs.
fn each_kind_of_step(check: impl Fn(&str, &dyn Fn(Device, bool) -> Vec<Tensor>)) {
    let noise = Some(Augmentation::Noise { deviation: 0.05, dropout: 0.2 });
    let warp = Some(Augmentation::Warp(Warp { rotation: 0.2, shift_x: 1.0, ..Warp::still(4, 5) }));
    for loss in ["reconstruction", "clustering", "both"] {
        for (changes, augmentation) in [("none", None), ("noise", noise), ("warp", warp)] {
            for adam in [false, true] {
                let what = format!("{loss}, augmentation {changes}, Adam {adam}");
                check(&what, &|device, graphs| trained(device, loss, augmentation, graphs, adam));
            }
        }
    }
}

#[test]
fn steps_on_a_gpu_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    each_kind_of_step(|what, trained| {
        let plain = trained(gpu, false);
        let apart = furthest(&trained(Device::Cpu, false), &plain);
        assert!(apart < 1e-3, "{what}: {apart:e} from the CPU");
        assert_eq!(furthest(&plain, &trained(gpu, false)), 0.0, "{what}: other bits the second time");
    });
}

#[test]
fn recorded_steps_on_a_gpu_are_the_plain_ones() {
    let Some(gpu) = gpu() else { return };
    each_kind_of_step(|what, trained| {
        let apart = furthest(&trained(gpu, false), &trained(gpu, true));
        assert!(apart < 1e-5, "{what}: {apart:e} from the plain steps");
    });
}

#[test]
fn searches_on_a_gpu_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    tch::manual_seed(4);
    let rows = noise(&[3000, 60]) + Tensor::randint(7, [3000, 1], (Kind::Float, Device::Cpu)) * noise(&[1, 60]) * 3.0;
    let on = |device: Device| Rows::from_tensor(rows.to_device(device));
    let params = KMeansParams { n_clusters: 7, n_init: 5, ..KMeansParams::default() };
    let inertia = |device| fit(&on(device), &params, &mut Control::ignored()).unwrap().inertia;
    let (cpu, there) = (inertia(Device::Cpu), inertia(gpu));
    assert!((cpu - there).abs() < 1e-3 * cpu, "inertia {cpu} and {there}");
    assert_eq!(there.to_bits(), inertia(gpu).to_bits(), "other bits the second time");
    // One restart, whose running sums are of one row; many clusters; means.
    let one = KMeansParams { n_clusters: 50, n_init: 1, max_iter: 3, ..params.clone() };
    let once = || fit(&on(gpu), &one, &mut Control::ignored()).unwrap();
    let (first, second) = (once(), once());
    assert_eq!(first, second, "k-means: other bits the second time");
    let means = || Clusters::around_means(&rows.to_device(gpu), first.labels.clone(), 50).unwrap().centroids;
    assert!(means() == means(), "means: other bits the second time");

    let found = |device: Device| {
        let found = neighbours(None, &rows.to_device(device), 15, &mut Control::ignored()).unwrap();
        (found.distances.to_device(Device::Cpu), found.indices.to_device(Device::Cpu))
    };
    let ((cpu, _), (there, indices)) = (found(Device::Cpu), found(gpu));
    let (again, indices_again) = found(gpu);
    assert!(there == again && indices == indices_again, "neighbours: other bits the second time");
    assert!(cpu.allclose(&there, 1e-3, 1e-3, false), "neighbours' distances");

    let gram = |device: Device| {
        let found = components(&on(device), i64::MAX, &mut Control::ignored()).unwrap().to_device(Device::Cpu);
        found.narrow(0, 0, 100).matmul(&found.narrow(0, 0, 100).tr())
    };
    assert!(gram(Device::Cpu).allclose(&gram(gpu), 1e-3, 1e-2, false), "components");
}
