//! `[finetune]`: fine-tuning of the whole autoencoder.

use serde::{Deserialize, Serialize};

use super::optimisation::section_with_optimisation;
use super::range::optional_at_least_one;
use crate::error::Result;

section_with_optimisation! {
    /// `[finetune]`: the whole autoencoder, without dropout.
    pub struct FinetuneConfig {
        /// Epochs, at least 0; 0 skips the stage, which pretraining end to end makes needless. Default 0.
        pub epochs: u64 = 0,
        /// Optimiser steps, at least 1; replaces `epochs`. Default: not set.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub steps: Option<u64> = None,
        batch_size,
        /// Whether batches are augmented. Default true.
        pub augment: bool = true,
        optimisation { lr: 1e-3, schedule: Cosine },
    }
}

impl FinetuneConfig {
    pub(super) fn check(&self) -> Result<()> {
        optional_at_least_one("finetune.steps", self.steps)?;
        self.optimisation().check("finetune")
    }
}

#[cfg(test)]
mod tests {
    use crate::config::checked::assert_refused;

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("finetune.steps", "0", |c| c.finetune.steps = Some(0)),
            ("finetune.batch_size", "0", |c| c.finetune.batch_size = 0),
            ("finetune.lr", "NaN", |c| c.finetune.lr = f64::NAN),
            ("finetune.momentum", "-1", |c| c.finetune.momentum = -1.0),
        ]);
    }
}
