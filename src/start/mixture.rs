//! A mixture of Gaussians with full covariances, by `linfa-clustering`: the likeliest component of each row.

use linfa::traits::{Fit, Predict};
use linfa::DatasetBase;
use linfa_clustering::GaussianMixtureModel;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256Plus;
use tch::Tensor;

use crate::data::array_of;
use crate::error::{Error, Result};

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
    // linfa starts it by a k-means of its own, on rayon's threads, whose draws depend on how many there are.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|problem| Error::Training(format!("the Gaussian mixture: no thread for linfa: {problem}")))?;
    let params = GaussianMixtureModel::params_with_rng(n_clusters, Xoshiro256Plus::seed_from_u64(seed))
        .reg_covariance((REGULARISATION * mean_variance).max(f64::MIN_POSITIVE));
    let model = pool.install(|| params.fit(&dataset)).map_err(|problem| {
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
    use crate::control::Control;
    use crate::data::Rows;
    use crate::kmeans::{self, KMeansParams};
    use crate::metrics::Contingency;
    use tch::{Device, Kind};

    #[test]
    fn a_narrow_cluster_beside_a_wide_one_keeps_to_itself_where_that_of_k_means_does_not() {
        tch::manual_seed(2);
        let blob = |deviation: f64, x: f64| {
            Tensor::randn([500, 2], (Kind::Float, Device::Cpu)) * deviation + Tensor::from_slice(&[x as f32, 0.0])
        };
        let rows = Tensor::cat(&[blob(3.0, 0.0), blob(0.3, 5.0)], 0);
        let truth: Vec<i64> = (0..1000).map(|i| i / 500).collect();
        let accuracy = |labels: &[i64]| Contingency::new(&truth, labels).unwrap().accuracy();
        let mixture = accuracy(&fit(&rows, 2, 1).unwrap());
        let params = KMeansParams { n_clusters: 2, ..KMeansParams::default() };
        let by_kmeans = kmeans::fit(&Rows::from_tensor(rows), &params, &mut Control::ignored());
        let by_kmeans = accuracy(&by_kmeans.unwrap().labels);
        assert!(mixture > 0.97 && by_kmeans < 0.94, "{mixture} {by_kmeans}");
    }

    #[test]
    fn what_cannot_be_fitted_names_the_remedy() {
        let same = Tensor::ones([10, 2], (Kind::Float, Device::Cpu));
        let message = fit(&same, 3, 0).unwrap_err().to_string();
        assert!(message.contains("start.method=spectral"), "{message}");
    }
}
