//! k-means with five restarts, 10 clusters: 5,000 raw digits of 784 pixels, and 10,000 rows of ten values.

use criterion::{Criterion, Throughput};
use dec::control::Control;
use dec::data::{Dataset, Rows, Scaling};
use dec::kmeans::{fit, KMeansParams};
use ndarray::Array2;
use tch::Device;

const RAW_ROWS: usize = 5_000;

pub fn bench(criterion: &mut Criterion, digits: &Dataset) {
    let first: Vec<usize> = (0..RAW_ROWS).collect();
    let raw = Rows::new(&digits.features.select(&first), &Scaling::Factor(0.02), Device::Cpu).unwrap();
    // Ten columns of digits' pixels: rows with clusters in them, as latent rows have.
    let all = Rows::new(&digits.features, &Scaling::Factor(0.02), Device::Cpu).unwrap().to_tensor().unwrap();
    let narrow = Rows::from_tensor(all.narrow(1, 350, 10).contiguous());

    let mut group = criterion.benchmark_group("k-means");
    group.sample_size(10);
    for (name, rows) in [("5,000 × 784", raw), ("10,000 × 10", narrow)] {
        group.throughput(Throughput::Elements(rows.n_rows() as u64));
        group.bench_function(name, |b| b.iter(|| centroids(&rows)));
    }
    group.finish();
}

fn centroids(rows: &Rows) -> Array2<f32> {
    let params = KMeansParams { n_init: 5, ..KMeansParams::default() };
    fit(rows, &params, &mut Control::ignored()).unwrap().centroids
}
