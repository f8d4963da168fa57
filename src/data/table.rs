//! From what a reader found to a [`Dataset`]: missing values, the columns that are kept, float32, labels by number.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};

use super::format::labels::classes;
use super::format::{shown_names, Table, Values};
use super::intake::{dense, keep_columns, less, most_variable, narrow, offset_of};
use super::source::SparseRows;
use super::{Channels, Dataset, Features, Intake, Pick, RowSource, Selection, Streamed};
use crate::error::{Error, Result};

/// More columns than this, and `auto` keeps those of sparse rows that vary most.
pub const WIDE: usize = 5000;
/// How many it keeps: as is usual for gene expression.
pub const KEPT: usize = 2000;

/// Bytes that it takes to count what a column holds: its values' number, sum, squares and greatest.
const COLUMN_BYTES: u64 = 32;

/// Sparse rows that take more bytes than this as dense ones stay sparse.
const DENSE_BYTES: u64 = 256 << 20;

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
    /// Bytes that dense values, and what is counted of their columns, may take.
    pub most_bytes: u64,
}

/// The data set of `table`, which came from `path`.
///
/// # Errors
/// [`Error::Data`] for missing values that nobody allowed, [`Error::Memory`] for more columns than there is memory for.
pub(super) fn dataset(path: &Path, mut table: Table, wishes: Wishes) -> Result<Dataset> {
    check_shape(path, &table.values, wishes.most_bytes)?;
    let by_name = !wishes.names.is_empty() && !table.columns.is_empty();
    if by_name {
        table.take_columns(path, wishes.names)?;
    }
    fill(path, &mut table, wishes.missing)?;
    for note in &table.notes {
        tracing::info!("{}: {note}", path.display());
    }
    let selected = if by_name { None } else { select(&table, wishes)? };
    let mut intake = Intake { selected, offset: None };
    let columns = match &intake.selected {
        Some(selection) if !table.columns.is_empty() => {
            selection.columns.iter().map(|&column| table.columns[column].clone()).collect()
        }
        _ => table.columns,
    };
    let features = features(path, table.values, &mut intake, wishes)?;
    let image = table.image.filter(|_| intake.selected.is_none()); // some of its pixels are no image
    let mut found = Dataset {
        features,
        name: path.display().to_string(),
        image: image.map(|[height, width, _]| [height, width]),
        channels: Channels::new(image.map_or(1, |[_, _, channels]| channels), table.channels_first),
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

/// Refuses rows that are nothing, of which a file can claim any number, and more columns than may be counted.
fn check_shape(path: &Path, values: &Values, most_bytes: u64) -> Result<()> {
    let [rows, width] = values.shape();
    if rows > 0 && width == 0 {
        return Err(Error::data(path, format!("has {rows} rows of 0 values: there is nothing to cluster by")));
    }
    let pick = Pick { most_bytes, ..Pick::default() };
    pick.check_bytes(path, &format!("{width} columns"), (width as u64).saturating_mul(COLUMN_BYTES))
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

/// Missing values.
#[derive(Default)]
struct Holes {
    count: usize,
    /// The row and column of the first.
    first: Option<(usize, usize)>,
    /// The rows that have some.
    rows: Vec<usize>,
}

impl Holes {
    fn of(values: &Values) -> Result<Self> {
        let mut holes = Self::default();
        match values {
            Values::F32(rows) => {
                rows.indexed_iter().filter(|(_, v)| v.is_nan()).for_each(|(place, _)| holes.add(place))
            }
            Values::F64(rows) => {
                rows.indexed_iter().filter(|(_, v)| v.is_nan()).for_each(|(place, _)| holes.add(place))
            }
            Values::Rows(rows) if !rows.is_bytes() => Features::Streamed(rows.clone()).each_row(|i, row| {
                row.iter().enumerate().filter(|(_, v)| v.is_nan()).for_each(|(j, _)| holes.add((i, j)));
            })?,
            Values::U8(_) | Values::Csr(_) | Values::Rows(_) => {}
        }
        Ok(holes)
    }

    fn add(&mut self, place: (usize, usize)) {
        self.count += 1;
        self.first.get_or_insert(place);
        if self.rows.last() != Some(&place.0) {
            self.rows.push(place.0);
        }
    }
}

/// Deals with NaN as `missing` says.
fn fill(path: &Path, table: &mut Table, missing: Missing) -> Result<()> {
    let holes = Holes::of(&table.values)?;
    let Some((row, column)) = holes.first else { return Ok(()) };
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
                holes.count,
                holes.rows.len()
            )));
        }
        Missing::Mean => {
            match &mut table.values {
                Values::F32(rows) => fill_means(rows, |mean| mean as f32),
                Values::F64(rows) => fill_means(rows, |mean| mean),
                Values::Rows(rows) => *rows = rows.filled()?,
                Values::U8(_) | Values::Csr(_) => {}
            }
            table.notes.push(format!("{} missing values were filled with their columns' means", holes.count));
        }
        Missing::Drop => {
            let kept: Vec<usize> = (0..n).filter(|row| holes.rows.binary_search(row).is_err()).collect();
            table.keep_rows(&kept);
            table.notes.push(format!("{} of {n} rows have missing values and are left out", holes.rows.len()));
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
    pub(super) fn take_columns(&mut self, path: &Path, names: &[String]) -> Result<()> {
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
            Values::Csr(rows) => Values::Csr(rows.columns(&places)),
            Values::Rows(rows) => Values::Rows(rows.columns(places)),
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
            Values::Rows(rows) => Values::Rows(rows.select(kept)),
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
fn select(table: &Table, wishes: Wishes) -> Result<Option<Selection>> {
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
        Values::U8(rows) => most_variable(rows, count)?,
        Values::F32(rows) => most_variable(rows, count)?,
        Values::F64(rows) => most_variable(rows, count)?,
        Values::Csr(rows) => most_variable(rows, count)?,
        Values::Rows(rows) => most_variable(&Features::Streamed(rows.clone()), count)?,
    };
    tracing::info!("{} of {width} columns are kept, those that vary most (data.features)", columns.len());
    Ok(Some(Selection { of: width, columns }))
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
            let rows = match selected {
                Some(columns) => rows.columns(&columns.iter().copied().map(Some).collect::<Vec<_>>()),
                None => rows,
            };
            let [n, d] = rows.shape;
            if (n as u64).saturating_mul(4 * d as u64) > DENSE_BYTES.min(wishes.most_bytes / 4) {
                Features::Streamed(Streamed::new(Arc::new(SparseRows(rows))))
            } else {
                Features::F32(dense(&rows))
            }
        }
        Values::Rows(rows) => {
            let rows = match selected {
                Some(columns) => rows.columns(columns.iter().copied().map(Some).collect()),
                None => rows,
            };
            if given.is_none() && rows.is_wide() {
                let (offset, lost) = offset_of(&rows.moments()?);
                if lost {
                    warn_of_loss(path);
                }
                intake.offset.clone_from(&offset);
                return Ok(Features::Streamed(rows.less(offset)));
            }
            Features::Streamed(rows)
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
                warn_of_loss(path);
            }
            intake.offset = offset;
            return Ok(Features::F32(narrowed));
        }
    };
    match (given, plain) {
        (None, plain) => Ok(plain),
        (Some(offset), Features::U8(rows)) => take_off(path, rows.mapv(f64::from), offset, intake),
        (Some(offset), Features::F32(rows)) => take_off(path, rows.mapv(f64::from), offset, intake),
        (Some(offset), Features::Streamed(rows)) => {
            check_offset(path, rows.shape()[1], &offset)?;
            intake.offset = Some(offset.clone());
            Ok(Features::Streamed(rows.less(Some(offset))))
        }
    }
}

fn warn_of_loss(path: &Path) {
    tracing::warn!(
        "{}: some columns' values are so far from 0 that float64 rounds what tells rows apart",
        path.display()
    );
}

fn check_offset(path: &Path, found: usize, offset: &Array1<f64>) -> Result<()> {
    match offset.len() {
        expected if expected == found => Ok(()),
        expected => {
            Err(Error::data(path, format!("has {found} features a row, but the model was trained on {expected}")))
        }
    }
}

/// The rows less a model's offset, which becomes that of `intake`.
fn take_off(path: &Path, rows: Array2<f64>, offset: Array1<f64>, intake: &mut Intake) -> Result<Features> {
    check_offset(path, rows.ncols(), &offset)?;
    let narrowed = less(rows.view(), &offset);
    intake.offset = Some(offset);
    Ok(Features::F32(narrowed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ndarray::array;

    use super::*;
    use crate::data::format::Csr;

    /// A model knows `colour=red`, `size` and `colour=blue`; the file has no red row, and the other columns in another order.
    #[test]
    fn a_value_that_does_not_occur_is_a_column_of_zeros_in_rows_of_any_kind() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let wanted = names(&["colour=red", "size", "colour=blue"]);
        let csr = Csr { shape: [2, 2], starts: vec![0, 2, 3], columns: vec![0, 1, 1], values: vec![1.0, 7.0, 8.0] };
        let streamed = Values::Rows(Streamed::new(Arc::new(SparseRows(csr.clone()))));
        let expected = array![[0.0f32, 7.0, 1.0], [0.0, 8.0, 0.0]];
        let dense_rows = array![[1.0f32, 7.0], [0.0, 8.0]];
        for values in [Values::F32(dense_rows), Values::Csr(csr), streamed] {
            let columns = names(&["colour=blue", "size"]);
            let table = Table { values, columns, ..Table::default() };
            let wishes = Wishes { names: &wanted, most_bytes: u64::MAX, ..Wishes::default() };
            let found = dataset(Path::new("rows"), table, wishes).unwrap();
            assert_eq!((found.n_features(), &found.columns), (3, &wanted));
            let mut rows = Vec::new();
            found.features.each_row(|_, row| rows.extend_from_slice(row)).unwrap();
            assert!(expected.iter().eq(&rows), "{rows:?}");
        }
        let table = Table { columns: names(&["size"]), values: Values::F32(array![[1.0f32]]), ..Table::default() };
        let wishes = Wishes { names: &wanted, most_bytes: u64::MAX, ..Wishes::default() };
        let refused = dataset(Path::new("rows"), table, wishes).unwrap_err().to_string();
        assert!(refused.contains("has no column \"colour=red\""), "{refused}");
    }
}
