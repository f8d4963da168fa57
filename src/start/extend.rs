//! From the clusters of some rows to those of all: each further row goes where most of its nearest neighbours among them are.

use tch::Tensor;

use super::neighbours::neighbours;
use crate::control::Control;
use crate::data::values_of;
use crate::error::Result;

/// Neighbours that are asked.
const ASKED: i64 = 5;
/// Rows that are asked for together: bounds the memory for their neighbours.
const BLOCK: i64 = 1 << 18;

/// The clusters of all rows of `z` \[n, m\], given those of the first ones: `labels`. Among equally frequent clusters the nearest
/// neighbour's is taken.
///
/// # Errors
/// Latent rows without finite distances, [`crate::Error::Interrupted`], or a libtorch failure.
pub fn extend(z: &Tensor, mut labels: Vec<i64>, control: &mut Control) -> Result<Vec<i64>> {
    let (n, seen) = (z.size()[0], labels.len() as i64);
    if n <= seen {
        return Ok(labels);
    }
    let known = z.f_narrow(0, 0, seen)?;
    let asked = ASKED.min(seen);
    for start in (seen..n).step_by(BLOCK as usize) {
        let block = z.f_narrow(0, start, BLOCK.min(n - start))?;
        let found: Vec<i64> = values_of(&neighbours(Some(&block), &known, asked, control)?.indices)?;
        for nearest in found.chunks_exact(asked as usize) {
            let label = most_frequent(nearest, &labels)
                .ok_or_else(|| crate::Error::Rows("distances between rows are not finite".to_owned()))?;
            labels.push(label);
        }
    }
    Ok(labels)
}

/// The cluster of most of these rows, the nearest of which come first; `None` where a row is none.
fn most_frequent(rows: &[i64], labels: &[i64]) -> Option<i64> {
    let clusters: Vec<i64> =
        rows.iter().map(|&row| labels.get(usize::try_from(row).ok()?).copied()).collect::<Option<_>>()?;
    let votes = |cluster: i64| clusters.iter().filter(|&&other| other == cluster).count();
    let mut best = *clusters.first()?;
    for &cluster in &clusters {
        if votes(cluster) > votes(best) {
            best = cluster;
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn further_rows_go_where_their_neighbours_are() {
        tch::manual_seed(1);
        let truth: Vec<i64> = (0..5_000).map(|i| i % 3).collect();
        let centres = Tensor::from_slice(&truth).view([5_000, 1]) * 10.0;
        let z = Tensor::randn([5_000, 2], (Kind::Float, Device::Cpu)) + centres;
        let of = |seen: usize| extend(&z, truth[..seen].to_vec(), &mut Control::ignored()).unwrap();
        assert_eq!(of(600), truth);
        assert_eq!(of(5_000), truth);
        assert_eq!(of(3).len(), 5_000, "fewer rows than are asked");
    }

    #[test]
    fn the_nearest_decides_a_tie_and_no_neighbour_is_an_error() {
        let labels = [7, 8, 8, 9];
        assert_eq!(most_frequent(&[0, 1, 2], &labels), Some(8));
        assert_eq!(most_frequent(&[3, 1], &labels), Some(9));
        assert_eq!(most_frequent(&[-1], &labels), None);
    }
}
