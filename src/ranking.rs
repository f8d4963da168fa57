//! Which of several clusterings of the same rows is best, without a look at labels.
//!
//! A clustering's score is its modularity (Newman 2006) on one graph, which is the same for all: that of the nearest neighbours of
//! the scaled rows. A step of a random walk leads from a row i to its neighbour j with probability w_ij / Σ_l w_il, and with
//!
//! J_ab = the probability that a step from a row drawn at random leads from cluster a to b, made symmetric,
//!
//! Q = Σ_a (J_aa − J_a²), J_a = Σ_b J_ab.
//!
//! Q is how much more often neighbours are in one cluster than chance would have it: 0 for a single cluster or for clusters drawn at
//! random, below 1 − 1/k for any k. It needs no latent, so that it can compare runs with other networks, scalings and numbers of
//! clusters. What it cannot see is anything that neighbours among the rows themselves do not show, and with very many
//! clusters it prefers fewer.

use std::collections::HashMap;

use crate::control::Control;
use crate::data::{index_of, Rows};
use crate::error::{Error, Result};
use crate::start::{components, Joint, NeighbourGraph};
use crate::state::Task;

/// Rows that the graph has at most.
pub const MOST_ROWS: usize = 5_000;
/// Neighbours of each.
const N_NEIGHBOURS: i64 = 15;

/// What clusterings of the rows of one data set are measured by.
#[derive(Debug)]
pub struct Yardstick {
    /// The place in the graph of each row of the input that is in it.
    places: HashMap<usize, usize>,
    graph: NeighbourGraph,
}

impl Yardstick {
    /// The graph of the rows of `task`, scaled as they are there; of those whose number in the input `is_clustered` by all that are
    /// to be measured, and of [`MOST_ROWS`] of these at most, which are drawn by the task's seed.
    ///
    /// # Errors
    /// [`Error::Rows`] for fewer than two such rows, [`Error::Interrupted`], or a libtorch failure.
    pub fn new(task: &Task, is_clustered: impl Fn(usize) -> bool, control: &mut Control) -> Result<Self> {
        let chosen = task.order.iter().enumerate().filter(|(_, &row)| is_clustered(row)).take(MOST_ROWS);
        let (places, rows): (Vec<usize>, Vec<usize>) = chosen.map(|(place, &row)| (place, row)).unzip();
        if rows.len() < 2 {
            return Err(Error::Rows("there are no rows that all of the runs have clustered".to_owned()));
        }
        let rows_of_graph = Rows::from_tensor(task.rows.batch(&index_of(&places)?)?);
        let graph = NeighbourGraph::new(&components(&rows_of_graph, i64::MAX, control)?, N_NEIGHBOURS, control)?;
        Ok(Self { places: rows.into_iter().enumerate().map(|(place, row)| (row, place)).collect(), graph })
    }

    /// The score of a clustering, pairs of a row's number in the input and its cluster; `None` where it lacks rows of the graph.
    pub fn score(&self, clusters: &[(usize, i64)]) -> Option<f64> {
        let mut number = HashMap::new();
        let mut labels = vec![-1; self.graph.n_rows()];
        for (row, cluster) in clusters {
            if let Some(&place) = self.places.get(row) {
                let next = number.len() as i64;
                labels[place] = *number.entry(cluster).or_insert(next);
            }
        }
        let whole = labels.iter().all(|&label| label >= 0);
        whole.then(|| Joint::of_graph(&self.graph, &labels, number.len()).modularity())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;
    use crate::data::{Dataset, Features};
    use tch::Device;

    /// Three groups of 20 rows.
    fn yardstick(is_clustered: impl Fn(usize) -> bool) -> Result<Yardstick> {
        let value = |(i, j): (usize, usize)| ((i % 3) * 10 + (i * 7 + j * 5) % 4) as f32;
        let features = Features::F32(ndarray::Array2::from_shape_fn((60, 5), value));
        let dataset = Dataset { features, name: "groups".to_owned(), ..Dataset::default() };
        let task = Task::new(&Config::default().check().unwrap(), &dataset, Device::Cpu).unwrap();
        Yardstick::new(&task, is_clustered, &mut Control::ignored())
    }

    #[test]
    fn what_lies_together_scores_higher_whatever_the_number_of_clusters() {
        let yardstick = yardstick(|_| true).unwrap();
        let score = |cluster: fn(usize) -> usize| {
            yardstick.score(&(0..60).map(|row| (row, cluster(row) as i64)).collect::<Vec<_>>()).unwrap()
        };
        let right = score(|row| row % 3);
        assert!((right - 2.0 / 3.0).abs() < 1e-6, "{right}");
        assert_eq!(right, score(|row| 7 - row % 3), "numbers are names");
        assert!(score(|_| 4).abs() < 1e-9);
        let (merged, split, random) = (score(|row| row % 3 / 2), score(|row| row % 6), score(|row| row / 20));
        assert!(right > merged && right > split && merged > random && split > random, "{merged} {split} {random}");
    }

    #[test]
    fn a_clustering_without_all_rows_has_no_score() {
        let yardstick_of_half = yardstick(|row| row < 30).unwrap();
        let rows = |n: usize| (0..n).map(|row| (row, (row % 3) as i64)).collect::<Vec<_>>();
        assert_eq!(yardstick_of_half.score(&rows(29)), None);
        assert_eq!(yardstick_of_half.score(&rows(30)), yardstick_of_half.score(&rows(60)));
        assert!(yardstick(|row| row == 5).is_err());
    }
}
