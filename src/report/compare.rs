//! Several runs beside each other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::page::Runs;
use super::record::Record;
use crate::control::Method;
use crate::error::Result;
use crate::metrics::Contingency;
use crate::run::Assignment;

/// The scores of the run in `first`, which has this `record`, and of `others`, and the adjusted Rand index of each pair, over the rows that both have.
pub(super) fn runs(first: &Path, record: Record, others: &[PathBuf]) -> Result<Runs> {
    let paths: Vec<&Path> = std::iter::once(first).chain(others.iter().map(PathBuf::as_path)).collect();
    let others = others.iter().map(|path| Record::read(path));
    let records: Vec<Record> = std::iter::once(Ok(record)).chain(others).collect::<Result<_>>()?;
    let columns = ["clusters", "ACC", "NMI", "ARI", "silhouette", "seconds"].map(str::to_owned).to_vec();
    let values = records.iter().flat_map(|record| {
        let results = &record.summary.results;
        let result = results.iter().find(|result| result.method == Method::Dec).or(results.last());
        [
            Some(record.n_clusters() as f64),
            result.and_then(|result| result.acc),
            result.and_then(|result| result.nmi),
            result.and_then(|result| result.ari),
            result.and_then(|result| result.silhouette),
            Some(record.summary.seconds),
        ]
    });
    let values = values.collect();
    let n = records.len();
    let mut ari = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            let value = agreement(records[i].assignment.as_ref(), records[j].assignment.as_ref())?;
            (ari[i * n + j], ari[j * n + i]) = (value, value);
        }
    }
    let name = |path: &&Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Runs { names: paths.iter().map(name).collect(), columns, values, ari })
}

/// NaN where they have no rows in common.
fn agreement(a: Option<&Assignment>, b: Option<&Assignment>) -> Result<f64> {
    let (Some(a), Some(b)) = (a, b) else { return Ok(f64::NAN) };
    let of_row: HashMap<usize, i64> = b.rows.iter().copied().zip(b.labels.iter().copied()).collect();
    let both = a.rows.iter().zip(&a.labels).filter_map(|(row, &label)| Some((label, *of_row.get(row)?)));
    let (first, second): (Vec<i64>, Vec<i64>) = both.unzip();
    match first.is_empty() {
        true => Ok(f64::NAN),
        false => Ok(Contingency::new(&first, &second)?.adjusted_rand_index()),
    }
}
