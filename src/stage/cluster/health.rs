//! Whether self-training does harm: clusters that shrink, merge or vanish.

use tch::Tensor;

use crate::control::Round;
use crate::error::Result;

/// The effective number of clusters may fall to this share of the start's; below, self-training has collapsed.
const COLLAPSED: f64 = 0.5;
/// Centroids nearer to each other than this share of the mean distance have merged.
const MERGED: f64 = 1e-3;

/// Rows in each of `k` clusters.
pub fn sizes_of(labels: &[i64], k: usize) -> Vec<u64> {
    let mut sizes = vec![0; k];
    for &label in labels {
        if let Some(size) = usize::try_from(label).ok().and_then(|label| sizes.get_mut(label)) {
            *size += 1;
        }
    }
    sizes
}

/// exp(entropy) of a distribution over clusters (need not sum to 1): how many clusters of equal size would be as diverse.
///
/// ```
/// use dec::stage::cluster::effective_clusters;
/// assert!((effective_clusters(&[0.25; 4]) - 4.0).abs() < 1e-12);
/// assert!((effective_clusters(&[1.0, 0.0]) - 1.0).abs() < 1e-12);
/// ```
pub fn effective_clusters(frequency: &[f64]) -> f64 {
    let total: f64 = frequency.iter().sum();
    let terms = frequency.iter().map(|f| f / total).filter(|share| *share > 0.0);
    terms.map(|share| -share * share.ln()).sum::<f64>().exp()
}

/// The smallest and the mean distance between two of the centroids \[k, m\]; `None` for one.
pub(super) fn centroid_distances(centroids: &Tensor) -> Result<Option<(f64, f64)>> {
    let (k, _) = centroids.size2()?;
    if k < 2 {
        return Ok(None);
    }
    let distances = Tensor::f_pdist(&centroids.f_detach()?, 2.0)?;
    Ok(Some((f64::try_from(distances.f_min()?)?, f64::try_from(distances.f_mean(tch::Kind::Double)?)?)))
}

/// What a round shows that a person should know, each with its kind.
pub(super) fn warnings(
    round: &Round,
    distances: Option<(f64, f64)>,
    start: &[i64],
    min_fraction: f64,
) -> Vec<(&'static str, String)> {
    let before = sizes_of(start, round.sizes.len());
    let shrunk: Vec<String> = (before.iter().zip(&round.sizes).enumerate())
        .filter(|(_, (&before, &now))| before > 0 && (now as f64) < min_fraction * before as f64)
        .map(|(cluster, (before, now))| format!("cluster {cluster} from {before} to {now}"))
        .collect();
    let mut found = Vec::new();
    if !shrunk.is_empty() {
        let text = format!("clusters shrink in round {}: {} rows", round.round, shrunk.join(", "));
        found.push(("shrunk", text));
    }
    if distances.is_some_and(|(smallest, mean)| smallest < MERGED * mean) {
        found.push(("merged", format!("two centroids have come to lie on each other in round {}", round.round)));
    }
    found
}

/// Whether the clusters `labels` are a collapse of those at the `start`: in words, or `None`.
pub fn collapse(start: &[i64], labels: &[i64], k: usize) -> Option<String> {
    let count = |labels: &[i64]| sizes_of(labels, k).iter().map(|&size| size as f64).collect::<Vec<_>>();
    let (before, after) = (count(start), count(labels));
    let used = |sizes: &[f64]| sizes.iter().filter(|size| **size > 0.0).count();
    let (effective_before, effective) = (effective_clusters(&before), effective_clusters(&after));
    let lost = used(&after) == 1 && used(&before) > 1;
    if !lost && effective >= COLLAPSED * effective_before {
        return None;
    }
    let largest = after.iter().copied().fold(0.0, f64::max);
    Some(format!(
        "self-training collapsed: {largest} of {} rows ended in one cluster, {} of {k} clusters have rows (effective \
         number {effective:.1}; {effective_before:.1} at the start)",
        labels.len(),
        used(&after),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_great_loss_of_clusters_is_a_collapse_and_a_small_one_is_none() {
        let start: Vec<i64> = (0..90).map(|i| i % 3).collect();
        assert_eq!(collapse(&start, &start, 3), None);
        let moved: Vec<i64> = (0..90).map(|i| if i < 20 { 0 } else { i % 3 }).collect();
        assert_eq!(collapse(&start, &moved, 3), None);
        let mut nearly = vec![0; 90];
        (nearly[3], nearly[4]) = (1, 2);
        assert!(collapse(&start, &nearly, 3).unwrap().contains("88 of 90 rows"));
        assert!(collapse(&start, &[0; 90], 3).is_some());
        let two: Vec<i64> = (0..100).map(|i| i64::from(i < 50)).collect();
        assert!(collapse(&two, &[1; 100], 2).is_some(), "two clusters into one");
        let few: Vec<i64> = (0..1000).map(|i| i64::from(i < 5)).collect();
        assert_eq!(collapse(&few, &few, 2), None, "unequal from the start");
        assert_eq!(collapse(&[0; 9], &[0; 9], 1), None);
    }

    #[test]
    fn the_smallest_distance_is_between_the_nearest_two() {
        let centroids = Tensor::from_slice(&[0.0f32, 0.0, 3.0, 4.0, 3.0, 5.0]).view([3, 2]);
        let (smallest, mean) = centroid_distances(&centroids).unwrap().unwrap();
        assert_eq!(smallest, 1.0);
        assert!((mean - (5.0 + 34f64.sqrt() + 1.0) / 3.0).abs() < 1e-6);
        assert_eq!(centroid_distances(&Tensor::zeros([1, 2], (Kind::Float, Device::Cpu))).unwrap(), None);
    }

    #[test]
    fn clusters_that_shrink_are_named() {
        let start: Vec<i64> = (0..100).map(|i| i % 2).collect();
        let round = Round {
            round: 4,
            changed: 0.1,
            loss: 0.2,
            acc: None,
            sizes: vec![96, 4],
            centroid_distance: Some(0.0),
            effective_clusters: 1.2,
            confidence: 0.9,
        };
        let found = warnings(&round, Some((0.0, 2.0)), &start, 0.1);
        assert_eq!(found.iter().map(|warning| warning.0).collect::<Vec<_>>(), ["shrunk", "merged"]);
        assert!(found[0].1.contains("round 4: cluster 1 from 50 to 4 rows"), "{}", found[0].1);
        assert!(warnings(&round, Some((1.0, 2.0)), &start, 0.05).is_empty());
    }
}
