//! The loop that every stage trains with: batches in, gradient steps, an event an epoch; and the way back when the loss
//! diverges.
//!
//! Steps keep a copy of parameters and optimiser at the last *boundary*: where they began, then ends of epochs or rounds that
//! are at least [`BOUNDARY_STEPS`] steps apart. Where the loss is not finite, or a reconstruction's has exploded, they go back to
//! it and on at a lower rate.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::augmentation::Augmentation;
use super::engine::EngineParams;
use super::optimiser::Optimiser;
use super::step::{Batch, Step};
use crate::backend::dense::Factors;
use crate::config::{GuardConfig, Optimisation, Schedule};
use crate::control::{Control, Event, Rollback, StageName};
use crate::data::{Batches, Rows};
use crate::error::{Error, Result};
use crate::model::copies;

/// Steps between two boundaries at least: a copy of all parameters then costs little beside them.
pub const BOUNDARY_STEPS: u64 = 100;
/// A mean loss that is so many times the first step's has exploded.
const EXPLODED: f64 = 1000.0;

/// What a stage is told besides its own section of the recipe.
#[derive(Debug, Clone, Copy)]
pub struct StageRun {
    /// The stage.
    pub stage: StageName,
    /// Seed of the batches, of the dropout masks and of the augmentation.
    pub seed: u64,
    /// What the factors of a step's products are rounded to.
    pub factors: Factors,
    /// Whether to start steps on a GPU as CUDA graphs.
    pub cuda_graphs: bool,
    /// What the stage does to its rows at random.
    pub augmentation: Option<Augmentation>,
    /// What to do where training diverges.
    pub guard: GuardConfig,
}

impl StageRun {
    /// The batches of `rows` that the stage trains on.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn batches(&self, rows: &Rows, settings: &Optimisation) -> Result<Batches> {
        Batches::new(rows.n_rows(), settings.batch_size, rows.device(), self.seed)
    }

    /// How the step engine is to train on `batches`.
    pub fn engine(&self, batches: &Batches, dropout: f64, settings: &Optimisation) -> EngineParams {
        EngineParams {
            batch_size: batches.batch_size(),
            dropout,
            augmentation: self.augmentation,
            optimiser: Optimiser::from(settings),
            seed: self.seed,
            factors: self.factors,
            cuda_graphs: self.cuda_graphs,
        }
    }
}

/// Where the steps of a stage stand, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Steps done in this stage.
    pub done: u64,
    /// Steps since the last epoch event, whose losses [`Counters::loss_sum`] sums.
    pub summed: u64,
    /// The sum, as its bits: JSON has no infinity.
    pub loss_sum: u64,
    /// Steps since the optimiser's state was 0.
    pub optimiser_steps: u64,
    /// What rates are multiplied by: 1 until training diverged.
    pub rate_factor: f64,
    /// Returns to a boundary so far.
    pub rollbacks: u64,
    /// The loss of the stage's first step, as its bits.
    pub first_loss: Option<u64>,
}

/// Where the steps of a stage stand: all that it takes to go on bit for bit, besides the parameters.
#[derive(Debug)]
pub struct Training {
    /// In numbers.
    pub counters: Counters,
    /// The optimiser's tensors, sharing its memory.
    pub optimiser: Vec<Tensor>,
    /// The last boundary; `None` where that is here.
    pub boundary: Option<Boundary>,
}

/// A point to go back to.
#[derive(Debug)]
pub struct Boundary {
    /// In numbers.
    pub counters: Counters,
    /// Copies of the trained parameters, in the order of [`Step::parameters`].
    pub parameters: Vec<Tensor>,
    /// Copies of the optimiser's tensors.
    pub optimiser: Vec<Tensor>,
}

impl Boundary {
    fn share(&self) -> Self {
        let share = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect();
        Self { counters: self.counters, parameters: share(&self.parameters), optimiser: share(&self.optimiser) }
    }
}

/// How a piece of training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trained {
    /// At the end of an epoch.
    Epoch,
    /// Within one: at the step asked for, or earlier because a checkpoint is wanted.
    Within,
    /// The loss had diverged: parameters, optimiser and counters are those of the last boundary again.
    RolledBack,
}

/// Gradient steps on shuffled batches; keeps its place between calls.
pub struct Steps {
    run: StageRun,
    step: Box<dyn Step>,
    schedule: Schedule,
    batches: Batches,
    /// Steps of the whole stage, which the rate goes by.
    total: u64,
    counters: Counters,
    boundary: Boundary,
    /// Whether a loss far above the first means divergence: so for reconstructions, whose first loss is the rows' variance.
    may_explode: bool,
}

impl Steps {
    /// Steps at the beginning of a stage that takes `total` of them at most; those of an earlier process where `training` has
    /// where it stood. `reconstructs` says whether the loss is nothing but a reconstruction's.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say), or tensors of other shapes.
    pub fn new(
        run: StageRun,
        step: Box<dyn Step>,
        settings: &Optimisation,
        batches: Batches,
        total: u64,
        reconstructs: bool,
        training: Option<&Training>,
    ) -> Result<Self> {
        let counters = Counters {
            done: 0,
            summed: 0,
            loss_sum: 0,
            optimiser_steps: 0,
            rate_factor: 1.0,
            rollbacks: 0,
            first_loss: None,
        };
        let boundary = Boundary { counters, parameters: Vec::new(), optimiser: Vec::new() };
        let schedule = settings.rates();
        let mut steps = Self { run, step, schedule, batches, total, counters, boundary, may_explode: reconstructs };
        if let Some(training) = training {
            steps.restore(training.counters, &training.optimiser)?;
        }
        match training.and_then(|training| training.boundary.as_ref()) {
            Some(boundary) => steps.boundary = boundary.share(),
            None => steps.mark()?,
        }
        Ok(steps)
    }

    /// Batches in an epoch.
    pub fn per_epoch(&self) -> u64 {
        self.batches.per_epoch()
    }

    /// Steps done so far.
    pub fn done(&self) -> u64 {
        self.counters.done
    }

    /// Forgets the optimiser's momentum.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn reset_momentum(&mut self) -> Result<()> {
        self.step.optimiser_mut().reset()
    }

    /// Trains up to the step `until` of the stage, or the end of the epoch if that comes first.
    ///
    /// # Errors
    /// [`Error::Interrupted`] between two steps, [`Error::Training`] for training that diverged once too often, or a libtorch
    /// failure.
    pub fn train(&mut self, until: u64, control: &mut Control) -> Result<Trained> {
        while self.counters.done < until {
            if control.agree()? {
                break;
            }
            let indices = self.batches.next_batch()?;
            let number = self.counters.done;
            self.step.step(&Batch { indices: &indices, number }, self.rate(number))?;
            if number == 0 {
                self.counters.first_loss = Some(self.step.loss_sum()?.to_bits());
            }
            self.counters.summed += 1;
            self.counters.done += 1;
            control.tell(&Event::Step { done: self.counters.done });
            if self.counters.done.is_multiple_of(self.per_epoch()) {
                return self.end_epoch(control);
            }
        }
        Ok(Trained::Within)
    }

    /// Reports a last epoch that the stage's steps did not fill.
    ///
    /// # Errors
    /// As for [`Steps::train`].
    pub fn finish(&mut self, control: &mut Control) -> Result<Trained> {
        if self.counters.summed > 0 {
            return self.end_epoch(control);
        }
        Ok(Trained::Within)
    }

    /// Makes this the boundary to go back to, unless the last one is near.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn mark_if_due(&mut self) -> Result<bool> {
        let due = self.counters.done >= self.boundary.counters.done + BOUNDARY_STEPS;
        if due {
            self.mark()?;
        }
        Ok(due)
    }

    /// Goes back to the last boundary, to go on at a lower rate.
    ///
    /// # Errors
    /// [`Error::Diverged`] with `loss` where that was done often enough, or a libtorch failure.
    pub fn roll_back(&mut self, loss: f64, control: &mut Control) -> Result<()> {
        let GuardConfig { max_rollbacks, rate_factor, .. } = self.run.guard;
        let Counters { done, rollbacks, rate_factor: before, .. } = self.counters;
        if rollbacks >= max_rollbacks {
            let epoch = done.div_ceil(self.per_epoch()).max(1);
            let learning_rate = self.rate(done.saturating_sub(1));
            return Err(Error::Diverged { stage: self.run.stage.to_string(), epoch, loss, learning_rate });
        }
        let boundary = self.boundary.share();
        crate::model::set_parameters(&self.step.parameters(), &boundary.parameters)?;
        self.restore(boundary.counters, &boundary.optimiser)?;
        self.counters.rollbacks = rollbacks + 1;
        self.counters.rate_factor = before / rate_factor;
        control.tell(&Event::RolledBack(&Rollback {
            stage: self.run.stage.to_string(),
            at_step: done,
            to_step: self.counters.done,
            rate_factor: self.counters.rate_factor,
        }));
        Ok(())
    }

    /// Where the steps stand.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn training(&self) -> Result<Training> {
        let counters = self.counters()?;
        let optimiser = self.step.optimiser().tensors().into_iter().map(Tensor::shallow_clone).collect();
        let here = self.boundary.counters == counters;
        Ok(Training { counters, optimiser, boundary: (!here).then(|| self.boundary.share()) })
    }

    /// The rate of a step, counted from 0.
    fn rate(&self, step: u64) -> f64 {
        self.schedule.rate(step, self.total) * self.counters.rate_factor
    }

    fn counters(&self) -> Result<Counters> {
        let loss_sum = self.step.loss_sum()?.to_bits();
        Ok(Counters { loss_sum, optimiser_steps: self.step.optimiser().steps(), ..self.counters })
    }

    fn mark(&mut self) -> Result<()> {
        self.boundary = Boundary {
            counters: self.counters()?,
            parameters: copies(&self.step.parameters())?,
            optimiser: copies(&self.step.optimiser().tensors())?,
        };
        Ok(())
    }

    /// Goes to where `counters` are, with these tensors of the optimiser.
    fn restore(&mut self, counters: Counters, optimiser: &[Tensor]) -> Result<()> {
        crate::model::set_parameters(
            &self.step.optimiser().tensors().into_iter().map(Tensor::shallow_clone).collect::<Vec<_>>(),
            optimiser,
        )?;
        self.step.optimiser_mut().set_steps(counters.optimiser_steps);
        self.step.set_loss_sum(f64::from_bits(counters.loss_sum))?;
        self.batches.seek(counters.done)?;
        self.counters = counters;
        Ok(())
    }

    fn end_epoch(&mut self, control: &mut Control) -> Result<Trained> {
        let Counters { done, summed, first_loss, .. } = self.counters;
        let loss = self.step.take_loss()? / summed as f64;
        let first = first_loss.map_or(f64::INFINITY, f64::from_bits);
        let exploded = self.may_explode && loss > EXPLODED * first;
        if !loss.is_finite() || exploded {
            self.roll_back(loss, control)?;
            return Ok(Trained::RolledBack);
        }
        self.counters.summed = 0;
        let (stage, seconds) = (self.run.stage, control.seconds());
        let (epoch, learning_rate) = (done.div_ceil(self.per_epoch()), self.rate(done.saturating_sub(1)));
        control.tell(&Event::Epoch { stage, epoch, loss, learning_rate, seconds });
        Ok(Trained::Epoch)
    }
}
