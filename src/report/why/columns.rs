//! The columns in which a cluster differs from the other rows.

use ndarray::{s, ArrayView2};

use super::{check_labels, check_length, WhyError};

/// Bytes of sums that are held at once; columns are taken in groups that fit.
const SUMS: usize = 32 << 20;
/// Rows from which a column's median is taken at most, evenly spread.
const SAMPLE: usize = 4_096;
/// Largest |d| that is reported: columns that are constant within and differ between would have an infinite one.
pub const LARGEST_EFFECT: f64 = 99.0;

/// How the columns of a cluster are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ranking {
    /// By |d|. A row *has* a column when its value is above the column's median.
    #[default]
    Effect,
    /// For counts: by class-based TF-IDF (Grootendorst 2022, arXiv:2203.05794), tf · ln(1 + A / f): tf is the column's share of
    /// all that the cluster counts, f its sum over all rows, A the mean sum of a cluster. A row *has* a column when its value is
    /// above 0.
    Counts,
}

/// A column, seen from a cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnEffect {
    /// The column's number.
    pub column: u32,
    /// Cohen's d: (mean in the cluster − mean of the other rows) / pooled standard deviation, −99 to 99. Above 0: higher in
    /// the cluster.
    pub effect: f64,
    /// Mean in the cluster.
    pub mean: f64,
    /// Mean of the other rows.
    pub mean_rest: f64,
    /// Share of the cluster's rows that have the column, 0 to 1 ([`Ranking`] says what that means).
    pub share: f64,
    /// The same of the other rows.
    pub share_rest: f64,
    /// What the columns are ordered by, highest first: |d| or class-based TF-IDF.
    pub score: f64,
}

/// For each of `k` clusters, the `most` columns that tell it from the other rows, best first. `rows` is \[n, d\]; `labels` are
/// 0 to k − 1. Values that are not finite count as 0. Sums are float64, and each value is read once (beside the sample for the
/// medians). An empty cluster, and one that has all rows, get none.
///
/// # Errors
/// [`WhyError`], where the labels do not fit the rows.
pub fn distinguishing_columns(
    rows: ArrayView2<'_, f32>,
    labels: &[u32],
    k: usize,
    most: usize,
    ranking: Ranking,
) -> Result<Vec<Vec<ColumnEffect>>, WhyError> {
    check_length("labels", labels.len(), rows.nrows())?;
    check_labels(labels, k)?;
    let mut sizes = vec![0u64; k];
    labels.iter().for_each(|&label| sizes[label as usize] += 1);
    let totals = match ranking {
        Ranking::Counts => cluster_totals(rows, labels, k),
        Ranking::Effect => vec![0.0; k],
    };
    let at_once = (SUMS / (k.max(1) * size_of::<Sums>())).clamp(16, 4_096);
    let mut best: Vec<Vec<ColumnEffect>> = vec![Vec::new(); k];
    for first in (0..rows.ncols()).step_by(at_once) {
        let last = (first + at_once).min(rows.ncols());
        let group = rows.slice(s![.., first..last]);
        let sums = Group::new(group, labels, k, ranking);
        for cluster in (0..k).filter(|&cluster| sizes[cluster] > 0 && sizes[cluster] < labels.len() as u64) {
            let found = (first..last).map(|column| sums.effect(cluster, column - first, column, &sizes, &totals));
            best[cluster].extend(found.filter(|effect| effect.score > 0.0));
            best[cluster].sort_by(|x, y| y.score.total_cmp(&x.score).then(x.column.cmp(&y.column)));
            best[cluster].truncate(most);
        }
    }
    Ok(best)
}

/// What each cluster counts in all columns together.
fn cluster_totals(rows: ArrayView2<'_, f32>, labels: &[u32], k: usize) -> Vec<f64> {
    let mut totals = vec![0.0; k];
    for (row, &label) in rows.outer_iter().zip(labels) {
        totals[label as usize] += row.iter().map(|&value| finite(value).max(0.0)).sum::<f64>();
    }
    totals
}

fn finite(value: f32) -> f64 {
    match value.is_finite() {
        true => f64::from(value),
        false => 0.0,
    }
}

/// Of one cluster and one column. Values are less the column's offset, which keeps the squares exact.
#[derive(Clone, Copy, Default)]
struct Sums {
    sum: f64,
    squares: f64,
    having: u64,
}

/// The sums of some columns.
struct Group {
    ranking: Ranking,
    width: usize,
    offsets: Vec<f64>,
    /// \[k, width\].
    clusters: Vec<Sums>,
    all: Vec<Sums>,
}

impl Group {
    fn new(rows: ArrayView2<'_, f32>, labels: &[u32], k: usize, ranking: Ranking) -> Self {
        let width = rows.ncols();
        let medians: Vec<f64> = (0..width).map(|column| median(rows, column)).collect();
        let above = match ranking {
            Ranking::Effect => medians.clone(),
            Ranking::Counts => vec![0.0; width],
        };
        let mut clusters = vec![Sums::default(); k * width];
        for (row, &label) in rows.outer_iter().zip(labels) {
            let sums = &mut clusters[label as usize * width..][..width];
            for (column, (&value, sum)) in row.iter().zip(sums).enumerate() {
                let value = finite(value);
                let centred = value - medians[column];
                sum.sum += centred;
                sum.squares += centred * centred;
                sum.having += u64::from(value > above[column]);
            }
        }
        let mut all = vec![Sums::default(); width];
        for (place, sum) in clusters.iter().enumerate() {
            let total = &mut all[place % width];
            total.sum += sum.sum;
            total.squares += sum.squares;
            total.having += sum.having;
        }
        Self { ranking, width, offsets: medians, clusters, all }
    }

    /// `place` is the column's place in the group, `column` its number.
    fn effect(&self, cluster: usize, place: usize, column: usize, sizes: &[u64], totals: &[f64]) -> ColumnEffect {
        let (here, all) = (self.clusters[cluster * self.width + place], self.all[place]);
        let (n, n_rest) = (sizes[cluster] as f64, (sizes.iter().sum::<u64>() - sizes[cluster]) as f64);
        let (mean, mean_rest) = (here.sum / n, (all.sum - here.sum) / n_rest);
        // Sums of squares about the means; rounding can leave them just below 0.
        let within = (here.squares - here.sum * mean).max(0.0);
        let rest_sum = all.sum - here.sum;
        let within_rest = ((all.squares - here.squares) - rest_sum * mean_rest).max(0.0);
        let pooled = ((within + within_rest) / (n + n_rest - 2.0).max(1.0)).sqrt();
        let effect = cohens_d(mean - mean_rest, pooled);
        let offset = self.offsets[place];
        let score = match self.ranking {
            Ranking::Effect => effect.abs(),
            Ranking::Counts => {
                let f = all.sum + (n + n_rest) * offset;
                let in_cluster = here.sum + n * offset;
                let a = totals.iter().sum::<f64>() / totals.iter().filter(|&&total| total > 0.0).count().max(1) as f64;
                let usable = f > 0.0 && in_cluster > 0.0 && totals[cluster] > 0.0;
                if usable {
                    in_cluster / totals[cluster] * (1.0 + a / f).ln()
                } else {
                    0.0
                }
            }
        };
        ColumnEffect {
            column: column as u32,
            effect,
            mean: mean + offset,
            mean_rest: mean_rest + offset,
            share: here.having as f64 / n,
            share_rest: (all.having - here.having) as f64 / n_rest,
            score,
        }
    }
}

fn cohens_d(difference: f64, pooled: f64) -> f64 {
    // A difference that is only rounding is none.
    if difference.abs() <= 1e-12 {
        return 0.0;
    }
    (difference / pooled.max(f64::MIN_POSITIVE)).clamp(-LARGEST_EFFECT, LARGEST_EFFECT)
}

/// The column's median over all rows, or over [`SAMPLE`] of them.
fn median(rows: ArrayView2<'_, f32>, column: usize) -> f64 {
    let step = rows.nrows().div_ceil(SAMPLE).max(1);
    let mut values: Vec<f64> = rows.column(column).iter().step_by(step).map(|&value| finite(value)).collect();
    if values.is_empty() {
        return 0.0;
    }
    let middle = (values.len() - 1) / 2;
    let even = values.len().is_multiple_of(2);
    let (_, &mut low, above) = values.select_nth_unstable_by(middle, f64::total_cmp);
    match even {
        true => (low + above.iter().copied().fold(f64::INFINITY, f64::min)) / 2.0,
        false => low,
    }
}
