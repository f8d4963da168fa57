//! The run directory: which files there are, who may write there, and what is written at the end.

use std::fs;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::fitted::{rows_at, Assignment, Reached};
use super::lock::Lock;
use super::names::{
    has_checkpoint, ASSIGNMENTS, CHECKPOINTS, CHOICE, CHOICE_PLOT, CHOICE_TABLE, CONFIG, EVENTS, MODEL, ONNX, REPORT,
    SUMMARY, TABLES, TENSORBOARD, WEIGHTS,
};
use super::summary::Summary;
use super::tensors;
use crate::config::{Config, OutputConfig};
use crate::data::values_of;
use crate::error::{Error, Result};
use crate::export::{self, Predictor};
use crate::files::{self, check_writable, remove_leftovers, write_atomic};
use crate::output::{self, Header, OutputFormat};

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
        let results = [SUMMARY, WEIGHTS, MODEL, ASSIGNMENTS, CHOICE]
            .iter()
            .any(|name| path.join(name).symlink_metadata().is_ok());
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
        let names =
            [SUMMARY, CONFIG, EVENTS, WEIGHTS, MODEL, ONNX, ASSIGNMENTS, REPORT, CHOICE, CHOICE_TABLE, CHOICE_PLOT];
        let files: Vec<PathBuf> =
            names.into_iter().chain(TABLES.map(|(_, name)| name)).map(|name| self.file(name)).collect();
        if let Some(other) = files.iter().find(|path| path.symlink_metadata().is_ok_and(|found| found.is_dir())) {
            return Err(cannot(other, &"it is a directory"));
        }
        for path in files {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(cannot(&path, &e)),
                _ => {}
            }
        }
        for folder in [CHECKPOINTS, TENSORBOARD].map(|name| self.file(name)) {
            match fs::remove_dir_all(&folder) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(cannot(&folder, &e)),
                _ => {}
            }
        }
        Ok(())
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
        files::free_bytes(&self.path)
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
            tried(ASSIGNMENTS, self.write_assignments(assignment), &mut failed);
        }
        if reached.network.is_some() {
            tried(WEIGHTS, self.write_weights(&reached.named_tensors()?), &mut failed);
        }
        if let Some(script) = with_predictor(reached, export::to_torchscript)? {
            tried(MODEL, write_atomic(&self.file(MODEL), &script), &mut failed);
        }
        if let Some((table, name)) = further_table(&config.output) {
            tried(name, self.write_table(reached, config, &table, name), &mut failed);
        }
        if config.output.onnx {
            tried(ONNX, self.write_onnx(reached), &mut failed);
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

    /// The further table and the ONNX file, where the recipe asks for them.
    pub(super) fn write_further(&self, reached: &Reached, config: &Config) -> Result<()> {
        if let Some((table, name)) = further_table(&config.output) {
            self.write_table(reached, config, &table, name)?;
        }
        if config.output.onnx {
            self.write_onnx(reached)?;
        }
        Ok(())
    }

    fn write_onnx(&self, reached: &Reached) -> Result<()> {
        let onnx = with_predictor(reached, |predictor| export::to_onnx(predictor, reached.columns))?;
        onnx.map_or(Ok(()), |onnx| write_atomic(&self.file(ONNX), &onnx))
    }

    /// The assignments in the further format that the recipe asks for.
    fn write_table(&self, reached: &Reached, config: &Config, table: &OutputConfig, name: &str) -> Result<()> {
        let (Some(assignment), Some((z, q, places))) = (reached.assignment, &reached.tables) else { return Ok(()) };
        let shape = [q.size()[1] as usize, z.size()[1] as usize];
        let OutputConfig { format, embedding, memberships, .. } = *table;
        let header = Header { embedding, memberships, ..assignment.header(shape) };
        // Several files are no one's copy.
        let source = if config.data.more.is_empty() { &config.data.source } else { "" };
        let mut writer = output::create_for(Path::new(source), &self.file(name), format, header)?;
        let values = |wanted: bool, tensor: &Tensor| match wanted {
            true => values_of::<f32>(&rows_at(tensor, places)?).map(Some),
            false => Ok(None),
        };
        let (z, q) = (values(embedding, z)?, values(memberships, q)?);
        assignment.write(&mut *writer, z.as_deref(), q.as_deref())?;
        writer.finish().map(drop)
    }

    /// The further tables that are in the directory.
    pub fn further_tables(&self) -> Vec<PathBuf> {
        TABLES.iter().map(|(_, name)| self.file(name)).filter(|path| path.exists()).collect()
    }

    pub(super) fn write_assignments(&self, assignment: &Assignment) -> Result<()> {
        write_atomic(&self.file(ASSIGNMENTS), &assignment.to_csv()?)
    }

    pub(super) fn write_weights(&self, named: &[(String, Tensor)]) -> Result<()> {
        write_atomic(&self.file(WEIGHTS), &tensors::write(named)?)
    }
}

/// What the recipe asks for besides the plain CSV, and the file that it goes to.
fn further_table(config: &OutputConfig) -> Option<(OutputConfig, &'static str)> {
    let OutputConfig { format, embedding, memberships, .. } = *config;
    if format == OutputFormat::Csv && !embedding && !memberships {
        return None;
    }
    let (_, name) = TABLES.into_iter().find(|(known, _)| *known == format)?;
    Some((OutputConfig { embedding: embedding || format == OutputFormat::H5ad, ..*config }, name))
}

/// What `make` makes of the predictor, once there are centroids and where the network can be exported.
pub(super) fn with_predictor(
    reached: &Reached,
    make: impl Fn(&Predictor) -> Result<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let (Some(layer), Some(network)) = (reached.layer, reached.network) else { return Ok(None) };
    Predictor::with(network, layer, (reached.intake, reached.scaling), reached.profile, make)
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
        let assignment = Assignment {
            rows: vec![0, 7],
            labels: vec![3, 1],
            confidence: vec![0.5, 1.0],
            second: vec![0, 2],
            entropy: vec![0.75, 0.0],
            outlier: None,
            ids: Vec::new(),
            names: Vec::new(),
        };
        assert_eq!(assignment.to_csv().unwrap(), b"row,cluster,confidence,second,entropy\n0,3,0.5,0,0.75\n7,1,1,2,0\n");
        let ids = vec!["a".to_owned(), "b, \"c\"".to_owned()];
        let named = Assignment { ids, outlier: Some(vec![0.25, 1.0]), ..assignment };
        let expected =
            "row,id,cluster,confidence,second,entropy,outlier\n0,a,3,0.5,0,0.75,0.25\n7,\"b, \"\"c\"\"\",1,1,2,0,1\n";
        assert_eq!(String::from_utf8(named.to_csv().unwrap()).unwrap(), expected);
        let names = ["0", "T, \"1\"", "2", "neurons"].map(str::to_owned).to_vec();
        let called = Assignment { ids: Vec::new(), outlier: None, labels: vec![3, 1], names, ..named };
        let expected =
            "row,cluster,name,confidence,second,entropy\n0,3,neurons,0.5,0,0.75\n7,1,\"T, \"\"1\"\"\",1,2,0\n";
        assert_eq!(String::from_utf8(called.to_csv().unwrap()).unwrap(), expected);
    }
}
