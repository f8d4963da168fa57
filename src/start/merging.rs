//! Many clusters merged to few, by how often rows of two clusters are related.
//!
//! J_ab is the probability that a row drawn at random is in cluster a and a related row in cluster b; J_a = Σ_b J_ab. Were
//! clusters and relations independent, it would be J_a J_b. Two rules say which two clusters belong together most, and they err
//! differently: one by the ratio, which is average linkage and keeps small clusters that stand apart; one by the difference,
//! which is modularity (Clauset, Newman & Moore 2004) and joins small clusters first.

use super::NeighbourGraph;

/// By what two clusters are chosen to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merging {
    /// The greatest J_ab / (J_a J_b).
    Linkage,
    /// The greatest J_ab − J_a J_b.
    Modularity,
}

impl Merging {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Linkage, Self::Modularity];

    fn gain(self, together: f64, a: f64, b: f64) -> f64 {
        match self {
            _ if a == 0.0 || b == 0.0 => f64::INFINITY, // an empty cluster is none of those that are wanted
            Self::Linkage if together == 0.0 => -a * b, // of clusters without any relation the smallest
            Self::Linkage => together / (a * b),
            Self::Modularity => together - a * b,
        }
    }
}

/// J: a symmetric table \[k, k\] of probabilities that sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Joint {
    k: usize,
    values: Vec<f64>,
}

impl Joint {
    /// A row and a neighbour that a step of a random walk on `graph` leads to.
    ///
    /// `labels` are from 0 to k − 1, one a row of the graph.
    pub fn of_graph(graph: &NeighbourGraph, labels: &[i64], k: usize) -> Self {
        let mut values = vec![0.0; k * k];
        for (row, &label) in labels.iter().enumerate() {
            let share = 1.0 / (graph.degree(row) * labels.len() as f64);
            for (other, weight) in graph.edges(row) {
                values[label as usize * k + labels[other] as usize] += f64::from(weight) * share;
            }
        }
        Self { k, values }.symmetric()
    }

    /// The two rows of a pair.
    pub fn of_pairs(pairs: &[(usize, usize)], labels: &[i64], k: usize) -> Self {
        let mut values = vec![0.0; k * k];
        for &(row, other) in pairs {
            values[labels[row] as usize * k + labels[other] as usize] += 1.0 / pairs.len() as f64;
        }
        Self { k, values }.symmetric()
    }

    /// The mean of both.
    #[must_use]
    pub fn mean(mut self, other: &Self) -> Self {
        for (a, b) in self.values.iter_mut().zip(&other.values) {
            *a = (*a + b) / 2.0;
        }
        self
    }

    /// The modularity Σ_a (J_aa − J_a²) of the clusters (Newman 2006), at most 1 − 1/k.
    pub fn modularity(&self) -> f64 {
        (0..self.k).map(|a| self.at(a, a) - self.marginal(a).powi(2)).sum()
    }

    fn symmetric(mut self) -> Self {
        for a in 0..self.k {
            for b in 0..a {
                let mean = (self.at(a, b) + self.at(b, a)) / 2.0;
                self.values[a * self.k + b] = mean;
                self.values[b * self.k + a] = mean;
            }
        }
        self
    }

    /// J_ab.
    pub(crate) fn at(&self, a: usize, b: usize) -> f64 {
        self.values[a * self.k + b]
    }

    /// J_a.
    pub(crate) fn marginal(&self, a: usize) -> f64 {
        self.values[a * self.k..(a + 1) * self.k].iter().sum()
    }
}

/// Merges clusters until `k` are left; returns the new cluster, 0 to k − 1, of each old one. Time grows with the cube of the
/// old clusters' number.
///
/// ```
/// use dec::start::{merge_clusters, Joint, Merging};
/// // Rows of the clusters 0 and 2 are related to each other, and so are those of 1 and 3.
/// let joint = Joint::of_pairs(&[(0, 2), (1, 3), (2, 0), (3, 1)], &[0, 1, 2, 3], 4);
/// assert_eq!(merge_clusters(&joint, 2, Merging::Linkage), [0, 1, 0, 1]);
/// ```
pub fn merge_clusters(joint: &Joint, k: usize, by: Merging) -> Vec<usize> {
    let old = joint.k;
    let mut joint = joint.clone();
    let mut into: Vec<usize> = (0..old).collect();
    let mut left: Vec<usize> = (0..old).collect();
    let mut sizes: Vec<f64> = left.iter().map(|&a| joint.marginal(a)).collect();
    while left.len() > k.max(1) {
        let gain = |&(a, b): &(usize, usize)| by.gain(joint.at(a, b), sizes[a], sizes[b]);
        let pairs = left.iter().enumerate().flat_map(|(i, &b)| left[..i].iter().map(move |&a| (a, b)));
        let Some((a, b)) = pairs.max_by(|x, y| gain(x).total_cmp(&gain(y))) else { break };
        left.retain(|&c| c != b);
        sizes[a] += sizes[b];
        for c in 0..old {
            joint.values[a * old + c] += std::mem::take(&mut joint.values[b * old + c]);
        }
        for c in 0..old {
            joint.values[c * old + a] += std::mem::take(&mut joint.values[c * old + b]);
        }
        for target in &mut into {
            if *target == b {
                *target = a;
            }
        }
    }
    let number = |cluster: usize| left.iter().position(|&c| c == cluster).unwrap_or(0);
    into.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A random walk among 6 clusters of different sizes: 0–1, 2–3 and 4–5 are related to each other.
    fn joint() -> Joint {
        let labels: Vec<i64> = (0..600).map(|i| [0, 0, 1, 2, 3, 3, 4, 5, 5, 5][i % 10]).collect();
        let related = |i: usize| match i % 7 {
            0 => (i * 37 + 11) % 600,
            _ => {
                let partner = |c: i64| if i.is_multiple_of(3) { c ^ 1 } else { c };
                let wanted = partner(labels[i]);
                (0..600).map(|step| (i + 1 + step) % 600).find(|&j| labels[j] == wanted).unwrap_or(i)
            }
        };
        let pairs: Vec<_> = (0..600).map(|i| (i, related(i))).collect();
        Joint::of_pairs(&pairs, &labels, 6)
    }

    #[test]
    fn related_clusters_are_merged() {
        for by in Merging::ALL {
            let into = merge_clusters(&joint(), 3, by);
            assert!(into[0] == into[1] && into[2] == into[3] && into[4] == into[5], "{by:?}: {into:?}");
            let mut numbers = into;
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers, [0, 1, 2]);
        }
    }

    #[test]
    fn every_pair_counts() {
        let labels = [0, 1, 2, 3];
        let pairs = [[(0, 1), (2, 3)], [(0, 2), (1, 3)], [(0, 2), (1, 3)]].concat();
        for by in Merging::ALL {
            assert_eq!(merge_clusters(&Joint::of_pairs(&pairs[..2], &labels, 4), 2, by), [0, 0, 1, 1]);
            assert_eq!(merge_clusters(&Joint::of_pairs(&pairs, &labels, 4), 2, by), [0, 1, 0, 1]);
        }
    }

    #[test]
    fn empty_clusters_go_first_and_then_the_smallest_of_those_without_relations() {
        // 0 to 3 stand alone, 4 is empty.
        let joint = Joint::of_pairs(
            &(0..20).map(|i| (i, i)).collect::<Vec<_>>(),
            &[[0; 6], [1; 6]].concat().into_iter().chain([2; 3]).chain([3; 5]).collect::<Vec<_>>(),
            5,
        );
        for by in Merging::ALL {
            let into = merge_clusters(&joint, 4, by);
            let mut full = into[..4].to_vec();
            full.sort_unstable();
            assert_eq!(full, [0, 1, 2, 3], "{by:?}");
            let into = merge_clusters(&joint, 3, by);
            assert_eq!(into[2], into[3], "{by:?}: {into:?}");
        }
    }

    #[test]
    fn linkage_keeps_a_small_cluster_that_stands_apart_and_modularity_does_not() {
        // Two halves of a large cluster, two others of middle size, and a small one with few relations to any of them.
        let values = [
            [0.240, 0.040, 0.010, 0.010, 0.000],
            [0.040, 0.240, 0.010, 0.010, 0.000],
            [0.010, 0.010, 0.170, 0.004, 0.0002],
            [0.010, 0.010, 0.004, 0.170, 0.0002],
            [0.000, 0.000, 0.0002, 0.0002, 0.0096],
        ];
        let sum: f64 = values.iter().flatten().sum();
        let joint = Joint { k: 5, values: values.iter().flatten().map(|value| value / sum).collect() };
        let linkage = merge_clusters(&joint, 4, Merging::Linkage);
        assert_eq!(linkage[0], linkage[1]);
        assert_eq!(linkage.iter().filter(|&&c| c == linkage[4]).count(), 1, "{linkage:?}");
        let modularity = merge_clusters(&joint, 4, Merging::Modularity);
        assert_ne!(modularity[0], modularity[1]);
        assert!(modularity[4] == modularity[2] || modularity[4] == modularity[3], "{modularity:?}");
    }
}
