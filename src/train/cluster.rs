//! Self-training (Xie et al. 2016, §3.1): encoder and centroids on KL(P‖Q), p refreshed every round.

use std::time::Instant;

use tch::{Kind, Tensor};

use super::engine::{ClusteringTerm, Engine, Objective};
use super::observer::{Event, Observer, Stage};
use super::step::{Autograd, Batch, Step};
use super::steps::{StageRun, Steps};
use crate::backend::dense;
use crate::config::ClusterConfig;
use crate::data::{values_of, Batches, Rows};
use crate::error::{Error, Result};
use crate::metrics::Contingency;
use crate::model::clustering::kl_divergence;
use crate::model::{Autoencoder, ClusteringLayer, Dec};

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
    pub(super) run: StageRun,
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
        let batches = Batches::new(rows.n_rows(), config.batch_size, rows.device(), self.run.seed)?;
        let shape = [rows.n_rows(), layer.centroids().size()[0]];
        let p = Tensor::f_empty(shape, (Kind::Float, rows.device()))?;
        let step: Box<dyn Step> = match dec.autoencoder.encoder_stack() {
            Some(stack) => {
                let term = ClusteringTerm {
                    layer: stack.layers().len() - 1,
                    centroids: layer.centroids().shallow_clone(),
                    p: p.shallow_clone(),
                    alpha: layer.alpha(),
                    weight: 1.0,
                };
                let params = self.run.engine(&batches, 0.0, config.momentum);
                Box::new(Engine::new(stack, Objective::Clustering(term), rows, params)?)
            }
            None => Box::new(autograd(&dec.autoencoder, layer, rows, &p, config.momentum)?),
        };
        let mut steps = Steps::new(stage, step, config.schedule(), batches);
        let per_round =
            config.update_interval_steps.unwrap_or(config.epochs_per_round.saturating_mul(steps.per_epoch()));
        observer.on_event(&Event::StageStarted { stage, steps: per_round.saturating_mul(config.max_rounds) });

        for round in 1..=config.max_rounds {
            if observer.should_stop() {
                return Err(Error::Interrupted);
            }
            let (loss, next_labels) = self.refresh(&p)?;
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
            let trained = steps.train(per_round, observer);
            progress.steps = steps.done();
            trained?;
            if progress.converged {
                break;
            }
        }
        steps.finish(observer)
    }

    /// Over all rows: p into the memory of `p` \[n, k\]; returns KL(P‖Q) and the hard assignment.
    fn refresh(&self, p: &Tensor) -> Result<(f64, Vec<i64>)> {
        let z = self.dec.encode_all(self.rows)?;
        dense::log_soft_assignment(&z, self.layer.centroids(), self.layer.alpha(), p)?;
        let labels = Tensor::f_empty([p.size()[0]], (Kind::Int64, p.device()))?;
        let loss = dense::target_distribution(p, &labels)?;
        if !loss.is_finite() {
            return Err(Error::Training(diverged()));
        }
        let loss = loss.max(0.0); // below 0 by rounding alone
        Ok((loss, values_of(&labels)?))
    }
}

/// The same steps by autograd, towards the rows of `p` \[n, k\].
pub(super) fn autograd<'a>(
    autoencoder: &'a Autoencoder,
    layer: &'a ClusteringLayer,
    rows: &'a Rows,
    p: &'a Tensor,
    momentum: f64,
) -> Result<impl Step + 'a> {
    let mut parameters = autoencoder.encoder_parameters();
    parameters.push(layer.centroids().shallow_clone());
    Autograd::new(parameters, momentum, rows.device(), |batch: &Batch| {
        let z = autoencoder.encode(&rows.batch(batch.indices)?);
        kl_divergence(&p.f_index_select(0, batch.indices)?, &layer.log_soft_assignment(&z)?)
    })
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
