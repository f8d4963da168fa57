//! Clusters of the rows in a latent space.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Clusters of the rows, with their centroids in a latent space.
#[derive(Debug)]
pub struct Clusters {
    /// The cluster of each row, in the run's order of rows.
    pub labels: Vec<i64>,
    /// \[k, m\].
    pub centroids: Tensor,
}

impl Clusters {
    /// Those that `labels` (0 to k − 1) say, with the means of the latent rows `z` \[n, m\] as centroids.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn around_means(z: &Tensor, labels: Vec<i64>, k: usize) -> Result<Self> {
        let centroids = means(z, &labels, k)?;
        Ok(Self { labels, centroids })
    }
}

/// The means \[k, m\] of the latent rows of each cluster; that of all rows for a cluster without any. On the CPU: a GPU adds in
/// another order every time.
fn means(z: &Tensor, labels: &[i64], k: usize) -> Result<Tensor> {
    let device = z.device();
    let z = z.f_to_device(Device::Cpu)?;
    let (_, m) = z.size2()?;
    let options = (Kind::Float, Device::Cpu);
    let labels = Tensor::f_from_slice(labels)?;
    let sums = Tensor::f_zeros([k as i64, m], options)?.f_index_add(0, &labels, &z)?;
    let ones = Tensor::f_ones([labels.size()[0]], options)?;
    let counts = Tensor::f_zeros([k as i64], options)?.f_index_add(0, &labels, &ones)?.f_unsqueeze(1)?;
    let all = z.f_mean_dim(0, true, Kind::Float)?;
    let means = sums.f_div(&counts.f_clamp_min(1.0)?)?;
    Ok(means.f_add(&all.f_mul(&counts.f_eq(0.0)?.f_to_kind(Kind::Float)?)?)?.f_to_device(device)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::values_of;

    #[test]
    fn means_are_of_the_clusters_and_of_all_where_there_is_no_row() {
        let z = Tensor::from_slice(&[0.0f32, 2.0, 4.0, 10.0]).view([4, 1]);
        let found: Vec<f32> = values_of(&means(&z, &[0, 0, 2, 2], 3).unwrap()).unwrap();
        assert_eq!(found, [1.0, 4.0, 7.0]);
    }
}
