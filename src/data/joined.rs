//! Several files as one data set.

use std::path::Path;
use std::sync::Arc;

use ndarray::{concatenate, Array2, ArrayView2, Axis};

use super::format::{Csr, Table, Values};
use super::source::{Dense, SparseRows, Width};
use super::Streamed;
use crate::error::{Error, Result};

/// The rows of `tables`, which came from `paths`, one table after the other. Columns that have names are found by them.
///
/// # Errors
/// [`Error::Data`] for a table of other columns or images than the first.
pub(super) fn join(paths: &[&Path], tables: Vec<Table>) -> Result<Table> {
    let n_rows: Vec<usize> = tables.iter().map(|table| table.values.shape()[0]).collect();
    let mut tables = tables.into_iter();
    let Some(mut all) = tables.next() else { return Ok(Table::default()) };
    let mut values = vec![std::mem::take(&mut all.values)];
    let width = values[0].shape()[1];
    for (place, mut table) in tables.enumerate() {
        let path = paths[place + 1];
        if !all.columns.is_empty() && !table.columns.is_empty() {
            table.take_columns(path, &all.columns)?;
        }
        let found = table.values.shape()[1];
        if found != width {
            let problem = format!("has {found} columns where {} has {width}", paths[0].display());
            return Err(Error::data(path, format!("{problem}: files of one data set have the same")));
        }
        if (table.image, table.channels_first) != (all.image, all.channels_first) {
            let problem = format!("holds images of another shape than {}", paths[0].display());
            return Err(Error::data(path, problem));
        }
        // Names of some rows alone are none; labels of some rows are labels.
        let named = all.ids.is_empty() == table.ids.is_empty();
        all.ids.append(&mut table.ids);
        if !named {
            all.ids.clear();
        }
        all.labels = match (all.labels.take(), table.labels) {
            (None, None) => None,
            (first, second) => {
                let before = n_rows[..=place].iter().sum();
                let mut labels = first.unwrap_or_else(|| vec![None; before]);
                labels.extend(second.unwrap_or_else(|| vec![None; n_rows[place + 1]]));
                Some(labels)
            }
        };
        all.notes.append(&mut table.notes);
        values.push(table.values);
    }
    all.values = join_values(paths[0], values)?;
    Ok(all)
}

fn join_values(path: &Path, parts: Vec<Values>) -> Result<Values> {
    let is = |test: fn(&Values) -> bool| parts.iter().any(test);
    if parts.iter().all(|part| matches!(part, Values::Csr(_))) {
        return Ok(Values::Csr(join_sparse(parts)));
    }
    if is(|part| matches!(part, Values::Csr(_) | Values::Rows(_))) {
        return Ok(Values::Rows(Streamed::joined(parts.into_iter().map(streamed).collect())));
    }
    let nothing = |other: Values| (0, other.shape()[1]);
    if is(|part| matches!(part, Values::F64(_))) {
        let wide = |part| match part {
            Values::U8(rows) => rows.mapv(f64::from),
            Values::F32(rows) => rows.mapv(f64::from),
            Values::F64(rows) => rows,
            other => Array2::zeros(nothing(other)),
        };
        return stacked(path, parts, wide).map(Values::F64);
    }
    if is(|part| matches!(part, Values::F32(_))) {
        let single = |part| match part {
            Values::U8(rows) => rows.mapv(f32::from),
            Values::F32(rows) => rows,
            other => Array2::zeros(nothing(other)),
        };
        return stacked(path, parts, single).map(Values::F32);
    }
    let bytes = |part| match part {
        Values::U8(rows) => rows,
        other => Array2::zeros(nothing(other)),
    };
    stacked(path, parts, bytes).map(Values::U8)
}

/// What `rows_of` makes of each part, one after the other.
fn stacked<T: Clone>(path: &Path, parts: Vec<Values>, rows_of: impl Fn(Values) -> Array2<T>) -> Result<Array2<T>> {
    let parts: Vec<Array2<T>> = parts.into_iter().map(rows_of).collect();
    let views: Vec<ArrayView2<T>> = parts.iter().map(Array2::view).collect();
    concatenate(Axis(0), &views).map_err(|e| Error::data(path, format!("cannot be joined with the other files: {e}")))
}

fn streamed(part: Values) -> Streamed {
    match part {
        Values::U8(rows) => Streamed::new(Arc::new(Dense { rows, width: Width::U8 })),
        Values::F32(rows) => Streamed::new(Arc::new(Dense { rows, width: Width::F32 })),
        Values::F64(rows) => Streamed::new(Arc::new(Dense { rows, width: Width::F64 })),
        Values::Csr(rows) => Streamed::new(Arc::new(SparseRows(rows))),
        Values::Rows(rows) => rows,
    }
}

fn join_sparse(parts: Vec<Values>) -> Csr {
    let mut all = Csr { shape: [0, 0], starts: vec![0], columns: Vec::new(), values: Vec::new() };
    for part in parts {
        let Values::Csr(part) = part else { continue };
        let before = all.values.len() as u64;
        all.shape = [all.shape[0] + part.shape[0], part.shape[1]];
        all.starts.extend(part.starts[1..].iter().map(|start| start + before));
        all.columns.extend(part.columns);
        all.values.extend(part.values);
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::RowSource;
    use ndarray::array;

    fn table(values: Values) -> Table {
        Table { values, ..Table::default() }
    }

    fn joined(tables: Vec<Table>) -> Result<Table> {
        join(&[Path::new("a"), Path::new("b")], tables)
    }

    #[test]
    fn rows_follow_each_other_in_the_wider_type() {
        let bytes = || Values::U8(array![[1, 2]]);
        let of = |other| joined(vec![table(bytes()), table(other)]).unwrap().values;
        assert_eq!(of(Values::U8(array![[3, 4]])), Values::U8(array![[1, 2], [3, 4]]));
        assert_eq!(of(Values::F32(array![[0.5, 4.0]])), Values::F32(array![[1.0, 2.0], [0.5, 4.0]]));
        assert_eq!(of(Values::F64(array![[0.1, 4.0]])), Values::F64(array![[1.0, 2.0], [0.1, 4.0]]));
        let csr = || Csr { shape: [1, 2], starts: vec![0, 1], columns: vec![1], values: vec![9.0] };
        let Values::Rows(rows) = of(Values::Csr(csr())) else { panic!("not streamed") };
        let mut values = [0.0; 4];
        rows.read_f32(&[0, 1], &mut values).unwrap();
        assert_eq!(values, [1.0, 2.0, 0.0, 9.0]);
        let sparse = joined(vec![table(Values::Csr(csr())), table(Values::Csr(csr()))]).unwrap().values;
        let expected = Csr { shape: [2, 2], starts: vec![0, 1, 2], columns: vec![1, 1], values: vec![9.0, 9.0] };
        assert_eq!(sparse, Values::Csr(expected));
    }

    #[test]
    fn names_and_labels_are_joined_and_other_columns_refused() {
        let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let first =
            Table { columns: names(["x", "y"]), ids: vec!["r".to_owned()], ..table(Values::U8(array![[1, 2]])) };
        let second = Table {
            columns: names(["y", "x"]),
            labels: Some(vec![Some("red".to_owned())]),
            ..table(Values::U8(array![[4, 3]]))
        };
        let both = joined(vec![first.clone(), second.clone()]).unwrap();
        assert_eq!(both.values, Values::U8(array![[1, 2], [3, 4]]));
        assert!(both.ids.is_empty(), "names of some rows alone");
        assert_eq!(both.labels, Some(vec![None, Some("red".to_owned())]));
        let narrow = table(Values::U8(array![[1]]));
        let problem = joined(vec![first.clone(), narrow]).unwrap_err().to_string();
        assert!(problem.contains("b: has 1 columns where a has 2"), "{problem}");
        let other = Table { columns: names(["y", "z"]), ..second };
        assert!(joined(vec![first, other]).unwrap_err().to_string().contains("no column \"x\""));
    }
}
