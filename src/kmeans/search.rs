//! A search by restarts, in pieces that can be told apart: so many restarts at a time, then the winner's exact end.

use ndarray::Array2;
use tch::{no_grad, Device, Kind, Tensor};

use super::fused::{Fused, Norms};
use super::linfa::Restarts;
use super::lloyd::descend;
use super::passes::{Passes, Space};
use super::plain::Plain;
use super::{check_params, check_rows, exact, seeding, Engine, KMeans, KMeansParams};
use crate::backend::precision;
use crate::control::Control;
use crate::data::{array_of, tensor_of, values_of, Rows};
use crate::error::{Error, Result};

/// Memory for what the search keeps of restarts that it runs together.
const STATE_BYTES: usize = 512 << 20;
/// Products n · d · k · R of one pass over restarts that run together: a piece then takes a minute or two at most.
const PIECE_PRODUCTS: u64 = 1 << 36;

/// The best restart so far.
#[derive(Debug)]
pub struct Best {
    /// Its inertia.
    pub inertia: f64,
    /// Its centroids, float32 \[k, d\], for the tensor engine around the rows' mean.
    pub centroids: Tensor,
}

/// A search in progress. The result does not depend on the pieces: a restart's result depends on its number alone.
pub struct Search {
    rows: Rows,
    params: KMeansParams,
    done: usize,
    best: Option<Best>,
    prepared: Option<Prepared>,
}

/// What every piece needs.
enum Prepared {
    Fused(Space, Norms),
    Plain(Space),
    Linfa(Restarts),
}

impl Search {
    /// Over `rows`, with no restart done.
    ///
    /// # Errors
    /// As for [`super::fit`].
    pub fn new(rows: &Rows, params: &KMeansParams) -> Result<Self> {
        check_params(params)?;
        let rows = rows.first(i64::MAX)?; // all of them here
        check_rows(&rows, params.n_clusters)?;
        Ok(Self { rows, params: params.clone(), done: 0, best: None, prepared: None })
    }

    /// Goes on after `done` restarts, of which `best` is the best.
    pub fn go_on_after(&mut self, done: usize, best: Option<Best>) {
        (self.done, self.best) = (done, best);
    }

    /// Restarts that are done, and the best of them: what [`Search::go_on_after`] takes.
    pub fn progress(&self) -> (usize, Option<&Best>) {
        (self.done, self.best.as_ref())
    }

    /// Does a piece of the search; the clustering once all is done.
    ///
    /// # Errors
    /// As for [`super::fit`]; an interrupted piece is as if it had not begun.
    pub fn advance(&mut self, control: &mut Control) -> Result<Option<KMeans>> {
        // Restarts differ by less than what TF32 rounds away.
        let _exact = precision::without_tf32()?;
        no_grad(|| {
            let prepared = match self.prepared.take() {
                Some(prepared) => prepared,
                None => self.prepare(control)?,
            };
            let advanced = if self.done < self.params.n_init {
                self.restarts(&prepared, control).map(|()| None)
            } else {
                // All do it, and whoever is told to stop within has the others know before they go on to what they do together.
                let fitted = self.finish(&prepared, control);
                control.divided(fitted).map(Some)
            };
            self.prepared = Some(prepared);
            advanced
        })
    }

    fn prepare(&self, control: &mut Control) -> Result<Prepared> {
        if self.params.engine == Engine::Linfa {
            return Ok(Prepared::Linfa(Restarts::new(&self.rows, &self.params)?));
        }
        let space = Space::new(&self.rows, control)?;
        if self.rows.device() != Device::Cpu {
            return Ok(Prepared::Plain(space));
        }
        control.check()?;
        let norms = Fused::norms(&space)?;
        Ok(Prepared::Fused(space, norms))
    }

    /// So many restarts as go together.
    fn restarts(&mut self, prepared: &Prepared, control: &mut Control) -> Result<()> {
        let (params, first) = (&self.params, self.done);
        let lowest = self.best.as_ref().map_or(f64::INFINITY, |best| best.inertia);
        let (count, best) = match prepared {
            Prepared::Linfa(restarts) => {
                let found = restarts.restart(first, &self.rows, params, control)?;
                control.restart(first + 1, found.inertia.min(lowest));
                (1, Best { inertia: found.inertia, centroids: tensor_of(found.centroids.view())? })
            }
            Prepared::Fused(space, norms) => {
                let count = together(space, params).min(params.n_init - first);
                let passes = |count| Fused::new(space, norms, count, params.n_clusters as i64);
                (count, best_of_all(space, passes, params, first, count, lowest, control)?)
            }
            Prepared::Plain(space) => {
                let count = together(space, params).min(params.n_init - first);
                let passes = |count| Plain::new(space, count, params.n_clusters as i64);
                (count, best_of_all(space, passes, params, first, count, lowest, control)?)
            }
        };
        if best.inertia < lowest {
            self.best = Some(best);
        }
        self.done += count;
        Ok(())
    }

    /// The best restart, brought to an exact fixed point.
    fn finish(&self, prepared: &Prepared, control: &mut Control) -> Result<KMeans> {
        let best = self.best.as_ref().ok_or_else(|| Error::Training("k-means: no restart ended".to_owned()))?;
        let k = self.params.n_clusters as i64;
        let max_iter = self.params.max_iter;
        let centroids = match prepared {
            Prepared::Linfa(_) => array_of(&best.centroids)?,
            Prepared::Fused(space, norms) => settled(space, Fused::new(space, norms, 1, k)?, best, max_iter, control)?,
            Prepared::Plain(space) => settled(space, Plain::new(space, 1, k)?, best, max_iter, control)?,
        };
        exact::finish(&self.rows, centroids, max_iter, control)
    }
}

/// [`best_of`], divided among the processes that work together.
fn best_of_all<P: Passes>(
    space: &Space,
    passes: impl FnOnce(i64) -> Result<P>,
    params: &KMeansParams,
    first: usize,
    count: usize,
    lowest: f64,
    control: &mut Control,
) -> Result<Best> {
    let ranks = control.ranks();
    let share = ranks.share(count as i64);
    let (begin, own) = (first + share.start as usize, share.end - share.start);
    let part = match own {
        0 => None, // more processes than restarts
        _ => Some(passes(own).and_then(|passes| best_of(space, passes, params, begin, own as usize, lowest, control))),
    };
    let part = control.divided(part.transpose())?;
    if ranks.size() == 1 {
        return part.ok_or_else(|| Error::Training("k-means: no restart ended".to_owned()));
    }
    // A row for each process; of equals the first counts, as in one process.
    let size = ranks.size() as i64;
    let inertias = Tensor::f_full([size], f64::INFINITY, (Kind::Double, Device::Cpu))?;
    let shape = [size, params.n_clusters as i64, space.n_features()];
    let centroids = Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?;
    if let Some(Best { inertia, centroids: own }) = part {
        let _ = inertias.f_get(ranks.rank() as i64)?.f_fill_(inertia)?;
        centroids.f_get(ranks.rank() as i64)?.f_copy_(&own)?;
    }
    ranks.gather(&inertias)?;
    ranks.gather(&centroids)?;
    let inertias: Vec<f64> = values_of(&inertias)?;
    let least = (0..).zip(inertias).min_by(|(_, a), (_, b)| a.total_cmp(b));
    let (winner, inertia) = least.ok_or_else(|| Error::Training("k-means: no restart ended".to_owned()))?;
    for restart in share.end as usize..count {
        control.restart(first + restart + 1, inertia.min(lowest));
    }
    Ok(Best { inertia, centroids: centroids.f_get(winner)?.f_to_device(space.stored.device())? })
}

/// The best of the restarts from `first` on, `count` of them, by `passes`.
pub(super) fn best_of(
    space: &Space,
    mut passes: impl Passes,
    params: &KMeansParams,
    first: usize,
    count: usize,
    lowest: f64,
    control: &mut Control,
) -> Result<Best> {
    let start = seeding::centroids(space, &mut passes, params, first, count, control)?;
    let mut ended = |control: &mut Control, restart: usize, inertia: f64| {
        control.restart(first + restart + 1, inertia.min(lowest));
    };
    let (inertia, centroids) = descend(space, &mut passes, start, params.tol, params.max_iter, control, &mut ended)?;
    Ok(Best { inertia, centroids })
}

/// What tolerance left undone: the best one goes on until no row changes its cluster. Centroids \[k, d\] in the rows' own
/// coordinates.
pub(super) fn settled(
    space: &Space,
    mut passes: impl Passes,
    best: &Best,
    max_iter: u64,
    control: &mut Control,
) -> Result<Array2<f32>> {
    let start = best.centroids.f_to_device(space.stored.device())?.f_unsqueeze(0)?;
    let (_, centroids) = descend(space, &mut passes, start, 0.0, max_iter, control, &mut |_, _, _| {})?;
    array_of(&centroids.f_add(&space.origin)?)
}

/// As many restarts as the memory for their state holds, and as make a piece of bounded work.
fn together(space: &Space, params: &KMeansParams) -> usize {
    let (n, d) = (space.n_rows() as usize, space.n_features() as usize);
    // A row's label, the one before, three bounds, and its distance while centres are sought; sums, means, old and new
    // centroids.
    let each = 24 * n + 40 * params.n_clusters * d;
    let by_memory = STATE_BYTES / each.max(1);
    let by_work = (PIECE_PRODUCTS / (n as u64 * d as u64 * params.n_clusters as u64).max(1)) as usize;
    by_memory.min(by_work).clamp(1, params.n_init)
}
