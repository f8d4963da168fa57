//! Self-training (Xie et al. 2016, §3.1): encoder and centroids on KL(P‖Q), p refreshed every round.

use std::time::Instant;

use tch::Tensor;

use super::observer::{Event, Observer, Stage};
use super::optimiser::Sgd;
use super::steps::Steps;
use crate::config::ClusterConfig;
use crate::data::{values_of, Batches, Rows};
use crate::error::{Error, Result};
use crate::metrics::Contingency;
use crate::model::clustering::{cluster_frequency, kl_divergence, target_distribution};
use crate::model::{ClusteringLayer, Dec};

/// How the self-training went.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Progress {
    pub(super) steps: u64,
    pub(super) rounds: u64,
    pub(super) converged: bool,
}

/// What self-training works on.
pub(super) struct SelfTraining<'a> {
    pub(super) dec: &'a Dec,
    pub(super) layer: &'a ClusteringLayer,
    pub(super) rows: &'a Rows,
    /// For the log alone.
    pub(super) labels_true: Option<&'a [i64]>,
    pub(super) seed: u64,
}

impl SelfTraining<'_> {
    /// Trains the encoder and the centroids from the first assignment `labels`, keeping `progress` up to date, so that it
    /// is right also after an interruption.
    pub(super) fn train(
        &self,
        mut labels: Vec<i64>,
        config: &ClusterConfig,
        progress: &mut Progress,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Self { dec, layer, rows, .. } = *self;
        let stage = Stage::Cluster;
        let started = Instant::now();
        let device = rows.device();
        let batches = Batches::new(rows.n_rows(), config.batch_size, device, self.seed)?;
        let mut parameters = dec.autoencoder.encoder_parameters();
        parameters.push(layer.centroids().shallow_clone());
        let optimiser = Sgd::new(parameters, config.momentum)?;
        let mut steps = Steps::new(stage, optimiser, config.schedule(), batches, device);
        let per_round =
            config.update_interval_steps.unwrap_or(config.epochs_per_round.saturating_mul(steps.per_epoch()));
        observer.on_event(&Event::StageStarted { stage, steps: per_round.saturating_mul(config.max_rounds) });

        for round in 1..=config.max_rounds {
            if observer.should_stop() {
                return Err(Error::Interrupted);
            }
            let (p, loss, next_labels) = self.refresh()?;
            let changed = changed_fraction(&labels, &next_labels);
            labels = next_labels;
            // In the first round nothing was trained since k-means, so nothing can have changed: only a recipe that
            // trains once more all the same takes that for convergence.
            let tells = round > 1 || config.train_after_tol;
            *progress = Progress { steps: steps.done(), rounds: round, converged: tells && changed < config.tol };
            let acc = self.labels_true.map(|t| Contingency::new(t, &labels).map(|c| c.accuracy())).transpose()?;
            let seconds = started.elapsed().as_secs_f64();
            observer.on_event(&Event::Round { round, changed, loss, acc, seconds });
            if progress.converged && !config.train_after_tol {
                break;
            }
            let trained = steps.train(per_round, observer, |indices| {
                let z = dec.autoencoder.encode(&rows.batch(indices)?);
                kl_divergence(&p.f_index_select(0, indices)?, &layer.log_soft_assignment(&z)?)
            });
            progress.steps = steps.done();
            trained?;
            if progress.converged {
                break;
            }
        }
        steps.finish(observer)
    }

    /// Over all rows: p \[n, k\], KL(P‖Q), and the hard assignment.
    fn refresh(&self) -> Result<(Tensor, f64, Vec<i64>)> {
        let log_q = self.dec.log_soft_assign(self.layer, &self.dec.encode_all(self.rows)?)?;
        let q = log_q.f_exp()?;
        let p = target_distribution(&q, &cluster_frequency(&q)?)?;
        let loss = f64::try_from(kl_divergence(&p, &log_q)?)?;
        if !loss.is_finite() {
            return Err(Error::Training(diverged()));
        }
        let loss = loss.max(0.0); // below 0 by rounding alone
        Ok((p, loss, values_of(&q.f_argmax(1, false)?)?))
    }
}

/// The message for weights that are no numbers any more.
pub(super) fn diverged() -> String {
    "cluster diverged: the soft assignment is not finite; lower the rate (--set cluster.lr=…)".to_owned()
}

fn changed_fraction(before: &[i64], after: &[i64]) -> f64 {
    let changed = before.iter().zip(after).filter(|(a, b)| a != b).count();
    changed as f64 / after.len() as f64
}

#[cfg(test)]
mod tests {
    use super::changed_fraction;

    #[test]
    fn the_changed_fraction_counts_rows() {
        assert_eq!(changed_fraction(&[0, 1, 2, 3], &[0, 1, 2, 0]), 0.25);
        assert_eq!(changed_fraction(&[0, 1], &[0, 1]), 0.0);
    }
}
