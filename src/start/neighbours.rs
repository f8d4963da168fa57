//! The exact nearest neighbours of rows, Euclidean.
//!
//! Every query is compared with every row: n² · m steps, and n · k values kept. On 2 cores 70,000 rows of 10 values take about
//! two seconds, so that a million would take some seven minutes (computed).

use tch::{no_grad, Device, Kind, Tensor};

use super::{check, GoOn};
use crate::backend::{graph, precision};
use crate::error::Result;

/// Queries between two looks at whether to go on.
const BLOCK: i64 = 2048;
/// Distances that a GPU holds at once: 256 MiB of float32.
const BLOCK_VALUES: i64 = 1 << 26;

/// For each query its k nearest rows, nearest first, on the CPU.
#[derive(Debug)]
pub struct Neighbours {
    /// Numbers of the rows: int64 \[q, k\].
    pub indices: Tensor,
    /// Squared distances: float32 \[q, k\].
    pub distances: Tensor,
}

/// The `k` rows of `rows` \[n, m\] nearest to each of `queries` \[q, m\], both float32 on one device; the row of the lower number
/// first among equals on the CPU. Without queries the rows themselves are asked for, each without itself.
///
/// # Errors
/// Fewer rows than `k`, another width, [`crate::Error::Interrupted`], or a libtorch failure.
pub fn neighbours(queries: Option<&Tensor>, rows: &Tensor, k: i64, go_on: &mut GoOn) -> Result<Neighbours> {
    no_grad(|| {
        let asked = queries.unwrap_or(rows);
        let (q, _) = asked.size2()?;
        let result = Neighbours {
            indices: Tensor::f_empty([q, k], (Kind::Int64, Device::Cpu))?,
            distances: Tensor::f_empty([q, k], (Kind::Float, Device::Cpu))?,
        };
        let on_cpu = rows.device() == Device::Cpu;
        // Products of rows around 0, without TF32, cancel least.
        let _exact = precision::without_tf32()?;
        let middle = if on_cpu { None } else { Some(rows.f_mean_dim(0, true, Kind::Float)?) };
        let centred = |x: &Tensor| -> Result<Tensor> {
            Ok(middle.as_ref().map_or_else(|| Ok(x.shallow_clone()), |middle| x.f_sub(middle))?)
        };
        let (asked, columns) = (centred(asked)?, centred(rows)?.f_tr()?.f_contiguous()?);
        let block = if on_cpu { BLOCK } else { (BLOCK_VALUES / rows.size()[0].max(1)).clamp(1, BLOCK) };
        for start in (0..q).step_by(block as usize) {
            check(go_on)?;
            let count = block.min(q - start);
            let block = asked.f_narrow(0, start, count)?.f_contiguous()?;
            let (indices, distances) =
                (result.indices.f_narrow(0, start, count)?, result.distances.f_narrow(0, start, count)?);
            let first = queries.is_none().then_some(start);
            if on_cpu {
                graph::neighbours(&block, &columns, first, &indices, &distances)?;
            } else {
                by_products(&block, &columns, first, &indices, &distances)?;
            }
        }
        Ok(result)
    })
}

/// The same in tensor operations, for a GPU: ‖x‖² − 2 x·y + ‖y‖² finds the neighbours, differences their distances.
fn by_products(
    queries: &Tensor,
    columns: &Tensor,
    first: Option<i64>,
    indices: &Tensor,
    distances: &Tensor,
) -> Result<()> {
    let (count, k) = indices.size2()?;
    let norms = columns.f_square()?.f_sum_dim_intlist(0, true, None)?;
    let far = norms.f_sub(&queries.f_matmul(columns)?.f_mul_scalar(2.0)?)?;
    if let Some(first) = first {
        let mut own = far.f_narrow(1, first, count)?.f_diagonal(0, 0, 1)?;
        let _ = own.f_fill_(f64::INFINITY)?;
    }
    let (_, nearest) = far.f_topk(k, 1, false, true)?;
    let rows = columns.f_tr()?.f_index_select(0, &nearest.f_reshape(-1)?)?.f_view([count, k, -1])?;
    let squared = rows.f_sub(&queries.f_unsqueeze(1)?)?.f_square()?.f_sum_dim_intlist(2, false, None)?;
    let (sorted, order) = squared.f_sort_stable(true, 1, false)?;
    distances.shallow_clone().f_copy_(&sorted)?;
    Ok(indices.shallow_clone().f_copy_(&nearest.f_gather(1, &order, false)?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::threads;
    use crate::data::values_of;
    use std::ops::ControlFlow;

    fn all(queries: Option<&Tensor>, rows: &Tensor, k: i64) -> (Vec<i64>, Vec<f32>) {
        let found = neighbours(queries, rows, k, &mut || ControlFlow::Continue(())).unwrap();
        (values_of(&found.indices).unwrap(), values_of(&found.distances).unwrap())
    }

    /// Every pair, the lower number first among equals.
    fn brute_force(queries: &Tensor, rows: &Tensor, k: usize, without_itself: bool) -> (Vec<i64>, Vec<f32>) {
        let (q, n) = (queries.size()[0], rows.size()[0]);
        let (mut indices, mut distances) = (Vec::new(), Vec::new());
        for i in 0..q {
            let far = (rows - queries.get(i)).square().sum_dim_intlist(1, false, Kind::Double);
            let far: Vec<f64> = values_of(&far).unwrap();
            let mut order: Vec<i64> = (0..n).filter(|&j| !without_itself || j != i).collect();
            order.sort_by(|&a, &b| far[a as usize].total_cmp(&far[b as usize]));
            indices.extend(&order[..k]);
            distances.extend(order[..k].iter().map(|&j| far[j as usize] as f32));
        }
        (indices, distances)
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs() + 1e-6)
    }

    #[test]
    fn they_are_those_of_brute_force_ties_and_duplicates_included() {
        tch::manual_seed(1);
        for (n, m, k) in [(2, 1, 1), (40, 1, 7), (600, 10, 15), (1100, 33, 3), (70, 784, 15)] {
            // Few different values: many ties, exact in float32.
            let rows = Tensor::randint(3, [n, m], (Kind::Float, Device::Cpu));
            let (indices, distances) = all(None, &rows, k);
            assert_eq!((indices, distances), brute_force(&rows, &rows, k as usize, true), "{n} x {m}");
            let queries = Tensor::randint(3, [30, m], (Kind::Float, Device::Cpu));
            assert_eq!(all(Some(&queries), &rows, 1), brute_force(&queries, &rows, 1, false), "{n} x {m}");
        }
    }

    #[test]
    fn products_find_the_same() {
        tch::manual_seed(2);
        let rows = Tensor::randn([500, 10], (Kind::Float, Device::Cpu));
        let (indices, distances) = all(None, &rows, 9);
        let found = Neighbours {
            indices: Tensor::zeros([500, 9], (Kind::Int64, Device::Cpu)),
            distances: Tensor::zeros([500, 9], (Kind::Float, Device::Cpu)),
        };
        by_products(&rows, &rows.tr().contiguous(), Some(0), &found.indices, &found.distances).unwrap();
        assert_eq!(indices, values_of::<i64>(&found.indices).unwrap());
        assert!(close(&distances, &values_of::<f32>(&found.distances).unwrap()));
    }

    #[test]
    fn threads_do_not_matter_and_too_few_rows_are_refused() {
        let _alone = threads::tests::alone();
        tch::manual_seed(3);
        let rows = Tensor::randn([3000, 5], (Kind::Float, Device::Cpu));
        let found: Vec<_> = (1..=3)
            .map(|count| {
                threads::set(Some(count)).unwrap();
                all(None, &rows, 15)
            })
            .collect();
        threads::set(None).unwrap();
        assert!(found[0] == found[1] && found[0] == found[2]);
        let few = rows.narrow(0, 0, 5);
        assert!(neighbours(None, &few, 5, &mut || ControlFlow::Continue(())).is_err());
        let stopped = neighbours(None, &rows, 5, &mut || ControlFlow::Break(()));
        assert!(matches!(stopped, Err(crate::Error::Interrupted)));
    }
}
