//! Batches of 256 rows: shuffled indices, and the rows behind them as scaled float32.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use dec::data::{Batches, Dataset, Rows, Scaling};
use tch::Device;

pub fn bench(criterion: &mut Criterion, digits: &Dataset) {
    let n = digits.n_rows() as u64;
    let rows = Rows::new(&digits.features, &Scaling::Factor(0.02), Device::Cpu).unwrap();
    let mut group = criterion.benchmark_group("an epoch of batches");
    group.throughput(Throughput::Elements(n));
    group.bench_function("indices", |b| {
        let mut batches = batches(&rows);
        b.iter(|| {
            for _ in 0..batches.per_epoch() {
                let _ = black_box(batches.next_batch().unwrap());
            }
        });
    });
    group.bench_function("indices and rows", |b| {
        let mut batches = batches(&rows);
        b.iter(|| {
            for _ in 0..batches.per_epoch() {
                let _ = black_box(rows.batch(&batches.next_batch().unwrap()).unwrap());
            }
        });
    });
    group.finish();
}

fn batches(rows: &Rows) -> Batches {
    Batches::new(rows.n_rows(), 256, Device::Cpu, 0).unwrap()
}
