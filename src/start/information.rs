//! How much the cluster of a row tells about the cluster of a row that is related to it: the score of a clustering that needs
//! no labels.
//!
//! J_ab is the probability that a row drawn at random is in cluster a and a related row in cluster b. The mutual information
//! I = Σ_ab J_ab ln(J_ab / (J_a J_b)) is high where related rows share their cluster and where clusters are many and of one
//! size: H(a) − H(a|b). Invariant information clustering (Ji, Henriques & Vedaldi 2019) trains on it; here it only chooses
//! among clusterings, and merges clusters with the least loss of it (the agglomerative information bottleneck, Slonim & Tishby
//! 1999).

use super::NeighbourGraph;

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

    /// Row i and row `related[i]`.
    pub fn of_pairs(related: &[i64], labels: &[i64], k: usize) -> Self {
        let mut values = vec![0.0; k * k];
        for (&label, &other) in labels.iter().zip(related) {
            values[label as usize * k + labels[other as usize] as usize] += 1.0 / labels.len() as f64;
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

    fn at(&self, a: usize, b: usize) -> f64 {
        self.values[a * self.k + b]
    }

    fn marginal(&self, a: usize) -> f64 {
        self.values[a * self.k..(a + 1) * self.k].iter().sum()
    }
}

/// I(J) in nats, from 0 to ln k.
///
/// ```
/// use dec::start::{mutual_information, Joint};
/// // Four rows, each related to the next of its own cluster: the cluster is known, ln 2.
/// let joint = Joint::of_pairs(&[1, 0, 3, 2], &[0, 0, 1, 1], 2);
/// assert!((mutual_information(&joint) - 2f64.ln()).abs() < 1e-12);
/// // Related to the other cluster as often as to its own: nothing is known.
/// let joint = Joint::of_pairs(&[1, 2, 3, 0], &[0, 0, 1, 1], 2);
/// assert!(mutual_information(&joint).abs() < 1e-12);
/// ```
pub fn mutual_information(joint: &Joint) -> f64 {
    let cells: f64 = joint.values.iter().map(|&value| x_ln_x(value)).sum();
    let marginals: f64 = (0..joint.k).map(|a| x_ln_x(joint.marginal(a))).sum();
    cells - 2.0 * marginals
}

/// Merges clusters until `k` are left, each time the two whose merger loses the least information; returns the new cluster, 0
/// to k − 1, of each old one. Time grows with the cube of the old clusters' number.
pub fn merge_clusters(joint: &Joint, k: usize) -> Vec<usize> {
    let old = joint.k;
    let mut joint = joint.clone();
    let mut into: Vec<usize> = (0..old).collect();
    let mut left: Vec<usize> = (0..old).collect();
    let mut losses = vec![0.0; old * old]; // of a pair a < b at a · old + b
    for b in 0..old {
        for a in 0..b {
            losses[a * old + b] = loss(&joint, &left, a, b);
        }
    }
    while left.len() > k.max(1) {
        let pairs = left.iter().enumerate().flat_map(|(i, &b)| left[..i].iter().map(move |&a| (a, b)));
        let Some((a, b)) = pairs.min_by(|x, y| losses[x.0 * old + x.1].total_cmp(&losses[y.0 * old + y.1])) else {
            break;
        };
        left.retain(|&c| c != b);
        let others: Vec<usize> = left.iter().copied().filter(|&c| c != a).collect();
        // A pair of others keeps its loss, but for what tells the two apart at a and at b.
        let mut update = |joint: &Joint, clusters: &[usize], sign: f64| {
            for (i, &d) in others.iter().enumerate() {
                for &c in &others[..i] {
                    let apart: f64 = clusters.iter().map(|&x| apart(joint, c, d, x)).sum();
                    losses[c * old + d] += sign * 2.0 * apart;
                }
            }
        };
        update(&joint, &[a, b], -1.0);
        for c in 0..old {
            joint.values[a * old + c] += joint.at(b, c);
        }
        for c in 0..old {
            joint.values[c * old + a] += joint.at(c, b);
        }
        update(&joint, &[a], 1.0);
        for &c in &others {
            losses[a.min(c) * old + a.max(c)] = loss(&joint, &left, a.min(c), a.max(c));
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

/// What merging `b` into `a` costs, among the clusters that are left.
fn loss(joint: &Joint, left: &[usize], a: usize, b: usize) -> f64 {
    let others = left.iter().filter(|&&c| c != a && c != b);
    let outside: f64 = others.map(|&c| 2.0 * apart(joint, a, b, c)).sum();
    let cells = [joint.at(a, a), joint.at(a, b), joint.at(b, a), joint.at(b, b)];
    let inside = cells.iter().map(|&x| x_ln_x(x)).sum::<f64>() - x_ln_x(cells.iter().sum());
    let marginal = |c: usize| left.iter().map(|&other| joint.at(c, other)).sum::<f64>();
    let (x, y) = (marginal(a), marginal(b));
    outside + inside - 2.0 * (x_ln_x(x) + x_ln_x(y) - x_ln_x(x + y))
}

/// What telling `a` from `b` says of `c`.
fn apart(joint: &Joint, a: usize, b: usize, c: usize) -> f64 {
    let (x, y) = (joint.at(a, c), joint.at(b, c));
    x_ln_x(x) + x_ln_x(y) - x_ln_x(x + y)
}

/// x ln x, 0 at 0.
fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 {
        x * x.ln()
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A random walk among 6 clusters of different sizes: 0–1, 2–3 and 4–5 are related to each other.
    fn joint() -> Joint {
        let labels: Vec<i64> = (0..600).map(|i| [0, 0, 1, 2, 3, 3, 4, 5, 5, 5][i % 10]).collect();
        let related: Vec<i64> = (0..600i64)
            .map(|i| match i % 7 {
                0 => (i * 37 + 11) % 600,
                _ => {
                    let partner = |c: i64| if i % 3 == 0 { c ^ 1 } else { c };
                    let wanted = partner(labels[i as usize]);
                    (0..600).map(|step| (i + 1 + step) % 600).find(|&j| labels[j as usize] == wanted).unwrap_or(i)
                }
            })
            .collect();
        Joint::of_pairs(&related, &labels, 6)
    }

    fn merged(joint: &Joint, into: &[usize], k: usize) -> Joint {
        let mut values = vec![0.0; k * k];
        for a in 0..joint.k {
            for b in 0..joint.k {
                values[into[a] * k + into[b]] += joint.at(a, b);
            }
        }
        Joint { k, values }
    }

    #[test]
    fn related_clusters_are_merged() {
        let into = merge_clusters(&joint(), 3);
        assert!(into[0] == into[1] && into[2] == into[3] && into[4] == into[5], "{into:?}");
        let mut numbers = into;
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn the_loss_of_a_merger_is_the_difference_of_informations() {
        let joint = joint();
        let left: Vec<usize> = (0..6).collect();
        for a in 0..6 {
            for b in a + 1..6 {
                let into: Vec<usize> =
                    (0..6).map(|c| if c == b { a } else { c }).map(|c| c - usize::from(c > b)).collect();
                let difference = mutual_information(&joint) - mutual_information(&merged(&joint, &into, 5));
                assert!((loss(&joint, &left, a, b) - difference).abs() < 1e-12, "{a} {b}");
            }
        }
        // Losses that are kept up to date are those that are computed anew.
        let mut one_by_one: Vec<usize> = (0..6).collect();
        let mut smaller = joint.clone();
        for k in (2..6).rev() {
            let into = merge_clusters(&smaller, k);
            one_by_one.iter_mut().for_each(|c| *c = into[*c]);
            smaller = merged(&smaller, &into, k);
            assert_eq!(merge_clusters(&joint, k), one_by_one);
        }
        let best = merge_clusters(&joint, 5);
        let information = mutual_information(&merged(&joint, &best, 5));
        assert!((0..6)
            .all(|a| (a + 1..6)
                .all(|b| { mutual_information(&joint) - loss(&joint, &left, a, b) <= information + 1e-12 })));
    }
}
