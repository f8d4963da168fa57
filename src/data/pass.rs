//! Passes over the values of a data set, which processes that train together divide among them.

use std::ops::Range;

use super::Features;
use crate::backend::ranks::Ranks;
use crate::error::Result;

/// A data set and those who go through it. All processes call the same at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passes<'a> {
    /// The values; all of them can be read by each process.
    pub features: &'a Features,
    pub ranks: Ranks,
}

impl Passes<'_> {
    /// Calls `f` with each row that is this process's, as float32.
    pub fn each_own(self, mut f: impl FnMut(&[f32])) -> Result<()> {
        self.features.each_row_in(self.share(), |_, row| f(row))
    }

    /// Which rows are this process's.
    fn share(self) -> Range<usize> {
        let share = self.ranks.share(self.features.n_rows() as i64);
        share.start as usize..share.end as usize
    }

    /// Whether `f` holds of a row, in whichever process. It stops looking in those that find one.
    pub fn any(self, mut f: impl FnMut(&[f32]) -> bool) -> Result<bool> {
        Ok(self.first(|_, row| f(row).then_some(()))?.is_some())
    }

    /// What `f` finds in the first row of all in which it finds something, by going through that row again.
    pub fn first<T>(self, mut f: impl FnMut(usize, &[f32]) -> Option<T>) -> Result<Option<T>> {
        let own = self.features.find_row_in(self.share(), |number, row| f(number, row).map(|found| (number, found)))?;
        if self.ranks.size() == 1 {
            return Ok(own.map(|(_, found)| found));
        }
        let first = self.ranks.first(own.as_ref().map(|(number, _)| *number as i64))?;
        match (own, first.map(|row| row as usize)) {
            (_, None) => Ok(None),
            (Some((number, found)), Some(first)) if number == first => Ok(Some(found)),
            (_, Some(first)) => self.features.find_row_in(first..first + 1, f),
        }
    }

    /// Of what each process has found of its rows: the sum.
    pub fn sum(self, values: &mut [f64]) -> Result<()> {
        self.ranks.fold(values, |a, b| a + b)
    }

    /// The least.
    pub fn least(self, values: &mut [f64]) -> Result<()> {
        self.ranks.fold(values, f64::min)
    }

    /// The greatest.
    pub fn greatest(self, values: &mut [f64]) -> Result<()> {
        self.ranks.fold(values, f64::max)
    }

    /// A value for each row, in the rows' order, of which `own` are those of this process's.
    pub fn of_all(self, own: &[f64]) -> Result<Vec<f64>> {
        self.ranks.join(own, self.features.n_rows() as i64)
    }
}
