//! Safe wrappers of `graph.cpp`: exact nearest neighbours, and sparse times dense.
#![allow(unsafe_code)]

use std::ffi::c_char;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::dense::{on_cpu, plain, require};
use super::shim::check;
use crate::error::Result;

extern "C" {
    fn dec_graph_neighbours(
        queries: *const C_tensor,
        own: *const C_tensor,
        pivots: *const C_tensor,
        radii: *const C_tensor,
        starts: *const C_tensor,
        columns: *const C_tensor,
        numbers: *const C_tensor,
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

/// A cell's columns are a multiple of this, `kGroup` in graph.cpp, which checks it.
const GROUP: usize = 32;

/// Candidates for neighbours in cells around pivots: whole cells are passed over that are too far from a query.
#[derive(Debug)]
pub struct Cells {
    pivots: Tensor,
    radii: Tensor,
    starts: Tensor,
    columns: Tensor,
    numbers: Tensor,
}

impl Cells {
    /// `candidates` \[n, m\] in the cells of `pivots` \[c, m\]: `cell` names the nearest pivot of each, by the distances that
    /// [`Cells::nearest`] computes, and `radii` how far those of a cell are from its pivot at most, by the same; infinite where
    /// that is not known.
    ///
    /// # Errors
    /// Shapes that do not fit each other, cells that are none, tensors off the CPU.
    pub fn new(candidates: &Tensor, pivots: &Tensor, cell: &[usize], radii: &[f32]) -> Result<Self> {
        let ((n, m), (c, _)) = (candidates.size2()?, pivots.size2()?);
        plain(candidates, &[n, m], Kind::Float)?;
        plain(pivots, &[c, m], Kind::Float)?;
        require(on_cpu(&[candidates, pivots]), || "neighbours off the CPU".to_owned())?;
        let fits = cell.len() as i64 == n && radii.len() as i64 == c && cell.iter().all(|&cell| cell < radii.len());
        require(fits && m >= 1 && c >= 1, || format!("{n} candidates in {c} cells"))?;

        let mut of_cell = vec![Vec::new(); radii.len()];
        for (candidate, &cell) in cell.iter().enumerate() {
            of_cell[cell].push(candidate as i64);
        }
        let (mut starts, mut numbers) = (vec![0], Vec::new());
        for members in &of_cell {
            numbers.extend(members);
            numbers.resize(numbers.len().next_multiple_of(GROUP), i64::MAX);
            starts.push(numbers.len() as i64);
        }
        // What fills a cell up is infinitely far away.
        let nowhere = Tensor::f_full([1, m], f64::INFINITY, (Kind::Float, Device::Cpu))?;
        let rows: Vec<i64> = numbers.iter().map(|&number| number.min(n)).collect();
        let columns = Tensor::f_cat(&[candidates, &nowhere], 0)?.f_index_select(0, &Tensor::f_from_slice(&rows)?)?;
        Ok(Self {
            pivots: pivots.f_t_copy()?, // nobody else's, whatever its shape
            radii: Tensor::f_from_slice(radii)?,
            starts: Tensor::f_from_slice(&starts)?,
            columns: columns.f_tr()?.f_contiguous()?,
            numbers: Tensor::f_from_slice(&numbers)?,
        })
    }

    /// All of `candidates` \[n, m\] in one cell, of which nothing is known: every query is compared with each.
    ///
    /// # Errors
    /// No candidates, a tensor off the CPU.
    pub fn single(candidates: &Tensor) -> Result<Self> {
        let first = candidates.f_narrow(0, 0, 1)?;
        Self::new(candidates, &first, &vec![0; candidates.size()[0] as usize], &[f32::INFINITY])
    }

    /// The candidates nearest to each of `queries` \[q, m\]: their numbers into `indices` (int64 \[q, k\]), nearest first and the
    /// lower number first among equals, the squared distances into `distances` \[q, k\]; -1 where there are no more at a
    /// finite distance. The candidate that `own` (int64 \[q\]) names is left out, -1 for none. All on the CPU. Queries that lie
    /// near each other should follow each other.
    ///
    /// # Errors
    /// Shapes that do not fit each other.
    pub fn nearest(&self, queries: &Tensor, own: &Tensor, indices: &Tensor, distances: &Tensor) -> Result<()> {
        let ((q, m), (_, k)) = (queries.size2()?, indices.size2()?);
        plain(queries, &[q, m], Kind::Float)?;
        plain(own, &[q], Kind::Int64)?;
        plain(indices, &[q, k], Kind::Int64)?;
        plain(distances, &[q, k], Kind::Float)?;
        require(on_cpu(&[queries, own, indices, distances]), || "neighbours off the CPU".to_owned())?;
        require(k >= 1 && m == self.columns.size()[0], || format!("{k} neighbours of rows of {m} values"))?;
        // SAFETY: contiguous CPU tensors of the shapes and kinds that the function takes; the cells' were made in `new` and
        // nobody else has them, `starts` are ascending, multiples of the group, and end at the last column. It writes
        // `indices` and `distances` alone.
        unsafe {
            check(dec_graph_neighbours(
                queries.as_ptr(),
                own.as_ptr(),
                self.pivots.as_ptr(),
                self.radii.as_ptr(),
                self.starts.as_ptr(),
                self.columns.as_ptr(),
                self.numbers.as_ptr(),
                indices.as_ptr(),
                distances.as_ptr(),
            ))
        }
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
