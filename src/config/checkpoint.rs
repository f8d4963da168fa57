//! `[checkpoint]`: when a run saves its state.

use serde::{Deserialize, Serialize};

use super::range::at_least_one;
use crate::error::Result;

/// `[checkpoint]`: when a run saves its state, and how many saves it keeps. Does not change what is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Least seconds between two checkpoints inside a stage, which are written as an epoch or a round ends; 0: at each of
    /// these. The end of a stage always writes one. Default 60.
    pub every_secs: u64,
    /// Number of newest checkpoints to keep, at least 1. Default 2.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_secs: 60, keep: 2 }
    }
}

impl CheckpointConfig {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("checkpoint.keep", self.keep as u64)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::checked::{assert_accepted, assert_refused};

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[("checkpoint.keep", "0", |c| c.checkpoint.keep = 0)]);
        assert_accepted(&[|c| c.checkpoint.keep = 1, |c| c.checkpoint.every_secs = 0]);
    }
}
