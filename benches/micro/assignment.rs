//! q, p and the gradients of KL(P‖Q): 10,000 latent rows \[n, 10\], 10 centroids; the gradients for a batch of 256.

use criterion::{Criterion, Throughput};
use dec::model::assignment::{cluster_frequency, kl_gradients, soft_assignment, target_distribution};
use tch::{no_grad, Device, Kind, Tensor};

const N: i64 = 10_000;
const BATCH: i64 = 256;

pub fn bench(criterion: &mut Criterion) {
    tch::manual_seed(0);
    let z = Tensor::randn([N, 10], (Kind::Float, Device::Cpu));
    let centroids = Tensor::randn([10, 10], (Kind::Float, Device::Cpu));
    let q = soft_assignment(&z, &centroids, 1.0).unwrap();

    let mut group = criterion.benchmark_group("assignment");
    group.throughput(Throughput::Elements(N as u64));
    group.bench_function("q", |b| b.iter(|| no_grad(|| soft_assignment(&z, &centroids, 1.0)).unwrap()));
    let target = || target_distribution(&q, &cluster_frequency(&q).unwrap()).unwrap();
    group.bench_function("p", |b| b.iter(target));

    group.throughput(Throughput::Elements(BATCH as u64));
    let (z, p) = (z.narrow(0, 0, BATCH), target().narrow(0, 0, BATCH));
    group.bench_function("gradients of KL", |b| b.iter(|| kl_gradients(&z, &centroids, &p, 1.0).unwrap()));
    group.finish();
}
