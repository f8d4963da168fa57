//! A dataset that rows are added to.

use hdf5_pure::{AttrValue, DatasetBuilder, Datatype, MaxExtent};

use super::records::Records;
use super::{Chunk, Hdf5, Header, Part};
use crate::error::{Error, Result};

/// Bytes of a chunk of the file, about.
const CHUNK_BYTES: usize = 1 << 18;
/// Most rows of a chunk. hdf5-pure 0.47 encodes sizes of 65536 and more in 4 bytes, where libhdf5 takes 3 and refuses the file.
const CHUNK_ROWS: u64 = 1 << 15;

/// A dataset, and the rows that it is about to get.
///
/// Columns and tables grow as rows come. A matrix cannot: hdf5-pure grows datasets of one axis alone. It is held in memory, and
/// takes the place of a matrix of one row at the end.
pub(super) struct Place {
    pub(super) path: String,
    /// The columns it holds: one, or the new fields of a table of records.
    pub(super) parts: Vec<Part>,
    /// The old fields of a table of records, which come first.
    pub(super) records: Option<Records>,
    /// Values of a row, if it is a matrix.
    width: Option<usize>,
    /// The rows that are held, without old fields.
    bytes: Vec<u8>,
}

impl Place {
    /// A dataset for one column or one matrix.
    pub(super) fn new(path: String, part: Part, header: &Header) -> Self {
        Self { path, parts: vec![part], records: None, width: part.width(header), bytes: vec![] }
    }

    /// A table of records.
    pub(super) fn table(path: &str, parts: Vec<Part>, records: Records) -> Self {
        Self { path: path.to_owned(), parts, records: Some(records), width: None, bytes: vec![] }
    }

    /// Makes room for a matrix of `rows` rows.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is none.
    pub(super) fn reserve(&mut self, rows: u64) -> Result<()> {
        let Some(width) = self.width else { return Ok(()) };
        let bytes = rows.saturating_mul(4 * width as u64);
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.bytes.try_reserve_exact(wanted).map_err(|_| {
            let (name, mib) = (&self.path, bytes >> 20);
            Error::Memory(format!("{name} of an AnnData table takes {mib} MiB of memory; write another format"))
        })
    }

    /// Bytes that are held and can be written.
    pub(super) fn held(&self) -> usize {
        if self.width.is_some() {
            0
        } else {
            self.bytes.len()
        }
    }

    /// Holds one more row: one of a chunk, or one that was not clustered.
    pub(super) fn put(&mut self, row: Option<(&Chunk, usize)>, header: &Header) {
        for part in &self.parts {
            match row {
                Some((chunk, row)) => part.put(chunk, row, header, &mut self.bytes),
                None => part.put_missing(header, &mut self.bytes),
            }
        }
    }

    /// Stages the `count` rows from `start` on, which are held; none of a matrix.
    pub(super) fn flush(&mut self, file: &Hdf5, start: u64, count: u64) -> Result<()> {
        if self.width.is_some() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.bytes);
        let bytes = match &self.records {
            Some(records) => records.join(start, count, &held)?,
            None => held,
        };
        let refused = |error| file.refused(&self.path, error);
        let mut dataset = file.file.dataset(&self.path).map_err(refused)?;
        let staged = dataset.append_staged(|rows| {
            rows.append_raw(&bytes);
        });
        staged.map_err(refused)
    }

    /// Writes a matrix, now that it has all its rows.
    pub(super) fn end(self, file: &Hdf5, header: &Header) -> Result<()> {
        let (Some(width), [part]) = (self.width, &self.parts[..]) else { return Ok(()) };
        let refused = |error| file.refused(&self.path, error);
        let rows = self.bytes.len() / (4 * width).max(1);
        file.file.root().delete(&self.path).map_err(refused)?;
        let made = file.file.root().create_dataset(&self.path, |dataset| {
            dataset.with_raw_data(part.datatype(header), self.bytes, 0).with_shape(&[rows as u64, width as u64]);
            encode(dataset, "array", "0.2.0");
        });
        made.map_err(refused)?;
        file.commit(&self.path)
    }

    /// Describes the dataset without its rows, of which there will be `rows` or more.
    pub(super) fn describe(&self, dataset: &mut DatasetBuilder, kind: Datatype, header: &Header, rows: u64) {
        if let Some(width) = self.width {
            dataset.with_raw_data(kind, vec![0; 4 * width], 0).with_shape(&[1, width as u64]);
        } else {
            let new: usize = self.parts.iter().map(|part| part.row_bytes(header)).sum();
            let old = self.records.as_ref().map_or(0, Records::kept_bytes);
            let fitting = (CHUNK_BYTES / (new + old).max(1)) as u64;
            let chunk = fitting.clamp(1, CHUNK_ROWS).min(rows.max(1));
            let growing = dataset.with_raw_data(kind, vec![], 0).with_shape(&[0]);
            growing.with_maxshape(&[MaxExtent::Unlimited]).with_chunks(&[chunk]);
        }
        if self.records.is_none() {
            encode(dataset, "array", "0.2.0");
        }
    }
}

/// Marks a dataset for anndata.
pub(super) fn encode(dataset: &mut DatasetBuilder, kind: &str, version: &str) {
    dataset.set_attr("encoding-type", AttrValue::VarLenString(kind.to_owned()));
    dataset.set_attr("encoding-version", AttrValue::VarLenString(version.to_owned()));
}
