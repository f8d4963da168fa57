//! What self-training aims at: how the target p is refreshed from the latent rows, and the loss that draws them to it.
//!
//! | objective | loss of a batch | p | centroids |
//! |---|---|---|---|
//! | [`dec`] (Xie et al. 2016, §3.1) | KL(P‖Q) | q²/f, rows sum to 1 | trained |
//! | [`idec`] (Guo et al. 2017) | mean squared error of the reconstruction + γ · KL(P‖Q) | likewise | trained |
//! | [`aspc`] (Guo et al. 2020) | ‖z − μ‖² to the row's centroid, mean over m | 1 for the cluster of a row whose distance is below λ | fixed |
//!
//! p always comes from the rows as they are, also where batches are augmented (Guo et al. 2018).

pub mod aspc;
pub mod dec;
pub mod idec;

use std::fmt;

use tch::{Kind, Tensor};

use crate::config::{ClusterConfig, ObjectiveKind};
use crate::error::Result;
use crate::model::ClusteringLayer;
use crate::train::build::Term;

/// A way to self-train.
pub trait Objective: fmt::Debug {
    /// Over all latent rows `z` \[n, m\]: writes the target of round `round` of at most `rounds` into `p` \[n, k\].
    ///
    /// # Errors
    /// A libtorch failure. A loss that is not finite is returned as it is.
    fn refresh(&self, z: &Tensor, layer: &ClusteringLayer, round: u64, rounds: u64, p: &Tensor) -> Result<Refreshed>;

    /// The loss of a batch, given p.
    fn term(&self) -> Term;

    /// Whether a share of every target may stay with the first assignment (`cluster.anchor`).
    fn may_anchor(&self) -> bool {
        true
    }
}

/// What a refresh found.
#[derive(Debug, Clone, PartialEq)]
pub struct Refreshed {
    /// The clustering loss over all rows.
    pub loss: f64,
    /// The cluster of each row.
    pub labels: Vec<i64>,
    /// f_j / n: the mean of q over the rows, \[k\].
    pub frequency: Vec<f64>,
    /// The mean over the rows of the largest q.
    pub confidence: f64,
}

/// The objective that a recipe asks for.
pub fn of(config: &ClusterConfig) -> Box<dyn Objective> {
    match config.objective {
        ObjectiveKind::Dec => Box::new(dec::Dec { alpha: config.alpha }),
        ObjectiveKind::Idec => Box::new(idec::Idec { dec: dec::Dec { alpha: config.alpha }, gamma: config.gamma }),
        ObjectiveKind::Aspc => Box::new(aspc::Aspc { alpha: config.alpha }),
    }
}

/// The loss towards labels that are given, as over-clustering trains: the recipe's, or DEC's where that has no divergence.
pub fn term_towards_labels(config: &ClusterConfig) -> Term {
    match config.objective {
        ObjectiveKind::Dec | ObjectiveKind::Idec => of(config).term(),
        ObjectiveKind::Aspc => dec::Dec { alpha: config.alpha }.term(),
    }
}

/// Writes `labels` into `p` \[n, k\] as a target: `smoothing` of each is spread over all clusters.
///
/// # Errors
/// A libtorch failure.
pub fn smoothed(labels: &[i64], smoothing: f64, p: &Tensor) -> Result<()> {
    let (_, k) = p.size2()?;
    let mut table = p.shallow_clone();
    let _ = table.f_fill_(smoothing / k as f64)?;
    let labels = Tensor::f_from_slice(labels)?.f_to_device(p.device())?.f_unsqueeze(1)?;
    let own = labels.f_ones_like()?.f_to_kind(Kind::Float)?.f_mul_scalar(1.0 - smoothing + smoothing / k as f64)?;
    let _ = table.f_scatter_(1, &labels, &own)?;
    Ok(())
}

/// f / n \[k\] and the mean of the largest q of each row, of `log_q` \[n, k\]; in blocks that bound the memory.
fn shares(log_q: &Tensor) -> Result<(Vec<f64>, f64)> {
    const BLOCK_VALUES: i64 = 1 << 22;
    let (n, k) = log_q.size2()?;
    let mut frequency = Tensor::f_zeros([k], (Kind::Double, log_q.device()))?;
    let mut confidence = Tensor::f_zeros([], (Kind::Double, log_q.device()))?;
    let size = (BLOCK_VALUES / k.max(1)).max(1);
    for start in (0..n).step_by(size as usize) {
        let q = log_q.f_narrow(0, start, size.min(n - start))?.f_exp()?;
        let _ = frequency.f_add_(&q.f_sum_dim_intlist(0, false, Kind::Double)?)?;
        let _ = confidence.f_add_(&q.f_amax([1], false)?.f_sum(Kind::Double)?)?;
    }
    let frequency: Vec<f64> = crate::data::values_of(&frequency)?;
    let n = n.max(1) as f64;
    Ok((frequency.into_iter().map(|f| f / n).collect(), f64::try_from(&confidence)? / n))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::array_of;
    use ndarray::array;
    use tch::Device;

    #[test]
    fn smoothed_labels_are_a_distribution() {
        let p = Tensor::empty([2, 4], (Kind::Float, Device::Cpu));
        smoothed(&[2, 0], 0.2, &p).unwrap();
        let expected = array![[0.05f32, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]];
        assert!((array_of(&p).unwrap() - expected).iter().all(|d| d.abs() < 1e-6));
    }

    #[test]
    fn shares_are_means_over_the_rows() {
        let q = Tensor::from_slice(&[0.75f64, 0.25, 0.5, 0.5, 0.1, 0.9]).view([3, 2]).to_kind(Kind::Float);
        let (frequency, confidence) = shares(&q.log()).unwrap();
        assert!((frequency[0] - 0.45).abs() < 1e-6 && (frequency[1] - 0.55).abs() < 1e-6, "{frequency:?}");
        assert!((confidence - 2.15 / 3.0).abs() < 1e-6, "{confidence}");
    }

    /// The first refresh of each objective on two rows and two centroids, by hand.
    #[test]
    fn each_objective_refreshes_as_its_paper_says() {
        let z = Tensor::from_slice(&[0.0f32, 2.0]).view([2, 1]);
        let layer = ClusteringLayer::new(&Tensor::from_slice(&[0.0f32, 1.0]).view([2, 1]), 1.0).unwrap();
        let refresh = |objective, round| {
            let p = Tensor::empty([2, 2], (Kind::Float, Device::Cpu));
            let config = ClusterConfig { objective, ..ClusterConfig::default() };
            let found = of(&config).refresh(&z, &layer, round, 4, &p).unwrap();
            (found, array_of(&p).unwrap())
        };
        // q: 2/3 and 1/3, 2/7 and 5/7; f: 20/21 and 22/21.
        let (dec, p) = refresh(ObjectiveKind::Dec, 1);
        assert_eq!(dec.labels, [0, 1]);
        let expected = |a: f64, b: f64| (a * a / (20.0 / 21.0), b * b / (22.0 / 21.0));
        let (a, b) = expected(2.0 / 3.0, 1.0 / 3.0);
        assert!((f64::from(p[[0, 0]]) - a / (a + b)).abs() < 1e-6);
        assert!((dec.confidence - (2.0 / 3.0 + 5.0 / 7.0) / 2.0).abs() < 1e-6 && dec.loss > 0.0);
        assert_eq!(refresh(ObjectiveKind::Idec, 1), (dec.clone(), p));
        // Squared distances 0 and 1, their mean 0.5: all rows in the first round, then those nearer than that.
        let (aspc, p) = refresh(ObjectiveKind::Aspc, 1);
        assert_eq!((aspc.loss, &aspc.labels), (0.5, &vec![0, 1]));
        assert_eq!(p, array![[1.0f32, 0.0], [0.0, 1.0]]);
        assert_eq!(aspc.frequency, dec.frequency);
        assert_eq!(refresh(ObjectiveKind::Aspc, 2).1, array![[1.0f32, 0.0], [0.0, 0.0]]);
    }
}
