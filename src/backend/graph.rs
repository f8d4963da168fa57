//! Safe wrappers of `graph.cpp`: exact nearest neighbours, and sparse times dense.
#![allow(unsafe_code)]

use std::ffi::c_char;

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use super::dense::{on_cpu, plain, require};
use super::shim::check;
use crate::error::Result;

extern "C" {
    fn dec_graph_neighbours(
        queries: *const C_tensor,
        candidates: *const C_tensor,
        first: i64,
        indices: *const C_tensor,
        distances: *const C_tensor,
    ) -> *mut c_char;
    fn dec_graph_multiply(
        starts: *const C_tensor,
        columns: *const C_tensor,
        weights: *const C_tensor,
        x: *const C_tensor,
        y: *const C_tensor,
        alpha: f32,
        shift: f32,
        keep: f32,
    ) -> *mut c_char;
}

/// The candidates nearest to each of `queries` \[q, m\]: their numbers into `indices` (int64 \[q, k\]), nearest first and the
/// lower number first among equals, the squared distances into `distances` \[q, k\]. `candidates` are transposed, \[m, n\].
/// With `first`, query i is candidate `first` + i and is left out. All on the CPU.
///
/// # Errors
/// Shapes that do not fit each other, fewer candidates than k.
pub fn neighbours(
    queries: &Tensor,
    candidates: &Tensor,
    first: Option<i64>,
    indices: &Tensor,
    distances: &Tensor,
) -> Result<()> {
    let ((q, m), (_, n), (_, k)) = (queries.size2()?, candidates.size2()?, indices.size2()?);
    plain(queries, &[q, m], Kind::Float)?;
    plain(candidates, &[m, n], Kind::Float)?;
    plain(indices, &[q, k], Kind::Int64)?;
    plain(distances, &[q, k], Kind::Float)?;
    require(on_cpu(&[queries, candidates, indices, distances]), || "neighbours off the CPU".to_owned())?;
    let others = n - i64::from(first.is_some());
    require(k >= 1 && k <= others && m >= 1, || format!("{k} neighbours among {others} rows of {m} values"))?;
    require(first.is_none_or(|first| first >= 0 && first + q <= n), || "queries that are no candidates".to_owned())?;
    let first = first.unwrap_or(-1);
    // SAFETY: contiguous CPU tensors of the shapes and kinds that the function takes, k between 1 and the candidates there
    // are; it writes `indices` and `distances` alone.
    unsafe {
        let (queries, candidates) = (queries.as_ptr(), candidates.as_ptr());
        check(dec_graph_neighbours(queries, candidates, first, indices.as_ptr(), distances.as_ptr()))
    }
}

/// A symmetric sparse matrix \[n, n\] in compressed rows.
#[derive(Debug)]
pub struct Sparse {
    starts: Tensor,
    columns: Tensor,
    weights: Tensor,
}

impl Sparse {
    /// From where each row begins (n + 1 numbers) and the column and the weight of each entry.
    ///
    /// # Errors
    /// Rows or columns that do not fit the matrix.
    pub fn new(starts: &[i64], columns: &[i32], weights: &[f32]) -> Result<Self> {
        let n = starts.len().saturating_sub(1);
        let right = starts.first() == Some(&0)
            && starts.windows(2).all(|pair| pair[0] <= pair[1])
            && starts.last().is_some_and(|&last| last as usize == columns.len())
            && columns.len() == weights.len()
            && columns.iter().all(|&column| usize::try_from(column).is_ok_and(|column| column < n));
        require(right, || format!("a sparse matrix of {n} rows and {} entries", columns.len()))?;
        Ok(Self {
            starts: Tensor::f_from_slice(starts)?,
            columns: Tensor::f_from_slice(columns)?,
            weights: Tensor::f_from_slice(weights)?,
        })
    }

    /// n.
    pub fn n(&self) -> i64 {
        self.starts.size()[0] - 1
    }

    /// `y` ← A `x`, both \[n, width\] on the CPU.
    ///
    /// # Errors
    /// Other shapes.
    pub fn multiply(&self, x: &Tensor, y: &Tensor) -> Result<()> {
        self.combine(x, y, 1.0, 0.0, 0.0)
    }

    /// `y` ← `alpha` · A `x` + `shift` · `x` + `keep` · `y`, both \[n, width\] on the CPU; what `y` held is not read where `keep`
    /// is 0.
    ///
    /// # Errors
    /// Other shapes.
    pub fn combine(&self, x: &Tensor, y: &Tensor, alpha: f64, shift: f64, keep: f64) -> Result<()> {
        let (_, width) = x.size2()?;
        plain(x, &[self.n(), width], Kind::Float)?;
        plain(y, &[self.n(), width], Kind::Float)?;
        require(on_cpu(&[x, y]) && x.data_ptr() != y.data_ptr(), || "a sparse product in place".to_owned())?;
        // SAFETY: contiguous float32 CPU tensors [n, width] that do not overlap; the entries' columns were checked in `new`,
        // and nobody else has the three tensors.
        unsafe {
            let (starts, columns, weights) = (self.starts.as_ptr(), self.columns.as_ptr(), self.weights.as_ptr());
            let (alpha, shift, keep) = (alpha as f32, shift as f32, keep as f32);
            check(dec_graph_multiply(starts, columns, weights, x.as_ptr(), y.as_ptr(), alpha, shift, keep))
        }
    }
}
