//! Self-training: the encoder towards a target assignment p, which is refreshed every round.
//!
//! | objective | loss of a batch | p | centroids |
//! |---|---|---|---|
//! | `dec` (Xie et al. 2016, §3.1) | KL(P‖Q) | q²/f, rows sum to 1 | trained |
//! | `idec` (Guo et al. 2017) | mean squared error of the reconstruction + γ · KL(P‖Q) | likewise | trained |
//! | `aspc` (Guo et al. 2020) | ‖z − μ‖² to the row's centroid, mean over m | 1 for the cluster of a row whose distance is below λ | stay |
//!
//! Batches may be augmented; p always comes from the rows as they are (Guo et al. 2018). Before p takes over, the hand-over
//! trains towards the first assignment itself, smoothed: q around the centroids does not know all that spectral clustering
//! found out. A part of every later target stays with it too, the anchor: without, clusters of few rows creep into each other
//! over the rounds.

use std::time::Instant;

use tch::{no_grad, Kind, Tensor};

use super::engine::{ClusteringTerm, Engine, EngineParams, Objective, Pull};
use super::lengths;
use super::observer::{Event, Observer, Stage};
use super::pretrain::augmented;
use super::step::{Autograd, Batch, Step};
use super::steps::{StageRun, Steps};
use crate::backend::dense;
use crate::config::{ClusterConfig, ObjectiveKind, Optimisation};
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
    pub(super) stage: Stage,
    pub(super) dec: &'a Dec,
    pub(super) layer: &'a ClusteringLayer,
    pub(super) rows: &'a Rows,
    /// For the log alone.
    pub(super) labels_true: Option<&'a [i64]>,
    pub(super) run: StageRun,
}

/// How it trains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    objective: ObjectiveKind,
    gamma: f64,
    handover_epochs: u64,
    label_smoothing: f64,
    anchor: f64,
    max_rounds: u64,
    epochs_per_round: u64,
    update_interval_steps: Option<u64>,
    tol: f64,
    train_after_tol: bool,
    reset_momentum: bool,
    settings: Optimisation,
}

impl Plan {
    /// The stage as `config` has it.
    pub(super) fn new(config: &ClusterConfig, rows: i64) -> Self {
        Self {
            objective: config.objective,
            gamma: config.gamma,
            handover_epochs: lengths::handover_epochs(config.handover_epochs, rows, config.batch_size),
            label_smoothing: config.label_smoothing,
            anchor: config.anchor,
            max_rounds: lengths::rounds(config, rows),
            epochs_per_round: config.epochs_per_round,
            update_interval_steps: config.update_interval_steps,
            tol: config.tol,
            train_after_tol: config.train_after_tol,
            reset_momentum: config.reset_momentum,
            settings: config.optimisation(),
        }
    }

    /// Towards a given assignment for `epochs`, and nothing after that.
    pub(super) fn towards(config: &ClusterConfig, epochs: u64) -> Self {
        let objective = match config.objective {
            ObjectiveKind::Idec => ObjectiveKind::Idec,
            ObjectiveKind::Dec | ObjectiveKind::Aspc => ObjectiveKind::Dec,
        };
        Self { objective, handover_epochs: epochs, max_rounds: 0, ..Self::new(config, 1) }
    }
}

impl SelfTraining<'_> {
    /// Trains the encoder and the centroids from the first assignment `labels`, keeping `progress` up to date, so that it
    /// is right also after an interruption.
    pub(super) fn train(
        &self,
        mut labels: Vec<i64>,
        plan: &Plan,
        progress: &mut Progress,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Self { stage, rows, layer, .. } = *self;
        let started = Instant::now();
        let batches = Batches::new(rows.n_rows(), plan.settings.batch_size, rows.device(), self.run.seed)?;
        let shape = [rows.n_rows(), layer.centroids().size()[0]];
        let p = Tensor::f_empty(shape, (Kind::Float, rows.device()))?;
        let step = self.step(&p, plan, &batches)?;
        let mut steps = Steps::new(stage, step, plan.settings.rates(), batches);
        let handover = plan.handover_epochs.saturating_mul(steps.per_epoch());
        let per_round = plan.update_interval_steps.unwrap_or(plan.epochs_per_round.saturating_mul(steps.per_epoch()));
        let total = handover.saturating_add(per_round.saturating_mul(plan.max_rounds));
        steps.set_total(total);
        observer.on_event(&Event::StageStarted { stage, steps: total });

        let anchor = match plan.objective {
            ObjectiveKind::Dec | ObjectiveKind::Idec if plan.anchor > 0.0 && plan.max_rounds > 0 => {
                let start = p.f_empty_like()?;
                smoothed(&labels, plan.label_smoothing, &start)?;
                Some(start.f_mul_scalar(plan.anchor)?)
            }
            _ => None,
        };
        if handover > 0 {
            smoothed(&labels, plan.label_smoothing, &p)?;
            let trained = steps.train(handover, observer);
            progress.steps = steps.done();
            trained?;
        }
        for round in 1..=plan.max_rounds {
            if observer.should_stop() {
                return Err(Error::Interrupted);
            }
            let (loss, next_labels) = match plan.objective {
                ObjectiveKind::Aspc => self.refresh_self_paced(&p, round, plan.max_rounds)?,
                ObjectiveKind::Dec | ObjectiveKind::Idec => self.refresh(&p)?,
            };
            if let Some(anchor) = &anchor {
                let mut p = p.shallow_clone();
                let _ = p.f_mul_scalar_(1.0 - plan.anchor)?.f_add_(anchor)?;
            }
            let changed = changed_fraction(&labels, &next_labels);
            labels = next_labels;
            // In the first round nothing was trained since the start, so nothing can have changed: only a recipe that
            // trains once more all the same takes that for convergence.
            let tells = steps.done() > 0 || plan.train_after_tol;
            *progress = Progress { steps: steps.done(), rounds: round, converged: tells && changed < plan.tol };
            let acc = self.labels_true.map(|t| Contingency::new(t, &labels).map(|c| c.accuracy())).transpose()?;
            let seconds = started.elapsed().as_secs_f64();
            observer.on_event(&Event::Round { round, changed, loss, acc, seconds });
            if progress.converged && !plan.train_after_tol {
                break;
            }
            if plan.reset_momentum {
                steps.reset_momentum()?;
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

    /// What takes the steps towards the rows of `p` \[n, k\].
    fn step<'a>(&'a self, p: &'a Tensor, plan: &Plan, batches: &Batches) -> Result<Box<dyn Step + 'a>> {
        let Self { dec, layer, rows, .. } = *self;
        let params = self.run.engine(batches, 0.0, &plan.settings);
        let (reconstructs, weight) = match plan.objective {
            ObjectiveKind::Idec => (true, plan.gamma),
            ObjectiveKind::Dec | ObjectiveKind::Aspc => (false, 1.0),
        };
        let stack = if reconstructs { dec.autoencoder.stack() } else { dec.autoencoder.encoder_stack() };
        let pull = match plan.objective {
            ObjectiveKind::Aspc => Pull::Squared,
            ObjectiveKind::Dec | ObjectiveKind::Idec => Pull::StudentT(layer.alpha()),
        };
        Ok(match stack {
            Some(stack) => {
                let clustering = ClusteringTerm {
                    layer: dec.autoencoder.depth() - 1,
                    centroids: layer.centroids().shallow_clone(),
                    p: p.shallow_clone(),
                    pull,
                    weight,
                };
                let objective = match reconstructs {
                    true => Objective::Both { reconstruction: 1.0, clustering },
                    false => Objective::Clustering(clustering),
                };
                Box::new(Engine::new(stack, objective, rows, params)?)
            }
            None => Box::new(autograd(&dec.autoencoder, layer, rows, p, Loss { pull, weight, reconstructs }, params)?),
        })
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

    /// Over all rows: into `p` 1 for the nearest centroid of a row that is near it, 0 elsewhere; returns the mean squared
    /// distance and the hard assignment.
    ///
    /// A row is near when its squared distance is below the mean of all plus (t/T) standard deviations of them, t the rounds
    /// trained before the last and T all rounds; in the first round every row is.
    fn refresh_self_paced(&self, p: &Tensor, round: u64, rounds: u64) -> Result<(f64, Vec<i64>)> {
        no_grad(|| {
            let z = self.dec.encode_all(self.rows)?;
            let centroids = self.layer.centroids();
            let (k, _) = centroids.size2()?;
            let distances = (0..k)
                .map(|j| Ok(z.f_sub(&centroids.f_get(j)?)?.f_square()?.f_sum_dim_intlist(1, false, Kind::Float)?));
            let distances = Tensor::f_stack(&distances.collect::<Result<Vec<_>>>()?, 1)?;
            let (nearest, labels) = distances.f_min_dim(1, false)?;
            let mean = nearest.f_mean(Kind::Double)?.f_double_value(&[])?;
            if !mean.is_finite() {
                return Err(Error::Training(diverged()));
            }
            let mut table = p.shallow_clone();
            let _ = table.f_zero_()?;
            let near = if round == 1 {
                nearest.f_ones_like()?
            } else {
                let deviation = nearest.f_to_kind(Kind::Double)?.f_std(false)?.f_double_value(&[])?;
                let limit = mean + (round - 2) as f64 / rounds as f64 * deviation;
                nearest.f_lt(limit)?.f_to_kind(Kind::Float)?
            };
            let _ = table.f_scatter_(1, &labels.f_unsqueeze(1)?, &near.f_unsqueeze(1)?)?;
            Ok((mean, values_of(&labels)?))
        })
    }
}

/// Into `p` \[n, k\] the `labels`, `smoothing` of each spread over all clusters.
fn smoothed(labels: &[i64], smoothing: f64, p: &Tensor) -> Result<()> {
    let (_, k) = p.size2()?;
    let mut table = p.shallow_clone();
    let _ = table.f_fill_(smoothing / k as f64)?;
    let labels = Tensor::f_from_slice(labels)?.f_to_device(p.device())?.f_unsqueeze(1)?;
    let own = labels.f_ones_like()?.f_to_kind(Kind::Float)?.f_mul_scalar(1.0 - smoothing + smoothing / k as f64)?;
    let _ = table.f_scatter_(1, &labels, &own)?;
    Ok(())
}

/// What [`autograd`] descends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub(super) pull: Pull,
    pub(super) weight: f64,
    pub(super) reconstructs: bool,
}

/// The same steps by autograd, towards the rows of `p` \[n, k\].
pub(super) fn autograd<'a>(
    autoencoder: &'a Autoencoder,
    layer: &'a ClusteringLayer,
    rows: &'a Rows,
    p: &'a Tensor,
    loss: Loss,
    params: EngineParams,
) -> Result<impl Step + 'a> {
    let mut parameters = if loss.reconstructs { autoencoder.parameters() } else { autoencoder.encoder_parameters() };
    if matches!(loss.pull, Pull::StudentT(_)) {
        parameters.push(layer.centroids().shallow_clone());
    }
    Autograd::new(parameters, params.optimiser, rows.device(), move |batch: &Batch| {
        let x = augmented(rows, batch, params)?;
        let z = autoencoder.encode(&x);
        let p = p.f_index_select(0, batch.indices)?;
        let clustering = match loss.pull {
            Pull::StudentT(_) => kl_divergence(&p, &layer.log_soft_assignment(&z)?)?,
            Pull::Squared => {
                let centroids = layer.centroids().f_detach()?;
                let difference = z.f_unsqueeze(1)?.f_sub(&centroids.f_unsqueeze(0)?)?;
                let squares = difference.f_square()?.f_mul(&p.f_unsqueeze(-1)?)?;
                squares.f_sum_dim_intlist(1, false, None)?.f_mean(None)?
            }
        };
        let clustering = clustering.f_mul_scalar(loss.weight)?;
        if !loss.reconstructs {
            return Ok(clustering);
        }
        Ok(autoencoder.decode(&z).f_mse_loss(&x, tch::Reduction::Mean)?.f_add(&clustering)?)
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
    #![allow(clippy::unwrap_used)]
    use super::{changed_fraction, smoothed};
    use crate::data::array_of;
    use ndarray::array;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn the_changed_fraction_counts_rows() {
        assert_eq!(changed_fraction(&[0, 1, 2, 3], &[0, 1, 2, 0]), 0.25);
        assert_eq!(changed_fraction(&[0, 1], &[0, 1]), 0.0);
    }

    #[test]
    fn smoothed_labels_are_a_distribution() {
        let p = Tensor::empty([2, 4], (Kind::Float, Device::Cpu));
        smoothed(&[2, 0], 0.2, &p).unwrap();
        let expected = array![[0.05f32, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]];
        assert!((array_of(&p).unwrap() - expected).iter().all(|d| d.abs() < 1e-6));
    }
}
