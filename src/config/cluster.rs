//! `[cluster]`: self-training.

use serde::{Deserialize, Serialize};

use super::auto::{Count, Switch};
use super::optimisation::section_with_optimisation;
use super::range::{at_least_one, fraction, not_negative, optional_at_least_one, positive, require};
use crate::error::Result;

section_with_optimisation! {
    /// `[cluster]`: self-training.
    pub struct ClusterConfig {
        /// Loss to minimise. Default `dec`.
        pub objective: ObjectiveKind = ObjectiveKind::Dec,
        /// For `idec`: γ, the weight of KL(P‖Q) beside the reconstruction's mean squared error, at least 0. Default 0.1
        /// (Guo et al. 2017).
        pub gamma: f64 = 0.1,
        /// Degrees of freedom of the Student-t kernel, above 0. Default 1 (Xie et al. 2016, Eq. 1).
        pub alpha: f64 = 1.0,
        /// Epochs of training towards the smoothed first assignment, before p takes over; 0 skips them. `auto`: by the
        /// number of rows. Default `auto`.
        pub handover_epochs: Count = Count::Auto,
        /// Share of the smoothed assignment that all clusters get alike, 0 to below 1. Default 0.1.
        pub label_smoothing: f64 = 0.1,
        /// Share of the smoothed first assignment in every target: p ← (1 − `anchor`) p + `anchor` · start. Keeps touching
        /// clusters apart; rows that p is sure of can still change. 0 to below 1. Default 0.3.
        pub anchor: f64 = 0.3,
        /// Stop when fewer than this fraction of the rows changed cluster between two refreshes, 0 to 1; 0: never.
        /// Default 0.
        pub tol: f64 = 0.0,
        /// Stop after so many rounds on end in which no row changed cluster; 0: never. Default 5.
        pub patience: u64 = 5,
        /// Most rounds (refreshes of q and p), at least 1, or `auto` (by the number of rows). Default `auto`.
        pub max_rounds: Count = Count::Auto,
        /// Epochs of each round, at least 1. Default 1.
        pub epochs_per_round: u64 = 1,
        /// Optimiser steps of each round, at least 1; replaces `epochs_per_round`. Default: not set.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub update_interval_steps: Option<u64> = None,
        /// Count the first refresh, which only repeats k-means, and train one more round after `tol` is reached, as the
        /// Keras notebook does; its self-training is then a single round. Default false.
        pub train_after_tol: bool = false,
        /// Forget the optimiser's momentum at every refresh. Default false.
        pub reset_momentum: bool = false,
        batch_size,
        /// Whether batches are augmented; p always comes from the rows as they are (Guo et al. 2018). `auto`: where values
        /// are moved, as in images; noise and dropped features may hide what tells two clusters apart, and p cannot
        /// bring it back. Default `auto`.
        pub augment: Switch = Switch::Auto,
        /// Augmented images: a patch of up to this fraction of each side comes from another row of the batch, and the target
        /// stays (after CutMix, Yun et al. 2019). Details then count less than the rest of the image; this takes more rounds.
        /// 0 to 1. Default 0.
        pub cutmix: f64 = 0.0,
        optimisation { lr: 2e-3, schedule: Cosine },
    }
}

/// Loss that self-training minimises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveKind {
    /// KL(P‖Q) (Xie et al. 2016).
    #[default]
    Dec,
    /// The reconstruction's mean squared error + γ · KL(P‖Q) (Guo et al. 2017).
    Idec,
    /// Squared distance to the centroid of the row's cluster, for the rows near theirs; more of them every round (Guo et al.
    /// 2020). The centroids stay.
    Aspc,
}

impl ClusterConfig {
    pub(super) fn check(&self) -> Result<()> {
        not_negative("cluster.gamma", self.gamma)?;
        positive("cluster.alpha", self.alpha)?;
        fraction("cluster.label_smoothing", self.label_smoothing)?;
        fraction("cluster.anchor", self.anchor)?;
        let from_0_to_1 = 0.0..=1.0;
        require(
            "cluster.cutmix",
            self.cutmix,
            from_0_to_1.contains(&self.cutmix),
            "a fraction of each side, from 0 to 1",
        )?;
        require("cluster.tol", self.tol, from_0_to_1.contains(&self.tol), "a fraction of the rows, from 0 to 1")?;
        optional_at_least_one("cluster.max_rounds", self.max_rounds.given())?;
        at_least_one("cluster.epochs_per_round", self.epochs_per_round)?;
        optional_at_least_one("cluster.update_interval_steps", self.update_interval_steps)?;
        self.optimisation().check("cluster")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::assert_refused;
    use crate::config::ScheduleKind;

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("cluster.gamma", "-1", |c| c.cluster.gamma = -1.0),
            ("cluster.alpha", "0", |c| c.cluster.alpha = 0.0),
            ("cluster.label_smoothing", "1", |c| c.cluster.label_smoothing = 1.0),
            ("cluster.anchor", "1", |c| c.cluster.anchor = 1.0),
            ("cluster.cutmix", "1.5", |c| c.cluster.cutmix = 1.5),
            ("cluster.tol", "1.1", |c| c.cluster.tol = 1.1),
            ("cluster.max_rounds", "0", |c| c.cluster.max_rounds = Count::Given(0)),
            ("cluster.epochs_per_round", "0", |c| c.cluster.epochs_per_round = 0),
            ("cluster.update_interval_steps", "0", |c| c.cluster.update_interval_steps = Some(0)),
            ("cluster.batch_size", "0", |c| c.cluster.batch_size = 0),
            ("cluster.lr", "inf", |c| c.cluster.lr = f64::INFINITY),
            ("cluster.weight_decay", "-1", |c| c.cluster.weight_decay = -1.0),
            ("cluster.schedule", "step", |c| c.cluster.schedule = ScheduleKind::Step),
        ]);
    }
}
