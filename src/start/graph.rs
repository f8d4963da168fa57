//! The graph of nearest neighbours with self-tuning weights (Zelnik-Manor & Perona 2004):
//! w_ij = exp(−‖x_i − x_j‖² / (σ_i σ_j)) where j is among the neighbours of i or i among those of j, σ_i the distance from x_i
//! to its 7th neighbour. It is symmetric, and every row has an edge.

use tch::Tensor;

use super::neighbours::{neighbours, Neighbours};
use crate::backend::graph::Sparse;
use crate::control::Control;
use crate::data::values_of;
use crate::error::{Error, Result};

/// The neighbour whose distance is a row's scale, counted from 1.
const SCALE_NEIGHBOUR: usize = 7;
/// The exponent of an edge at most: a weight of 0 would leave outliers without an edge.
const FARTHEST: f64 = 30.0;

/// A symmetric weighted graph over rows.
#[derive(Debug)]
pub struct NeighbourGraph {
    /// Where each row's edges begin, and where the last one's end.
    starts: Vec<i64>,
    columns: Vec<i32>,
    weights: Vec<f32>,
    degrees: Vec<f64>,
}

impl NeighbourGraph {
    /// The graph of the `k` nearest neighbours of `rows` \[n, m\] (of all others, where there are not so many).
    ///
    /// # Errors
    /// Fewer than two rows or more than 2³¹ − 1, distances that are not finite, [`crate::Error::Interrupted`], or a libtorch
    /// failure.
    pub fn new(rows: &Tensor, k: i64, control: &mut Control) -> Result<Self> {
        let n = rows.size2()?.0;
        if !(2..=i64::from(i32::MAX)).contains(&n) {
            return Err(Error::Rows(format!("{n} rows have no graph of neighbours")));
        }
        Ok(Self::of_edges(edges(&neighbours(None, rows, k.clamp(1, n - 1), control)?)?))
    }

    /// Both graphs in one, over the same rows: weights add up.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let both = |row| {
            let edges = self.edges(row).chain(other.edges(row));
            let mut edges: Vec<_> = edges.map(|(column, weight)| (column as i32, weight)).collect();
            edges.sort_by_key(|&(column, _)| column);
            edges.dedup_by(|second, first| {
                let same = first.0 == second.0;
                if same {
                    first.1 += second.1;
                }
                same
            });
            edges
        };
        Self::of_edges((0..self.n_rows().min(other.n_rows())).map(both))
    }

    /// Of each row's edges, by ascending column.
    fn of_edges(rows: impl IntoIterator<Item = Vec<(i32, f32)>>) -> Self {
        let mut graph = Self { starts: vec![0], columns: Vec::new(), weights: Vec::new(), degrees: Vec::new() };
        for row in rows {
            graph.columns.extend(row.iter().map(|&(column, _)| column));
            graph.weights.extend(row.iter().map(|&(_, weight)| weight));
            graph.degrees.push(row.iter().map(|&(_, weight)| f64::from(weight)).sum());
            graph.starts.push(graph.columns.len() as i64);
        }
        graph
    }

    /// n.
    pub fn n_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The edges of a row: the rows at their other ends, and their weights.
    pub fn edges(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let range = self.starts[row] as usize..self.starts[row + 1] as usize;
        range.map(|e| (self.columns[e] as usize, self.weights[e]))
    }

    /// The sum of a row's weights; above 0.
    pub fn degree(&self, row: usize) -> f64 {
        self.degrees[row]
    }

    /// The share of rows whose scale is not that of the 7th neighbour, since seven or more rows are the same as they.
    pub fn ties(&self) -> f64 {
        let doubles = |row: usize| self.edges(row).filter(|&(_, weight)| weight >= 1.0).count();
        let tied = (0..self.n_rows()).filter(|&row| doubles(row) >= SCALE_NEIGHBOUR).count();
        tied as f64 / self.n_rows().max(1) as f64
    }

    /// D^−1/2 W D^−1/2, whose eigenvalues lie in \[−1, 1\]: one minus those of the normalised Laplacian.
    ///
    /// # Errors
    /// A libtorch failure (out of memory, say).
    pub fn normalised(&self) -> Result<Sparse> {
        let roots: Vec<f64> = (0..self.n_rows()).map(|row| self.degree(row).sqrt()).collect();
        let mut weights = Vec::with_capacity(self.weights.len());
        for row in 0..self.n_rows() {
            weights.extend(self.edges(row).map(|(j, weight)| (f64::from(weight) / (roots[row] * roots[j])) as f32));
        }
        Sparse::new(&self.starts, &self.columns, &weights)
    }
}

/// The edges of every row, by ascending column: both directions of each.
fn edges(found: &Neighbours) -> Result<Vec<Vec<(i32, f32)>>> {
    let (n, k) = found.indices.size2()?;
    let (n, k) = (n as usize, k as usize);
    let indices: Vec<i64> = values_of(&found.indices)?;
    let distances: Vec<f32> = values_of(&found.distances)?;
    if indices.iter().any(|&j| j < 0) {
        return Err(Error::Rows("distances between rows are not finite".to_owned()));
    }
    let scales = scales(&distances, n, k);

    // Both directions of every edge; an edge that both ends name comes twice and is kept once.
    let mut edges: Vec<Vec<(i32, f32)>> = vec![Vec::with_capacity(2 * k); n];
    for i in 0..n {
        for (&j, &squared) in indices[i * k..(i + 1) * k].iter().zip(&distances[i * k..(i + 1) * k]) {
            let j = j as usize;
            let far = f64::from(squared) / (scales[i] * scales[j]);
            let weight = (-far.min(FARTHEST)).exp() as f32;
            edges[i].push((j as i32, weight));
            edges[j].push((i as i32, weight));
        }
    }
    for row in &mut edges {
        row.sort_unstable_by_key(|&(column, _)| column);
        row.dedup_by_key(|&mut (column, _)| column);
    }
    Ok(edges)
}

/// Each row's scale: the distance to its 7th neighbour; where seven are duplicates of it, that to the first that is none, and
/// where there is no such neighbour either, the mean of the other rows' scales.
fn scales(distances: &[f32], n: usize, k: usize) -> Vec<f64> {
    let own = |row: &[f32]| {
        let from_seventh = &row[SCALE_NEIGHBOUR.min(k) - 1..];
        from_seventh.iter().find(|&&d| d > 0.0).map(|&d| f64::from(d).sqrt())
    };
    let found: Vec<Option<f64>> = distances.chunks_exact(k).map(own).collect();
    let known: Vec<f64> = found.iter().copied().flatten().collect();
    let mean = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
    debug_assert_eq!(found.len(), n);
    found.into_iter().map(|scale| scale.unwrap_or(mean)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Kind};

    fn graph(rows: &Tensor, k: i64) -> NeighbourGraph {
        NeighbourGraph::new(rows, k, &mut Control::ignored()).unwrap()
    }

    #[test]
    fn weights_are_symmetric_and_those_of_the_formula() {
        tch::manual_seed(1);
        let rows = Tensor::randn([60, 3], (Kind::Double, Device::Cpu)).to_kind(Kind::Float);
        let graph = graph(&rows, 9);
        let far = |i, j| (rows.get(i) - rows.get(j)).square().sum(Kind::Double).double_value(&[]);
        let far: Vec<Vec<f64>> = (0..60).map(|i| (0..60).map(|j| far(i, j)).collect()).collect();
        let nearest = |i: usize| {
            let mut order: Vec<usize> = (0..60).filter(|&j| j != i).collect();
            order.sort_by(|&a, &b| far[i][a].total_cmp(&far[i][b]));
            order
        };
        let nearest: Vec<Vec<usize>> = (0..60).map(nearest).collect();
        let scale = |i: usize| far[i][nearest[i][6]].sqrt();
        let mut edges = 0;
        for i in 0..60 {
            for j in 0..60 {
                let weight = graph.edges(i).find(|&(column, _)| column == j).map(|(_, weight)| f64::from(weight));
                let joined = i != j && (nearest[i][..9].contains(&j) || nearest[j][..9].contains(&i));
                let expected = joined.then(|| (-far[i][j] / (scale(i) * scale(j))).exp());
                match (weight, expected) {
                    (Some(weight), Some(expected)) => assert!((weight - expected).abs() < 1e-5, "{i} {j}"),
                    (None, None) => {}
                    other => panic!("{i} {j}: {other:?}"),
                }
                edges += usize::from(joined);
            }
        }
        assert_eq!(graph.columns.len(), edges);
    }

    #[test]
    fn two_graphs_add_up() {
        tch::manual_seed(2);
        let options = (Kind::Float, Device::Cpu);
        let (first, second) = (Tensor::randn([40, 2], options), Tensor::randn([40, 3], options));
        let (first, second) = (graph(&first, 5), graph(&second, 5));
        let both = first.plus(&second);
        let weight = |graph: &NeighbourGraph, i, j| {
            graph.edges(i).filter(|&(column, _)| column == j).map(|(_, weight)| f64::from(weight)).sum::<f64>()
        };
        for i in 0..40 {
            for j in 0..40 {
                let sum = weight(&first, i, j) + weight(&second, i, j);
                assert!((weight(&both, i, j) - sum).abs() < 1e-6, "{i} {j}");
            }
            assert!((both.degree(i) - first.degree(i) - second.degree(i)).abs() < 1e-5);
            assert!(both.edges(i).map(|(j, _)| j).is_sorted_by(|a, b| a < b), "each column once, ascending");
        }
    }

    #[test]
    fn duplicates_and_few_rows_make_a_graph() {
        let same = Tensor::ones([20, 2], (Kind::Float, Device::Cpu));
        let all_same = graph(&same, 15);
        assert!((0..20).all(|row| all_same.edges(row).all(|(_, weight)| weight == 1.0)));
        assert_eq!(all_same.ties(), 1.0);
        let two = graph(&Tensor::from_slice(&[0.0f32, 5.0]).view([2, 1]), 15);
        assert_eq!(two.edges(0).map(|(j, _)| j).collect::<Vec<_>>(), [1]);
        let outlier = Tensor::cat(&[same * 0.5, Tensor::full([1, 2], 1e9, (Kind::Float, Device::Cpu))], 0);
        assert!(graph(&outlier, 5).degree(20) > 0.0);
        assert_eq!(graph(&outlier, 15).ties(), 20.0 / 21.0);
    }
}
