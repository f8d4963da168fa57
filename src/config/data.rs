//! `[data]`: the rows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::range::{at_least_one, require};
use crate::data::Scale;
use crate::error::Result;

/// `[data]`: the rows, and what is done to their values before training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `builtin` (10,000 MNIST test digits), `mnist` (all 70,000), or the path of an IDX or NPY file. Default `builtin`.
    pub source: String,
    /// For `mnist`: directory of its four files. Default: the cache that `dec fetch mnist` fills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// IDX or NPY file with one integer a row, for scoring only. Default: the labels that `builtin` and `mnist` bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// How values are scaled: a factor above 0, `auto`, `centre`, `standardise` or `counts`. Default `auto`.
    pub scale: Scale,
    /// Number of rows to use, chosen at random from `seed`; at least 1. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { source: "builtin".to_owned(), dir: None, labels: None, scale: Scale::Auto, limit: None }
    }
}

impl DataConfig {
    pub(super) fn check(&self) -> Result<()> {
        if let Scale::Factor(factor) = self.scale {
            require(
                "data.scale",
                factor,
                (factor as f32).is_normal() && factor > 0.0,
                "a number above 0, \"auto\", \"centre\", \"standardise\" or \"counts\"",
            )?;
        }
        self.limit.map_or(Ok(()), |limit| at_least_one("data.limit", limit as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::assert_refused;

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("data.scale", "-1", |c| c.data.scale = Scale::Factor(-1.0)),
            ("data.scale", "0", |c| c.data.scale = Scale::Factor(0.0)),
            ("data.scale", "NaN", |c| c.data.scale = Scale::Factor(f64::NAN)),
            // Not 0, but its float32 is not a normal number.
            ("data.scale", "0.0000", |c| c.data.scale = Scale::Factor(1e-40)),
            ("data.limit", "0", |c| c.data.limit = Some(0)),
        ]);
    }
}
