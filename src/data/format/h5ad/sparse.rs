//! Sparse matrices, by rows (CSR) or by columns (CSC).

use super::super::csr::by_rows;
use super::super::grid::Kind;
use super::super::{reserved, Csr};
use super::H5;
use crate::data::precision::Spread;
use crate::error::{Error, Result};

/// A column that was not asked for.
const DROPPED: u32 = u32::MAX;

/// What the entries are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Csr,
    Csc,
}

/// Reads a sparse matrix of this shape. Zeros that it holds are dropped.
pub(super) fn read(
    h5: &H5,
    name: &str,
    layout: Layout,
    shape: [usize; 2],
    chosen: Option<&[usize]>,
    notes: &mut Vec<String>,
) -> Result<Csr> {
    let [rows, width] = shape;
    if u32::try_from(width).is_err() {
        return Err(Error::data(
            h5.path,
            format!("{name} has {width} columns, but at most 4 billion are read; pick another"),
        ));
    }
    let (major, minor) = if layout == Layout::Csr { (rows, width) } else { (width, rows) };
    let raw = Raw::read(h5, name, major, minor)?;
    if !raw.spread.fits_f32() {
        notes.push(format!("values of {name} are so far from 0 that float32 rounds what tells them apart"));
    }
    let csr = match layout {
        Layout::Csr => Csr { shape, starts: raw.starts, columns: raw.places, values: raw.values },
        Layout::Csc => transposed(h5, shape, &raw)?,
    };
    let map = chosen.map(|chosen| {
        let mut map = vec![DROPPED; width];
        for (to, &from) in chosen.iter().enumerate() {
            map[from] = to as u32;
        }
        (map, chosen.len())
    });
    Ok(tidy(csr, map))
}

/// The matrix as it is stored.
struct Raw {
    /// Where each row (of CSC: column) begins among the entries.
    starts: Vec<u64>,
    /// The column (of CSC: row) of each entry.
    places: Vec<u32>,
    values: Vec<f32>,
    spread: Spread,
}

impl Raw {
    fn read(h5: &H5, name: &str, major: usize, minor: usize) -> Result<Self> {
        let [data, indices, indptr] = ["data", "indices", "indptr"].map(|part| format!("{name}/{part}"));
        let count = |name: &str| -> Result<u64> {
            match h5.shape_of(name, &h5.dataset(name)?)?[..] {
                [count] => Ok(count),
                _ => Err(h5.damaged(name, &"it is not one row of numbers")),
            }
        };
        let entries = count(&data)?;
        let bytes = entries.saturating_mul(8).saturating_add((major as u64).saturating_mul(8));
        h5.pick.check_bytes(h5.path, &format!("the values of {name}"), bytes)?;
        if count(&indices)? != entries || count(&indptr)? != major as u64 + 1 || u32::try_from(minor).is_err() {
            return Err(h5.damaged(name, &"its data, indices, indptr and shape do not fit each other"));
        }
        let size = h5.size(entries)?;
        let mut starts: Vec<u64> = reserved(h5.path, major + 1)?;
        each_index(h5, &indptr, entries + 1, |start| starts.push(start))?;
        let ascend = starts.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ascend || starts.first() != Some(&0) || starts.last() != Some(&entries) {
            return Err(h5.damaged(&indptr, &"it does not ascend from 0 to the number of entries"));
        }
        let mut places: Vec<u32> = reserved(h5.path, size)?;
        each_index(h5, &indices, minor as u64, |place| places.push(place as u32))?;
        let mut values: Vec<f32> = reserved(h5.path, size)?;
        let mut spread = Spread::default();
        let dataset = h5.dataset(&data)?;
        let Some(number) = h5.number(&data, &dataset)? else {
            return Err(Error::data(h5.path, format!("{data} holds no numbers; name another array")));
        };
        h5.windows(&data, &dataset, number.size() as u64, |bytes| {
            for value in bytes.chunks_exact(number.size()).map(|bytes| number.get(bytes)) {
                if number.kind() == Kind::Double {
                    spread.add(value);
                }
                values.push(value as f32);
            }
            Ok(())
        })?;
        Ok(Self { starts, places, values, spread })
    }
}

/// Reads whole numbers below `limit`.
fn each_index(h5: &H5, name: &str, limit: u64, mut put: impl FnMut(u64)) -> Result<()> {
    let dataset = h5.dataset(name)?;
    let Some(number) = h5.number(name, &dataset)? else { return Err(h5.damaged(name, &"it holds no numbers")) };
    let mut wrong = false;
    h5.windows(name, &dataset, number.size() as u64, |bytes| {
        for bytes in bytes.chunks_exact(number.size()) {
            let value = number.index(bytes).filter(|&value| value < limit);
            wrong |= value.is_none();
            put(value.unwrap_or(0));
        }
        Ok(())
    })?;
    if wrong {
        return Err(
            h5.damaged(name, &format!("it holds numbers that are not between 0 and {}", limit.saturating_sub(1)))
        );
    }
    Ok(())
}

/// Columns to rows.
fn transposed(h5: &H5, shape: [usize; 2], raw: &Raw) -> Result<Csr> {
    let entries = raw.places.len();
    let bytes = (entries as u64).saturating_mul(16).saturating_add((shape[0] as u64 + shape[1] as u64) * 8);
    h5.pick.check_bytes(h5.path, "its values, while columns become rows,", bytes)?;
    let of_column = |(column, bounds): (usize, &[u64])| {
        let entries = bounds[0] as usize..bounds[1] as usize;
        entries.map(move |entry| (raw.places[entry], column as u32, raw.values[entry]))
    };
    by_rows(h5.path, shape, raw.starts.windows(2).enumerate().flat_map(of_column))
}

/// Renames columns, sorts each row, adds up what stands twice, as scipy does, and drops zeros, all in place.
fn tidy(mut csr: Csr, map: Option<(Vec<u32>, usize)>) -> Csr {
    let mut kept = 0;
    let mut row = vec![];
    let mut start = 0;
    for i in 0..csr.shape[0] {
        let end = csr.starts[i + 1] as usize;
        row.clear();
        for entry in start..end {
            let column = csr.columns[entry];
            let column = map.as_ref().map_or(column, |(map, _)| map[column as usize]);
            if column != DROPPED {
                row.push((column, csr.values[entry]));
            }
        }
        if !row.is_sorted_by(|a, b| a.0 < b.0) {
            row.sort_by_key(|&(column, _)| column);
            row.dedup_by(|again, first| {
                let same = again.0 == first.0;
                if same {
                    first.1 += again.1;
                }
                same
            });
        }
        for &(column, value) in row.iter().filter(|(_, value)| *value != 0.0) {
            csr.columns[kept] = column;
            csr.values[kept] = value;
            kept += 1;
        }
        csr.starts[i + 1] = kept as u64;
        start = end;
    }
    csr.columns.truncate(kept);
    csr.values.truncate(kept);
    if let Some((_, width)) = map {
        csr.shape[1] = width;
    }
    csr
}
