//! A two-dimensional map of rows from their nearest neighbours: UMAP (McInnes, Healy & Melville 2018, arXiv:1802.03426).
//!
//! 1. Each row's distances become memberships w = exp(−max(0, d − ρ) / σ): ρ is the distance to the nearest neighbour, and
//!    σ makes the memberships of a row sum to log₂(neighbours + 1). Row and neighbour are then joined by w + wᵀ − w·wᵀ.
//! 2. Rows that are joined attract each other on the map, in proportion to their membership; each meeting also pushes the row
//!    away from a few rows drawn at random. On the map, two points at distance d belong together by 1 / (1 + a·d^2b).
//!
//! The layout is the same, bit for bit, for the same input and seed: it runs on one thread, and its random numbers, logarithms
//! and powers are its own.
//!
//! Where this differs from the Python package umap-learn: the forces of a meeting are all taken from where the row was
//! before it; powers have a relative error of up to 10⁻⁴; the start is given, or drawn from the seed.
//!
//! ```
//! use dec::umap::{layout, Neighbours, UmapSettings};
//! // Four rows: 0 and 1 are close, 2 and 3 are close.
//! let indices = [1, 2, 0, 3, 3, 0, 2, 1];
//! let distances = [0.1, 5.0, 0.1, 5.0, 0.1, 5.0, 0.1, 5.0];
//! let neighbours = Neighbours::new(4, 2, &indices, &distances)?;
//! let map = layout(&neighbours, None, &UmapSettings::default())?;
//! assert_eq!(map.len(), 4);
//! # Ok::<(), dec::umap::UmapError>(())
//! ```

mod curve;
mod descent;
mod graph;
#[cfg(test)]
mod tests;

use crate::data::hash;
pub use curve::fit_curve;
use descent::Descent;

/// How a layout is made.
#[derive(Debug, Clone, PartialEq)]
pub struct UmapSettings {
    /// Smallest distance between points on the map, 0 to `spread`. Default 0.1.
    pub min_dist: f64,
    /// Scale of the map, above 0. Default 1.
    pub spread: f64,
    /// Epochs, at least 1. Default: none, which is 500 up to 10,000 rows and 200 beyond.
    pub epochs: Option<usize>,
    /// Random rows that push a row away at each meeting, 0 to 7. Default 5.
    pub negatives: usize,
    /// Seed of the start (where none is given) and of the random rows. Default 0.
    pub seed: u64,
}

impl Default for UmapSettings {
    fn default() -> Self {
        Self { min_dist: 0.1, spread: 1.0, epochs: None, negatives: 5, seed: 0 }
    }
}

/// Why there is no layout.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UmapError {
    /// Arrays whose lengths do not fit each other.
    #[error("{what}: {found} values, where [{n}, {width}] has {expected}")]
    Shape {
        /// The array.
        what: &'static str,
        /// Values in it.
        found: usize,
        /// Rows.
        n: usize,
        /// Values a row.
        width: usize,
        /// Values there should be.
        expected: usize,
    },
    /// A neighbour that is not a row.
    #[error("row {row} has the neighbour {neighbour}, and there are {n} rows")]
    Neighbour {
        /// The row.
        row: usize,
        /// Its neighbour's number.
        neighbour: u32,
        /// Rows.
        n: usize,
    },
    /// A setting outside its range.
    #[error("umap {name}: {value} is not {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it was.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// The caller stopped it.
    #[error("the layout was stopped")]
    Stopped,
}

/// Each row's nearest neighbours.
#[derive(Debug, Clone, Copy)]
pub struct Neighbours<'a> {
    n: usize,
    width: usize,
    indices: &'a [u32],
    distances: &'a [f32],
}

impl<'a> Neighbours<'a> {
    /// `n` rows with `width` neighbours each: `indices` and `distances` are \[n, width\], row after row, in any order within a
    /// row. A row that names itself, and a distance that is not finite, are left out.
    ///
    /// # Errors
    /// [`UmapError::Shape`] or [`UmapError::Neighbour`].
    pub fn new(n: usize, width: usize, indices: &'a [u32], distances: &'a [f32]) -> Result<Self, UmapError> {
        check_shape("indices", indices.len(), n, width)?;
        check_shape("distances", distances.len(), n, width)?;
        if let Some(place) = indices.iter().position(|&neighbour| neighbour as usize >= n) {
            return Err(UmapError::Neighbour { row: place / width.max(1), neighbour: indices[place], n });
        }
        Ok(Self { n, width, indices, distances })
    }
}

fn check_shape(what: &'static str, found: usize, n: usize, width: usize) -> Result<(), UmapError> {
    let expected = n.saturating_mul(width);
    match found == expected {
        true => Ok(()),
        false => Err(UmapError::Shape { what, found, n, width, expected }),
    }
}

/// The map: one point a row. `start` is \[n, 2\], for example two eigenvectors of the graph or two principal components;
/// its scale does not matter. Without it the points start at random, and far groups may then lie anywhere.
///
/// # Errors
/// [`UmapError::Shape`] or [`UmapError::Setting`].
pub fn layout(
    neighbours: &Neighbours<'_>,
    start: Option<&[f32]>,
    settings: &UmapSettings,
) -> Result<Vec<[f32; 2]>, UmapError> {
    layout_while(neighbours, start, settings, |_, _| true)
}

/// [`layout`], which asks `go_on(epoch, epochs)` before each epoch and stops where that is false.
///
/// # Errors
/// Those of [`layout`], and [`UmapError::Stopped`].
pub fn layout_while(
    neighbours: &Neighbours<'_>,
    start: Option<&[f32]>,
    settings: &UmapSettings,
    mut go_on: impl FnMut(usize, usize) -> bool,
) -> Result<Vec<[f32; 2]>, UmapError> {
    check(settings)?;
    let n = neighbours.n;
    if let Some(start) = start {
        check_shape("start", start.len(), n, 2)?;
    }
    let epochs = settings.epochs.unwrap_or(if n <= 10_000 { 500 } else { 200 });
    let points = first_points(n, start, settings.seed);
    let graph = graph::memberships(neighbours);
    let (a, b) = fit_curve(settings.min_dist, settings.spread);
    let mut descent = Descent::new(points, &graph, epochs, (a as f32, b as f32), settings);
    for epoch in 0..epochs {
        if !go_on(epoch, epochs) {
            return Err(UmapError::Stopped);
        }
        descent.epoch(epoch);
    }
    Ok(descent.into_points())
}

fn check(settings: &UmapSettings) -> Result<(), UmapError> {
    let require = |name, value: f64, fits: bool, expected| match fits {
        true => Ok(()),
        false => Err(UmapError::Setting { name, value, expected }),
    };
    let UmapSettings { min_dist, spread, epochs, negatives, .. } = *settings;
    require("spread", spread, spread.is_finite() && spread > 0.0, "a number above 0")?;
    require("min_dist", min_dist, (0.0..=spread).contains(&min_dist), "from 0 to the spread")?;
    require("epochs", epochs.unwrap_or(1) as f64, epochs != Some(0), "at least 1")?;
    require("negatives", negatives as f64, negatives <= descent::TAIL, "from 0 to 7")
}

/// The points before the first epoch: each axis from 0 to 10, with a little noise so that equal rows can part.
fn first_points(n: usize, start: Option<&[f32]>, seed: u64) -> Vec<[f32; 2]> {
    let mut random = Random::new(seed ^ 0x005E_ED0F_57A2);
    let usable = start.filter(|values| values.iter().all(|value| value.is_finite()) && spans(values));
    let Some(values) = usable else {
        return (0..n).map(|_| [10.0 * random.unit(), 10.0 * random.unit()]).collect();
    };
    let ranges = [0, 1].map(|axis| range(values, axis));
    let placed = |value: f32, axis: usize| {
        let (low, high) = ranges[axis];
        let width = f64::from(high) - f64::from(low);
        let share = if width > 0.0 { (f64::from(value) - f64::from(low)) / width } else { 0.5 };
        10.0 * share as f32
    };
    let mut noise = || (random.unit() - 0.5) * 2e-3;
    values.chunks_exact(2).map(|point| [placed(point[0], 0) + noise(), placed(point[1], 1) + noise()]).collect()
}

fn range(values: &[f32], axis: usize) -> (f32, f32) {
    let along = values.iter().skip(axis).step_by(2);
    along.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)))
}

/// Whether the points differ at all.
fn spans(values: &[f32]) -> bool {
    [0, 1].into_iter().any(|axis| range(values, axis).1 > range(values, axis).0)
}

/// SplitMix64 (Steele, Lea & Flood 2014): a fixed stream for each seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        hash(self.0)
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}
