//! `dec._dec`: the library's estimator for Python. `dec/_estimator.py` has the class that people use.

mod errors;
mod log;
mod observer;
mod rows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dec::data::{Dataset, Missing, Reading};
use dec::{Dec, DecParams};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use errors::to_python;
use observer::Watcher;

/// A fitted model.
#[pyclass(frozen, module = "dec._dec")]
struct Model(Mutex<Dec>);

impl Model {
    fn new(dec: Dec) -> Self {
        Self(Mutex::new(dec))
    }

    fn lock(&self) -> MutexGuard<'_, Dec> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows as the model takes them; missing values are treated as in the fit, or else refused.
    fn read(&self, rows: &Bound<'_, PyAny>, as_in_fit: bool) -> PyResult<Dataset> {
        let (intake, missing) = rows.py().detach(|| {
            let dec = self.lock();
            let missing = if as_in_fit { dec.config().data.missing } else { Missing::default() };
            (dec.model().intake.clone(), missing)
        });
        rows::dataset(rows, &Reading { intake: Some(&intake), missing, ..Reading::default() })
    }

    /// `work` on rows as the model takes them, without the interpreter's lock.
    fn on_rows<T: Send>(
        &self,
        rows: &Bound<'_, PyAny>,
        work: impl FnOnce(&Dec, &Dataset) -> dec::Result<T> + Send,
    ) -> PyResult<T> {
        let dataset = self.read(rows, false)?;
        rows.py().detach(|| work(&self.lock(), &dataset)).map_err(to_python)
    }
}

#[pymethods]
impl Model {
    /// Fits a model; `progress(stage, done, total)` is called a few times a second, or not where it is None.
    #[staticmethod]
    #[pyo3(signature = (rows, n_clusters, *, recipe, settings, seed, device, threads, feature_names, progress))]
    #[allow(clippy::too_many_arguments)]
    fn fit(
        rows: &Bound<'_, PyAny>,
        n_clusters: usize,
        recipe: String,
        settings: &Bound<'_, PyDict>,
        seed: u64,
        device: String,
        threads: Option<usize>,
        feature_names: Vec<String>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let py = rows.py();
        let mut params: DecParams = Dec::params(n_clusters).recipe(recipe).seed(seed).device(device);
        for (key, value) in settings.iter() {
            params = params.set(key.extract::<String>()?, rows::toml(&value)?);
        }
        if let Some(threads) = threads {
            params = params.threads(threads);
        }
        let checked = dec::ParamGuard::check(params).map_err(to_python)?;
        let data = &checked.config().data;
        let reading = Reading { missing: data.missing, features: data.features, ..Reading::default() };
        let mut dataset = rows::dataset(rows, &reading)?;
        dataset.columns = match &dataset.intake.selected {
            Some(selected) if !feature_names.is_empty() => {
                selected.columns.iter().filter_map(|&column| feature_names.get(column).cloned()).collect()
            }
            _ => feature_names,
        };
        let (fitted, stopped) = py.detach(move || {
            let mut watcher = Watcher::new(progress);
            let fitted = checked.fit_with(&dataset, &mut watcher);
            (fitted, watcher.stopped_by())
        });
        match (fitted, stopped) {
            (Err(dec::Error::Interrupted), Some(by)) => Err(by),
            (fitted, _) => fitted.map(Self::new).map_err(to_python),
        }
    }

    fn predict<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let labels = self.on_rows(rows, |dec, dataset| dec.try_predict(dataset))?;
        Ok(labels.mapv(|label| label as i64).into_pyarray(py))
    }

    fn transform<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        Ok(self.on_rows(rows, |dec, dataset| dec.transform(dataset))?.into_pyarray(py))
    }

    fn soft_assignments<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        Ok(self.on_rows(rows, |dec, dataset| dec.soft_assignments(dataset))?.into_pyarray(py))
    }

    fn reconstruct<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        Ok(self.on_rows(rows, |dec, dataset| dec.reconstruct(dataset))?.into_pyarray(py))
    }

    fn decode<'py>(&self, py: Python<'py>, z: PyReadonlyArray2<'py, f32>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let z = z.as_array().to_owned();
        Ok(py.detach(|| self.lock().decode(&z)).map_err(to_python)?.into_pyarray(py))
    }

    fn labels<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        py.detach(|| self.lock().labels().mapv(|label| label as i64)).into_pyarray(py)
    }

    fn centroids<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        py.detach(|| self.lock().centroids().clone()).into_pyarray(py)
    }

    fn rounds(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().rounds())
    }

    /// The number of features of the rows that it takes.
    fn n_features(&self, py: Python<'_>) -> usize {
        py.detach(|| {
            let dec = self.lock();
            dec.model().intake.selected.as_ref().map_or(dec.n_features(), |selected| selected.of)
        })
    }

    /// `summary.json` as text.
    fn summary(&self, py: Python<'_>) -> String {
        py.detach(|| self.lock().summary().to_string())
    }

    /// The resolved recipe as TOML.
    fn config(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| self.lock().config().to_toml()).map_err(to_python)
    }

    fn save(&self, py: Python<'_>, directory: PathBuf) -> PyResult<()> {
        py.detach(|| self.lock().save(directory)).map_err(to_python)
    }

    /// Writes the page about the rows of the fit; `labels` are numbers of `classes`, or below 0.
    #[pyo3(signature = (rows, path, *, labels, classes, ids))]
    fn report(
        &self,
        rows: &Bound<'_, PyAny>,
        path: PathBuf,
        labels: Option<Vec<i64>>,
        classes: Vec<String>,
        ids: Vec<String>,
    ) -> PyResult<()> {
        let dataset = Dataset { labels, classes, ids, ..self.read(rows, true)? };
        rows.py().detach(|| self.lock().report(&dataset, path)).map_err(to_python)
    }

    #[staticmethod]
    fn load(py: Python<'_>, directory: PathBuf, device: String) -> PyResult<Self> {
        py.detach(|| Dec::load_on(directory, &device)).map(Self::new).map_err(to_python)
    }

    /// The files that it is saved as, for pickles.
    fn to_files<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let files: BTreeMap<String, Vec<u8>> = py.detach(|| -> PyResult<_> {
            let directory = tempfile::tempdir()?;
            self.lock().save(directory.path()).map_err(to_python)?;
            let mut files = BTreeMap::new();
            for entry in std::fs::read_dir(directory.path())? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
                if path.is_file() && !name.starts_with('.') && name != dec::run::MODEL {
                    files.insert(name, std::fs::read(&path)?); // the predictor follows from the weights
                }
            }
            Ok(files)
        })?;
        let named = PyDict::new(py);
        for (name, bytes) in files {
            named.set_item(name, PyBytes::new(py, &bytes))?;
        }
        Ok(named)
    }

    #[staticmethod]
    fn from_files(py: Python<'_>, files: BTreeMap<String, Vec<u8>>, device: String) -> PyResult<Self> {
        py.detach(|| {
            let directory = tempfile::tempdir()?;
            for (name, bytes) in files {
                if name.contains(['/', '\\']) || name.starts_with('.') {
                    return Err(errors::value(format!("{name:?} is no file of a model")));
                }
                std::fs::write(directory.path().join(name), bytes)?;
            }
            Dec::load_on(directory.path(), &device).map(Self::new).map_err(to_python)
        })
    }
}

/// The recipes that are built in.
#[pyfunction]
fn recipes() -> Vec<&'static str> {
    dec::config::BUILT_IN.iter().map(|(name, _)| *name).collect()
}

#[pymodule]
fn _dec(module: &Bound<'_, PyModule>) -> PyResult<()> {
    log::forward();
    module.add_class::<Model>()?;
    module.add_function(wrap_pyfunction!(recipes, module)?)?;
    module.add("TrainingError", module.py().get_type::<errors::TrainingError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
