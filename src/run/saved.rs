//! A model that is saved without its run: the files that [`Model::load`](super::Model::load) reads, and the predictor.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use super::dir::{with_predictor, RunDir};
use super::fitted::{Assignment, Model, Reached};
use super::names::{CONFIG, MODEL, SUMMARY};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::export;
use crate::files::write_atomic;
use crate::model::ClusterNames;
use crate::state::State;

impl RunDir {
    /// Writes a model as a finished run leaves it: `config.toml`, `assignments.csv` where there is an assignment,
    /// `weights.safetensors`, `model.pt`, and `summary.json` last.
    ///
    /// # Errors
    /// [`Error::Output`] for a file that cannot be written, or a libtorch failure.
    pub fn write_model(
        &self,
        model: &Model,
        assignment: Option<&Assignment>,
        config: &Config,
        summary: &serde_json::Value,
    ) -> Result<()> {
        let state = State::default();
        self.write_parts(&reached_of(model, assignment, &state), config)?;
        self.write_summary(summary)
    }

    /// Writes the files that every run has, but for its log and its summary.
    pub(super) fn write_parts(&self, reached: &Reached, config: &Config) -> Result<()> {
        self.write_config(config)?;
        if let Some(assignment) = reached.assignment {
            self.write_assignments(assignment)?;
        }
        self.write_weights(&reached.named_tensors()?)?;
        if let Some(script) = with_predictor(reached, export::to_torchscript)? {
            write_atomic(&self.file(MODEL), &script)?;
        }
        Ok(())
    }

    /// Writes `summary.json`.
    ///
    /// # Errors
    /// [`Error::Output`] if it cannot be written.
    pub fn write_summary(&self, summary: &serde_json::Value) -> Result<()> {
        let json = serde_json::to_vec_pretty(summary)
            .map_err(|e| Error::Unsaved(format!("the summary cannot be written as JSON: {e}")))?;
        write_atomic(&self.file(SUMMARY), &json)
    }
}

/// Puts the clusters' names into a summary, where there are some.
pub fn set_names(summary: &mut serde_json::Value, names: &ClusterNames) {
    let Some(summary) = summary.as_object_mut() else { return };
    match names.is_empty() {
        true => summary.remove("names"),
        false => summary.insert("names".to_owned(), serde_json::json!(names)),
    };
}

/// What a model that is saved without its run has reached.
pub(super) fn reached_of<'a>(model: &'a Model, assignment: Option<&'a Assignment>, state: &'a State) -> Reached<'a> {
    Reached {
        intake: &model.intake,
        scaling: &model.scaling,
        network: Some(&*model.network),
        layer: Some(&model.layer),
        profile: model.profile.as_ref(),
        tables: None,
        columns: &model.columns,
        assignment,
        state,
    }
}

/// The recipe that the run in `run` was trained by.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read, or is of another version.
pub fn read_config(run: &Path) -> Result<Config> {
    let path = run.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::data(&path, format!("cannot be read: {e}")))?;
    toml::from_str(&text).map_err(|e| Error::data(&path, format!("is no recipe of this version: {}", e.message())))
}

/// What clusters are called, by their numbers.
pub type Called = BTreeMap<i64, String>;

impl Assignment {
    /// Reads what [`Assignment::to_csv`] gives, but for the clusters' names, which a run keeps in its summary.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that cannot be read or is something else, with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let lines = Lines::open(path)?;
        let confidence = lines.column("confidence")?;
        // An older version wrote no more than these.
        let [second, entropy, outlier, id] = ["second", "entropy", "outlier", "id"].map(|name| lines.find(name));
        let mut read = Self { outlier: outlier.map(|_| Vec::new()), ..Self::default() };
        lines.each(|line| {
            read.rows.push(line.row);
            read.labels.push(line.cluster);
            read.confidence.push(line.number(confidence)?);
            read.second.push(second.map_or(Some(-1), |at| line.number(at))?);
            read.entropy.push(entropy.map_or(Some(f32::NAN), |at| line.number(at))?);
            if let (Some(scores), Some(at)) = (&mut read.outlier, outlier) {
                scores.push(line.number(at)?);
            }
            read.ids.extend(id.and_then(|at| line.record.get(at)).map(str::to_owned));
            Some(())
        })?;
        Ok(read)
    }

    /// Reads rows and clusters alone, of a CSV that has these two columns; and what clusters are called, where it has a column of
    /// names.
    ///
    /// # Errors
    /// As for [`Assignment::read`].
    pub fn read_clusters(path: &Path) -> Result<(Vec<(usize, i64)>, Called)> {
        let (mut found, mut names) = (Vec::new(), BTreeMap::new());
        let lines = Lines::open(path)?;
        let name = lines.find("name");
        lines.each(|line| {
            found.push((line.row, line.cluster));
            // A cluster without a name of its own has its number there.
            let name = name.and_then(|name| line.record.get(name)).filter(|name| name.parse::<i64>().is_err());
            if let Some(name) = name.filter(|name| !name.is_empty() && !names.contains_key(&line.cluster)) {
                names.insert(line.cluster, name.to_owned());
            }
            Some(())
        })?;
        Ok((found, names))
    }
}

/// The lines of a CSV of assignments, which has the columns `row` and `cluster`, and others by name.
struct Lines<'a> {
    path: &'a Path,
    reader: csv::Reader<File>,
    header: csv::StringRecord,
}

/// One of them.
struct Line<'a> {
    row: usize,
    cluster: i64,
    record: &'a csv::StringRecord,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let unreadable = |e: csv::Error| Error::data(path, format!("cannot be read: {e}"));
        let mut reader = csv::Reader::from_path(path).map_err(unreadable)?;
        let header = reader.headers().map_err(unreadable)?.clone();
        Ok(Self { path, reader, header })
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|found| found == name)
    }

    fn column(&self, name: &str) -> Result<usize> {
        self.find(name).ok_or_else(|| {
            let right = "an assignments.csv, or what `dec predict` writes, would be right";
            Error::data(self.path, format!("has no column {name:?}: {right}"))
        })
    }

    /// Calls `f` with each line; `None` from it is for a line that is no assignment.
    fn each(mut self, mut f: impl FnMut(Line) -> Option<()>) -> Result<()> {
        let (row, cluster) = (self.column("row")?, self.column("cluster")?);
        for (number, record) in (2..).zip(self.reader.records()) {
            let record = record.map_err(|e| Error::data(self.path, format!("cannot be read: {e}")))?;
            let line = number_at(&record, row).zip(number_at(&record, cluster));
            line.and_then(|(row, cluster)| f(Line { row, cluster, record: &record })).ok_or_else(|| {
                Error::data(
                    self.path,
                    format!("line {number} is no assignment: its row, cluster or scores are no numbers"),
                )
            })?;
        }
        Ok(())
    }
}

impl Line<'_> {
    fn number<T: FromStr>(&self, column: usize) -> Option<T> {
        number_at(self.record, column)
    }
}

fn number_at<T: FromStr>(record: &csv::StringRecord, column: usize) -> Option<T> {
    record.get(column)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::run::ASSIGNMENTS;

    #[test]
    fn assignments_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ASSIGNMENTS);
        let (rows, labels, confidence) = (vec![0, 7], vec![3, 1], vec![0.5, 1.0]);
        let (second, entropy) = (vec![0, -1], vec![0.75, 0.0]);
        let plain =
            Assignment { rows, labels, confidence, second, entropy, outlier: None, ids: Vec::new(), names: Vec::new() };
        let ids = vec!["a".to_owned(), "b, \"c\"".to_owned()];
        let named = Assignment { ids, outlier: Some(vec![0.25, 1.0]), ..plain.clone() };
        for assignment in [plain, named] {
            std::fs::write(&path, assignment.to_csv().unwrap()).unwrap();
            assert_eq!(Assignment::read(&path).unwrap(), assignment);
        }
        for (text, expected) in
            [("row,cluster\n1,2\n", "no column \"confidence\""), ("row,cluster,confidence\n1,x,1\n", "line 2")]
        {
            std::fs::write(&path, text).unwrap();
            let refused = Assignment::read(&path).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
        std::fs::write(&path, "cluster, note,row\n 2,high,0\n-1,,7\n").unwrap();
        assert_eq!(Assignment::read_clusters(&path).unwrap().0, [(0, 2), (7, -1)]);
        std::fs::write(&path, "cluster\n1\n").unwrap();
        assert!(Assignment::read_clusters(&path).unwrap_err().to_string().contains("no column \"row\""));
        assert!(Assignment::read(&dir.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }
}
