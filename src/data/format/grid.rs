//! The values of a table while it is filled. The narrowest type that holds them is chosen; many go to a temporary file.

use std::path::Path;

use ndarray::Array2;

use super::spill::Spill;
use super::{no_room, reserved, Pick, Values};
use crate::data::precision::Spread;
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
    /// For each column, what says whether float32 will do; empty unless it is float64.
    spreads: Vec<Spread>,
    keeps_double: bool,
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
        Ok(Self { rows, width, cells, spreads, keeps_double: pick.keeps_double })
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
            Cells::Doubles(cells) if !self.keeps_double && self.spreads.iter().all(Spread::fits_f32) => {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::ROOMY;
    use super::*;

    fn filled(pick: &Pick, column: &[f64]) -> Values {
        let mut grid = Grid::new(Path::new("rows"), pick, column.len(), 1, Kind::Double).unwrap();
        grid.grow(column.len()).unwrap();
        column.iter().enumerate().for_each(|(row, &value)| grid.put(row, 0, value));
        grid.finish(Path::new("rows")).unwrap()
    }

    #[test]
    fn doubles_are_kept_where_float32_is_too_coarse_or_a_model_needs_them() {
        assert_eq!(filled(&ROOMY, &[0.1, 0.2]), Values::F32(ndarray::array![[0.1], [0.2]]));
        assert_eq!(filled(&ROOMY, &[1e9 + 0.25, 1e9]), Values::F64(ndarray::array![[1e9 + 0.25], [1e9]]));
        assert_eq!(filled(&ROOMY, &[1e9 + 0.25]), Values::F32(ndarray::array![[1e9]]), "nothing to tell apart");
        let exact = Pick { keeps_double: true, ..ROOMY };
        assert_eq!(filled(&exact, &[1e9 + 0.25]), Values::F64(ndarray::array![[1e9 + 0.25]]));
    }
}
