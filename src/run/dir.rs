//! The run directory: which files there are, who may write there, and what is written at the end.

use std::fs;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::files::{check_writable, remove_leftovers, write_atomic};
use super::fitted::{Assignment, Reached};
use super::lock::Lock;
use super::names::{has_checkpoint, ASSIGNMENTS, CHECKPOINTS, CONFIG, EVENTS, MODEL, SUMMARY, WEIGHTS};
use super::summary::Summary;
use super::tensors;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::export::{self, Predictor};

/// What a run's directory holds when a run is to begin there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing that a run has come to.
    Nothing,
    /// A run that can go on.
    Unfinished,
    /// Results.
    Results,
}

/// The directory of one run, which this process alone writes to.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: Lock,
}

impl RunDir {
    /// What `path` holds.
    pub fn content(path: &Path) -> Content {
        if has_checkpoint(path) {
            return Content::Unfinished;
        }
        let results =
            [SUMMARY, WEIGHTS, MODEL, ASSIGNMENTS].iter().any(|name| path.join(name).symlink_metadata().is_ok());
        if results {
            Content::Results
        } else {
            Content::Nothing
        }
    }

    /// Makes the directory `path` for a new run, and checks that files can be written there. What is left of a run that came to
    /// nothing is written over; anything else in the directory stays.
    ///
    /// # Errors
    /// [`Error::Output`] if it cannot be made or written, if another process writes there, or if it holds an earlier run and
    /// `replace` is not given.
    pub fn create(path: &Path, replace: bool) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| Error::output(path, format!("cannot make this directory: {e}")))?;
        let dir = Self::open(path)?;
        match Self::content(path) {
            Content::Unfinished if !replace => {
                return Err(Error::output(path, "this directory holds a run that is not finished"));
            }
            Content::Results if !replace => {
                return Err(Error::output(path, "this directory holds the results of a run"));
            }
            _ => {}
        }
        dir.remove_run()?;
        Ok(dir)
    }

    /// Opens the directory of a run that is to go on.
    ///
    /// # Errors
    /// [`Error::Output`] if it is not there, cannot be written, or another process writes there.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::output(path, "there is no such directory"));
        }
        check_writable(path)?;
        let lock = Lock::acquire(path)?;
        remove_leftovers(path);
        remove_leftovers(&path.join(CHECKPOINTS));
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Removes the files of an earlier run, all or none.
    fn remove_run(&self) -> Result<()> {
        let cannot = |path: &Path, why: &dyn std::fmt::Display| {
            Error::output(path, format!("cannot replace what is here: {why}"))
        };
        let files = [SUMMARY, CONFIG, EVENTS, WEIGHTS, MODEL, ASSIGNMENTS].map(|name| self.file(name));
        if let Some(other) = files.iter().find(|path| path.symlink_metadata().is_ok_and(|found| found.is_dir())) {
            return Err(cannot(other, &"it is a directory"));
        }
        for path in files {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(cannot(&path, &e)),
                _ => {}
            }
        }
        match fs::remove_dir_all(self.file(CHECKPOINTS)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(cannot(&self.file(CHECKPOINTS), &e)),
            _ => Ok(()),
        }
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

    /// Bytes that are free on the directory's disk; `None` where that cannot be told.
    pub fn free_bytes(&self) -> Option<u64> {
        #[cfg(unix)]
        {
            let found = nix::sys::statvfs::statvfs(&self.path).ok()?;
            found.blocks_available().checked_mul(found.fragment_size())
        }
        #[cfg(not(unix))]
        None
    }

    /// Writes what was reached: every file is tried, the smallest first, and the summary last, which names those that
    /// could not be written.
    ///
    /// # Errors
    /// [`Error::Unsaved`] with each file that could not be written, and why.
    pub fn write_outcome(&self, reached: &Reached, config: &Config, summary: &mut Summary) -> Result<()> {
        self.make_again(config);
        let mut failed: Vec<(&str, Error)> = Vec::new();
        let tried = |name: &'static str, written: Result<()>, failed: &mut Vec<(&str, Error)>| {
            failed.extend(written.err().map(|problem| (name, problem)));
        };
        if let Some(assignment) = reached.assignment {
            tried(ASSIGNMENTS, write_atomic(&self.file(ASSIGNMENTS), &assignments_csv(assignment)), &mut failed);
        }
        if reached.network.is_some() {
            tried(WEIGHTS, self.write_weights(&reached.named_tensors()?), &mut failed);
        }
        if let Some(script) = script(reached)? {
            tried(MODEL, write_atomic(&self.file(MODEL), &script), &mut failed);
        }
        summary.leave_out(failed.iter().map(|(name, _)| *name));
        tried(SUMMARY, summary.to_json().and_then(|json| write_atomic(&self.file(SUMMARY), &json)), &mut failed);
        if failed.is_empty() {
            return Ok(());
        }
        let problems: Vec<String> = failed.iter().map(|(_, problem)| problem.to_string()).collect();
        Err(Error::Unsaved(format!("not everything could be saved: {}", problems.join("; "))))
    }

    /// Makes the directory again where somebody took it away, so that the results are not lost.
    fn make_again(&self, config: &Config) {
        if self.path.exists() {
            return;
        }
        let made = fs::create_dir_all(&self.path)
            .map_err(|e| Error::output(&self.path, format!("cannot be made again: {e}")))
            .and_then(|()| self.write_config(config));
        match made {
            Ok(()) => tracing::warn!("{} had vanished, and was made again for the results", self.path.display()),
            Err(problem) => tracing::warn!("{problem}"),
        }
    }

    pub(super) fn write_weights(&self, named: &[(String, Tensor)]) -> Result<()> {
        write_atomic(&self.file(WEIGHTS), &tensors::write(named)?)
    }
}

/// The predictor, once there are centroids and where the network can be exported.
pub(super) fn script(reached: &Reached) -> Result<Option<Vec<u8>>> {
    let (Some(layer), Some(network)) = (reached.layer, reached.network) else { return Ok(None) };
    let (Some(encoder), Some(decoder)) = (network.encoder_stack(), network.decoder_stack()) else { return Ok(None) };
    let pairs = |stack: &crate::model::DenseStack| -> Vec<(Tensor, Tensor)> {
        let layers = stack.layers().iter();
        layers.map(|layer| (layer.weight.shallow_clone(), layer.bias.shallow_clone())).collect()
    };
    let predictor = Predictor {
        encoder: &pairs(&encoder),
        decoder: &pairs(&decoder),
        centroids: layer.centroids(),
        alpha: layer.alpha(),
        intake: reached.intake,
        scaling: reached.scaling,
    };
    export::to_torchscript(&predictor).map(Some)
}

/// `row,cluster,confidence`, a line for each of the input's rows, in their order; `row,id,cluster,confidence` where rows have names.
pub fn assignments_csv(assignment: &Assignment) -> Vec<u8> {
    let Assignment { rows, labels, confidence, ids } = assignment;
    let named = ids.len() == rows.len() && !ids.is_empty();
    let mut text = String::from(if named { "row,id,cluster,confidence\n" } else { "row,cluster,confidence\n" });
    for (place, ((row, label), confidence)) in rows.iter().zip(labels).zip(confidence).enumerate() {
        let id = if named { quoted(&ids[place]) + "," } else { String::new() };
        text.push_str(&format!("{row},{id}{label},{confidence}\n"));
    }
    text.into_bytes()
}

/// A cell of a CSV file; one that a spreadsheet would take for a formula is no formula in quotes either, and stays what it is.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::values_of;
    use crate::model::Autoencoder;
    use tch::Device;

    #[test]
    fn weights_come_back_bit_for_bit_under_their_names() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path(), false).unwrap();
        tch::manual_seed(3);
        let network = Autoencoder::new(&[7, 5, 3], Device::Cpu, crate::model::Init::Normal(0.1)).unwrap();
        let named = network.named_parameters();
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
    fn a_directory_with_results_is_left_alone_and_one_without_is_used() {
        let root = tempfile::tempdir().unwrap();
        for name in [CONFIG, EVENTS, "notes.txt"] {
            std::fs::write(root.path().join(name), "left").unwrap();
        }
        RunDir::create(root.path(), false).unwrap();
        assert!(!root.path().join(EVENTS).exists() && root.path().join("notes.txt").exists());

        std::fs::write(root.path().join(SUMMARY), "mine").unwrap();
        let refused = RunDir::create(root.path(), false).unwrap_err();
        assert!(refused.to_string().contains("results"), "{refused}");
        assert_eq!(std::fs::read(root.path().join(SUMMARY)).unwrap(), b"mine");

        // What cannot be replaced is found out before anything is removed.
        std::fs::create_dir(root.path().join(MODEL)).unwrap();
        let refused = RunDir::create(root.path(), true).unwrap_err();
        assert!(refused.to_string().contains("model.pt") && root.path().join(SUMMARY).exists(), "{refused}");
        std::fs::remove_dir(root.path().join(MODEL)).unwrap();
        RunDir::create(root.path(), true).unwrap();
        assert!(!root.path().join(SUMMARY).exists(), "the old run's summary must not pass for the new one's");

        std::fs::create_dir(root.path().join(CHECKPOINTS)).unwrap();
        RunDir::create(root.path(), false).unwrap();
        std::fs::create_dir(root.path().join(CHECKPOINTS)).unwrap();
        std::fs::write(root.path().join(CHECKPOINTS).join("000000.json"), "{}").unwrap();
        assert!(RunDir::create(root.path(), false).unwrap_err().to_string().contains("not finished"));
    }

    #[test]
    fn assignments_are_a_line_a_row() {
        let assignment =
            Assignment { rows: vec![0, 7], labels: vec![3, 1], confidence: vec![0.5, 1.0], ids: Vec::new() };
        assert_eq!(assignments_csv(&assignment), b"row,cluster,confidence\n0,3,0.5\n7,1,1\n");
        let named = Assignment { ids: vec!["a".to_owned(), "b, \"c\"".to_owned()], ..assignment };
        let expected = "row,id,cluster,confidence\n0,a,3,0.5\n7,\"b, \"\"c\"\"\",1,1\n";
        assert_eq!(String::from_utf8(assignments_csv(&named)).unwrap(), expected);
    }
}
