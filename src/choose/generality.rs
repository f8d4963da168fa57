//! Generalisability (Xie et al. 2016, §5.5): G = L_train / L_validation, the ratio of the clustering loss KL(P‖Q) on rows that
//! were trained on to that on others. The paper takes the number of clusters before which G drops: more clusters than there are can
//! be learned by heart only.
//!
//! For each k the encoder and the centroids, the means of the k clusters, are self-trained for a few epochs on some rows, from the
//! weights that pretraining left; the paper trains for each k to the end. Its figures are comparable between the k of one table
//! only.

use tch::{Kind, Tensor};

use crate::control::{Control, StageName};
use crate::data::{hash, Rows};
use crate::error::Result;
use crate::model::{copies, encode_all, set_parameters, ClusteringLayer};
use crate::objective::dec::Dec;
use crate::objective::{Latent, Objective};
use crate::state::{Clusters, Run};
use crate::train::build;
use crate::train::steps::Steps;

/// Rows that are trained on, and as many others, at most.
const ROWS: usize = 1_000;
const EPOCHS: u64 = 5;

/// Self-training of a part of the rows, for one k after the other.
pub(super) struct Generality {
    /// The network's parameters after pretraining.
    pretrained: Vec<Tensor>,
    /// Rows to train on, and the rows behind them.
    train: Rows,
    both: Rows,
    n: i64,
}

impl Generality {
    /// With the first rows, which are in random order.
    pub(super) fn new(run: &Run) -> Result<Self> {
        let n = (run.task.seen() / 2).min(ROWS) as i64;
        let (train, both) = (run.task.rows.first(n)?, run.task.rows.first(2 * n)?);
        Ok(Self { pretrained: copies(&run.state.network(0)?.parameters())?, train, both, n })
    }

    /// G of the clusters `labels` (0 to k − 1) of the rows; `None` where a loss is 0. The network is as it was afterwards.
    pub(super) fn of(&self, run: &Run, labels: &[i64], k: usize, control: &mut Control) -> Result<Option<f64>> {
        let found = self.train(run, labels, k, control);
        set_parameters(&run.state.network(0)?.parameters(), &self.pretrained)?;
        found
    }

    fn train(&self, run: &Run, labels: &[i64], k: usize, control: &mut Control) -> Result<Option<f64>> {
        let network = run.state.network(0)?;
        let config = &run.task.config.cluster;
        let objective = Dec { alpha: config.alpha };
        let z = encode_all(network, &self.train, control)?;
        let centroids = Clusters::around_means(&z, labels[..self.n as usize].to_vec(), k)?.centroids;
        let layer = ClusteringLayer::new(&centroids, config.alpha)?;
        let p = Tensor::f_empty([self.n, k as i64], (Kind::Float, self.train.device()))?;
        let mut stage = run.task.stage_run(StageName::ChooseK, 0);
        stage.seed = hash(stage.seed ^ k as u64);
        let settings = config.optimisation();
        let batches = stage.batches(&self.train, &settings)?;
        let params = stage.engine(&batches, 0.0, &settings);
        let total = EPOCHS * batches.per_epoch();
        objective.refresh(&Latent::whole(&z), &layer, 1, EPOCHS, &p)?;
        let step = build::clustering(network, &layer, &p, objective.term(), &self.train, params)?;
        let mut steps = Steps::new(stage, step, &settings, batches, total, false, None)?;
        let mut silent = control.silenced();
        while steps.done() < total {
            steps.train(total, &mut silent)?;
            let z = encode_all(network, &self.train, &silent)?;
            objective.refresh(&Latent::whole(&z), &layer, 1, EPOCHS, &p)?;
        }
        let z = encode_all(network, &self.both, &silent)?;
        let loss = |start: i64| -> Result<f64> {
            Ok(objective.refresh(&Latent::whole(&z.f_narrow(0, start, self.n)?), &layer, 1, EPOCHS, &p)?.loss)
        };
        let (train, validation) = (loss(0)?, loss(self.n)?);
        Ok(Some(train / validation).filter(|ratio| ratio.is_finite() && validation > 0.0))
    }
}
