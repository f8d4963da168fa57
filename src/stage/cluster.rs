//! Self-training: the encoder and the centroids towards a target p, which is refreshed every round
//! ([`crate::objective`]).
//!
//! Before p takes over, the hand-over trains towards the first assignment itself, smoothed: q around the centroids does not
//! know all that spectral clustering found out. A share of every later target stays with it, the anchor: without, clusters of
//! few rows creep into each other over the rounds.
//!
//! Steps are counted over the whole stage: those of the hand-over, then equal parts for the rounds. So where the stage stands
//! follows from the steps done and the refreshes made.

use tch::{Kind, Tensor};

use super::{Done, Stage};
use crate::backend::ranks;
use crate::config::{lengths, ClusterConfig};
use crate::control::{Control, Event, Round, StageName};
use crate::error::{Error, Result};
use crate::metrics::Contingency;
use crate::model::{copies, encode_own, ClusteringLayer, Network};
use crate::objective::{self, smoothed, Latent, Objective};
use crate::state::{Clusters, Run, SelfTraining, Task};
use crate::train::build;
use crate::train::steps::{Steps, Trained};

mod health;
mod verdict;

pub use health::{collapse, effective_clusters, sizes_of};
pub use verdict::below_start;

/// Self-training at work.
pub struct Cluster {
    network: Box<dyn Network>,
    layer: ClusteringLayer,
    objective: Box<dyn Objective>,
    /// `cluster.anchor` · the first assignment, smoothed: of this process's share of the rows.
    anchor: Option<Tensor>,
    p: Tensor,
    steps: Steps,
    config: ClusterConfig,
    length: Length,
}

/// How long self-training is, in steps and rounds.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Steps of the hand-over.
    handover: u64,
    /// Steps of a round.
    per_round: u64,
    /// Rounds at the most.
    pub max_rounds: u64,
}

impl Length {
    /// That of a task.
    pub fn of(task: &Task) -> Self {
        let (config, n) = (&task.config.cluster, task.rows.n_rows());
        let per_epoch = lengths::per_epoch(n, config.batch_size);
        let epochs = lengths::handover_epochs(config.handover_epochs, n, config.batch_size);
        Self {
            handover: epochs.saturating_mul(per_epoch),
            per_round: config.update_interval_steps.unwrap_or(config.epochs_per_round.saturating_mul(per_epoch)),
            max_rounds: lengths::rounds(config, n),
        }
    }

    /// The step at which round number `round` ends.
    fn end_of(self, round: u64) -> u64 {
        self.handover.saturating_add(self.per_round.saturating_mul(round))
    }

    /// Steps at the most.
    pub fn steps(self) -> u64 {
        self.end_of(self.max_rounds)
    }
}

impl Cluster {
    /// From the first assignment, or where an earlier process left it.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn new(run: &mut Run, control: &Control) -> Result<Self> {
        let config = run.task.config.cluster.clone();
        let rows = run.task.rows.shallow_clone();
        let network = run.state.network(run.state.chosen)?.share();
        if run.state.self_training.is_none() {
            run.state.self_training = Some(begin(run, &*network, &config)?);
        }
        let Some(begun) = &run.state.self_training else { return Err(no_start()) };
        let layer = match &run.state.layer {
            Some(layer) => layer.share(),
            None => ClusteringLayer::new(&begun.start.centroids, config.alpha)?,
        };
        let objective = objective::of(&config);
        let stage = run.task.stage_run(StageName::Cluster, 0);
        let settings = config.optimisation();
        let batches = stage.batches(&rows, &settings)?;
        let params = stage.engine(&batches, 0.0, &settings);
        let step = build::clustering(&*network, &layer, &begun.p, objective.term(), &rows, params)?;
        let length = Length::of(&run.task);
        let steps = Steps::new(stage, step, &settings, batches, length.steps(), false, run.state.training.as_ref())?;
        let anchor = match objective.may_anchor() && config.anchor > 0.0 {
            true => {
                let ranks = control.ranks();
                let own = ranks.part_of(&begun.p)?.f_empty_like()?;
                let share = ranks.share(rows.n_rows());
                let labels = &begun.start.labels[share.start as usize..share.end as usize];
                smoothed(labels, config.label_smoothing, &own)?;
                Some(own.f_mul_scalar(config.anchor)?)
            }
            false => None,
        };
        let p = begun.p.shallow_clone();
        run.state.layer = Some(layer.share());
        run.cache.latent = None;
        Ok(Self { network, layer, objective, anchor, p, steps, config, length })
    }

    /// Trains up to the step `until`, or the end of the epoch; goes back with the rounds where the loss diverged.
    fn train(&mut self, until: u64, run: &mut Run, control: &mut Control) -> Result<()> {
        match self.steps.train(until, control)? {
            Trained::RolledBack => self.rolled_back(run),
            Trained::Epoch | Trained::Within => Ok(()),
        }
    }

    /// q, the hard assignment and the next target of all rows.
    fn refresh(&mut self, run: &mut Run, control: &mut Control) -> Result<()> {
        let (round, n, ranks) = (run.state.rounds + 1, run.task.rows.n_rows(), control.ranks());
        let z = encode_own(&*self.network, &run.task.rows, control)?;
        let mut p = ranks.part_of(&self.p)?;
        let latent = Latent { z: &z, n, ranks };
        let mut found = self.objective.refresh(&latent, &self.layer, round, self.length.max_rounds, &p)?;
        if !found.loss.is_finite() {
            self.steps.roll_back(found.loss, control)?;
            return self.rolled_back(run);
        }
        if let Some(anchor) = &self.anchor {
            let _ = p.f_mul_scalar_(1.0 - self.config.anchor)?.f_add_(anchor)?;
        }
        // From the first value of p on, there is no way back: who does not come ends the run.
        ranks::half_done(ranks.gather(&self.p))?;
        found.labels = ranks::half_done(ranks.join(&found.labels, n))?;
        let Run { task, state, .. } = run;
        let Some(begun) = &mut state.self_training else { return Err(no_start()) };
        let changed = changed_fraction(&begun.labels, &found.labels);
        // In the first round nothing was trained since the start, so nothing can have changed: only a recipe that
        // trains once more all the same takes that for convergence.
        let tells = self.steps.done() > 0 || self.config.train_after_tol;
        state.rounds = round;
        begun.quiet = if tells && changed == 0.0 { begun.quiet + 1 } else { 0 };
        let settled = self.config.patience > 0 && begun.quiet >= self.config.patience;
        state.converged = tells && (changed < self.config.tol || settled);
        let acc = task.labels_true.as_deref().map(|t| Contingency::of_labelled(t, &found.labels).map(|c| c.accuracy()));
        let distances = health::centroid_distances(self.layer.centroids())?;
        let event = Round {
            round,
            changed,
            loss: found.loss,
            acc: acc.transpose()?,
            sizes: sizes_of(&found.labels, task.config.n_clusters),
            centroid_distance: distances.map(|(smallest, _)| smallest),
            effective_clusters: effective_clusters(&found.frequency),
            confidence: found.confidence,
        };
        begun.labels = found.labels;
        control.tell(&Event::Round { round: &event, seconds: control.seconds() });
        for (kind, text) in health::warnings(&event, distances, &begun.start.labels, task.config.guard.min_fraction) {
            if !begun.warned.iter().any(|known| known == kind) {
                begun.warned.push(kind.to_owned());
                control.tell(&Event::Warning { stage: StageName::Cluster, text: &text });
                state.warnings.push(text);
            }
        }
        let goes_on = !state.converged || self.config.train_after_tol;
        if self.config.reset_momentum && goes_on {
            self.steps.reset_momentum()?;
        }
        Ok(())
    }

    /// Goes back to the rounds of the last boundary, after the steps. In a hand-over p is the first assignment again.
    fn rolled_back(&self, run: &mut Run) -> Result<()> {
        run.state.converged = false;
        let Some(begun) = &mut run.state.self_training else { return Err(no_start()) };
        let (rounds, labels) = begun.boundary.clone();
        run.state.rounds = rounds;
        begun.labels = labels;
        begun.quiet = 0;
        if rounds == 0 {
            smoothed(&begun.start.labels, self.config.label_smoothing, &self.p)?;
        }
        Ok(())
    }

    /// Makes the end of a round a boundary to go back to.
    fn mark(&mut self, run: &mut Run) -> Result<()> {
        if self.steps.mark_if_due()? {
            let rounds = run.state.rounds;
            if let Some(begun) = &mut run.state.self_training {
                begun.boundary = (rounds, begun.labels.clone());
            }
        }
        Ok(())
    }
}

impl Stage for Cluster {
    fn total(&self) -> u64 {
        self.length.steps()
    }

    fn advance(&mut self, run: &mut Run, control: &mut Control) -> Result<Done> {
        let (done, rounds) = (self.steps.done(), run.state.rounds);
        let end = self.length.end_of(rounds);
        let stops = run.state.converged && !self.config.train_after_tol;
        if done < end && !stops {
            self.train(end, run, control)?;
            if self.steps.done() == self.length.end_of(run.state.rounds) {
                self.mark(run)?;
            }
            return Ok(Done::More);
        }
        if run.state.converged || rounds >= self.length.max_rounds {
            if self.steps.finish(control)? == Trained::RolledBack {
                self.rolled_back(run)?;
                return Ok(Done::More);
            }
            return Ok(Done::All(self.steps.done()));
        }
        self.refresh(run, control)?;
        Ok(Done::More)
    }

    fn save(&self, run: &mut Run) -> Result<()> {
        run.state.training = Some(self.steps.training()?);
        Ok(())
    }

    fn close(self: Box<Self>, run: &mut Run, _: &mut Control) -> Result<()> {
        run.state.training = None;
        Ok(())
    }
}

/// What self-training begins with: the first assignment, and p as the hand-over has it.
fn begin(run: &mut Run, network: &dyn Network, config: &ClusterConfig) -> Result<SelfTraining> {
    let start = run.state.clusters.take().ok_or_else(no_start)?;
    let shape = [run.task.rows.n_rows(), start.centroids.size()[0]];
    let p = Tensor::f_empty(shape, (Kind::Float, run.task.rows.device()))?;
    smoothed(&start.labels, config.label_smoothing, &p)?;
    let labels = start.labels.clone();
    let start = Clusters { labels: start.labels, centroids: start.centroids };
    Ok(SelfTraining {
        labels: labels.clone(),
        boundary: (0, labels),
        start,
        start_parameters: copies(&network.parameters())?,
        p,
        quiet: 0,
        warned: Vec::new(),
    })
}

fn no_start() -> Error {
    Error::Training("there is no first assignment to train from".to_owned())
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
