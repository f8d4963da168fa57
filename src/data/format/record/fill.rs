//! Fills the values of a table from record batches.

use std::ops::ControlFlow;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;

use super::super::grid::{Grid, Kind};
use super::super::{Pick, Values};
use super::number;
use super::text::MISSING;
use super::{wrong_rows, Content, Slot, Source};
use crate::error::{Error, Result};

/// As many values are converted at once.
const PIECE: usize = 1 << 20;

/// How many numbers the lists of the column `at` hold, as the first that is not missing says.
pub(super) fn list_width(source: &dyn Source, at: usize) -> Result<usize> {
    let field = source.schema().field(at);
    if let DataType::FixedSizeList(_, width) = field.data_type() {
        let width = usize::try_from(*width).unwrap_or(0);
        return if width > 0 { Ok(width) } else { Err(no_numbers(source.path(), field.name())) };
    }
    let mut width = None;
    source.scan(&[at], &mut |batch| {
        let column = batch.column(0);
        width = (0..column.len()).find(|&i| column.is_valid(i)).map(|i| bounds(column, i)).map(|(from, to)| to - from);
        Ok(if width.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    match width {
        Some(1..) => Ok(width.unwrap_or_default()),
        _ => Err(no_numbers(source.path(), field.name())),
    }
}

fn no_numbers(path: &Path, name: &str) -> Error {
    Error::data(path, format!("the lists of column {name} hold no numbers; leave it out"))
}

/// Where row `i` of a column of lists begins and ends among the items. Nothing for arrays that hold no lists.
fn bounds(array: &ArrayRef, i: usize) -> (usize, usize) {
    if let Some(list) = array.as_list_opt::<i32>() {
        let offsets = list.value_offsets();
        return (offsets[i] as usize, offsets[i + 1] as usize);
    }
    if let Some(list) = array.as_list_opt::<i64>() {
        let offsets = list.value_offsets();
        return (offsets[i] as usize, offsets[i + 1] as usize);
    }
    let width = array.as_fixed_size_list_opt().map_or(0, |list| list.value_length().max(0) as usize);
    (i * width, (i + 1) * width)
}

/// The items of a column of lists.
fn items(array: &ArrayRef) -> Option<&ArrayRef> {
    let of_list = array.as_list_opt::<i32>().map(|list| list.values());
    let of_large = || array.as_list_opt::<i64>().map(|list| list.values());
    of_list.or_else(of_large).or_else(|| array.as_fixed_size_list_opt().map(|list| list.values()))
}

/// Reads the numbers of the file into a new table of `rows` rows and `width` columns.
pub(super) fn fill(source: &dyn Source, pick: &Pick, slots: &[Slot], width: usize, rows: usize) -> Result<Values> {
    let mut filler = Filler::new(source, pick, slots, width, rows)?;
    let mut fields: Vec<usize> = slots.iter().filter_map(field).collect();
    fields.sort_unstable();
    fields.dedup();
    let piece = (PIECE / width.max(1)).max(1);
    if fields.is_empty() {
        while filler.filled < rows {
            filler.add(&[], &[], piece.min(rows - filler.filled))?;
        }
        return filler.finish();
    }
    source.scan(&fields, &mut |batch: &RecordBatch| {
        let mut start = 0;
        while start < batch.num_rows() {
            let count = piece.min(batch.num_rows() - start);
            let part = batch.slice(start, count);
            filler.add(&fields, part.columns(), count)?;
            start += count;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    filler.finish()
}

fn field(slot: &Slot) -> Option<usize> {
    match slot.content {
        Content::Number(at, _) | Content::List(at, _) => Some(at),
        Content::OneHot(_) => None,
    }
}

struct Filler<'a> {
    source: &'a dyn Source,
    pick: &'a Pick<'a>,
    slots: &'a [Slot],
    rows: usize,
    /// How many rows are filled.
    filled: usize,
    grid: Grid,
}

impl<'a> Filler<'a> {
    fn new(source: &'a dyn Source, pick: &'a Pick, slots: &'a [Slot], width: usize, rows: usize) -> Result<Self> {
        let of = |slot: &Slot| match slot.content {
            Content::Number(_, kind) | Content::List(_, kind) => kind,
            Content::OneHot(_) => Kind::Single,
        };
        let kind = slots.iter().map(of).max().unwrap_or(Kind::Single);
        let grid = Grid::new(source.path(), pick, rows, width, kind)?;
        Ok(Self { source, pick, slots, rows, filled: 0, grid })
    }

    /// Adds `count` rows, whose columns `fields` are `arrays`.
    fn add(&mut self, fields: &[usize], arrays: &[ArrayRef], count: usize) -> Result<()> {
        if count > self.rows - self.filled {
            return Err(wrong_rows(self.source.path(), self.filled + count, self.rows));
        }
        if arrays.iter().any(holds_nulls) {
            self.grid.widen(self.source.path(), self.pick)?;
        }
        self.grid.grow(self.filled + count)?;
        for slot in self.slots {
            let array = field(slot).and_then(|at| fields.binary_search(&at).ok()).and_then(|place| arrays.get(place));
            match (&slot.content, array) {
                (Content::OneHot(codes), _) => {
                    let codes = codes.get(self.filled..self.filled + count).unwrap_or_default();
                    for (i, &code) in codes.iter().enumerate() {
                        for column in 0..slot.width {
                            let one = f64::from(u8::from(column == code as usize));
                            self.put(i, slot.at + column, if code == MISSING { f64::NAN } else { one });
                        }
                    }
                }
                (Content::Number(at, _), Some(array)) => {
                    if !number::each(array.as_ref(), |i, value| self.put(i, slot.at, value)) {
                        return Err(self.damaged(*at));
                    }
                }
                (Content::List(at, _), Some(array)) => self.add_lists(slot, *at, array)?,
                (Content::Number(at, _) | Content::List(at, _), None) => return Err(self.damaged(*at)),
            }
        }
        self.filled += count;
        Ok(())
    }

    fn add_lists(&mut self, slot: &Slot, at: usize, array: &ArrayRef) -> Result<()> {
        let Some(items) = items(array) else { return Err(self.damaged(at)) };
        if array.is_empty() {
            return Ok(());
        }
        let (first, last) = (bounds(array, 0).0, bounds(array, array.len() - 1).1);
        let items = items.slice(first, last - first);
        let mut numbers = vec![0.0; items.len()];
        if !number::each(items.as_ref(), |i, value| numbers[i] = value) {
            return Err(self.damaged(at));
        }
        for i in 0..array.len() {
            if array.is_null(i) {
                (0..slot.width).for_each(|column| self.put(i, slot.at + column, f64::NAN));
                continue;
            }
            let (from, to) = bounds(array, i);
            if to - from != slot.width {
                return Err(self.ragged(at, self.filled + i, to - from, slot.width));
            }
            for (column, &value) in numbers[from - first..to - first].iter().enumerate() {
                self.put(i, slot.at + column, value);
            }
        }
        Ok(())
    }

    /// Sets a value of a row that is being added.
    fn put(&mut self, row: usize, column: usize, value: f64) {
        self.grid.put(self.filled + row, column, value);
    }

    fn name(&self, at: usize) -> &str {
        self.source.schema().field(at).name()
    }

    fn damaged(&self, at: usize) -> Error {
        let problem = format!("column {} cannot be read; the file may be damaged, write it again", self.name(at));
        Error::data(self.source.path(), problem)
    }

    fn ragged(&self, at: usize, row: usize, found: usize, expected: usize) -> Error {
        let problem = format!(
            "row {} of column {} holds {found} numbers where earlier rows hold {expected}; make them equally long",
            row + 1,
            self.name(at)
        );
        Error::data(self.source.path(), problem)
    }

    fn finish(self) -> Result<Values> {
        if self.filled != self.rows {
            return Err(wrong_rows(self.source.path(), self.filled, self.rows));
        }
        self.grid.finish(self.source.path())
    }
}

/// Whether an array, or the items of its lists, hold nulls.
fn holds_nulls(array: &ArrayRef) -> bool {
    array.logical_null_count() > 0 || items(array).is_some_and(|items| items.logical_null_count() > 0)
}
