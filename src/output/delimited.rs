//! CSV and TSV.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::chunk::line;
use super::draft::{failed, Draft};
use super::{Chunk, Header, TableWriter};
use crate::error::Result;

/// Writes a file, or what is none.
pub(super) struct Writer {
    path: PathBuf,
    text: Text<Sink>,
}

/// Writes rows as text. A float has the fewest digits that read back as the same float.
struct Text<W: Write> {
    header: Header,
    text: csv::Writer<W>,
    cell: Vec<u8>,
}

/// Where the text goes.
enum Sink {
    File(BufWriter<Draft>),
    Stdout(io::Stdout),
    /// A pipe or a device, which is written as it is.
    Device(std::fs::File),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
            Self::Device(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(out) => out.flush(),
            Self::Device(file) => file.flush(),
        }
    }
}

impl Writer {
    /// Opens `path` and writes the line of names.
    pub(super) fn open(path: &Path, delimiter: u8, header: Header) -> Result<Self> {
        let special = path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
        let sink = if path.as_os_str() == "-" {
            Sink::Stdout(io::stdout())
        } else if special {
            Sink::Device(std::fs::OpenOptions::new().write(true).open(path).map_err(|error| failed(path, &error))?)
        } else {
            Sink::File(Draft::buffered(path)?)
        };
        let text = Text::begin(sink, delimiter, header).map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_owned(), text })
    }
}

/// All of `chunk`, with the line of names.
pub(super) fn in_memory(header: Header, chunk: &Chunk) -> csv::Result<Vec<u8>> {
    let mut text = Text::begin(Vec::new(), b',', header)?;
    text.rows(chunk)?;
    text.text.into_inner().map_err(|error| error.into_error().into())
}

impl<W: Write> Text<W> {
    /// Writes the line of names.
    fn begin(sink: W, delimiter: u8, header: Header) -> csv::Result<Self> {
        let mut text = csv::WriterBuilder::new().delimiter(delimiter).buffer_capacity(1 << 16).from_writer(sink);
        text.write_record(names(&header))?;
        Ok(Self { header, text, cell: vec![] })
    }

    fn rows(&mut self, chunk: &Chunk) -> csv::Result<()> {
        (0..chunk.len()).try_for_each(|row| self.row(chunk, row))
    }

    fn row(&mut self, chunk: &Chunk, row: usize) -> csv::Result<()> {
        let Header { has_ids, n_clusters, n_latent, scores, .. } = self.header;
        let is_named = !self.header.names.is_empty();
        self.put(chunk.rows[row])?;
        if let Some(ids) = chunk.ids.filter(|_| has_ids) {
            self.text.write_field(&ids[row])?;
        }
        self.put(chunk.cluster[row])?;
        if is_named {
            self.text.write_field(self.header.name_of(chunk.cluster[row]))?;
        }
        self.put(chunk.confidence[row])?;
        if let Some(second) = chunk.second.filter(|_| scores.second) {
            self.put(second[row])?;
        }
        for (values, wanted) in [(chunk.entropy, scores.entropy), (chunk.outlier, scores.outlier)] {
            if let Some(values) = values.filter(|_| wanted) {
                self.put(values[row])?;
            }
        }
        let z = chunk.z.filter(|_| self.header.embedding);
        let q = chunk.q.filter(|_| self.header.memberships);
        for value in line(z, row, n_latent).iter().chain(line(q, row, n_clusters)) {
            self.put(value)?;
        }
        self.text.write_record(None::<&[u8]>)
    }

    fn put(&mut self, value: impl std::fmt::Display) -> csv::Result<()> {
        self.cell.clear();
        write!(self.cell, "{value}")?;
        self.text.write_field(&self.cell)
    }
}

/// The names of the columns.
fn names(header: &Header) -> Vec<String> {
    let Header { has_ids, embedding, memberships, scores, .. } = *header;
    let fixed = [
        ("row", true),
        ("id", has_ids),
        ("cluster", true),
        ("name", !header.names.is_empty()),
        ("confidence", true),
        ("second", scores.second),
        ("entropy", scores.entropy),
        ("outlier", scores.outlier),
    ];
    let mut names: Vec<String> =
        fixed.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()).collect();
    let z = if embedding { header.n_latent } else { 0 };
    let q = if memberships { header.n_clusters } else { 0 };
    names.extend((0..z).map(|i| format!("z_{i}")).chain((0..q).map(|i| format!("q_{i}"))));
    names
}

impl TableWriter for Writer {
    fn write(&mut self, chunk: &Chunk) -> Result<()> {
        self.text.rows(chunk).map_err(|error| failed(&self.path, &error))
    }

    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>> {
        let Self { path, text } = *self;
        match text.text.into_inner().map_err(|error| failed(&path, error.error()))? {
            Sink::File(file) => Ok(vec![Draft::unbuffered(file)?.publish()?]),
            mut other => other.flush().map(|()| vec![]).map_err(|error| failed(&path, &error)),
        }
    }
}
