//! The clustering layer: soft assignment, target distribution, their divergence and its gradients.
//!
//! | symbol | formula | shape |
//! |---|---|---|
//! | q | q_ij ∝ (1 + ‖z_i − μ_j‖²/α)^−(α+1)/2, rows sum to 1 (Xie et al. 2016, Eq. 1) | \[n, k\] |
//! | f | f_j = Σ_i q_ij over the whole data set | \[k\] |
//! | p | p_ij ∝ q_ij² / f_j, rows sum to 1 (Eq. 3) | \[n, k\] |
//! | L | KL(P‖Q) = mean_i Σ_j p_ij log(p_ij / q_ij) (Eq. 2; the paper sums over i) | scalar |
//!
//! ```
//! use dec::model::assignment::soft_assignment;
//! use tch::Tensor;
//!
//! let z = Tensor::from_slice(&[0.0f32, 2.0]).view([2, 1]); // two rows on a line,
//! let centroids = Tensor::from_slice(&[0.0f32, 1.0]).view([2, 1]); // two centroids
//! let q = soft_assignment(&z, &centroids, 1.0)?;
//! let q: Vec<f32> = Vec::try_from(q.view(-1)).unwrap();
//! // first row: 1/1 against 1/(1+1); second: 1/(1+4) against 1/(1+1)
//! for (q, expected) in q.iter().zip([2.0 / 3.0, 1.0 / 3.0, 2.0 / 7.0, 5.0 / 7.0]) {
//!     assert!((q - expected).abs() < 1e-6);
//! }
//! # Ok::<(), dec::Error>(())
//! ```

use tch::{Kind, Tensor};

use super::groups::Groups;
use crate::backend::dense;
pub use crate::backend::student_t::{
    cluster_frequency, kl_divergence, kl_gradients, log_soft_assignment, soft_assignment, target_distribution,
};
use crate::error::{Error, Result};

/// The centroids, trainable, with the degrees of freedom of the Student-t kernel around them; and, in a model whose clusters were
/// joined after training, the cluster of each centroid.
#[derive(Debug)]
pub struct ClusteringLayer {
    centroids: Tensor,
    alpha: f64,
    groups: Option<Groups>,
}

impl ClusteringLayer {
    /// A layer whose centroids \[k, m\] start as a copy of `centroids`.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn new(centroids: &Tensor, alpha: f64) -> Result<Self> {
        let mut own = Tensor::f_empty(centroids.size(), (centroids.f_kind()?, centroids.device()))?;
        own.f_copy_(&centroids.f_detach()?)?;
        Ok(Self { centroids: own.f_set_requires_grad(true)?, alpha, groups: None })
    }

    /// The same layer over the same memory.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { centroids: self.centroids.shallow_clone(), alpha: self.alpha, groups: self.groups.clone() }
    }

    /// The same layer with centroids that make up clusters together: k of them, whatever was joined before.
    ///
    /// # Errors
    /// [`Error::Config`] for groups of another number of centroids.
    pub fn with_groups(mut self, groups: Groups) -> Result<Self> {
        let (found, k) = (groups.cluster_of().len(), self.centroids.size()[0]);
        if found as i64 != k {
            return Err(Error::Config(format!("groups of {found} centroids do not fit {k} centroids")));
        }
        self.groups = Some(groups);
        Ok(self)
    }

    /// Which centroids make up a cluster together, where clusters were joined.
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// How many clusters there are: k, or fewer where some were joined.
    pub fn n_clusters(&self) -> usize {
        self.groups.as_ref().map_or(self.centroids.size()[0] as usize, Groups::n_clusters)
    }

    /// μ \[k, m\].
    pub fn centroids(&self) -> &Tensor {
        &self.centroids
    }

    /// α, the degrees of freedom of the Student-t kernel.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// log q \[n, k\] of latent rows \[n, m\] to the centroids, whatever was joined.
    ///
    /// # Errors
    /// Latent rows of another width than the centroids'.
    pub fn log_soft_assignment(&self, z: &Tensor) -> Result<Tensor> {
        log_soft_assignment(z, &self.centroids, self.alpha)
    }

    /// log q \[n, k\] of all latent rows `z` \[n, m\], without a graph and without the \[n, k, m\] differences.
    ///
    /// # Errors
    /// Latent rows of another width than the centroids'.
    pub fn log_soft_assign_all(&self, z: &Tensor) -> Result<Tensor> {
        let log_q = Tensor::f_empty([z.size2()?.0, self.centroids.size()[0]], (Kind::Float, z.device()))?;
        dense::log_soft_assignment(z, &self.centroids, self.alpha, &log_q)?;
        Ok(log_q)
    }

    /// q of all latent rows `z` \[n, m\] to the clusters: \[n, k\], or \[n, k'\] where clusters were joined ([`Groups`]).
    ///
    /// # Errors
    /// Latent rows of another width than the centroids'.
    pub fn soft_assign_all(&self, z: &Tensor) -> Result<Tensor> {
        let q = self.log_soft_assign_all(z)?.f_exp()?;
        self.groups.as_ref().map_or(Ok(q.shallow_clone()), |groups| groups.sum(&q))
    }
}
