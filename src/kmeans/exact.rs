//! Lloyd steps whose result is exact: labels of the nearest centroid, centroids the means of their rows.
//!
//! The search may take shortcuts that cost the last bits; the clustering that it finds is finished here.

use ndarray::Array2;
use tch::{Device, Kind, Tensor};

use super::KMeans;
use crate::backend::lloyd;
use crate::control::Control;
use crate::data::{tensor_of, values_of, Rows};
use crate::error::Result;

/// Values of the rows that are looked at between two questions whether to stop: less than a second's work for 100
/// centroids.
const BLOCK_VALUES: i64 = 1 << 24;

/// Calls `f` with consecutive rows on the CPU, of those that this process holds, as they are stored, and the factor that they are to be
/// multiplied by.
fn for_blocks(rows: &Rows, control: &Control, mut f: impl FnMut(i64, &Tensor, f64) -> Result<()>) -> Result<()> {
    let (held, scale) = (rows.held(), rows.scale());
    let size = (BLOCK_VALUES / rows.n_features().max(1)).max(1);
    for start in held.clone().step_by(size as usize) {
        control.check()?;
        let block = rows.held_block(start, size.min(held.end - start))?.f_to_device(Device::Cpu)?;
        let block = if block.f_kind()? == Kind::Uint8 { block } else { block.f_to_kind(Kind::Float)? };
        f(start, &block.f_contiguous()?, scale)?;
    }
    Ok(())
}

/// The mean of each cluster's rows, \[k, d\], summed in float64 in the rows' order; 0 for an empty cluster.
pub(super) fn means(rows: &Rows, labels: &[i64], n_clusters: usize, control: &Control) -> Result<Array2<f32>> {
    let shape = (n_clusters, rows.n_features() as usize);
    let sums = Tensor::f_zeros([shape.0 as i64, shape.1 as i64], (Kind::Double, Device::Cpu))?;
    let mut sizes = vec![0.0f64; n_clusters];
    for &label in labels {
        sizes[label as usize] += 1.0;
    }
    for_blocks(rows, control, |start, block, scale| {
        let labels: Vec<i32> = labels[start as usize..][..block.size()[0] as usize].iter().map(|&l| l as i32).collect();
        lloyd::add_rows(block, scale, &Tensor::f_from_slice(&labels)?, &sums)
    })?;
    let sums: Vec<f64> = values_of(&sums)?;
    Ok(Array2::from_shape_fn(shape, |(cluster, column)| {
        (sums[cluster * shape.1 + column] / sizes[cluster].max(1.0)) as f32
    }))
}

/// The nearest centroid (the first of equally near ones) of every row that this process holds, and its squared distance to it.
fn nearest(rows: &Rows, centroids: &Array2<f32>, control: &Control) -> Result<(Vec<i64>, Vec<f64>)> {
    let centroids = tensor_of(centroids.view())?;
    let (mut labels, mut distances) = (Vec::new(), Vec::new());
    for_blocks(rows, control, |_, block, scale| {
        let (block_labels, block_distances) = lloyd::nearest(block, scale, &centroids)?;
        labels.extend(values_of::<i32>(&block_labels)?.into_iter().map(i64::from));
        distances.extend(values_of::<f64>(&block_distances)?);
        Ok(())
    })?;
    Ok((labels, distances))
}

/// The clustering that `centroids` \[k, d\] make. For all processes that hold the rows.
pub(crate) fn assign(rows: &Rows, centroids: Array2<f32>, control: &Control) -> Result<KMeans> {
    let (labels, distances) = control.divided(nearest(rows, &centroids, control))?;
    let (labels, distances) = (rows.of_all(&labels)?, rows.of_all(&distances)?);
    // Summed in the rows' order, so that neither the number of threads nor that of processes shows.
    Ok(KMeans { centroids, labels, inertia: distances.iter().sum() })
}

/// Lloyd steps from `centroids` \[k, d\] until no row changes its cluster, at most `max_iter` of them.
///
/// An empty cluster takes the row that is farthest from its centroid, as in scikit-learn.
pub(super) fn finish(rows: &Rows, centroids: Array2<f32>, max_iter: u64, control: &Control) -> Result<KMeans> {
    let k = centroids.nrows();
    let (labels, mut distances) = nearest(rows, &centroids, control)?;
    let mut current = KMeans { centroids, labels, inertia: distances.iter().sum() };
    for _ in 0..max_iter {
        let filled = !fill(&mut current.labels, k, &distances).is_empty();
        let centroids = means(rows, &current.labels, k, control)?;
        let (labels, next) = nearest(rows, &centroids, control)?;
        distances = next;
        let inertia: f64 = distances.iter().sum();
        let settled = labels == current.labels;
        // Only rounding can raise the inertia of a Lloyd step: rows then tie between centroids, and could for ever.
        if !settled && !filled && inertia >= current.inertia {
            break;
        }
        current = KMeans { centroids, labels, inertia };
        if settled {
            break;
        }
    }
    Ok(current)
}

/// Gives every cluster without rows the row farthest from its centroid, among clusters that keep another row, and
/// returns which rows those are.
pub(super) fn fill<T: Copy + PartialOrd>(labels: &mut [i64], n_clusters: usize, distances: &[T]) -> Vec<usize> {
    let mut sizes = vec![0usize; n_clusters];
    for &label in labels.iter() {
        sizes[label as usize] += 1;
    }
    let empty: Vec<usize> = (0..n_clusters).filter(|&cluster| sizes[cluster] == 0).collect();
    let mut moved = Vec::with_capacity(empty.len());
    if empty.is_empty() {
        return moved;
    }
    let mut farthest_first: Vec<usize> = (0..labels.len()).collect();
    let descending =
        |&a: &usize, &b: &usize| distances[b].partial_cmp(&distances[a]).unwrap_or(std::cmp::Ordering::Equal);
    farthest_first.sort_by(descending);
    let mut candidates = farthest_first.into_iter();
    for &cluster in &empty {
        let Some(row) = candidates.find(|&row| sizes[labels[row] as usize] > 1) else { break };
        sizes[labels[row] as usize] -= 1;
        sizes[cluster] = 1;
        labels[row] = cluster as i64;
        moved.push(row);
    }
    moved
}
