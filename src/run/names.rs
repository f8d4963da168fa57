//! The names of the files in a run's directory, and the number of their format.

use std::fs;
use std::path::Path;

use crate::output::OutputFormat;

/// The number of the format of checkpoints and run directories that this program writes. Format 1 kept no checkpoints.
pub const FORMAT: u32 = 3;

/// The last file that a run writes.
pub const SUMMARY: &str = "summary.json";
/// The resolved recipe.
pub const CONFIG: &str = "config.toml";
/// A line for each epoch, restart, round and stage.
pub const EVENTS: &str = "events.jsonl";
/// The weights under PyTorch's names.
pub const WEIGHTS: &str = "weights.safetensors";
/// The TorchScript predictor.
pub const MODEL: &str = "model.pt";
/// Row, cluster, confidence, second choice, entropy, outlier score.
pub const ASSIGNMENTS: &str = "assignments.csv";

/// The page that shows what was found.
pub const REPORT: &str = "report.html";
/// The directory of what is written for TensorBoard.
pub const TENSORBOARD: &str = "tensorboard";
/// The predictor as ONNX, where the recipe asks for it.
pub const ONNX: &str = "model.onnx";
/// How many clusters there may be, and why: as JSON, as a table, and as a plot.
pub const CHOICE: &str = "choose-k.json";
/// A line for each number of clusters that was tried.
pub const CHOICE_TABLE: &str = "choose-k.csv";
/// The same as a plot.
pub const CHOICE_PLOT: &str = "choose-k.svg";
/// Further tables of the assignments.
pub(super) const TABLES: [(OutputFormat, &str); 6] = [
    (OutputFormat::Csv, "embedding.csv"), // the plain one is always there
    (OutputFormat::Tsv, "assignments.tsv"),
    (OutputFormat::Parquet, "assignments.parquet"),
    (OutputFormat::Npy, "assignments.npy"),
    (OutputFormat::Arrow, "assignments.arrow"),
    (OutputFormat::H5ad, "assignments.h5ad"),
];

/// What it takes to go on, while the run is not finished.
pub const CHECKPOINTS: &str = "checkpoints";

/// Whether the run in `run` has a checkpoint, whole or not.
pub(super) fn has_checkpoint(run: &Path) -> bool {
    !numbers(&run.join(CHECKPOINTS)).is_empty()
}

/// The numbers of the checkpoints in `dir` that have a marker, in ascending order.
pub(super) fn numbers(dir: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok();
    let mut numbers: Vec<u64> = entries.flatten().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}
