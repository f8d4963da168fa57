//! Prediction strength (Tibshirani & Walther 2005) of clusterings along the graph of neighbours.
//!
//! The rows are halved at random and both halves are clustered into k. The clusters of one half predict those of the other: each of its
//! rows goes with its nearest neighbours in the first half (the paper: to the nearest centroid, which suits clusters that are
//! round). For every cluster of the other half, the share of its pairs of rows that are predicted to be together tells how sure it
//! is. Clusters that are there come back in either half; a cut through one goes elsewhere each time.
//!
//! A cut through rows without any clusters may come back too, across the longest axis. So the same is done with rows of one
//! Gaussian of the same covariance, and what counts is how much the rows exceed it.

use tch::Tensor;

use super::views::Views;
use crate::control::Control;
use crate::data::{hash, permutation, values_of};
use crate::error::Result;
use crate::start::{leading_eigenvectors, neighbours, spectral};

/// Random halvings.
const HALVINGS: u64 = 4;
/// Rows of a half at most.
const ROWS: usize = 1_500;
/// Neighbours that predict a row's cluster.
const VOTERS: i64 = 5;
const RESTARTS: usize = 3;

/// The mean prediction strength of `views` for each of `ks`, in ascending order: in each halving the mean over the clusters, in both
/// directions.
pub(super) fn strengths(views: &Views, ks: &[usize], seed: u64, control: &mut Control) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; ks.len()];
    for halving in 0..HALVINGS {
        let seed = hash(seed ^ halving);
        let order = permutation(views.n_rows(), seed);
        let half = (order.len() / 2).min(ROWS);
        let halves = [
            Half::new(views, &order[..half], ks, seed, control)?,
            Half::new(views, &order[half..2 * half], ks, hash(seed), control)?,
        ];
        for (this, other) in [(0, 1), (1, 0)] {
            let nearest = halves[this].nearest(&halves[other], control)?;
            for (place, &k) in ks.iter().enumerate() {
                let (Some(predicting), Some(own)) = (&halves[other].labels[place], &halves[this].labels[place]) else {
                    continue;
                };
                let predicted: Vec<usize> = nearest.iter().map(|voters| vote(voters, predicting, k)).collect();
                sums[place] += strength(own, &predicted, k) / (2 * HALVINGS) as f64;
            }
        }
    }
    Ok(sums)
}

/// A half of the rows with a clustering for each k.
struct Half {
    rows: Tensor,
    /// `None` where there are fewer different rows than clusters.
    labels: Vec<Option<Vec<i64>>>,
}

impl Half {
    fn new(views: &Views, rows: &[usize], ks: &[usize], seed: u64, control: &mut Control) -> Result<Self> {
        let views = views.at(rows)?;
        let widest = ks.last().copied().unwrap_or(1).min(rows.len());
        let eigen = leading_eigenvectors(&views.graph(control)?.normalised()?, widest as i64, seed, control)?;
        let find = |&k: &usize| spectral::at_once(&eigen.vectors, k, RESTARTS, seed, control);
        let labels = ks.iter().map(find).collect::<Result<_>>()?;
        Ok(Self { rows: views.latent().shallow_clone(), labels })
    }

    /// The rows of `other` that are nearest to each of these.
    fn nearest(&self, other: &Self, control: &mut Control) -> Result<Vec<Vec<usize>>> {
        let voters = VOTERS.min(other.rows.size()[0]);
        let found: Vec<i64> = values_of(&neighbours(Some(&self.rows), &other.rows, voters, control)?.indices)?;
        // Below 0 where a distance is not finite, which the latent was checked for.
        let row = |voters: &[i64]| voters.iter().filter_map(|&row| usize::try_from(row).ok()).collect();
        Ok(found.chunks_exact(voters as usize).map(row).collect())
    }
}

/// The cluster that most voters are in; the first of equals by the nearest voter.
fn vote(voters: &[usize], labels: &[i64], k: usize) -> usize {
    let mut votes = vec![0u32; k];
    let mut best = voters.first().map_or(0, |&row| labels[row] as usize);
    for &row in voters {
        votes[labels[row] as usize] += 1;
    }
    for &row in voters {
        let cluster = labels[row] as usize;
        if votes[cluster] > votes[best] {
            best = cluster;
        }
    }
    best
}

/// The mean over the clusters `own` of the share of their pairs of rows that `predicted` puts together; clusters of one row have no
/// pairs and no say.
fn strength(own: &[i64], predicted: &[usize], k: usize) -> f64 {
    let mut together = vec![0u64; k * k];
    for (&own, &predicted) in own.iter().zip(predicted) {
        together[own as usize * k + predicted] += 1;
    }
    let pairs = |rows: u64| (rows * rows.saturating_sub(1)) as f64;
    let shares: Vec<f64> = together
        .chunks_exact(k)
        .filter(|cluster| cluster.iter().sum::<u64>() > 1)
        .map(|cluster| cluster.iter().map(|&rows| pairs(rows)).sum::<f64>() / pairs(cluster.iter().sum()))
        .collect();
    shares.iter().sum::<f64>() / shares.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Stop;
    use crate::Error;
    use tch::{Device, Kind};

    fn blobs(k: i64, n: i64) -> Views {
        tch::manual_seed(7);
        let options = (Kind::Float, Device::Cpu);
        let corners = Tensor::eye(k, options) * 12.0;
        let blob = |cluster| Tensor::randn([n, k], options) + corners.get(cluster);
        Views::of_rows(Tensor::cat(&(0..k).map(blob).collect::<Vec<_>>(), 0))
    }

    #[test]
    fn strength_is_the_share_of_pairs_that_stay_together() {
        assert_eq!(strength(&[0, 0, 1, 1], &[1, 1, 0, 0], 2), 1.0, "numbers of clusters are only names");
        assert_eq!(strength(&[0, 0, 0, 1, 1], &[0, 0, 1, 1, 1], 2), (1.0 / 3.0 + 1.0) / 2.0);
        assert_eq!(strength(&[0, 0, 1], &[0, 1, 0], 2), 0.0, "a cluster of one row has no say");
        assert_eq!(vote(&[2, 0, 1], &[0, 0, 1], 2), 0);
        assert_eq!(vote(&[2, 0], &[0, 0, 1], 2), 1, "of equals that of the nearest");
    }

    #[test]
    fn clusters_that_are_there_come_back_and_others_do_not() {
        let found = strengths(&blobs(4, 80), &[2, 4, 7], 1, &mut Control::ignored()).unwrap();
        assert!(found[1] > 0.99 && found[2] < 0.85, "{found:?}");
        let again = strengths(&blobs(4, 80), &[2, 4, 7], 1, &mut Control::ignored()).unwrap();
        assert_eq!(found, again);
    }

    #[test]
    fn a_stop_is_heard() {
        let stopped = strengths(&blobs(2, 40), &[2], 1, &mut Control::new(&mut Stop));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
