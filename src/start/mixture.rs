//! A mixture of Gaussians with full covariances, by expectation maximisation (Dempster, Laird & Rubin 1977).
//!
//! In float64, and of wide rows in their 20 leading principal components: k · m² / 2 values of covariance want rows to know them
//! by. Time of an iteration: n · k · m².

use tch::{no_grad, Kind, Tensor};

use crate::control::Control;
use crate::data::{index_of, sample, values_of, Rows};
use crate::error::{Error, Result};
use crate::kmeans::{self, KMeansParams};

/// Dimensions that are kept at most.
const DIMENSIONS: i64 = 20;
/// Added to the covariances' diagonals, relative to the mean variance of the rows' values.
const REGULARISATION: f64 = 1e-3;
/// Times that it begins, each from a k-means of its own.
const N_INIT: u64 = 3;
const MAX_ITER: usize = 100;
/// The mean log-likelihood of a row has to grow by so much for another iteration.
const TOLERANCE: f64 = 1e-3;
/// Rows that it is fitted to at most; the others are assigned afterwards.
const ROWS: usize = 10_000;
/// Rows that are assigned at once.
const BLOCK: i64 = 10_000;

/// The likeliest component, 0 to k − 1, of each of `rows` \[n, m\] in a mixture of `n_clusters` Gaussians.
///
/// # Errors
/// [`Error::Rows`] for fewer different rows than components, [`Error::Training`] where no mixture can be fitted,
/// [`Error::Interrupted`], or a libtorch failure.
pub fn fit(rows: &Tensor, n_clusters: usize, seed: u64, control: &mut Control) -> Result<Vec<i64>> {
    no_grad(|| {
        let rows = narrowed(rows)?;
        let n = rows.size2()?.0 as usize;
        let seen = match n > ROWS {
            true => rows.f_index_select(0, &index_of(&sample(n, ROWS, seed))?.f_to_device(rows.device())?)?,
            false => rows.shallow_clone(),
        };
        let mut best: Option<Mixture> = None;
        for start in 0..N_INIT {
            let mixture = Mixture::fit(&seen, n_clusters, seed.wrapping_add(start), control)?;
            if best.as_ref().is_none_or(|best| mixture.likelihood > best.likelihood) {
                best = Some(mixture);
            }
        }
        let found = best.filter(|best| best.likelihood.is_finite());
        let best = found.ok_or_else(|| Error::Training("no mixture of Gaussians could be fitted".to_owned()))?;
        let mut labels = Vec::with_capacity(n);
        for block in rows.f_split(BLOCK, 0)? {
            control.check()?;
            labels.extend(values_of::<i64>(&best.log_joint(&block)?.f_argmax(1, false)?)?);
        }
        Ok(labels)
    })
}

/// In float64, around 0 and of mean variance 1, and of few dimensions.
fn narrowed(rows: &Tensor) -> Result<Tensor> {
    let rows = rows.f_to_kind(Kind::Double)?;
    let rows = rows.f_sub(&rows.f_mean_dim(0, true, Kind::Double)?)?;
    let (n, m) = rows.size2()?;
    let variance = f64::try_from(rows.f_square()?.f_mean(Kind::Double)?)?;
    let rows = rows.f_div_scalar(variance.sqrt().max(f64::MIN_POSITIVE))?;
    if m <= DIMENSIONS {
        return Ok(rows);
    }
    let covariance = rows.f_tr()?.f_matmul(&rows)?.f_div_scalar(n as f64)?;
    let (_, vectors) = covariance.f_linalg_eigh("L")?; // the least first
    Ok(rows.f_matmul(&vectors.f_narrow(1, m - DIMENSIONS, DIMENSIONS)?)?)
}

/// Components with their weights: log π \[k\], means \[k, m\], Cholesky factors of the covariances \[k, m, m\].
struct Mixture {
    log_weights: Tensor,
    means: Tensor,
    factors: Tensor,
    /// The mean over the rows of their log-likelihood.
    likelihood: f64,
}

impl Mixture {
    fn fit(rows: &Tensor, k: usize, seed: u64, control: &mut Control) -> Result<Self> {
        let params = KMeansParams { n_clusters: k, n_init: 1, seed, ..KMeansParams::default() };
        let begin = kmeans::fit(&Rows::from_tensor(rows.f_to_kind(Kind::Float)?), &params, &mut control.silenced())?;
        let labels = Tensor::f_from_slice(&begin.labels)?.f_to_device(rows.device())?;
        let share = labels.f_one_hot(k as i64)?.f_to_kind(Kind::Double)?;
        let variance = f64::try_from(rows.f_var_dim(0, false, false)?.f_mean(Kind::Double)?)?;
        let regularisation = REGULARISATION * variance.max(f64::MIN_POSITIVE);
        let mut mixture = Self::of_shares(rows, &share, regularisation)?;
        for _ in 0..MAX_ITER {
            control.check()?;
            let joint = mixture.log_joint(rows)?;
            let total = joint.f_logsumexp([1], true)?;
            let before = mixture.likelihood;
            let likelihood = f64::try_from(total.f_mean(Kind::Double)?)?;
            mixture.likelihood = likelihood;
            // Not finite: nothing more to be found.
            if !likelihood.is_finite() || likelihood - before < TOLERANCE {
                break;
            }
            mixture = Self { likelihood, ..Self::of_shares(rows, &joint.f_sub(&total)?.f_exp()?, regularisation)? };
        }
        Ok(mixture)
    }

    /// The components that rows belong to by these shares \[n, k\].
    fn of_shares(rows: &Tensor, shares: &Tensor, regularisation: f64) -> Result<Self> {
        let (n, m) = rows.size2()?;
        let sizes = shares.f_sum_dim_intlist(0, false, Kind::Double)?.f_add_scalar(10.0 * f64::EPSILON)?;
        let means = shares.f_tr()?.f_matmul(rows)?.f_div(&sizes.f_unsqueeze(1)?)?;
        let ridge = Tensor::f_eye(m, (Kind::Double, rows.device()))?.f_mul_scalar(regularisation)?;
        let mut covariances = Vec::new();
        for component in 0..shares.size2()?.1 {
            let away = rows.f_sub(&means.f_get(component)?)?;
            let weighted = away.f_mul(&shares.f_narrow(1, component, 1)?)?;
            let covariance = weighted.f_tr()?.f_matmul(&away)?.f_div(&sizes.f_get(component)?)?;
            covariances.push(covariance.f_add(&ridge)?);
        }
        Ok(Self {
            log_weights: sizes.f_div_scalar(n as f64)?.f_log()?,
            means,
            factors: Tensor::f_stack(&covariances, 0)?.f_linalg_cholesky(false)?,
            likelihood: f64::NEG_INFINITY,
        })
    }

    /// log(π_j N(x; μ_j, Σ_j)): \[n, k\].
    fn log_joint(&self, rows: &Tensor) -> Result<Tensor> {
        let m = rows.size2()?.1 as f64;
        let mut columns = Vec::new();
        for component in 0..self.means.size2()?.0 {
            let factor = self.factors.f_get(component)?;
            let away = rows.f_sub(&self.means.f_get(component)?)?.f_tr()?;
            let whitened = Tensor::f_linalg_solve_triangular(&factor, &away, false, true, false)?;
            let squares = whitened.f_square()?.f_sum_dim_intlist(0, false, Kind::Double)?;
            let log_root = factor.f_diagonal(0, 0, 1)?.f_log()?.f_sum(Kind::Double)?;
            let log_weight = self.log_weights.f_get(component)?;
            let constant = log_weight.f_sub(&log_root)?.f_sub_scalar(0.5 * m * (2.0 * std::f64::consts::PI).ln())?;
            columns.push(squares.f_mul_scalar(-0.5)?.f_add(&constant)?);
        }
        Ok(Tensor::f_stack(&columns, 1)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Stop;
    use crate::metrics::Contingency;
    use tch::Device;

    fn fit_now(rows: &Tensor, k: usize) -> Result<Vec<i64>> {
        fit(rows, k, 1, &mut Control::ignored())
    }

    fn normal(rows: i64, columns: i64) -> Tensor {
        Tensor::randn([rows, columns], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn a_narrow_cluster_beside_a_wide_one_keeps_to_itself_where_that_of_k_means_does_not() {
        tch::manual_seed(2);
        let blob = |deviation: f64, x: f64| normal(500, 2) * deviation + Tensor::from_slice(&[x as f32, 0.0]);
        let rows = Tensor::cat(&[blob(3.0, 0.0), blob(0.3, 5.0)], 0);
        let truth: Vec<i64> = (0..1000).map(|i| i / 500).collect();
        let accuracy = |labels: &[i64]| Contingency::new(&truth, labels).unwrap().accuracy();
        let mixture = accuracy(&fit_now(&rows, 2).unwrap());
        let params = KMeansParams { n_clusters: 2, ..KMeansParams::default() };
        let by_kmeans = kmeans::fit(&Rows::from_tensor(rows), &params, &mut Control::ignored());
        let by_kmeans = accuracy(&by_kmeans.unwrap().labels);
        assert!(mixture > 0.97 && by_kmeans < 0.94, "{mixture} {by_kmeans}");
    }

    #[test]
    fn the_density_is_that_of_the_formula() {
        let rows = Tensor::from_slice(&[0.0f64, 0.0, 1.0, -2.0]).view([2, 2]);
        let mixture = Mixture {
            log_weights: Tensor::from_slice(&[0.25f64.ln(), 0.75f64.ln()]),
            means: Tensor::from_slice(&[0.0f64, 0.0, 1.0, 0.0]).view([2, 2]),
            // Covariances 1, and [[4, 2], [2, 2]], whose determinant is 4 and inverse [[0.5, −0.5], [−0.5, 1]].
            factors: Tensor::from_slice(&[1.0f64, 0.0, 0.0, 1.0, 2.0, 0.0, 1.0, 1.0]).view([2, 2, 2]),
            likelihood: 0.0,
        };
        let found: Vec<f64> = values_of(&mixture.log_joint(&rows).unwrap().view(-1)).unwrap();
        let two_pi = (2.0 * std::f64::consts::PI).ln();
        let expected = [
            0.25f64.ln() - two_pi,
            0.75f64.ln() - two_pi - 0.5 * 4f64.ln() - 0.25,
            0.25f64.ln() - two_pi - 2.5,
            0.75f64.ln() - two_pi - 0.5 * 4f64.ln() - 2.0,
        ];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
    }

    #[test]
    fn of_wide_and_of_many_rows_the_same_clusters_are_found() {
        tch::manual_seed(3);
        for (n, m) in [(600, 40), (ROWS as i64 + 500, 3)] {
            let truth: Vec<i64> = (0..n).map(|i| i64::from(i % 3 == 0)).collect();
            let rows = normal(n, m) + Tensor::from_slice(&truth).view([n, 1]) * 8.0;
            let found = fit_now(&rows, 2).unwrap();
            assert!(Contingency::new(&truth, &found).unwrap().accuracy() > 0.995, "{n} x {m}");
        }
    }

    #[test]
    fn too_few_different_rows_are_refused_and_a_stop_is_heard() {
        let same = Tensor::ones([10, 2], (Kind::Float, Device::Cpu));
        assert!(matches!(fit_now(&same, 3), Err(Error::Rows(_))));
        let stopped = fit(&normal(50, 2), 2, 0, &mut Control::new(&mut Stop));
        assert!(matches!(stopped, Err(Error::Interrupted)));
        // Singular covariances: rows on a line, and clusters of one row.
        let line = Tensor::arange(30, (Kind::Float, Device::Cpu)).view([30, 1]).repeat([1, 3]);
        assert_eq!(fit_now(&line, 4).unwrap().len(), 30);
        assert_eq!(fit_now(&line, 30).unwrap().len(), 30);
    }
}
