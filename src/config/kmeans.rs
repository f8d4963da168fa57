//! `[kmeans]`: k-means on the raw rows and on the latent rows.

use serde::{Deserialize, Serialize};

use super::range::{at_least_one, not_negative};
use crate::error::Result;
use crate::kmeans::Engine;

/// `[kmeans]`: k-means on the raw rows, for comparison, and on the latent rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KMeansConfig {
    /// Restarts, at least 1; the one with the lowest inertia is kept. Default 20.
    pub n_init: usize,
    /// Most iterations of a restart, at least 1. Default 300.
    pub max_iter: u64,
    /// Convergence: squared length of all centroids' joint step, relative to the features' mean variance (scikit-learn's
    /// `tol`), at least 0. Default 1e-4.
    pub tol: f64,
    /// What runs the restarts: `tensor` (together, on the device) or `linfa` (`linfa-clustering`, on the CPU). Default
    /// `tensor`.
    pub engine: Engine,
}

impl Default for KMeansConfig {
    fn default() -> Self {
        Self { n_init: 20, max_iter: 300, tol: 1e-4, engine: Engine::Tensor }
    }
}

impl KMeansConfig {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("kmeans.n_init", self.n_init as u64)?;
        at_least_one("kmeans.max_iter", self.max_iter)?;
        not_negative("kmeans.tol", self.tol)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::checked::assert_refused;

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("kmeans.n_init", "0", |c| c.kmeans.n_init = 0),
            ("kmeans.max_iter", "0", |c| c.kmeans.max_iter = 0),
            ("kmeans.tol", "-1", |c| c.kmeans.tol = -1.0),
        ]);
    }
}
