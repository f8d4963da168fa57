//! How far a row is from its cluster, on a scale from 0 to 1 that the training rows have set.
//!
//! With d the squared distance of a row's latent code to the centroid of its cluster c,
//!
//! score = F(d / median_c), F(x) = share of the training rows whose scaled distance is at most x.
//!
//! The scale is the cluster's own median distance. Clusters differ in spread, and with one scale for all, every row of a wide
//! cluster would look like an outlier and none of a tight one. A cluster alone has too few rows for a quantile function of its
//! own; the median needs few, and a few far rows do not move it. F is pooled over all clusters, so it has all training rows.
//!
//! A score is a quantile, not a probability: of the training rows, one in a hundred scores 0.99 or more, by construction. New rows
//! of the same kind do so about as often; if more do, the data has changed.

use crate::error::{Error, Result};

/// Length of the quantile table.
pub const QUANTILES: usize = 512;

/// The distances of the training rows, as a table that is kept with the model.
///
/// ```
/// use dec::model::outlier::OutlierScale;
///
/// // A tight and a wide cluster.
/// let distances = [1.0, 2.0, 3.0, 4.0, 100.0, 200.0, 300.0, 400.0];
/// let scale = OutlierScale::fit(&distances, &[0, 0, 0, 0, 1, 1, 1, 1], 2)?;
/// assert_eq!(scale.score(4.0, 0), 1.0); // the farthest of its cluster
/// assert_eq!(scale.score(4.0, 0), scale.score(400.0, 1));
/// assert_eq!(scale.score(2.0, 0), 0.5); // half of the rows are at most as far
/// # Ok::<(), dec::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierScale {
    /// Median of the squared distances of each cluster, \[k\]; above 0.
    pub medians: Vec<f32>,
    /// Scaled distances at the shares 1/512, 2/512, … 1 of the training rows, \[512\]; never falling.
    pub quantiles: Vec<f32>,
}

impl OutlierScale {
    /// Learns the scale from the training rows.
    ///
    /// - `distances`: squared distance of each row to the centroid of its cluster, in latent space, \[n\].
    /// - `labels`: cluster of each row, \[n\], 0 to k - 1.
    /// - `n_clusters`: k. A cluster without rows, or with most rows on its centroid, takes the median of all rows.
    ///
    /// # Errors
    /// [`Error::Rows`] if there are no rows, the lengths differ, a label is out of range or a distance is negative, infinite or
    /// NaN.
    pub fn fit(distances: &[f32], labels: &[i64], n_clusters: usize) -> Result<Self> {
        if distances.is_empty() || distances.len() != labels.len() {
            let (rows, labels) = (distances.len(), labels.len());
            return Err(Error::Rows(format!(
                "outlier scores need rows, but there are {rows} distances, {labels} labels"
            )));
        }
        if let Some(bad) = distances.iter().find(|distance| !(distance.is_finite() && **distance >= 0.0)) {
            return Err(Error::Rows(format!("outlier scores need distances of 0 or more, but one is {bad}")));
        }
        let mut groups = vec![vec![]; n_clusters];
        for (&distance, &label) in distances.iter().zip(labels) {
            let group = usize::try_from(label).ok().and_then(|label| groups.get_mut(label));
            let Some(group) = group else {
                return Err(Error::Rows(format!("label {label} is none of the {n_clusters} clusters")));
            };
            group.push(distance);
        }
        // Rows on a centroid say nothing about the spread where most rows are on one.
        let all = median(distances.to_vec())
            .or_else(|| median(distances.iter().copied().filter(|&distance| distance > 0.0).collect()))
            .unwrap_or(1.0);
        let medians: Vec<f32> = groups.into_iter().map(|group| median(group).unwrap_or(all)).collect();
        let scaled = |(&distance, &label): (&f32, &i64)| distance / medians[label as usize];
        let mut sorted: Vec<f32> = distances.iter().zip(labels).map(scaled).map(|x| x.min(f32::MAX)).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let quantiles = (1..=QUANTILES).map(|i| sorted[(i * sorted.len()).div_ceil(QUANTILES) - 1]).collect();
        Ok(Self { medians, quantiles })
    }

    /// A scale that was kept with a model.
    ///
    /// # Errors
    /// [`Error::Rows`] if it cannot be one that [`OutlierScale::fit`] has made.
    pub fn from_parts(medians: Vec<f32>, quantiles: Vec<f32>) -> Result<Self> {
        let positive = medians.iter().all(|median| median.is_finite() && *median > 0.0);
        let finite = quantiles.iter().all(|quantile| quantile.is_finite() && *quantile >= 0.0);
        if !(positive && finite && quantiles.len() == QUANTILES && quantiles.is_sorted()) {
            let problem =
                "the table of distances is damaged: medians have to be above 0, quantiles 512 and never falling";
            return Err(Error::Rows(problem.to_owned()));
        }
        Ok(Self { medians, quantiles })
    }

    /// The score of a row with the squared distance `distance` to the centroid of its cluster `cluster`, 0 to 1.
    ///
    /// It is the share of the training rows that are at most as far, to within 1/512; 1 for a row as far as the farthest or
    /// farther, and for a distance that is NaN or a cluster that is none.
    pub fn score(&self, distance: f32, cluster: usize) -> f32 {
        let Some(median) = self.medians.get(cluster) else { return 1.0 };
        let x = f64::from(distance / median);
        if x.is_nan() {
            return 1.0;
        }
        // Between two entries of the table the share rises in proportion, from 0 at the centroid.
        let below = self.quantiles.partition_point(|&quantile| f64::from(quantile) <= x);
        let Some(&high) = self.quantiles.get(below) else { return 1.0 };
        let low = below.checked_sub(1).and_then(|at| self.quantiles.get(at)).copied().unwrap_or(0.0);
        let (low, high) = (f64::from(low), f64::from(high));
        let between = ((x - low) / (high - low)).clamp(0.0, 1.0);
        ((below as f64 + between) / QUANTILES as f64) as f32
    }
}

/// The lower median; `None` if it is 0 or there is none. A scale so small that a division by it overflows counts as 0.
fn median(mut values: Vec<f32>) -> Option<f32> {
    let middle = values.len().checked_sub(1)? / 2;
    let (_, median, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    Some(*median).filter(|median| *median >= f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Distances of `n` rows in `k` clusters, each ten times as wide as the one before, from a fixed generator.
    fn rows(n: usize, k: usize) -> (Vec<f32>, Vec<i64>) {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 + 0.5) / (1u64 << 24) as f32
        };
        let labels: Vec<i64> = (0..n).map(|i| (i % k) as i64).collect();
        let distances = labels.iter().map(|&label| -next().ln() * 10f32.powi(label as i32)).collect();
        (distances, labels)
    }

    fn scores(scale: &OutlierScale, distances: &[f32], labels: &[i64]) -> Vec<f32> {
        distances.iter().zip(labels).map(|(&distance, &label)| scale.score(distance, label as usize)).collect()
    }

    #[test]
    fn scores_of_the_training_rows_are_uniform() {
        for (n, k) in [(10_000, 4), (5_000, 1), (300, 3), (513, 5)] {
            let (distances, labels) = rows(n, k);
            let scale = OutlierScale::fit(&distances, &labels, k).unwrap();
            let mut scores = scores(&scale, &distances, &labels);
            scores.sort_unstable_by(f32::total_cmp);
            for (i, score) in scores.iter().enumerate() {
                let share = (i + 1) as f32 / n as f32;
                let most = 1.0 / QUANTILES as f32 + k as f32 / n as f32; // the medians of the clusters tie
                assert!((score - share).abs() <= most, "{n} {k} {i}: {score} {share}");
            }
            assert_eq!(scores.last(), Some(&1.0));
        }
    }

    #[test]
    fn each_cluster_is_held_to_its_own_spread() {
        let (distances, labels) = rows(40_000, 4);
        let scale = OutlierScale::fit(&distances, &labels, 4).unwrap();
        let scores = scores(&scale, &distances, &labels);
        for cluster in 0..4 {
            let own = scores.iter().zip(&labels).filter(|(_, label)| **label == cluster);
            let far = own.clone().filter(|(score, _)| **score > 0.9).count() as f64 / own.count() as f64;
            assert!((far - 0.1).abs() < 0.02, "{cluster}: {far}");
        }
    }

    #[test]
    fn scores_rise_with_the_distance_and_are_never_nan() {
        let (distances, labels) = rows(700, 2);
        let scale = OutlierScale::fit(&distances, &labels, 2).unwrap();
        let mut before = 0.0;
        for i in 0..5000 {
            let score = scale.score(i as f32 * 0.003, 0);
            assert!(score >= before && (0.0..=1.0).contains(&score), "{i}: {score} {before}");
            before = score;
        }
        assert_eq!((before, scale.score(0.0, 0)), (1.0, 0.0));
        for odd in [f32::NAN, f32::INFINITY, f32::MAX] {
            assert_eq!(scale.score(odd, 1), 1.0);
        }
        assert_eq!((scale.score(-1.0, 1), scale.score(0.1, 2)), (0.0, 1.0));
    }

    #[test]
    fn clusters_without_spread_take_that_of_all() {
        let distances = [0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 5.0];
        let scale = OutlierScale::fit(&distances, &[0, 0, 0, 1, 1, 1, 1], 3).unwrap();
        assert_eq!(scale.medians, [1.0, 2.0, 1.0]);
        let same = OutlierScale::fit(&[0.0; 9], &[0; 9], 1).unwrap();
        assert_eq!((same.score(0.0, 0), same.score(1.0, 0)), (1.0, 1.0));
        let tiny = OutlierScale::fit(&[1e-44, 1e-44, 3e38], &[0; 3], 1).unwrap();
        assert!(tiny.quantiles.iter().all(|quantile| quantile.is_finite()), "{tiny:?}");
    }

    #[test]
    fn a_scale_is_kept_and_damage_is_seen() {
        let (distances, labels) = rows(100, 2);
        let OutlierScale { medians, quantiles } = OutlierScale::fit(&distances, &labels, 2).unwrap();
        assert_eq!((medians.len(), quantiles.len()), (2, QUANTILES));
        assert!(OutlierScale::from_parts(medians.clone(), quantiles.clone()).is_ok());
        let mut falling = quantiles.clone();
        falling.reverse();
        for (medians, quantiles) in [
            (vec![0.0, 1.0], quantiles.clone()),
            (medians.clone(), falling),
            (medians.clone(), quantiles[1..].to_vec()),
            (medians.clone(), vec![f32::NAN; QUANTILES]),
        ] {
            assert!(OutlierScale::from_parts(medians, quantiles).is_err());
        }
    }

    #[test]
    fn rows_that_make_no_scale_are_refused() {
        for (distances, labels) in
            [(&[][..], &[][..]), (&[1.0], &[]), (&[1.0], &[1]), (&[1.0], &[-1]), (&[f32::NAN], &[0]), (&[-1.0], &[0])]
        {
            assert!(matches!(OutlierScale::fit(distances, labels, 1), Err(Error::Rows(_))), "{distances:?} {labels:?}");
        }
    }
}
