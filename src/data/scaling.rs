//! What is done to the values of raw rows before the network sees them.

use ndarray::{Array1, Array2, Axis};

use super::Features;
use crate::config::Scale;

/// The share of all variance that a tenth of the features holds where the others would not count without standardising.
const DOMINANT: f64 = 0.9;

/// From raw rows to those that the network sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Every value times this; not 0.
    Factor(f64),
    /// Each feature less its mean, over its standard deviation.
    Standardise {
        /// \[d\].
        mean: Array1<f32>,
        /// \[d\], above 0: 1 for a feature that is the same in all rows.
        deviation: Array1<f32>,
    },
}

impl Scaling {
    /// What `scale` comes to for these rows, `images` or not; with the root mean square of the values after it.
    ///
    /// `auto`: images of bytes come to lie in \[0, 1\]. Of other rows each feature is standardised where a tenth of the features
    /// (at least one) holds nine tenths of the variance, as in a table whose columns have units of their own; else all values
    /// are divided by their root mean square, so that the mean of ‖x‖²/d is 1 (Xie et al. 2016, §4.1).
    pub fn new(scale: Scale, features: &Features, images: bool) -> (Self, f64) {
        let magnitude = root_mean_square(features);
        let by = |factor: f64| (Self::Factor(factor), factor * magnitude);
        match scale {
            Scale::Factor(factor) => by(factor),
            Scale::Auto if images && matches!(features, Features::U8(_)) => by(1.0 / 255.0),
            Scale::Auto if images || !some_dominate(&moments(features).1) => by(1.0 / magnitude),
            Scale::Auto | Scale::Standardise => {
                let (mean, deviation) = moments(features);
                let varying = deviation.iter().filter(|&&s| s > 0.0).count();
                let deviation = deviation.mapv(|s| if s > 0.0 { s as f32 } else { 1.0 });
                let magnitude = (varying as f64 / deviation.len().max(1) as f64).sqrt();
                (Self::Standardise { mean: mean.mapv(|m| m as f32), deviation }, magnitude)
            }
        }
    }

    /// The factor that remains to be applied to what [`Scaling::stored`] gives.
    pub fn factor(&self) -> f64 {
        match self {
            Self::Factor(factor) => *factor,
            Self::Standardise { .. } => 1.0,
        }
    }

    /// The rows as training stores them: in their own type where one factor is all that there is to do.
    pub fn stored(&self, features: Features) -> Features {
        match (self, features) {
            (Self::Factor(_), features) => features,
            (Self::Standardise { mean, deviation }, Features::U8(a)) => {
                standardised(a.mapv(f32::from), mean, deviation)
            }
            (Self::Standardise { mean, deviation }, Features::F32(a)) => standardised(a, mean, deviation),
        }
    }
}

fn standardised(mut rows: Array2<f32>, mean: &Array1<f32>, deviation: &Array1<f32>) -> Features {
    rows -= mean;
    rows /= deviation;
    Features::F32(rows)
}

/// Whether a tenth of the features holds nearly all of the variance.
fn some_dominate(deviation: &Array1<f64>) -> bool {
    let mut variance: Vec<f64> = deviation.iter().map(|s| s * s).collect();
    variance.sort_unstable_by(|a, b| b.total_cmp(a));
    let tenth = variance.len().div_ceil(10);
    variance.len() > 1 && variance[..tenth].iter().sum::<f64>() > DOMINANT * variance.iter().sum::<f64>()
}

/// Each feature's mean and standard deviation, in float64; a deviation that is rounding alone is 0.
fn moments(features: &Features) -> (Array1<f64>, Array1<f64>) {
    let (n, d) = (features.n_rows().max(1) as f64, features.n_features());
    let sum = |f: &dyn Fn(usize, f64) -> f64| {
        let mut sums = Array1::<f64>::zeros(d);
        let mut add = |row: &mut dyn Iterator<Item = f64>| {
            for (j, (sum, value)) in sums.iter_mut().zip(row).enumerate() {
                *sum += f(j, value);
            }
        };
        match features {
            Features::U8(a) => a.axis_iter(Axis(0)).for_each(|row| add(&mut row.iter().map(|&v| f64::from(v)))),
            Features::F32(a) => a.axis_iter(Axis(0)).for_each(|row| add(&mut row.iter().map(|&v| f64::from(v)))),
        }
        sums / n
    };
    let mean = sum(&|_, value| value);
    let deviation = sum(&|j, value| (value - mean[j]).powi(2)).mapv(f64::sqrt);
    let deviation =
        ndarray::Zip::from(&deviation).and(&mean).map_collect(|&s, m| if s > 1e-6 * m.abs() { s } else { 0.0 });
    (mean, deviation)
}

/// The root mean square of all values, summed in float64.
fn root_mean_square(features: &Features) -> f64 {
    let (sum, n) = match features {
        Features::U8(a) => (a.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>(), a.len()),
        Features::F32(a) => (a.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>(), a.len()),
    };
    (sum / n as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn columns_in_units_of_their_own_are_standardised() {
        let table = Features::F32(array![[1.0, 5000.0, 7.0], [2.0, 7000.0, 7.0], [3.0, 9000.0, 7.0]]);
        let (scaling, magnitude) = Scaling::new(Scale::Auto, &table, false);
        assert!((magnitude - (2.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(scaling.factor(), 1.0);
        let Features::F32(rows) = scaling.stored(table) else { panic!("bytes") };
        let s = 1.5f32.sqrt();
        let expected = array![[-s, -s, 0.0], [0.0, 0.0, 0.0], [s, s, 0.0]];
        assert!((rows - expected).iter().all(|difference| difference.abs() < 1e-6));
    }

    #[test]
    fn columns_of_one_kind_share_a_factor_and_stay_as_they_are() {
        let rows = Features::F32(array![[1.0, -1.0], [-3.0, 3.0]]);
        let (scaling, magnitude) = Scaling::new(Scale::Auto, &rows, false);
        assert_eq!((&scaling, magnitude), (&Scaling::Factor(1.0 / 5f64.sqrt()), 1.0));
        assert_eq!(scaling.stored(rows.clone()), rows);
        let (asked_for, _) = Scaling::new(Scale::Standardise, &rows, false);
        assert!(matches!(asked_for, Scaling::Standardise { .. }));
    }

    #[test]
    fn images_keep_their_dark_border() {
        let mut image = Array2::<u8>::zeros((4, 16));
        image[[0, 5]] = 255;
        assert_eq!(Scaling::new(Scale::Auto, &Features::U8(image.clone()), true).0, Scaling::Factor(1.0 / 255.0));
        let floats = Features::F32(image.mapv(f32::from));
        assert!(matches!(Scaling::new(Scale::Auto, &floats, true).0, Scaling::Factor(_)));
        assert!(matches!(Scaling::new(Scale::Auto, &floats, false).0, Scaling::Standardise { .. }));
    }

    #[test]
    fn a_mean_far_from_zero_costs_no_digits() {
        let rows = Features::F32(array![[1e6, 0.1], [1e6 + 2.0, 0.3]]);
        let (scaling, _) = Scaling::new(Scale::Standardise, &rows, false);
        let Features::F32(rows) = scaling.stored(rows) else { panic!("bytes") };
        assert!(rows.iter().all(|value| (value.abs() - 1.0).abs() < 1e-5), "{rows}");
    }
}
