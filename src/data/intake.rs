//! What is done to a file's columns before their values become float32: some are selected, and what all rows have in common is
//! taken off in float64. It is part of the model: new rows go the same way.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};
use tch::Tensor;

use super::format::Csr;
use super::precision::{is_coarse, STEP_F32, STEP_F64};
use super::{values_of, Features};
use crate::error::{Error, Result};

/// What was done to a file's columns. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Intake {
    /// Which of the file's columns were kept, ascending; `None` for all.
    pub selected: Option<Selection>,
    /// What was taken off each kept column in float64; `None` for nothing.
    pub offset: Option<Array1<f64>>,
}

/// Columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Columns that the file has.
    pub of: usize,
    /// Those that were kept, ascending, each below `of`.
    pub columns: Vec<usize>,
}

impl Intake {
    /// Whether it does nothing.
    pub fn is_none(&self) -> bool {
        self.selected.is_none() && self.offset.is_none()
    }

    /// As tensors, each with its name: `offset` float64 \[d\], `selected` int64 \[d\], `selected_of` int64 \[1\].
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>> {
        let mut named = Vec::new();
        if let Some(offset) = &self.offset {
            named.push(("offset", Tensor::f_from_slice(&offset.to_vec())?));
        }
        if let Some(Selection { of, columns }) = &self.selected {
            let columns: Vec<i64> = columns.iter().map(|&column| column as i64).collect();
            named.push(("selected", Tensor::f_from_slice(&columns)?));
            named.push(("selected_of", Tensor::f_from_slice(&[*of as i64])?));
        }
        Ok(named)
    }
}

impl Intake {
    /// From the tensors that [`Intake::tensors`] gives, by their names.
    ///
    /// # Errors
    /// Selected columns that rows do not have, or a libtorch failure.
    pub fn from_tensors<'t>(tensor: impl Fn(&str) -> Option<&'t Tensor>) -> Result<Self> {
        let numbers = |name: &str| tensor(name).map(values_of::<i64>).transpose();
        let of = numbers("selected_of")?.and_then(|of| of.first().and_then(|&of| usize::try_from(of).ok()));
        let selected = match numbers("selected")?.zip(of) {
            Some((columns, of)) => {
                let column = |column| usize::try_from(column).ok().filter(|&column| column < of);
                let columns: Option<Vec<_>> = columns.into_iter().map(column).collect();
                let damaged = || Error::Rows(format!("selects a column that rows of {of} values do not have"));
                Some(Selection { of, columns: columns.ok_or_else(damaged)? })
            }
            None => None,
        };
        let offset = tensor("offset").map(values_of::<f64>).transpose()?.map(Into::into);
        Ok(Self { selected, offset })
    }
}

/// float64 rows as float32, with the offset that keeps what tells them apart; `None` where rounding loses nothing that matters. The
/// flag says whether float64 itself was too coarse.
pub(super) fn narrow(rows: Array2<f64>) -> (Array2<f32>, Option<Array1<f64>>, bool) {
    let mut columns = vec![Column::default(); rows.ncols()];
    for pass in Pass::ALL {
        rows.rows().into_iter().for_each(|row| columns.iter_mut().zip(row).for_each(|(c, &value)| c.add(pass, value)));
    }
    match offset_of(&columns) {
        (None, lost) => (rows.mapv(|value| value as f32), None, lost),
        (Some(offset), lost) => (less(rows.view(), &offset), Some(offset), lost),
    }
}

/// The offset for columns of float64, as [`narrow`] takes it off, and whether float64 was too coarse.
pub(super) fn offset_of(columns: &[Column]) -> (Option<Array1<f64>>, bool) {
    let coarse = |step: f64| columns.iter().any(|column| is_coarse(step, column.greatest, column.deviation()));
    if !coarse(STEP_F32) {
        return (None, false);
    }
    let offset = columns.iter().map(|column| {
        // One that does not vary here may do so in rows to come.
        let far = column.deviation() == 0.0 || is_coarse(STEP_F32, column.greatest, column.deviation());
        if far && column.mean().is_finite() {
            column.mean()
        } else {
            0.0
        }
    });
    (Some(offset.collect()), coarse(STEP_F64))
}

/// float64 rows less `offset`, as float32.
pub(super) fn less(rows: ArrayView2<f64>, offset: &Array1<f64>) -> Array2<f32> {
    let mut out = Array2::zeros(rows.raw_dim());
    Zip::from(out.rows_mut()).and(rows.rows()).for_each(|mut out, row| {
        Zip::from(&mut out).and(&row).and(offset).for_each(|out, &value, &off| *out = (value - off) as f32);
    });
    out
}

/// What is known of a column of float64 after two passes over it; values that are NaN do not count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Column {
    count: f64,
    sum: f64,
    squares: f64,
    greatest: f64,
    /// The first value, and whether another differs from it: sums of equal values are rounded, and say that they vary a little.
    first: Option<f64>,
    varies: bool,
}

/// Two passes over the values: sums first, then squares of differences from the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pass {
    Sums,
    Squares,
}

impl Pass {
    pub const ALL: [Self; 2] = [Self::Sums, Self::Squares];
}

impl Column {
    /// The next value in a pass.
    pub fn add(&mut self, pass: Pass, value: f64) {
        match pass {
            _ if value.is_nan() => {}
            Pass::Sums => {
                self.count += 1.0;
                self.sum += value;
                self.greatest = self.greatest.max(value.abs());
                self.varies |= *self.first.get_or_insert(value) != value;
            }
            Pass::Squares => self.squares += (value - self.mean()).powi(2),
        }
    }

    /// Of its known values; 0 without any.
    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    fn deviation(&self) -> f64 {
        match self.varies {
            true => (self.squares / self.count.max(1.0)).sqrt(),
            false => 0.0,
        }
    }
}

/// Rows whose values other than 0 can be gone through.
pub(super) trait Entries {
    /// n and d.
    fn shape(&self) -> [usize; 2];

    /// Calls `f` with row, column and value of each value other than 0, row by row.
    fn each(&self, f: &mut dyn FnMut(usize, usize, f64)) -> Result<()>;
}

impl Entries for Csr {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn each(&self, f: &mut dyn FnMut(usize, usize, f64)) -> Result<()> {
        for row in 0..self.shape[0] {
            for at in self.starts[row] as usize..self.starts[row + 1] as usize {
                f(row, self.columns[at] as usize, self.values[at].into());
            }
        }
        Ok(())
    }
}

impl<T: Copy + Into<f64>> Entries for Array2<T> {
    fn shape(&self) -> [usize; 2] {
        [self.nrows(), self.ncols()]
    }

    fn each(&self, f: &mut dyn FnMut(usize, usize, f64)) -> Result<()> {
        let entries = self.indexed_iter().map(|(place, &value)| (place, value.into()));
        entries.filter(|(_, value)| *value != 0.0).for_each(|((row, column), value)| f(row, column, value));
        Ok(())
    }
}

impl Entries for Features {
    fn shape(&self) -> [usize; 2] {
        [self.n_rows(), self.n_features()]
    }

    fn each(&self, f: &mut dyn FnMut(usize, usize, f64)) -> Result<()> {
        self.each_row(|number, row| {
            let entries = row.iter().enumerate().filter(|(_, value)| **value != 0.0);
            entries.for_each(|(column, &value)| f(number, column, value.into()));
        })
    }
}

/// The `count` columns in which ln(1 + x) of rows brought to their median total varies the most, ascending; of columns that
/// are not 0 in two rows at least. Where values below 0 occur, x itself.
pub(super) fn most_variable(rows: &impl Entries, count: usize) -> Result<Vec<usize>> {
    let [n, d] = rows.shape();
    let (mut totals, mut counted) = (vec![0.0; n], true);
    rows.each(&mut |row, _, value| {
        totals[row] += value;
        counted = counted && value >= 0.0;
    })?;
    let mut sorted: Vec<f64> = totals.iter().copied().filter(|&total| total > 0.0).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(1.0);
    let (mut sums, mut squares, mut present) = (vec![0.0; d], vec![0.0; d], vec![0u32; d]);
    rows.each(&mut |row, column, value| {
        let value = if counted { (value * median / totals[row].max(f64::MIN_POSITIVE)).ln_1p() } else { value };
        sums[column] += value;
        squares[column] += value * value;
        present[column] += u32::from(value != 0.0);
    })?;
    let n = n.max(1) as f64;
    let variance = |j: usize| squares[j] / n - (sums[j] / n).powi(2);
    let mut columns: Vec<usize> = (0..d).filter(|&j| present[j] >= 2).collect();
    columns.sort_by(|&a, &b| variance(b).total_cmp(&variance(a)).then(a.cmp(&b)));
    columns.truncate(count);
    columns.sort_unstable();
    Ok(columns)
}

impl Csr {
    /// The columns at these places, in this order; 0 where there is none.
    pub(super) fn columns(&self, places: &[Option<usize>]) -> Self {
        let mut places_of: Vec<Vec<u32>> = vec![Vec::new(); self.shape[1]];
        for (place, column) in (0..).zip(places) {
            column.iter().for_each(|&column| places_of[column].push(place));
        }
        let (mut kept, mut row) = (Self { starts: vec![0], ..Self::default() }, Vec::new());
        kept.shape = [self.shape[0], places.len()];
        for i in 0..self.shape[0] {
            row.clear();
            for at in self.starts[i] as usize..self.starts[i + 1] as usize {
                row.extend(places_of[self.columns[at] as usize].iter().map(|&place| (place, self.values[at])));
            }
            row.sort_unstable_by_key(|&(place, _)| place);
            kept.columns.extend(row.iter().map(|(place, _)| place));
            kept.values.extend(row.iter().map(|(_, value)| value));
            kept.starts.push(kept.values.len() as u64);
        }
        kept
    }
}

/// Sparse rows as dense ones.
pub(super) fn dense(rows: &Csr) -> Array2<f32> {
    let mut out = Array2::zeros(rows.shape);
    for (i, mut row) in out.rows_mut().into_iter().enumerate() {
        for at in rows.starts[i] as usize..rows.starts[i + 1] as usize {
            row[rows.columns[at] as usize] = rows.values[at];
        }
    }
    out
}

/// The columns of dense rows that `selection` keeps.
pub(super) fn keep_columns(features: &Features, columns: &[usize]) -> Features {
    match features {
        Features::U8(rows) => Features::U8(rows.select(Axis(1), columns)),
        Features::F32(rows) => Features::F32(rows.select(Axis(1), columns)),
        Features::Streamed(rows) => Features::Streamed(rows.columns(columns.iter().copied().map(Some).collect())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;

    #[test]
    fn what_float32_would_lose_is_kept_by_an_offset() {
        let rows = array![[1e8 + 0.25, 1.0], [1e8 - 0.25, 2.0], [1e8 + 0.5, 4.0], [1e8 - 0.5, 8.0]];
        let (narrowed, offset, lost) = narrow(rows);
        assert_eq!(offset.unwrap(), array![1e8, 0.0]);
        assert_eq!(narrowed, array![[0.25, 1.0], [-0.25, 2.0], [0.5, 4.0], [-0.5, 8.0]]);
        assert!(!lost);
        let (narrowed, offset, lost) = narrow(array![[0.1], [0.2]]);
        assert_eq!((narrowed, offset, lost), (array![[0.1f32], [0.2]], None, false));
        assert!(narrow(array![[9e15], [9e15 + 2.0]]).2, "float64 steps by 1 there");
        let (_, offset, _) = narrow(array![[5.0], [5.0]]);
        assert_eq!(offset, None, "nothing varies");
        // The mean of three times 0.1 is another number in float64.
        assert_eq!(narrow(array![[0.1], [0.1], [0.1]]), (array![[0.1f32], [0.1], [0.1]], None, false));
    }

    #[test]
    fn the_columns_that_vary_are_kept_in_their_order() {
        // Column 0 is constant after totals, 1 in a single row, 2 and 3 vary.
        let dense_rows =
            array![[5.0f32, 0.0, 5.0, 0.0], [5.0, 0.0, 0.0, 5.0], [5.0, 1.0, 4.0, 0.0], [5.0, 0.0, 1.0, 4.0]];
        let mut csr = Csr { shape: [4, 4], starts: vec![0], columns: Vec::new(), values: Vec::new() };
        for row in dense_rows.rows() {
            for (j, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                csr.columns.push(j as u32);
                csr.values.push(value);
            }
            csr.starts.push(csr.values.len() as u64);
        }
        assert_eq!(most_variable(&csr, 2).unwrap(), [2, 3]);
        assert_eq!(most_variable(&dense_rows, 2).unwrap(), [2, 3]);
        assert_eq!(dense(&csr.columns(&[Some(1), Some(3)])), dense_rows.select(Axis(1), &[1, 3]));
        assert_eq!(dense(&csr), dense_rows);
        // In another order, one twice, and one that is not there.
        let picked = csr.columns(&[Some(3), None, Some(0), Some(3)]);
        let expected =
            array![[0.0f32, 0.0, 5.0, 0.0], [5.0, 0.0, 5.0, 5.0], [0.0, 0.0, 5.0, 0.0], [4.0, 0.0, 5.0, 4.0]];
        assert_eq!(dense(&picked), expected);
        assert_eq!(picked.columns[1..4], [0, 2, 3], "in their order");
        assert_eq!(dense(&csr.columns(&[Some(2), Some(3)])), dense_rows.select(Axis(1), &[2, 3]));
    }
}
