//! The exact nearest neighbours of rows, Euclidean.
//!
//! On the CPU rows lie in √n cells, and a cell is passed over that is too far from a query for what is found already, which the
//! triangle inequality tells, as does the plane between two cells' pivots (Hjaltason & Samet 2003). On a GPU every query is
//! compared with every row. The rows are held once more, and n · k values are found.

use tch::{no_grad, Device, Kind, Tensor};

use crate::backend::graph::Cells;
use crate::backend::precision;
use crate::control::Control;
use crate::data::{index_of, sample, values_of};
use crate::error::{Error, Result};

/// Queries between two looks at whether to go on.
const BLOCK: i64 = 2048;
/// Rows below which all are compared with all.
const FEW: usize = 2048;
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
pub fn neighbours(queries: Option<&Tensor>, rows: &Tensor, k: i64, control: &mut Control) -> Result<Neighbours> {
    let others = rows.size2()?.0 - i64::from(queries.is_none());
    if k < 1 || k > others {
        return Err(Error::Rows(format!("{k} neighbours among {others} rows")));
    }
    no_grad(|| {
        if rows.device() == Device::Cpu {
            in_cells(queries, rows, k, control)
        } else {
            by_products(queries, rows, k, control)
        }
    })
}

/// With the rows in cells, of which most are too far from a query to be looked at.
fn in_cells(queries: Option<&Tensor>, rows: &Tensor, k: i64, control: &mut Control) -> Result<Neighbours> {
    let rows = rows.f_contiguous()?;
    let n = rows.size()[0] as usize;
    let asked = queries.map_or_else(|| Ok(rows.shallow_clone()), Tensor::f_contiguous)?;
    // The row that each query is itself, which is not its own neighbour.
    let own = |numbers: &Tensor| match queries {
        Some(_) => numbers.f_full_like(-1),
        None => Ok(numbers.shallow_clone()),
    };
    if n < FEW {
        let own = own(&Tensor::f_arange(asked.size()[0], (Kind::Int64, Device::Cpu))?)?;
        return ask(&Cells::single(&rows)?, &asked, None, &own, k, control);
    }
    let pivots = rows.f_index_select(0, &index_of(&pivots(n))?)?;
    let (mut cell_of, far) = nearest_pivots(&rows, &pivots, control)?;
    let mut radii = vec![0.0f32; pivots.size()[0] as usize];
    for (&cell, far) in cell_of.iter().zip(far) {
        radii[cell] = radii[cell].max(far.sqrt());
    }
    let cells = Cells::new(&rows, &pivots, &cell_of, &radii)?;

    if queries.is_some() {
        cell_of = nearest_pivots(&asked, &pivots, control)?.0;
    }
    let mut order: Vec<usize> = (0..cell_of.len()).collect();
    order.sort_by_key(|&query| cell_of[query]);
    let order = index_of(&order)?;
    let found = ask(&cells, &asked, Some(&order), &own(&order)?, k, control)?;
    let back = order.f_argsort(0, false)?;
    let unsorted = |of: Tensor| of.f_index_select(0, &back);
    Ok(Neighbours { indices: unsorted(found.indices)?, distances: unsorted(found.distances)? })
}

/// The rows of n around which cells are formed.
fn pivots(n: usize) -> Vec<usize> {
    sample(n, n.isqrt(), 0)
}

/// The pivot nearest to each of `asked`, and the squared distance to it; the first and infinity for what is not at a finite
/// distance from any.
fn nearest_pivots(asked: &Tensor, pivots: &Tensor, control: &mut Control) -> Result<(Vec<usize>, Vec<f32>)> {
    let nobody = Tensor::f_full([asked.size()[0]], -1, (Kind::Int64, Device::Cpu))?;
    let found = ask(&Cells::single(pivots)?, asked, None, &nobody, 1, control)?;
    let nearest: Vec<i64> = values_of(&found.indices)?;
    Ok((nearest.iter().map(|&pivot| usize::try_from(pivot).unwrap_or(0)).collect(), values_of(&found.distances)?))
}

/// The candidates in `cells` nearest to each of `queries` in this `order`; `own` is in that order too.
fn ask(
    cells: &Cells,
    queries: &Tensor,
    order: Option<&Tensor>,
    own: &Tensor,
    k: i64,
    control: &mut Control,
) -> Result<Neighbours> {
    in_blocks(queries.size()[0], k, BLOCK, control, |start, count, indices, distances| {
        let block = |of: &Tensor| of.f_narrow(0, start, count);
        let asked = match order {
            Some(order) => queries.f_index_select(0, &block(order)?)?,
            None => block(queries)?,
        };
        cells.nearest(&asked, &block(own)?, indices, distances)
    })
}

/// In tensor operations, for a GPU: every query is compared with every row.
fn by_products(queries: Option<&Tensor>, rows: &Tensor, k: i64, control: &mut Control) -> Result<Neighbours> {
    // Products of rows around 0, without TF32, cancel least.
    let _exact = precision::without_tf32()?;
    let middle = rows.f_mean_dim(0, true, Kind::Float)?;
    let (asked, columns) = (queries.unwrap_or(rows).f_sub(&middle)?, rows.f_sub(&middle)?.f_tr()?.f_contiguous()?);
    let block = (BLOCK_VALUES / rows.size()[0].max(1)).clamp(1, BLOCK);
    in_blocks(asked.size()[0], k, block, control, |start, count, indices, distances| {
        let first = queries.is_none().then_some(start);
        block_by_products(&asked.f_narrow(0, start, count)?, &columns, first, indices, distances)
    })
}

/// What `find` writes for every `block` of q queries: it gets the first of them, how many they are, and their part of the result.
/// Processes that work together divide the queries.
fn in_blocks(
    q: i64,
    k: i64,
    block: i64,
    control: &mut Control,
    find: impl Fn(i64, i64, &Tensor, &Tensor) -> Result<()>,
) -> Result<Neighbours> {
    let found = Neighbours {
        indices: Tensor::f_empty([q, k], (Kind::Int64, Device::Cpu))?,
        distances: Tensor::f_empty([q, k], (Kind::Float, Device::Cpu))?,
    };
    let share = control.ranks().share(q);
    let part = || {
        for start in share.clone().step_by(block as usize) {
            control.check()?;
            let count = block.min(share.end - start);
            find(start, count, &found.indices.f_narrow(0, start, count)?, &found.distances.f_narrow(0, start, count)?)?;
        }
        Ok(())
    };
    control.divided(part())?;
    control.ranks().gather(&found.indices)?;
    control.ranks().gather(&found.distances)?;
    Ok(found)
}

/// ‖x‖² − 2 x·y + ‖y‖² finds the neighbours, differences their distances.
fn block_by_products(
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
    use crate::control::Stop;

    fn all(queries: Option<&Tensor>, rows: &Tensor, k: i64) -> (Vec<i64>, Vec<f32>) {
        let found = neighbours(queries, rows, k, &mut Control::ignored()).unwrap();
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

    /// Every row compared with every row.
    fn in_one_cell(queries: &Tensor, rows: &Tensor, own: &Tensor, k: i64) -> (Vec<i64>, Vec<f32>) {
        let found = ask(&Cells::single(rows).unwrap(), queries, None, own, k, &mut Control::ignored()).unwrap();
        (values_of(&found.indices).unwrap(), values_of(&found.distances).unwrap())
    }

    fn assert_the_same_in_cells(rows: &Tensor, queries: &Tensor, what: &str) {
        let numbers = |count: i64| Tensor::arange(count, (Kind::Int64, Device::Cpu));
        // Not `assert_eq`, which would print them all.
        assert!(all(None, rows, 15) == in_one_cell(rows, rows, &numbers(rows.size()[0]), 15), "{what}");
        let none = numbers(queries.size()[0]).full_like(-1);
        assert!(all(Some(queries), rows, 3) == in_one_cell(queries, rows, &none, 3), "{what}, queries");
    }

    #[test]
    fn of_many_rows_in_cells_they_are_the_same() {
        let options = (Kind::Float, Device::Cpu);
        let n = FEW as i64 + 500;
        for m in [1, 10, 60] {
            tch::manual_seed(m);
            let rows = Tensor::randn([n, m], options) + Tensor::randint(9, [n, 1], options) * 4.0;
            let queries = Tensor::rand([100, m], options) * 50.0 - 5.0;
            // Squares that overflow, or of which nothing is left; rows that the origin is far from; whole numbers: many ties.
            for (scale, shift) in [(1.0, 0.0), (2e18, 0.0), (5e17, 0.0), (1e-22, 0.0), (1e-20, 0.0), (1.0, 1e5)] {
                let moved = |x: &Tensor| x * scale + shift;
                assert_the_same_in_cells(
                    &moved(&rows),
                    &moved(&queries),
                    &format!("{m} values times {scale} + {shift}"),
                );
            }
            assert_the_same_in_cells(&rows.round(), &queries.round(), &format!("{m} whole values"));
        }
    }

    #[test]
    fn many_rows_that_are_alike_or_infinite_are_no_trouble() {
        let n = FEW as i64;
        let same = Tensor::ones([n, 3], (Kind::Float, Device::Cpu));
        let (indices, distances) = all(None, &same, 2);
        assert_eq!((&indices[..6], distances.iter().sum::<f32>()), (&[1, 2, 0, 2, 0, 1][..], 0.0));
        for (row, value) in [(5, f64::INFINITY), (pivots(n as usize)[0] as i64, f64::NAN)] {
            let _ = same.get(row).fill_(value);
        }
        let (indices, _) = all(None, &same, 2);
        assert_eq!(indices[10..12], [-1, -1], "an infinite row has no neighbours");
        assert!(indices.iter().filter(|&&j| j == -1).count() == 4 && !indices.contains(&5), "and is nobody's");
        assert_the_same_in_cells(&same, &same.narrow(0, 0, 50), "not all numbers");
    }

    #[test]
    fn cells_that_are_too_far_are_passed_over() {
        // Two cells, of which the second is said to be smaller than it is: its candidate at 5 is not looked for.
        let column = |values: &[f32]| Tensor::from_slice(values).view([-1, 1]);
        let (candidates, pivots, none) = (column(&[0.0, 9.0, 5.0]), column(&[0.0, 9.0]), Tensor::from_slice(&[-1i64]));
        for (radius, expected) in [(4.0, 2), (0.5, 0)] {
            let cells = Cells::new(&candidates, &pivots, &[0, 1, 1], &[0.0, radius]).unwrap();
            let found = ask(&cells, &column(&[4.0]), None, &none, 1, &mut Control::ignored()).unwrap();
            assert_eq!(found.indices.int64_value(&[0, 0]), expected, "{radius}");
        }
    }

    #[test]
    fn products_find_the_same() {
        tch::manual_seed(2);
        let rows = Tensor::randn([500, 10], (Kind::Float, Device::Cpu));
        let (indices, distances) = all(None, &rows, 9);
        let found = by_products(None, &rows, 9, &mut Control::ignored()).unwrap();
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
        assert!(neighbours(None, &few, 5, &mut Control::ignored()).is_err());
        let stopped = neighbours(None, &rows, 5, &mut Control::new(&mut Stop));
        assert!(matches!(stopped, Err(crate::Error::Interrupted)));
    }
}
