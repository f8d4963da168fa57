//! Training towards more clusters than are wanted: what an augmentation connects moves together.

use tch::{Kind, Tensor};

use super::{Done, Stage};
use crate::config::lengths;
use crate::control::{Control, StageName};
use crate::data::hash;
use crate::error::{Error, Result};
use crate::model::ClusteringLayer;
use crate::objective::{smoothed, term_towards_labels};
use crate::state::{Run, Task};
use crate::train::build;
use crate::train::steps::{Steps, Trained};

/// The encoder and the centroids of the finer clusters, at work towards these, smoothed.
pub struct OverCluster {
    steps: Steps,
    total: u64,
}

/// Steps of one round.
pub(super) fn steps(task: &Task) -> u64 {
    let (n, batch_size) = (task.rows.n_rows(), task.config.cluster.batch_size);
    let epochs = lengths::over_clustering_epochs(task.config.start.over_clustering_epochs, n, batch_size);
    epochs.saturating_mul(lengths::per_epoch(n, batch_size))
}

impl OverCluster {
    /// From the clusters that the search before it found.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn new(run: &mut Run, network: usize, place: usize, parts: usize) -> Result<Self> {
        let config = run.task.config.clone();
        let rows = run.task.rows.shallow_clone();
        let clusters =
            run.state.clusters.as_ref().ok_or_else(|| Error::Training("no clusters to train towards".to_owned()))?;
        let p = Tensor::f_empty([rows.n_rows(), parts as i64], (Kind::Float, rows.device()))?;
        smoothed(&clusters.labels, config.cluster.label_smoothing, &p)?;
        let layer = match run.state.layer.take() {
            Some(layer) => layer,
            None => ClusteringLayer::new(&clusters.centroids, config.cluster.alpha)?,
        };

        let mut stage = run.task.stage_run(StageName::OverCluster(parts), network);
        stage.seed = hash(stage.seed ^ place as u64); // the same number of parts may come twice
        let settings = config.cluster.optimisation();
        let batches = stage.batches(&rows, &settings)?;
        let params = stage.engine(&batches, 0.0, &settings);
        let term = term_towards_labels(&config.cluster);
        let step = build::clustering(run.state.network(network)?, &layer, &p, term, &rows, params)?;
        let total = steps(&run.task);
        let steps = Steps::new(stage, step, &settings, batches, total, false, run.state.training.as_ref())?;
        run.state.layer = Some(layer);
        run.cache.latent = None;
        Ok(Self { steps, total })
    }
}

impl Stage for OverCluster {
    fn total(&self) -> u64 {
        self.total
    }

    fn advance(&mut self, _: &mut Run, control: &mut Control) -> Result<Done> {
        if self.steps.train(self.total, control)? == Trained::Epoch && self.steps.done() < self.total {
            self.steps.mark_if_due()?;
        }
        Ok(if self.steps.done() < self.total { Done::More } else { Done::All(self.total) })
    }

    fn save(&self, run: &mut Run) -> Result<()> {
        run.state.training = Some(self.steps.training()?);
        Ok(())
    }

    fn close(self: Box<Self>, run: &mut Run, _: &mut Control) -> Result<()> {
        (run.state.training, run.state.layer, run.state.clusters) = (None, None, None);
        Ok(())
    }
}
