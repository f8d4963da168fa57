//! `[output]`: what a run writes besides the files that it always does.

use serde::{Deserialize, Serialize};

use crate::output::OutputFormat;

/// `[output]`: what a run writes besides the files that it always does. Does not change what is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputConfig {
    /// A further format of the assignments: `csv` (always written), `tsv`, `parquet`, `npy`, `arrow`, `h5ad`. Default `csv`.
    pub format: OutputFormat,
    /// Whether that file has the latent rows too; an `h5ad` always has. Default false.
    pub embedding: bool,
    /// Whether that file has the soft assignments to all clusters too. Default false.
    pub memberships: bool,
    /// Whether `model.onnx` is written. Default false.
    pub onnx: bool,
    /// Whether `report.html` is written. Default true.
    pub report: bool,
    /// Whether the run is written for TensorBoard too, to `tensorboard/`. Default false.
    pub tensorboard: bool,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            format: OutputFormat::default(),
            embedding: false,
            memberships: false,
            onnx: false,
            report: true,
            tensorboard: false,
        }
    }
}
