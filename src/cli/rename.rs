//! `dec rename`: what people call the clusters of a run.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Args;
use dec::model::ClusterNames;
use dec::report::text_table;
use dec::run::{set_names, write_atomic, RunDir, ASSIGNMENTS};
use serde_json::Value;

use super::{finished, shown};

#[derive(Debug, Args)]
pub struct RenameArgs {
    /// The directory of a finished run
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// A cluster's number and its name, as in 3=neurons or 5="T cells"; 3= takes the name away. Without any, the names that there are
    /// are shown
    #[arg(value_name = "NUMBER=NAME")]
    names: Vec<String>,
}

impl RenameArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let wanted = self.names.iter().map(|text| number_and_name(text)).collect::<dec::Result<Vec<_>>>()?;
        if wanted.is_empty() {
            let summary = finished::summary_of(&self.run)?;
            let (names, k) = names_of(&self.run, &summary)?;
            return super::print(&page(&names, k));
        }
        finished::summary_of(&self.run)?; // refused in words before the directory is locked
        let dir = RunDir::open(&self.run)?;
        let mut summary = finished::summary_of(&self.run)?;
        let (before, k) = names_of(&self.run, &summary)?;
        let names = changed(&before, &wanted, k)?;
        set_names(&mut summary, &names);
        // The table first: the summary has the names that count, and until it is written those are the old ones.
        let path = dir.file(ASSIGNMENTS);
        if path.exists() {
            write_atomic(&path, &with_names(&path, &names.of_all(k))?)?;
        }
        dir.write_summary(&summary)?;
        for table in dir.further_tables() {
            tracing::warn!(
                "{} has the names that it was written with; `dec predict {} DATA -o FILE` writes it with these",
                table.display(),
                self.run.display()
            );
        }
        super::print(&page(&names, k))
    }
}

/// `3=neurons`.
fn number_and_name(text: &str) -> dec::Result<(usize, &str)> {
    text.split_once('=').and_then(|(number, name)| Some((number.trim().parse().ok()?, name))).ok_or_else(|| {
        dec::Error::Config(format!("\"{}\": give a cluster's number and its name, as in 3=neurons", shown(text)))
    })
}

/// The names that the run has, and how many clusters.
fn names_of(run: &Path, summary: &Value) -> dec::Result<(ClusterNames, usize)> {
    let unusable = |problem: String| dec::Error::data(run.join(dec::run::SUMMARY), problem);
    let k = summary["n_clusters"].as_u64().and_then(|k| usize::try_from(k).ok());
    let k = k.ok_or_else(|| unusable("does not say how many clusters there are".to_owned()))?;
    let names = match &summary["names"] {
        Value::Null => ClusterNames::default(),
        names => {
            serde_json::from_value(names.clone()).map_err(|e| unusable(format!("has names of another kind: {e}")))?
        }
    };
    names.check(k).map_err(unusable)?;
    Ok((names, k))
}

/// The names after all changes, which may swap two of them.
fn changed(before: &ClusterNames, wanted: &[(usize, &str)], k: usize) -> dec::Result<ClusterNames> {
    let refuse = |problem: String| dec::Error::Config(problem);
    let mut names = before.clone();
    for (i, (cluster, _)) in wanted.iter().enumerate() {
        if wanted[..i].iter().any(|(other, _)| other == cluster) {
            return Err(refuse(format!("cluster {cluster} is given two names")));
        }
        names.set(*cluster, "", k).map_err(refuse)?;
    }
    for (cluster, name) in wanted {
        names.set(*cluster, name, k).map_err(refuse)?;
    }
    Ok(names)
}

/// The table of assignments in `path` with these names behind the clusters, or without a column of names where there are none; all else
/// as it is, whatever version wrote it.
fn with_names(path: &Path, names: &[String]) -> dec::Result<Vec<u8>> {
    let unusable = |problem: &dyn Display| dec::Error::data(path, format!("is no list of assignments: {problem}"));
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).map_err(|e| unusable(&e))?;
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut columns = None;
    for record in reader.records() {
        let record = record.map_err(|e| unusable(&e))?;
        let place = |name: &str| record.iter().position(|found| found == name);
        let (cluster, before, name) = match columns {
            Some((cluster, before)) => {
                let number = record.get(cluster).and_then(|cell| cell.parse::<usize>().ok());
                (cluster, before, number.and_then(|number| names.get(number)).map_or("", String::as_str))
            }
            None => {
                let found = (place("cluster").ok_or_else(|| unusable(&"it has no column cluster"))?, place("name"));
                columns = Some(found);
                (found.0, found.1, "name")
            }
        };
        for (column, cell) in record.iter().enumerate() {
            if Some(column) != before {
                table.write_field(cell).map_err(|e| unusable(&e))?;
            }
            if column == cluster && !names.is_empty() {
                table.write_field(name).map_err(|e| unusable(&e))?;
            }
        }
        table.write_record(None::<&[u8]>).map_err(|e| unusable(&e))?;
    }
    table.into_inner().map_err(|e| unusable(&e))
}

fn page(names: &ClusterNames, k: usize) -> String {
    let mut table = vec![["cluster", "name"].map(str::to_owned).to_vec()];
    table.extend((0..k).map(|cluster| vec![cluster.to_string(), shown(names.get(cluster).unwrap_or(""))]));
    text_table(&table)
}
