//! A finished run whose clusters are joined without training, as [`Groups`] says.
//!
//! Weights and embedding stay. What changes is q, which is summed, and what follows from it: clusters, confidences, second choices,
//! entropies. So the rows go through the encoder once more, for all of their q: `assignments.csv` has only the largest.

use serde_json::{json, Value};
use tch::{Device, Tensor};

use super::dir::RunDir;
use super::fitted::{Assignment, Model};
use super::saved::{reached_of, set_names};
use crate::config::Config;
use crate::data::{values_of, Dataset};
use crate::error::{Error, Result};
use crate::metrics::Contingency;
use crate::model::profile::distances;
use crate::model::Groups;
use crate::state::State;

/// Values and rows that go through the encoder together at the most.
const BLOCK_VALUES: usize = 1 << 24;
const MOST_ROWS: usize = 1 << 16;
/// How far a row's confidence may be from the one that the run gave it: devices and numbers of threads round differently.
const CLOSE: f32 = 1e-3;
/// The share of the rows that may be farther off.
const STRAY: f64 = 0.01;

/// Rows that went through a model.
#[derive(Debug)]
pub struct Passed {
    /// The input's row numbers.
    pub rows: Vec<usize>,
    /// Their names, or none.
    pub ids: Vec<String>,
    /// The latent rows \[n, m\], on the CPU.
    pub z: Tensor,
    /// The soft assignments \[n, k\], on the CPU.
    pub q: Tensor,
}

impl Passed {
    /// Puts the rows of `dataset` through `model`, some at a time: those of a run's `before`, or all where there is no such list.
    ///
    /// # Errors
    /// [`Error::Rows`] for rows that are not those of the list: there are fewer, of another width, or of other confidences.
    pub fn through(model: &Model, dataset: &Dataset, before: Option<&Assignment>) -> Result<Self> {
        let (n, d) = (dataset.n_rows(), dataset.n_features());
        if d as i64 != model.n_features {
            let expected = model.n_features;
            return Err(Error::Rows(format!(
                "{} has {d} features a row, but the run was trained on {expected}",
                dataset.name
            )));
        }
        model.check_shape(dataset)?;
        let rows = before.map_or_else(|| (0..n).collect(), |before| before.rows.clone());
        if let Some(row) = rows.iter().find(|&&row| row >= n) {
            return Err(Error::Rows(format!("{} has {n} rows, but the run has clustered row {row}", dataset.name)));
        }
        let (mut z, mut q) = (Vec::new(), Vec::new());
        for chosen in rows.chunks((BLOCK_VALUES / d.max(1)).clamp(1, MOST_ROWS)) {
            let (latent, soft) = model.transform(&dataset.features.select(chosen))?;
            z.push(latent.f_to_device(Device::Cpu)?);
            q.push(soft.f_to_device(Device::Cpu)?);
        }
        if z.is_empty() {
            return Err(Error::Rows(format!("{} has no rows", dataset.name)));
        }
        let ids = match dataset.ids.is_empty() {
            true => Vec::new(),
            false => rows.iter().map(|&row| dataset.ids[row].clone()).collect(),
        };
        let passed = Self { rows, ids, z: Tensor::f_cat(&z, 0)?, q: Tensor::f_cat(&q, 0)? };
        if let Some(before) = before {
            passed.check_same(before, &dataset.name)?;
        }
        Ok(passed)
    }

    /// Refuses rows whose confidences are not those of the list, which other rows would have.
    fn check_same(&self, before: &Assignment, name: &str) -> Result<()> {
        let (n, k) = self.q.size2()?;
        let clusters: Vec<i64> = before.labels.iter().map(|&label| label.clamp(0, k - 1)).collect();
        let own = self.q.f_gather(1, &Tensor::f_from_slice(&clusters)?.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
        let own: Vec<f32> = values_of(&own)?;
        let close = |found: &f32, told: &f32| (found - told).abs() <= CLOSE; // NaN is not
        let stray = own.iter().zip(&before.confidence).filter(|(found, told)| !close(found, told)).count();
        if stray as f64 <= STRAY * n as f64 {
            return Ok(());
        }
        Err(Error::Rows(format!(
            "{name}: {stray} of {n} rows have another confidence than the run gave them, so these are not the rows that it was \
             trained on"
        )))
    }

    /// The cluster of each row: its largest q.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn labels(&self) -> Result<Vec<i64>> {
        values_of(&self.q.f_argmax(1, false)?)
    }
}

/// A model whose clusters were joined, and the clusters of its rows.
#[derive(Debug)]
pub struct Merged {
    /// What predicts.
    pub model: Model,
    /// The clusters of the rows.
    pub assignment: Assignment,
    /// Which of the clusters before became one.
    pub groups: Groups,
    z: Tensor,
    q: Tensor,
    /// Sum of squared distances of the latent rows to the nearest centroid of their cluster.
    inertia: f64,
}

impl Merged {
    /// Joins clusters of `model`, of whose rows `passed` is; `groups` is of the clusters that the model has now.
    ///
    /// # Errors
    /// [`Error::Config`] for groups of another number of clusters, or a libtorch failure.
    pub fn of(mut model: Model, groups: Groups, passed: Passed) -> Result<Self> {
        let Passed { rows, ids, z, q } = passed;
        let of_centroids = match model.layer.groups() {
            Some(before) => before.then(&groups)?,
            None => groups.clone(),
        };
        model.layer = model.layer.with_groups(of_centroids)?;
        model.names = model.names.joined(&groups);
        model.names.check(groups.n_clusters()).map_err(Error::Config)?;
        let q = groups.sum(&q)?;
        let assignment = Assignment { rows, ids, ..model.assign(&z, &q)? };
        let Assignment { labels, confidence, .. } = &assignment;
        model.profile = model.profile.map(|profile| profile.joined(labels, confidence, groups.n_clusters()));
        let (distances, _) = distances(&z, labels, model.layer.centroids(), model.layer.groups())?;
        let inertia = distances.iter().map(|&distance| f64::from(distance)).sum();
        Ok(Self { model, assignment, groups, z, q, inertia })
    }

    /// How the clusters compare with classes, one for each row of the input.
    ///
    /// # Errors
    /// As for [`Contingency::of_labelled`], and [`Error::Rows`] for too few classes.
    pub fn against(&self, classes: &[i64]) -> Result<Contingency> {
        let class = |&row: &usize| {
            classes.get(row).copied().ok_or_else(|| Error::Rows(format!("row {row} has no place among the labels")))
        };
        let truth = self.assignment.rows.iter().map(class).collect::<Result<Vec<i64>>>()?;
        Contingency::of_labelled(&truth, &self.assignment.labels)
    }

    /// The summary of the run that was at `from`, `before`, as that of this one: of the joined clusters, with their scores where
    /// there are classes.
    pub fn summary(&self, before: &Value, from: &str, scores: Option<&Contingency>) -> Value {
        let mut summary = before.clone();
        summary["n_clusters"] = json!(self.groups.n_clusters());
        summary["missing"] = json!([]);
        set_names(&mut summary, &self.model.names);
        if summary["status"] == "unsaved" {
            summary["status"] = json!("finished"); // what could not be written then is written now
        }
        summary["merged"] = json!({
            "from": from,
            "n_clusters": self.groups.cluster_of().len(),
            "clusters": self.groups.members(),
        });
        let results = summary["results"].as_array_mut().into_iter().flatten();
        for result in results.filter(|result| result["method"] == "dec") {
            result["acc"] = json!(scores.map(Contingency::accuracy));
            result["nmi"] = json!(scores.map(Contingency::normalized_mutual_info));
            result["ari"] = json!(scores.map(Contingency::adjusted_rand_index));
            result["silhouette"] = Value::Null; // of the clusters before
            result["inertia"] = json!(self.inertia);
        }
        summary
    }
}

impl RunDir {
    /// Writes a merged run as a finished one is left, but for the log of its training: with the further table and the ONNX file that
    /// `config` asks for, and `summary.json` last.
    ///
    /// # Errors
    /// [`Error::Output`] for a file that cannot be written, or a libtorch failure.
    pub fn write_merged(&self, merged: &Merged, config: &Config, summary: &Value) -> Result<()> {
        let state = State::default();
        let places = (0..merged.assignment.rows.len()).collect();
        let mut reached = reached_of(&merged.model, Some(&merged.assignment), &state);
        reached.tables = Some((&merged.z, &merged.q, places));
        self.write_parts(&reached, config)?;
        self.write_further(&reached, config)?;
        self.write_summary(summary)
    }
}
