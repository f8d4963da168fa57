//! Restarts by `linfa-clustering`: the engine that the tensors' one is checked against.
//!
//! It runs the "m_k-means" variant of Lloyd's algorithm: an update counts a cluster's old centroid as one more of its
//! rows, μ ← (μ + Σ x) / (1 + n). An empty cluster therefore keeps its centroid, and where the iteration stops by
//! tolerance the centroids still lag behind the means of their rows.

use linfa::traits::Fit;
use linfa::DatasetBase;
use linfa_clustering::{KMeans as LinfaKMeans, KMeansInit};
use linfa_nn::distance::Distance;
use ndarray::{Array1, Array2, ArrayView, ArrayView2, Dimension};
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256Plus;

use super::{exact, KMeans, KMeansParams};
use crate::backend::threads;
use crate::control::Control;
use crate::data::{array_of, Rows};
use crate::error::{Error, Result};
use crate::metrics::squared_distance;

/// What restarts share.
pub(super) struct Restarts {
    array: Array2<f32>,
    tolerance: f32,
    pool: rayon::ThreadPool,
}

impl Restarts {
    /// For the `rows` that a search is over.
    pub(super) fn new(rows: &Rows, params: &KMeansParams) -> Result<Self> {
        let array = array_of(&rows.to_tensor()?)?;
        let tolerance = step_tolerance(array.view(), params.tol);
        // linfa works on rayon's threads: as many as everything else uses.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads::count())
            .build()
            .map_err(|problem| Error::Training(format!("k-means: no threads for linfa: {problem}")))?;
        Ok(Self { array, tolerance, pool })
    }

    /// The clustering that the restart of this number comes to.
    pub(super) fn restart(
        &self,
        number: usize,
        rows: &Rows,
        params: &KMeansParams,
        control: &mut Control,
    ) -> Result<KMeans> {
        control.check()?;
        let mut rng = Xoshiro256Plus::seed_from_u64(params.seed);
        (0..number).for_each(|_| rng.jump());
        let init = KMeansInit::KMeansPlusPlus;
        let centroids = self
            .pool
            .install(|| restart_from(init, self.array.view(), params, self.tolerance, &rng))
            .map_err(|problem| Error::Training(format!("k-means, restart {number}: {problem}")))?;
        // Its inertia is that of the centroids before its last update, summed in float32; this one is not.
        exact::assign(rows, centroids, control)
    }
}

/// One restart's centroids.
pub(super) fn restart_from(
    init: KMeansInit<f32>,
    rows: ArrayView2<f32>,
    params: &KMeansParams,
    tolerance: f32,
    rng: &Xoshiro256Plus,
) -> std::result::Result<Array2<f32>, String> {
    let fitted = LinfaKMeans::params_with(params.n_clusters, rng.clone(), Lanes)
        .init_method(init)
        .n_runs(1)
        .max_n_iterations(params.max_iter)
        .tolerance(tolerance)
        .fit(&DatasetBase::from(rows))
        .map_err(|e| e.to_string())?;
    Ok(fitted.centroids().clone())
}

/// The length of the centroids' joint step below which `linfa` stops: it compares ‖μ_new − μ_old‖ (Frobenius) where
/// scikit-learn compares its square, and wants a tolerance above 0.
pub(super) fn step_tolerance(rows: ArrayView2<f32>, tol: f64) -> f32 {
    let (n, d) = rows.dim();
    let mut means = Array1::<f64>::zeros(d);
    for row in rows.rows() {
        means.zip_mut_with(&row, |sum, &value| *sum += f64::from(value));
    }
    means /= n as f64;
    let mut squares = Array1::<f64>::zeros(d);
    for row in rows.rows() {
        for ((square, mean), &value) in squares.iter_mut().zip(&means).zip(row) {
            *square += (f64::from(value) - mean).powi(2);
        }
    }
    let mean_variance = squares.sum() / (n as f64 * d as f64);
    ((tol * mean_variance).sqrt() as f32).max(f32::MIN_POSITIVE)
}

/// The Euclidean distance, its square summed in float32 in sixteen partial sums that the compiler keeps in vector
/// registers: linfa's own `L2Dist` adds one term after the other, which is several times slower.
#[derive(Debug, Clone, Copy)]
struct Lanes;

impl Distance<f32> for Lanes {
    fn distance<D: Dimension>(&self, a: ArrayView<f32, D>, b: ArrayView<f32, D>) -> f32 {
        self.rdistance(a, b).sqrt()
    }

    fn rdistance<D: Dimension>(&self, a: ArrayView<f32, D>, b: ArrayView<f32, D>) -> f32 {
        const LANES: usize = 16;
        let (Some(a), Some(b)) = (a.as_slice(), b.as_slice()) else {
            return squared_distance(a.iter().zip(b.iter())) as f32;
        };
        let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
        let mut sums = [0.0f32; LANES];
        for (a, b) in a.zip(b) {
            for lane in 0..LANES {
                let difference = a[lane] - b[lane];
                sums[lane] += difference * difference;
            }
        }
        sums.iter().sum::<f32>() + tail
    }

    fn rdist_to_dist(&self, rdist: f32) -> f32 {
        rdist.sqrt()
    }

    fn dist_to_rdist(&self, dist: f32) -> f32 {
        dist * dist
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn tolerance_is_scikit_learns() {
        let rows = array![[0.0f32, 10.0], [2.0, 10.0], [4.0, 16.0], [6.0, 4.0]];
        // Variances 5 and 18; scikit-learn stops at squared steps below 1e-2 · 11.5.
        assert!((step_tolerance(rows.view(), 1e-2) - 0.115f32.sqrt()).abs() < 1e-7);
        assert!(step_tolerance(rows.view(), 0.0) > 0.0);
    }
}
