//! The 10,000 MNIST test digits, compiled in: the default run needs no network and no files.
//!
//! Source and licence: `builtin/README.md`.

use std::path::Path;

use super::input::Input;
use super::table::{self, Wishes};
use super::{array, Dataset, Pick};
use crate::error::Result;

const IMAGES: &[u8] = include_bytes!("builtin/t10k-images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("builtin/t10k-labels-idx1-ubyte.gz");

/// The digits: 10,000 rows of 784 bytes, labelled 0 to 9.
pub(super) fn load() -> Result<Dataset> {
    let images = Path::new("built-in t10k-images-idx3-ubyte.gz");
    let labels = Path::new("built-in t10k-labels-idx1-ubyte.gz");
    let pick = Pick { most_bytes: u64::MAX, ..Pick::default() };
    let table = array::read_table(&mut Input::from_bytes(images, IMAGES)?, &pick)?;
    let wishes = Wishes { most_bytes: u64::MAX, ..Wishes::default() };
    let found = table::dataset(images, table, wishes)?;
    let labels = array::read_labels(&mut Input::from_bytes(labels, LABELS)?)?;
    Ok(Dataset { labels: Some(labels), name: "MNIST test digits (built in)".to_owned(), ..found })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::Features;

    #[test]
    fn the_digits_are_those_of_the_database() {
        let digits = load().unwrap();
        assert_eq!((digits.n_rows(), digits.n_features(), digits.image), (10_000, 784, Some([28, 28])));
        let labels = digits.labels.as_ref().unwrap();
        assert_eq!(labels[..10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
        let mut counts = [0; 10];
        labels.iter().for_each(|&label| counts[label as usize] += 1);
        assert_eq!(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
        let Features::U8(pixels) = &digits.features else { panic!("bytes stay bytes") };
        // The published mean of the test images is 0.1325 of full ink.
        let mean = pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / (255.0 * pixels.len() as f64);
        assert!((mean - 0.1325).abs() < 5e-5, "{mean}");
    }
}
