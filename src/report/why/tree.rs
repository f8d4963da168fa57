//! The tree that joins near clusters first.

use ndarray::ArrayView2;

use super::rows::squared;
use super::{check_length, WhyError};

/// How far a joined cluster is from the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Linkage {
    /// The mean distance of their rows' centroids (UPGMA), each centroid weighted with its cluster's size.
    #[default]
    Average,
    /// By how much joining them raises the sum of squared distances (Ward 1963), with the clusters' sizes: √(2·ΔE).
    Ward,
}

/// Two clusters that become one, as in SciPy's linkage matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Join {
    /// The one with the lower number. Below k: a cluster; k + i: what join i made.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// Their distance.
    pub height: f64,
    /// Clusters (not rows) in the union.
    pub size: u32,
}

/// Joins the k clusters with these `centroids` \[k, m\] and `sizes` (rows) until one is left: k − 1 joins, lowest first. An
/// empty cluster counts as one row. By chains of nearest neighbours (Murtagh 1983), in O(k²) time and memory.
///
/// # Errors
/// [`WhyError::Shape`], where there is not one size a centroid.
pub fn dendrogram(centroids: ArrayView2<'_, f32>, sizes: &[u64], linkage: Linkage) -> Result<Vec<Join>, WhyError> {
    let k = centroids.nrows();
    check_length("sizes", sizes.len(), k)?;
    let mut tree = Tree::new(centroids, sizes, linkage);
    let mut chain: Vec<usize> = Vec::new();
    let mut joins = Vec::new();
    while joins.len() + 1 < k {
        if chain.is_empty() {
            chain.extend(tree.alive.iter().position(|&alive| alive));
        }
        let Some(&tip) = chain.last() else { break };
        let before = chain.len().checked_sub(2).map(|place| chain[place]);
        let Some((nearest, distance)) = tree.nearest(tip, before) else { break };
        if Some(nearest) == before {
            chain.truncate(chain.len() - 2);
            joins.push((nearest.min(tip), nearest.max(tip), distance));
            tree.join(nearest.min(tip), nearest.max(tip));
        } else {
            chain.push(nearest);
        }
    }
    Ok(numbered(joins, k, linkage))
}

/// Distances between the clusters that are left.
struct Tree {
    k: usize,
    linkage: Linkage,
    /// \[k, k\]; squared for Ward.
    distances: Vec<f64>,
    weights: Vec<f64>,
    alive: Vec<bool>,
}

impl Tree {
    fn new(centroids: ArrayView2<'_, f32>, sizes: &[u64], linkage: Linkage) -> Self {
        let k = centroids.nrows();
        let weights: Vec<f64> = sizes.iter().map(|&size| size.max(1) as f64).collect();
        let mut distances = vec![0.0; k * k];
        for a in 0..k {
            for b in 0..a {
                let apart = squared(centroids.row(a), centroids.row(b));
                let distance = match linkage {
                    Linkage::Average => apart.sqrt(),
                    Linkage::Ward => 2.0 * weights[a] * weights[b] / (weights[a] + weights[b]) * apart,
                };
                distances[a * k + b] = distance;
                distances[b * k + a] = distance;
            }
        }
        Self { k, linkage, distances, weights, alive: vec![true; k] }
    }

    /// The nearest cluster; `before` wins a tie, so that chains end.
    fn nearest(&self, from: usize, before: Option<usize>) -> Option<(usize, f64)> {
        let mut best = before.map(|other| (other, self.distances[from * self.k + other]));
        for other in (0..self.k).filter(|&other| other != from && self.alive[other]) {
            let distance = self.distances[from * self.k + other];
            if best.is_none_or(|(_, least)| distance < least) {
                best = Some((other, distance));
            }
        }
        best
    }

    /// `a` becomes the union (Lance & Williams 1967), `b` is gone.
    fn join(&mut self, a: usize, b: usize) {
        let (wa, wb, between) = (self.weights[a], self.weights[b], self.distances[a * self.k + b]);
        self.alive[b] = false;
        for other in (0..self.k).filter(|&other| other != a && self.alive[other]) {
            let (to_a, to_b) = (self.distances[a * self.k + other], self.distances[b * self.k + other]);
            let wo = self.weights[other];
            let distance = match self.linkage {
                Linkage::Average => (wa * to_a + wb * to_b) / (wa + wb),
                Linkage::Ward => ((wa + wo) * to_a + (wb + wo) * to_b - wo * between) / (wa + wb + wo),
            };
            self.distances[a * self.k + other] = distance;
            self.distances[other * self.k + a] = distance;
        }
        self.weights[a] += self.weights[b];
    }
}

/// Sorts the joins by height and numbers what each makes.
fn numbered(mut joins: Vec<(usize, usize, f64)>, k: usize, linkage: Linkage) -> Vec<Join> {
    joins.sort_by(|x, y| x.2.total_cmp(&y.2));
    // For each cluster, the number and size of the union that it is in.
    let mut parent: Vec<usize> = (0..k).collect();
    let mut number: Vec<(u32, u32)> = (0..k as u32).map(|cluster| (cluster, 1)).collect();
    let mut made = Vec::with_capacity(joins.len());
    for (place, (a, b, distance)) in joins.into_iter().enumerate() {
        let (root_a, root_b) = (root(&mut parent, a), root(&mut parent, b));
        let ((x, n), (y, m)) = (number[root_a], number[root_b]);
        let height = match linkage {
            Linkage::Average => distance,
            Linkage::Ward => distance.max(0.0).sqrt(),
        };
        made.push(Join { a: x.min(y), b: x.max(y), height, size: n + m });
        parent[root_b] = root_a;
        number[root_a] = ((k + place) as u32, n + m);
    }
    made
}

fn root(parent: &mut [usize], mut of: usize) -> usize {
    while parent[of] != of {
        parent[of] = parent[parent[of]];
        of = parent[of];
    }
    of
}
