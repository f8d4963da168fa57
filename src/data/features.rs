//! The values of a data set: in memory, or where they were until they are needed.

use std::ops::Range;

use ndarray::{Array2, Axis};

use super::{RowSource, Streamed};
use crate::error::Result;

/// Values of rows that are read together in a pass over all of them.
const BLOCK_VALUES: usize = 1 << 20;

/// The values of a [`super::Dataset`], shape [n_rows, n_features], row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Features {
    /// Bytes, as IDX images and `uint8` NPY files have them: a quarter of the memory of `f32`.
    U8(Array2<u8>),
    /// Everything else, converted to single precision.
    F32(Array2<f32>),
    /// Rows that are read when they are needed, since they are large.
    Streamed(Streamed),
}

impl Default for Features {
    fn default() -> Self {
        Self::F32(Array2::zeros((0, 0)))
    }
}

impl Features {
    /// The number of rows.
    pub fn n_rows(&self) -> usize {
        match self {
            Self::U8(a) => a.nrows(),
            Self::F32(a) => a.nrows(),
            Self::Streamed(rows) => rows.shape()[0],
        }
    }

    /// The number of values in a row.
    pub fn n_features(&self) -> usize {
        match self {
            Self::U8(a) => a.ncols(),
            Self::F32(a) => a.ncols(),
            Self::Streamed(rows) => rows.shape()[1],
        }
    }

    /// Whether the values are bytes.
    pub fn are_bytes(&self) -> bool {
        match self {
            Self::U8(_) => true,
            Self::F32(_) => false,
            Self::Streamed(rows) => rows.is_bytes(),
        }
    }

    /// Bytes of a value.
    pub fn element_bytes(&self) -> usize {
        if self.are_bytes() {
            1
        } else {
            4
        }
    }

    /// The rows with these indices, in this order; an index may come more than once. Those in memory are copied.
    ///
    /// # Panics
    ///
    /// If an index is not below [`Features::n_rows`].
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::U8(a) => Self::U8(a.select(Axis(0), rows)),
            Self::F32(a) => Self::F32(a.select(Axis(0), rows)),
            Self::Streamed(streamed) => Self::Streamed(streamed.select(rows)),
        }
    }

    /// The rows with these indices, in this order, in memory.
    ///
    /// # Errors
    /// As for [`Features::find_row`].
    pub(crate) fn resident_at(&self, rows: &[usize]) -> Result<Self> {
        let shape = (rows.len(), self.n_features());
        if self.are_bytes() {
            let mut values = Array2::zeros(shape);
            self.read_u8(rows.iter().copied(), values.as_slice_mut().unwrap_or_default())?;
            return Ok(Self::U8(values));
        }
        let mut values = Array2::zeros(shape);
        self.read_f32(rows.iter().copied(), values.as_slice_mut().unwrap_or_default())?;
        Ok(Self::F32(values))
    }

    /// Rows by their numbers, as float32, into `out` of as many times d values.
    ///
    /// # Errors
    /// [`crate::Error::Data`] where rows that stay in a file cannot be read.
    pub(crate) fn read_f32(&self, rows: impl Iterator<Item = usize>, out: &mut [f32]) -> Result<()> {
        let d = self.n_features().max(1);
        match self {
            Self::U8(a) => rows.zip(out.chunks_exact_mut(d)).for_each(|(row, out)| {
                out.iter_mut().zip(a.row(row)).for_each(|(out, &value)| *out = value.into());
            }),
            Self::F32(a) => rows.zip(out.chunks_exact_mut(d)).for_each(|(row, out)| {
                out.iter_mut().zip(a.row(row)).for_each(|(out, &value)| *out = value);
            }),
            Self::Streamed(streamed) => streamed.read_f32(&rows.collect::<Vec<_>>(), out)?,
        }
        Ok(())
    }

    /// The same as bytes, where they are such.
    ///
    /// # Errors
    /// As for [`Features::read_f32`].
    pub(crate) fn read_u8(&self, rows: impl Iterator<Item = usize>, out: &mut [u8]) -> Result<()> {
        let d = self.n_features().max(1);
        match self {
            Self::U8(a) => rows.zip(out.chunks_exact_mut(d)).for_each(|(row, out)| {
                out.iter_mut().zip(a.row(row)).for_each(|(out, &value)| *out = value);
            }),
            Self::F32(a) => rows.zip(out.chunks_exact_mut(d)).for_each(|(row, out)| {
                out.iter_mut().zip(a.row(row)).for_each(|(out, &value)| *out = value as u8);
            }),
            Self::Streamed(streamed) => streamed.read_u8(&rows.collect::<Vec<_>>(), out)?,
        }
        Ok(())
    }

    /// Calls `f` with each row in turn, as float32, until it finds something.
    ///
    /// # Errors
    /// [`crate::Error::Data`] where rows that stay in a file cannot be read.
    pub fn find_row<T>(&self, f: impl FnMut(usize, &[f32]) -> Option<T>) -> Result<Option<T>> {
        self.find_row_in(0..self.n_rows(), f)
    }

    /// The same of the rows in `range`.
    ///
    /// # Errors
    /// As for [`Features::find_row`].
    pub(crate) fn find_row_in<T>(
        &self,
        range: Range<usize>,
        mut f: impl FnMut(usize, &[f32]) -> Option<T>,
    ) -> Result<Option<T>> {
        let d = self.n_features();
        if let Self::F32(rows) = self {
            if let Some(values) = rows.as_slice().filter(|_| d > 0) {
                let rows = values[range.start * d..range.end * d].chunks_exact(d);
                return Ok(range.zip(rows).find_map(|(number, row)| f(number, row)));
            }
        }
        let size = (BLOCK_VALUES / d.max(1)).max(1);
        let mut block = vec![0.0; size.min(range.len()) * d];
        for start in range.clone().step_by(size) {
            let end = (start + size).min(range.end);
            let block = &mut block[..(end - start) * d];
            self.read_f32(start..end, block)?;
            for number in start..end {
                let place = (number - start) * d;
                if let Some(found) = f(number, &block[place..place + d]) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Calls `f` with each row in turn, as float32.
    ///
    /// # Errors
    /// As for [`Features::find_row`].
    pub fn each_row(&self, f: impl FnMut(usize, &[f32])) -> Result<()> {
        self.each_row_in(0..self.n_rows(), f)
    }

    /// The same of the rows in `range`.
    ///
    /// # Errors
    /// As for [`Features::find_row`].
    pub(crate) fn each_row_in(&self, range: Range<usize>, mut f: impl FnMut(usize, &[f32])) -> Result<()> {
        let nothing: Option<()> = self.find_row_in(range, |number, row| {
            f(number, row);
            None
        })?;
        debug_assert!(nothing.is_none());
        Ok(())
    }

    /// At most so many of the rows, evenly spread, as float32.
    ///
    /// # Errors
    /// As for [`Features::read_f32`].
    pub(crate) fn sample(&self, most: usize) -> Result<Array2<f32>> {
        let step = self.n_rows().div_ceil(most).max(1);
        let chosen = (0..self.n_rows()).step_by(step);
        let mut rows = Array2::zeros((chosen.len(), self.n_features()));
        if let Some(values) = rows.as_slice_mut() {
            self.read_f32(chosen, values)?;
        }
        Ok(rows)
    }
}
