//! The leading eigenvectors of a sparse symmetric matrix whose spectrum lies in \[−1, 1\].
//!
//! Chebyshev-filtered subspace iteration (Zhou & Saad 2007): a block of vectors is multiplied with a Chebyshev polynomial of
//! the matrix, which is small on \[−1, a\] and grows fast above a, the least of the block's Ritz values; then orthonormalised and
//! rotated to Ritz vectors. The wanted eigenvalues of a neighbour graph crowd below 1, and 1 itself comes once for every
//! component: a block takes them all at once, where a Lanczos process of single vectors finds one copy of each, and it needs
//! no more memory than three blocks.

use rand::Rng;
use rand_xoshiro::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{no_grad, Device, Kind, Tensor};

use crate::backend::graph::Sparse;
use crate::control::Control;
use crate::data::values_of;
use crate::error::Result;

/// Matrices up to this size are decomposed as dense ones.
const DENSE: i64 = 400;
/// Degree of the polynomial at most.
const DEGREE: f64 = 40.0;
/// How much an eigenvalue may be amplified in one go: float32's precision leaves nothing beyond it of the others.
const AMPLIFICATION: f64 = 1e6;
/// ‖A v − λ v‖ at which a vector is good enough: clusters are told apart by entries that differ in their first digit.
const TOLERANCE: f64 = 1e-3;
const MAX_ITERATIONS: usize = 40;
/// Values of 4 bytes.
const CACHE_LINE: i64 = 16;

/// Eigenvalues, the largest first, and their eigenvectors.
#[derive(Debug)]
pub struct Eigen {
    /// m of them.
    pub values: Vec<f64>,
    /// Of length 1: float32 \[n, m\] on the CPU.
    pub vectors: Tensor,
}

/// The `m` leading eigenvectors of `matrix`; `seed` chooses where the iteration starts.
///
/// # Errors
/// [`crate::Error::Interrupted`], or a libtorch failure (more eigenvectors than rows, memory).
pub fn leading_eigenvectors(matrix: &Sparse, m: i64, seed: u64, control: &mut Control) -> Result<Eigen> {
    no_grad(|| {
        let n = matrix.n();
        if n <= DENSE || 2 * m >= n {
            let identity = Tensor::f_eye(n, (Kind::Float, Device::Cpu))?;
            let dense = identity.f_zeros_like()?;
            matrix.multiply(&identity, &dense)?;
            let (values, vectors) = dense.f_linalg_eigh("L")?;
            return eigen(&values.f_flip([0])?, &vectors.f_flip([1])?, m);
        }
        // A few more than are wanted, and whole cache lines: a product reads rows of the block from all over it.
        let width = ((m + (m / 4).max(8) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE).min(n);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let start: Vec<f32> = (0..n * width).map(|_| rng.gen_range(-1.0..1.0)).collect();
        let mut block = orthonormal(&Tensor::f_from_slice(&start)?.f_view([n, width])?)?;
        let image = block.f_zeros_like()?;
        let mut above = 0.0; // where the wanted eigenvalues begin, at first a guess
        for iteration in 1.. {
            block = orthonormal(&filtered(matrix, block, above, control)?)?;
            matrix.multiply(&block, &image)?;
            let product = block.f_tr()?.f_matmul(&image)?;
            let (values, rotation) = product.f_add(&product.f_tr()?)?.f_mul_scalar(0.5)?.f_linalg_eigh("L")?;
            let (values, rotation) = (values.f_flip([0])?, rotation.f_flip([1])?);
            block = block.f_matmul(&rotation)?;
            let residuals = image.f_matmul(&rotation)?.f_sub(&block.f_mul(&values)?)?;
            let wanted = residuals.f_narrow(1, 0, m)?.f_square()?.f_sum_dim_intlist(0, false, Kind::Double)?;
            let worst = f64::try_from(wanted.f_max()?)?.sqrt();
            if worst < TOLERANCE || iteration == MAX_ITERATIONS {
                if worst >= TOLERANCE {
                    tracing::debug!("eigenvectors: a residual of {worst:.1e} after {iteration} iterations");
                }
                return eigen(&values, &block, m);
            }
            let least = values.f_double_value(&[width - 1])?;
            above = least.clamp(-0.9, 0.9999);
        }
        unreachable!("the loop above has no end of its own")
    })
}

/// The first `m` of them.
fn eigen(values: &Tensor, vectors: &Tensor, m: i64) -> Result<Eigen> {
    let values: Vec<f64> = values_of(&values.f_narrow(0, 0, m)?.f_to_kind(Kind::Double)?)?;
    Ok(Eigen { values, vectors: vectors.f_narrow(1, 0, m)?.f_contiguous()? })
}

/// An orthonormal basis of the columns.
pub(super) fn orthonormal(block: &Tensor) -> Result<Tensor> {
    let (q, _) = Tensor::f_linalg_qr(block, "reduced")?;
    Ok(q.f_contiguous()?)
}

/// T_d((A − c) / e) applied to `block`, where c and e are the middle and half the length of \[−1, `above`\].
fn filtered(matrix: &Sparse, block: Tensor, above: f64, control: &mut Control) -> Result<Tensor> {
    let (half, middle) = ((above + 1.0) / 2.0, (above - 1.0) / 2.0);
    let growth = ((1.0 - middle) / half).acosh(); // of the eigenvalue 1, a degree
    let degree = (AMPLIFICATION.ln() / growth).clamp(2.0, DEGREE) as usize;
    // y₁ = (A − c) x / e, y₂ = 2 (A − c) y₁ / e − x, …
    let mut before = block;
    let mut now = before.f_empty_like()?;
    matrix.combine(&before, &now, 1.0 / half, -middle / half, 0.0)?;
    for _ in 1..degree {
        control.check()?;
        matrix.combine(&now, &before, 2.0 / half, -2.0 * middle / half, -1.0)?;
        std::mem::swap(&mut now, &mut before);
    }
    Ok(now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::start::NeighbourGraph;

    /// Blobs, some of them too far from the others for an edge.
    fn matrix(n: i64) -> Sparse {
        tch::manual_seed(4);
        let rows = Tensor::randn([n, 4], (Kind::Float, Device::Cpu));
        let shift = Tensor::randint(5, [n, 1], (Kind::Float, Device::Cpu)) * 3.0;
        NeighbourGraph::new(&(rows + shift), 10, &mut Control::ignored()).unwrap().normalised().unwrap()
    }

    #[test]
    fn they_are_those_of_the_dense_matrix() {
        for n in [30, 399, 1200] {
            let matrix = matrix(n);
            let identity = Tensor::eye(n, (Kind::Float, Device::Cpu));
            let dense = identity.zeros_like();
            matrix.multiply(&identity, &dense).unwrap();
            let (values, vectors) = dense.to_kind(Kind::Double).linalg_eigh("L");
            let m = 12;
            let found = leading_eigenvectors(&matrix, m, 1, &mut Control::ignored()).unwrap();
            let expected: Vec<f64> = values_of(&values.flip([0]).narrow(0, 0, m)).unwrap();
            for (found, expected) in found.values.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{n}: {found} {expected}");
            }
            // The space that they span, up to the last whole cluster of eigenvalues: principal angles of 0.
            let gap = (4..m as usize)
                .max_by(|&a, &b| (expected[a - 1] - expected[a]).total_cmp(&(expected[b - 1] - expected[b])));
            let kept = gap.unwrap() as i64;
            let exact = vectors.flip([1]).narrow(1, 0, kept);
            let overlap = exact.tr().matmul(&found.vectors.narrow(1, 0, kept).to_kind(Kind::Double));
            let squared_cosines = overlap.tr().matmul(&overlap).linalg_eigvalsh("L");
            let least = squared_cosines.min().double_value(&[]);
            assert!(least > 0.999, "{n}: {least}");
        }
    }

    #[test]
    fn a_combination_is_that_of_the_dense_matrix() {
        let matrix = matrix(90);
        let options = (Kind::Float, Device::Cpu);
        let dense = Tensor::zeros([90, 90], options);
        matrix.multiply(&Tensor::eye(90, options), &dense).unwrap();
        for width in [1, 7, 40, 64, 150] {
            let (x, y) = (Tensor::randn([90, width], options), Tensor::randn([90, width], options));
            let close = |found: &Tensor, expected: Tensor| found.allclose(&expected, 1e-5, 1e-6, false);
            let found = y.copy();
            matrix.combine(&x, &found, 1.7, -0.3, -1.0).unwrap();
            assert!(close(&found, dense.matmul(&x) * 1.7 - &x * 0.3 - &y), "{width}");
            let unread = Tensor::full([90, width], f64::NAN, options);
            matrix.combine(&x, &unread, -0.6, 2.0, 0.0).unwrap();
            assert!(close(&unread, dense.matmul(&x) * -0.6 + &x * 2.0), "{width}");
        }
    }

    #[test]
    fn components_are_found_each() {
        // Three cliques far apart: the eigenvalue 1 three times.
        let rows = Tensor::cat(
            &(0..3)
                .map(|c| Tensor::randn([300, 2], (Kind::Float, Device::Cpu)) + 1e4 * f64::from(c))
                .collect::<Vec<_>>(),
            0,
        );
        let graph = NeighbourGraph::new(&rows, 10, &mut Control::ignored()).unwrap();
        let found = leading_eigenvectors(&graph.normalised().unwrap(), 5, 0, &mut Control::ignored()).unwrap();
        assert!(found.values[..3].iter().all(|value| (value - 1.0).abs() < 1e-5), "{:?}", found.values);
        assert!(found.values[3] < 0.9999, "{:?}", found.values);
    }
}
