//! k-means with five restarts, 10 clusters: 5,000 raw digits of 784 pixels, and 10,000 rows of ten values.

use std::ops::ControlFlow;

use criterion::{Criterion, Throughput};
use dec::data::{array_of, Dataset, Rows};
use dec::kmeans::{fit, KMeansParams};
use ndarray::{Array2, ArrayView2};
use tch::Device;

const RAW_ROWS: usize = 5_000;

pub fn bench(criterion: &mut Criterion, digits: &Dataset) {
    let first: Vec<usize> = (0..RAW_ROWS).collect();
    let rows = Rows::new(&digits.features.select(&first), 0.02, Device::Cpu).unwrap();
    let raw = array_of(&rows.to_tensor().unwrap()).unwrap();
    // Ten columns of digits' pixels: rows with clusters in them, as latent rows have.
    let all = Rows::new(&digits.features, 0.02, Device::Cpu).unwrap().to_tensor().unwrap();
    let narrow = array_of(&all.narrow(1, 350, 10)).unwrap();

    let mut group = criterion.benchmark_group("k-means");
    group.sample_size(10);
    for (name, rows) in [("5,000 × 784", raw), ("10,000 × 10", narrow)] {
        group.throughput(Throughput::Elements(rows.nrows() as u64));
        group.bench_function(name, |b| b.iter(|| centroids(rows.view())));
    }
    group.finish();
}

fn centroids(rows: ArrayView2<f32>) -> Array2<f32> {
    let params = KMeansParams { n_init: 5, ..KMeansParams::default() };
    fit(rows, &params, &mut |_, _| ControlFlow::Continue(())).unwrap().centroids
}
