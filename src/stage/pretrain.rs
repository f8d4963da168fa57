//! Pretraining of the autoencoder, and fine-tuning.
//!
//! - Layer by layer (Xie et al. 2016, §3.2; Vincent et al. 2010): layer i is a denoising autoencoder dropout → encoder_i →
//!   dropout → decoder_i, trained on the mean squared error to its own, clean input; the next layer trains on the clean code
//!   of this one.
//! - End to end (Guo et al. 2018), and fine-tuning after layer-wise pretraining: the whole network on the mean squared error.

use super::{Done, Stage};
use crate::config::{lengths, Optimisation};
use crate::control::{Control, StageName};
use crate::data::Rows;
use crate::error::{Error, Result};
use crate::model::LayerPair;
use crate::state::{Run, Task};
use crate::train::build;
use crate::train::steps::{StageRun, Steps, Trained};

/// Epochs of a layer that `auto` comes to: the notebook's.
const AUTO_EPOCHS: u64 = 50;

/// Training of a network, or a layer of it, on the mean squared error.
pub struct TrainStage {
    steps: Steps,
    total: u64,
    network: usize,
}

/// Steps of pretraining end to end.
pub(super) fn end_to_end_steps(task: &Task) -> u64 {
    let config = &task.config.pretrain;
    let moved = task.augmentation_of(StageName::Autoencoder).is_some_and(|augmentation| augmentation.moves());
    let epochs = lengths::pretrain_epochs(config.epochs, moved, task.rows.n_rows(), config.batch_size);
    in_steps(task, config.steps, epochs, config.batch_size)
}

/// Steps of pretraining one layer.
pub(super) fn layer_steps(task: &Task) -> u64 {
    let config = &task.config.pretrain;
    in_steps(task, config.steps, config.epochs.or(|| AUTO_EPOCHS), config.batch_size)
}

/// Steps of fine-tuning.
pub(super) fn finetune_steps(task: &Task) -> u64 {
    let config = &task.config.finetune;
    in_steps(task, config.steps, config.epochs, config.batch_size)
}

/// `steps` where these are given, else those of the epochs.
fn in_steps(task: &Task, steps: Option<u64>, epochs: u64, batch_size: usize) -> u64 {
    steps.unwrap_or_else(|| epochs.saturating_mul(lengths::per_epoch(task.rows.n_rows(), batch_size)))
}

impl TrainStage {
    /// Pretraining of the whole network.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn end_to_end(run: &mut Run, network: usize) -> Result<Self> {
        let settings = run.task.config.pretrain.optimisation();
        let stage = run.task.stage_run(StageName::Autoencoder, network);
        let total = end_to_end_steps(&run.task);
        Self::whole(run, network, stage, &settings, total)
    }

    /// Fine-tuning of the whole network.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn finetune(run: &mut Run, network: usize) -> Result<Self> {
        let settings = run.task.config.finetune.optimisation();
        let stage = run.task.stage_run(StageName::Finetune, network);
        let total = finetune_steps(&run.task);
        Self::whole(run, network, stage, &settings, total)
    }

    fn whole(run: &mut Run, network: usize, stage: StageRun, settings: &Optimisation, total: u64) -> Result<Self> {
        make_network(run, network)?;
        let rows = &run.task.rows;
        let batches = stage.batches(rows, settings)?;
        let step = build::reconstruction(run.state.network(network)?, rows, stage.engine(&batches, 0.0, settings))?;
        let steps = Steps::new(stage, step, settings, batches, total, true, run.state.training.as_ref())?;
        Ok(Self { steps, total, network })
    }

    /// Pretraining of one layer.
    ///
    /// # Errors
    /// [`Error::Interrupted`] while the layer's input is made, or a libtorch failure (out of memory, say).
    pub fn layer(run: &mut Run, network: usize, layer: usize, control: &Control) -> Result<Self> {
        make_network(run, network)?;
        let config = run.task.config.pretrain.clone();
        let settings = config.optimisation();
        let input = input_of(run, network, layer, control)?;
        let stage = run.task.stage_run(StageName::Pretrain(layer + 1), network);
        let batches = stage.batches(&input, &settings)?;
        let params = stage.engine(&batches, config.dropout, &settings);
        let step = build::layer(pair(run, network, layer)?, &input, params)?;
        let total = layer_steps(&run.task);
        let steps = Steps::new(stage, step, &settings, batches, total, true, run.state.training.as_ref())?;
        run.cache.codes = Some((network, layer, input));
        Ok(Self { steps, total, network })
    }
}

/// The network with its initial weights, where it is not there yet.
fn make_network(run: &mut Run, network: usize) -> Result<()> {
    run.cache.latent = None;
    if run.state.networks.len() <= network {
        let fresh = run.task.new_network(network)?;
        run.state.networks.resize_with(network, || None);
        run.state.networks.push(Some(fresh));
    }
    Ok(())
}

fn pair(run: &Run, network: usize, layer: usize) -> Result<LayerPair> {
    let pair = run.state.network(network)?.pair(layer);
    pair.ok_or_else(|| Error::Training(format!("the network has no layer {} to pretrain", layer + 1)))
}

/// What a layer trains on: the rows, or the clean codes of the layer before.
fn input_of(run: &mut Run, network: usize, layer: usize, control: &Control) -> Result<Rows> {
    let (mut depth, mut input) = match run.cache.codes.take() {
        Some((of, depth, rows)) if of == network && depth <= layer => (depth, rows),
        _ => (0, run.task.rows.shallow_clone()),
    };
    let width = run.state.network(network)?.widest();
    while depth < layer {
        input = build::codes(&pair(run, network, depth)?, &input, width, control)?;
        depth += 1;
    }
    Ok(input)
}

impl Stage for TrainStage {
    fn total(&self) -> u64 {
        self.total
    }

    fn advance(&mut self, _: &mut Run, control: &mut Control) -> Result<Done> {
        let trained = self.steps.train(self.total, control)?;
        if self.steps.done() < self.total {
            if trained == Trained::Epoch {
                self.steps.mark_if_due()?;
            }
            return Ok(Done::More);
        }
        self.steps.finish(control)?; // goes back where the last epoch diverged
        Ok(if self.steps.done() < self.total { Done::More } else { Done::All(self.total) })
    }

    fn save(&self, run: &mut Run) -> Result<()> {
        run.state.training = Some(self.steps.training()?);
        Ok(())
    }

    fn close(self: Box<Self>, run: &mut Run, _: &mut Control) -> Result<()> {
        run.state.training = None;
        let layers = run.state.network(self.network)?.encoder_stack().map_or(0, |stack| stack.layers().len());
        if run.cache.codes.as_ref().is_some_and(|&(_, layer, _)| layer + 1 == layers) {
            run.cache.codes = None; // the last layer's input: nobody needs it any more
        }
        Ok(())
    }
}
