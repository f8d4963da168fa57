//! DEC that goes on reconstructing (Guo et al. 2017).

use tch::Tensor;

use super::dec::Dec;
use super::{Latent, Objective, Refreshed};
use crate::error::Result;
use crate::model::ClusteringLayer;
use crate::train::build::Term;

/// Mean squared error of the reconstruction + γ · KL(P‖Q); the target is DEC's.
#[derive(Debug, Clone, Copy)]
pub struct Idec {
    /// The divergence.
    pub dec: Dec,
    /// γ.
    pub gamma: f64,
}

impl Objective for Idec {
    fn refresh(
        &self,
        latent: &Latent,
        layer: &ClusteringLayer,
        round: u64,
        rounds: u64,
        p: &Tensor,
    ) -> Result<Refreshed> {
        self.dec.refresh(latent, layer, round, rounds, p)
    }

    fn term(&self) -> Term {
        Term { weight: self.gamma, reconstructs: true, ..self.dec.term() }
    }
}
