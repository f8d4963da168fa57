//! Rows and clusters that stand near each other.

use ndarray::{ArrayView1, ArrayView2};

use super::{check_labels, check_length, WhyError};

/// For each cluster, its `most` rows nearest to the cluster's centroid, nearest first. `latent` is \[n, m\], `centroids`
/// \[k, m\].
///
/// # Errors
/// [`WhyError`], where the shapes or labels do not fit.
pub fn typical_rows(
    latent: ArrayView2<'_, f32>,
    labels: &[u32],
    centroids: ArrayView2<'_, f32>,
    most: usize,
) -> Result<Vec<Vec<u32>>, WhyError> {
    check_length("labels", labels.len(), latent.nrows())?;
    check_length("centroids, columns", centroids.ncols(), latent.ncols())?;
    check_labels(labels, centroids.nrows())?;
    let far = latent.outer_iter().zip(labels).map(|(row, &label)| squared(row, centroids.row(label as usize)));
    Ok(lowest(far, labels, centroids.nrows(), most))
}

/// For each of `k` clusters, its `most` rows with the lowest confidence, lowest first.
///
/// # Errors
/// [`WhyError`], where the labels do not fit.
pub fn doubtful_rows(confidence: &[f32], labels: &[u32], k: usize, most: usize) -> Result<Vec<Vec<u32>>, WhyError> {
    check_length("labels", labels.len(), confidence.len())?;
    check_labels(labels, k)?;
    Ok(lowest(confidence.iter().map(|&value| f64::from(value)), labels, k, most))
}

/// For each cluster, the `most` nearest other clusters with the distance between the centroids, nearest first.
pub fn nearest_clusters(centroids: ArrayView2<'_, f32>, most: usize) -> Vec<Vec<(u32, f64)>> {
    let k = centroids.nrows();
    let near = |cluster: usize| {
        let others = (0..k).filter(|&other| other != cluster);
        let distance = |other: usize| squared(centroids.row(cluster), centroids.row(other)).sqrt();
        let mut found: Vec<(u32, f64)> = others.map(|other| (other as u32, distance(other))).collect();
        found.sort_by(|x, y| x.1.total_cmp(&y.1).then(x.0.cmp(&y.0)));
        found.truncate(most);
        found
    };
    (0..k).map(near).collect()
}

/// ‖x − y‖².
pub(super) fn squared(x: ArrayView1<'_, f32>, y: ArrayView1<'_, f32>) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

/// The rows with the lowest values in each cluster. NaN comes last.
fn lowest(values: impl Iterator<Item = f64>, labels: &[u32], k: usize, most: usize) -> Vec<Vec<u32>> {
    let mut clusters: Vec<Vec<(f64, u32)>> = vec![Vec::new(); k];
    for (row, (value, &label)) in values.zip(labels).enumerate() {
        let list = &mut clusters[label as usize];
        let value = if value.is_nan() { f64::INFINITY } else { value };
        let place = list.partition_point(|entry| entry.0 <= value);
        if place < most {
            list.insert(place, (value, row as u32));
            list.truncate(most);
        }
    }
    clusters.into_iter().map(|list| list.into_iter().map(|entry| entry.1).collect()).collect()
}
