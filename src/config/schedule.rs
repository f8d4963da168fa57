//! The learning rate as a function of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the rate changes over a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// It does not.
    Constant,
    /// Divided by `lr_decay_factor` every `lr_decay_steps` steps.
    Step,
    /// From `lr` to 0 along half a cosine (Loshchilov & Hutter 2017, Eq. 5, without restarts).
    #[default]
    Cosine,
    /// From `lr`/25 up to `lr` over the first 30 % of the steps and down to `lr`/250,000 over the rest, both along a cosine
    /// (Smith & Topin 2019, in the form of PyTorch's `OneCycleLR`).
    OneCycle,
}

/// The rate of every step of a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Always the same.
    Constant(f64),
    /// Divided by `factor` every `every` steps.
    Step {
        /// The first rate.
        initial: f64,
        /// What it is divided by.
        factor: f64,
        /// Steps between two divisions.
        every: u64,
    },
    /// From the rate to 0.
    Cosine(f64),
    /// Up to the rate and down again.
    OneCycle(f64),
}

/// Fraction of the steps in which one cycle rises.
const RISE: f64 = 0.3;

impl Schedule {
    /// The rate of step `step`, counted from 0, of `total`.
    ///
    /// ```
    /// use dec::config::Schedule;
    /// // Xie et al. 2016, §4.3: 0.1, divided by 10 every 20,000 steps
    /// let schedule = Schedule::Step { initial: 0.1, factor: 10.0, every: 20_000 };
    /// assert_eq!(schedule.rate(19_999, 50_000), 0.1);
    /// assert!((schedule.rate(20_000, 50_000) - 0.01).abs() < 1e-12);
    /// // half way down a cosine
    /// assert!((Schedule::Cosine(0.1).rate(50, 100) - 0.05).abs() < 1e-12);
    /// ```
    pub fn rate(&self, step: u64, total: u64) -> f64 {
        let done = step.min(total) as f64;
        match *self {
            Self::Constant(rate) => rate,
            Self::Step { initial, factor, every } => initial / factor.powf((step / every.max(1)) as f64),
            Self::Cosine(rate) => between(rate, 0.0, done / total.max(1) as f64),
            Self::OneCycle(rate) => {
                let (first, last) = (rate / 25.0, rate / 25.0 / 1e4);
                let peak = RISE * total as f64 - 1.0;
                if done <= peak {
                    between(first, rate, done / peak)
                } else {
                    between(rate, last, ((done - peak) / (total as f64 - 1.0 - peak)).min(1.0))
                }
            }
        }
    }
}

/// From `start` to `end` along half a cosine.
fn between(start: f64, end: f64, fraction: f64) -> f64 {
    end + (start - end) * (1.0 + (PI * fraction).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_finite_and_never_above_the_highest() {
        let kinds = [
            Schedule::Constant(0.3),
            Schedule::Step { initial: 0.3, factor: 10.0, every: 200 },
            Schedule::Cosine(0.3),
            Schedule::OneCycle(0.3),
        ];
        for schedule in kinds {
            for total in [1, 2, 3, 4, 10, 1000] {
                for step in 0..total {
                    let rate = schedule.rate(step, total);
                    assert!(rate > 0.0 && rate <= 0.3 + 1e-12, "{schedule:?}: {rate} at {step} of {total}");
                }
            }
        }
    }
}
