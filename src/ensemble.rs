//! What several runs of the same recipe on the same rows, each from a seed of its own, come to together.
//!
//! The runs vote ([`elect`]): clusters of all runs are grouped by the rows that they share, and a row goes to the group that most of
//! its clusters are in. A run that splits one cluster and merges two others still helps with the rest, which a mean of soft
//! assignments after a one-to-one matching would lose. The runs are then matched to the consensus one by one, clusters to clusters by
//! the Hungarian method, to say which rows are sure.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::metrics::Contingency;
use crate::start::elect;

/// The consensus of several clusterings.
#[derive(Debug, Clone, PartialEq)]
pub struct Ensemble {
    /// The cluster of each row, \[n\], with the numbers of the chosen clustering.
    pub labels: Vec<i64>,
    /// The share of the clusterings that have each row in the cluster matched to its consensus, \[n\], 0 to 1.
    pub stability: Vec<f32>,
    /// The adjusted Rand index of each clustering with the consensus.
    pub agreements: Vec<f64>,
    /// The adjusted Rand index of each two clusterings.
    pub between: Vec<Vec<f64>>,
    /// The clustering that agrees most with the consensus; the first of equals.
    pub chosen: usize,
}

impl Ensemble {
    /// Of clusterings of the same rows into `k`, labels from 0 to k − 1.
    ///
    /// # Errors
    /// As for [`elect`].
    ///
    /// # Panics
    /// Labels outside 0 to k − 1.
    ///
    /// ```
    /// use dec::ensemble::Ensemble;
    ///
    /// let runs = [vec![1, 1, 1, 0, 0, 0], vec![0, 0, 0, 1, 1, 1], vec![1, 1, 0, 0, 0, 0]];
    /// let together = Ensemble::of(&runs, 2)?;
    /// assert_eq!((together.labels, together.chosen), (vec![1, 1, 1, 0, 0, 0], 0));
    /// assert_eq!(together.stability, [1.0, 1.0, 2.0 / 3.0, 1.0, 1.0, 1.0]);
    /// assert_eq!(together.between[0][1], 1.0);
    /// # Ok::<(), dec::Error>(())
    /// ```
    pub fn of(clusterings: &[Vec<i64>], k: usize) -> Result<Self> {
        let elected = elect(clusterings, k)?.labels;
        let ari = |a: &[i64], b: &[i64]| Ok(Contingency::new(a, b)?.adjusted_rand_index());
        let agreements = clusterings.iter().map(|labels| ari(&elected, labels)).collect::<Result<Vec<f64>>>()?;
        let chosen = (1..agreements.len()).fold(0, |best, i| if agreements[i] > agreements[best] { i } else { best });
        let labels = matched(&elected, &clusterings[chosen], k)?;
        let mut agree = vec![0u32; labels.len()];
        for clustering in clusterings {
            let own = matched(clustering, &labels, k)?;
            agree.iter_mut().zip(own.iter().zip(&labels)).for_each(|(count, (own, label))| {
                *count += u32::from(own == label);
            });
        }
        let share = |count| count as f32 / clusterings.len() as f32;
        let stability = agree.into_iter().map(share).collect();
        let between = clusterings
            .iter()
            .map(|a| clusterings.iter().map(|b| ari(a, b)).collect())
            .collect::<Result<Vec<Vec<f64>>>>()?;
        Ok(Self { labels, stability, agreements, between, chosen })
    }

    /// The mean adjusted Rand index of a clustering with the others; 1 where there are none.
    pub fn mean_between(&self, clustering: usize) -> f64 {
        let others = self.between[clustering].iter().enumerate().filter(|(other, _)| *other != clustering);
        let (sum, count) = others.fold((0.0, 0), |(sum, count), (_, ari)| (sum + ari, count + 1));
        if count == 0 {
            1.0
        } else {
            sum / f64::from(count)
        }
    }
}

/// `labels` with the numbers of the clusters of `to` that they match best, one to one (Hungarian method). A cluster that matches none
/// gets the lowest number that is left.
///
/// # Errors
/// As for [`Contingency::new`].
pub fn matched(labels: &[i64], to: &[i64], k: usize) -> Result<Vec<i64>> {
    let table = Contingency::new(to, labels)?;
    let distinct = |labels: &[i64]| labels.iter().copied().collect::<BTreeSet<i64>>().into_iter().collect::<Vec<i64>>();
    let (targets, sources) = (distinct(to), distinct(labels));
    let mut number: Vec<Option<i64>> = vec![None; sources.len()];
    for (target, source) in table.matching() {
        number[source] = Some(targets[target]);
    }
    let taken: BTreeSet<i64> = number.iter().flatten().copied().collect();
    // As many as are needed: labels are below k, and so are those that were matched.
    let mut left = (0..k.max(sources.len() + targets.len()) as i64).filter(|free| !taken.contains(free));
    let number: Vec<i64> = number.into_iter().map(|number| number.or_else(|| left.next()).unwrap_or(-1)).collect();
    let place = |label: &i64| sources.binary_search(label).map_or(-1, |place| number[place]);
    Ok(labels.iter().map(place).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_matched_one_to_one_and_what_is_left_gets_what_is_left() {
        assert_eq!(matched(&[2, 2, 0, 0, 1], &[0, 0, 1, 1, 2], 3).unwrap(), [0, 0, 1, 1, 2]);
        // More clusters than there are to match: the larger part of a split keeps the number.
        assert_eq!(matched(&[0, 0, 1, 2, 2], &[1, 1, 1, 0, 0], 3).unwrap(), [1, 1, 2, 0, 0]);
        // Fewer: one of the two is not there.
        assert_eq!(matched(&[5, 5, 5, 7], &[2, 2, 0, 1], 8).unwrap(), [2, 2, 2, 1]);
        assert!(matched(&[0], &[0, 1], 2).is_err());
    }

    #[test]
    fn the_consensus_has_the_numbers_of_the_run_that_agrees_most() {
        let truth: Vec<i64> = (0..90).map(|i| i / 30).collect();
        // Each run with other numbers, and with other rows gone astray; the third with none.
        let run = |shift: i64, astray: usize| -> Vec<i64> {
            let label = |(i, t): (usize, &i64)| (t + shift + i64::from(i % 15 == astray)) % 3;
            truth.iter().enumerate().map(label).collect()
        };
        let runs = [run(1, 3), run(2, 7), run(1, 99), run(0, 11)];
        let together = Ensemble::of(&runs, 3).unwrap();
        assert_eq!((together.chosen, &together.labels), (2, &runs[2]));
        assert_eq!(together.agreements[2], 1.0);
        for (row, &stability) in together.stability.iter().enumerate() {
            assert_eq!(stability, if [3, 7, 11].contains(&(row % 15)) { 0.75 } else { 1.0 }, "{row}");
        }
        assert_eq!(together.between[1][3], together.between[3][1]);
        assert!((together.mean_between(2) - together.between[2].iter().sum::<f64>() / 3.0 + 1.0 / 3.0).abs() < 1e-12);
        let alone = Ensemble::of(&runs[..1], 3).unwrap();
        assert_eq!((alone.mean_between(0), &alone.labels), (1.0, &runs[0]));
    }
}
