//! What tells one data set from another: the SHA-256 of its rows, and of its labels.

use sha2::{Digest, Sha256};

use super::{Dataset, Features};

impl Dataset {
    /// Of the rows: their number, width, type and values.
    pub fn rows_sha256(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.n_rows() as u64).to_le_bytes());
        hash.update((self.n_features() as u64).to_le_bytes());
        match &self.features {
            Features::U8(rows) => {
                hash.update(b"u8");
                match rows.as_slice() {
                    Some(values) => hash.update(values),
                    None => rows.iter().for_each(|value| hash.update([*value])),
                }
            }
            Features::F32(rows) => {
                hash.update(b"f32");
                update(&mut hash, rows.iter().map(|value| value.to_le_bytes()));
            }
        }
        hex(hash)
    }

    /// Of the labels, where there are some.
    pub fn labels_sha256(&self) -> Option<String> {
        let labels = self.labels.as_ref()?;
        let mut hash = Sha256::new();
        update(&mut hash, labels.iter().map(|label| label.to_le_bytes()));
        Some(hex(hash))
    }
}

/// In blocks: a call for each value takes far longer than the hash.
fn update<const N: usize>(hash: &mut Sha256, values: impl Iterator<Item = [u8; N]>) {
    let mut block = Vec::with_capacity(1 << 16);
    for value in values {
        block.extend_from_slice(&value);
        if block.len() + N > 1 << 16 {
            hash.update(&block);
            block.clear();
        }
    }
    hash.update(&block);
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, Array2};

    fn dataset(features: Features, labels: Option<Vec<i64>>) -> Dataset {
        Dataset { features, labels, ..Dataset::default() }
    }

    #[test]
    fn a_value_a_type_or_a_shape_makes_another_data_set() {
        let rows = |features| dataset(features, None).rows_sha256();
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
