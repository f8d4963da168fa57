//! The answer of a clustering as a table on disk: CSV, TSV, Parquet, Arrow, NPY or AnnData.
//!
//! One row of the table is one row of the input. The columns, in their order:
//!
//! | name | type | content |
//! |---|---|---|
//! | `row` | u64 | number of the row in the input, from 0 |
//! | `id` | text | its name, if rows have names |
//! | `cluster` | i64 | its cluster; -1 = unsure |
//! | `name` | text | the cluster's name, or its number; empty for unsure rows; where clusters have names |
//! | `confidence` | f32 | soft assignment to the nearest cluster, 0 to 1 |
//! | `second` | i64 | second choice; -1 = none |
//! | `entropy` | f32 | entropy of the soft assignments, in nats |
//! | `outlier` | f32 | [outlier score](crate::model::outlier), 0 to 1 |
//! | `z_0`, `z_1`, … | f32 | latent code |
//! | `q_0`, `q_1`, … | f32 | soft assignment to each cluster |
//!
//! Parquet and Arrow hold the latent code as one column `embedding` and the soft assignments as one column `memberships`, lists
//! of fixed length: pandas and polars read each as a matrix. What NPY and AnnData hold is told at [`OutputFormat`].
//!
//! A writer is opened before the work starts, so that a place that cannot be written is refused at once. It writes to a temporary
//! file beside the target, and [`TableWriter::finish`] syncs and renames it. Without `finish` nothing is left.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

mod chunk;
#[cfg(feature = "parquet")]
mod columnar;
mod delimited;
mod draft;
mod format;
#[cfg(feature = "h5ad")]
mod h5ad;
mod npy;

pub use chunk::Chunk;
pub use format::OutputFormat;

/// What the table holds. `row`, `cluster` and `confidence` are always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Rows have names.
    pub has_ids: bool,
    /// Number of clusters, k.
    pub n_clusters: usize,
    /// What each cluster is called, \[k\], no two the same; empty for a table without names.
    pub names: Vec<String>,
    /// Width of the latent code, m.
    pub n_latent: usize,
    /// The latent code is written.
    pub embedding: bool,
    /// The soft assignments are written.
    pub memberships: bool,
    /// Which scores are written.
    pub scores: Scores,
}

impl Header {
    /// What a cluster is called: nothing where it is −1, for unsure rows.
    fn name_of(&self, cluster: i64) -> &str {
        usize::try_from(cluster).ok().and_then(|cluster| self.names.get(cluster)).map_or("", String::as_str)
    }
}

/// The optional columns of one number a row. By default none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scores {
    /// The second choice.
    pub second: bool,
    /// The entropy.
    pub entropy: bool,
    /// The outlier score.
    pub outlier: bool,
}

impl Scores {
    /// All of them.
    pub const ALL: Self = Self { second: true, entropy: true, outlier: true };
}

/// A table that is being written.
pub trait TableWriter {
    /// Writes the rows of `chunk` behind those before.
    ///
    /// # Errors
    /// [`Error::Output`] naming the file: if it cannot be written, for example as the disk is full, or if the chunk does not have
    /// what the header promised.
    fn write(&mut self, chunk: &Chunk) -> Result<()>;

    /// Ends the table, syncs it and puts it in its place. Returns the files that were written; none for standard output.
    ///
    /// # Errors
    /// [`Error::Output`] naming the file; what was there before is then still there.
    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>>;
}

/// Opens the table `path` for writing. `-` is standard output, for CSV alone.
///
/// `source_h5ad` is the AnnData file that the rows were read from: an AnnData table is then a copy of it with the answer
/// added. Without it the AnnData table holds the answer alone. Other formats pay no attention to it.
///
/// # Errors
/// [`Error::Output`] if the file cannot be made there, [`Error::Data`] if the answer cannot be added to `source_h5ad`.
pub fn create(
    path: &Path,
    format: OutputFormat,
    header: Header,
    source_h5ad: Option<&Path>,
) -> Result<Box<dyn TableWriter>> {
    if path.as_os_str() == "-" && format != OutputFormat::Csv {
        let problem = format!("standard output takes CSV only, not {}; name a file", format.name());
        return Err(Error::output(path, problem));
    }
    if format == OutputFormat::H5ad && !header.embedding {
        return Err(Error::output(path, "an AnnData table holds the latent codes; ask for the embedding too"));
    }
    if !header.names.is_empty() && header.names.len() != header.n_clusters {
        let (names, k) = (header.names.len(), header.n_clusters);
        return Err(Error::output(path, format!("there are {names} names for {k} clusters")));
    }
    let checked = header.clone();
    let inner: Box<dyn TableWriter> = match format {
        OutputFormat::Csv => Box::new(delimited::Writer::open(path, b',', header)?),
        OutputFormat::Tsv => Box::new(delimited::Writer::open(path, b'\t', header)?),
        OutputFormat::Npy => Box::new(npy::Writer::open(path, header)?),
        OutputFormat::Parquet | OutputFormat::Arrow => columnar_table(path, format, header)?,
        OutputFormat::H5ad => h5ad_table(path, header, source_h5ad)?,
    };
    Ok(Box::new(Checked { path: path.to_owned(), header: checked, inner }))
}

/// [`create`] for an answer to the rows of `source`: says what the format leaves out, and copies an AnnData file.
///
/// # Errors
/// As for [`create`].
pub fn create_for(source: &Path, path: &Path, format: OutputFormat, header: Header) -> Result<Box<dyn TableWriter>> {
    let left_out = format.leaves_out(&header);
    if !left_out.is_empty() {
        tracing::info!("{} has no room for: {}", path.display(), left_out.join(", "));
    }
    let is_h5ad = source.extension().is_some_and(|extension| extension == "h5ad");
    create(path, format, header, Some(source).filter(|_| is_h5ad))
}

/// The rows of `chunk` as CSV, with the line of names.
///
/// # Errors
/// [`Error::Unsaved`] for a chunk without what the header has.
pub fn to_csv(header: Header, chunk: &Chunk) -> Result<Vec<u8>> {
    delimited::in_memory(header, chunk).map_err(|e| Error::Unsaved(format!("the table cannot be written: {e}")))
}

#[cfg(feature = "parquet")]
fn columnar_table(path: &Path, format: OutputFormat, header: Header) -> Result<Box<dyn TableWriter>> {
    columnar::open(path, format, header)
}

#[cfg(not(feature = "parquet"))]
fn columnar_table(path: &Path, format: OutputFormat, _: Header) -> Result<Box<dyn TableWriter>> {
    Err(left_out(path, format, "parquet"))
}

#[cfg(feature = "h5ad")]
fn h5ad_table(path: &Path, header: Header, source: Option<&Path>) -> Result<Box<dyn TableWriter>> {
    Ok(Box::new(h5ad::Writer::open(path, header, source)?))
}

#[cfg(not(feature = "h5ad"))]
fn h5ad_table(path: &Path, _: Header, _: Option<&Path>) -> Result<Box<dyn TableWriter>> {
    Err(left_out(path, OutputFormat::H5ad, "h5ad"))
}

#[cfg(not(all(feature = "parquet", feature = "h5ad")))]
fn left_out(path: &Path, format: OutputFormat, feature: &str) -> Error {
    let problem =
        format!("this program was built without {}; build it with the feature {feature}, or write CSV", format.name());
    Error::output(path, problem)
}

/// Looks at each chunk before it is written.
struct Checked {
    path: PathBuf,
    header: Header,
    inner: Box<dyn TableWriter>,
}

impl TableWriter for Checked {
    fn write(&mut self, chunk: &Chunk) -> Result<()> {
        chunk.check(&self.header).map_err(|problem| Error::output(&self.path, problem))?;
        self.inner.write(chunk)
    }

    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>> {
        self.inner.finish()
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
