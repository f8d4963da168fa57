//! Several runs beside each other.

use std::collections::{BTreeMap, HashMap, HashSet};
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
    let clusters: Vec<String> = (0..records[0].n_clusters()).map(|cluster| called(&records[0], cluster)).collect();
    let (mut ari, mut found) = (vec![0.0; n * n], vec![None; clusters.len() * (n - 1)]);
    for i in 0..n {
        for j in i..n {
            let both = in_both(records[i].assignment.as_ref(), records[j].assignment.as_ref());
            if i == 0 && j > 0 {
                for (cluster, place) in places(&both, clusters.len(), &records[j]).into_iter().enumerate() {
                    found[cluster * (n - 1) + j - 1] = place;
                }
            }
            let value = agreement(both)?;
            (ari[i * n + j], ari[j * n + i]) = (value, value);
        }
    }
    Ok(Runs { names: names(&paths), columns, values, ari, clusters, found })
}

/// What the runs are called: the directories' own names, or the whole paths where two have the same.
fn names(paths: &[&Path]) -> Vec<String> {
    let own = |path: &&Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let names: Vec<String> = paths.iter().map(own).collect();
    match names.iter().collect::<HashSet<_>>().len() == names.len() {
        true => names,
        false => paths.iter().map(|path| path.display().to_string()).collect(),
    }
}

/// A cluster's number with its name, where it has one.
fn called(record: &Record, cluster: usize) -> String {
    let name = record.model.as_ref().and_then(|model| model.names.get(cluster));
    name.map_or_else(|| cluster.to_string(), |name| format!("{cluster} {name}"))
}

/// Of the clusters of each row in two runs; NaN where they have no rows in common.
fn agreement(both: Vec<(i64, i64)>) -> Result<f64> {
    let (first, second): (Vec<i64>, Vec<i64>) = both.into_iter().unzip();
    match first.is_empty() {
        true => Ok(f64::NAN),
        false => Ok(Contingency::new(&first, &second)?.adjusted_rand_index()),
    }
}

/// The clusters, in one and in the other, of each row that both have.
fn in_both(a: Option<&Assignment>, b: Option<&Assignment>) -> Vec<(i64, i64)> {
    let (Some(a), Some(b)) = (a, b) else { return Vec::new() };
    let of_row: HashMap<usize, i64> = b.rows.iter().copied().zip(b.labels.iter().copied()).collect();
    a.rows.iter().zip(&a.labels).filter_map(|(row, &label)| Some((label, *of_row.get(row)?))).collect()
}

/// For each of the `k` clusters of a run, given the clusters of each row in it and in `other`: the cluster of `other` that most of its rows
/// are in, and the share of them that are.
fn places(both: &[(i64, i64)], k: usize, other: &Record) -> Vec<Option<(String, f64)>> {
    let mut counts = vec![BTreeMap::<i64, usize>::new(); k];
    for &(label, there) in both {
        if let Some(counts) = usize::try_from(label).ok().and_then(|label| counts.get_mut(label)) {
            *counts.entry(there).or_default() += 1;
        }
    }
    let place = |counts: BTreeMap<i64, usize>| {
        let all: usize = counts.values().sum();
        let (there, most) = counts.into_iter().rev().max_by_key(|(_, count)| *count)?; // of equal ones the first
        Some((called(other, usize::try_from(there).ok()?), most as f64 / all as f64))
    };
    counts.into_iter().map(place).collect()
}
