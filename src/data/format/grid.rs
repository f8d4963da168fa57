//! The values of a table while it is filled. The narrowest type that holds them is chosen; many go to a temporary file.

use std::path::Path;

use ndarray::Array2;

use super::spill::Spill;
use super::{no_room, reserved, Pick, Values};
use crate::error::{Error, Result};

/// What holds the numbers of a column without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Bytes.
    Byte,
    /// float32.
    Single,
    /// float64, as far as the type tells. The values may be such that float32 holds them too.
    Double,
}

impl Kind {
    fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Single => 4,
            Self::Double => 8,
        }
    }
}

enum Cells {
    Bytes(Vec<u8>),
    Singles(Vec<f32>),
    Doubles(Vec<f64>),
    /// In a file, since they are many.
    Spilled(Spill),
}

/// Rows of numbers, whose memory is reserved once.
pub(super) struct Grid {
    rows: usize,
    width: usize,
    cells: Cells,
    /// For each column, what says whether float32 holds it well; empty unless it is float64.
    spreads: Vec<Spread>,
}

impl Grid {
    /// Reserves memory for `rows` rows of `width` numbers, if they may be held.
    pub(super) fn new(path: &Path, pick: &Pick, rows: usize, width: usize, kind: Kind) -> Result<Self> {
        let spread_count = if kind == Kind::Double { width } else { 0 };
        let spread_bytes = (spread_count as u64).saturating_mul(size_of::<Spread>() as u64);
        let bytes = (rows as u64).saturating_mul(width as u64).saturating_mul(kind.bytes());
        let spills = bytes > pick.most_resident() && Spill::may_take(path, bytes);
        pick.check_bytes(path, "its values", if spills { spread_bytes } else { bytes.saturating_add(spread_bytes) })?;
        let size = rows.checked_mul(width).ok_or_else(|| no_room(path))?;
        let cells = match kind {
            _ if spills => Cells::Spilled(Spill::new(path, width, kind == Kind::Double)?),
            Kind::Byte => Cells::Bytes(reserved(path, size)?),
            Kind::Single => Cells::Singles(reserved(path, size)?),
            Kind::Double => Cells::Doubles(reserved(path, size)?),
        };
        let mut spreads = reserved(path, spread_count)?;
        spreads.resize(spread_count, Spread::default());
        Ok(Self { rows, width, cells, spreads })
    }

    /// Appends zeros until there are `rows` rows, of the number that memory was reserved for.
    pub(super) fn grow(&mut self, rows: usize) -> Result<()> {
        let size = rows.min(self.rows) * self.width;
        match &mut self.cells {
            Cells::Bytes(cells) => cells.resize(size, 0),
            Cells::Singles(cells) => cells.resize(size, 0.0),
            Cells::Doubles(cells) => cells.resize(size, 0.0),
            Cells::Spilled(spill) => spill.advance(rows.min(self.rows))?,
        }
        Ok(())
    }

    /// Sets a value of the rows that the last [`Grid::grow`] appended. Each is set once.
    pub(super) fn put(&mut self, row: usize, column: usize, value: f64) {
        let at = row * self.width + column;
        match &mut self.cells {
            Cells::Bytes(cells) => cells[at] = value as u8,
            Cells::Singles(cells) => cells[at] = value as f32,
            Cells::Doubles(cells) => {
                cells[at] = value;
                self.spreads[column].add(value);
            }
            Cells::Spilled(spill) => spill.put(row, column, value),
        }
    }

    /// Makes bytes float32, because bytes cannot say that a value is missing.
    pub(super) fn widen(&mut self, path: &Path, pick: &Pick) -> Result<()> {
        if let Cells::Bytes(cells) = &self.cells {
            let mut wide = Self::new(path, pick, self.rows, self.width, Kind::Single)?;
            if let Cells::Singles(to) = &mut wide.cells {
                to.extend(cells.iter().map(|&cell| f32::from(cell)));
            }
            *self = wide;
        }
        Ok(())
    }

    /// The table, once every row is filled.
    pub(super) fn finish(self, path: &Path) -> Result<Values> {
        let shape = (self.rows, self.width);
        let values = match self.cells {
            Cells::Spilled(spill) => return spill.finish(self.rows).map(Values::Rows),
            Cells::Bytes(cells) => Array2::from_shape_vec(shape, cells).map(Values::U8),
            Cells::Singles(cells) => Array2::from_shape_vec(shape, cells).map(Values::F32),
            Cells::Doubles(cells) if self.spreads.iter().all(Spread::fits_f32) => {
                let mut narrow = reserved(path, cells.len())?;
                narrow.extend(cells.into_iter().map(|cell| cell as f32));
                Array2::from_shape_vec(shape, narrow).map(Values::F32)
            }
            Cells::Doubles(cells) => Array2::from_shape_vec(shape, cells).map(Values::F64),
        };
        let [rows, width] = [self.rows, self.width];
        values.map_err(|error| {
            Error::data(path, format!("does not hold {rows} rows of {width} ({error}); write it again"))
        })
    }
}

/// Mean, deviation and bounds of the values of a column, to choose between float32 and float64.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
    most: f64,
    /// Whether float32 holds every value as it is.
    exact: bool,
}

impl Default for Spread {
    fn default() -> Self {
        Self { count: 0.0, mean: 0.0, squares: 0.0, most: 0.0, exact: true }
    }
}

impl Spread {
    pub(super) fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.exact &= f64::from(value as f32) == value;
        self.most = self.most.max(value.abs());
        self.count += 1.0;
        let step = value - self.mean;
        self.mean += step / self.count;
        self.squares += step * (value - self.mean);
    }

    /// Whether rounding to float32 changes values by no more than a thousandth of their deviation.
    pub(super) fn fits_f32(&self) -> bool {
        if self.exact {
            return true;
        }
        let deviation = (self.squares / self.count).sqrt();
        // The last term is the step of the smallest float32 numbers.
        let error = (self.most * 2f64.powi(-24)).max(2f64.powi(-150));
        self.most <= f64::from(f32::MAX) && error <= 1e-3 * deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(values: &[f64]) -> bool {
        let mut spread = Spread::default();
        values.iter().for_each(|&value| spread.add(value));
        spread.fits_f32()
    }

    #[test]
    fn chooses_float32_where_nothing_that_matters_is_lost() {
        assert!(fits(&[]) && fits(&[f64::NAN, 0.5]) && fits(&[0.1, 0.2, 0.3]));
        assert!(fits(&[16_777_216.0]) && !fits(&[16_777_217.0]));
        assert!(!fits(&[1e9 + 0.25, 1e9 + 0.5]) && !fits(&[0.1, 0.1]));
        assert!(!fits(&[1e300, -1e300]) && !fits(&[1e-50, 2e-50]));
    }
}
