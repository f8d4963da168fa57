//! Ward's agglomerative clustering (Ward 1963): the two clusters are joined whose union adds least to the sum of squared distances to
//! the means. It finds small clusters that stand apart, which k-means gives up for a split of a large one.

use kodama::{linkage, Method};
use tch::{no_grad, Kind, Tensor};

use super::consensus::cut;
use crate::backend::precision;
use crate::control::Control;
use crate::data::{index_of, sample, values_of};
use crate::error::Result;

/// Rows that are joined at most; the others go to the nearest mean. Memory grows with the square, to 32 MB.
const ROWS: usize = 4_000;
/// Rows whose distances are made at once.
const BLOCK: i64 = 500;

/// The cluster, 0 to k − 1, of each of `rows` \[n, m\], float32.
///
/// # Errors
/// [`crate::Error::Interrupted`], or a libtorch failure.
pub fn fit(rows: &Tensor, n_clusters: usize, seed: u64, control: &mut Control) -> Result<Vec<i64>> {
    no_grad(|| {
        let n = rows.size2()?.0 as usize;
        let chosen = sample(n, ROWS, seed);
        let seen = match chosen.len() < n {
            true => rows.f_index_select(0, &index_of(&chosen)?.f_to_device(rows.device())?)?,
            false => rows.shallow_clone(),
        };
        let count = chosen.len();
        let k = n_clusters.min(count);
        let joined: Vec<i64> = match k == count {
            true => (0..count as i64).collect(),
            false => {
                let mut distances = distances(&seen, control)?;
                let groups = cut(linkage(&mut distances, count, Method::Ward).steps(), count, k);
                groups.into_iter().map(|group| group as i64).collect()
            }
        };
        if count == n {
            return Ok(joined);
        }
        let labels = Tensor::f_from_slice(&joined)?.f_to_device(rows.device())?;
        let shares = labels.f_one_hot(k as i64)?.f_to_kind(Kind::Float)?;
        let sizes = shares.f_sum_dim_intlist(0, false, Kind::Float)?.f_unsqueeze(1)?;
        let means = shares.f_tr()?.f_matmul(&seen)?.f_div(&sizes)?;
        let mut labels = Vec::with_capacity(n);
        for block in rows.f_split(BLOCK * 20, 0)? {
            control.check()?;
            labels.extend(values_of::<i64>(&Tensor::f_cdist(&block, &means, 2.0, None)?.f_argmin(1, false)?)?);
        }
        Ok(labels)
    })
}

/// Between all pairs, in rows of the upper triangle.
fn distances(rows: &Tensor, control: &mut Control) -> Result<Vec<f32>> {
    let _exact = precision::without_tf32()?;
    let n = rows.size2()?.0;
    let mut distances = Vec::with_capacity((n * (n - 1) / 2) as usize);
    for start in (0..n).step_by(BLOCK as usize) {
        control.check()?;
        let block = rows.f_narrow(0, start, BLOCK.min(n - start))?;
        let others = rows.f_narrow(0, start, n - start)?;
        // Not by products, which cancel between near rows far from 0.
        let found = Tensor::f_cdist(&block, &others, 2.0, 2)?;
        let (height, width) = found.size2()?;
        let found: Vec<f32> = values_of(&found)?;
        for row in 0..height as usize {
            distances.extend_from_slice(&found[row * width as usize + row + 1..(row + 1) * width as usize]);
        }
    }
    Ok(distances)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Stop;
    use crate::metrics::Contingency;
    use crate::Error;
    use tch::Device;

    fn blobs(sizes: &[i64], apart: f64) -> (Tensor, Vec<i64>) {
        tch::manual_seed(4);
        let blob =
            |(&size, place): (&i64, i64)| Tensor::randn([size, 3], (Kind::Float, Device::Cpu)) + place as f64 * apart;
        let rows: Vec<Tensor> = sizes.iter().zip(0..).map(blob).collect();
        let truth = sizes.iter().zip(0..).flat_map(|(&size, place)| vec![place; size as usize]).collect();
        (Tensor::cat(&rows, 0), truth)
    }

    #[test]
    fn a_small_cluster_is_found_beside_a_large_one() {
        for sizes in [[600, 8], [ROWS as i64 + 700, 40]] {
            let (rows, truth) = blobs(&sizes, 12.0);
            let found = fit(&rows, 2, 1, &mut Control::ignored()).unwrap();
            assert_eq!(Contingency::new(&truth, &found).unwrap().accuracy(), 1.0, "{sizes:?}");
        }
    }

    #[test]
    fn distances_stand_in_the_order_that_linkage_reads() {
        let rows = Tensor::arange(700, (Kind::Float, Device::Cpu)).view([700, 1]);
        let found = distances(&rows, &mut Control::ignored()).unwrap();
        let expected: Vec<f32> = (0..700).flat_map(|a| (a + 1..700).map(move |b| (b - a) as f32)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn as_many_clusters_as_rows_and_a_stop_are_no_trouble() {
        let (rows, _) = blobs(&[3, 2], 1.0);
        assert_eq!(fit(&rows, 5, 0, &mut Control::ignored()).unwrap(), [0, 1, 2, 3, 4]);
        assert!(matches!(fit(&rows, 2, 0, &mut Control::new(&mut Stop)), Err(Error::Interrupted)));
    }
}
