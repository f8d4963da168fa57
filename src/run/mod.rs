//! A run: the trainer that goes through the stages, and the directory that it leaves.
//!
//! | file | written | content |
//! |---|---|---|
//! | `config.toml` | before training | the fully resolved recipe |
//! | `events.jsonl` | while training | a line an epoch, restart, round, stage and further network |
//! | `choose-k.json`, `.csv`, `.svg` | where the number of clusters was looked for | what was found for each number, and the recommendation |
//! | `checkpoints/` | while training | what it takes to go on, the newest two; gone when the run has finished |
//! | `weights.safetensors` | at the end | the weights, under PyTorch's names |
//! | `model.pt` | at the end | the TorchScript predictor |
//! | `assignments.csv` | at the end | row, cluster, confidence, second choice, entropy, outlier score |
//! | `assignments.*`, `model.onnx` | at the end | the same in another format, the predictor as ONNX: where `[output]` asks for them |
//! | `summary.json` | last of these | results, stages, sizes, versions: its presence says that the rest was tried |
//! | `report.html` | then | what was found, to look at ([`crate::report`]); unless `output.report` is false |
//!
//! Each file but the event log is written beside its place and renamed into it, so none is ever half there.

mod checkpoint;
mod decode;
mod dir;
mod duration;
mod estimate;
mod events;
mod fitted;
mod keeper;
mod lock;
mod merged;
mod names;
mod saved;
mod shared;
mod summary;
mod tensors;
mod trainer;

pub use crate::files::{check_writable, write_atomic};
pub use checkpoint::{weights_sha256, Checkpoint, Checkpoints, Identity};
pub use dir::{Content, RunDir};
pub use duration::{expected, Expected};
pub use estimate::{estimate, Estimate};
pub(crate) use events::Told;
pub use events::{parse_events, EventLog};
pub(crate) use fitted::widths;
pub use fitted::{Assignment, Fitted, Image, Model, Reached};
pub use keeper::{Keeper, Moment, Part};
pub use lock::{Lock, LOCK};
pub use merged::{Merged, Passed};
pub use names::{
    ASSIGNMENTS, CHECKPOINTS, CHOICE, CHOICE_PLOT, CHOICE_TABLE, CONFIG, EVENTS, FORMAT, MODEL, ONNX, REPORT, SUMMARY,
    TENSORBOARD, WEIGHTS,
};
pub use saved::{read_config, set_names, Called};
pub use shared::{autoencoder_group, SharedParts};
pub use summary::{Outcome, Summary};
pub use trainer::Trainer;
