//! The run directory: what a run writes, and when.
//!
//! | file | written | content |
//! |---|---|---|
//! | `config.toml` | before training | the fully resolved recipe |
//! | `events.jsonl` | while training | a line an epoch, restart, round, stage and further network |
//! | `weights.safetensors` | at the end | the weights, under PyTorch's names |
//! | `model.pt` | at the end | the TorchScript predictor |
//! | `assignments.csv` | at the end | row, cluster, confidence |
//! | `summary.json` | last of all | results, stages, sizes, versions: its presence says that the rest is complete |
//!
//! Each file but the event log is written beside its place and renamed into it, so none is ever half there.

mod events;
mod files;
mod summary;

use std::fs;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

pub use events::EventLog;
pub use files::{check_writable, write_atomic};
pub use summary::{Outcome, Summary};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::export::{self, Predictor};
use crate::train::{Assignment, Trainer};

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
/// Row, cluster, confidence.
pub const ASSIGNMENTS: &str = "assignments.csv";

/// The directory of one run.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the directory `path` and checks that files can be written there.
    ///
    /// # Errors
    /// [`Error::Output`] if it cannot be made or written, or if it holds something already and `force` is not given.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        fs::create_dir_all(path)
            .map_err(|e| Error::output(path, format!("cannot make this directory: {e}; name another with --out")))?;
        let mut entries =
            fs::read_dir(path).map_err(|e| Error::output(path, format!("cannot read this directory: {e}")))?;
        if !force && entries.next().is_some() {
            return Err(Error::output(
                path,
                "this directory is not empty; name another with --out, or write over what is there with --force",
            ));
        }
        check_writable(path)?;
        let dir = Self { path: path.to_owned() };
        for stale in [SUMMARY, CONFIG, EVENTS, WEIGHTS, MODEL, ASSIGNMENTS] {
            match fs::remove_file(dir.file(stale)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::output(dir.file(stale), format!("cannot replace this file: {e}")));
                }
                _ => {}
            }
        }
        Ok(dir)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the resolved recipe.
    ///
    /// # Errors
    /// [`Error::Output`] if it cannot be written.
    pub fn write_config(&self, config: &Config) -> Result<()> {
        write_atomic(&self.file(CONFIG), config.to_toml()?.as_bytes())
    }

    /// Writes everything that `trainer` has reached, the summary last.
    ///
    /// # Errors
    /// [`Error::Output`] if a file cannot be written.
    pub fn write_outcome(&self, trainer: &Trainer, summary: &Summary) -> Result<()> {
        self.write_weights(&trainer.dec.named_tensors()?)?;
        if let Some(clustering) = &trainer.dec.clustering {
            let script = export::to_torchscript(&Predictor {
                encoder: &trainer.dec.autoencoder.encoder_weights(),
                decoder: &trainer.dec.autoencoder.decoder_weights(),
                centroids: clustering.centroids(),
                alpha: clustering.alpha(),
                scaling: &trainer.dec.scaling,
            })?;
            write_atomic(&self.file(MODEL), &script)?;
        }
        if let Some(assignment) = &trainer.assignment {
            write_atomic(&self.file(ASSIGNMENTS), &assignments_csv(assignment))?;
        }
        let json = serde_json::to_vec_pretty(summary)
            .map_err(|e| Error::output(self.file(SUMMARY), format!("cannot be written as JSON: {e}")))?;
        write_atomic(&self.file(SUMMARY), &json)
    }

    fn write_weights(&self, named: &[(String, Tensor)]) -> Result<()> {
        let on_cpu: Vec<(&str, Tensor)> = named
            .iter()
            .map(|(name, t)| Ok((name.as_str(), t.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?)))
            .collect::<Result<_>>()?;
        let target = self.file(WEIGHTS);
        files::write_atomic_with(&target, |temporary| {
            Tensor::write_safetensors(&on_cpu, temporary).map_err(|e| Error::output(&target, e.to_string()))
        })
    }
}

/// `row,cluster,confidence`, a line for each of the input's rows, in their order.
pub fn assignments_csv(assignment: &Assignment) -> Vec<u8> {
    let mut text = String::from("row,cluster,confidence\n");
    for ((row, label), confidence) in assignment.rows.iter().zip(&assignment.labels).zip(&assignment.confidence) {
        text.push_str(&format!("{row},{label},{confidence}\n"));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::values_of;
    use crate::model::Autoencoder;

    #[test]
    fn weights_come_back_bit_for_bit_under_their_names() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path(), false).unwrap();
        tch::manual_seed(3);
        let named =
            Autoencoder::new(&[7, 5, 3], Device::Cpu, crate::model::Init::Normal(0.1)).unwrap().named_parameters();
        dir.write_weights(&named).unwrap();
        let mut read = Tensor::read_safetensors(dir.file("weights.safetensors")).unwrap();
        assert_eq!(read.len(), named.len());
        for (name, tensor) in &named {
            let at = read.iter().position(|(found, _)| found == name).unwrap();
            let (_, found) = read.swap_remove(at);
            assert_eq!(found.size(), tensor.size(), "{name}");
            let bits = |t: &Tensor| values_of::<f32>(t).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(&found), bits(tensor), "{name}");
        }
    }

    #[test]
    fn a_directory_with_something_in_it_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(SUMMARY), "mine").unwrap();
        let refused = RunDir::create(root.path(), false).unwrap_err();
        assert!(refused.to_string().contains("--force"), "{refused}");
        assert_eq!(std::fs::read(root.path().join(SUMMARY)).unwrap(), b"mine");
        RunDir::create(root.path(), true).unwrap();
        assert!(!root.path().join(SUMMARY).exists(), "the old run's summary must not pass for the new one's");
    }

    #[test]
    fn assignments_are_a_line_a_row() {
        let assignment = Assignment { rows: vec![0, 7], labels: vec![3, 1], confidence: vec![0.5, 1.0] };
        assert_eq!(assignments_csv(&assignment), b"row,cluster,confidence\n0,3,0.5\n7,1,1\n");
    }
}
