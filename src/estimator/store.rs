//! A fitted [`Dec`] on disk: a run directory, as the binary `dec` writes and reads it.

use std::path::Path;

use super::{labels_of, Dec};
use crate::backend;
use crate::config::Config;
use crate::control::{Control, MethodResult};
use crate::data::{array_of, ToDataset};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::report::{self, Sample};
use crate::run::{read_config, Assignment, Content, Model, RunDir, ASSIGNMENTS, EVENTS, SUMMARY};
use crate::state::order_of;

impl Dec {
    /// Saves it as a run directory, which [`Dec::load`] and `dec predict` read: `config.toml`, `weights.safetensors`, `model.pt` (a
    /// TorchScript predictor), `assignments.csv`, `events.jsonl`, `summary.json`. The directory is made where it is not there.
    ///
    /// # Errors
    /// [`Error::Output`] for a directory that cannot be written or holds the results of another run, or a libtorch failure.
    ///
    /// ```
    /// use dec::Dec;
    /// # let dir = tempfile::tempdir().map_err(|e| dec::Error::output("a temporary directory", e.to_string()))?;
    /// # let path = dir.path().join("run");
    /// let x = ndarray::Array2::from_shape_fn((60, 4), |(i, j)| (i % 3) as f32 * 5.0 + ((7 * i + j) % 5) as f32 * 0.1);
    /// let dec = Dec::params(3).set("start.networks", 1).set("cluster.max_rounds", 2).fit(&x)?;
    /// dec.save(&path)?;
    /// let again = Dec::load(&path)?;
    /// assert_eq!(again.labels(), dec.labels());
    /// assert_eq!(again.transform(&x)?, dec.transform(&x)?);
    /// # Ok::<(), dec::Error>(())
    /// ```
    pub fn save(&self, directory: impl AsRef<Path>) -> Result<()> {
        let dir = RunDir::create(directory.as_ref(), false)?;
        let assignment = (!self.assignment.rows.is_empty()).then_some(&self.assignment);
        if !self.events.is_empty() {
            write_atomic(&dir.file(EVENTS), &self.events)?;
        }
        dir.write_model(&self.model, assignment, &self.config, &self.summary)
    }

    /// Writes the report, a page of HTML that needs nothing else, to `output`: what was found in the rows `x` of the fit, how sure
    /// it is and why these rows are together. Where `x` is a [`Dataset`](crate::data::Dataset) with names of rows, or with classes, it tells of them too.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Rows`] for rows that are not those of the fit; [`Error::Output`] for a page that cannot be
    /// written; or a libtorch failure.
    ///
    /// ```
    /// use dec::Dec;
    /// # let dir = tempfile::tempdir().map_err(|e| dec::Error::output("a temporary directory", e.to_string()))?;
    /// # let page = dir.path().join("report.html");
    /// let x = ndarray::Array2::from_shape_fn((60, 4), |(i, j)| (i % 3) as f32 * 5.0 + ((7 * i + j) % 5) as f32 * 0.1);
    /// let dec = Dec::params(3).set("start.networks", 1).set("cluster.max_rounds", 2).fit(&x)?;
    /// dec.report(&x, &page)?;
    /// assert!(page.exists());
    /// # Ok::<(), dec::Error>(())
    /// ```
    pub fn report<X: ToDataset + ?Sized>(&self, x: &X, output: impl AsRef<Path>) -> Result<()> {
        let other = || Error::Rows("a report is of the rows of the fit, and these are others".to_owned());
        if x.shape()[0] == 0 {
            return Err(other());
        }
        self.on_rows_with(x, self.config.data.missing, (), |dataset| {
            let known = self.summary["rows_sha256"].as_str();
            if known.is_some() && known != Some(&*dataset.rows_sha256()?) {
                return Err(other());
            }
            let temporary = tempfile::tempdir()
                .map_err(|e| Error::output(std::env::temp_dir(), format!("cannot be written to: {e}")))?;
            self.save(temporary.path())?;
            let sample = Sample::of(dataset, &order_of(&self.config, dataset.n_rows()))?;
            let output = Some(output.as_ref());
            match report::write(temporary.path(), &[], Some(&sample), output, &mut Control::ignored()) {
                Err(Error::Data { problem, .. }) => Err(Error::Rows(problem)),
                written => written.map(drop),
            }
        })
    }

    /// Loads what [`Dec::save`] or the binary `dec` saved, to compute where the run's `device` setting says.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file that is missing or is not what a run writes, or a run that is not finished;
    /// [`Error::Device`] where the device is not there.
    pub fn load(run: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(run.as_ref(), |config| config.device.clone())
    }

    /// [`Dec::load`] with another device: `auto`, `cpu`, `cuda` or `cuda:N`.
    ///
    /// # Errors
    /// As for [`Dec::load`].
    pub fn load_on(run: impl AsRef<Path>, device: &str) -> Result<Self> {
        Self::load_with(run.as_ref(), |_| device.to_owned())
    }

    fn load_with(run: &Path, device: impl FnOnce(&Config) -> String) -> Result<Self> {
        if matches!(RunDir::content(run), Content::Unfinished) {
            let problem = format!("holds a run that is not finished; `dec resume {}` goes on with it", run.display());
            return Err(Error::data(run, problem));
        }
        let read = |name: &str| {
            let path = run.join(name);
            std::fs::read_to_string(&path).map_err(|e| Error::data(&path, format!("cannot be read: {e}")))
        };
        let mut config = read_config(run)?;
        let summary: serde_json::Value = serde_json::from_str(&read(SUMMARY)?)
            .map_err(|e| Error::data(run.join(SUMMARY), format!("is no summary of a run: {e}")))?;
        config.device = device(&config);
        let model = Model::load(run, backend::select(config.device.parse()?)?)?;
        let results: Vec<MethodResult> = serde_json::from_value(summary["results"].clone())
            .map_err(|e| Error::data(run.join(SUMMARY), format!("has results of another version: {e}")))?;
        let path = run.join(ASSIGNMENTS);
        let read = if path.exists() { Assignment::read(&path)? } else { Assignment::default() };
        let assignment = Assignment { names: model.names.of_all(model.layer.n_clusters()), ..read };
        let (labels, centroids) = (labels_of(&assignment), array_of(model.layer.centroids())?);
        let events = match std::fs::read(run.join(EVENTS)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::data(run.join(EVENTS), format!("cannot be read: {e}")));
            }
            read => read.unwrap_or_default(), // models of older versions were saved without
        };
        Ok(Self { model, config, assignment, labels, centroids, results, summary, events })
    }
}
