//! A mixture of Gaussians with full covariances, by `linfa-clustering`: the likeliest component of each row.

use linfa::traits::{Fit, Predict};
use linfa::DatasetBase;
use linfa_clustering::GaussianMixtureModel;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256Plus;
use tch::Tensor;

use crate::data::array_of;
use crate::error::{Error, Result};

/// Starts of the expectation maximisation; linfa places each by k-means.
const RUNS: u64 = 10;
/// Added to the covariances' diagonals, relative to the mean variance of the rows' values.
const REGULARISATION: f64 = 1e-4;

/// The labels, 0 to k − 1, of `rows` \[n, m\] in a mixture of `n_clusters` Gaussians. Computes in float64 on the CPU, and cannot be
/// interrupted.
///
/// # Errors
/// [`Error::Training`] where the mixture cannot be fitted: fewer different rows than components, say.
pub fn fit(rows: &Tensor, n_clusters: usize, seed: u64) -> Result<Vec<i64>> {
    let array = array_of(rows)?.mapv(f64::from);
    let mean_variance = array.var_axis(ndarray::Axis(0), 0.0).mean().unwrap_or(0.0);
    let dataset = DatasetBase::from(array.view());
    let model = GaussianMixtureModel::params_with_rng(n_clusters, Xoshiro256Plus::seed_from_u64(seed))
        .n_runs(RUNS)
        .reg_covariance((REGULARISATION * mean_variance).max(f64::MIN_POSITIVE))
        .fit(&dataset)
        .map_err(|problem| {
            Error::Training(format!(
                "the Gaussian mixture of the latent rows cannot be fitted: {problem}; start from another method (--set \
                 start.method=spectral)"
            ))
        })?;
    let labels = model.predict(&array);
    Ok(labels.iter().map(|&label| label as i64).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::Rows;
    use crate::kmeans::{self, KMeansParams};
    use crate::metrics::Contingency;
    use std::ops::ControlFlow;
    use tch::{Device, Kind};

    #[test]
    fn long_clusters_side_by_side_are_told_apart_where_k_means_fails() {
        tch::manual_seed(2);
        let long = |y: f64| {
            let noise = Tensor::randn([400, 2], (Kind::Float, Device::Cpu));
            noise * Tensor::from_slice(&[10.0f32, 0.3]) + Tensor::from_slice(&[0.0, y as f32])
        };
        let rows = Tensor::cat(&[long(0.0), long(4.0)], 0);
        let truth: Vec<i64> = (0..800).map(|i| i / 400).collect();
        let accuracy = |labels: &[i64]| Contingency::new(&truth, labels).unwrap().accuracy();
        assert!(accuracy(&fit(&rows, 2, 1).unwrap()) > 0.99);
        let params = KMeansParams { n_clusters: 2, ..KMeansParams::default() };
        let by_kmeans = kmeans::fit(&Rows::from_tensor(rows), &params, &mut |_| ControlFlow::Continue(()));
        assert!(accuracy(&by_kmeans.unwrap().labels) < 0.7);
    }

    #[test]
    fn what_cannot_be_fitted_names_the_remedy() {
        let same = Tensor::ones([10, 2], (Kind::Float, Device::Cpu));
        let message = fit(&same, 3, 0).unwrap_err().to_string();
        assert!(message.contains("start.method=spectral"), "{message}");
    }
}
