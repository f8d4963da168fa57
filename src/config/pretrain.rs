//! `[pretrain]`: pretraining of the autoencoder.

use serde::{Deserialize, Serialize};

use super::auto::Count;
use super::optimisation::section_with_optimisation;
use super::range::{fraction, optional_at_least_one};
use crate::error::{Error, Result};

section_with_optimisation! {
    /// `[pretrain]`: pretraining of the autoencoder.
    pub struct PretrainConfig {
        /// All layers together or one after the other. Default `end_to_end`.
        pub method: PretrainMethod = PretrainMethod::EndToEnd,
        /// Epochs (layer-wise: for each layer), at least 1, or `auto` (by the number of rows; layer-wise 50). Default `auto`.
        pub epochs: Count = Count::Auto,
        /// Optimiser steps (layer-wise: for each layer), at least 1; replaces `epochs`. Default: not set.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub steps: Option<u64> = None,
        batch_size,
        /// Layer-wise: fraction of the input's and the code's values set to 0, 0 to below 1. Default 0.
        pub dropout: f64 = 0.0,
        /// Whether batches are augmented (layer-wise: of the first layer only). Default true.
        pub augment: bool = true,
        optimisation { lr: 3e-3, schedule: OneCycle },
    }
}

/// How the autoencoder is pretrained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PretrainMethod {
    /// Greedily, each layer as a denoising autoencoder of its own (Xie et al. 2016, §3.2).
    Layerwise,
    /// All layers at once (Guo et al. 2018).
    #[default]
    EndToEnd,
}

impl PretrainConfig {
    pub(super) fn check(&self) -> Result<()> {
        optional_at_least_one("pretrain.epochs", self.epochs.given())?;
        optional_at_least_one("pretrain.steps", self.steps)?;
        fraction("pretrain.dropout", self.dropout)?;
        if self.dropout > 0.0 && self.method == PretrainMethod::EndToEnd {
            return Err(Error::Config(format!(
                "pretrain.dropout = {}: goes with pretrain.method = \"layerwise\" only; [augment] is what corrupts the rows \
                 of the other",
                self.dropout
            )));
        }
        self.optimisation().check("pretrain")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::assert_refused;

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("pretrain.epochs", "0", |c| c.pretrain.epochs = Count::Given(0)),
            ("pretrain.steps", "0", |c| c.pretrain.steps = Some(0)),
            ("pretrain.dropout", "1", |c| c.pretrain.dropout = 1.0),
            ("pretrain.dropout", "goes with pretrain.method = \"layerwise\" only", |c| c.pretrain.dropout = 0.2),
            ("pretrain.batch_size", "0", |c| c.pretrain.batch_size = 0),
            ("pretrain.lr", "-0.1", |c| c.pretrain.lr = -0.1),
            ("pretrain.momentum", "1.5", |c| c.pretrain.momentum = 1.5),
            ("pretrain.lr_decay_factor", "0", |c| c.pretrain.lr_decay_factor = 0.0),
            ("pretrain.lr_decay_steps", "7", |c| c.pretrain.lr_decay_steps = Some(7)),
        ]);
    }
}
