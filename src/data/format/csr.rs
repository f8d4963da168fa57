//! Builds a [`Csr`] from entries in any order. Every value in it is finite.

use std::path::Path;

use super::{reserved, Csr, Pick};
use crate::error::{Error, Result};

/// Bytes that one entry takes while the entries are put in order: once as a triplet, once in its row.
const ENTRY_BYTES: u64 = 20;
/// Bytes that one row takes meanwhile: its start, and where its next entry goes.
const ROW_BYTES: u64 = 16;

/// Entries of a matrix in any order; the same place may come more than once.
#[derive(Debug, Default)]
pub struct Entries {
    /// The rows, from 0.
    pub rows: Vec<u32>,
    /// The columns, from 0.
    pub columns: Vec<u32>,
    /// The values, as many as rows and columns.
    pub values: Vec<f32>,
}

impl Entries {
    /// Adds an entry. The caller has checked it against the matrix's shape.
    pub fn push(&mut self, row: u32, column: u32, value: f32) {
        self.rows.push(row);
        self.columns.push(column);
        self.values.push(value);
    }

    /// Puts the entries in order and adds up those of one place. Every row is below `shape[0]`.
    pub fn into_csr(self, path: &Path, shape: [usize; 2]) -> Result<Csr> {
        let places = self.rows.iter().zip(&self.columns).zip(&self.values);
        let mut csr = by_rows(path, shape, places.map(|((&row, &column), &value)| (row, column, value)))?;
        drop(self);
        tidy(path, &mut csr)?;
        Ok(csr)
    }
}

/// Entries (row, column, value) in any order as rows, each with its entries in the order in which they came. Every row is below
/// `shape[0]`.
pub fn by_rows(path: &Path, shape: [usize; 2], entries: impl Iterator<Item = (u32, u32, f32)> + Clone) -> Result<Csr> {
    let mut starts: Vec<u64> = reserved(path, shape[0] + 1)?;
    starts.resize(shape[0] + 1, 0);
    let mut count = 0;
    for (row, ..) in entries.clone() {
        starts[row as usize + 1] += 1;
        count += 1;
    }
    for row in 0..shape[0] {
        starts[row + 1] += starts[row];
    }
    let mut columns = reserved(path, count)?;
    columns.resize(count, 0u32);
    let mut values = reserved(path, count)?;
    values.resize(count, 0f32);
    let mut next = starts.clone();
    for (row, column, value) in entries {
        let to = &mut next[row as usize];
        columns[*to as usize] = column;
        values[*to as usize] = value;
        *to += 1;
    }
    Ok(Csr { shape, starts, columns, values })
}

/// Refuses a matrix that takes too much memory as it is, its rows in order.
pub fn check_ordered(path: &Path, pick: &Pick, rows: u64, entries: u64) -> Result<()> {
    let bytes = entries.saturating_add(rows.saturating_add(1)).saturating_mul(8);
    pick.check_bytes(path, "the entries of the sparse matrix", bytes)
}

/// Refuses a matrix whose entries take too much memory while they are put in order.
pub fn check_entries(path: &Path, pick: &Pick, rows: u64, entries: u64) -> Result<()> {
    let bytes = entries.saturating_mul(ENTRY_BYTES).saturating_add(rows.saturating_add(1).saturating_mul(ROW_BYTES));
    pick.check_bytes(path, "the entries of the sparse matrix", bytes)
}

/// Refuses a side that 32 bits cannot count, and gives the shape in the types that [`Csr`] has.
pub fn check_shape(path: &Path, rows: u64, columns: u64) -> Result<[usize; 2]> {
    match (u32::try_from(rows), u32::try_from(columns)) {
        (Ok(rows), Ok(columns)) => Ok([rows as usize, columns as usize]),
        _ => {
            let problem = format!("is said to be {rows} x {columns}, more than {} on a side", u32::MAX);
            Err(Error::data(path, format!("the sparse matrix {problem}; check the file or split it")))
        }
    }
}

/// A value as float32, or `None` if it is not finite there.
pub fn narrow(value: f64) -> Option<f32> {
    Some(value as f32).filter(|value| value.is_finite())
}

/// Sorts each row by column and adds up the entries of one place, in the order in which they came.
pub fn tidy(path: &Path, csr: &mut Csr) -> Result<()> {
    let mut row_entries: Vec<(u32, f32)> = Vec::new();
    let (mut from, mut kept) = (0, 0);
    for row in 0..csr.starts.len().saturating_sub(1) {
        let to = csr.starts[row + 1] as usize;
        if csr.columns[from..to].windows(2).all(|pair| pair[0] < pair[1]) {
            csr.columns.copy_within(from..to, kept);
            csr.values.copy_within(from..to, kept);
            kept += to - from;
        } else {
            row_entries.clear();
            row_entries.extend(csr.columns[from..to].iter().copied().zip(csr.values[from..to].iter().copied()));
            row_entries.sort_by_key(|entry| entry.0);
            kept = merge(csr, &row_entries, kept).ok_or_else(|| {
                let problem = "its entries of one column add up to more than float32 holds; scale the values down";
                Error::data(path, format!("row {row} (from 0): {problem}"))
            })?;
        }
        csr.starts[row + 1] = kept as u64;
        from = to;
    }
    csr.columns.truncate(kept);
    csr.values.truncate(kept);
    Ok(())
}

/// Writes one row's sorted entries at `kept`, those of equal columns added up. Gives the place after them, or `None` if
/// a sum is not finite.
fn merge(csr: &mut Csr, row_entries: &[(u32, f32)], mut kept: usize) -> Option<usize> {
    let first = kept;
    for &(column, value) in row_entries {
        if kept > first && csr.columns[kept - 1] == column {
            csr.values[kept - 1] += value;
            if !csr.values[kept - 1].is_finite() {
                return None;
            }
        } else {
            csr.columns[kept] = column;
            csr.values[kept] = value;
            kept += 1;
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn entries(list: &[(u32, u32, f32)]) -> Entries {
        let mut entries = Entries::default();
        list.iter().for_each(|&(row, column, value)| entries.push(row, column, value));
        entries
    }

    #[test]
    fn orders_entries_and_adds_up_those_of_one_place() {
        let csr = entries(&[(2, 1, 1.0), (0, 3, 2.0), (0, 0, 3.0), (2, 1, 4.0), (0, 3, 5.0), (3, 2, 6.0)])
            .into_csr(Path::new("m"), [4, 4])
            .unwrap();
        assert_eq!(csr.starts, [0, 2, 2, 3, 4]);
        assert_eq!(csr.columns, [0, 3, 1, 2]);
        assert_eq!(csr.values, [3.0, 7.0, 5.0, 6.0]);
    }

    #[test]
    fn an_empty_matrix_has_its_starts() {
        assert_eq!(Entries::default().into_csr(Path::new("m"), [0, 0]).unwrap().starts, [0]);
        assert_eq!(Entries::default().into_csr(Path::new("m"), [2, 5]).unwrap().starts, [0, 0, 0]);
    }

    #[test]
    fn a_sum_that_is_not_finite_is_refused() {
        let error = entries(&[(0, 0, 3e38), (0, 0, 3e38)]).into_csr(Path::new("m"), [1, 1]).unwrap_err();
        assert!(error.to_string().contains("row 0 (from 0)"), "{error}");
    }

    #[test]
    fn claims_are_checked_without_overflow() {
        let pick = Pick { most_bytes: 1000, ..Pick::default() };
        assert!(check_entries(Path::new("m"), &pick, u64::MAX, u64::MAX).is_err());
        assert!(check_entries(Path::new("m"), &pick, 3, 4).is_ok());
        assert!(check_shape(Path::new("m"), 1 << 32, 1).is_err());
        assert_eq!(narrow(1e300), None);
        assert_eq!(narrow(f64::NAN), None);
        assert_eq!(narrow(0.5), Some(0.5));
    }
}
