//! Whether flat rows are images, by how their values hang together.

use ndarray::{Array2, ArrayView1};

use super::Features;
use crate::error::Result;

/// Pixels that an image has down and across at least: a file of three dimensions with fewer holds lines, a series or a table.
pub const LEAST_SIDE: usize = 4;
/// Rows that are looked at, at most.
const SAMPLE: usize = 2000;
/// The mean correlation that neighbouring pixels have at least.
const CORRELATION: f64 = 0.2;
/// By how much more a pixel hangs together with those beside and below it than with those half a line away, or the last of a line
/// with the first of the next. Of 38 sets that are no images the largest was 0.02; scikit-learn's 8 x 8 digits have 0.26.
const MARGIN: f64 = 0.1;

/// Flat rows that look like images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// Height and width.
    pub shape: [usize; 2],
    /// By how much more pixels hang together with their neighbours than with others, in correlation. At least 0.1.
    pub margin: f64,
}

/// Height and width of square images whose pixels `features` hold line by line; `None` where the rows look like no such thing.
///
/// In an image a pixel is like the next one and like the one below it, but less like one half a line away; and where a line ends
/// and the next begins there is a break. In a spectrum or a time series likeness falls with the distance and nothing breaks, and
/// the features of a table have no order at all. Only squares of 4 x 4 pixels and more are considered.
///
/// # Errors
/// [`crate::Error::Data`] where rows that stay in a file cannot be read.
pub fn guess_image(features: &Features) -> Result<Option<Guess>> {
    let side = features.n_features().isqrt();
    if side < LEAST_SIDE || side * side != features.n_features() {
        return Ok(None);
    }
    Ok(guess_square(&standardised(&features.sample(SAMPLE)?), side))
}

/// The same, of columns that are standardised.
fn guess_square(columns: &[Option<Vec<f64>>], side: usize) -> Option<Guess> {
    let within = |lag: usize| mean_correlation(columns, lag, |place| place % side + lag < side);
    let next = within(1)?;
    let below = mean_correlation(columns, side, |_| true)?;
    let near = next.min(below);
    let between = within(side / 2)?;
    // Lines may end in pixels that never vary.
    let broken = mean_correlation(columns, 1, |place| place % side + 1 == side).unwrap_or(0.0);
    let margin = near - between.max(broken);
    (near > CORRELATION && margin > MARGIN).then_some(Guess { shape: [side, side], margin })
}

/// The features that vary, each with its place, mean 0 and length 1 over the rows.
fn standardised(sample: &Array2<f32>) -> Vec<Option<Vec<f64>>> {
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

/// Over the pairs of features that are `lag` apart, the first at a place that `counts`; `None` without such pairs.
fn mean_correlation(columns: &[Option<Vec<f64>>], lag: usize, counts: impl Fn(usize) -> bool) -> Option<f64> {
    let pairs = columns.iter().zip(columns.iter().skip(lag)).enumerate().filter(|(place, _)| counts(*place));
    let correlations: Vec<f64> =
        pairs.filter_map(|(_, (a, b))| Some(a.as_ref()?.iter().zip(b.as_ref()?).map(|(a, b)| a * b).sum())).collect();
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
        let digits = load(&Source { source: "builtin", dir: None, labels: None, ..Source::default() }).unwrap();
        let found = guess_image(&digits.features).unwrap().unwrap();
        assert_eq!(found.shape, [28, 28]);
        assert!(found.margin > 0.3, "{}", found.margin);
    }

    #[test]
    fn tables_spectra_and_rows_of_no_square_are_not() {
        let table = Array2::from_shape_fn((300, 64), |(i, j)| noise(i * 64 + j));
        assert_eq!(guess_image(&Features::F32(table.clone())).unwrap(), None);
        // A random walk along the row: smooth, and no lines.
        let mut spectra = table.clone();
        for mut row in spectra.rows_mut() {
            for j in 1..64 {
                row[j] += row[j - 1];
            }
        }
        assert_eq!(guess_image(&Features::F32(spectra)).unwrap(), None);
        // One factor behind all features: all alike, at any distance.
        let factor = Array2::from_shape_fn((300, 64), |(i, j)| noise(i) + 0.1 * noise(900_000 + i * 64 + j));
        assert_eq!(guess_image(&Features::F32(factor)).unwrap(), None);
        assert_eq!(guess_image(&Features::F32(table.slice(ndarray::s![.., ..63]).to_owned())).unwrap(), None);
        assert_eq!(guess_image(&Features::U8(Array2::zeros((5, 16)))).unwrap(), None);
        assert_eq!(guess_image(&Features::U8(Array2::zeros((0, 16)))).unwrap(), None);
    }
}
