//! Data sets: rows to cluster and, where they are known, labels to score with.
//!
//! [`load`] reads what a recipe's `[data]` table names: the built-in digits, MNIST, or a file of the user's own, IDX
//! ([`read_rows`]: raw or gzipped) or NPY. Formats are told apart by their first bytes, never by a file's name. What a
//! header claims is checked against what is there before anything is allocated, so a damaged or hostile file is an
//! error message and not a crash.
//!
//! The rows stay as they were read (`u8` stays `u8`): scaling and shuffling belong to the recipe.

mod array;
mod builtin;
mod cache;
mod checks;
mod element;
mod fetch;
mod fingerprint;
mod header;
mod idx;
mod input;
mod mnist;
mod npy;
mod rows;
mod scale;
mod scaling;
mod shape;

use std::path::Path;

use ndarray::{s, Array2, Axis};

use crate::error::{Error, Result};
use input::Input;

pub use cache::{cache_dir, mnist_dir};
pub use checks::{check_clusterable, check_counts, check_finite};
pub use fetch::{fetch_mnist, FetchProgress, Fetched, Outcome, DEFAULT_MIRRORS};
pub use rows::{array_of, permutation, sample, tensor_of, values_of, Batches, Rows};
pub(crate) use rows::{hash, index_of};
pub use scale::Scale;
pub use scaling::{RowKind, Scaling};
pub use shape::{guess_image, LEAST_SIDE};

/// Rows to cluster, as they were read: unscaled, in the file's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The rows, shape [n_rows, n_features].
    pub features: Features,
    /// A class for each row, in the rows' order; for scoring only. `None` when nobody has labelled them.
    pub labels: Option<Vec<i64>>,
    /// What to call the data in messages and reports: the file's path, or a description of the built-in sets.
    pub name: String,
    /// Height and width in pixels when each row is an image (the file was 3-dimensional), else `None`.
    pub image: Option<[usize; 2]>,
}

/// The values of a [`Dataset`], shape [n_rows, n_features], row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Features {
    /// Bytes, as IDX images and `uint8` NPY files have them: a quarter of the memory of `f32`.
    U8(Array2<u8>),
    /// Everything else, converted to single precision.
    F32(Array2<f32>),
}

impl Features {
    /// The number of rows.
    pub fn n_rows(&self) -> usize {
        match self {
            Self::U8(a) => a.nrows(),
            Self::F32(a) => a.nrows(),
        }
    }

    /// The number of values in a row.
    pub fn n_features(&self) -> usize {
        match self {
            Self::U8(a) => a.ncols(),
            Self::F32(a) => a.ncols(),
        }
    }

    /// A copy of the rows with these indices, in this order; an index may come more than once.
    ///
    /// # Panics
    ///
    /// If an index is not below [`Features::n_rows`].
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::U8(a) => Self::U8(a.select(Axis(0), rows)),
            Self::F32(a) => Self::F32(a.select(Axis(0), rows)),
        }
    }

    /// At most so many of the rows, evenly spread, as float32.
    fn sample(&self, most: usize) -> Array2<f32> {
        let step = self.n_rows().div_ceil(most).max(1);
        match self {
            Self::U8(a) => a.slice(s![..;step, ..]).mapv(f32::from),
            Self::F32(a) => a.slice(s![..;step, ..]).to_owned(),
        }
    }
}

impl Dataset {
    /// The number of rows.
    pub fn n_rows(&self) -> usize {
        self.features.n_rows()
    }

    /// The number of values in a row.
    pub fn n_features(&self) -> usize {
        self.features.n_features()
    }

    /// A copy of the rows with these indices, in this order; the labels follow.
    ///
    /// ```
    /// # fn main() -> Result<(), dec::error::Error> {
    /// use dec::data::{load, Source};
    /// let digits = load(&Source { source: "builtin", dir: None, labels: None })?;
    /// let two = digits.select(&[3, 0]);
    /// assert_eq!((two.n_rows(), two.n_features()), (2, 784));
    /// assert_eq!(two.labels, Some(vec![0, 7]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If an index is not below [`Dataset::n_rows`].
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            features: self.features.select(rows),
            labels: self.labels.as_ref().map(|labels| rows.iter().map(|&row| labels[row]).collect()),
            name: self.name.clone(),
            image: self.image,
        }
    }
}

/// Where rows come from; mirrors a recipe's `[data]` table.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// `builtin` (the 10,000 MNIST test digits), `mnist` (train + test, 70,000 rows), or the path of an IDX or NPY
    /// file. A file that is itself called `mnist` is `./mnist`.
    pub source: &'a str,
    /// For `mnist`: the directory of its four files. Default: [`mnist_dir`], which `dec fetch mnist` fills. The other
    /// sources do not use it.
    pub dir: Option<&'a Path>,
    /// A file with one integer a row; replaces the labels that `builtin` and `mnist` come with. Default: none.
    pub labels: Option<&'a Path>,
}

/// Whether a source is the path of a file, rather than the name of a data set.
pub fn is_path(source: &str) -> bool {
    !matches!(source, "builtin" | "mnist")
}

/// Reads the rows and labels that `source` names, and checks that they fit together and are finite.
///
/// # Errors
///
/// [`Error::Data`] for a file that is missing, damaged, of an unsupported type, or whose labels are not one a row;
/// [`Error::Rows`] for NaN or infinite values.
pub fn load(source: &Source) -> Result<Dataset> {
    let mut dataset = match source.source {
        "builtin" => builtin::load()?,
        "mnist" => mnist::load(source.dir)?,
        path => read_rows(Path::new(path))?,
    };
    if let Some(path) = source.labels {
        let labels = read_labels(path)?;
        if labels.len() != dataset.n_rows() {
            let problem = format!(
                "has {} labels, but {} has {} rows: one label a row is needed, in the rows' order",
                labels.len(),
                dataset.name,
                dataset.n_rows()
            );
            return Err(Error::data(path, problem));
        }
        dataset.labels = Some(labels);
    }
    check_finite(&dataset)?;
    Ok(dataset)
}

/// Reads one file of rows: IDX or NPY, either of them raw or gzipped, told apart by their first bytes.
///
/// `u8` stays `u8`; every other type becomes `f32`: IDX's i8, i16, i32, f32 and f64, and NPY's bool, i8 to i64, u16 to
/// u64, f16, f32 and f64, in either byte order, in C or Fortran order. Integers beyond ±2²⁴ are rounded to the nearest
/// `f32`; an f64 beyond ±3.4e38 becomes infinite (which [`load`] refuses).
/// The first axis counts the rows; the others are flattened in row-major order. A 3-dimensional file is taken for
/// images (rows, height, width). The data set's name is the path, and it has no labels.
///
/// # Errors
///
/// [`Error::Data`], with the place in the file where that helps.
pub fn read_rows(path: &Path) -> Result<Dataset> {
    let (features, image) = array::read_features(&mut Input::open(path)?)?;
    Ok(Dataset { features, labels: None, name: path.display().to_string(), image })
}

/// Reads one integer a row from an IDX or NPY file (raw or gzipped) of shape `[n]` or `[n, 1]`.
///
/// Any integer type, bool (0 and 1), and floats as long as every value is a whole number.
///
/// # Errors
///
/// [`Error::Data`], with the first value that is not an integer or does not fit an `i64`.
pub fn read_labels(path: &Path) -> Result<Vec<i64>> {
    array::read_labels(&mut Input::open(path)?)
}

#[cfg(test)]
mod tests;
