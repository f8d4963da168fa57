//! Whether float32 is too coarse for the values of a column: one rule, for every format.
//!
//! It is where rounding would move values by a thousandth of their deviation or more. Readers then keep float64, and
//! [`super::intake`] takes the columns' means off in it. Where a reader finds that float32 will do, intake would find so too.

/// So much of a column's deviation matters.
const ROUGH: f64 = 1e-3;
/// The relative step of float32, and of float64.
pub(super) const STEP_F32: f64 = 1.0 / 16_777_216.0;
pub(super) const STEP_F64: f64 = 1.0 / 9_007_199_254_740_992.0;

/// Whether numbers that are `step` apart, relative to their size, are too coarse for values up to `greatest` of this deviation.
/// A column that does not vary tells no rows apart.
pub(super) fn is_coarse(step: f64, greatest: f64, deviation: f64) -> bool {
    deviation > 0.0 && greatest * step > ROUGH * deviation
}

/// What is known of a column's finite values after one pass over them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
    greatest: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut spread = Self::default();
        values.into_iter().for_each(|value| spread.add(value));
        spread
    }

    /// The next value (Welford 1962).
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.greatest = self.greatest.max(value.abs());
        self.count += 1.0;
        let step = value - self.mean;
        self.mean += step / self.count;
        self.squares += step * (value - self.mean);
    }

    /// Whether float32 will do.
    pub fn fits_f32(&self) -> bool {
        !is_coarse(STEP_F32, self.greatest, (self.squares / self.count.max(1.0)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float32_will_do_where_it_tells_values_apart() {
        let fits = |values: &[f64]| Spread::of(values.iter().copied()).fits_f32();
        assert!(fits(&[]) && fits(&[f64::NAN, 0.5]) && fits(&[0.1, 0.2, 0.3]) && fits(&[f64::INFINITY, 1.0, 2.0]));
        assert!(fits(&[16_777_217.0]) && fits(&[1e9 + 0.25; 3]), "nothing varies");
        assert!(!fits(&[16_777_217.0, 16_777_218.0]) && !fits(&[1e9 + 0.25, 1e9 + 0.5]));
        assert!(fits(&[1e9, 1e8]) && fits(&[1e300, -1e300]) && fits(&[1e-50, 2e-50]), "no offset would help");
    }
}
