//! The optimiser's settings, which `[pretrain]`, `[finetune]` and `[cluster]` share.

use serde::{Deserialize, Serialize};

use super::range::{at_least_one, fraction, not_negative, optional_at_least_one, positive};
use super::schedule::{Schedule, ScheduleKind};
use crate::error::{Error, Result};

/// Optimisation algorithm.
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

/// The settings that `[pretrain]`, `[finetune]` and `[cluster]` share; each section documents their ranges and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimisation {
    /// Rows of a batch.
    pub batch_size: usize,
    /// Optimisation algorithm.
    pub optimiser: OptimiserKind,
    /// Highest learning rate.
    pub lr: f64,
    /// Momentum of SGD; β₁ of Adam.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// The rate over the stage.
    pub schedule: ScheduleKind,
    /// For `step`: divisor of the rate.
    pub lr_decay_factor: f64,
    /// For `step`: steps between two divisions.
    pub lr_decay_steps: Option<u64>,
}

impl Optimisation {
    /// The defaults: all but the rate and its schedule are the same in every section.
    pub(super) const fn defaults(lr: f64, schedule: ScheduleKind) -> Self {
        Self {
            batch_size: 256,
            optimiser: OptimiserKind::Adam,
            lr,
            momentum: 0.9,
            weight_decay: 0.0,
            schedule,
            lr_decay_factor: 10.0,
            lr_decay_steps: None,
        }
    }

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

    /// Checks the settings of `[section]`.
    pub(super) fn check(&self, section: &str) -> Result<()> {
        let key = |name: &str| format!("{section}.{name}");
        at_least_one(&key("batch_size"), self.batch_size as u64)?;
        positive(&key("lr"), self.lr)?;
        fraction(&key("momentum"), self.momentum)?;
        not_negative(&key("weight_decay"), self.weight_decay)?;
        positive(&key("lr_decay_factor"), self.lr_decay_factor)?;
        optional_at_least_one(&key("lr_decay_steps"), self.lr_decay_steps)?;
        match (self.schedule == ScheduleKind::Step, self.lr_decay_steps) {
            (true, None) => Err(Error::Config(format!(
                "{section}.schedule = step: it needs {section}.lr_decay_steps, the steps between two divisions of the rate"
            ))),
            (false, Some(steps)) => Err(Error::Config(format!(
                "{section}.lr_decay_steps = {steps}: goes with {section}.schedule = \"step\" only"
            ))),
            _ => Ok(()),
        }
    }
}

/// Declares the struct of a section whose stage trains: its own settings, each with its default, and the optimiser's eight.
///
/// `batch_size` and `optimisation` stand where the order of the keys in TOML wants the shared settings. (serde's `flatten`
/// would do without a macro, but excludes `deny_unknown_fields`.)
macro_rules! section_with_optimisation {
    (
        $(#[$section_attribute:meta])*
        pub struct $section:ident {
            $($(#[$attribute:meta])* pub $field:ident: $type:ty = $default:expr,)*
            batch_size,
            $($(#[$later_attribute:meta])* pub $later_field:ident: $later_type:ty = $later_default:expr,)*
            optimisation { lr: $lr:expr, schedule: $schedule:ident },
        }
    ) => {
        $(#[$section_attribute])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $($(#[$attribute])* pub $field: $type,)*
            /// Rows of a batch, at least 1. Default 256.
            pub batch_size: usize,
            $($(#[$later_attribute])* pub $later_field: $later_type,)*
            /// Optimisation algorithm: `sgd`, `adam` or `adamw`. Default `adam`.
            pub optimiser: $crate::config::OptimiserKind,
            #[doc = concat!("Highest learning rate, above 0. Default ", stringify!($lr), ".")]
            pub lr: f64,
            /// Momentum of SGD, β₁ of Adam, 0 to below 1. Default 0.9.
            pub momentum: f64,
            /// Weight decay, at least 0: an L2 penalty for `sgd` and `adam`, apart from the gradient for `adamw`. Default 0.
            pub weight_decay: f64,
            #[doc = concat!("The rate over the stage. Default `ScheduleKind::", stringify!($schedule), "`.")]
            pub schedule: $crate::config::ScheduleKind,
            /// For `step`: divisor of the rate, above 0. Default 10.
            pub lr_decay_factor: f64,
            /// For `step`, which needs it: steps between two divisions of the rate, at least 1. Default: not set.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub lr_decay_steps: Option<u64>,
        }

        impl Default for $section {
            fn default() -> Self {
                let shared = $crate::config::Optimisation::defaults($lr, $crate::config::ScheduleKind::$schedule);
                Self {
                    $($field: $default,)*
                    $($later_field: $later_default,)*
                    batch_size: shared.batch_size,
                    optimiser: shared.optimiser,
                    lr: shared.lr,
                    momentum: shared.momentum,
                    weight_decay: shared.weight_decay,
                    schedule: shared.schedule,
                    lr_decay_factor: shared.lr_decay_factor,
                    lr_decay_steps: shared.lr_decay_steps,
                }
            }
        }

        impl $section {
            /// The settings that this section shares with others.
            pub fn optimisation(&self) -> $crate::config::Optimisation {
                $crate::config::Optimisation {
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
    };
}
pub(super) use section_with_optimisation;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::Config;

    /// The keys that a section takes, in the order in which they are written and listed in messages.
    fn keys_of(section: &str) -> String {
        let problem = toml::from_str::<Config>(&format!("[{section}]\nnonsense = 1")).unwrap_err();
        let (_, keys) = problem.message().split_once("expected one of ").unwrap();
        keys.replace('`', "")
    }

    #[test]
    fn keys_stay_in_their_order() {
        const OPTIMISER: &str = "optimiser, lr, momentum, weight_decay, schedule, lr_decay_factor, lr_decay_steps";
        for (section, own) in [
            ("pretrain", "method, epochs, steps, batch_size, dropout, augment"),
            ("finetune", "epochs, steps, batch_size, augment"),
            (
                "cluster",
                "objective, gamma, alpha, handover_epochs, label_smoothing, anchor, tol, patience, max_rounds, epochs_per_round, \
                 update_interval_steps, train_after_tol, reset_momentum, batch_size, augment, cutmix",
            ),
        ] {
            assert_eq!(keys_of(section), format!("{own}, {OPTIMISER}"), "{section}");
        }
    }
}
