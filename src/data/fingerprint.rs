//! What tells one data set from another: the SHA-256 of its rows, and of its labels.

use sha2::{Digest, Sha256};

use super::Dataset;
use crate::error::Result;
use crate::text::hex;

/// Bytes that are hashed at once: a call for each value takes far longer than the hash.
const BLOCK_BYTES: usize = 1 << 16;

impl Dataset {
    /// Of the rows: their number, width, type and values.
    ///
    /// # Errors
    /// [`crate::Error::Data`] where rows that stay in a file cannot be read.
    pub fn rows_sha256(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update((self.n_rows() as u64).to_le_bytes());
        hash.update((self.n_features() as u64).to_le_bytes());
        let bytes = self.features.are_bytes();
        hash.update(if bytes { "u8" } else { "f32" });
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        self.features.each_row(|_, row| {
            match bytes {
                true => block.extend(row.iter().map(|&value| value as u8)),
                false => row.iter().for_each(|value| block.extend(value.to_le_bytes())),
            }
            if block.len() >= BLOCK_BYTES {
                hash.update(&block);
                block.clear();
            }
        })?;
        hash.update(&block);
        Ok(hex(hash.finalize()))
    }

    /// Of the labels, where there are some.
    pub fn labels_sha256(&self) -> Option<String> {
        let labels = self.labels.as_ref()?;
        let mut hash = Sha256::new();
        labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        Some(hex(hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::Features;
    use ndarray::{array, Array2};

    fn dataset(features: Features, labels: Option<Vec<i64>>) -> Dataset {
        Dataset { features, labels, ..Dataset::default() }
    }

    #[test]
    fn a_value_a_type_or_a_shape_makes_another_data_set() {
        let rows = |features| dataset(features, None).rows_sha256().unwrap();
        let table = array![[1.0f32, 2.0], [3.0, 4.0]];
        let base = rows(Features::F32(table.clone()));
        assert_eq!(base, rows(Features::F32(table.clone())));
        assert_eq!(base, rows(Features::F32(table.t().as_standard_layout().t().to_owned())));
        let others = [
            Features::F32(array![[1.0, 2.0], [3.0, 5.0]]),
            Features::F32(array![[1.0, 2.0, 3.0, 4.0]]),
            Features::U8(array![[1, 2], [3, 4]]),
        ];
        assert!(others.into_iter().all(|other| rows(other) != base));
        let many =
            |last: f32| Features::F32(Array2::from_shape_fn((300, 100), |(i, _)| if i < 299 { 0.5 } else { last }));
        assert_ne!(rows(many(0.5)), rows(many(0.25)));
        let labels = |labels| dataset(Features::U8(array![[1], [2]]), labels).labels_sha256();
        assert!(labels(None).is_none() && labels(Some(vec![0, 1])) != labels(Some(vec![1, 0])));
    }
}
