//! KL(P‖Q) (Xie et al. 2016, §3.1).

use tch::{Kind, Tensor};

use super::{shares, Objective, Refreshed};
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
    fn refresh(&self, z: &Tensor, layer: &ClusteringLayer, _: u64, _: u64, p: &Tensor) -> Result<Refreshed> {
        dense::log_soft_assignment(z, layer.centroids(), self.alpha, p)?;
        let (frequency, confidence) = shares(p)?;
        let labels = Tensor::f_empty([p.size()[0]], (Kind::Int64, p.device()))?;
        let loss = dense::target_distribution(p, &labels)?;
        let loss = if loss < 0.0 { 0.0 } else { loss }; // below 0 by rounding alone; NaN stays
        Ok(Refreshed { loss, labels: values_of(&labels)?, frequency, confidence })
    }

    fn term(&self) -> Term {
        Term { pull: Pull::StudentT(self.alpha), weight: 1.0, reconstructs: false }
    }
}
