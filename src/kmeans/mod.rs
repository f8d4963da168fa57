//! k-means: restarts of Lloyd's algorithm, the best of them brought to an exact fixed point.
//!
//! Every restart starts from centroids of its own (greedy k-means++, Arthur & Vassilvitskii 2007) and ends by
//! scikit-learn's tolerance. The winner is then finished by exact Lloyd steps, so that its labels, centroids and
//! inertia agree with each other. The rows stay on their device in the type that they are stored in.
//!
//! ```
//! use dec::control::Control;
//! use dec::data::Rows;
//! use dec::kmeans::{fit, KMeansParams};
//! use tch::Tensor;
//!
//! let rows = Rows::from_tensor(Tensor::from_slice(&[0.0f32, 1.0, 9.0, 11.0]).view([4, 1]));
//! let params = KMeansParams { n_clusters: 2, ..KMeansParams::default() };
//! let fitted = fit(&rows, &params, &mut Control::ignored())?;
//! assert_eq!(fitted.inertia, 2.5); // 0.5² + 0.5² around 0.5, 1² + 1² around 10
//! assert_eq!(fitted.labels[0], fitted.labels[1]);
//! assert_ne!(fitted.labels[0], fitted.labels[2]);
//! # Ok::<(), dec::Error>(())
//! ```

mod exact;
mod fused;
mod linfa;
mod lloyd;
mod passes;
mod plain;
mod search;
mod seeding;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::control::Control;
use crate::data::{values_of, Rows};
use crate::error::{Error, Result};
pub(crate) use exact::assign;
pub use search::{Best, Search};

/// What runs the restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// All restarts together, on the rows' device. On the CPU the result is the same for any number of threads.
    #[default]
    Tensor,
    /// `linfa-clustering`: one restart after another, on the CPU, with a float32 copy of the rows.
    Linfa,
}

/// How k-means searches.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeansParams {
    /// k, the number of clusters; at least 1. Default 10.
    pub n_clusters: usize,
    /// Restarts, each from centroids of its own; at least 1. Default 20.
    pub n_init: usize,
    /// The most iterations of a restart; as many again may bring the winner to its fixed point, and as many make that exact. At
    /// least 1. Default 300.
    pub max_iter: u64,
    /// A restart ends when the squared length of all centroids' joint step falls to `tol` times the mean of the
    /// features' variances (scikit-learn's meaning). At least 0. Default 1e-4.
    pub tol: f64,
    /// Restart r draws from the generator of this seed, jumped r times: a restart's result depends on nothing else.
    /// Default 0.
    pub seed: u64,
    /// Default [`Engine::Tensor`].
    pub engine: Engine,
}

impl Default for KMeansParams {
    fn default() -> Self {
        Self { n_clusters: 10, n_init: 20, max_iter: 300, tol: 1e-4, seed: 0, engine: Engine::default() }
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
/// A restart that `max_iter` stops still takes part: its labels and inertia are as valid as another's. `control` hears of
/// each restart in their order. The result is the same for any number of threads.
///
/// # Errors
/// - [`Error::Config`] for parameters outside the ranges that [`KMeansParams`] gives.
/// - [`Error::Rows`] for fewer different rows than clusters, for values that are not finite, and for values so large
///   that sums of squared distances could overflow float32 (about 10¹⁵ for MNIST's shape).
/// - [`Error::Interrupted`] where `control` wants to stop.
pub fn fit(rows: &Rows, params: &KMeansParams, control: &mut Control) -> Result<KMeans> {
    let mut search = Search::new(rows, params)?;
    loop {
        if let Some(fitted) = search.advance(control)? {
            return Ok(fitted);
        }
    }
}

fn check_params(params: &KMeansParams) -> Result<()> {
    let KMeansParams { n_clusters, n_init, max_iter, tol, .. } = params;
    for (name, value) in [("n_clusters", *n_clusters as u64), ("n_init", *n_init as u64), ("max_iter", *max_iter)] {
        if value == 0 {
            return Err(Error::Config(format!("k-means: {name} is 0 and must be at least 1")));
        }
    }
    if !(*tol >= 0.0 && tol.is_finite()) {
        return Err(Error::Config(format!("k-means: tol is {tol} and must be a finite number, at least 0")));
    }
    Ok(())
}

/// Rows that are looked at together for what cannot be clustered.
const CHECKED_VALUES: i64 = 1 << 22;

/// Refuses rows that cannot be clustered into so many. For all processes that hold the rows.
///
/// # Errors
/// As for [`fit`].
pub(crate) fn check_rows(rows: &Rows, n_clusters: usize) -> Result<()> {
    let (n, d) = (rows.n_rows(), rows.n_features());
    if n < n_clusters as i64 {
        return Err(Error::Rows(format!("{n} rows are too few for {n_clusters} clusters")));
    }
    if d == 0 {
        return Err(Error::Rows("rows without features cannot be clustered".to_owned()));
    }
    // Below this bound no sum of squared distances overflows float32.
    let bound = (f64::from(f32::MAX) / (4.0 * n as f64 * d as f64)).sqrt();
    let unusable = |value: f64| !value.is_finite() || value.abs() >= bound;
    if let Some((row, column, value)) = first_of_all(rows, first_in_held(rows, unusable)?)? {
        let remedy = if value.is_finite() {
            format!("values below {bound:.1e}: scale the rows down")
        } else {
            "finite values".into()
        };
        return Err(Error::Rows(format!("row {row} has {value:e} in column {column}: k-means needs {remedy}")));
    }
    check_distinct(rows, n_clusters)
}

/// Row, column and value of the first that is `unusable`, of the rows that this process holds.
fn first_in_held(rows: &Rows, unusable: impl Fn(f64) -> bool) -> Result<Option<(i64, i64, f32)>> {
    let (held, d, scale) = (rows.held(), rows.n_features(), rows.scale());
    let size = (CHECKED_VALUES / d).max(1);
    for start in held.clone().step_by(size as usize) {
        let block = rows.held_block(start, size.min(held.end - start))?;
        let (least, most) = block.f_aminmax(None, false)?; // NaN where there is one
        if !unusable(f64::try_from(least)? * scale) && !unusable(f64::try_from(most)? * scale) {
            continue;
        }
        let values: Vec<f32> = values_of(&block.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?)?;
        if let Some(place) = values.iter().position(|&value| unusable(f64::from(value))) {
            return Ok(Some((start + place as i64 / d, place as i64 % d, values[place])));
        }
    }
    Ok(None)
}

/// Of what the processes that hold the rows have found, what is in the first row: in all of them.
fn first_of_all(rows: &Rows, own: Option<(i64, i64, f32)>) -> Result<Option<(i64, i64, f32)>> {
    let first = rows.ranks().first(own.map(|(row, ..)| row))?;
    let found = own.filter(|(own, ..)| Some(*own) == first);
    // A value by its bits: NaN is no number to compare.
    let mut rest = found.map_or([f64::INFINITY; 2], |(_, column, value)| [column as f64, value.to_bits().into()]);
    rows.ranks().fold(&mut rest, f64::min)?;
    let [column, bits] = rest;
    Ok(first.map(|row| (row, column as i64, f32::from_bits(bits as u32))))
}

fn check_distinct(rows: &Rows, n_clusters: usize) -> Result<()> {
    let (n, d) = (rows.n_rows(), rows.n_features());
    let mut distinct = HashSet::new();
    let mut start = 0;
    let mut size = (2 * n_clusters as i64).min((CHECKED_VALUES / d).max(1)); // nearly always enough
    while start < n {
        let length = size.min(n - start);
        let values: Vec<f32> = values_of(&rows.block(start, length)?)?;
        for row in values.chunks_exact(d as usize) {
            distinct.insert(row.iter().map(|value| (value + 0.0).to_bits()).collect::<Vec<_>>()); // −0 is 0
            if distinct.len() >= n_clusters {
                return Ok(());
            }
        }
        start += length;
        size = (CHECKED_VALUES / d).max(1);
    }
    let found =
        if distinct.len() == 1 { "all the same".to_owned() } else { format!("only {} different", distinct.len()) };
    Err(Error::Rows(format!("the {n} rows are {found}: too few for {n_clusters} clusters")))
}
