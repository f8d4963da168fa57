//! Self-paced clustering (Guo et al. 2020): confident rows first, more of them every round.

use tch::{no_grad, Kind, Tensor};

use super::{Latent, Objective, Refreshed};
use crate::data::values_of;
use crate::error::Result;
use crate::model::ClusteringLayer;
use crate::train::build::Term;
use crate::train::engine::Pull;

/// Squared distances of near rows to their centroids, which stay.
#[derive(Debug, Clone, Copy)]
pub struct Aspc {
    /// Degrees of freedom of the Student-t kernel, by which q is reported.
    pub alpha: f64,
}

impl Objective for Aspc {
    /// Writes 1 for the nearest centroid of a row that is near it, 0 elsewhere; the loss is the mean squared distance.
    ///
    /// A row is near when its squared distance is below the mean of all plus (t/T) standard deviations of them, t the rounds
    /// trained before the last and T all rounds; in the first round every row is.
    fn refresh(
        &self,
        latent: &Latent,
        layer: &ClusteringLayer,
        round: u64,
        rounds: u64,
        p: &Tensor,
    ) -> Result<Refreshed> {
        no_grad(|| {
            let (z, centroids) = (latent.z, layer.centroids());
            let (k, _) = centroids.size2()?;
            // p is overwritten below, and so is the cluster: the nearest, whose q is another's too where float32 cannot tell them apart.
            let (_, frequency, confidence) = latent.soft_assignment(centroids, self.alpha, p)?;
            let distances = (0..k)
                .map(|j| Ok(z.f_sub(&centroids.f_get(j)?)?.f_square()?.f_sum_dim_intlist(1, false, Kind::Float)?));
            let distances = Tensor::f_stack(&distances.collect::<Result<Vec<_>>>()?, 1)?;
            let (nearest, labels) = distances.f_min_dim(1, false)?;
            let mean = latent.mean_of(&nearest)?;
            let mut table = p.shallow_clone();
            let _ = table.f_zero_()?;
            let near = if round == 1 {
                nearest.f_ones_like()?
            } else {
                let deviation =
                    latent.mean_of(&nearest.f_to_kind(Kind::Double)?.f_sub_scalar(mean)?.f_square()?)?.sqrt();
                let limit = mean + (round - 2) as f64 / rounds as f64 * deviation;
                nearest.f_lt(limit)?.f_to_kind(Kind::Float)?
            };
            let _ = table.f_scatter_(1, &labels.f_unsqueeze(1)?, &near.f_unsqueeze(1)?)?;
            Ok(latent.refreshed(mean, values_of(&labels)?, &frequency, confidence))
        })
    }

    fn term(&self) -> Term {
        Term { pull: Pull::Squared, weight: 1.0, reconstructs: false }
    }

    fn may_anchor(&self) -> bool {
        false
    }
}
