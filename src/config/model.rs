//! `[model]`: the network.

use serde::{Deserialize, Serialize};

use super::auto::Widths;
use super::range::{positive, require};
use crate::error::Result;

/// A layer wider than this is a typing error, not a network.
const MAX_WIDTH: usize = 1 << 20;

/// `[model]`: the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Widths of the encoder's hidden layers, each 1 to 2²⁰, or `auto` (`[500, 500, 2000]`; `[128, 128, 512]` for up to 20,000
    /// rows that are neither images nor shifted series). The decoder mirrors them. Default `auto`.
    pub hidden: Widths,
    /// m, the width of the latent, 1 to 2²⁰. Default 10.
    pub n_latent: usize,
    /// Distribution of the initial weights. Default `fan_in`.
    pub init: WeightInit,
    /// For `normal`: standard deviation of the initial weights, above 0. Default 0.01 (Xie et al. 2016, §4.3).
    pub init_std: f64,
}

/// Distribution of the initial weights; biases start at 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightInit {
    /// N(0, `init_std`²) (Xie et al. 2016, §4.3).
    Normal,
    /// Uniform in ±1/√(inputs of the layer), as in PyTorch's `nn.Linear` and the code of Guo et al. 2018.
    #[default]
    FanIn,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { hidden: Widths::Auto, n_latent: 10, init: WeightInit::FanIn, init_std: 0.01 }
    }
}

impl ModelConfig {
    pub(super) fn check(&self) -> Result<()> {
        for width in self.hidden.clone().given().unwrap_or_default() {
            layer_width("model.hidden", width)?;
        }
        layer_width("model.n_latent", self.n_latent)?;
        positive("model.init_std", self.init_std)
    }
}

fn layer_width(key: &str, found: usize) -> Result<()> {
    require(key, found, (1..=MAX_WIDTH).contains(&found), &format!("a layer's width, from 1 to {MAX_WIDTH}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::assert_refused;

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("model.hidden", "0", |c| c.model.hidden = Widths::Given(vec![5, 0])),
            ("model.hidden", "1048577", |c| c.model.hidden = Widths::Given(vec![MAX_WIDTH + 1])),
            ("model.n_latent", "0", |c| c.model.n_latent = 0),
            ("model.init_std", "0", |c| c.model.init_std = 0.0),
        ]);
    }
}
