//! File formats: each reads one kind of file into a [`Table`]. One file a format; `read` (written elsewhere) lists them.

#[cfg(feature = "parquet")]
mod arrow;
mod csr;
mod delimited;
#[cfg(any(feature = "parquet", feature = "h5ad"))]
mod grid;
#[cfg(feature = "h5ad")]
mod h5ad;
mod images;
pub(super) mod labels;
mod lines;
mod mtx;
mod npz;
#[cfg(feature = "parquet")]
mod parquet;
mod read;
#[cfg(feature = "parquet")]
mod record;
mod safetensors;
#[cfg(any(feature = "parquet", feature = "h5ad"))]
mod spill;
mod svmlight;
#[cfg(test)]
mod testing;

use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::source::FileRows;
use super::{RowSource, Streamed};
use crate::error::{Error, Result};
pub(crate) use read::guarded;
pub(super) use read::read;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// NumPy's array.
    Npy,
    /// MNIST's format.
    Idx,
    /// Several of NumPy's arrays, or one of SciPy's sparse matrices.
    Npz,
    /// CSV, TSV and other text with a row in each line.
    Csv,
    /// `label index:value …`.
    Svmlight,
    /// Matrix Market; a folder of 10x's.
    Mtx,
    /// A tensor of safetensors.
    Safetensors,
    /// Parquet, one file or a folder of parts.
    Parquet,
    /// Arrow IPC and Feather.
    Arrow,
    /// AnnData.
    H5ad,
    /// A folder of PNG and JPEG images.
    Images,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Npy,
        Self::Idx,
        Self::Npz,
        Self::Csv,
        Self::Svmlight,
        Self::Mtx,
        Self::Safetensors,
        Self::Parquet,
        Self::Arrow,
        Self::H5ad,
        Self::Images,
    ];

    /// As recipes have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Idx => "idx",
            Self::Npz => "npz",
            Self::Csv => "csv",
            Self::Svmlight => "svmlight",
            Self::Mtx => "mtx",
            Self::Safetensors => "safetensors",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::H5ad => "h5ad",
            Self::Images => "images",
        }
    }
}

/// What a reader found in a file, before any choice of the recipe is applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The rows [n, d].
    pub values: Values,
    /// Height, width and channels of each row if the file says that rows are images; values are in the order (y, x, channel), or
    /// (channel, y, x) where `channels_first` says so.
    pub image: Option<[usize; 3]>,
    /// The order of an image's values.
    pub channels_first: bool,
    /// The columns' names: d of them, or none where the format has no names.
    pub columns: Vec<String>,
    /// The rows' names: n of them, or none.
    pub ids: Vec<String>,
    /// One label a row as text, `None` where it is missing; only if [`Pick::label_column`] asked for them (or, in a folder of
    /// images, [`Pick::folder_labels`]).
    pub labels: Option<Vec<Option<String>>>,
    /// What a person should know about how the file was taken ("columns x, y are text and left out"), one sentence each.
    pub notes: Vec<String>,
}

/// The values of a [`Table`]. Missing values are NaN, in `F32` or `F64`; the caller decides what becomes of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Bytes.
    U8(Array2<u8>),
    /// float32, and integers of up to 24 bits.
    F32(Array2<f32>),
    /// float64, and longer integers.
    F64(Array2<f64>),
    /// Sparse.
    Csr(Csr),
    /// Rows that stay in the file, since they are large.
    Rows(Streamed),
}

impl Default for Values {
    fn default() -> Self {
        Self::F32(Array2::zeros((0, 0)))
    }
}

impl Values {
    /// n and d.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::U8(a) => [a.nrows(), a.ncols()],
            Self::F32(a) => [a.nrows(), a.ncols()],
            Self::F64(a) => [a.nrows(), a.ncols()],
            Self::Csr(csr) => csr.shape,
            Self::Rows(rows) => rows.shape(),
        }
    }
}

impl Table {
    /// Rows that stay in their file; `rest` is the shape of each.
    pub(super) fn in_file(rows: FileRows, rest: &[usize]) -> Self {
        let mut table = Self { values: Values::Rows(Streamed::new(Arc::new(rows))), ..Self::default() };
        table.take_shape(rest);
        table
    }

    /// Says what a row of several dimensions is: an image [h, w], [h, w, c] or [c, h, w], or flat values.
    pub fn take_shape(&mut self, rest: &[usize]) {
        match *rest {
            [height, width] => {
                self.image = Some([height, width, 1]);
                if height.max(width) > LONGEST * height.min(width) {
                    self.notes.push(format!(
                        "rows of {height} x {width} values are taken for images, though they may be {height} series: they are moved and \
                         bent a little in training, which serves both (augment.kind=noise if the order of values means nothing)"
                    ));
                }
            }
            [height, width, channels] if is_channels(channels) && height.min(width) >= LEAST_SIDE => {
                self.image = Some([height, width, channels]);
            }
            [channels, height, width] if is_channels(channels) && height.min(width) >= LEAST_SIDE => {
                self.image = Some([height, width, channels]);
                self.channels_first = channels > 1;
            }
            [a, b, c] => self.notes.push(format!(
                "rows of {a} x {b} x {c} values are taken as {} values in a row: which axis is that of an image's channels is not plain",
                a * b * c
            )),
            _ => {}
        }
    }
}

/// So many times as long as wide, or wide as long, may be several series.
const LONGEST: usize = 4;

/// Height and width of images of several channels are at least this: then it is plain which axis is which.
const LEAST_SIDE: usize = 8;

fn is_channels(axis: usize) -> bool {
    matches!(axis, 1 | 3 | 4)
}

/// Compressed sparse rows. Columns of a row ascend and come once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Csr {
    /// [n, d].
    pub shape: [usize; 2],
    /// n + 1 of them; row i has the entries `starts[i]..starts[i + 1]`.
    pub starts: Vec<u64>,
    /// The column of each entry.
    pub columns: Vec<u32>,
    /// The value of each entry.
    pub values: Vec<f32>,
}

/// What to take from a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pick<'a> {
    /// These columns alone, in this order; empty for all that can be used.
    pub columns: &'a [String],
    /// Text columns to turn into one 0/1 column for each of their values; empty: those that plainly are such.
    pub categorical: &'a [String],
    /// The column (of AnnData: of obs) that holds labels. It is no feature.
    pub label_column: Option<&'a str>,
    /// The column that names the rows. It is no feature.
    pub id_column: Option<&'a str>,
    /// Which array of a file that holds several: an NPZ member, a safetensors tensor, AnnData's "layers/NAME" or "obsm/NAME".
    pub array: Option<&'a str>,
    /// Height and width that images are resized to; `None`: as they are, and all must have one size.
    pub image_size: Option<[usize; 2]>,
    /// Whether the sub-folders of a folder of images are labels.
    pub folder_labels: bool,
    /// Bytes that the values may take in memory. Check it before allocating, from what the header claims, and while
    /// decompressing.
    pub most_bytes: u64,
    /// Whether float64 stays what it is also where float32 would do for this file alone: a model takes an offset off, or the rows
    /// are joined with others.
    pub keeps_double: bool,
}

/// Rows that take more bytes than this stay in their file, where that can be read at any place.
const RESIDENT_BYTES: u64 = 64 << 20;

impl Pick<'_> {
    /// Bytes up to which rows are read at once, although they could stay in their file.
    pub fn most_resident(&self) -> u64 {
        RESIDENT_BYTES.min(self.most_bytes / 4)
    }

    /// Refuses more than [`Pick::most_bytes`].
    pub fn check_bytes(&self, path: &Path, what: &str, bytes: u64) -> Result<()> {
        if bytes <= self.most_bytes {
            return Ok(());
        }
        Err(Error::Memory(format!(
            "{}: {what} take {} MB of memory, but {} MB may be used; give fewer rows or columns, or allow more (data.max_memory)",
            path.display(),
            bytes.div_ceil(1_000_000),
            self.most_bytes / 1_000_000
        )))
    }
}

/// Names of columns that hold classes.
const CLASS_NAMES: [&str; 12] = [
    "class",
    "label",
    "labels",
    "target",
    "species",
    "y",
    "diagnosis",
    "category",
    "cluster",
    "celltype",
    "cell_type",
    "group",
];

/// Whether a column of this name likely holds classes.
fn is_class_name(name: &str) -> bool {
    CLASS_NAMES.iter().any(|class| class.eq_ignore_ascii_case(name))
}

/// The first of `names` as `shown` writes them: "a, b and 3 more".
fn listing<T: AsRef<str>>(names: &[T], shown: impl Fn(&str) -> String) -> String {
    const MOST: usize = 8;
    let first: Vec<String> = names.iter().take(MOST).map(|name| shown(name.as_ref())).collect();
    let more = if names.len() > MOST { format!(" and {} more", names.len() - MOST) } else { String::new() };
    first.join(", ") + &more
}

/// The first of `names` in quotes.
pub(super) fn shown_names(names: &[String]) -> String {
    listing(names, |name| format!("{name:?}"))
}

fn no_room(path: &Path) -> Error {
    Error::Memory(format!("{}: its values do not fit into memory; give fewer rows or columns", path.display()))
}

/// An empty vector with room for `size` values.
fn reserved<T>(path: &Path, size: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(size).map_err(|_| no_room(path))?;
    Ok(values)
}
