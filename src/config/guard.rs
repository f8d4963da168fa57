//! `[guard]`: what a run does about training that goes wrong.

use serde::{Deserialize, Serialize};

use super::range::{fraction, require};
use crate::error::Result;

/// `[guard]`: what a run does about training that goes wrong. Does not change training that goes well.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Most times that training which diverges goes back to the last boundary, with a lower rate, at least 0. Default 2.
    pub max_rollbacks: u64,
    /// Divisor of the learning rate at each of these, above 1. Default 10.
    pub rate_factor: f64,
    /// A cluster that shrinks below this fraction of its size at the start of self-training is reported, 0 to below 1; 0:
    /// none is. Default 0.1.
    pub min_fraction: f64,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { max_rollbacks: 2, rate_factor: 10.0, min_fraction: 0.1 }
    }
}

impl GuardConfig {
    pub(super) fn check(&self) -> Result<()> {
        let lowers = self.rate_factor.is_finite() && self.rate_factor > 1.0;
        require("guard.rate_factor", self.rate_factor, lowers, "a number above 1")?;
        fraction("guard.min_fraction", self.min_fraction)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::checked::{assert_accepted, assert_refused};

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("guard.rate_factor", "1", |c| c.guard.rate_factor = 1.0),
            ("guard.rate_factor", "NaN", |c| c.guard.rate_factor = f64::NAN),
            ("guard.rate_factor", "inf", |c| c.guard.rate_factor = f64::INFINITY),
            ("guard.min_fraction", "1", |c| c.guard.min_fraction = 1.0),
            ("guard.min_fraction", "-0.1", |c| c.guard.min_fraction = -0.1),
        ]);
        assert_accepted(&[
            |c| c.guard.rate_factor = 1.01,
            |c| c.guard.min_fraction = 0.0,
            |c| c.guard.max_rollbacks = 0,
        ]);
    }
}
