//! Whether flat rows are images, by how their values hang together.

use ndarray::ArrayView1;

use super::Features;

/// Pixels that an image has down and across at least: a file of three dimensions with fewer holds lines, a series or a table.
pub const LEAST_SIDE: usize = 4;
/// Rows that are looked at, at most.
const SAMPLE: usize = 2000;
/// The mean correlation that neighbouring pixels have at least.
const CORRELATION: f64 = 0.3;
/// By how much more a pixel hangs together with the one below it than with the one half a line further on.
const MARGIN: f64 = 0.1;

/// Height and width of square images whose pixels `features` hold line by line; `None` where the rows look like no such thing.
///
/// In an image a pixel is like the next one and like the one below it, a line's width further on, but less like those between.
/// In a spectrum or a time series likeness falls with the distance, and the features of a table have no order at all. Only
/// squares of 4 x 4 pixels and more are considered.
pub fn guess_image(features: &Features) -> Option<[usize; 2]> {
    let d = features.n_features();
    let side = d.isqrt();
    if side < LEAST_SIDE || side * side != d {
        return None;
    }
    let columns = standardised(features);
    let likeness = |lag: usize| mean_correlation(&columns, lag);
    let (next, below, between) = (likeness(1)?, likeness(side)?, likeness(side / 2)?);
    (next > CORRELATION && below > CORRELATION && below > between + MARGIN).then_some([side, side])
}

/// The features that vary, each with its place, mean 0 and length 1 over a sample of the rows.
fn standardised(features: &Features) -> Vec<Option<Vec<f64>>> {
    let sample = features.sample(SAMPLE);
    let column = |column: ArrayView1<f32>| {
        let mut values: Vec<f64> = column.iter().map(|&value| f64::from(value)).collect();
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        values.iter_mut().for_each(|v| *v -= mean);
        let length = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length <= 1e-9 * (1.0 + mean.abs()) {
            return None;
        }
        values.iter_mut().for_each(|v| *v /= length);
        Some(values)
    };
    sample.columns().into_iter().map(column).collect()
}

/// Over the pairs of features that are `lag` apart; `None` without such pairs.
fn mean_correlation(columns: &[Option<Vec<f64>>], lag: usize) -> Option<f64> {
    let pairs = columns.iter().zip(columns.iter().skip(lag));
    let correlations: Vec<f64> =
        pairs.filter_map(|(a, b)| Some(a.as_ref()?.iter().zip(b.as_ref()?).map(|(a, b)| a * b).sum())).collect();
    (!correlations.is_empty()).then(|| correlations.iter().sum::<f64>() / correlations.len() as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::{load, Source};
    use ndarray::Array2;

    fn noise(i: usize) -> f32 {
        (crate::data::hash(i as u64) >> 40) as f32 / (1 << 24) as f32 - 0.5
    }

    #[test]
    fn digits_are_images() {
        let digits = load(&Source { source: "builtin", dir: None, labels: None }).unwrap();
        assert_eq!(guess_image(&digits.features), Some([28, 28]));
    }

    #[test]
    fn tables_spectra_and_rows_of_no_square_are_not() {
        let table = Array2::from_shape_fn((300, 64), |(i, j)| noise(i * 64 + j));
        assert_eq!(guess_image(&Features::F32(table.clone())), None);
        // A random walk along the row: smooth, and no lines.
        let mut spectra = table.clone();
        for mut row in spectra.rows_mut() {
            for j in 1..64 {
                row[j] += row[j - 1];
            }
        }
        assert_eq!(guess_image(&Features::F32(spectra)), None);
        // One factor behind all features: all alike, at any distance.
        let factor = Array2::from_shape_fn((300, 64), |(i, j)| noise(i) + 0.1 * noise(900_000 + i * 64 + j));
        assert_eq!(guess_image(&Features::F32(factor)), None);
        assert_eq!(guess_image(&Features::F32(table.slice(ndarray::s![.., ..63]).to_owned())), None);
        assert_eq!(guess_image(&Features::U8(Array2::zeros((5, 16)))), None);
        assert_eq!(guess_image(&Features::U8(Array2::zeros((0, 16)))), None);
    }
}
