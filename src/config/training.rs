//! What every stage of training is told: optimiser, rate, batches. The sections repeat the fields (serde's `flatten` and
//! `deny_unknown_fields` exclude each other); what uses them uses [`Optimisation`].

use serde::{Deserialize, Serialize};

use super::schedule::{Schedule, ScheduleKind};
use super::{ClusterConfig, FinetuneConfig, PretrainConfig};

/// What turns gradients into steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimiserKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam (Kingma & Ba 2015); weight decay is added to the gradient.
    #[default]
    Adam,
    /// Adam with weight decay apart from the gradient (Loshchilov & Hutter 2019).
    AdamW,
}

/// The settings that `[pretrain]`, `[finetune]` and `[cluster]` share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimisation {
    /// Rows a batch.
    pub batch_size: usize,
    /// The optimiser.
    pub optimiser: OptimiserKind,
    /// The highest learning rate.
    pub lr: f64,
    /// Momentum; Adam's β₁.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// How the rate changes.
    pub schedule: ScheduleKind,
    /// What `step` divides the rate by.
    pub lr_decay_factor: f64,
    /// Steps between two divisions.
    pub lr_decay_steps: Option<u64>,
}

impl Optimisation {
    /// The rate as a function of the step.
    pub fn rates(&self) -> Schedule {
        match self.schedule {
            ScheduleKind::Constant => Schedule::Constant(self.lr),
            ScheduleKind::Cosine => Schedule::Cosine(self.lr),
            ScheduleKind::OneCycle => Schedule::OneCycle(self.lr),
            ScheduleKind::Step => Schedule::Step {
                initial: self.lr,
                factor: self.lr_decay_factor,
                every: self.lr_decay_steps.unwrap_or(u64::MAX),
            },
        }
    }
}

macro_rules! optimisation {
    ($($section:ty),*) => {$(
        impl $section {
            /// What this stage shares with the others.
            pub fn optimisation(&self) -> Optimisation {
                Optimisation {
                    batch_size: self.batch_size,
                    optimiser: self.optimiser,
                    lr: self.lr,
                    momentum: self.momentum,
                    weight_decay: self.weight_decay,
                    schedule: self.schedule,
                    lr_decay_factor: self.lr_decay_factor,
                    lr_decay_steps: self.lr_decay_steps,
                }
            }
        }
    )*};
}

optimisation!(PretrainConfig, FinetuneConfig, ClusterConfig);
