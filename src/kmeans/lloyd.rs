//! Lloyd's algorithm for many restarts at a time, over whole-data passes that an engine makes.
//!
//! n rows of d features, k clusters, R restarts of which A have not converged. All coordinates here are of rows as
//! scaled, minus their mean: in ‖x‖² − 2x·c + ‖c‖² little then cancels, wherever the rows lie.

use ndarray::Array2;
use tch::{no_grad, Kind, Tensor};

use super::fused::Fused;
use super::plain::Plain;
use super::{exact, on_cpu, seeding, KMeansParams, Poll, Progress};
use crate::data::{array_of, values_of, Rows};
use crate::error::{Error, Result};

/// Memory for what the search keeps of restarts that it runs together.
const STATE_BYTES: usize = 512 << 20;

/// The rows, and what a search needs to know of them.
#[derive(Debug)]
pub(super) struct Space {
    /// uint8 or float32 \[n, d\], contiguous.
    pub stored: Tensor,
    /// The stored values times this are the rows.
    pub scale: f64,
    /// The rows' mean, float32 \[d\].
    pub origin: Tensor,
}

impl Space {
    pub fn new(rows: &Rows, poll: &mut Poll) -> Result<Self> {
        let (stored, scale) = rows.stored();
        let stored = match stored.f_kind()? {
            Kind::Uint8 | Kind::Float => stored.f_contiguous()?,
            _ => stored.f_to_kind(Kind::Float)?.f_contiguous()?,
        };
        let mean = exact::means(rows, &vec![0; rows.n_rows() as usize], 1, poll)?;
        let origin = Tensor::f_from_slice(&mean.iter().copied().collect::<Vec<f32>>())?.f_to_device(rows.device())?;
        Ok(Self { stored, scale: f64::from(scale as f32), origin })
    }

    pub fn n_rows(&self) -> i64 {
        self.stored.size()[0]
    }

    pub fn n_features(&self) -> i64 {
        self.stored.size()[1]
    }

    /// `rows`, a part of `stored`, as float32 around the origin.
    pub fn centred(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.f_to_kind(Kind::Float)?.f_mul_scalar(self.scale)?.f_sub(&self.origin)?)
    }
}

/// Passes over all rows for R restarts. What a pass finds for one restart does not depend on the others.
pub(super) trait Engine {
    /// Σ ‖x‖².
    fn total(&self) -> f64;

    /// Remembers each row's squared distance to the nearest centre so far, of which `centres` \[R, d\] are new.
    fn approach(&mut self, centres: &Tensor, poll: &mut Poll) -> Result<()>;

    /// Row numbers, int64 \[R, t\], drawn by those squared distances with `draws`, float64 \[R, t\] in \[0, 1).
    fn sample(&self, draws: &Tensor) -> Result<Tensor>;

    /// What the sum of those squared distances would be with each of `candidates` \[R, t, d\]: float64 \[R, t\].
    fn potentials(&mut self, candidates: &Tensor, poll: &mut Poll) -> Result<Tensor>;

    /// Gives every row the label of the nearest of its restart's `centroids` \[A, k, d\], and returns how many labels
    /// of each restart that changed.
    fn assign(&mut self, active: &[i64], centroids: &Tensor, poll: &mut Poll) -> Result<Vec<i64>>;

    /// The clusters' sizes, float64 \[A, k\], and means, float64 \[A, k, d\] (anything for an empty one).
    fn clusters(&self, active: &[i64]) -> Result<(Tensor, Tensor)>;

    /// One restart's labels: int32 \[n\].
    fn labels(&self, restart: i64) -> Result<Tensor>;

    /// Gives `rows` of one restart the labels `to`.
    fn relabel(&mut self, restart: i64, rows: &[usize], to: &[i64]) -> Result<()>;
}

/// The centroids \[k, d\] of the best restart, at or near a fixed point.
pub(super) fn search(
    rows: &Rows,
    params: &KMeansParams,
    tell: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Array2<f32>> {
    no_grad(|| {
        let space = Space::new(rows, &mut || tell(Progress::Working))?;
        if on_cpu(rows) {
            let norms = Fused::norms(&space)?;
            search_with(&space, params, tell, |restarts, k| Fused::new(&space, &norms, restarts, k))
        } else {
            search_with(&space, params, tell, |restarts, k| Plain::new(&space, restarts, k))
        }
    })
}

/// [`search`] by the engines that `engine` makes for so many restarts and clusters.
pub(super) fn search_with<E: Engine>(
    space: &Space,
    params: &KMeansParams,
    tell: &mut dyn FnMut(Progress) -> Result<()>,
    engine: impl Fn(i64, i64) -> Result<E>,
) -> Result<Array2<f32>> {
    let k = params.n_clusters as i64;
    let together = restarts_together(space, params);
    let mut best: Option<(f64, Tensor)> = None;
    for first in (0..params.n_init).step_by(together) {
        let restarts = together.min(params.n_init - first);
        let mut engine = engine(restarts as i64, k)?;
        let working = &mut || tell(Progress::Working);
        let start = seeding::centroids(space, &mut engine, params, first, restarts, working)?;
        let found = descend(space, &mut engine, start, params.tol, params.max_iter, &mut |ended| {
            let Some((restart, inertia)) = ended else { return tell(Progress::Working) };
            let lowest = best.as_ref().map_or(f64::INFINITY, |(inertia, _)| *inertia);
            tell(Progress::Restart { done: first + restart + 1, inertia: inertia.min(lowest) })
        })?;
        if best.as_ref().is_none_or(|(lowest, _)| found.0 < *lowest) {
            best = Some(found);
        }
    }
    let (_, centroids) = best.ok_or_else(|| Error::Config("k-means: no restarts".to_owned()))?;
    // What tolerance left undone: the best one goes on until no row changes its cluster.
    let start = centroids.f_unsqueeze(0)?;
    let working = &mut |_| tell(Progress::Working);
    let (_, centroids) = descend(space, &mut engine(1, k)?, start, 0.0, params.max_iter, working)?;
    array_of(&centroids.f_add(&space.origin)?)
}

/// As many restarts as the memory for their state holds.
fn restarts_together(space: &Space, params: &KMeansParams) -> usize {
    let (n, d) = (space.n_rows() as usize, space.n_features() as usize);
    // A row's label, the one before, three bounds, and its distance while centres are sought; sums, means, old and new
    // centroids.
    let each = 24 * n + 40 * params.n_clusters * d;
    (STATE_BYTES / each.max(1)).clamp(1, params.n_init)
}

/// Lloyd's algorithm from `centroids`, float32 \[R, k, d\]; the lowest inertia reached and the centroids \[k, d\]
/// there.
///
/// A restart ends when no label changes, when the squared length of its centroids' joint step falls to `tol` times the
/// mean variance, or after `max_iter` steps. `tell` hears of the restarts in their order, with the lowest inertia so
/// far.
pub(super) fn descend(
    space: &Space,
    engine: &mut dyn Engine,
    centroids: Tensor,
    tol: f64,
    max_iter: u64,
    tell: &mut dyn FnMut(Option<(usize, f64)>) -> Result<()>,
) -> Result<(f64, Tensor)> {
    let restarts = centroids.size()[0];
    let tolerance = tol * engine.total() / (space.n_rows() as f64 * space.n_features() as f64);
    let mut active: Vec<i64> = (0..restarts).collect();
    let mut centroids = centroids;
    let mut ended: Vec<Option<(f64, Tensor)>> = (0..restarts).map(|_| None).collect();
    let (mut told, mut best) = (0, (f64::INFINITY, 0));
    for iteration in 1..=max_iter {
        let changed = engine.assign(&active, &centroids, &mut || tell(None))?;
        let (counts, means) = engine.clusters(&active)?;
        let filled = fill_empty(space, engine, &active, &centroids, &counts)?;
        let (counts, means) = if filled.contains(&true) { engine.clusters(&active)? } else { (counts, means) };
        let squared = means.f_square()?.f_sum_dim_intlist(2, false, None)?;
        let between: Vec<f64> = values_of(&squared.f_mul(&counts)?.f_sum_dim_intlist(1, false, None)?)?;
        let step = means.f_sub(&centroids)?.f_square()?.f_sum_dim_intlist([1i64, 2].as_slice(), false, None)?;
        let step: Vec<f64> = values_of(&step)?;
        let means = means.f_to_kind(Kind::Float)?;
        let mut going = Vec::with_capacity(active.len());
        for (position, &restart) in active.iter().enumerate() {
            let unmoved = !filled[position] && (changed[position] == 0 || step[position] <= tolerance);
            if unmoved || iteration == max_iter {
                let inertia = (engine.total() - between[position]).max(0.0);
                ended[restart as usize] = Some((inertia, means.f_get(position as i64)?.f_detach_copy()?));
            } else {
                going.push(position as i64);
            }
        }
        centroids = if going.len() == active.len() {
            means
        } else {
            means.f_index_select(0, &Tensor::f_from_slice(&going)?.f_to_device(means.device())?)?
        };
        active = going.iter().map(|&position| active[position as usize]).collect();
        while let Some(Some((inertia, _))) = ended.get(told) {
            if *inertia < best.0 {
                best = (*inertia, told);
            }
            tell(Some((told, best.0)))?;
            told += 1;
        }
        if active.is_empty() {
            break;
        }
    }
    ended.swap_remove(best.1).ok_or_else(|| Error::Training("k-means: no restart ended".to_owned()))
}

/// Gives every empty cluster of a restart the row that is farthest from its centroid; for which restarts that was
/// necessary.
fn fill_empty(
    space: &Space,
    engine: &mut dyn Engine,
    active: &[i64],
    centroids: &Tensor,
    counts: &Tensor,
) -> Result<Vec<bool>> {
    let k = centroids.size()[1];
    let sizes: Vec<f64> = values_of(counts)?;
    let mut filled = Vec::with_capacity(active.len());
    for (position, &restart) in active.iter().enumerate() {
        let sizes = &sizes[position * k as usize..][..k as usize];
        filled.push(sizes.contains(&0.0));
        if sizes.contains(&0.0) {
            let labels = engine.labels(restart)?.f_to_kind(Kind::Int64)?;
            let distances = own_distances(space, &centroids.f_get(position as i64)?, &labels)?;
            let mut labels: Vec<i64> = values_of(&labels)?;
            let rows = exact::fill(&mut labels, k as usize, &distances);
            let to: Vec<i64> = rows.iter().map(|&row| labels[row]).collect();
            engine.relabel(restart, &rows, &to)?;
        }
    }
    Ok(filled)
}

/// Each row's squared distance to its own centroid.
fn own_distances(space: &Space, centroids: &Tensor, labels: &Tensor) -> Result<Vec<f32>> {
    let n = space.n_rows();
    let size = block_rows(space.n_features());
    let mut distances = Vec::with_capacity(n as usize);
    for start in (0..n).step_by(size as usize) {
        let length = size.min(n - start);
        let rows = space.centred(&space.stored.f_narrow(0, start, length)?)?;
        let own = centroids.f_index_select(0, &labels.f_narrow(0, start, length)?)?;
        let squares = rows.f_sub(&own)?.f_square()?;
        distances.extend(values_of::<f32>(&squares.f_sum_dim_intlist(1, false, None)?)?);
    }
    Ok(distances)
}

/// Rows of a block whose temporaries are `width` float32 values a row.
pub(super) fn block_rows(width: i64) -> i64 {
    ((1 << 22) / width.max(1)).max(1)
}
