//! `[start]`: the first assignment of the latent rows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::auto::{Count, OverClustering};
use super::range::{at_least_one, optional_at_least_one, require};
use crate::error::Result;

/// `[start]`: the first assignment of the latent rows, from which self-training starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StartConfig {
    /// The directory of a finished run to start from: its network, its scaling, its clusters under their numbers, and new ones of rows that
    /// are in none of them. Nothing is pretrained then. Default none.
    pub from: Option<PathBuf>,
    /// Method that finds it. Default `spectral`.
    pub method: StartMethod,
    /// Spectral: neighbours of a row in the graph, at least 1. Default 15.
    pub n_neighbours: u64,
    /// Spectral: number of eigenvectors, at least 1, or `auto`: a vote of several numbers, and of merges of finer
    /// clusterings ([`crate::start::spectral`]). Default `auto`.
    pub n_vectors: Count,
    /// Networks pretrained from different weights, at least 1; all vote on the first assignment, one goes on. `auto`: 3 for
    /// a spectral start of at most 5,000 rows, otherwise 1. Default `auto`.
    pub networks: Count,
    /// Rounds before the k clusters: for each factor (1 to 1000), so many times k clusters are found and the encoder is
    /// trained towards them. `auto`: `[5.0]` for augmented images, otherwise none. Default `auto`.
    pub over_clustering: OverClustering,
    /// Epochs of each of these rounds, at least 1, or `auto` (by the number of rows). Default `auto`.
    pub over_clustering_epochs: Count,
    /// Spectral: rows that the search sees, at least 1: so many at random of more; the others go to the clusters of their nearest
    /// neighbours among them. Default 100,000.
    pub max_rows: usize,
}

impl Default for StartConfig {
    fn default() -> Self {
        Self {
            from: None,
            method: StartMethod::Spectral,
            n_neighbours: 15,
            n_vectors: Count::Auto,
            networks: Count::Auto,
            over_clustering: OverClustering::Auto,
            over_clustering_epochs: Count::Auto,
            max_rows: 100_000,
        }
    }
}

/// Method that finds the first assignment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartMethod {
    /// k-means on the latent rows (Xie et al. 2016, §3.1.2).
    KMeans,
    /// Spectral clustering of the nearest-neighbour graph of the latent rows. The graph of the rows themselves is added
    /// where augmentation does not move their values.
    #[default]
    Spectral,
    /// A Gaussian mixture on the latent rows, in 20 dimensions at most.
    Gmm,
}

impl StartConfig {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("start.n_neighbours", self.n_neighbours)?;
        optional_at_least_one("start.n_vectors", self.n_vectors.given())?;
        optional_at_least_one("start.networks", self.networks.given())?;
        for factor in self.over_clustering.clone().given().unwrap_or_default() {
            require("start.over_clustering", factor, (1.0..=1000.0).contains(&factor), "factors from 1 to 1000")?;
        }
        optional_at_least_one("start.over_clustering_epochs", self.over_clustering_epochs.given())?;
        at_least_one("start.max_rows", self.max_rows as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::assert_refused;

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("start.n_neighbours", "0", |c| c.start.n_neighbours = 0),
            ("start.n_vectors", "0", |c| c.start.n_vectors = Count::Given(0)),
            ("start.networks", "0", |c| c.start.networks = Count::Given(0)),
            ("start.over_clustering", "0.5", |c| c.start.over_clustering = OverClustering::Given(vec![3.0, 0.5])),
            ("start.over_clustering_epochs", "0", |c| c.start.over_clustering_epochs = Count::Given(0)),
            ("start.max_rows", "0", |c| c.start.max_rows = 0),
        ]);
    }
}
