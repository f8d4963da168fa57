//! What should be known about rows before they are clustered.

use std::collections::HashSet;

use super::{hash, Features};
use crate::error::Result;

/// Rows and columns that say nothing of their own. Told by 64 bits of hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Columns whose values are all the same.
    pub constant_columns: usize,
    /// Columns that repeat another; of the constant ones all but one do.
    pub duplicate_columns: usize,
    /// Rows that repeat an earlier one.
    pub duplicate_rows: usize,
    /// Rows that were looked at.
    pub rows: usize,
}

impl Health {
    /// In one pass over the rows.
    ///
    /// ```
    /// use dec::data::{Features, Health};
    /// // The second column is always 0; the last row repeats the first.
    /// let rows = ndarray::array![[1.0f32, 0.0, 1.0], [2.0, 0.0, 2.0], [1.0, 0.0, 1.0]];
    /// let health = Health::of(&Features::F32(rows))?;
    /// assert_eq!((health.constant_columns, health.duplicate_columns, health.duplicate_rows), (1, 1, 1));
    /// # Ok::<(), dec::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Data`] where rows that stay in a file cannot be read.
    pub fn of(features: &Features) -> Result<Self> {
        let d = features.n_features();
        let mut columns = vec![0; d];
        let mut varies = vec![false; d];
        let (mut first, mut rows) = (Vec::new(), HashSet::new());
        features.each_row(|number, row| {
            if number == 0 {
                first = row.to_vec();
            }
            let mut of_row = 0;
            for (j, value) in row.iter().enumerate() {
                of_row = next(of_row, *value);
                columns[j] = next(columns[j], *value);
                varies[j] |= value.to_bits() != first[j].to_bits();
            }
            rows.insert(of_row);
        })?;
        let constant_columns = varies.iter().filter(|varies| !**varies).count();
        let distinct: HashSet<u64> = columns.iter().copied().collect();
        Ok(Self {
            constant_columns,
            duplicate_columns: (columns.len() - distinct.len()).saturating_sub(constant_columns.saturating_sub(1)),
            duplicate_rows: features.n_rows() - rows.len(),
            rows: features.n_rows(),
        })
    }
}

/// The hash of values of which the last is `value` and those before have the hash `before`. Runs go through every value before they
/// begin: a general hasher takes several times as long.
fn next(before: u64, value: f32) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15; // so that zeros count too
    hash(before.wrapping_add(STEP) ^ u64::from(value.to_bits()))
}
