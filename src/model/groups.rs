//! Clusters that were joined after training.
//!
//! Centroids stay what and where they are; a joined cluster has several of them, and its soft assignment is the sum of theirs:
//!
//! q' = q G, with G \[k, k'\] of 0 and 1, G_jc = 1 where centroid j belongs to cluster c.
//!
//! This is exact. The embedding does not change, rows of q' sum to 1 as those of q do, and what a row has of a cluster that nobody
//! joined stays the same bit for bit. One centroid in the middle of several would do neither: its kernel is largest where none of
//! the rows are, and through the sum that q is divided by it would change the q of every other cluster too.
//!
//! A row's cluster is its largest q'. That need not be the cluster that its largest q went into: of q = (0.4, 0.3, 0.3) with the
//! last two joined it is the joined one, with 0.6.

use tch::{Device, Kind, Tensor};

use crate::backend::precision;
use crate::data::values_of;
use crate::error::{Error, Result};

/// Rows of q that are brought to float64 at once.
const BLOCK: i64 = 1 << 16;

/// The cluster of each of k centroids, or the new cluster of each of k clusters.
///
/// Clusters are numbered by their smallest member, in its order.
///
/// ```
/// use dec::model::Groups;
/// use tch::Tensor;
///
/// let groups = Groups::joined(4, &[vec![3, 1]])?;
/// assert_eq!(groups.cluster_of(), [0, 1, 2, 1]);
/// let q = Tensor::from_slice(&[0.4f32, 0.25, 0.1, 0.25]).view([1, 4]);
/// let joined: Vec<f32> = Vec::try_from(groups.sum(&q)?.view(-1)).unwrap();
/// assert_eq!(joined, [0.4, 0.5, 0.1]);
/// # Ok::<(), dec::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    cluster_of: Vec<usize>,
    n_clusters: usize,
}

impl Groups {
    /// Those that have equal values in `of` \[k\], whatever the values.
    pub fn new(of: &[usize]) -> Self {
        let mut known: Vec<usize> = Vec::new();
        let number = |&group: &usize| {
            known.iter().position(|&other| other == group).unwrap_or_else(|| {
                known.push(group);
                known.len() - 1
            })
        };
        let cluster_of = of.iter().map(number).collect();
        Self { cluster_of, n_clusters: known.len() }
    }

    /// Of k = `n` clusters, those of each list joined.
    ///
    /// # Errors
    /// [`Error::Config`] for a number that is no cluster's, one that comes twice, and a list of fewer than two.
    pub fn joined(n: usize, lists: &[Vec<usize>]) -> Result<Self> {
        let refuse = |problem: String| Err(Error::Config(problem));
        let mut of: Vec<usize> = (0..n).collect();
        let mut seen = vec![false; n];
        for list in lists {
            let shown = || list.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            let (Some(&first), true) = (list.first(), list.len() > 1) else {
                return refuse(format!("{:?} joins nothing: name two clusters or more, as in 3,5", shown()));
            };
            for &cluster in list {
                match seen.get_mut(cluster) {
                    None => {
                        return refuse(format!(
                            "{}: there is no cluster {cluster}; there are {n}, 0 to {}",
                            shown(),
                            n.saturating_sub(1)
                        ))
                    }
                    Some(true) => {
                        return refuse(format!(
                            "cluster {cluster} is named twice: name all that become one cluster together, once each"
                        ))
                    }
                    Some(seen) => *seen = true,
                }
                of[cluster] = first;
            }
        }
        Ok(Self::new(&of))
    }

    /// Joins clusters until `n` are left, each time the two that the model tells apart least by the soft assignments q \[rows, k\].
    ///
    /// That is the pair with the largest s_ab / (f_a f_b), s = qᵀ q and f the clusters' sizes Σ_i q_i: how much oftener than by chance
    /// rows are divided between the two. A row has of another cluster what its kernel gives, some ε ~ 1/d² at the distance d, so that
    /// s_ab ≈ (f_a + f_b) ε, and this is ε (1/f_a + 1/f_b): the inverse of what Ward's linkage of the centroids takes for a cost,
    /// d² f_a f_b / (f_a + f_b), without the unit that a latent space does not have. And it stays exact: joining adds rows and columns
    /// of s, which gives the s of the joined q, Gᵀ s G, where Ward goes on with centroids that the model does not have. Of equals
    /// the first.
    ///
    /// # Errors
    /// [`Error::Config`] for `n` that is 0 or not below k, or a libtorch failure.
    pub fn by_overlap(q: &Tensor, n: usize) -> Result<Self> {
        let k = q.size2()?.1 as usize;
        if n == 0 || n >= k {
            let room = if k > 1 { format!("1 to {} are possible", k - 1) } else { "nothing can be joined".to_owned() };
            return Err(Error::Config(format!("{n} clusters cannot be made by joining {k}: {room}")));
        }
        let mut shared = shared(q)?;
        // Rows of q sum to 1, so rows of s sum to f.
        let mut sizes: Vec<f64> = shared.chunks_exact(k).map(|row| row.iter().sum()).collect();
        let mut of: Vec<usize> = (0..k).collect();
        let mut left: Vec<usize> = (0..k).collect();
        while left.len() > n {
            let pairs = left.iter().enumerate().flat_map(|(i, &a)| left[i + 1..].iter().map(move |&b| (a, b)));
            let overlap = |(a, b): (usize, usize)| shared[a * k + b] / (sizes[a] * sizes[b]);
            // NaN, of a cluster without any q, counts as none.
            let scored = pairs.map(|pair| (pair, Some(overlap(pair)).filter(|value| !value.is_nan()).unwrap_or(0.0)));
            let Some(((a, b), _)) = scored.reduce(|best, next| if next.1 > best.1 { next } else { best }) else {
                break;
            };
            for other in 0..k {
                shared[a * k + other] += shared[b * k + other];
            }
            for other in 0..k {
                shared[other * k + a] += shared[other * k + b];
            }
            sizes[a] += sizes[b];
            of.iter_mut().filter(|cluster| **cluster == b).for_each(|cluster| *cluster = a);
            left.retain(|&cluster| cluster != b);
        }
        Ok(Self::new(&of))
    }

    /// These, and then those of the clusters that they make.
    ///
    /// # Errors
    /// [`Error::Config`] where `next` is of another number of clusters.
    pub fn then(&self, next: &Self) -> Result<Self> {
        if next.cluster_of.len() != self.n_clusters {
            let (found, expected) = (next.cluster_of.len(), self.n_clusters);
            return Err(Error::Config(format!("groups of {found} clusters do not fit a model of {expected}")));
        }
        let of: Vec<usize> = self.cluster_of.iter().map(|&cluster| next.cluster_of[cluster]).collect();
        Ok(Self::new(&of))
    }

    /// The cluster of each centroid, \[k\].
    pub fn cluster_of(&self) -> &[usize] {
        &self.cluster_of
    }

    /// k', how many clusters there are.
    pub fn n_clusters(&self) -> usize {
        self.n_clusters
    }

    /// The centroids of each cluster, ascending.
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.n_clusters];
        self.cluster_of.iter().enumerate().for_each(|(centroid, &cluster)| members[cluster].push(centroid));
        members
    }

    /// q' = q G \[n, k'\] of q \[n, k\].
    ///
    /// # Errors
    /// q of another width, or a libtorch failure.
    pub fn sum(&self, q: &Tensor) -> Result<Tensor> {
        let _exact = precision::without_tf32()?;
        Ok(q.f_matmul(&self.matrix()?.f_to_device(q.device())?.f_to_kind(q.f_kind()?)?)?)
    }

    /// G, float32 \[k, k'\].
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn matrix(&self) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&self.values())?.f_view([self.cluster_of.len() as i64, self.n_clusters as i64])?)
    }

    /// G, row by row.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.cluster_of.len() * self.n_clusters];
        for (centroid, &cluster) in self.cluster_of.iter().enumerate() {
            values[centroid * self.n_clusters + cluster] = 1.0;
        }
        values
    }

    /// From what [`Groups::matrix`] gives.
    ///
    /// # Errors
    /// [`Error::Rows`] for a tensor that is no such matrix, or a libtorch failure.
    pub fn of_matrix(matrix: &Tensor) -> Result<Self> {
        let damaged = || {
            Error::Rows("the table of joined clusters is damaged: it has to give each centroid one cluster".to_owned())
        };
        let (_, width) = matrix.size2().map_err(|_| damaged())?;
        if width == 0 {
            return Err(damaged());
        }
        let values: Vec<f32> = values_of(&matrix.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?)?;
        let cluster = |row: &[f32]| {
            let one = row.iter().position(|&value| value == 1.0)?;
            (row.iter().filter(|&&value| value != 0.0).count() == 1).then_some(one)
        };
        let rows = values.chunks_exact(width as usize);
        let of: Vec<usize> = rows.map(cluster).collect::<Option<_>>().ok_or_else(damaged)?;
        let groups = Self::new(&of);
        if groups.cluster_of != of || groups.n_clusters != width as usize {
            return Err(damaged());
        }
        Ok(groups)
    }
}

/// qᵀ q \[k, k\], row by row, in float64.
fn shared(q: &Tensor) -> Result<Vec<f64>> {
    let (_, k) = q.size2()?;
    let mut sum = Tensor::f_zeros([k, k], (Kind::Double, Device::Cpu))?;
    for block in q.f_split(BLOCK, 0)? {
        let block = block.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        sum = sum.f_add(&block.f_tr()?.f_matmul(&block)?)?;
    }
    values_of(&sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn clusters_are_numbered_by_their_smallest_member() {
        let groups = Groups::joined(7, &[vec![6, 2], vec![5, 1, 4]]).unwrap();
        assert_eq!((groups.cluster_of(), groups.n_clusters()), (&[0, 1, 2, 3, 1, 1, 2][..], 4));
        assert_eq!(groups.members(), [vec![0], vec![1, 4, 5], vec![2, 6], vec![3]]);
        // Joined again, and all at once.
        let twice = groups.then(&Groups::joined(4, &[vec![3, 1]]).unwrap()).unwrap();
        assert_eq!(twice, Groups::joined(7, &[vec![6, 2], vec![5, 1, 4, 3]]).unwrap());
        assert!(groups.then(&groups).is_err());
    }

    #[test]
    fn lists_that_join_nothing_or_too_much_are_refused_in_words() {
        for (lists, words) in [
            (vec![vec![3]], "\"3\" joins nothing"),
            (vec![vec![]], "joins nothing"),
            (vec![vec![1, 4]], "no cluster 4; there are 4, 0 to 3"),
            (vec![vec![1, 1]], "cluster 1 is named twice"),
            (vec![vec![0, 1], vec![1, 2]], "cluster 1 is named twice"),
        ] {
            let refused = Groups::joined(4, &lists).unwrap_err();
            assert!(refused.to_string().contains(words) && refused.exit_code() == 2, "{refused}");
        }
    }

    #[test]
    fn sums_leave_the_other_clusters_as_they_are_bit_for_bit() {
        tch::manual_seed(5);
        let q = Tensor::randn([64, 6], (Kind::Float, Device::Cpu)).softmax(1, Kind::Float);
        let groups = Groups::joined(6, &[vec![1, 3, 4]]).unwrap();
        let joined = groups.sum(&q).unwrap();
        let column = |t: &Tensor, j: i64| -> Vec<f32> { values_of(&t.select(1, j).contiguous()).unwrap() };
        for (old, new) in [(0, 0), (2, 2), (5, 3)] {
            assert_eq!(column(&q, old), column(&joined, new));
        }
        let of = [1, 3, 4].map(|j| column(&q, j));
        let expected = (0..64).map(|i| of.iter().map(|column| f64::from(column[i])).sum::<f64>());
        assert!(column(&joined, 1).iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6));
    }

    #[test]
    fn the_pairs_that_share_most_are_joined() {
        // Rows that are as much of 0 as of 1; rows between 3 and 4, one of which has something of 2.
        let mut q = vec![[0.5f64, 0.5, 0.0, 0.0, 0.0]; 8];
        q.push([0.0, 0.0, 1.0, 0.0, 0.0]);
        q.extend([[0.0, 0.0, 0.0, 0.7, 0.3], [0.0, 0.0, 0.0, 0.3, 0.7], [0.0, 0.1, 0.1, 0.4, 0.4]]);
        let q = Tensor::from_slice(&q.concat()).view([12, 5]);
        let of = |n| Groups::by_overlap(&q, n).unwrap().cluster_of().to_vec();
        assert_eq!(of(4), [0, 1, 2, 3, 3]);
        assert_eq!(of(3), [0, 0, 1, 2, 2]);
        assert_eq!(of(2), [0, 0, 1, 1, 1]);
        assert_eq!(of(1), [0; 5]);
        // The sums are those of the joined q: the next step is the same as from there.
        let joined = Groups::by_overlap(&q, 3).unwrap();
        let next = Groups::by_overlap(&joined.sum(&q).unwrap(), 2).unwrap();
        assert_eq!(joined.then(&next).unwrap(), Groups::by_overlap(&q, 2).unwrap());
        for n in [0, 5, 9] {
            let refused = Groups::by_overlap(&q, n).unwrap_err().to_string();
            assert!(refused.contains("by joining 5: 1 to 4 are possible"), "{refused}");
        }
        assert!(Groups::by_overlap(&q.narrow(1, 0, 1), 1).unwrap_err().to_string().contains("nothing can be joined"));
        // A cluster that no row has anything of is no trouble.
        assert_eq!(
            Groups::by_overlap(&Tensor::zeros([4, 3], (Kind::Float, Device::Cpu)), 2).unwrap().cluster_of(),
            [0, 0, 1]
        );
    }

    #[test]
    fn a_matrix_is_read_back_and_damage_is_seen() {
        let groups = Groups::joined(5, &[vec![1, 3]]).unwrap();
        assert_eq!(Groups::of_matrix(&groups.matrix().unwrap()).unwrap(), groups);
        for (rows, values) in [
            (2, vec![1.0f32, 0.0, 1.0, 0.0]), // a cluster without a centroid
            (2, vec![1.0, 0.0, 0.5, 0.5]),
            (2, vec![0.0, 1.0, 1.0, 0.0]), // not in order
            (2, vec![1.0, 1.0, 1.0, 0.0]),
            (2, vec![f32::NAN, 1.0, 1.0, 0.0]),
        ] {
            assert!(Groups::of_matrix(&Tensor::from_slice(&values).view([rows, -1])).is_err(), "{values:?}");
        }
        assert!(Groups::of_matrix(&Tensor::from_slice(&[1.0f32])).is_err());
        assert!(Groups::of_matrix(&Tensor::zeros([3, 0], (Kind::Float, Device::Cpu))).is_err());
    }
}
