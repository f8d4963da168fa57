//! k-means: restarts by `linfa-clustering`, the best of them brought to an exact fixed point.
//!
//! `linfa-clustering` runs the "m_k-means" variant of Lloyd's algorithm: an update counts a cluster's old centroid as one
//! more of its rows, μ ← (μ + Σ x) / (1 + n). An empty cluster therefore keeps its centroid, and where the iteration
//! stops by tolerance the centroids still lag behind the means of their rows. The winner is therefore finished here with
//! plain Lloyd steps, so that its labels, centroids and inertia agree with each other.
//!
//! ```
//! use dec::kmeans::{fit, KMeansParams};
//! use ndarray::array;
//! use std::ops::ControlFlow;
//!
//! let rows = array![[0.0f32], [1.0], [9.0], [11.0]];
//! let params = KMeansParams { n_clusters: 2, ..KMeansParams::default() };
//! let fitted = fit(rows.view(), &params, &mut |_done, _best_inertia| ControlFlow::Continue(()))?;
//! assert_eq!(fitted.inertia, 2.5); // 0.5² + 0.5² around 0.5, 1² + 1² around 10
//! assert_eq!(fitted.labels[0], fitted.labels[1]);
//! assert_ne!(fitted.labels[0], fitted.labels[2]);
//! # Ok::<(), dec::Error>(())
//! ```

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::thread;

use linfa::traits::Fit;
use linfa::DatasetBase;
use linfa_clustering::{KMeans as LinfaKMeans, KMeansInit};
use linfa_nn::distance::Distance;
use ndarray::{Array1, Array2, ArrayView, ArrayView1, ArrayView2, Axis, Dimension};
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256Plus;

use crate::error::{Error, Result};
use crate::metrics::squared_distance;

/// How k-means searches.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeansParams {
    /// k, the number of clusters; at least 1. Default 10.
    pub n_clusters: usize,
    /// Restarts, each from centroids of its own (k-means++, Arthur & Vassilvitskii 2007); at least 1. Default 20.
    pub n_init: usize,
    /// The most iterations of a restart, and the most steps that finish the winner; at least 1. Default 300.
    pub max_iter: u64,
    /// A restart ends when the squared length of all centroids' joint step falls below `tol` times the mean of the
    /// features' variances (scikit-learn's meaning). At least 0. Default 1e-4.
    pub tol: f64,
    /// Restart r draws from the generator of this seed, jumped r times: a restart's result depends on nothing else.
    /// Default 0.
    pub seed: u64,
}

impl Default for KMeansParams {
    fn default() -> Self {
        Self { n_clusters: 10, n_init: 20, max_iter: 300, tol: 1e-4, seed: 0 }
    }
}

/// A clustering of rows \[n, d\] into k clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    /// The clusters' centres \[k, d\]: the means of their rows (up to float32 rounding), unless `max_iter` ended the
    /// search before its fixed point.
    pub centroids: Array2<f32>,
    /// Each row's nearest centroid, 0 to k−1: \[n\].
    pub labels: Vec<i64>,
    /// Σ_i ‖x_i − μ_{c_i}‖² over the rows: a sum, in float64.
    pub inertia: f64,
}

/// Clusters `rows` \[n, d\] and returns the restart with the lowest inertia, finished by exact Lloyd steps.
///
/// A restart that `max_iter` stops still takes part: its labels and inertia are as valid as another's. `on_restart` is
/// called after each restart with how many are done and the lowest inertia so far; it stops the search with `Break`.
/// The result is the same for any number of threads.
///
/// # Errors
/// - [`Error::Config`] for parameters outside the ranges that [`KMeansParams`] gives.
/// - [`Error::Rows`] for fewer different rows than clusters, for values that are not finite, and for values so large that
///   sums of squared distances could overflow float32 (about 10¹⁵ for MNIST's shape).
/// - [`Error::Interrupted`] when `on_restart` breaks.
pub fn fit(
    rows: ArrayView2<f32>,
    params: &KMeansParams,
    on_restart: &mut dyn FnMut(usize, f64) -> ControlFlow<()>,
) -> Result<KMeans> {
    check_params(params)?;
    check_rows(rows, params.n_clusters)?;
    let rows = rows.as_standard_layout();
    let dataset = DatasetBase::from(rows.view());
    let tolerance = step_tolerance(rows.view(), params.tol);
    let mut rng = Xoshiro256Plus::seed_from_u64(params.seed);
    let mut best: Option<KMeans> = None;
    for restart in 0..params.n_init {
        let fitted = LinfaKMeans::params_with(params.n_clusters, rng.clone(), Lanes)
            .init_method(KMeansInit::KMeansPlusPlus)
            .n_runs(1)
            .max_n_iterations(params.max_iter)
            .tolerance(tolerance)
            .fit(&dataset)
            .map_err(|e| Error::Training(format!("k-means, restart {restart}: {e}")))?;
        rng.jump();
        // Its inertia is that of the centroids before its last update, summed in float32; this one is not.
        let candidate = assign(rows.view(), fitted.centroids().clone());
        let kept = match best.take() {
            Some(best) if best.inertia <= candidate.inertia => best,
            _ => candidate,
        };
        let lowest = kept.inertia;
        best = Some(kept);
        if on_restart(restart + 1, lowest).is_break() {
            return Err(Error::Interrupted);
        }
    }
    let best = best.ok_or_else(|| must_be_positive("n_init"))?;
    Ok(finish(rows.view(), best, params.max_iter))
}

fn check_params(params: &KMeansParams) -> Result<()> {
    let KMeansParams { n_clusters, n_init, max_iter, tol, .. } = params;
    for (name, value) in [("n_clusters", *n_clusters as u64), ("n_init", *n_init as u64), ("max_iter", *max_iter)] {
        if value == 0 {
            return Err(must_be_positive(name));
        }
    }
    if !(*tol >= 0.0 && tol.is_finite()) {
        return Err(Error::Config(format!("k-means: tol is {tol} and must be a finite number, at least 0")));
    }
    Ok(())
}

fn must_be_positive(name: &str) -> Error {
    Error::Config(format!("k-means: {name} is 0 and must be at least 1"))
}

fn check_rows(rows: ArrayView2<f32>, n_clusters: usize) -> Result<()> {
    let (n, d) = rows.dim();
    if n < n_clusters {
        return Err(Error::Rows(format!("{n} rows are too few for {n_clusters} clusters")));
    }
    if d == 0 {
        return Err(Error::Rows("rows without features cannot be clustered".to_owned()));
    }
    // Below this bound no sum of squared distances overflows float32, on which linfa panics.
    let bound = (f64::from(f32::MAX) / (4.0 * n as f64 * d as f64)).sqrt();
    let unusable = |value: f32| !value.is_finite() || f64::from(value.abs()) >= bound;
    if let Some(((row, column), value)) = rows.indexed_iter().find(|(_, &value)| unusable(value)) {
        let remedy = if value.is_finite() {
            format!("values below {bound:.1e}: scale the rows down")
        } else {
            "finite values".into()
        };
        return Err(Error::Rows(format!("row {row} has {value:e} in column {column}: k-means needs {remedy}")));
    }
    let mut distinct = HashSet::new();
    for row in rows.rows() {
        distinct.insert(row.iter().map(|value| (value + 0.0).to_bits()).collect::<Vec<_>>()); // −0 is 0
        if distinct.len() >= n_clusters {
            return Ok(());
        }
    }
    let found =
        if distinct.len() == 1 { "all the same".to_owned() } else { format!("only {} different", distinct.len()) };
    Err(Error::Rows(format!("the {n} rows are {found}: too few for {n_clusters} clusters")))
}

/// The length of the centroids' joint step below which `linfa` stops: it compares ‖μ_new − μ_old‖ (Frobenius) where
/// scikit-learn compares its square, and wants a tolerance above 0.
fn step_tolerance(rows: ArrayView2<f32>, tol: f64) -> f32 {
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

/// Lloyd steps from `start` until no row changes its cluster, at most `max_iter` of them.
///
/// An empty cluster takes the row that is farthest from its centroid, as in scikit-learn.
fn finish(rows: ArrayView2<f32>, start: KMeans, max_iter: u64) -> KMeans {
    let mut current = start;
    for _ in 0..max_iter {
        let filled = fill_empty_clusters(rows, &mut current);
        let next = assign(rows, means(rows, &current.labels, current.centroids.nrows()));
        let settled = next.labels == current.labels;
        // Only rounding can raise the inertia of a Lloyd step: rows then tie between centroids, and could for ever.
        if !settled && !filled && next.inertia >= current.inertia {
            break;
        }
        current = next;
        if settled {
            break;
        }
    }
    current
}

/// Gives every cluster without rows the row farthest from its centroid, among clusters that keep another row.
/// Returns whether there was such a cluster.
fn fill_empty_clusters(rows: ArrayView2<f32>, clustering: &mut KMeans) -> bool {
    let KMeans { centroids, labels, .. } = clustering;
    let mut sizes = vec![0usize; centroids.nrows()];
    for &label in labels.iter() {
        sizes[label as usize] += 1;
    }
    let empty: Vec<usize> = (0..sizes.len()).filter(|&cluster| sizes[cluster] == 0).collect();
    if empty.is_empty() {
        return false;
    }
    let distance =
        |(row, &label): (ArrayView1<f32>, &i64)| squared_distance(row.iter().zip(centroids.row(label as usize)));
    let distances: Vec<f64> = rows.rows().into_iter().zip(labels.iter()).map(distance).collect();
    let mut farthest_first: Vec<usize> = (0..labels.len()).collect();
    farthest_first.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]));
    let mut candidates = farthest_first.into_iter();
    for &cluster in &empty {
        let Some(row) = candidates.find(|&row| sizes[labels[row] as usize] > 1) else { break };
        sizes[labels[row] as usize] -= 1;
        sizes[cluster] = 1;
        labels[row] = cluster as i64;
    }
    true
}

/// The mean of each cluster's rows, \[k, d\], summed in float64 in the rows' order. No cluster may be empty.
fn means(rows: ArrayView2<f32>, labels: &[i64], n_clusters: usize) -> Array2<f32> {
    let mut sums = Array2::<f64>::zeros((n_clusters, rows.ncols()));
    let mut sizes = vec![0.0f64; n_clusters];
    for (row, &label) in rows.rows().into_iter().zip(labels) {
        sums.row_mut(label as usize).zip_mut_with(&row, |sum, &value| *sum += f64::from(value));
        sizes[label as usize] += 1.0;
    }
    Array2::from_shape_fn(sums.dim(), |(cluster, column)| (sums[[cluster, column]] / sizes[cluster]) as f32)
}

/// Every row's nearest centroid (the first of equally near ones), by as many threads as there are processors.
fn assign(rows: ArrayView2<f32>, centroids: Array2<f32>) -> KMeans {
    let n = rows.nrows();
    let mut labels = vec![0i64; n];
    let mut distances = vec![0.0f64; n];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let size = n.div_ceil(threads).max(1);
    thread::scope(|scope| {
        let parts = rows.axis_chunks_iter(Axis(0), size).zip(labels.chunks_mut(size)).zip(distances.chunks_mut(size));
        for ((rows, labels), distances) in parts {
            let centroids = &centroids;
            scope.spawn(move || {
                for ((row, label), distance) in rows.rows().into_iter().zip(labels).zip(distances) {
                    let cluster = nearest(row, centroids);
                    *label = cluster as i64;
                    *distance = squared_distance(row.iter().zip(centroids.row(cluster)));
                }
            });
        }
    });
    // Summed in the rows' order, so that the number of threads does not show.
    KMeans { centroids, labels, inertia: distances.iter().sum() }
}

/// The index of the centroid nearest to `row`.
fn nearest(row: ArrayView1<f32>, centroids: &Array2<f32>) -> usize {
    let mut best = (0, f32::INFINITY);
    for (cluster, centroid) in centroids.rows().into_iter().enumerate() {
        let distance = Lanes.rdistance(row, centroid);
        if distance < best.1 {
            best = (cluster, distance);
        }
    }
    best.0
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metrics::inertia;
    use ndarray::{array, concatenate, s};
    use rand::Rng;

    fn go_on(_: usize, _: f64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn noise(n: usize, d: usize, seed: u64) -> Array2<f32> {
        let mut rng = Xoshiro256Plus::seed_from_u64(seed);
        Array2::from_shape_fn((n, d), |_| rng.gen::<f32>())
    }

    fn params(n_clusters: usize) -> KMeansParams {
        KMeansParams { n_clusters, ..KMeansParams::default() }
    }

    /// Labels are of the nearest centroids, centroids the means of their rows, the inertia that of both.
    fn assert_consistent(rows: ArrayView2<f32>, fitted: &KMeans) {
        assert_eq!(assign(rows, fitted.centroids.clone()), *fitted);
        let k = fitted.centroids.nrows();
        for cluster in 0..k {
            assert!(fitted.labels.contains(&(cluster as i64)), "cluster {cluster} of {k} is empty");
        }
        assert_eq!(means(rows, &fitted.labels, k), fitted.centroids);
        assert_eq!(inertia(rows, &fitted.labels, fitted.centroids.view()).unwrap(), fitted.inertia);
    }

    #[test]
    fn finds_separate_blobs_exactly() {
        let blob = noise(50, 3, 1);
        let rows = concatenate![Axis(0), blob, &blob + 10.0, &blob - 10.0];
        let fitted = fit(rows.view(), &params(3), &mut go_on).unwrap();
        assert_consistent(rows.view(), &fitted);
        let label = |i: usize| fitted.labels[i];
        assert!((0..150).all(|i| label(i) == label(i / 50 * 50)));
        assert!(label(0) != label(50) && label(50) != label(100) && label(0) != label(100));
    }

    #[test]
    fn result_is_a_fixed_point_of_lloyds_algorithm() {
        // 19 features: one vector of lanes and a remainder. No structure: many steps, few of them by linfa.
        let rows = noise(400, 19, 2);
        let loose = KMeansParams { tol: 0.1, n_init: 3, ..params(12) };
        assert_consistent(rows.view(), &fit(rows.view(), &loose, &mut go_on).unwrap());
    }

    #[test]
    fn same_seed_same_bits_and_another_seed_another_search() {
        let rows = noise(300, 5, 3);
        let run = |seed| fit(rows.view(), &KMeansParams { seed, n_init: 1, ..params(8) }, &mut go_on).unwrap();
        assert_eq!(run(1), run(1));
        assert!((2..6).any(|seed| run(seed).labels != run(1).labels));
    }

    #[test]
    fn columns_in_any_memory_order_give_the_same() {
        let rows = noise(100, 5, 4);
        let by_column = rows.t().as_standard_layout().into_owned();
        let every_second = concatenate![Axis(1), rows.clone(), rows.clone()];
        let expected = fit(rows.view(), &params(4), &mut go_on).unwrap();
        assert_eq!(fit(by_column.t(), &params(4), &mut go_on).unwrap(), expected);
        assert_eq!(fit(every_second.slice(s![.., 5..]), &params(4), &mut go_on).unwrap(), expected);
    }

    #[test]
    fn restarts_report_a_falling_inertia_and_the_first_ones_do_not_depend_on_how_many_follow() {
        let rows = noise(200, 4, 5);
        let history = |n_init, seed| {
            let mut seen = Vec::new();
            let mut record = |done, inertia| {
                seen.push((done, inertia));
                ControlFlow::Continue(())
            };
            fit(rows.view(), &KMeansParams { n_init, seed, ..params(9) }, &mut record).unwrap();
            seen
        };
        let long = history(8, 0);
        assert!(long.iter().map(|seen| seen.0).eq(1..=8));
        assert!(long.windows(2).all(|pair| pair[1].1 <= pair[0].1));
        assert_eq!(history(3, 0), long[..3]);
        let falls = |seed| history(8, seed).windows(2).any(|pair| pair[1].1 < pair[0].1);
        assert!(
            (0..4).any(falls),
            "no restart is better than its first one: do they all start from the same centroids?"
        );
    }

    #[test]
    fn a_break_interrupts() {
        let rows = noise(50, 2, 6);
        let mut calls = 0;
        let result = fit(rows.view(), &params(3), &mut |_, _| {
            calls += 1;
            if calls == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(matches!(result, Err(Error::Interrupted)));
        assert_eq!(calls, 2);
    }

    #[test]
    fn restarts_that_do_not_converge_still_give_a_clustering() {
        let rows = noise(500, 6, 7);
        let hurried = KMeansParams { max_iter: 1, tol: 0.0, ..params(10) };
        let fitted = fit(rows.view(), &hurried, &mut go_on).unwrap();
        assert_eq!(assign(rows.view(), fitted.centroids.clone()), fitted);
        let converged = fit(rows.view(), &params(10), &mut go_on).unwrap();
        assert!(converged.inertia < fitted.inertia);
    }

    #[test]
    fn empty_clusters_take_the_farthest_rows() {
        let rows = array![[0.0f32], [1.0], [2.0], [50.0], [51.0], [90.0]];
        let centroids = array![[1.0f32], [1000.0], [60.0], [2000.0]];
        let start = assign(rows.view(), centroids);
        assert_eq!(start.labels, [0, 0, 0, 2, 2, 2]);
        let mut filled = start.clone();
        assert!(fill_empty_clusters(rows.view(), &mut filled));
        assert_eq!(filled.labels, [0, 0, 0, 3, 2, 1], "90 is 30 away, 50 is 10 away, 51 must stay");
        let finished = finish(rows.view(), start, 100);
        assert_consistent(rows.view(), &finished);
        assert_eq!(finished.inertia, 2.0);
    }

    #[test]
    fn as_many_clusters_as_different_rows_is_the_limit() {
        let rows = array![[1.0f32, 0.0], [1.0, -0.0], [2.0, 0.0], [3.0, 0.0], [3.0, 0.0]];
        let fitted = fit(rows.view(), &params(3), &mut go_on).unwrap();
        assert_consistent(rows.view(), &fitted);
        assert_eq!(fitted.inertia, 0.0);
        let problem = |rows: ArrayView2<f32>, k| match fit(rows, &params(k), &mut go_on) {
            Err(Error::Rows(problem)) => problem,
            other => panic!("{other:?}"),
        };
        assert!(problem(rows.view(), 4).contains("only 3 different"));
        assert!(problem(rows.view(), 6).contains("5 rows"));
        assert!(problem(Array2::ones((9, 4)).view(), 2).contains("all the same"));
        assert!(problem(Array2::zeros((0, 4)).view(), 1).contains("0 rows"));
        assert!(problem(Array2::zeros((4, 0)).view(), 1).contains("without features"));
        assert!(problem(array![[0.0, 1.0], [f32::NAN, 1.0]].view(), 1)
            .contains("row 1 has NaN in column 0: k-means needs finite"));
        assert!(problem(array![[1e30f32], [-1e30], [0.0]].view(), 2).contains("scale the rows down"));
        let same = fit(Array2::ones((9, 4)).view(), &params(1), &mut go_on).unwrap();
        assert_eq!((same.inertia, same.labels), (0.0, vec![0; 9]));
    }

    #[test]
    fn impossible_parameters_name_the_field() {
        let rows = noise(20, 2, 8);
        let good = params(2);
        let bad = [
            ("n_clusters", KMeansParams { n_clusters: 0, ..good.clone() }),
            ("n_init", KMeansParams { n_init: 0, ..good.clone() }),
            ("max_iter", KMeansParams { max_iter: 0, ..good.clone() }),
            ("tol", KMeansParams { tol: -1.0, ..good.clone() }),
            ("tol", KMeansParams { tol: f64::NAN, ..good }),
        ];
        for (field, params) in bad {
            match fit(rows.view(), &params, &mut go_on) {
                Err(Error::Config(problem)) => assert!(problem.contains(field), "{problem}"),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn tolerance_is_scikit_learns() {
        let rows = array![[0.0f32, 10.0], [2.0, 10.0], [4.0, 16.0], [6.0, 4.0]];
        // Variances 5 and 18; scikit-learn stops at squared steps below 1e-2 · 11.5.
        assert!((step_tolerance(rows.view(), 1e-2) - 0.115f32.sqrt()).abs() < 1e-7);
        assert!(step_tolerance(rows.view(), 0.0) > 0.0);
    }
}
