//! What many clusterings of the same rows come to together: a vote of their clusters, which are grouped first (the meta-clustering
//! of Strehl & Ghosh 2002, with Ward's linkage).
//!
//! Every cluster is a set of rows, a unit vector over them; the angle between two vectors tells how far the sets overlap. The
//! clusters of all clusterings are joined into k groups, and a row belongs to the group that most of its clusters are in. As
//! clusterings have k clusters each, groups tend to be alike in how many *clusters* they hold, whatever the number of rows: large
//! and small clusters count the same. Clusterings that split a cluster and merge two others say nothing wrong of the rest, where
//! they help; agreeing with each other gives them no extra weight.

use kodama::{linkage, Method, Step};

use crate::data::sample;
use crate::error::{Error, Result};
use crate::metrics::Contingency;

/// Rows on which clusterings are compared as a whole at most: enough to know an agreement to a hundredth.
const ROWS: usize = 10_000;

/// Clusters that are grouped at most, unless one clustering has more: memory grows with their square (to 128 MB).
const CLUSTERS: usize = 8_000;

/// What several clusterings of the same rows come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Elected {
    /// The cluster of each row, 0 to k − 1: the group that most of the row's clusters are in. Where that would leave fewer clusters
    /// with rows than a clustering has, such a clustering itself.
    pub labels: Vec<i64>,
    /// How far each clustering agrees with the elected one: their normalised mutual information, in \[0, 1\].
    pub agreements: Vec<f64>,
    /// The clustering that agrees most; the first of equals.
    pub central: usize,
}

/// Lets `clusterings` into `k` vote, labels from 0 to k − 1. Of more than 8,000 clusters in all, only some clusterings vote: time
/// and memory grow with the square of what is left.
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
pub fn elect<L: AsRef<[i64]>>(clusterings: &[L], k: usize) -> Result<Elected> {
    let clusterings: Vec<&[i64]> = clusterings.iter().map(AsRef::as_ref).collect();
    let rows = clusterings.first().map_or(0, |labels| labels.len());
    if let Some(other) = clusterings.iter().find(|labels| labels.len() != rows) {
        return Err(Error::Rows(format!("clusterings of {rows} and {} rows cannot be compared", other.len())));
    }
    if rows == 0 {
        return Err(Error::Rows("no clusterings to choose among, or none of any rows".to_owned()));
    }
    let voters: Vec<&[i64]> = voters(clusterings.len(), k).into_iter().map(|i| clusterings[i]).collect();
    let mut labels = vote(&voters, &groups(&voters, k), k);
    let mut agreements = agreements(&clusterings, &labels)?;

    let sizes: Vec<usize> = clusterings.iter().map(|labels| clusters_of(labels, k)).collect();
    let most = sizes.iter().copied().max().unwrap_or(0);
    if clusters_of(&labels, k) < most {
        let chosen = first_greatest((0..sizes.len()).filter(|&i| sizes[i] == most), &agreements);
        tracing::debug!("the vote would leave fewer than {most} clusters with rows: clustering {chosen} instead");
        labels = clusterings[chosen].to_vec();
        agreements = self::agreements(&clusterings, &labels)?;
    }
    let central = first_greatest(0..agreements.len(), &agreements);
    Ok(Elected { labels, agreements, central })
}

/// Which of `count` clusterings into `k` vote.
fn voters(count: usize, k: usize) -> Vec<usize> {
    sample(count, (CLUSTERS / k.max(1)).max(1), 0)
}

/// How far each clustering agrees with `labels`.
fn agreements(clusterings: &[&[i64]], labels: &[i64]) -> Result<Vec<f64>> {
    let chosen = sample(labels.len(), ROWS, 0);
    let part = |labels: &[i64]| -> Vec<i64> { chosen.iter().map(|&row| labels[row]).collect() };
    let elected = part(labels);
    let agreement = |labels: &&[i64]| Ok(Contingency::new(&part(labels), &elected)?.normalized_mutual_info());
    clusterings.iter().map(agreement).collect()
}

/// The first of `places` where `values` are greatest; 0 of none.
fn first_greatest(places: impl Iterator<Item = usize>, values: &[f64]) -> usize {
    places.reduce(|best, i| if values[i] > values[best] { i } else { best }).unwrap_or(0)
}

/// The group, 0 to k − 1, of each clustering's clusters; none of clusters without rows.
fn groups(clusterings: &[&[i64]], k: usize) -> Vec<Vec<Option<usize>>> {
    let mut sizes = vec![0u32; clusterings.len() * k];
    for (first, labels) in clusterings.iter().enumerate().map(|(i, labels)| (i * k, labels)) {
        labels.iter().for_each(|&label| sizes[first + label as usize] += 1);
    }
    let clusters: Vec<usize> = (0..sizes.len()).filter(|&cluster| sizes[cluster] > 0).collect();
    let n = clusters.len();
    let group_at: Vec<usize> = if n <= k {
        (0..n).collect() // nothing to join
    } else {
        let mut distances = distances(clusterings, &sizes, &clusters, k);
        cut(linkage(&mut distances, n, Method::Ward).steps(), n, k)
    };
    let group = |cluster| clusters.binary_search(&cluster).ok().map(|place| group_at[place]);
    (0..clusterings.len()).map(|i| (i * k..(i + 1) * k).map(group).collect()).collect()
}

/// Between the unit vectors of `clusters`, cluster i · k + j the j-th of clustering i: in rows of the upper triangle. Half the square
/// is 1 − cosine, and 1 for sets without a common row; Ward's linkage does not depend on the unit.
fn distances(clusterings: &[&[i64]], sizes: &[u32], clusters: &[usize], k: usize) -> Vec<f32> {
    let place_of = |cluster| clusters.binary_search(&cluster).ok();
    let n = clusters.len();
    let mut distances = vec![1.0f32; n * (n - 1) / 2];
    let mut together = vec![0u32; k * k];
    for (i, a) in clusterings.iter().enumerate() {
        for (j, b) in clusterings.iter().enumerate().skip(i + 1) {
            together.fill(0);
            a.iter().zip(*b).for_each(|(&a, &b)| together[a as usize * k + b as usize] += 1);
            for (cell, &common) in together.iter().enumerate().filter(|(_, &common)| common > 0) {
                let (a, b) = (i * k + cell / k, j * k + cell % k);
                let cosine = f64::from(common) / (f64::from(sizes[a]) * f64::from(sizes[b])).sqrt();
                if let (Some(a), Some(b)) = (place_of(a), place_of(b)) {
                    distances[condensed(a, b, n)] = (1.0 - cosine).max(0.0).sqrt() as f32;
                }
            }
        }
    }
    distances
}

/// The group, 0 to k − 1 by first appearance, of each of `n` > k clusters after the first steps of a linkage, as many as leave k. A
/// step's cluster i is the one of that place below n, else what step i − n made.
pub(super) fn cut(steps: &[Step<f32>], n: usize, k: usize) -> Vec<usize> {
    let steps = &steps[..n - k];
    let mut into: Vec<usize> = (0..n + steps.len()).collect();
    for (i, step) in steps.iter().enumerate() {
        into[step.cluster1] = n + i;
        into[step.cluster2] = n + i;
    }
    for cluster in (0..into.len()).rev() {
        into[cluster] = into[into[cluster]]; // those made later are done
    }
    let mut roots = Vec::with_capacity(k);
    let number = |&root: &usize| {
        roots.iter().position(|&known| known == root).unwrap_or_else(|| {
            roots.push(root);
            roots.len() - 1
        })
    };
    into[..n].iter().map(number).collect()
}

/// Where the distance of the clusters `a` < `b` of `n` stands: rows of the upper triangle, one after the other.
fn condensed(a: usize, b: usize, n: usize) -> usize {
    a * (2 * n - a - 1) / 2 + b - a - 1
}

/// The group that most of a row's clusters are in; of equals the one that the first clustering has it in, or else the first.
fn vote(clusterings: &[&[i64]], groups: &[Vec<Option<usize>>], k: usize) -> Vec<i64> {
    let mut votes = vec![0u32; k];
    let elected = |row: usize| {
        votes.fill(0);
        let mut first = None;
        for (labels, groups) in clusterings.iter().zip(groups) {
            if let Some(group) = groups[labels[row] as usize] {
                votes[group] += 1;
                first = first.or(Some(group));
            }
        }
        (0..k).fold(first.unwrap_or(0), |best, group| if votes[group] > votes[best] { group } else { best }) as i64
    };
    (0..clusterings[0].len()).map(elected).collect()
}

/// How many clusters have rows.
fn clusters_of(labels: &[i64], k: usize) -> usize {
    let mut found = vec![false; k];
    labels.iter().for_each(|&label| found[label as usize] = true);
    found.into_iter().filter(|&found| found).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn accuracy(truth: &[i64], labels: &[i64]) -> f64 {
        Contingency::new(truth, labels).unwrap().accuracy()
    }

    /// `count` clusterings, each with other numbers for its `k` clusters and with one row in twelve gone astray, others in each.
    fn astray(truth: &[i64], k: i64, count: i64) -> Vec<Vec<i64>> {
        let one = |c: i64| {
            truth.iter().zip(0..).map(move |(t, i)| (t + c + i64::from(i % 12 == c % 12)) % k).collect::<Vec<i64>>()
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn rows_that_most_agree_on_are_put_right() {
        let truth: Vec<i64> = (0..300).map(|i| i / 100).collect();
        let found = astray(&truth, 3, 10);
        assert_eq!(accuracy(&truth, &elect(&found, 3).unwrap().labels), 1.0);
        assert!(found.iter().all(|labels| accuracy(&truth, labels) < 0.95));
    }

    /// However well those agree with each other, and whatever the sizes of the clusters.
    #[test]
    fn a_split_and_a_merger_are_outvoted() {
        for sizes in [[100, 100, 100, 100], [600, 300, 80, 40], [40, 80, 300, 600]] {
            let truth: Vec<i64> = sizes.iter().zip(0..).flat_map(|(&size, class)| vec![class; size]).collect();
            let split = |(&t, i): (&i64, usize)| if t == 3 { 2 + (i % 2) as i64 } else { i64::from(t == 2) };
            let wrong: Vec<i64> = truth.iter().zip(0..).map(split).collect();
            let found = [vec![wrong; 4], astray(&truth, 4, 7)].concat();

            let elected = elect(&found, 4).unwrap();
            assert!(accuracy(&truth, &elected.labels) > 0.97, "{sizes:?}: {}", accuracy(&truth, &elected.labels));
        }
    }

    #[test]
    fn one_clustering_is_elected_as_it_is_and_equals_by_the_first() {
        let found = vec![vec![2i64, 0, 0, 1, 2]];
        assert_eq!(accuracy(&found[0], &elect(&found, 3).unwrap().labels), 1.0);
        let elected = elect(&[vec![1, 1, 0, 0, 1, 1], vec![1, 1, 0, 0, 1, 1]], 2).unwrap();
        assert_eq!((elected.central, elected.agreements), (0, vec![1.0, 1.0]));
    }

    #[test]
    fn no_cluster_is_voted_away() {
        let single = |at: usize| (0..9).map(|i| i64::from(i == at)).collect::<Vec<_>>();
        let found = [vec![0; 9], single(0), single(1), single(2), vec![1; 9]];
        let elected = elect(&found, 2).unwrap();
        assert!(
            elected.labels == found[1] && elected.agreements[1] > 0.999,
            "all rows would be in one cluster: {elected:?}"
        );
        assert_eq!(elected.central, 1);
    }

    #[test]
    fn of_two_that_disagree_the_first_is_right() {
        let one: Vec<i64> = (0..200).map(|i| i64::from(i >= 100)).collect();
        let other: Vec<i64> = (0..200).map(|i| i64::from(!(10..90).contains(&i) && !(100..110).contains(&i))).collect();
        assert_eq!(elect(&[one.clone(), other.clone()], 2).unwrap().labels, one);
        assert_eq!(accuracy(&other, &elect(&[other.clone(), one], 2).unwrap().labels), 1.0);
    }

    #[test]
    fn small_clusters_of_many_rows_have_their_say() {
        let truth: Vec<i64> = (0..60_000).map(|i| if i < 8 { 2 } else { i % 2 }).collect();
        let found = vec![truth.clone(), truth.iter().map(|label| (label + 1) % 3).collect()];
        assert_eq!(accuracy(&truth, &elect(&found, 3).unwrap().labels), 1.0);
    }

    #[test]
    fn fewer_clusters_than_wanted_and_empty_ones_are_taken_as_they_are() {
        let found = [vec![0, 0, 4, 4], vec![3, 3, 1, 1]];
        let elected = elect(&found, 5).unwrap();
        assert_eq!(accuracy(&found[0], &elected.labels), 1.0);
        assert!(elected.labels.iter().all(|label| (0..5).contains(label)));
    }

    #[test]
    fn of_very_many_clusters_some_clusterings_vote() {
        for (count, k) in [(21, 10), (63, 10), (21, 400), (42, 6_000), (3, 7_800), (5, 20_000)] {
            let chosen = voters(count, k);
            assert!(
                !chosen.is_empty() && (chosen.len() == 1 || chosen.len() * k <= CLUSTERS),
                "{count} of {k}: {chosen:?}"
            );
            assert_eq!(chosen.len() == count, count * k <= CLUSTERS);
        }
        // At once, and merged in two ways in turn: of all there are some.
        let chosen = voters(21, 400);
        assert!(
            chosen.iter().any(|&i| i >= 11 && i % 2 == 1) && chosen.iter().any(|&i| i >= 11 && i % 2 == 0),
            "{chosen:?}"
        );
    }

    #[test]
    fn a_part_of_many_rows_tells_the_same() {
        let truth: Vec<i64> = (0..30_000).map(|i| i % 3).collect();
        let elected = elect(&astray(&truth, 3, 7), 3).unwrap();
        assert!(accuracy(&truth, &elected.labels) > 0.999);
    }

    #[test]
    fn distances_stand_in_rows_of_the_upper_triangle() {
        let pairs = (0..5).flat_map(|a| (a + 1..5).map(move |b| (a, b)));
        assert!(pairs.enumerate().all(|(place, (a, b))| condensed(a, b, 5) == place));
    }

    #[test]
    fn no_clusterings_and_unequal_lengths_are_refused() {
        assert!(elect::<Vec<i64>>(&[], 3).is_err());
        assert!(elect(&[vec![0; 20_000], vec![0; 19_999]], 2).is_err());
        assert!(elect(&[vec![], vec![]], 2).is_err());
    }
}
