//! Normalised spectral clustering (Ng, Jordan & Weiss 2002; von Luxburg 2007) of a graph of nearest neighbours, in many ways.
//!
//! The m leading eigenvectors of D^−1/2 W D^−1/2 give every row m values; rows are scaled to length 1, and k-means finds the
//! clusters. How many eigenvectors are best differs from data to data, and so does whether clusters are better found at once
//! or as parts that are joined. So many clusterings are made, which then vote ([`super::elect`]): for m
//! from k to 2k, k-means with k clusters; and with 1.5k to 5k clusters, on as many eigenvectors, merged down to k in two ways
//! ([`merge_clusters`]) by how rows are related: in the graph, and where augmented versions of the rows are given, also by what an
//! augmented row lies next to.
//!
//! Time grows faster than n for the neighbours ([`super::neighbours`]) and with n for the rest. Memory grows with n: 4 blocks of
//! float32 \[n, 64\] for the eigenvectors (k = 10; some 6k values a row), up to 30 edges of 8 bytes a row and graph, twice, and 8
//! bytes a row and clustering, of which there are some 20. Measured for k = 10, rows of 10 values and two graphs, with AVX2:
//! 70,000 rows take 9 s on two processors; a million 8 min on one that others kept busy, the whole process 3.0 GB at its peak.

use tch::{Kind, Tensor};

use super::choice::Gaps;
use super::eigen::{leading_eigenvectors, Eigen};
use super::merging::{merge_clusters, Joint, Merging};
use super::neighbours::neighbours;
use super::NeighbourGraph;
use crate::control::Control;
use crate::data::{hash, index_of, sample, values_of, Rows};
use crate::error::{Error, Result};
use crate::kmeans::{self, KMeansParams};

/// How spectral clustering searches.
#[derive(Debug, Clone, PartialEq)]
pub struct SpectralParams {
    /// k, at least 1.
    pub n_clusters: usize,
    /// Neighbours of a row in the graph, at least 1.
    pub n_neighbours: u64,
    /// m, the eigenvectors; `None` tries several.
    pub n_vectors: Option<u64>,
    /// Seed of everything random.
    pub seed: u64,
}

/// Clusterings of the same rows by their graph; one where m was given, or for one cluster.
#[derive(Debug, Default)]
pub struct Found {
    /// Each row's cluster, 0 to k − 1, in each clustering.
    pub clusterings: Vec<Vec<i64>>,
    /// How each of them came about.
    pub ways: Vec<Way>,
    /// Why a plan found nothing, where one did.
    refused: Option<String>,
}

impl Found {
    fn push(&mut self, way: Way, labels: Vec<i64>) {
        self.ways.push(way);
        self.clusterings.push(labels);
    }

    /// Why nothing was found, where nothing was.
    pub fn refusal(&self) -> Error {
        Error::Rows(self.refused.clone().unwrap_or_else(|| "no plan found clusters".to_owned()))
    }

    /// Adds what another plan found.
    pub fn extend(&mut self, other: Self) {
        self.clusterings.extend(other.clusterings);
        self.ways.extend(other.ways);
        self.refused = other.refused.or(self.refused.take());
    }
}

/// How a clustering was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// The eigenvectors that k-means worked on.
    pub n_vectors: usize,
    /// The clusters that k-means found.
    pub n_parts: usize,
    /// How those above k were merged.
    pub merging: Option<Merging>,
}

/// The rows that are clustered; tensors are float32 and all on one device.
#[derive(Debug, Clone, Copy)]
pub struct Views<'a> {
    /// In the latent space: \[n, m\].
    pub latent: &'a Tensor,
    /// The graph of the same rows as they went into the network, or of [`super::components`] of them: added to that of the
    /// latent rows.
    pub input: Option<&'a NeighbourGraph>,
    /// What changed versions of them became there.
    pub augmented: Option<&'a Augmented>,
}

/// Changed versions of rows in the latent space.
#[derive(Debug)]
pub struct Augmented {
    /// \[q, m\].
    pub latent: Tensor,
    /// The row that each is a version of: \[q\]. A row may have several, or none.
    pub of: Vec<usize>,
}

impl<'a> Views<'a> {
    /// The latent rows alone.
    pub fn latent(latent: &'a Tensor) -> Self {
        Self { latent, input: None, augmented: None }
    }

    /// Refuses views of other rows than the `n` latent ones.
    fn check(&self, n: usize) -> Result<()> {
        let input = self.input.map_or(n, NeighbourGraph::n_rows);
        let versions = self.augmented.map_or(Ok(0), |augmented| augmented.latent.size2().map(|(q, _)| q as usize))?;
        let of = self.augmented.map_or(&[][..], |augmented| &augmented.of);
        if input != n || versions != of.len() || of.iter().any(|&row| row >= n) {
            return Err(Error::Rows(format!("{n} rows, and views that are not of them")));
        }
        Ok(())
    }
}

impl Augmented {
    /// Each version's row, and the row of `latent` that it lies next to.
    pub(crate) fn related(&self, latent: &Tensor, control: &mut Control) -> Result<Vec<(usize, usize)>> {
        let nearest: Vec<i64> = values_of(&neighbours(Some(&self.latent), latent, 1, control)?.indices)?;
        let pair = |(&row, nearest)| Some((row, usize::try_from(nearest).ok()?));
        let pairs: Option<Vec<_>> = self.of.iter().zip(nearest).map(pair).collect();
        pairs.ok_or_else(|| Error::Rows("distances from augmented rows are not finite".to_owned()))
    }
}

/// Looks for k clusters of the rows of `views`, in every way that is worth a try.
///
/// # Errors
/// [`crate::Error::Interrupted`], [`Error::Rows`] for fewer rows than clusters, views that are not of these rows, or distances that
/// are not finite, or a libtorch failure.
pub fn search(views: Views, params: &SpectralParams, control: &mut Control) -> Result<Found> {
    let search = Search::new(views, params, control)?;
    let mut found = Found::default();
    for plan in 0..search.n_plans() {
        found.extend(search.clusterings(plan, control)?);
    }
    if found.clusterings.is_empty() {
        return Err(found.refusal());
    }
    Ok(found)
}

/// A search in pieces: the graph and its eigenvectors first, then one plan after the other.
#[derive(Debug)]
pub struct Search {
    params: SpectralParams,
    plans: Vec<Plan>,
    /// `None` for one cluster, which needs no search.
    spectrum: Option<Spectrum>,
    n_rows: usize,
}

/// What all plans work on.
#[derive(Debug)]
struct Spectrum {
    graph: NeighbourGraph,
    eigen: Eigen,
    /// Pairs of rows that an augmentation connects.
    related: Option<Vec<(usize, usize)>>,
}

impl Search {
    /// Makes the graph and its eigenvectors.
    ///
    /// # Errors
    /// As for [`search`].
    pub fn new(views: Views, params: &SpectralParams, control: &mut Control) -> Result<Self> {
        let n = views.latent.size2()?.0 as usize;
        let k = params.n_clusters;
        if k == 1 {
            let plans = vec![Plan { n_vectors: 1, n_parts: 1, n_init: 1 }];
            return Ok(Self { params: params.clone(), plans, spectrum: None, n_rows: n });
        }
        if n < k {
            return Err(Error::Rows(format!("{n} rows are too few for {k} clusters")));
        }
        views.check(n)?;
        let mut graph = NeighbourGraph::new(views.latent, params.n_neighbours as i64, control)?;
        if let Some(input) = views.input {
            graph = graph.plus(input);
        }
        let plans = plans(k, n, params.n_vectors);
        // Two beyond twice the clusters, for what they tell of the graph's islands.
        let told = if params.n_vectors.is_none() { 2 * k + 1 } else { 0 };
        let widest = plans.iter().map(|plan| plan.n_vectors).max().unwrap_or(k).max(told).min(n);
        let eigen = leading_eigenvectors(&graph.normalised()?, widest as i64, params.seed, control)?;
        let related = match views.augmented.filter(|augmented| plans.len() > 1 && !augmented.of.is_empty()) {
            Some(augmented) => Some(augmented.related(views.latent, control)?),
            None => None,
        };
        Ok(Self { params: params.clone(), plans, spectrum: Some(Spectrum { graph, eigen, related }), n_rows: n })
    }

    /// What the eigenvalues tell of the graph; `None` where there are too few.
    pub fn gaps(&self) -> Option<Gaps> {
        self.spectrum.as_ref().and_then(|spectrum| Gaps::new(&spectrum.eigen.values, self.params.n_clusters))
    }

    /// How many plans there are.
    pub fn n_plans(&self) -> usize {
        self.plans.len()
    }

    /// The clusterings of one plan: one, or one for each way to merge; none where there are fewer different rows than the plan
    /// has parts.
    ///
    /// # Errors
    /// As for [`search`].
    pub fn clusterings(&self, plan: usize, control: &mut Control) -> Result<Found> {
        let (plan, k) = (&self.plans[plan], self.params.n_clusters);
        let (n_vectors, n_parts) = (plan.n_vectors, plan.n_parts);
        let mut found = Found::default();
        let Some(Spectrum { graph, eigen, related }) = &self.spectrum else {
            found.push(Way { n_vectors, n_parts, merging: None }, vec![0; self.n_rows]);
            return Ok(found);
        };
        let labels = match on_sphere(&eigen.vectors, plan, self.params.seed, control) {
            Err(Error::Rows(problem)) => {
                found.refused = Some(problem);
                return Ok(found);
            }
            labels => labels?,
        };
        if n_parts <= k {
            found.push(Way { n_vectors, n_parts, merging: None }, labels);
            return Ok(found);
        }
        let of_graph = Joint::of_graph(graph, &labels, n_parts);
        let joint = match related {
            Some(pairs) => of_graph.mean(&Joint::of_pairs(pairs, &labels, n_parts)),
            None => of_graph,
        };
        for merging in Merging::ALL {
            control.check()?;
            let into = merge_clusters(&joint, k, merging);
            let merged = labels.iter().map(|&label| into[label as usize] as i64).collect();
            found.push(Way { n_vectors, n_parts, merging: Some(merging) }, merged);
        }
        Ok(found)
    }
}

/// The clusters, 0 to k − 1, that k-means finds at once on the first `k` of `vectors` \[n, m\]; `None` where there are fewer different
/// rows.
pub(crate) fn at_once(
    vectors: &Tensor,
    k: usize,
    n_init: usize,
    seed: u64,
    control: &mut Control,
) -> Result<Option<Vec<i64>>> {
    match on_sphere(vectors, &Plan { n_vectors: k, n_parts: k, n_init }, seed, control) {
        Err(Error::Rows(_)) => Ok(None),
        labels => labels.map(Some),
    }
}

/// Rows that k-means' restarts see at most, or so many for each cluster where these are more.
const ROWS: usize = 10_000;
const ROWS_PER_PART: usize = 200;

/// What is to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    n_vectors: usize,
    n_parts: usize,
    n_init: usize,
}

/// What is tried for k clusters of n rows.
fn plans(k: usize, n: usize, n_vectors: Option<u64>) -> Vec<Plan> {
    if let Some(m) = n_vectors {
        let n_vectors = usize::try_from(m).unwrap_or(n).min(n);
        return vec![Plan { n_vectors, n_parts: k, n_init: 20 }];
    }
    // Parts of fewer than ten rows say nothing.
    let most = (n / 10).max(k).min(n);
    let step = k.div_ceil(10);
    let mut plans: Vec<Plan> =
        (k..=(2 * k).min(n)).step_by(step).map(|n_vectors| Plan { n_vectors, n_parts: k, n_init: 10 }).collect();
    let mut parts: Vec<usize> =
        [1.5, 2.0, 3.0, 4.0, 5.0].iter().map(|factor| (factor * k as f64).ceil() as usize).collect();
    parts.retain(|&parts| k > 1 && parts > k && parts <= most);
    parts.dedup();
    plans.extend(parts.into_iter().map(|n_parts| Plan { n_vectors: n_parts, n_parts, n_init: 5 }));
    plans
}

/// k-means on the rows of the first eigenvectors, scaled to length 1. Of many rows its restarts see a part, and all are then
/// assigned to the centroids found there.
fn on_sphere(vectors: &Tensor, plan: &Plan, seed: u64, control: &mut Control) -> Result<Vec<i64>> {
    let m = (plan.n_vectors as i64).min(vectors.size()[1]);
    let chosen = vectors.f_narrow(1, 0, m)?;
    let lengths = chosen.f_square()?.f_sum_dim_intlist(1, true, Kind::Float)?.f_sqrt()?.f_clamp_min(1e-12)?;
    let unit = chosen.f_div(&lengths)?;
    let rows = Rows::from_tensor(unit.shallow_clone());
    let params = KMeansParams {
        n_clusters: plan.n_parts,
        n_init: plan.n_init,
        seed: hash(seed ^ ((plan.n_vectors * 1_000_003 + plan.n_parts) as u64)),
        ..KMeansParams::default()
    };
    let n = rows.n_rows() as usize;
    let enough = ROWS.max(ROWS_PER_PART * plan.n_parts);
    if n > enough {
        let seen = unit.f_index_select(0, &index_of(&sample(n, enough, params.seed))?)?;
        match kmeans::fit(&Rows::from_tensor(seen), &params, &mut control.silenced()) {
            Err(Error::Rows(_)) => {} // fewer different rows among those seen than parts
            fitted => return Ok(kmeans::assign(&rows, fitted?.centroids, control)?.labels),
        }
    }
    Ok(kmeans::fit(&rows, &params, &mut control.silenced())?.labels)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Stop;
    use crate::metrics::Contingency;
    use crate::start::elect;
    use tch::Device;

    fn params(n_clusters: usize, n_vectors: Option<u64>) -> SpectralParams {
        SpectralParams { n_clusters, n_neighbours: 15, n_vectors, seed: 3 }
    }

    fn search_to_end(views: Views, params: &SpectralParams) -> Result<Found> {
        search(views, params, &mut Control::ignored())
    }

    /// The clusters that all clusterings elect.
    fn elected(views: Views, params: &SpectralParams) -> Vec<i64> {
        let found = search_to_end(views, params).unwrap().clusterings;
        elect(&found, params.n_clusters).unwrap().labels
    }

    fn accuracy(truth: &[i64], labels: &[i64]) -> f64 {
        Contingency::new(truth, labels).unwrap().accuracy()
    }

    /// Two half circles that reach into each other.
    fn moons(n: i64) -> (Tensor, Vec<i64>) {
        tch::manual_seed(6);
        let angle = Tensor::rand([n], (Kind::Float, Device::Cpu)) * std::f64::consts::PI;
        let upper = Tensor::stack(&[angle.cos(), angle.sin()], 1);
        let lower = Tensor::stack(&[1.0 - angle.cos(), 0.5 - angle.sin()], 1);
        let rows = Tensor::cat(&[upper, lower], 0);
        let noise = Tensor::randn(rows.size(), (Kind::Float, Device::Cpu)) * 0.05;
        (rows + noise, (0..2 * n).map(|i| i64::from(i >= n)).collect())
    }

    #[test]
    fn moons_are_told_apart_where_k_means_fails() {
        let (rows, truth) = moons(700);
        for n_vectors in [None, Some(2)] {
            let found = elected(Views::latent(&rows), &params(2, n_vectors));
            assert!(accuracy(&truth, &found) > 0.99, "{n_vectors:?}");
        }
        let kmeans_params = KMeansParams { n_clusters: 2, ..KMeansParams::default() };
        let by_kmeans = kmeans::fit(&Rows::from_tensor(rows), &kmeans_params, &mut Control::ignored());
        assert!(accuracy(&truth, &by_kmeans.unwrap().labels) < 0.9);
    }

    #[test]
    fn clusterings_at_once_and_merged_ones_are_tried() {
        let (rows, _) = moons(300);
        let found = search_to_end(Views::latent(&rows), &params(4, None)).unwrap();
        let merged = found.ways.iter().filter(|way| way.merging.is_some()).count();
        assert!(merged >= 4 && merged < found.ways.len());
        assert_eq!(found.clusterings.len(), found.ways.len());
    }

    #[test]
    fn small_clusters_are_found_beside_large_ones() {
        tch::manual_seed(4);
        let sizes = [600, 500, 60, 50, 300];
        let blobs: Vec<Tensor> = sizes
            .iter()
            .enumerate()
            .map(|(i, &size)| Tensor::randn([size, 4], (Kind::Float, Device::Cpu)) + i as f64 * 3.0)
            .collect();
        let truth: Vec<i64> = sizes.iter().zip(0..).flat_map(|(&size, i)| vec![i; size as usize]).collect();
        let found = elected(Views::latent(&Tensor::cat(&blobs, 0)), &params(5, None));
        assert!(accuracy(&truth, &found) > 0.95);
    }

    #[test]
    fn a_relation_across_the_graph_moves_the_choice() {
        // Four blobs on a line, two clusters wanted. What an augmentation leads to says which blobs belong together.
        tch::manual_seed(8);
        let blob = |x: f64| Tensor::randn([200, 2], (Kind::Float, Device::Cpu)) * 0.1 + x;
        let rows = Tensor::cat(&[blob(0.0), blob(5.0), blob(10.0), blob(15.0)], 0);
        for (order, truth) in [([1, 0, 3, 2], [0, 0, 1, 1]), ([2, 3, 0, 1], [0, 1, 0, 1])] {
            // Of every second row.
            let latent = Tensor::cat(&order.map(|b| rows.narrow(0, 200 * b, 100)), 0);
            let of = (0..800).filter(|row| row % 200 < 100).collect();
            let augmented = Augmented { latent, of };
            let views = Views { augmented: Some(&augmented), ..Views::latent(&rows) };
            let found = elected(views, &params(2, None));
            let truth: Vec<i64> = (0..800).map(|i| truth[i / 200]).collect();
            assert_eq!(accuracy(&truth, &found), 1.0, "{order:?}");
        }
    }

    #[test]
    fn what_the_latent_lost_the_rows_still_tell() {
        tch::manual_seed(9);
        // The latent tells the first cluster alone from the others.
        let truth: Vec<i64> = (0..300).map(|i| i % 3).collect();
        let first = Tensor::from_slice(&truth).view([300, 1]).eq(0) * 8.0;
        let latent = Tensor::randn([300, 10], (Kind::Float, Device::Cpu)) + first;
        let input =
            Tensor::randn([300, 5], (Kind::Float, Device::Cpu)) + Tensor::from_slice(&truth).view([300, 1]) * 8.0;
        let params = params(3, None);
        assert!(accuracy(&truth, &elected(Views::latent(&latent), &params)) < 0.85);
        let input = NeighbourGraph::new(&input, 15, &mut Control::ignored()).unwrap();
        let both = Views { input: Some(&input), ..Views::latent(&latent) };
        assert!(accuracy(&truth, &elected(both, &params)) > 0.95);
    }

    #[test]
    fn of_many_rows_all_are_assigned() {
        let n = 2 * ROWS as i64 + 1;
        let truth: Vec<i64> = (0..n).map(|i| if i % 100 == 7 { 2 } else { i % 2 }).collect();
        let axes = Tensor::eye(3, (Kind::Float, Device::Cpu)).index_select(0, &Tensor::from_slice(&truth));
        tch::manual_seed(11);
        let vectors = axes + Tensor::randn([n, 3], (Kind::Float, Device::Cpu)) * 0.1;
        let plan = Plan { n_vectors: 3, n_parts: 3, n_init: 5 };
        let labels = on_sphere(&vectors, &plan, 1, &mut Control::ignored()).unwrap();
        assert!(accuracy(&truth, &labels) > 0.999);
        // One row in all differs, and half the rows are not seen.
        for other in 0..5 {
            let vectors = Tensor::ones([n, 1], (Kind::Float, Device::Cpu));
            let _ = vectors.get(other).fill_(-1.0);
            let plan = Plan { n_vectors: 1, n_parts: 2, n_init: 5 };
            let labels = on_sphere(&vectors, &plan, 1, &mut Control::ignored()).unwrap();
            assert!((0..n).all(|row| (labels[row as usize] == labels[other as usize]) == (row == other)));
        }
        let stopped = on_sphere(&vectors, &plan, 1, &mut Control::new(&mut Stop));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }

    #[test]
    fn few_rows_duplicates_and_one_cluster_are_no_trouble() {
        let rows = Tensor::randn([20, 3], (Kind::Float, Device::Cpu));
        for k in [1, 3, 20] {
            let found = elected(Views::latent(&rows), &params(k, None));
            assert_eq!(found.len(), 20);
            assert!(found.iter().all(|&label| (0..k as i64).contains(&label)));
        }
        let same = Tensor::cat(&[rows.narrow(0, 0, 2).repeat([20, 1]), rows.narrow(0, 2, 2).repeat([20, 1])], 0);
        let search = |rows, k, m| search_to_end(Views::latent(rows), &params(k, m));
        assert!(search(&same, 2, None).is_ok());
        assert!(search(&rows, 3, Some(500)).is_ok());
        assert!(matches!(search(&rows, 21, None), Err(Error::Rows(_))), "more clusters than rows");
        let fewer = rows.narrow(0, 0, 19);
        let graph = NeighbourGraph::new(&fewer, 15, &mut Control::ignored()).unwrap();
        let augmented = [
            Augmented { latent: fewer.shallow_clone(), of: (0..20).collect() },
            Augmented { latent: fewer, of: (2..21).collect() },
        ];
        let unequal = [
            Views { input: Some(&graph), ..Views::latent(&rows) },
            Views { augmented: Some(&augmented[0]), ..Views::latent(&rows) },
            Views { augmented: Some(&augmented[1]), ..Views::latent(&rows) },
        ];
        let infinite = Augmented {
            latent: Tensor::full([20, 3], f64::INFINITY, (Kind::Float, Device::Cpu)),
            of: (0..20).collect(),
        };
        let far = Views { augmented: Some(&infinite), ..Views::latent(&rows) };
        for views in unequal.into_iter().chain([far]) {
            assert!(matches!(search_to_end(views, &params(3, None)), Err(Error::Rows(_))));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_clusters() {
        let _alone = crate::backend::threads::tests::alone();
        let (rows, _) = moons(400);
        let search = || search_to_end(Views::latent(&rows), &params(3, None)).unwrap().clusterings;
        assert_eq!(search(), search());
    }
}
