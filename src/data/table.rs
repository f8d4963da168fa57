//! From what a reader found to a [`Dataset`]: missing values, the columns that are kept, float32, labels by number.

use std::collections::HashMap;
use std::path::Path;

use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};

use super::format::labels::classes;
use super::format::{shown_names, Table, Values};
use super::intake::{dense, keep_columns, less, most_variable, narrow};
use super::{Channels, Dataset, Features, Intake, Selection};
use crate::error::{Error, Result};

/// More columns than this, and `auto` keeps those of sparse rows that vary most.
pub const WIDE: usize = 5000;
/// How many it keeps: as is usual for gene expression.
pub const KEPT: usize = 2000;

/// What becomes of rows with missing values: `data.missing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// They are refused, with the place of the first.
    #[default]
    Error,
    /// Each is filled with its column's mean.
    Mean,
    /// The rows are left out.
    Drop,
}

/// Which columns of wide rows are kept: `data.features`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "\"auto\", \"all\" or a number of columns")]
pub enum FeatureChoice {
    /// The 2,000 that vary most where sparse rows have more than 5,000; else all.
    #[default]
    Auto,
    /// All.
    All,
    /// So many that vary most.
    #[serde(untagged)]
    Count(usize),
}

/// What is asked of a table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes<'a> {
    pub missing: Missing,
    pub features: FeatureChoice,
    /// Of the model that the rows are for, which decides then.
    pub intake: Option<&'a Intake>,
    /// The columns that it was trained on, after that.
    pub names: &'a [String],
    /// Bytes that dense values may take.
    pub most_bytes: u64,
}

/// The data set of `table`, which came from `path`.
///
/// # Errors
/// [`Error::Data`] for missing values that nobody allowed, [`Error::Memory`] for sparse rows that are too large as dense ones.
pub(super) fn dataset(path: &Path, mut table: Table, wishes: Wishes) -> Result<Dataset> {
    let by_name = !wishes.names.is_empty() && !table.columns.is_empty();
    if by_name {
        table.take_columns(path, wishes.names)?;
    }
    fill(path, &mut table, wishes.missing)?;
    for note in &table.notes {
        tracing::info!("{}: {note}", path.display());
    }
    let selected = if by_name { None } else { select(path, &table, wishes)? };
    let mut intake = Intake { selected, offset: None };
    let columns = match &intake.selected {
        Some(selection) if !table.columns.is_empty() => {
            selection.columns.iter().map(|&column| table.columns[column].clone()).collect()
        }
        _ => table.columns,
    };
    let features = features(path, table.values, &mut intake, wishes)?;
    let mut found = Dataset {
        features,
        name: path.display().to_string(),
        image: table.image.map(|[height, width, _]| [height, width]),
        channels: Channels::new(table.image.map_or(1, |[_, _, channels]| channels), table.channels_first),
        columns,
        ids: table.ids,
        intake,
        ..Dataset::default()
    };
    if let Some(labels) = &table.labels {
        found.set_labels(labels);
    }
    Ok(found)
}

impl Dataset {
    /// Takes over labels, one a row as text; a row whose label is missing gets −1.
    pub fn set_labels(&mut self, labels: &[Option<String>]) {
        let found = classes(labels);
        let missing = found.labels.iter().filter(|label| label.is_none()).count();
        if missing > 0 {
            let minus_one = match found.unknown_minus_one {
                0 => String::new(),
                count => format!(" ({count} of them -1, which is taken for \"unknown\")"),
            };
            tracing::info!("{missing} of {} rows have no label{minus_one}: the others score", found.labels.len());
        }
        self.labels = Some(found.labels.iter().map(|label| label.map_or(-1, |class| class as i64)).collect());
        self.classes = found.names;
    }
}

/// Deals with NaN as `missing` says.
fn fill(path: &Path, table: &mut Table, missing: Missing) -> Result<()> {
    let holes: Vec<(usize, usize)> = match &table.values {
        Values::F32(rows) => rows.indexed_iter().filter(|(_, v)| v.is_nan()).map(|(place, _)| place).collect(),
        Values::F64(rows) => rows.indexed_iter().filter(|(_, v)| v.is_nan()).map(|(place, _)| place).collect(),
        Values::U8(_) | Values::Csr(_) => Vec::new(),
    };
    let Some(&(row, column)) = holes.first() else { return Ok(()) };
    let mut rows: Vec<usize> = holes.iter().map(|hole| hole.0).collect();
    rows.dedup();
    let n = table.values.shape()[0];
    match missing {
        Missing::Error => {
            let place = match table.columns.get(column) {
                Some(name) => format!("row {row}, column {column} ({name:?})"),
                None => format!("row {row}, column {column}"),
            };
            return Err(Error::Rows(format!(
                "{}: {} of its values are missing or NaN, in {} of {n} rows; the first is at {place}, counted from 0. \
                     data.missing=mean fills each with its column's mean, data.missing=drop leaves the rows out",
                path.display(),
                holes.len(),
                rows.len()
            )));
        }
        Missing::Mean => {
            match &mut table.values {
                Values::F32(rows) => fill_means(rows, |mean| mean as f32),
                Values::F64(rows) => fill_means(rows, |mean| mean),
                Values::U8(_) | Values::Csr(_) => {}
            }
            table.notes.push(format!("{} missing values were filled with their columns' means", holes.len()));
        }
        Missing::Drop => {
            let kept: Vec<usize> = (0..n).filter(|row| rows.binary_search(row).is_err()).collect();
            table.keep_rows(&kept);
            table.notes.push(format!("{} of {n} rows have missing values and are left out", rows.len()));
        }
    }
    Ok(())
}

fn fill_means<T: Copy + Into<f64>>(rows: &mut Array2<T>, from: impl Fn(f64) -> T) {
    for mut column in rows.columns_mut() {
        let known: Vec<f64> = column.iter().map(|&value| value.into()).filter(|value| !value.is_nan()).collect();
        let mean = from(known.iter().sum::<f64>() / known.len().max(1) as f64);
        column.iter_mut().filter(|value| (**value).into().is_nan()).for_each(|value| *value = mean);
    }
}

impl Table {
    /// Takes the columns of these names, in this order. One of a value that does not occur here (`colour=red`) is all 0.
    fn take_columns(&mut self, path: &Path, names: &[String]) -> Result<()> {
        if self.columns == names {
            return Ok(());
        }
        let place_of: HashMap<&str, usize> =
            self.columns.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            let place = place_of.get(name.as_str()).copied();
            let of_value = || name.split_once('=').is_some_and(|(column, _)| has_values_of(&self.columns, column));
            if place.is_none() && !of_value() {
                return Err(Error::data(
                    path,
                    format!(
                        "has no column {name:?}, which the model was trained on; it has {}",
                        shown_names(&self.columns)
                    ),
                ));
            }
            places.push(place);
        }
        self.values = match &self.values {
            Values::U8(rows) => Values::U8(columns_at(rows, &places)),
            Values::F32(rows) => Values::F32(columns_at(rows, &places)),
            Values::F64(rows) => Values::F64(columns_at(rows, &places)),
            Values::Csr(rows) => {
                let known: Vec<usize> = places.iter().flatten().copied().collect();
                Values::F32(dense(rows, Some(&known)))
            }
        };
        self.columns = names.to_vec();
        Ok(())
    }

    /// Leaves these rows alone, in this order; of sparse rows there is none to leave out.
    fn keep_rows(&mut self, kept: &[usize]) {
        self.values = match &self.values {
            Values::U8(rows) => Values::U8(rows.select(Axis(0), kept)),
            Values::F32(rows) => Values::F32(rows.select(Axis(0), kept)),
            Values::F64(rows) => Values::F64(rows.select(Axis(0), kept)),
            Values::Csr(rows) => Values::Csr(rows.clone()),
        };
        if !self.ids.is_empty() {
            self.ids = kept.iter().map(|&row| self.ids[row].clone()).collect();
        }
        if let Some(labels) = &mut self.labels {
            *labels = kept.iter().map(|&row| labels[row].clone()).collect();
        }
    }
}

fn has_values_of(columns: &[String], column: &str) -> bool {
    columns.iter().any(|name| name.split_once('=').is_some_and(|(other, _)| other == column))
}

/// The columns at these places; 0 where there is none.
fn columns_at<T: Copy + Default>(rows: &Array2<T>, places: &[Option<usize>]) -> Array2<T> {
    Array2::from_shape_fn((rows.nrows(), places.len()), |(i, j)| {
        places[j].map_or(T::default(), |place| rows[[i, place]])
    })
}

/// The columns that are kept.
fn select(path: &Path, table: &Table, wishes: Wishes) -> Result<Option<Selection>> {
    let [_, width] = table.values.shape();
    if let Some(intake) = wishes.intake {
        // Rows that have been through the selection already are as welcome as those of the file's width.
        return Ok(intake.selected.clone().filter(|selection| selection.of == width));
    }
    let count = match (wishes.features, &table.values) {
        (FeatureChoice::All, _) => return Ok(None),
        (FeatureChoice::Auto, Values::Csr(_)) if width > WIDE => KEPT,
        (FeatureChoice::Auto, _) => return Ok(None),
        (FeatureChoice::Count(count), _) if count >= width => return Ok(None),
        (FeatureChoice::Count(count), _) => count,
    };
    let columns = match &table.values {
        Values::Csr(rows) => most_variable(rows, count),
        dense_rows => most_variable(&sparse(path, dense_rows)?, count),
    };
    tracing::info!("{} of {width} columns are kept, those that vary most (data.features)", columns.len());
    Ok(Some(Selection { of: width, columns }))
}

/// Dense values as sparse ones, to look at.
fn sparse(path: &Path, values: &Values) -> Result<super::format::Csr> {
    let [n, d] = values.shape();
    let rows: Array2<f32> = match values {
        Values::U8(rows) => rows.mapv(f32::from),
        Values::F32(rows) => rows.clone(),
        Values::F64(rows) => rows.mapv(|value| value as f32),
        Values::Csr(rows) => return Ok(rows.clone()),
    };
    let mut csr = super::format::Csr { shape: [n, d], starts: vec![0], columns: Vec::new(), values: Vec::new() };
    if u32::try_from(d).is_err() {
        return Err(Error::data(path, format!("has {d} columns; 4,294,967,295 are the most")));
    }
    for row in rows.rows() {
        for (j, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            csr.columns.push(j as u32);
            csr.values.push(value);
        }
        csr.starts.push(csr.values.len() as u64);
    }
    Ok(csr)
}

/// The values as features, and what that took into `intake`.
fn features(path: &Path, values: Values, intake: &mut Intake, wishes: Wishes) -> Result<Features> {
    let given = wishes.intake.and_then(|of_model| of_model.offset.clone());
    let selected = intake.selected.as_ref().map(|selection| selection.columns.as_slice());
    let kept = |features: Features| match selected {
        Some(columns) => keep_columns(&features, columns),
        None => features,
    };
    let plain = match values {
        Values::U8(rows) => kept(Features::U8(rows)),
        Values::F32(rows) => kept(Features::F32(rows)),
        Values::Csr(rows) => {
            let [n, d] = rows.shape;
            let bytes = (n as u64).saturating_mul(4 * selected.map_or(d, <[usize]>::len) as u64);
            if bytes > wishes.most_bytes {
                return Err(Error::Memory(format!(
                    "{}: {n} sparse rows of {d} columns take {} MB as dense ones, but {} MB may be used; keep fewer columns \
                     (data.features=2000)",
                    path.display(),
                    bytes / 1_000_000,
                    wishes.most_bytes / 1_000_000
                )));
            }
            Features::F32(dense(&rows, selected))
        }
        Values::F64(rows) => {
            let rows = match selected {
                Some(columns) => rows.select(Axis(1), columns),
                None => rows,
            };
            if let Some(offset) = given {
                return take_off(path, rows, offset, intake);
            }
            let (narrowed, offset, lost) = narrow(rows);
            if lost {
                tracing::warn!(
                    "{}: some columns' values are so far from 0 that float64 rounds what tells rows apart",
                    path.display()
                );
            }
            intake.offset = offset;
            return Ok(Features::F32(narrowed));
        }
    };
    match (given, plain) {
        (None, plain) => Ok(plain),
        (Some(offset), Features::U8(rows)) => take_off(path, rows.mapv(f64::from), offset, intake),
        (Some(offset), Features::F32(rows)) => take_off(path, rows.mapv(f64::from), offset, intake),
    }
}

/// The rows less a model's offset, which becomes that of `intake`.
fn take_off(path: &Path, rows: Array2<f64>, offset: Array1<f64>, intake: &mut Intake) -> Result<Features> {
    if rows.ncols() != offset.len() {
        let (found, expected) = (rows.ncols(), offset.len());
        let problem = format!("has {found} features a row, but the model was trained on {expected}");
        return Err(Error::data(path, problem));
    }
    let narrowed = less(rows.view(), &offset);
    intake.offset = Some(offset);
    Ok(Features::F32(narrowed))
}
