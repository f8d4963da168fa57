//! Whether rows can be clustered, asked before any work is done on them.

use super::pass::Passes;
use super::scaling::quantile;
use super::{Dataset, Features};
use crate::backend::ranks::Ranks;
use crate::error::{Error, Result};

/// Refuses NaN and infinite values.
///
/// # Errors
///
/// [`Error::Rows`] with how many there are and where the first one is, row and column counted from 0.
pub fn check_finite(dataset: &Dataset) -> Result<()> {
    let features = &dataset.features;
    if features.are_bytes() {
        return Ok(());
    }
    let of_row = |number: usize, row: &[f32]| {
        row.iter().position(|value| !value.is_finite()).map(|column| (number, column, row[column]))
    };
    let Some((row, column, value)) = features.find_row(of_row)? else { return Ok(()) };
    let (mut n_nan, mut n_infinite) = (0, 0);
    features.each_row(|_, row| {
        n_nan += row.iter().filter(|value| value.is_nan()).count();
        n_infinite += row.iter().filter(|value| value.is_infinite()).count();
    })?;
    let counted = match (n_nan, n_infinite) {
        (nan, 0) => format!("{nan} NaN"),
        (0, infinite) => format!("{infinite} infinite"),
        (nan, infinite) => format!("{nan} NaN and {infinite} infinite"),
    };
    let range = if n_infinite > 0 { " (values are read as float32: beyond ±3.4e38 they are infinite)" } else { "" };
    Err(Error::Rows(format!(
        "{}: {counted} of its {} x {} values; the first is {value} at row {row}, column {column}, both counted from 0\
         {range}. Leave those rows out or fill the values in, e.g. with numpy.nan_to_num(a, posinf=0, neginf=0)",
        dataset.name,
        features.n_rows(),
        features.n_features(),
    )))
}

/// Values whose greatest is below this are all but 0 in float32.
const TINY: f32 = 1e-30;

/// Refuses values so small that float32 has no numbers for what tells them apart.
///
/// # Errors
///
/// [`Error::Rows`] with the largest of them, and the remedy.
pub fn check_magnitude(dataset: &Dataset) -> Result<()> {
    if dataset.features.are_bytes() {
        return Ok(());
    }
    let mut greatest = 0.0f32;
    let large_enough = dataset.features.find_row(|_, row| {
        greatest = row.iter().fold(greatest, |most, value| most.max(value.abs()));
        (greatest >= TINY).then_some(())
    })?;
    if large_enough.is_some() || greatest == 0.0 {
        return Ok(());
    }
    Err(Error::Rows(format!(
        "{}: its largest value is {greatest:e}, and float32 ends at 1e-38: multiply all values by a constant",
        dataset.name
    )))
}

/// Rows that tell how far values usually are from their column's middle.
const SAMPLE: usize = 1000;
/// The share of values that are usual, and how many times as far out an absurd one is.
const USUAL: f64 = 0.99;
const ABSURD: f64 = 300.0;

/// The row, column and value of the first value of a table that lies absurdly far out: 300 times as far from the column's median as
/// 99 of 100 values are. A slip of a unit or a decimal point, mostly, which the scaling of its column is ruled by. The pass is divided among
/// `ranks`.
///
/// # Errors
///
/// [`Error::Data`] where rows that stay in a file cannot be read; [`Error::Processes`].
pub fn first_absurd(features: &Features, ranks: Ranks) -> Result<Option<(usize, usize, f32)>> {
    if features.are_bytes() {
        return Ok(None);
    }
    let sample = features.sample(SAMPLE)?;
    let usual: Vec<(f32, f64)> = sample
        .columns()
        .into_iter()
        .map(|column| {
            let mut values = column.to_vec();
            let middle = quantile(values.clone(), 0.5).unwrap_or(0.0) as f32;
            values.iter_mut().for_each(|value| *value = (*value - middle).abs());
            (middle, quantile(values, USUAL).unwrap_or(0.0))
        })
        .collect();
    let is_absurd = |j: usize, value: f32| {
        let (middle, usual) = usual[j];
        usual > 0.0 && f64::from((value - middle).abs()) > ABSURD * usual
    };
    Passes { features, ranks }.first(|i, row| {
        let found = row.iter().enumerate().find(|&(j, &value)| is_absurd(j, value));
        found.map(|(j, &value)| (i, j, value))
    })
}

/// Refuses values below 0, which count nothing.
///
/// # Errors
///
/// [`Error::Rows`] with where the first one is, row and column counted from 0. The pass is divided among `ranks`.
pub fn check_counts(dataset: &Dataset, ranks: Ranks) -> Result<()> {
    if dataset.features.are_bytes() {
        return Ok(());
    }
    let below = |row: usize, values: &[f32]| {
        values.iter().position(|&value| value < 0.0).map(|column| (row, column, values[column]))
    };
    match (Passes { features: &dataset.features, ranks }).first(below)? {
        None => Ok(()),
        Some((row, column, value)) => Err(Error::Rows(format!(
            "{}: {value} at row {row}, column {column}, both counted from 0, is no count, and data.scale=counts takes \
             nothing below 0; use data.scale=centre for rows that are not counts",
            dataset.name
        ))),
    }
}

/// Refuses rows that no clustering into `n_clusters` can be made of: fewer rows than clusters, rows without values,
/// rows that are all the same.
///
/// # Errors
///
/// [`Error::Rows`] with the shape and what would be right.
pub fn check_clusterable(dataset: &Dataset, n_clusters: usize) -> Result<()> {
    let (n_rows, n_features) = (dataset.n_rows(), dataset.n_features());
    let problem = if n_rows == 0 {
        "has no rows".to_owned()
    } else if n_features == 0 {
        format!("has {n_rows} rows of 0 values: there is nothing to cluster by")
    } else if n_rows < n_clusters {
        format!("has {n_rows} rows, fewer than the {n_clusters} clusters asked for; give more rows or ask for fewer clusters")
    } else if all_rows_the_same(&dataset.features)? {
        format!("all its rows ({n_rows}) are the same: there is nothing to tell clusters apart by")
    } else {
        return Ok(());
    };
    Err(Error::Rows(format!("{}: {problem}", dataset.name)))
}

fn all_rows_the_same(features: &Features) -> Result<bool> {
    let mut first = Vec::new();
    let other = features.find_row(|number, row| {
        if number == 0 {
            first = row.to_vec();
        }
        (row != first).then_some(())
    })?;
    Ok(other.is_none())
}
