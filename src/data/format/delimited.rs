//! Text with one row a line and separated cells: CSV, TSV and their kin.
//!
//! Rows are read one by one into columns. What a column is (numbers, categories, names, labels) is decided at the end.

use std::io::Read;
use std::path::Path;

use csv::StringRecord;

use self::column::{Column, Role};
use self::header::Header;
use self::records::Records;
use super::{listing, Pick, Table};
use crate::error::{Error, Result};

mod assemble;
pub(super) mod column;
pub(super) mod header;
pub(super) mod records;
#[cfg(test)]
mod tests;

/// Memory is checked, and columns are settled, each time so many cells were read.
const CELLS_PER_CHECK: usize = 1 << 18;
/// And each time so many bytes were.
const BYTES_PER_CHECK: usize = 8 << 20;
/// And each time so many rows were.
const ROWS_PER_CHECK: usize = 4096;

/// Reads delimited text, decompressed.
///
/// # Errors
///
/// If it is no UTF-8 text, if its lines have different numbers of cells, if a column of numbers has a cell that is none, if
/// a column that `pick` names is not there or does not suit, if no column of numbers is left, or if the memory that `pick`
/// allows is not enough.
pub fn read(path: &Path, bytes: &mut dyn Read, pick: &Pick) -> Result<Table> {
    let mut records = Records::open(path, bytes, pick, true)?;
    let sample = records.sample()?;
    let header = Header::find(&sample, records.style, &wanted(pick));
    let (roles, order) = roles(path, pick, &header)?;
    let mut columns: Vec<Column> = roles.into_iter().map(Column::new).collect();
    let rows = fill(path, pick, &header, &mut records, sample, &mut columns)?;
    if rows == 0 {
        return Err(Error::data(path, "has a header and no rows; give a file with rows"));
    }
    assemble::Assembly::new(path, pick, rows, records.style, header).table(columns, &order)
}

/// The names of columns that were asked for.
fn wanted<'a>(pick: &Pick<'a>) -> Vec<&'a str> {
    let many = pick.columns.iter().chain(pick.categorical).map(String::as_str);
    many.chain(pick.label_column).chain(pick.id_column).collect()
}

/// Each column's role, and the columns in the order in which they are taken.
fn roles(path: &Path, pick: &Pick, header: &Header) -> Result<(Vec<Role>, Vec<usize>)> {
    let places = header.places();
    let find = |name: &str| places.get(name).copied().ok_or_else(|| header.unknown(path, name));
    let chosen = !pick.columns.is_empty();
    let mut roles = vec![if chosen { Role::Skip } else { Role::Auto }; header.names.len()];
    let mut features = Vec::with_capacity(pick.columns.len());
    for name in pick.columns {
        let at = find(name)?;
        if roles[at] == Role::Auto {
            let problem = format!("column {} is asked for twice; name it once in --columns", shown(name));
            return Err(Error::data(path, problem));
        }
        roles[at] = Role::Auto;
        features.push(at);
    }
    for name in pick.categorical {
        let at = find(name)?;
        if roles[at] == Role::Skip {
            let problem = format!("column {} is in --categorical only; add it to --columns", shown(name));
            return Err(Error::data(path, problem));
        }
        roles[at] = Role::Categorical;
    }
    let free = if chosen { Role::Skip } else { Role::Auto };
    let mut others = Vec::new();
    for (name, role) in [(pick.label_column, Role::Label), (pick.id_column, Role::Id)] {
        let Some(name) = name else { continue };
        let at = find(name)?;
        if roles[at] != free {
            let problem = format!(
                "column {} can be only one of feature, label and row name; name it in one of --columns, --categorical, \
                 --label-column and --id-column",
                shown(name)
            );
            return Err(Error::data(path, problem));
        }
        roles[at] = role;
        others.push(at);
    }
    if header.index && roles[0] == free {
        roles[0] = Role::Index;
        others.push(0);
    }
    let order = if chosen { [others, features].concat() } else { (0..header.names.len()).collect() };
    Ok((roles, order))
}

/// Reads all rows into the columns and returns how many there are.
fn fill(
    path: &Path,
    pick: &Pick,
    header: &Header,
    records: &mut Records,
    sample: Vec<(u64, StringRecord)>,
    columns: &mut [Column],
) -> Result<usize> {
    let style = records.style;
    let step = (CELLS_PER_CHECK / columns.len().max(1)).clamp(1, ROWS_PER_CHECK);
    let (mut rows, mut unchecked_rows, mut unchecked_bytes) = (0_usize, 0, 0);
    let mut sample = sample.into_iter().skip(usize::from(header.present));
    let mut record = StringRecord::new();
    loop {
        let line = match sample.next() {
            Some((line, first)) => {
                record = first;
                line
            }
            None => match records.next(&mut record)? {
                Some(line) => line,
                None => break,
            },
        };
        header.check_width(path, line, &record, style)?;
        for (column, cell) in columns.iter_mut().zip(&record) {
            column.push(cell, line, style.decimal_comma);
        }
        rows += 1;
        unchecked_rows += 1;
        unchecked_bytes += record.as_slice().len();
        if unchecked_rows >= step || unchecked_bytes >= BYTES_PER_CHECK {
            columns.iter_mut().for_each(|column| column.settle(style.decimal_comma));
            check_held(path, pick, columns, 0)?;
            (unchecked_rows, unchecked_bytes) = (0, 0);
        }
        if rows >= u32::MAX as usize {
            return Err(Error::data(path, "has more than 4 billion rows; give fewer"));
        }
    }
    check_held(path, pick, columns, 0)?;
    Ok(rows)
}

/// Refuses columns that take too much memory, together with `more` bytes.
fn check_held(path: &Path, pick: &Pick, columns: &[Column], more: u64) -> Result<()> {
    let held: u64 = columns.iter().map(Column::held).sum();
    pick.check_bytes(path, "its columns", held.saturating_add(more))
}

/// A file's text for a message: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut short = String::new();
    for (count, letter) in text.chars().enumerate() {
        if count == 40 {
            short.push('…');
            break;
        }
        if letter.is_control() {
            short.extend(letter.escape_default());
        } else {
            short.push(letter);
        }
    }
    short
}

/// Names for a message: not too many.
pub(super) fn list(names: &[String]) -> String {
    listing(names, shown)
}
