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

use crate::backend::dense;
use crate::backend::ranks::Ranks;
use crate::config::{ClusterConfig, ObjectiveKind};
use crate::error::Result;
use crate::model::ClusteringLayer;
use crate::train::build::Term;

/// A way to self-train.
pub trait Objective: fmt::Debug {
    /// Over all latent rows: writes the target of round `round` of at most `rounds` for those that are here into `p` \[rows here, k\].
    ///
    /// # Errors
    /// A libtorch failure; [`crate::Error::Processes`]. A loss that is not finite is returned as it is.
    fn refresh(
        &self,
        latent: &Latent,
        layer: &ClusteringLayer,
        round: u64,
        rounds: u64,
        p: &Tensor,
    ) -> Result<Refreshed>;

    /// The loss of a batch, given p.
    fn term(&self) -> Term;

    /// Whether a share of every target may stay with the first assignment (`cluster.anchor`).
    fn may_anchor(&self) -> bool {
        true
    }
}

/// Latent rows of which each of the processes that train together has a part.
#[derive(Debug, Clone, Copy)]
pub struct Latent<'a> {
    /// Those that are here, float32 \[rows here, m\].
    pub z: &'a Tensor,
    /// How many there are in all processes.
    pub n: i64,
    /// The processes.
    pub ranks: Ranks,
}

impl<'a> Latent<'a> {
    /// All rows in one process.
    pub fn whole(z: &'a Tensor) -> Self {
        Self { z, n: z.size().first().copied().unwrap_or(0), ranks: Ranks::ALONE }
    }

    /// Writes log q of the rows here into `log_q`. Returns their most probable clusters (int64), then of all rows f \[k\] and the sum of the
    /// largest q.
    fn soft_assignment(&self, centroids: &Tensor, alpha: f64, log_q: &Tensor) -> Result<(Tensor, Vec<f64>, f64)> {
        dense::log_soft_assignment(self.z, centroids, alpha, log_q)?;
        let labels = Tensor::f_empty([log_q.size2()?.0], (Kind::Int64, log_q.device()))?;
        let (mut sums, confidence) = dense::shares(log_q, &labels)?;
        sums.push(confidence);
        self.ranks.fold(&mut sums, |a, b| a + b)?;
        let confidence = sums.pop().unwrap_or_default();
        Ok((labels, sums, confidence))
    }

    /// What the sum over all rows comes to for one.
    fn mean(&self, sum: f64) -> f64 {
        sum / self.n.max(1) as f64
    }

    /// The mean over all rows of `values` \[rows here\].
    fn mean_of(&self, values: &Tensor) -> Result<f64> {
        let mut sum = [f64::try_from(values.f_sum(Kind::Double)?)?];
        self.ranks.fold(&mut sum, |a, b| a + b)?;
        Ok(self.mean(sum[0]))
    }

    fn refreshed(&self, loss: f64, labels: Vec<i64>, frequency: &[f64], confidence: f64) -> Refreshed {
        let frequency = frequency.iter().map(|&f| self.mean(f)).collect();
        Refreshed { loss, labels, frequency, confidence: self.mean(confidence) }
    }
}

/// What a refresh found.
#[derive(Debug, Clone, PartialEq)]
pub struct Refreshed {
    /// The clustering loss over all rows.
    pub loss: f64,
    /// The cluster of each row that is here.
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
        let labels = Tensor::empty([3], (Kind::Int64, Device::Cpu));
        let (frequency, confidence) = dense::shares(&q.log(), &labels).unwrap();
        let found = Latent::whole(&q).refreshed(0.5, vec![0, 0, 1], &frequency, confidence);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(close(found.frequency[0], 0.45) && close(found.frequency[1], 0.55), "{found:?}");
        assert!(close(found.confidence, 2.15 / 3.0), "{found:?}");
        assert_eq!(Vec::<i64>::try_from(labels).unwrap(), [0, 0, 1]);
    }

    /// The first refresh of each objective on two rows and two centroids, by hand.
    #[test]
    fn each_objective_refreshes_as_its_paper_says() {
        let z = Tensor::from_slice(&[0.0f32, 2.0]).view([2, 1]);
        let layer = ClusteringLayer::new(&Tensor::from_slice(&[0.0f32, 1.0]).view([2, 1]), 1.0).unwrap();
        let refresh = |objective, round| {
            let p = Tensor::empty([2, 2], (Kind::Float, Device::Cpu));
            let config = ClusterConfig { objective, ..ClusterConfig::default() };
            let found = of(&config).refresh(&Latent::whole(&z), &layer, round, 4, &p).unwrap();
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
