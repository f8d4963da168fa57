//! Lloyd's algorithm for many restarts at a time, over whole-data passes ([`Passes`]).

use tch::{Kind, Tensor};

use super::exact;
use super::passes::{block_rows, Passes, Space};
use crate::control::Control;
use crate::data::values_of;
use crate::error::{Error, Result};

/// Lloyd's algorithm from `centroids`, float32 \[R, k, d\]; the lowest inertia reached and the centroids \[k, d\]
/// there.
///
/// A restart ends when no label changes, when the squared length of its centroids' joint step falls to `tol` times the
/// mean variance, or after `max_iter` steps. `ended_restart` hears of the restarts in their order, with the lowest inertia
/// so far.
pub(super) fn descend(
    space: &Space,
    passes: &mut dyn Passes,
    centroids: Tensor,
    tol: f64,
    max_iter: u64,
    control: &mut Control,
    ended_restart: &mut dyn FnMut(&mut Control, usize, f64),
) -> Result<(f64, Tensor)> {
    let restarts = centroids.size()[0];
    let tolerance = tol * passes.total() / (space.n_rows() as f64 * space.n_features() as f64);
    let mut active: Vec<i64> = (0..restarts).collect();
    let mut centroids = centroids;
    let mut ended: Vec<Option<(f64, Tensor)>> = (0..restarts).map(|_| None).collect();
    let (mut told, mut best) = (0, (f64::INFINITY, 0));
    for iteration in 1..=max_iter {
        let changed = passes.assign(&active, &centroids, control)?;
        let (counts, means) = passes.clusters(&active)?;
        let filled = fill_empty(space, passes, &active, &centroids, &counts)?;
        let (counts, means) = if filled.contains(&true) { passes.clusters(&active)? } else { (counts, means) };
        let squared = means.f_square()?.f_sum_dim_intlist(2, false, None)?;
        let between: Vec<f64> = values_of(&squared.f_mul(&counts)?.f_sum_dim_intlist(1, false, None)?)?;
        let step = means.f_sub(&centroids)?.f_square()?.f_sum_dim_intlist([1i64, 2].as_slice(), false, None)?;
        let step: Vec<f64> = values_of(&step)?;
        let means = means.f_to_kind(Kind::Float)?;
        let mut going = Vec::with_capacity(active.len());
        for (position, &restart) in active.iter().enumerate() {
            let unmoved = !filled[position] && (changed[position] == 0 || step[position] <= tolerance);
            if unmoved || iteration == max_iter {
                let inertia = (passes.total() - between[position]).max(0.0);
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
            ended_restart(control, told, best.0);
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
    passes: &mut dyn Passes,
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
            let labels = passes.labels(restart)?.f_to_kind(Kind::Int64)?;
            let distances = own_distances(space, &centroids.f_get(position as i64)?, &labels)?;
            let mut labels: Vec<i64> = values_of(&labels)?;
            let rows = exact::fill(&mut labels, k as usize, &distances);
            let to: Vec<i64> = rows.iter().map(|&row| labels[row]).collect();
            passes.relabel(restart, &rows, &to)?;
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
