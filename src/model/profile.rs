//! What the training rows were like, for new rows to be compared with, and what a row's soft assignment tells besides its cluster.

use tch::{Kind, Tensor};

use super::groups::Groups;
use super::outlier::OutlierScale;
use crate::data::values_of;
use crate::error::Result;

/// Distances, cluster sizes and confidence of the training rows; kept with the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// How far rows are from their centroids.
    pub outliers: OutlierScale,
    /// The share of the rows in each cluster, \[k\]; \[k'\] where clusters were joined.
    pub shares: Vec<f32>,
    /// The mean of q of the rows' clusters.
    pub confidence: f32,
}

impl Profile {
    /// Of rows z \[n, m\] with these clusters and their q, around `centroids` \[k, m\].
    ///
    /// # Errors
    /// No rows, distances that are not finite, or a libtorch failure.
    pub fn of(z: &Tensor, labels: &[i64], confidence: &[f32], centroids: &Tensor) -> Result<Self> {
        let k = centroids.size()[0] as usize;
        let outliers = OutlierScale::fit(&distances(z, labels, centroids, None)?.0, labels, k)?;
        Ok(Self { shares: shares(labels, k), confidence: mean(confidence), outliers })
    }

    /// The same rows after clusters were joined into k' ones: these are their clusters now, and their q' of them.
    ///
    /// Distances stay measured centroid by centroid, each on its own scale: a row that stays with its centroid keeps its score.
    #[must_use]
    pub fn joined(&self, labels: &[i64], confidence: &[f32], n_clusters: usize) -> Self {
        Self { outliers: self.outliers.clone(), shares: shares(labels, n_clusters), confidence: mean(confidence) }
    }

    /// As float32 tensors, each with its name: `medians` \[k\], `quantiles` \[512\], `shares` \[k\], `confidence` \[1\].
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn tensors(&self) -> Result<Vec<(&'static str, Tensor)>> {
        Ok(vec![
            ("medians", Tensor::f_from_slice(&self.outliers.medians)?),
            ("quantiles", Tensor::f_from_slice(&self.outliers.quantiles)?),
            ("shares", Tensor::f_from_slice(&self.shares)?),
            ("confidence", Tensor::f_from_slice(&[self.confidence])?),
        ])
    }

    /// From what [`Profile::tensors`] gives, by name; `None` where there is none of it, as in older models.
    ///
    /// # Errors
    /// A damaged table, or a libtorch failure.
    pub fn from_tensors<'t>(tensor: impl Fn(&str) -> Option<&'t Tensor>) -> Result<Option<Self>> {
        let values = |name: &str| tensor(name).map(|t| values_of::<f32>(&t.f_to_kind(Kind::Float)?)).transpose();
        let (Some(medians), Some(quantiles), Some(shares), Some(confidence)) =
            (values("medians")?, values("quantiles")?, values("shares")?, values("confidence")?)
        else {
            return Ok(None);
        };
        let outliers = OutlierScale::from_parts(medians, quantiles)?;
        Ok(Some(Self { outliers, shares, confidence: confidence.first().copied().unwrap_or(0.0) }))
    }

    /// The outlier score of each row z \[n, m\] in its cluster, 0 to 1; of a joined one, around its nearest centroid.
    ///
    /// # Errors
    /// A libtorch failure.
    pub fn scores(&self, z: &Tensor, labels: &[i64], centroids: &Tensor, groups: Option<&Groups>) -> Result<Vec<f32>> {
        let (distances, nearest) = distances(z, labels, centroids, groups)?;
        Ok(distances.iter().zip(nearest).map(|(&distance, centroid)| self.outliers.score(distance, centroid)).collect())
    }
}

/// The share of the rows in each cluster.
fn shares(labels: &[i64], n_clusters: usize) -> Vec<f32> {
    let mut shares = vec![0.0; n_clusters];
    labels.iter().for_each(|&label| shares[label as usize] += 1.0 / labels.len() as f32);
    shares
}

fn mean(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    (sum / values.len() as f64) as f32
}

/// ‖z_i − μ_c‖² of each row, and c: the centroid of its cluster, or the nearest of those where `groups` has joined several.
///
/// # Errors
/// A libtorch failure.
pub fn distances(
    z: &Tensor,
    labels: &[i64],
    centroids: &Tensor,
    groups: Option<&Groups>,
) -> Result<(Vec<f32>, Vec<usize>)> {
    let m = centroids.size()[1] as usize;
    let centroids: Vec<f32> = values_of(&centroids.f_to_kind(Kind::Float)?)?;
    let z: Vec<f32> = values_of(z)?;
    let to = |row: &[f32], centroid: usize| -> f32 {
        row.iter().zip(&centroids[centroid * m..][..m]).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let members = groups.map(Groups::members);
    let of_row = |(row, &label): (&[f32], &i64)| match &members {
        None => (to(row, label as usize), label as usize),
        Some(members) => members[label as usize]
            .iter()
            .map(|&centroid| (to(row, centroid), centroid))
            .reduce(|best, next| if next.0 < best.0 { next } else { best })
            .unwrap_or((f32::NAN, 0)), // no cluster is without a centroid
    };
    Ok(z.chunks_exact(m.max(1)).zip(labels).map(of_row).unzip())
}

/// The cluster that is second in q \[n, k\] (−1 for one cluster), and the entropy −Σ q ln q in nats, of each row.
///
/// # Errors
/// A libtorch failure.
pub fn second_and_entropy(q: &Tensor, labels: &[i64]) -> Result<(Vec<i64>, Vec<f32>)> {
    let k = q.size()[1].max(1) as usize;
    let values: Vec<f32> = values_of(&q.f_to_kind(Kind::Float)?)?;
    let of_row = |(row, &label): (&[f32], &i64)| {
        let mut second: Option<usize> = None;
        let mut entropy = 0.0f64;
        for (cluster, &value) in row.iter().enumerate() {
            if value > 0.0 {
                entropy -= f64::from(value) * f64::from(value).ln();
            }
            if cluster as i64 != label && second.is_none_or(|best| value > row[best]) {
                second = Some(cluster);
            }
        }
        (second.map_or(-1, |cluster| cluster as i64), entropy as f32)
    };
    Ok(values.chunks_exact(k).zip(labels).map(of_row).unzip())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_second_choice_and_the_entropy_are_those_of_the_formula() {
        let q = Tensor::from_slice(&[0.5f32, 0.25, 0.25, 0.0, 0.1, 0.9]).view([2, 3]);
        let (second, entropy) = second_and_entropy(&q, &[0, 2]).unwrap();
        assert_eq!(second, [1, 1]);
        assert!((entropy[0] - 1.5 * 2f32.ln()).abs() < 1e-6 && (entropy[1] - 0.325_083).abs() < 1e-5, "{entropy:?}");
        let (second, entropy) = second_and_entropy(&Tensor::from_slice(&[1.0f32]).view([1, 1]), &[0]).unwrap();
        assert_eq!((second, entropy), (vec![-1], vec![0.0]));
    }

    #[test]
    fn a_profile_survives_its_tensors_and_tells_who_is_far() {
        let z = Tensor::from_slice(&[0.0f32, 1.0, 2.0, 10.0, 10.5, 11.0]).view([6, 1]);
        let centroids = Tensor::from_slice(&[0.0f32, 10.0]).view([2, 1]);
        let profile = Profile::of(&z, &[0, 0, 0, 1, 1, 1], &[0.5; 6], &centroids).unwrap();
        assert_eq!((profile.confidence, profile.outliers.medians.as_slice()), (0.5, &[1.0, 0.25][..]));
        let named = profile.tensors().unwrap();
        let find = |name: &str| named.iter().find(|(found, _)| *found == name).map(|(_, tensor)| tensor);
        assert_eq!(Profile::from_tensors(find).unwrap(), Some(profile.clone()));
        assert_eq!(Profile::from_tensors(|_| None).unwrap(), None);
        let new = Tensor::from_slice(&[0.0f32, 99.0]).view([2, 1]);
        let scores = profile.scores(&new, &[0, 1], &centroids, None).unwrap();
        assert!(scores[0] < 0.5 && scores[1] == 1.0, "{scores:?}");
        // In one cluster with two centroids, each row is measured around the nearer one, on that one's scale.
        let both = Groups::joined(2, &[vec![0, 1]]).unwrap();
        assert_eq!(profile.scores(&new, &[0, 0], &centroids, Some(&both)).unwrap(), scores);
        let joined = profile.joined(&[0; 6], &[1.0; 6], 1);
        assert_eq!((joined.confidence, joined.outliers), (1.0, profile.outliers));
        assert!(joined.shares.len() == 1 && (joined.shares[0] - 1.0).abs() < 1e-6, "{:?}", joined.shares);
    }
}
