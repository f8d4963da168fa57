//! `[data]`: the rows.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::range::{at_least_one, require};
use crate::data::{FeatureChoice, Format, Missing, Pick, Reading, Scale};
use crate::error::Result;

/// `[data]`: the rows, and what is done to their values before training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `builtin` (10,000 MNIST test digits), `mnist` (all 70,000), the path of a file or folder in any [`Format`], or `-` for
    /// standard input. Default `builtin`.
    pub source: String,
    /// Further files or folders, whose rows follow those of `source`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<String>,
    /// For `mnist`: directory of its four files. Default: the cache that `dec fetch mnist` fills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// File with one label a row (NPY, IDX, CSV, text), for scoring only. Default: those that the rows come with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// The file's format, where its content and name do not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Columns to use, by name. Default: all that can be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Text columns to turn into one 0/1 column for each of their values. Default: those that plainly are such.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categorical: Vec<String>,
    /// The column (of AnnData: of obs) that holds labels, for scoring only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// The column that names the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_column: Option<String>,
    /// Which array of a file that holds several: an NPZ member, a tensor, AnnData's `layers/NAME` or `obsm/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array: Option<String>,
    /// What becomes of missing values: `error`, `mean`, `drop`. Default `error`.
    pub missing: Missing,
    /// Which columns are kept: `auto` (the 2,000 that vary most where sparse rows have more than 5,000), `all`, or how many.
    pub features: FeatureChoice,
    /// Height and width that a folder's images are resized to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<[usize; 2]>,
    /// Whether the sub-folders of a folder of images are labels, for scoring only. Default false.
    pub folder_labels: bool,
    /// Megabytes that the rows may take. Default: the memory that there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<u64>,
    /// How values are scaled: a factor above 0, `auto`, `centre`, `standardise`, `counts` or `unit`. Default `auto`.
    pub scale: Scale,
    /// Number of rows to use, chosen at random from `seed`; at least 1. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: "builtin".to_owned(),
            more: Vec::new(),
            dir: None,
            labels: None,
            format: None,
            columns: Vec::new(),
            categorical: Vec::new(),
            label_column: None,
            id_column: None,
            array: None,
            missing: Missing::Error,
            features: FeatureChoice::Auto,
            image_size: None,
            folder_labels: false,
            max_memory: None,
            scale: Scale::Auto,
            limit: None,
        }
    }
}

impl DataConfig {
    /// Rows that a run has of so many: `limit` at most.
    pub fn rows_of(&self, n_rows: usize) -> usize {
        n_rows.min(self.limit.unwrap_or(usize::MAX))
    }

    /// Takes the text columns that became these 0/1 columns of a model, so that they do so again, whatever values occur; unless some are
    /// named.
    pub fn categorical_of(&mut self, columns: &[String]) {
        if self.categorical.is_empty() {
            let of_values = columns.iter().filter_map(|name| Some(name.split_once('=')?.0.to_owned()));
            self.categorical = of_values.collect::<BTreeSet<_>>().into_iter().collect();
        }
    }

    /// How the file is to be read.
    pub fn reading(&self) -> Reading<'_> {
        let pick = Pick {
            columns: &self.columns,
            categorical: &self.categorical,
            label_column: self.label_column.as_deref(),
            id_column: self.id_column.as_deref(),
            array: self.array.as_deref(),
            image_size: self.image_size,
            folder_labels: self.folder_labels,
            most_bytes: self.max_memory.map_or(0, |megabytes| megabytes.saturating_mul(1_000_000)),
            keeps_double: false,
        };
        Reading { format: self.format, pick, missing: self.missing, features: self.features, ..Reading::default() }
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Scale::Factor(factor) = self.scale {
            require(
                "data.scale",
                factor,
                (factor as f32).is_normal() && factor > 0.0,
                "a number above 0, \"auto\", \"centre\", \"standardise\", \"counts\" or \"unit\"",
            )?;
        }
        if let FeatureChoice::Count(count) = self.features {
            at_least_one("data.features", count as u64)?;
        }
        for side in self.image_size.into_iter().flatten() {
            at_least_one("data.image_size", side as u64)?;
        }
        self.max_memory.map_or(Ok(()), |most| at_least_one("data.max_memory", most))?;
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
