//! AnnData: a copy of the input file to which the answer is added, or a new file with the answer alone.
//!
//! The copy is edited in place, so what was in it before keeps its bytes: all that changes are `obs`, `obsm` and the groups that
//! lead there. Columns of an earlier answer are replaced. Rows of the file that were not clustered have no cluster and NaN.
//! Files of AnnData before 0.7, where `obs` and `obsm` are tables of records, get their answer as fields of these tables.
//!
//! Refused are files that hdf5-pure cannot edit without loss: with groups of many links in the newest layout of HDF5, or with
//! a group that two names lead to. Columns are written as they come; the matrices of `obsm` are held in memory until the end.
//!
//! A new file has no X; its rows are named after the ids, or else after their numbers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hdf5_pure::{File, FileAccessProperties, FileCreateProperties, SyncPolicy};

use super::draft::{failed, Draft};
use super::{Chunk, Header, TableWriter};
use crate::data::guarded;
use crate::error::{Error, Result};

mod frame;
mod names;
mod part;
mod place;
mod records;
mod superblock;

use names::Names;
use part::Part;
use place::Place;

/// Bytes that are held before they are written. Each time costs a pass over the objects of the file.
const MOST_HELD: usize = if cfg!(test) { 1 << 14 } else { 16 << 20 };

/// Adds rows to the columns of an AnnData file.
pub(super) struct Writer {
    file: Hdf5,
    draft: Draft,
    header: Header,
    places: Vec<Place>,
    /// Rows of the input file; `None` for a new file, which takes rows as they come.
    rows: Option<u64>,
    /// Names of the rows, for a new file.
    names: Names,
    /// Rows that are written or held.
    next: u64,
    /// Rows that are held.
    held: u64,
}

/// The file, and the words for what goes wrong with it.
struct Hdf5 {
    file: File,
    /// The table, as the user named it.
    path: PathBuf,
    /// The input file, if this is a copy of it.
    source: Option<PathBuf>,
}

impl Hdf5 {
    /// The error of an edit.
    fn refused(&self, what: &str, error: hdf5_pure::Error) -> Error {
        match (&self.source, error) {
            (_, hdf5_pure::Error::Io(error)) => failed(&self.path, &error),
            (Some(source), error) => not_added(source, &format!("{what}: {error}")),
            (None, error) => failed(&self.path, &error),
        }
    }

    fn commit(&self, what: &str) -> Result<()> {
        self.file.commit().map_err(|error| self.refused(what, error))
    }

    /// Closes the file, so that all of it is on the disk.
    fn close(self) -> Result<()> {
        let Self { file, path, .. } = self;
        file.close().map_err(|error| failed(&path, &error))
    }
}

/// Says that the answer has no place in the file `source`.
fn not_added(source: &Path, why: &str) -> Error {
    let remedy = "resave it in Python with anndata.read_h5ad(p).write_h5ad(q), or write another format";
    Error::data(source, format!("the answer cannot be added to a copy of this file ({why}); {remedy}"))
}

/// One sync, when the file is closed: until then nobody else reads it.
fn access() -> FileAccessProperties {
    FileAccessProperties::new().with_sync_policy(SyncPolicy::OnClose)
}

impl Writer {
    /// Copies `source` beside `path` and makes the columns, or makes a new file.
    pub(super) fn open(path: &Path, header: Header, source: Option<&Path>) -> Result<Self> {
        guarded(source.unwrap_or(path), || Self::begin(path, header, source))
    }

    fn begin(path: &Path, header: Header, source: Option<&Path>) -> Result<Self> {
        let mut draft = Draft::beside(path)?;
        let file = match source {
            Some(source) => {
                copy(source, &mut draft, path)?;
                superblock::upgrade(draft.place()).map_err(|error| failed(path, &error))?;
                File::open_rw_with_options(draft.place(), access()).map_err(|error| match error {
                    hdf5_pure::Error::Io(error) => failed(path, &error),
                    error => not_added(source, &error.to_string()),
                })?
            }
            None => File::create_with_options(draft.place(), FileCreateProperties::new(), access())
                .map_err(|error| failed(path, &error))?,
        };
        let file = Hdf5 { file, path: path.to_owned(), source: source.map(Path::to_owned) };
        let (rows, places) = match source {
            Some(source) => {
                let (rows, places) = frame::extend(&file, source, &header)?;
                (Some(rows), places)
            }
            None => (None, frame::plan(&header)),
        };
        Ok(Self { file, draft, header, places, rows, names: Names::default(), next: 0, held: 0 })
    }

    /// Takes one row of a chunk.
    fn take(&mut self, chunk: &Chunk, row: usize) -> Result<()> {
        let number = chunk.rows[row];
        match self.rows {
            Some(rows) => {
                if number >= rows || number < self.next {
                    return Err(self.misplaced(number, rows));
                }
                while self.next < number {
                    self.put(None)?;
                }
            }
            None => match chunk.ids.filter(|_| self.header.has_ids) {
                Some(ids) => self.names.push(&ids[row]),
                None => self.names.push(&number.to_string()),
            },
        }
        self.put(Some((chunk, row)))
    }

    fn misplaced(&self, number: u64, rows: u64) -> Error {
        let problem = match number >= rows {
            true => format!("row {number} has no place in the input file, which has {rows} rows"),
            false => format!("row {number} comes after row {}; rows have to be in their order", self.next - 1),
        };
        Error::output(&self.file.path, problem)
    }

    /// Holds one more row: one of a chunk, or one that was not clustered.
    fn put(&mut self, row: Option<(&Chunk, usize)>) -> Result<()> {
        for place in &mut self.places {
            place.put(row, &self.header);
        }
        self.next += 1;
        self.held += 1;
        let held: usize = self.places.iter().map(Place::held).sum();
        if held >= MOST_HELD {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the rows that are held.
    fn flush(&mut self) -> Result<()> {
        if self.rows.is_none() && self.next == self.held {
            frame::begin(&self.file, &self.places, &self.header, self.held)?;
        }
        if self.held == 0 {
            return Ok(());
        }
        let start = self.next - self.held;
        for place in &mut self.places {
            place.flush(&self.file, start, self.held)?;
        }
        self.held = 0;
        self.file.commit("new rows")
    }
}

impl TableWriter for Writer {
    fn write(&mut self, chunk: &Chunk) -> Result<()> {
        (0..chunk.len()).try_for_each(|row| self.take(chunk, row))
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<PathBuf>> {
        while self.rows.is_some_and(|rows| self.next < rows) {
            self.put(None)?;
        }
        self.flush()?;
        let Self { file, draft, header, names, places, rows, .. } = *self;
        if rows.is_none() {
            frame::name_rows(&file, &names)?;
        }
        drop(names);
        places.into_iter().try_for_each(|place| place.end(&file, &header))?;
        file.close()?;
        Ok(vec![draft.publish()?])
    }
}

/// Copies the bytes of `source` into the draft of `path`.
fn copy(source: &Path, draft: &mut Draft, path: &Path) -> Result<()> {
    let unread = |error: io::Error| Error::data(source, format!("cannot be read: {error}"));
    let mut from = fs::File::open(source).map_err(unread)?;
    let length = from.metadata().map_err(unread)?.len();
    let copied = draft.fill(&mut from).map_err(|error| failed(path, &error))?;
    if copied != length {
        return Err(Error::data(source, "the file changed while it was copied; try again when nobody writes to it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
