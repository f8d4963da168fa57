//! NumPy arrays, version 1.0 of the format. The number of rows is not known before the end, so room is kept for it.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::draft::{failed, Draft};
use super::{Chunk, Header, TableWriter};
use crate::error::Result;

/// Bytes before the values: room for two numbers of 20 digits. A multiple of 64, so that the values are aligned.
const HEAD: usize = 128;

/// Writes up to three arrays.
pub(super) struct Writer {
    cluster: Array,
    embedding: Option<Array>,
    memberships: Option<Array>,
    rows: u64,
}

impl Writer {
    /// Opens `path` and its companions.
    pub(super) fn open(path: &Path, header: Header) -> Result<Self> {
        let beside = |name: &str, wanted: bool, width: usize| {
            let path = path.with_extension(format!("{name}.npy"));
            wanted.then(|| Array::open(path, "<f4", Some(width))).transpose()
        };
        Ok(Self {
            cluster: Array::open(path.to_owned(), "<i8", None)?,
            embedding: beside("embedding", header.embedding, header.n_latent)?,
            memberships: beside("memberships", header.memberships, header.n_clusters)?,
            rows: 0,
        })
    }
}

impl TableWriter for Writer {
    fn write(&mut self, chunk: &Chunk) -> Result<()> {
        self.cluster.put(chunk.cluster.iter().map(|cluster| cluster.to_le_bytes()))?;
        for (array, values) in [(&mut self.embedding, chunk.z), (&mut self.memberships, chunk.q)] {
            if let Some(array) = array {
                array.put(values.unwrap_or(&[]).iter().map(|value| value.to_le_bytes()))?;
            }
        }
        self.rows += chunk.len() as u64;
        Ok(())
    }

    /// All files are whole and on the disk before the first is renamed.
    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>> {
        let rows = self.rows;
        let arrays = [Some(self.cluster), self.embedding, self.memberships];
        let drafts = arrays.into_iter().flatten().map(|array| array.end(rows)).collect::<Result<Vec<Draft>>>()?;
        drafts.iter().try_for_each(Draft::sync)?;
        drafts.into_iter().map(Draft::place_synced).collect()
    }
}

/// One array that is being written.
struct Array {
    path: PathBuf,
    file: BufWriter<Draft>,
    kind: &'static str,
    /// Columns; `None` for an array of one axis.
    width: Option<usize>,
}

impl Array {
    fn open(path: PathBuf, kind: &'static str, width: Option<usize>) -> Result<Self> {
        let mut file = Draft::buffered(&path)?;
        file.write_all(&[0; HEAD]).map_err(|error| failed(&path, &error))?;
        Ok(Self { path, file, kind, width })
    }

    fn put<const N: usize>(&mut self, mut values: impl Iterator<Item = [u8; N]>) -> Result<()> {
        values.try_for_each(|bytes| self.file.write_all(&bytes)).map_err(|error| failed(&self.path, &error))
    }

    /// Writes the header, now that the number of rows is known.
    fn end(mut self, rows: u64) -> Result<Draft> {
        let written = self.write_head(rows);
        written.map_err(|error| failed(&self.path, &error))?;
        Draft::unbuffered(self.file)
    }

    fn write_head(&mut self, rows: u64) -> io::Result<()> {
        let shape = self.width.map_or(format!("{rows},"), |width| format!("{rows}, {width}"));
        let text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}", self.kind);
        let room = HEAD - 10;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(b"\x93NUMPY\x01\x00")?;
        self.file.write_all(&(room as u16).to_le_bytes())?;
        writeln!(self.file, "{text:<width$}", width = room - 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_longest_header_fits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let array = Array::open(path.clone(), "<f4", Some(usize::MAX)).unwrap();
        array.end(u64::MAX).unwrap().publish().unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!((bytes.len(), bytes[HEAD - 1]), (HEAD, b'\n'));
        assert!(String::from_utf8_lossy(&bytes).contains("'shape': (18446744073709551615, 18446744073709551615), }"));
    }
}
