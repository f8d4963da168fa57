//! A model that is saved without its run: the files that [`Model::load`](super::Model::load) reads, and the predictor.

use std::path::Path;

use super::dir::{with_predictor, RunDir};
use super::fitted::{Assignment, Model, Reached};
use super::names::{MODEL, SUMMARY};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::export;
use crate::files::write_atomic;
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
        let reached = Reached {
            intake: &model.intake,
            scaling: &model.scaling,
            network: Some(&*model.network),
            layer: Some(&model.layer),
            profile: model.profile.as_ref(),
            tables: None,
            columns: &model.columns,
            assignment,
            state: &state,
        };
        self.write_config(config)?;
        if let Some(assignment) = assignment {
            self.write_assignments(assignment)?;
        }
        self.write_weights(&reached.named_tensors()?)?;
        if let Some(script) = with_predictor(&reached, export::to_torchscript)? {
            write_atomic(&self.file(MODEL), &script)?;
        }
        let json = serde_json::to_vec_pretty(summary)
            .map_err(|e| Error::Unsaved(format!("the summary cannot be written as JSON: {e}")))?;
        write_atomic(&self.file(SUMMARY), &json)
    }
}

impl Assignment {
    /// Reads what [`Assignment::to_csv`] gives.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that cannot be read or is something else, with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let mut reader = csv::Reader::from_path(path).map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
        let header = reader.headers().map_err(|e| Error::data(path, e.to_string()))?.clone();
        let place = |name: &str| header.iter().position(|found| found == name);
        let (Some(row), Some(cluster), Some(confidence)) = (place("row"), place("cluster"), place("confidence")) else {
            return Err(Error::data(path, "is no list of assignments: it has no row, cluster and confidence"));
        };
        // An older version wrote no more than these.
        let [second, entropy, outlier] = ["second", "entropy", "outlier"].map(place);
        let mut read = Self { outlier: outlier.map(|_| Vec::new()), ..Self::default() };
        for (line, record) in (2..).zip(reader.records()) {
            let record = record.map_err(|e| Error::data(path, e.to_string()))?;
            let bad = || Error::data(path, format!("line {line} is no assignment"));
            read.rows.push(record.get(row).and_then(|text| text.parse().ok()).ok_or_else(bad)?);
            read.labels.push(record.get(cluster).and_then(|text| text.parse().ok()).ok_or_else(bad)?);
            read.confidence.push(record.get(confidence).and_then(|text| text.parse().ok()).ok_or_else(bad)?);
            read.second.push(second.map_or(Some(-1), |at| record.get(at)?.parse().ok()).ok_or_else(bad)?);
            read.entropy.push(entropy.map_or(Some(f32::NAN), |at| record.get(at)?.parse().ok()).ok_or_else(bad)?);
            if let (Some(scores), Some(at)) = (&mut read.outlier, outlier) {
                scores.push(record.get(at).and_then(|text| text.parse().ok()).ok_or_else(bad)?);
            }
            read.ids.extend(place("id").and_then(|id| record.get(id)).map(str::to_owned));
        }
        Ok(read)
    }
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
        let plain = Assignment { rows, labels, confidence, second, entropy, outlier: None, ids: Vec::new() };
        let ids = vec!["a".to_owned(), "b, \"c\"".to_owned()];
        let named = Assignment { ids, outlier: Some(vec![0.25, 1.0]), ..plain.clone() };
        for assignment in [plain, named] {
            std::fs::write(&path, assignment.to_csv().unwrap()).unwrap();
            assert_eq!(Assignment::read(&path).unwrap(), assignment);
        }
        for (text, expected) in
            [("row,cluster\n1,2\n", "no list of assignments"), ("row,cluster,confidence\n1,x,1\n", "line 2")]
        {
            std::fs::write(&path, text).unwrap();
            let refused = Assignment::read(&path).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
        assert!(Assignment::read(&dir.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }
}
