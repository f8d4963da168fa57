//! KL(P‖Q) (Xie et al. 2016, §3.1).

use tch::Tensor;

use super::{Latent, Objective, Refreshed};
use crate::backend::dense;
use crate::data::values_of;
use crate::error::Result;
use crate::model::ClusteringLayer;
use crate::train::build::Term;
use crate::train::engine::Pull;

/// The paper's objective.
#[derive(Debug, Clone, Copy)]
pub struct Dec {
    /// Degrees of freedom of the Student-t kernel.
    pub alpha: f64,
}

impl Objective for Dec {
    fn refresh(&self, latent: &Latent, layer: &ClusteringLayer, _: u64, _: u64, p: &Tensor) -> Result<Refreshed> {
        let (labels, frequency, confidence) = latent.soft_assignment(layer.centroids(), self.alpha, p)?;
        let mut loss = [dense::target_distribution(p, &frequency)?];
        latent.ranks.fold(&mut loss, |a, b| a + b)?;
        let [loss] = loss;
        let loss = if loss < 0.0 { 0.0 } else { latent.mean(loss) }; // below 0 by rounding alone; NaN stays
        Ok(latent.refreshed(loss, values_of(&labels)?, &frequency, confidence))
    }

    fn term(&self) -> Term {
        Term { pull: Pull::StudentT(self.alpha), weight: 1.0, reconstructs: false }
    }
}
