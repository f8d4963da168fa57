//! Among many clusterings of the same rows those that others agree with: the most central of an ensemble (Strehl & Ghosh 2002),
//! and a vote around it. That needs no labels and, unlike a score of clusters by their separation, does not prefer clusters of
//! equal size.
//!
//! Only the half of the others that is nearest counts. Where clusters are of very different sizes, some ways of clustering go
//! wrong, each in another way; the compromise between those and the right ones is not right either. And since which of two that
//! are nearly as central comes first is a matter of chance, all vote, the central ones with most weight.

use pathfinding::prelude::{kuhn_munkres, Matrix};

use crate::data::sample;
use crate::error::{Error, Result};
use crate::metrics::Contingency;

/// Rows that are compared at most: enough to know an agreement to a hundredth. All are compared on the same rows.
const ROWS: usize = 10_000;

/// What several clusterings of the same rows come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Elected {
    /// The cluster of each row, 0 to k − 1: the one that most clusterings put it into, each with more weight the more it agrees
    /// with others; the most central clustering itself where that would leave a cluster without rows.
    pub labels: Vec<i64>,
    /// How far each clustering agrees with the nearest half of the others: their mean normalised mutual information, in \[0, 1\];
    /// 1 where there is but one.
    pub agreements: Vec<f64>,
    /// The most central clustering, whose clusters the others' were matched with; the first of equals.
    pub central: usize,
}

/// Lets `clusterings` into `k` vote, labels from 0 to k − 1. Time grows with the square of their number.
///
/// # Errors
/// [`Error::Rows`] for no clusterings, clusterings of different numbers of rows, or of none.
///
/// # Panics
/// Labels outside 0 to k − 1.
///
/// ```
/// let found = [vec![0, 0, 0, 1, 1, 1], vec![1, 1, 1, 0, 0, 0], vec![0, 0, 1, 1, 1, 1]];
/// let elected = dec::start::elect(&found, 2)?;
/// assert_eq!(elected.labels, [0, 0, 0, 1, 1, 1]);
/// assert!(elected.agreements[0] == elected.agreements[1] && elected.agreements[0] > elected.agreements[2]);
/// assert_eq!(elected.central, 0);
/// # Ok::<(), dec::Error>(())
/// ```
pub fn elect(clusterings: &[Vec<i64>], k: usize) -> Result<Elected> {
    let agreements = agreements(clusterings)?;
    // Backwards, as `max_by` takes the last of equals.
    let central = (0..agreements.len()).rev().max_by(|&a, &b| agreements[a].total_cmp(&agreements[b]));
    let central = central.ok_or_else(|| Error::Rows("no clusterings to choose among".to_owned()))?;
    Ok(Elected { labels: vote(clusterings, &agreements, central, k), agreements, central })
}

/// [`Elected::agreements`].
fn agreements(clusterings: &[Vec<i64>]) -> Result<Vec<f64>> {
    let rows = clusterings.first().map_or(0, Vec::len);
    if let Some(other) = clusterings.iter().find(|labels| labels.len() != rows) {
        return Err(Error::Rows(format!("clusterings of {rows} and {} rows cannot be compared", other.len())));
    }
    let chosen = sample(rows, ROWS, 0);
    let compared: Vec<Vec<i64>> =
        clusterings.iter().map(|labels| chosen.iter().map(|&row| labels[row]).collect()).collect();
    let mut with_others = vec![Vec::with_capacity(compared.len()); compared.len()];
    for (i, a) in compared.iter().enumerate() {
        for (j, b) in compared[..i].iter().enumerate() {
            let both = Contingency::new(a, b)?.normalized_mutual_info();
            with_others[i].push(both);
            with_others[j].push(both);
        }
    }
    Ok(with_others.into_iter().map(mean_of_greater_half).collect())
}

/// How much less central a clustering is whose vote has 1/e of the weight.
const TEMPERATURE: f64 = 0.04;

/// [`Elected::labels`].
fn vote(clusterings: &[Vec<i64>], agreements: &[f64], central: usize, k: usize) -> Vec<i64> {
    let (central, most) = (&clusterings[central], agreements[central]);
    let voters: Vec<(&Vec<i64>, Vec<usize>, f64)> = clusterings
        .iter()
        .zip(agreements)
        .map(|(labels, agreement)| (labels, matching(labels, central, k), ((agreement - most) / TEMPERATURE).exp()))
        .collect();
    let mut sizes = vec![0usize; k];
    let mut votes = vec![0.0; k];
    let elected: Vec<i64> = (0..central.len())
        .map(|row| {
            votes.fill(0.0);
            for (labels, names, weight) in &voters {
                votes[names[labels[row] as usize]] += weight;
            }
            let own = central[row] as usize;
            let cluster = (0..k).fold(own, |best, cluster| if votes[cluster] > votes[best] { cluster } else { best });
            sizes[cluster] += 1;
            cluster as i64
        })
        .collect();
    let emptied = central.iter().any(|&cluster| sizes[cluster as usize] == 0);
    if emptied {
        central.clone()
    } else {
        elected
    }
}

/// The cluster of `other` that each cluster of `labels` stands for: by the Hungarian method, so that most rows stay together.
fn matching(labels: &[i64], other: &[i64], k: usize) -> Vec<usize> {
    let mut together = Matrix::new(k, k, 0i64);
    for (&a, &b) in labels.iter().zip(other) {
        together[(a as usize, b as usize)] += 1;
    }
    kuhn_munkres(&together).1
}

/// 1 of none.
fn mean_of_greater_half(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    let half = values.len().div_ceil(2);
    if half == 0 {
        return 1.0;
    }
    values[..half].iter().sum::<f64>() / half as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_clustering_amid_others_is_the_most_central() {
        let sizes = |first: usize| (0..30_000).map(|i| i64::from(i >= first)).collect::<Vec<_>>();
        let found = agreements(&[sizes(1_000), sizes(3_000), sizes(4_000), sizes(5_500), sizes(9_000)]).unwrap();
        assert!((0..5).all(|i| i == 2 || found[i] < found[2]), "{found:?}");
        let all = Contingency::new(&sizes(3_000), &sizes(5_000)).unwrap().normalized_mutual_info();
        let two = agreements(&[sizes(3_000), sizes(5_000)]).unwrap();
        assert_eq!(two[0], two[1]);
        assert!((two[0] - all).abs() < 0.01, "a part of the rows tells the same: {} and {all}", two[0]);
    }

    #[test]
    fn those_that_agree_count_more_than_the_compromise() {
        let exchanged = |from: usize, to: usize| {
            (0..1_100).map(|i| (i % 2) as i64 ^ i64::from((from..to).contains(&i))).collect::<Vec<_>>()
        };
        let mut found = vec![exchanged(0, 100); 4];
        found.extend((1..7).map(|i| exchanged(100 * i, 100 * i + 100)));
        found.push(exchanged(0, 0)); // nearer to every other than most others are
        let agreement = agreements(&found).unwrap();
        assert!(agreement[..4].iter().all(|same| agreement[4..].iter().all(|other| same > other)), "{agreement:?}");
    }

    /// Ten clusterings of 300 rows into three, each with other numbers for the clusters and with other rows gone astray.
    fn astray() -> (Vec<i64>, Vec<Vec<i64>>) {
        let truth: Vec<i64> = (0..300).map(|i| i / 100).collect();
        let found = (0..10).map(|c| (0..300).map(|i| (truth[i] + c + i64::from(i % 10 == c as usize)) % 3).collect());
        let found = found.collect();
        (truth, found)
    }

    #[test]
    fn rows_that_most_agree_on_are_put_right() {
        let (truth, found) = astray();
        let elected = elect(&found, 3).unwrap().labels;
        assert_eq!(Contingency::new(&truth, &elected).unwrap().accuracy(), 1.0);
        assert!(found.iter().all(|labels| Contingency::new(&truth, labels).unwrap().accuracy() < 0.95));
        assert_eq!(elect(&found[..1], 3).unwrap().labels, found[0]);
        assert!(elect(&[], 3).is_err());
    }

    #[test]
    fn those_far_from_the_most_central_have_no_say_and_no_cluster_is_voted_away() {
        let (truth, _) = astray();
        let others: Vec<i64> = (0..300).map(|i| i % 3).collect();
        assert_eq!(vote(&[others.clone(), truth.clone(), others], &[0.5, 0.9, 0.5], 1, 3), truth);
        let single = |at: usize| (0..9).map(|i| i64::from(i == at)).collect::<Vec<_>>();
        let found = [single(0), single(1), single(2)];
        assert_eq!(vote(&found, &[0.9, 0.9, 0.9], 1, 2), found[1], "all rows would be in one cluster");
    }

    #[test]
    fn the_first_of_equals_is_the_most_central() {
        let found = elect(&[vec![0, 0, 1, 1, 1, 1], vec![0, 0, 0, 0, 1, 1]], 2).unwrap();
        assert_eq!((found.central, found.labels), (0, vec![0, 0, 1, 1, 1, 1]));
        let far = vec![0, 1, 0, 1, 0, 1];
        for central in 0..3 {
            let mut clusterings = vec![vec![0, 0, 0, 1, 1, 1]; 9];
            clusterings[..central].fill(far.clone());
            clusterings.push(far.clone());
            assert_eq!(elect(&clusterings, 2).unwrap().central, central, "{clusterings:?}");
        }
    }

    #[test]
    fn one_clustering_agrees_and_unequal_lengths_are_refused() {
        assert_eq!(agreements(&[vec![0, 1]]).unwrap(), [1.0]);
        assert!(agreements(&[]).unwrap().is_empty());
        assert!(agreements(&[vec![0; 20_000], vec![0; 19_999]]).is_err());
        assert!(agreements(&[vec![], vec![]]).is_err());
    }
}
