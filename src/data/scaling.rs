//! What is done to the values of raw rows before the network sees them.

use ndarray::{Array1, Array2, Axis};
use serde::Serialize;
use tch::Tensor;

use super::pass::Passes;
use super::{tensor_of, Channels, Features, Scale};
use crate::backend::ranks::Ranks;
use crate::error::Result;

/// The share of all variance that a tenth of the features holds where the others would not count without standardising.
const DOMINANT: f64 = 0.9;

/// Features below which whole numbers are not taken for counts, and how far the largest of these exceeds the mean of those that
/// are not 0.
const LEAST_COUNTED: usize = 50;
const LARGEST_COUNT: f64 = 10.0;

/// The share of zeros that weights of words have at least, and the ratio of lengths that rows of one length have at most.
const SPARSE: f64 = 0.8;
const ALIKE: f64 = 1.01;

/// Rows that tell at most what images have for a background, and how far their pixels differ from it.
const SAMPLE: usize = 1000;

/// A background that is so little of what pixels come to is 0.
const FAINT: f64 = 0.05;

/// So many of the pixels off the background say how far they differ from it, and single ones may differ so many times as far.
const USUAL_SHARE: f64 = 0.99;
const OUTLYING: f64 = 4.0;

/// What rows are, as far as their scaling is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "shape", rename_all = "snake_case")]
pub enum RowKind {
    /// Images of this height and width.
    Image([usize; 2]),
    /// Images of several channels: height, width and these.
    Colour([usize; 2], Channels),
    /// Values in the order of time, a wavelength, or the like.
    Series,
    /// Features without an order.
    Table,
}

/// From raw rows to those that the network sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Every value times this; not 0.
    Factor(f64),
    /// Each feature less its mean, over a deviation: its own, or one that all features share. Of images: less their background,
    /// over the greatest difference from it.
    Centre {
        /// \[d\].
        mean: Array1<f32>,
        /// \[d\], above 0: where each feature has its own, 1 for one that is the same in all rows.
        deviation: Array1<f32>,
        /// What is done to each row before that.
        rows: RowRule,
    },
}

/// What is done to each row by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowRule {
    /// Nothing.
    Plain,
    /// Of counts: the row is brought to this sum (a sum below 1 counts as 1), and ln(1 + x) of its values taken.
    Counts(f64),
    /// The row is brought to length 1; a row of zeros stays.
    Unit,
}

impl Scaling {
    /// What `scale` comes to for these rows; with the root mean square of the values after it.
    ///
    /// `auto`: of images the background becomes 0, which is also what comes in where an image is moved, and what differs most
    /// from it 1 or −1, whatever they are in the file (but for outliers: no pixel may dim all the others); an autoencoder learns
    /// little from rows that are all but 0. Series are divided by their root mean square, so that the mean of ‖x‖²/d is 1 (Xie
    /// et al. 2016, §4.1). Of tables each feature is centred, since an autoencoder learns nothing from small differences beside a
    /// large mean; and divided by its own deviation where a tenth of the features (at least one) holds nine tenths of the
    /// variance, as where columns have units of their own, by the deviation of all where not. Where they are counts, what is
    /// centred is ln(1 + x) of rows brought to the median of their sums: how much was counted in a row says nothing, and large
    /// counts vary the more the larger they are.
    ///
    /// Sparse weights, as of words in texts (at least 50 features, none below 0, four fifths of the values 0, no counts), whose rows
    /// differ in length are brought to length 1 before they are centred: how long a text is says nothing.
    ///
    /// The passes that it takes are divided among `ranks`.
    ///
    /// # Errors
    /// [`crate::Error::Data`] where rows that stay in a file cannot be read; [`crate::Error::Processes`].
    pub fn new(scale: Scale, features: &Features, kind: RowKind, ranks: Ranks) -> Result<(Self, f64)> {
        let rows = Passes { features, ranks };
        let by = |factor: f64, root: f64| (Self::Factor(factor), factor * root);
        Ok(match (scale, kind) {
            (Scale::Factor(factor), _) => by(factor, root_mean_square(rows)?),
            (Scale::Standardise, _) => Self::standardise(&Moments::of(rows, RowRule::Plain)?),
            (Scale::Centre, _) => Self::centre(&Moments::of(rows, RowRule::Plain)?),
            (Scale::Counts, _) => Self::of_counts(rows)?,
            (Scale::Unit, _) => Self::of_directions(rows)?,
            (Scale::Auto, RowKind::Image(shape)) => Self::of_images(rows, shape)?,
            (Scale::Auto, RowKind::Colour(_, channels)) => Self::of_colour(rows, channels)?,
            (Scale::Auto, RowKind::Series) => {
                let root = root_mean_square(rows)?;
                by(1.0 / root, root)
            }
            (Scale::Auto, RowKind::Table) => Self::of_table(rows)?,
        })
    }

    fn of_counts(rows: Passes) -> Result<(Self, f64)> {
        let mut totals = Vec::new();
        rows.each_own(|row| totals.push(total_of(row)))?;
        let mut totals = rows.of_all(&totals)?;
        let middle = totals.len() / 2;
        let total = totals.select_nth_unstable_by(middle, f64::total_cmp).1.max(1.0);
        let rule = RowRule::Counts(total);
        Ok(Self::centre(&Moments::of(rows, rule)?).after(rule))
    }

    fn of_directions(rows: Passes) -> Result<(Self, f64)> {
        Ok(Self::centre(&Moments::of(rows, RowRule::Unit)?).after(RowRule::Unit))
    }

    fn of_images(rows: Passes, shape: [usize; 2]) -> Result<(Self, f64)> {
        let features = rows.features;
        let sample = features.sample(SAMPLE)?;
        let background = background(&sample, shape);
        let (mut greatest, mut squares) = (0.0f64, 0.0);
        rows.each_own(|row| {
            for value in row.iter().map(|&value| f64::from(value)) {
                greatest = greatest.max((value - background).abs());
                squares += (value - background).powi(2);
            }
        })?;
        rows.greatest(std::slice::from_mut(&mut greatest))?;
        rows.sum(std::slice::from_mut(&mut squares))?;
        let unit = match usual_difference(&sample, background) {
            Some(usual) if greatest > OUTLYING * usual => usual,
            _ => greatest,
        };
        let unit = if (unit as f32).is_normal() { unit } else { 1.0 };
        let magnitude = (squares / (features.n_rows() * features.n_features()) as f64).sqrt() / unit;
        if background == 0.0 {
            return Ok((Self::Factor(1.0 / unit), magnitude));
        }
        let everywhere = |value: f64| Array1::from_elem(features.n_features(), value as f32);
        let (mean, deviation) = (everywhere(background), everywhere(unit));
        Ok((Self::Centre { mean, deviation, rows: RowRule::Plain }, magnitude))
    }

    /// Each channel around its mean, which is what comes in where an image is moved, over one deviation for all.
    fn of_colour(rows: Passes, channels: Channels) -> Result<(Self, f64)> {
        let mut moments = Moments::of(rows, RowRule::Plain)?;
        let d = moments.mean.len();
        let (mut sums, per_channel) = (vec![0.0; channels.count], (d / channels.count).max(1) as f64);
        moments.mean.iter().enumerate().for_each(|(j, mean)| sums[channels.of(j, d)] += mean / per_channel);
        for j in 0..d {
            let mean = sums[channels.of(j, d)];
            moments.deviation[j] = (moments.deviation[j].powi(2) + (moments.mean[j] - mean).powi(2)).sqrt();
            moments.mean[j] = mean;
        }
        Ok(Self::centre(&moments))
    }

    fn of_table(rows: Passes) -> Result<(Self, f64)> {
        if are_counts(rows)? {
            tracing::info!(
                "the rows look like counts: each is brought to the same total and the logarithm taken \
                 (data.scale=centre if they are not)"
            );
            return Self::of_counts(rows);
        }
        if are_weights(rows)? {
            tracing::info!(
                "the rows look like weights of words: each is brought to length 1 (data.scale=centre if length matters)"
            );
            return Self::of_directions(rows);
        }
        let moments = Moments::of(rows, RowRule::Plain)?;
        if moments.some_dominate() {
            tracing::info!(
                "a few features hold nearly all of the variance, so each is standardised (data.scale=centre, one \
                 deviation for all, if their units compare)"
            );
            Ok(Self::standardise(&moments))
        } else {
            Ok(Self::centre(&moments))
        }
    }

    fn centre(moments: &Moments) -> (Self, f64) {
        let variance = moments.deviation.mapv(|s| s * s).mean().unwrap_or(0.0);
        let common = if (variance.sqrt() as f32).is_normal() { variance.sqrt() } else { 1.0 };
        let deviation = Array1::from_elem(moments.deviation.len(), common as f32);
        (
            Self::Centre { mean: moments.mean.mapv(|m| m as f32), deviation, rows: RowRule::Plain },
            variance.sqrt() / common,
        )
    }

    fn standardise(moments: &Moments) -> (Self, f64) {
        let varying = moments.deviation.iter().filter(|&&s| s > 0.0).count();
        let magnitude = (varying as f64 / moments.deviation.len().max(1) as f64).sqrt();
        let deviation = moments.deviation.mapv(|s| if s > 0.0 { s as f32 } else { 1.0 });
        (Self::Centre { mean: moments.mean.mapv(|m| m as f32), deviation, rows: RowRule::Plain }, magnitude)
    }

    /// The factor that remains to be applied to what [`Scaling::apply`] leaves.
    pub fn factor(&self) -> f64 {
        match self {
            Self::Factor(factor) => *factor,
            Self::Centre { .. } => 1.0,
        }
    }

    /// Means and deviations as float32 \[1, d\], of counts also the total \[1, 1\], of rows of length 1 `unit` \[1, 1\], each with its name, where features are
    /// centred; else nothing.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>> {
        let Self::Centre { mean, deviation, rows } = self else { return Ok(Vec::new()) };
        let rule = match rows {
            RowRule::Plain => None,
            RowRule::Counts(total) => Some(("total", Array1::from_elem(1, *total as f32))),
            RowRule::Unit => Some(("unit", Array1::ones(1))),
        };
        let rule = rule.iter().map(|(name, value)| (*name, value));
        let named = [("mean", mean), ("deviation", deviation)].into_iter().chain(rule);
        named.map(|(name, values)| Ok((name, tensor_of(values.view().insert_axis(Axis(0)))?))).collect()
    }

    /// Whether one factor is all that there is to do: then rows are kept in their own type.
    pub fn is_factor(&self) -> bool {
        matches!(self, Self::Factor(_))
    }

    /// A raw row \[d\] as training stores it: all is done to it but the factor.
    pub fn apply(&self, row: &mut [f32]) {
        let Self::Centre { mean, deviation, rows: rule } = self else { return };
        rule.apply(row);
        row.iter_mut().zip(mean).for_each(|(value, mean)| *value -= mean);
        row.iter_mut().zip(deviation).for_each(|(value, deviation)| *value /= deviation);
    }
}

impl RowRule {
    /// What a row that the rule was applied to is to be multiplied by, its logarithm undone, to have its own size again.
    pub(crate) fn size(self, row: &[f32]) -> f64 {
        match self {
            Self::Plain => 1.0,
            Self::Counts(total) => total_of(row).max(1.0) / total,
            Self::Unit => match length_of(row) {
                length if length > 0.0 => length,
                _ => 1.0,
            },
        }
    }

    fn apply(self, row: &mut [f32]) {
        match self {
            Self::Plain => {}
            Self::Counts(total) => {
                let factor = (total / total_of(row).max(1.0)) as f32;
                // ln(1 + 0) is 0, and counts are mostly that.
                let counted = row.iter_mut().filter(|value| **value != 0.0);
                counted.for_each(|value| *value = (*value * factor).ln_1p());
            }
            Self::Unit => {
                let length = length_of(row);
                if length > 0.0 {
                    row.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
                }
            }
        }
    }
}

/// A scaling of whole columns that comes after a rule for each row.
trait After {
    fn after(self, rule: RowRule) -> Self;
}

impl After for (Scaling, f64) {
    fn after(mut self, rule: RowRule) -> Self {
        if let Scaling::Centre { rows, .. } = &mut self.0 {
            *rows = rule;
        }
        self
    }
}

fn length_of(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Whether the values are sparse weights whose rows differ in length: see [`Scaling::new`].
fn are_weights(rows: Passes) -> Result<bool> {
    let features = rows.features;
    let [n, d] = [features.n_rows(), features.n_features()];
    if features.are_bytes() || d < LEAST_COUNTED {
        return Ok(false);
    }
    let (mut counts, mut least, mut most) = ([0.0, 0.0], [f64::INFINITY], [0.0f64]);
    let [zeros, fractions] = &mut counts;
    let negative = rows.any(|row| {
        *zeros += row.iter().filter(|&&value| value == 0.0).count() as f64;
        *fractions += row.iter().filter(|&&value| value.fract() != 0.0).count() as f64;
        let length = length_of(row);
        if length > 0.0 {
            (least[0], most[0]) = (least[0].min(length), most[0].max(length));
        }
        row.iter().any(|&value| value < 0.0)
    })?;
    rows.sum(&mut counts)?;
    rows.least(&mut least)?;
    rows.greatest(&mut most)?;
    let [zeros, fractions] = counts;
    Ok(!negative && zeros >= SPARSE * (n * d) as f64 && fractions > 0.0 && most[0] > ALIKE * least[0])
}

fn total_of(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value)).sum()
}

/// Whether the values count something, as sequencing reads of genes or words of a text do: whole numbers of many features of
/// which few are large, small ones the more frequent the smaller they are, in most features some above 1 (which tells them from
/// indicators).
fn are_counts(rows: Passes) -> Result<bool> {
    let features = rows.features;
    if features.n_features() < LEAST_COUNTED {
        return Ok(false);
    }
    let whole = |value: &f32| *value >= 0.0 && value.fract() == 0.0;
    if !features.are_bytes() && rows.any(|row| !row.iter().all(whole))? {
        return Ok(false);
    }
    let sample = features.sample(SAMPLE)?;
    let mut of = [0usize; 4];
    let (mut sum, mut greatest) = (0.0, 0.0f64);
    for value in sample.iter().map(|&value| f64::from(value)).filter(|&value| value > 0.0) {
        of[(value as usize).min(4) - 1] += 1;
        sum += value;
        greatest = greatest.max(value);
    }
    let present: usize = of.iter().sum();
    let several = sample.columns().into_iter().filter(|column| column.iter().any(|&value| value > 1.0)).count();
    Ok(of[0] > of[1]
        && of[1] > of[2]
        && of[2] > 0
        && greatest > LARGEST_COUNT * sum / present as f64
        && 2 * several > sample.ncols())
}

/// Of each feature, in float64.
struct Moments {
    mean: Array1<f64>,
    /// 0 for a feature that is the same in all rows, or whose deviation float32 cannot divide by.
    deviation: Array1<f64>,
}

impl Moments {
    /// Of the rows after `rule`.
    fn of(rows: Passes, rule: RowRule) -> Result<Self> {
        let (n, d) = (rows.features.n_rows().max(1) as f64, rows.features.n_features());
        let (mut mean, mut least, mut most) = (vec![0.0; d], vec![f64::INFINITY; d], vec![f64::NEG_INFINITY; d]);
        each_value(rows, rule, |j, value| {
            mean[j] += value;
            least[j] = least[j].min(value);
            most[j] = most[j].max(value);
        })?;
        rows.sum(&mut mean)?;
        rows.least(&mut least)?;
        rows.greatest(&mut most)?;
        let mean = Array1::from(mean) / n;
        let mut squares = vec![0.0; d];
        each_value(rows, rule, |j, value| squares[j] += (value - mean[j]).powi(2))?;
        rows.sum(&mut squares)?;
        let mut deviation: Array1<f64> = squares.into_iter().map(|sum| (sum / n).sqrt()).collect();
        for (j, s) in deviation.iter_mut().enumerate() {
            if least[j] == most[j] || !(*s as f32).is_normal() {
                *s = 0.0;
            }
        }
        Ok(Self { mean, deviation })
    }

    /// Whether a tenth of the features holds nearly all of the variance.
    fn some_dominate(&self) -> bool {
        let mut variance: Vec<f64> = self.deviation.iter().map(|s| s * s).collect();
        variance.sort_unstable_by(|a, b| b.total_cmp(a));
        let tenth = variance.len().div_ceil(10);
        variance.len() > 1 && variance[..tenth].iter().sum::<f64>() > DOMINANT * variance.iter().sum::<f64>()
    }
}

/// `f` with each value of this process's rows after `rule`, and the feature that it is of.
fn each_value(rows: Passes, rule: RowRule, mut f: impl FnMut(usize, f64)) -> Result<()> {
    let mut changed = vec![0.0; rows.features.n_features()];
    rows.each_own(|row| {
        let row = match rule {
            RowRule::Plain => row,
            _ => {
                changed.copy_from_slice(row);
                rule.apply(&mut changed);
                &changed
            }
        };
        row.iter().enumerate().for_each(|(j, &value)| f(j, value.into()));
    })
}

/// What most images have at their edge: the median of the outermost pixels.
fn background(images: &Array2<f32>, [height, width]: [usize; 2]) -> f64 {
    let at_edge = |j: usize| {
        let (y, x) = (j / width.max(1), j % width.max(1));
        y == 0 || y + 1 == height || x == 0 || x + 1 == width
    };
    let edges = images.columns().into_iter().enumerate().filter(|(j, _)| at_edge(*j));
    let edge = quantile(edges.flat_map(|(_, column)| column.into_iter().copied()).collect(), 0.5).unwrap_or(0.0);
    let greatest = images.iter().fold(0.0f32, |greatest, value| greatest.max(value.abs()));
    if edge.abs() < FAINT * f64::from(greatest) {
        return 0.0;
    }
    edge
}

/// How far the pixels that are not background differ from it, but for outliers; `None` without such pixels.
fn usual_difference(images: &Array2<f32>, background: f64) -> Option<f64> {
    let differences = images.iter().map(|&value| (f64::from(value) - background).abs() as f32);
    quantile(differences.filter(|&difference| difference > 0.0).collect(), USUAL_SHARE)
}

/// The value that this share of the others lies below; `None` of none.
pub(super) fn quantile(mut values: Vec<f32>, share: f64) -> Option<f64> {
    let place = (share * values.len() as f64) as usize;
    let last = values.len().checked_sub(1)?;
    Some(f64::from(*values.select_nth_unstable_by(place.min(last), f32::total_cmp).1))
}

/// The root mean square of all values, summed in float64.
fn root_mean_square(rows: Passes) -> Result<f64> {
    let mut sum = [0.0];
    each_value(rows, RowRule::Plain, |_, value| sum[0] += value * value)?;
    rows.sum(&mut sum)?;
    Ok((sum[0] / (rows.features.n_rows() * rows.features.n_features()) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;

    fn auto(features: &Features) -> (Scaling, f64) {
        fit(Scale::Auto, features, RowKind::Table)
    }

    fn fit(scale: Scale, features: &Features, kind: RowKind) -> (Scaling, f64) {
        Scaling::new(scale, features, kind, Ranks::ALONE).unwrap()
    }

    /// The rows as training stores them.
    fn stored(scaling: &Scaling, features: &Features) -> Array2<f32> {
        let mut rows = features.sample(usize::MAX).unwrap();
        rows.rows_mut().into_iter().for_each(|mut row| scaling.apply(row.as_slice_mut().unwrap()));
        rows
    }

    /// Counts of 60 features, the rows of two kinds, and the same in rows of twice and thrice the total.
    fn counts() -> Array2<f32> {
        Array2::from_shape_fn((40, 60), |(i, j)| {
            let share = 1.0 / (1.0 + ((j * 7 + i % 2 * 30) % 60) as f32);
            (20.0 * share * (1 + i % 3) as f32).floor()
        })
    }

    #[test]
    fn counts_are_found_and_brought_to_one_total() {
        let rows = counts();
        for features in [Features::F32(rows.clone()), Features::U8(rows.mapv(|value| value as u8))] {
            let (scaling, magnitude) = auto(&features);
            let Scaling::Centre { mean, deviation, rows: RowRule::Counts(total) } = &scaling else {
                panic!("{scaling:?}")
            };
            assert!((magnitude - 1.0).abs() < 1e-6);
            let stored = stored(&scaling, &features);
            let sum = rows.row(7).sum();
            let expected = ((rows[[7, 5]] * *total as f32 / sum).ln_1p() - mean[5]) / deviation[5];
            assert!((stored[[7, 5]] - expected).abs() < 1e-5);
            let same = &stored.row(0) - &stored.row(4); // of one kind, sums as 1 to 2
            let other = &stored.row(0) - &stored.row(3); // of the other, sums alike
            assert!(same.mapv(|d| d * d).sum() < 0.2 * other.mapv(|d| d * d).sum());
        }
    }

    #[test]
    fn what_is_no_count_is_not_taken_for_one() {
        let counted = |rows| are_counts(Passes { features: &Features::F32(rows), ranks: Ranks::ALONE }).unwrap();
        let not = |rows: Array2<f32>| assert!(!counted(rows));
        assert!(counted(counts()));
        not(counts() + 0.5);
        not(counts() - 1.0);
        not(counts().slice(ndarray::s![.., ..40]).to_owned());
        not(counts().mapv(|value| value.min(1.0)));
        not(Array2::from_shape_fn((40, 60), |(i, j)| ((i * 31 + j * 17) % 256) as f32)); // pixels
        not(Array2::from_shape_fn((40, 60), |(i, j)| ((i * 3 + j * 7) % 5) as f32)); // answers from 0 to 4
        not(Array2::zeros((40, 60)));
        // Indicators beside one amount.
        not(Array2::from_shape_fn((40, 60), |(i, j)| if j == 0 { 5000.0 + i as f32 } else { ((i + j) % 2) as f32 }));
    }

    #[test]
    fn a_row_without_counts_stays_finite() {
        let mut rows = counts();
        rows.row_mut(3).fill(0.0);
        let features = Features::F32(rows);
        let (scaling, _) = fit(Scale::Counts, &features, RowKind::Table);
        assert!(stored(&scaling, &features).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn columns_in_units_of_their_own_are_standardised() {
        let table = array![[1.0f32, 5000.0, 7.0], [2.0, 7000.0, 7.0], [3.0, 9000.0, 7.0]];
        let s = 1.5f32.sqrt();
        let expected = array![[-s, -s, 0.0], [0.0, 0.0, 0.0], [s, s, 0.0]];
        let bytes = array![[1u8, 50, 7], [2, 70, 7], [3, 90, 7]];
        for table in [Features::F32(table), Features::U8(bytes)] {
            let (scaling, magnitude) = auto(&table);
            assert!((magnitude - (2.0f64 / 3.0).sqrt()).abs() < 1e-12);
            assert_eq!(scaling.factor(), 1.0);
            let rows = stored(&scaling, &table);
            assert!((&rows - &expected).iter().all(|difference| difference.abs() < 1e-6), "{rows}");
        }
    }

    #[test]
    fn columns_of_one_kind_are_centred_and_share_a_deviation() {
        // Differences of 1 and 2 beside a mean of 1000.
        let table = Features::F32(array![[1001.0, 998.0], [999.0, 1002.0]]);
        let (scaling, magnitude) = auto(&table);
        assert!((magnitude - 1.0).abs() < 1e-6);
        let root = 2.5f32.sqrt();
        let expected = array![[1.0 / root, -2.0 / root], [-1.0 / root, 2.0 / root]];
        let rows = stored(&scaling, &table);
        assert!((&rows - &expected).iter().all(|difference| difference.abs() < 1e-5), "{rows}");
        assert_eq!(fit(Scale::Centre, &table, RowKind::Image([1, 2])).0, scaling, "images too, where asked for");
        let (asked_for, _) = fit(Scale::Standardise, &table, RowKind::Table);
        let rows = stored(&asked_for, &table);
        assert!(rows.iter().all(|value| (value.abs() - 1.0).abs() < 1e-5), "{rows}");
        let same = Features::F32(array![[7.0], [7.0]]);
        let (scaling, magnitude) = auto(&same);
        assert_eq!((stored(&scaling, &same), magnitude), (array![[0.0], [0.0]], 0.0));
    }

    /// Images of 4 x 7 pixels of which the inner ones, two lines of five, are `lit` by turns.
    fn images(background: f32, lit: [f32; 2]) -> Array2<f32> {
        Array2::from_shape_fn((6, 28), |(i, j)| {
            let inner = (1..3).contains(&(j / 7)) && (1..6).contains(&(j % 7));
            if inner {
                lit[i % 2]
            } else {
                background
            }
        })
    }

    fn of_images(rows: &Features) -> (Scaling, f64) {
        fit(Scale::Auto, rows, RowKind::Image([4, 7]))
    }

    #[test]
    fn images_and_series_are_not_standardised_place_by_place() {
        let rows = images(0.0, [16.0, 12.0]);
        let bytes = Features::U8(rows.mapv(|value| value as u8));
        for rows in [bytes, Features::F32(rows.clone()), Features::F32(-&rows)] {
            let (scaling, magnitude) = of_images(&rows);
            assert_eq!(scaling, Scaling::Factor(1.0 / 16.0));
            assert!((magnitude - ((1.0 + 0.5625) / 2.0 * 10.0 / 28.0f64).sqrt()).abs() < 1e-12);
        }
        let rows = Features::F32(rows);
        assert!(matches!(fit(Scale::Auto, &rows, RowKind::Series).0, Scaling::Factor(_)));
        assert!(matches!(auto(&rows).0, Scaling::Centre { .. }));
    }

    #[test]
    fn the_background_of_images_becomes_nothing() {
        let dark = images(0.0, [1.0, 0.5]);
        let (_, magnitude) = of_images(&Features::F32(dark.clone()));
        let white = Features::U8(images(200.0, [0.0, 100.0]).mapv(|value| value as u8));
        for (rows, sign) in [(Features::F32(images(-1.0, [1.0, 0.0])), 1.0), (white, -1.0)] {
            let (scaling, same) = of_images(&rows);
            assert_eq!((stored(&scaling, &rows), same), (&dark * sign, magnitude));
        }
        let faint = Features::U8(images(1.0, [200.0, 100.0]).mapv(|value| value as u8));
        assert_eq!(of_images(&faint).0, Scaling::Factor(1.0 / 200.0));
    }

    #[test]
    fn one_pixel_does_not_dim_the_others_and_no_difference_is_none() {
        let mut rows = Array2::from_shape_fn((3000, 28), |(i, j)| images(0.0, [1.0, 0.5])[[i % 6, j]]);
        rows[[1500, 10]] = 1e4;
        assert_eq!(of_images(&Features::F32(rows)).0, Scaling::Factor(1.0));
        assert_eq!(of_images(&Features::U8(Array2::zeros((5, 28)))), (Scaling::Factor(1.0), 0.0));
    }

    #[test]
    fn a_mean_far_from_zero_costs_no_digits_and_a_spread_too_small_is_none() {
        // Seconds since 1970 within some minutes, in steps that float32 has; and a spread that is subnormal.
        let rows = Features::F32(array![[1.7e9, 0.0], [1.7e9 + 512.0, 1e-40]]);
        let (scaling, magnitude) = fit(Scale::Standardise, &rows, RowKind::Table);
        assert_eq!(magnitude, 0.5f64.sqrt());
        let rows = stored(&scaling, &rows);
        assert!(rows.column(0).iter().all(|value| (value.abs() - 1.0).abs() < 1e-5), "{rows}");
        assert!(rows.column(1).iter().all(|value| value.abs() < 1e-30), "{rows}");
    }
}
