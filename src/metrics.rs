//! Scores of a clustering: against classes (accuracy, NMI, ARI) and without them (inertia, silhouette).
//!
//! ```
//! use dec::metrics::Contingency;
//!
//! let labels_true = [0, 0, 0, 1, 1, 1];
//! let labels_pred = [7, 7, 3, 3, 3, 3]; // any integers will do
//! let table = Contingency::new(&labels_true, &labels_pred)?;
//! assert_eq!(table.accuracy(), 5.0 / 6.0); // 7 is class 0, 3 is class 1
//! assert!((table.normalized_mutual_info() - 0.478704).abs() < 1e-6);
//! assert!((table.adjusted_rand_index() - 0.324324).abs() < 1e-6);
//! # Ok::<(), dec::Error>(())
//! ```

mod information;

use std::collections::{BTreeMap, HashMap};

use ndarray::ArrayView2;
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use tch::{no_grad, Kind, Tensor};

use crate::data::{index_of, sample};
use crate::error::{Error, Result};

/// How many rows each pair of a class and a cluster shares: what accuracy, NMI and ARI are computed from.
#[derive(Debug, Clone)]
pub struct Contingency {
    n_rows: u64,
    /// Rows of each class, by the class's label in ascending order.
    class_sizes: Vec<u64>,
    /// Rows of each cluster, by the cluster's label in ascending order.
    cluster_sizes: Vec<u64>,
    /// (class, cluster, rows) where rows > 0, in ascending order; sparse, for there may be as many clusters as rows.
    cells: Vec<(usize, usize, u64)>,
}

impl Contingency {
    /// [`Contingency::new`] of the rows that have a class: those whose true label is not below 0.
    ///
    /// # Errors
    /// As for [`Contingency::new`].
    pub fn of_labelled(labels_true: &[i64], labels_pred: &[i64]) -> Result<Self> {
        Self::of_pairs(labels_true.iter().copied().zip(labels_pred.iter().copied()).filter(|(class, _)| *class >= 0))
    }

    /// Counts the rows of every (class, cluster) pair.
    ///
    /// `labels_true` and `labels_pred` are \[n\], n ≥ 1; a label's value is only a name (negative and sparse ones are
    /// fine), and there may be more or fewer clusters than classes.
    ///
    /// # Errors
    /// [`Error::Rows`] for slices of different lengths and for empty ones.
    pub fn new(labels_true: &[i64], labels_pred: &[i64]) -> Result<Self> {
        if labels_true.len() != labels_pred.len() {
            let (n_true, n_pred) = (labels_true.len(), labels_pred.len());
            return Err(Error::Rows(format!("{n_true} labels cannot score the clusters of {n_pred} rows")));
        }
        Self::of_pairs(labels_true.iter().copied().zip(labels_pred.iter().copied()))
    }

    fn of_pairs(pairs: impl Iterator<Item = (i64, i64)>) -> Result<Self> {
        let mut counts: HashMap<(i64, i64), u64> = HashMap::new();
        for pair in pairs {
            *counts.entry(pair).or_insert(0) += 1;
        }
        if counts.is_empty() {
            return Err(Error::Rows("there are no rows to score".to_owned()));
        }
        let (mut classes, mut clusters) = (BTreeMap::new(), BTreeMap::new());
        for (&(class, cluster), rows) in &counts {
            *classes.entry(class).or_insert(0) += rows;
            *clusters.entry(cluster).or_insert(0) += rows;
        }
        let (class_places, cluster_places) = (places(&classes), places(&clusters));
        let place =
            |((class, cluster), rows): ((i64, i64), u64)| (class_places[&class], cluster_places[&cluster], rows);
        let mut cells: Vec<_> = counts.into_iter().map(place).collect();
        cells.sort_unstable();
        let (class_sizes, cluster_sizes): (Vec<u64>, _) =
            (classes.into_values().collect(), clusters.into_values().collect());
        Ok(Self { n_rows: class_sizes.iter().sum(), class_sizes, cluster_sizes, cells })
    }

    /// ACC: the share of rows in the right cluster under the best one-to-one matching of clusters to classes.
    ///
    /// max_m Σ_i 1\[y_i = m(c_i)\] / n (Xie et al. 2016, Eq. 10), m found by the Hungarian method. In \[1/max(classes,
    /// clusters), 1\]. Where there are more clusters than classes the surplus clusters match nothing, and conversely.
    /// Time grows with min(classes, clusters)² · max(classes, clusters), memory with their product.
    pub fn accuracy(&self) -> f64 {
        let matched: u64 = self.matching().iter().map(|&(class, cluster)| self.rows_of(class, cluster)).sum();
        matched as f64 / self.n_rows as f64
    }

    /// Rows of a class in a cluster, each by its place in ascending order of the labels.
    pub fn rows_of(&self, class: usize, cluster: usize) -> u64 {
        let place = self.cells.binary_search_by_key(&(class, cluster), |&(class, cluster, _)| (class, cluster));
        place.map_or(0, |place| self.cells[place].2)
    }

    /// The best one-to-one matching: pairs (class, cluster), by places in ascending order of the labels.
    pub fn matching(&self) -> Vec<(usize, usize)> {
        let (n_classes, n_clusters) = (self.class_sizes.len(), self.cluster_sizes.len());
        // The method needs at least as many columns as rows.
        let transposed = n_classes > n_clusters;
        let (rows, columns) = if transposed { (n_clusters, n_classes) } else { (n_classes, n_clusters) };
        let mut weights = Matrix::new(rows, columns, 0i64);
        for &(class, cluster, count) in &self.cells {
            let place = if transposed { (cluster, class) } else { (class, cluster) };
            weights[place] = count as i64;
        }
        let (_, columns_of_rows) = kuhn_munkres(&weights);
        let pairs = columns_of_rows.into_iter().enumerate();
        pairs.map(|(row, column)| if transposed { (column, row) } else { (row, column) }).collect()
    }

    /// NMI: the mutual information of classes and clusters over the arithmetic mean of their entropies.
    ///
    /// In \[0, 1\]; 1 when both partitions are the same, also when both are a single group. The definition, edge cases
    /// included, is scikit-learn's `normalized_mutual_info_score`.
    pub fn normalized_mutual_info(&self) -> f64 {
        if self.class_sizes.len() == 1 && self.cluster_sizes.len() == 1 {
            return 1.0;
        }
        let mean_entropy = 0.5 * (self.entropy(&self.class_sizes) + self.entropy(&self.cluster_sizes));
        // Two groups somewhere, so the mean entropy is above zero; rounding can leave [0, 1] by an ulp.
        (self.mutual_info() / mean_entropy).clamp(0.0, 1.0)
    }

    /// ARI: the Rand index corrected for chance (Hubert & Arabie 1985).
    ///
    /// In \[−0.5, 1\]; 0 is what random labels get, 1 the same partition. Pairs of rows are counted in 128 bits. The
    /// definition, edge cases included, is scikit-learn's `adjusted_rand_score`.
    pub fn adjusted_rand_index(&self) -> f64 {
        let square = |count: u64| i128::from(count) * i128::from(count);
        let n = i128::from(self.n_rows);
        let same_both: i128 = self.cells.iter().map(|&(_, _, rows)| square(rows)).sum();
        let same_class: i128 = self.class_sizes.iter().copied().map(square).sum();
        let same_cluster: i128 = self.cluster_sizes.iter().copied().map(square).sum();
        // Ordered pairs of different rows: together or apart in (classes, clusters).
        let together = same_both - n;
        let class_only = same_class - same_both;
        let cluster_only = same_cluster - same_both;
        let apart = n * n - same_class - same_cluster + same_both;
        if class_only == 0 && cluster_only == 0 {
            return 1.0;
        }
        let numerator = 2 * (together * apart - class_only * cluster_only);
        let denominator =
            (together + class_only) * (class_only + apart) + (together + cluster_only) * (cluster_only + apart);
        numerator as f64 / denominator as f64
    }
}

/// Labels renamed to 0, 1, … in ascending order of their values, and how often each occurs.
fn compact(labels: &[i64]) -> (Vec<usize>, Vec<u64>) {
    let mut sizes: BTreeMap<i64, u64> = BTreeMap::new();
    for &label in labels {
        *sizes.entry(label).or_insert(0) += 1;
    }
    let places = places(&sizes);
    (labels.iter().map(|label| places[label]).collect(), sizes.into_values().collect())
}

/// The place of each label, in ascending order of their values.
fn places(sizes: &BTreeMap<i64, u64>) -> BTreeMap<i64, usize> {
    sizes.keys().enumerate().map(|(place, &label)| (label, place)).collect()
}

/// Inertia: Σ_i ‖x_i − μ_{c_i}‖², a sum over the rows, in float64.
///
/// `rows` is \[n, d\], `labels` \[n\] with values 0 to k−1, `centroids` \[k, d\].
///
/// # Errors
/// [`Error::Rows`] for shapes that do not fit each other and for a label that is no row of `centroids`.
pub fn inertia(rows: ArrayView2<f32>, labels: &[i64], centroids: ArrayView2<f32>) -> Result<f64> {
    let ((n, d), (k, width)) = (rows.dim(), centroids.dim());
    if labels.len() != n || width != d {
        let n_labels = labels.len();
        return Err(Error::Rows(format!("{n_labels} labels and centroids [{k}, {width}] do not fit rows [{n}, {d}]")));
    }
    let mut sum = 0.0;
    for (row, &label) in rows.rows().into_iter().zip(labels) {
        let cluster = usize::try_from(label).ok().filter(|&cluster| cluster < k);
        let cluster = cluster.ok_or_else(|| Error::Rows(format!("label {label} is none of {k} centroids")))?;
        sum += squared_distance(row.iter().zip(centroids.row(cluster)));
    }
    Ok(sum)
}

/// Σ (a − b)² in float64.
pub(crate) fn squared_distance<'a>(pairs: impl Iterator<Item = (&'a f32, &'a f32)>) -> f64 {
    pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}

/// The most rows that a silhouette compares; of more, it scores a sample of this many.
pub const SILHOUETTE_ROWS: usize = 10_000;
/// Rows of the distance matrix held at a time: 512 × 10,000 float64 values are 39 MiB.
const SILHOUETTE_BLOCK: i64 = 512;

/// The mean silhouette of a clustering, by Euclidean distance; `None` where it is undefined.
///
/// (b_i − a_i) / max(a_i, b_i), where a_i is row i's mean distance to the others of its cluster and b_i its mean distance
/// to the nearest other cluster's rows; 0 for a cluster of one (Rousseeuw 1987). In \[−1, 1\]. It is undefined for fewer
/// than 2 clusters and when every row is a cluster of its own.
///
/// `rows` is \[n, d\] of any floating type, on any device; `labels` \[n\], any integers. Exact up to [`SILHOUETTE_ROWS`]
/// rows. Above, `seed` draws that many rows from all over, and the sample is scored as if it were the whole, as scikit-learn's
/// `silhouette_score(sample_size=…)` does.
///
/// # Errors
/// [`Error::Rows`] when the numbers of rows and labels differ; a libtorch failure.
pub fn silhouette(rows: &Tensor, labels: &[i64], seed: u64) -> Result<Option<f64>> {
    silhouette_of_sample(rows, labels, seed, SILHOUETTE_ROWS)
}

fn silhouette_of_sample(rows: &Tensor, labels: &[i64], seed: u64, max_rows: usize) -> Result<Option<f64>> {
    let (n, _) = rows.size2()?;
    if usize::try_from(n) != Ok(labels.len()) {
        return Err(Error::Rows(format!("{} labels do not fit {n} rows", labels.len())));
    }
    let mut chosen = sample(labels.len(), max_rows, seed);
    // Sorted by cluster, each cluster's distances are neighbouring columns, summed without scattering.
    chosen.sort_unstable_by_key(|&row| (labels[row], row));
    let (clusters, sizes) = compact(&chosen.iter().map(|&row| labels[row]).collect::<Vec<_>>());
    if sizes.len() < 2 || sizes.len() >= clusters.len() {
        return Ok(None);
    }

    let mut sum = 0.0;
    no_grad(|| -> Result<()> {
        let order = index_of(&chosen)?;
        let rows = rows.f_index_select(0, &order.f_to_device(rows.device())?)?.f_to_kind(Kind::Double)?;
        // Distances are the same around any origin, and products round the least around the mean.
        let rows = rows.f_sub(&rows.f_mean_dim(&[0i64][..], true, None)?)?;
        let norms = rows.f_square()?.f_sum_dim_intlist(1, true, None)?;
        let n = chosen.len() as i64;
        for start in (0..n).step_by(SILHOUETTE_BLOCK as usize) {
            let length = SILHOUETTE_BLOCK.min(n - start);
            let block = rows.f_narrow(0, start, length)?;
            let squared = block.f_matmul(&rows.f_tr()?)?.f_mul_scalar(-2.0)?;
            let squared = squared.f_add(&norms.f_narrow(0, start, length)?)?.f_add(&norms.f_tr()?)?;
            let distances = squared.f_clamp_min(0.0)?.f_sqrt()?; // [length, n]
            let _zeroed = distances.f_diagonal(start, 0, 1)?.f_zero_()?;
            let totals = cluster_totals(&distances, &sizes)?;
            for (totals, &own) in totals.chunks_exact(sizes.len()).zip(&clusters[start as usize..]) {
                sum += silhouette_of_row(totals, &sizes, own);
            }
        }
        Ok(())
    })?;
    Ok(Some(sum / chosen.len() as f64))
}

/// Each row's summed distance to every cluster, \[rows, clusters\] row by row, where the columns of `distances` are sorted
/// by cluster.
fn cluster_totals(distances: &Tensor, sizes: &[u64]) -> Result<Vec<f64>> {
    let mut totals = Vec::with_capacity(sizes.len());
    let mut first = 0;
    for &size in sizes {
        totals.push(distances.f_narrow(1, first, size as i64)?.f_sum_dim_intlist(1, false, None)?);
        first += size as i64;
    }
    let totals = Tensor::f_stack(&totals, 1)?.f_view(-1)?.f_to_device(tch::Device::Cpu)?;
    Ok(Vec::try_from(totals)?)
}

/// One row's silhouette from its summed distance to each cluster.
fn silhouette_of_row(totals: &[f64], sizes: &[u64], own: usize) -> f64 {
    if sizes[own] == 1 {
        return 0.0;
    }
    let within = totals[own] / (sizes[own] - 1) as f64;
    let means = totals.iter().zip(sizes).map(|(total, &size)| total / size as f64);
    let nearest =
        means.enumerate().filter(|&(cluster, _)| cluster != own).map(|(_, mean)| mean).fold(f64::MAX, f64::min);
    let larger = within.max(nearest);
    // Rows that coincide with all of both clusters are on neither side.
    if larger > 0.0 {
        (nearest - within) / larger
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;
    use tch::Device;

    fn scores(labels_true: &[i64], labels_pred: &[i64]) -> [f64; 3] {
        let table = Contingency::new(labels_true, labels_pred).unwrap();
        [table.accuracy(), table.normalized_mutual_info(), table.adjusted_rand_index()]
    }

    #[test]
    fn the_matching_is_the_best_one_and_not_the_greedy_one() {
        // Taking the largest cell first (5) leaves nothing else to match; the best matching takes 4 + 4.
        let cells = [(0, 0, 5), (0, 1, 4), (1, 0, 4)];
        let labels: Vec<(i64, i64)> = cells.iter().flat_map(|&(y, c, n)| std::iter::repeat_n((y, c), n)).collect();
        let (labels_true, labels_pred): (Vec<_>, Vec<_>) = labels.into_iter().unzip();
        assert_eq!(scores(&labels_true, &labels_pred)[0], 8.0 / 13.0);
    }

    #[test]
    fn surplus_clusters_or_classes_match_nothing() {
        let (coarse, fine) = ([1, 1, 1, 1, 2, 2], [10, 10, 10, 11, 20, 21]);
        assert_eq!(scores(&coarse, &fine)[0], 4.0 / 6.0);
        assert_eq!(scores(&fine, &coarse)[0], 4.0 / 6.0);
    }

    #[test]
    fn single_groups_and_single_rows_are_what_scikit_learn_says() {
        assert_eq!(scores(&[3, 3, 3], &[-1, -1, -1]), [1.0, 1.0, 1.0]);
        assert_eq!(scores(&[3], &[4]), [1.0, 1.0, 1.0]);
        assert_eq!(scores(&[0, 1, 2], &[5, 5, 5]), [1.0 / 3.0, 0.0, 0.0]);
        assert_eq!(scores(&[0, 1, 2], &[7, 6, 5]), [1.0, 1.0, 1.0]);
    }

    #[test]
    fn pair_counts_do_not_overflow() {
        let n = 200_000; // products of two counts of pairs are about n⁴/4, beyond 64 bits
        let labels: Vec<i64> = (0..n).map(|i| i % 2).collect();
        let shifted: Vec<i64> = (0..n).map(|i| (i / 2) % 2).collect();
        let ari = Contingency::new(&labels, &shifted).unwrap().adjusted_rand_index();
        assert!(ari.abs() < 1e-4, "independent halves: {ari}");
    }

    #[test]
    fn labels_of_another_length_are_an_error() {
        let error = Contingency::new(&[1, 2], &[1]).unwrap_err().to_string();
        assert!(error.contains('2') && error.contains('1'), "{error}");
        assert!(matches!(Contingency::new(&[], &[]), Err(Error::Rows(_))));
    }

    #[test]
    fn inertia_is_a_sum_of_squares_and_checks_its_input() {
        let rows = array![[0.0f32, 0.0], [3.0, 4.0], [10.0, 0.0]];
        let centroids = array![[0.0f32, 0.0], [10.0, 1.0]];
        assert_eq!(inertia(rows.view(), &[0, 0, 1], centroids.view()).unwrap(), 26.0);
        assert!(inertia(rows.view(), &[0, 0, 2], centroids.view()).is_err());
        assert!(inertia(rows.view(), &[0, 0, -1], centroids.view()).is_err());
        assert!(inertia(rows.view(), &[0, 0], centroids.view()).is_err());
    }

    /// Straight from the definition.
    fn naive_silhouette(rows: &[Vec<f64>], labels: &[i64]) -> f64 {
        let clusters: std::collections::BTreeSet<i64> = labels.iter().copied().collect();
        let distance = |i: usize, j: usize| -> f64 {
            rows[i].iter().zip(&rows[j]).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
        };
        let mean_to = |i: usize, label: i64| {
            let others: Vec<f64> =
                (0..rows.len()).filter(|&j| j != i && labels[j] == label).map(|j| distance(i, j)).collect();
            (!others.is_empty()).then(|| others.iter().sum::<f64>() / others.len() as f64)
        };
        let score = |i: usize| {
            let Some(within) = mean_to(i, labels[i]) else { return 0.0 };
            let others = clusters.iter().filter(|&&label| label != labels[i]);
            let nearest = others.filter_map(|&label| mean_to(i, label)).fold(f64::MAX, f64::min);
            (nearest - within) / nearest.max(within)
        };
        (0..rows.len()).map(score).sum::<f64>() / rows.len() as f64
    }

    #[test]
    fn silhouette_is_its_definition_over_several_blocks_and_far_from_the_origin() {
        tch::manual_seed(3);
        let n = SILHOUETTE_BLOCK + 40;
        let labels: Vec<i64> = (0..n).map(|i| if i == 7 { 99 } else { (i * i) % 5 - 2 }).collect();
        let rows = Tensor::randn([n, 3], (Kind::Double, Device::Cpu)) + Tensor::from_slice(&labels).view([n, 1]) + 1e4;
        let nested: Vec<Vec<f64>> = Vec::try_from(&rows).unwrap();
        let score = silhouette(&rows, &labels, 0).unwrap().unwrap();
        assert!((score - naive_silhouette(&nested, &labels)).abs() < 1e-9, "{score}");
    }

    #[test]
    fn a_sample_is_drawn_from_the_seed_and_scored_alone() {
        tch::manual_seed(4);
        let labels: Vec<i64> = (0..400).map(|i| i % 2).collect();
        let rows = Tensor::randn([400, 2], (Kind::Float, Device::Cpu)) + 3 * Tensor::from_slice(&labels).view([400, 1]);
        let sampled = |seed| silhouette_of_sample(&rows, &labels, seed, 200).unwrap().unwrap();
        let exact = silhouette(&rows, &labels, 0).unwrap().unwrap();
        assert_eq!(sampled(1), sampled(1));
        assert_ne!(sampled(1), sampled(2));
        assert!((sampled(1) - exact).abs() < 0.05, "{} is no estimate of {exact}", sampled(1));
        assert!(exact > 0.5);
    }

    #[test]
    fn silhouette_is_undefined_without_two_clusters_or_with_only_clusters_of_one() {
        let rows = Tensor::from_slice(&[0.0f32, 1.0, 5.0]).view([3, 1]);
        assert_eq!(silhouette(&rows, &[4, 4, 4], 0).unwrap(), None);
        assert_eq!(silhouette(&rows, &[1, 2, 3], 0).unwrap(), None);
        assert!(silhouette(&rows, &[1, 2, 2], 0).unwrap().is_some());
        assert!(silhouette(&rows, &[1, 2], 0).is_err());
        let same = Tensor::zeros([4, 2], (Kind::Float, Device::Cpu));
        assert_eq!(silhouette(&same, &[0, 0, 1, 1], 0).unwrap(), Some(0.0));
    }
}
