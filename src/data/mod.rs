//! Data sets: rows to cluster and, where they are known, labels to score with.
//!
//! [`load`] reads what a recipe's `[data]` table names: the built-in digits, MNIST, or a file or folder of the user's own in any
//! [`Format`]. Formats are told apart by their first bytes, then by the file's name. What a header claims is checked against
//! what is there before anything is allocated, so a damaged or hostile file is an error message and not a crash.
//!
//! The rows stay as they were read (`u8` stays `u8`): scaling and shuffling belong to the recipe.

mod array;
mod builtin;
mod cache;
mod checks;
mod divided;
mod element;
mod features;
mod fetch;
mod fingerprint;
mod format;
mod header;
mod health;
mod idx;
mod input;
mod intake;
mod joined;
mod memory;
mod mnist;
mod npy;
mod pass;
mod precision;
mod published;
mod rows;
mod scale;
mod scaling;
mod shape;
mod source;
mod table;
mod verified;

use std::path::Path;

use serde::Serialize;

use crate::backend::available_bytes;
use crate::error::{Error, Result};
use input::Input;

pub use cache::{cache_dir, mnist_dir};
pub use checks::{check_clusterable, check_counts, check_finite, check_magnitude, first_absurd};
pub use features::Features;
pub use fetch::{fetch_mnist, FetchProgress, Fetched, Outcome, DEFAULT_MIRRORS};
#[cfg(feature = "h5ad")]
pub(crate) use format::guarded;
pub use format::{Format, Pick};
pub use health::Health;
pub use intake::{Intake, Selection};
pub(crate) use memory::IN_MEMORY;
pub use memory::{Number, ToDataset};
pub use rows::{array_of, permutation, sample, tensor_of, values_of, Batches, Rows};
pub(crate) use rows::{hash, index_of};
pub use scale::Scale;
pub use scaling::{RowKind, RowRule, Scaling};
pub use shape::{guess_image, LEAST_SIDE};
pub use source::{RowSource, Streamed, Width};
pub use table::{FeatureChoice, Missing};

/// Rows to cluster, as they were read: unscaled, in the file's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dataset {
    /// The rows, shape [n_rows, n_features].
    pub features: Features,
    /// A class for each row, in the rows' order; for scoring only. A row below 0 has none. `None` when nobody has labelled them.
    pub labels: Option<Vec<i64>>,
    /// What to call the data in messages and reports: the file's path, or a description of the built-in sets.
    pub name: String,
    /// Height and width in pixels when each row is an image (the file was 3-dimensional), else `None`.
    pub image: Option<[usize; 2]>,
    /// The channels of each pixel of an image.
    pub channels: Channels,
    /// The columns' names, or none.
    pub columns: Vec<String>,
    /// The rows' names, or none.
    pub ids: Vec<String>,
    /// The classes' names, by their numbers in `labels`, or none.
    pub classes: Vec<String>,
    /// What was done to the file's columns on reading.
    pub intake: Intake,
}

/// The channels of an image's pixels, and where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Channels {
    /// 1 for grey, 3 for colour.
    pub count: usize,
    /// Whether the values of a channel lie together (channel, y, x), and not those of a pixel (y, x, channel).
    pub first: bool,
}

impl Channels {
    /// So many.
    pub fn new(count: usize, first: bool) -> Self {
        Self { count, first: first && count > 1 }
    }

    /// The channel of the value at `place` of a row of `n_features` values.
    pub(crate) fn of(self, place: usize, n_features: usize) -> usize {
        if self.first {
            place / (n_features / self.count).max(1)
        } else {
            place % self.count
        }
    }
}

impl Default for Channels {
    fn default() -> Self {
        Self::new(1, false)
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

    /// How many classes the labels have.
    pub fn n_classes(&self) -> Option<usize> {
        let labels = self.labels.as_ref()?;
        let distinct: std::collections::BTreeSet<i64> = labels.iter().copied().filter(|&label| label >= 0).collect();
        Some(distinct.len())
    }

    /// A copy of the rows with these indices, in this order; the labels follow.
    ///
    /// ```
    /// # fn main() -> Result<(), dec::error::Error> {
    /// use dec::data::{load, Source};
    /// let digits = load(&Source { source: "builtin", dir: None, labels: None, ..Source::default() })?;
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
            ids: if self.ids.is_empty() { Vec::new() } else { rows.iter().map(|&row| self.ids[row].clone()).collect() },
            name: self.name.clone(),
            image: self.image,
            channels: self.channels,
            columns: self.columns.clone(),
            classes: self.classes.clone(),
            intake: self.intake.clone(),
        }
    }
}

/// Where rows come from; mirrors a recipe's `[data]` table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Source<'a> {
    /// `builtin` (the 10,000 MNIST test digits), `mnist` (train + test, 70,000 rows), or the path of a file or folder (see
    /// [`Format`]); `-` is standard input. A file that is itself called `mnist` is `./mnist`.
    pub source: &'a str,
    /// For `mnist`: the directory of its four files. Default: [`mnist_dir`], which `dec fetch mnist` fills. Files that were
    /// downloaded have to be the published ones; a directory of files of one's own is taken as it is. The other sources do not
    /// use it.
    pub dir: Option<&'a Path>,
    /// Further files or folders, whose rows follow those of `source`.
    pub more: &'a [String],
    /// A file with one label a row ([`read_labels`]); replaces the labels that the rows come with. Default: none.
    pub labels: Option<&'a Path>,
    /// What to take from a file, and how.
    pub reading: Reading<'a>,
}

/// What to take from a file, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading<'a> {
    /// The file's format, where its content and name do not tell.
    pub format: Option<Format>,
    /// Which of its columns and arrays. `most_bytes` 0 stands for the memory that there is.
    pub pick: Pick<'a>,
    /// What becomes of missing values.
    pub missing: Missing,
    /// Which columns of wide rows are kept.
    pub features: FeatureChoice,
    /// What a model did to the columns of the rows that it was trained on: the same is done to these.
    pub intake: Option<&'a Intake>,
    /// The names of the columns that it was trained on, after that: these are taken from a file whose columns have names.
    pub names: &'a [String],
}

impl Reading<'_> {
    fn most_bytes(&self) -> u64 {
        match self.pick.most_bytes {
            0 => available_bytes().unwrap_or(u64::MAX),
            most => most,
        }
    }
}

/// Whether a source is the path of a file, rather than the name of a data set.
pub fn is_path(source: &str) -> bool {
    !matches!(source, "builtin" | "mnist" | "-")
}

/// Reads the rows and labels that `source` names, and checks that they fit together and are finite.
///
/// # Errors
///
/// [`Error::Data`] for a file that is missing, damaged, of an unsupported type, or whose labels are not one a row;
/// [`Error::Rows`] for NaN or infinite values; [`Error::Memory`] for more than there is memory for.
pub fn load(source: &Source) -> Result<Dataset> {
    let several = std::iter::once(source.source).chain(source.more.iter().map(String::as_str));
    if let Some(name) = several.clone().find(|name| !is_path(name)).filter(|_| !source.more.is_empty()) {
        return Err(Error::Config(format!("{name} is no file: only files and folders are joined to one data set")));
    }
    let mut dataset = match source.source {
        "builtin" => builtin::load()?,
        "mnist" => mnist::load(source.dir)?,
        path => {
            let paths: Vec<&Path> =
                std::iter::once(path).chain(source.more.iter().map(String::as_str)).map(Path::new).collect();
            read(&paths, &source.reading)?
        }
    };
    if let Some(path) = source.labels {
        let labels = read_labels_within(path, source.reading.pick.label_column, source.reading.most_bytes())?;
        if labels.len() != dataset.n_rows() {
            let problem = format!(
                "has {} labels, but {} has {} rows: one label a row is needed, in the rows' order",
                labels.len(),
                dataset.name,
                dataset.n_rows()
            );
            return Err(Error::data(path, problem));
        }
        dataset.set_labels(&labels);
    }
    check_finite(&dataset)?;
    check_magnitude(&dataset)?;
    Ok(dataset)
}

/// Reads the rows of one file or folder, or of several that are one data set, as `reading` says.
///
/// Bytes stay bytes, everything else becomes float32; where that would lose what tells rows apart, as with times in
/// nanoseconds, each column's mean is taken off in float64 first ([`Intake`]).
///
/// # Errors
///
/// [`Error::Data`], with the place in the file where that helps; [`Error::Memory`].
pub fn read(paths: &[&Path], reading: &Reading) -> Result<Dataset> {
    let most_bytes = reading.most_bytes();
    let takes_offset = reading.intake.is_some_and(|intake| intake.offset.is_some());
    let pick = Pick { most_bytes, keeps_double: takes_offset || paths.len() > 1, ..reading.pick };
    let tables = paths.iter().map(|path| format::read(path, reading.format, &pick)).collect::<Result<_>>()?;
    let path = paths.first().copied().unwrap_or(Path::new(""));
    let Reading { missing, features, intake, names, .. } = *reading;
    let wishes = table::Wishes { missing, features, intake, names, most_bytes };
    let mut dataset = table::dataset(path, joined::join(paths, tables)?, wishes)?;
    if paths.len() > 1 {
        dataset.name += &format!(" and {} more", paths.len() - 1);
    }
    Ok(dataset)
}

/// Reads one file of rows, whatever its format: [`read`] with nothing asked for.
///
/// # Errors
///
/// As for [`read`].
pub fn read_rows(path: &Path) -> Result<Dataset> {
    read(&[path], &Reading::default())
}

/// Reads one label a row: an NPY (numbers or strings) or IDX file of shape `[n]` or `[n, 1]`, a CSV (`column` names its column where
/// there are several), or text with one label a line. `None` is a label that is missing.
///
/// # Errors
///
/// [`Error::Data`], with the first value that is no label; [`Error::Memory`].
pub fn read_labels(path: &Path, column: Option<&str>) -> Result<Vec<Option<String>>> {
    read_labels_within(path, column, available_bytes().unwrap_or(u64::MAX))
}

/// [`read_labels`] in so many bytes of memory.
fn read_labels_within(path: &Path, column: Option<&str>, most_bytes: u64) -> Result<Vec<Option<String>>> {
    format::guarded(path, || {
        let mut input = Input::open(path)?;
        match array::read_text_labels(&mut input, most_bytes)? {
            Some(labels) => Ok(labels),
            None => format::labels::read_text(path, &mut Input::open(path)?, column, most_bytes),
        }
    })
}

#[cfg(test)]
mod tests;
