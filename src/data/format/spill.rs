//! Rows that are too large for memory and cannot be read at any place where they are, compressed ones say: they go once to a
//! temporary file, and are read from there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::cache::cache_dir;
use crate::data::element::{Element, Endian};
use crate::data::source::FileRows;
use crate::data::Streamed;
use crate::error::{Error, Result};
use crate::files::free_bytes;

/// Bytes that one byte of a packed file becomes at most.
const DENSEST: u64 = 1032;

/// Rows on their way to a temporary file without a name, which is gone with the process.
pub(super) struct Spill {
    /// What errors name.
    path: PathBuf,
    folder: PathBuf,
    file: BufWriter<File>,
    width: usize,
    wide: bool,
    /// The rows that are being filled, and the number of the first.
    window: Vec<f64>,
    first: usize,
}

impl Spill {
    /// Whether so many bytes can be what `path` holds (no codec packs more densely than by the factor), and leave half of the disk
    /// free.
    pub(super) fn may_take(path: &Path, bytes: u64) -> bool {
        let packed: u64 = match std::fs::metadata(path) {
            Ok(found) if found.is_file() => found.len(),
            _ => std::fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|e| Some(e.metadata().ok()?.len()))
                .sum(),
        };
        bytes <= packed.saturating_mul(DENSEST) && free_bytes(&folder()).is_none_or(|free| bytes <= free / 2)
    }

    /// For rows of `width` values out of `path`, kept as float64 where they are `wide`, else as float32.
    pub(super) fn new(path: &Path, width: usize, wide: bool) -> Result<Self> {
        let folder = folder();
        let file = tempfile::tempfile_in(&folder).map_err(|e| no_place(path, &folder, &e))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { path: path.to_owned(), folder, file, width, wide, window: Vec::new(), first: 0 })
    }

    /// Writes the rows that are filled, and goes on with zeros up to `rows`.
    pub(super) fn advance(&mut self, rows: usize) -> Result<()> {
        let written = match self.wide {
            true => self.window.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes())),
            false => self.window.iter().try_for_each(|&value| self.file.write_all(&(value as f32).to_le_bytes())),
        };
        written.map_err(|e| no_place(&self.path, &self.folder, &e))?;
        self.first += self.window.len() / self.width.max(1);
        self.window.clear();
        self.window.resize(rows.saturating_sub(self.first) * self.width, 0.0);
        Ok(())
    }

    /// Sets a value of a row that is being filled.
    pub(super) fn put(&mut self, row: usize, column: usize, value: f64) {
        self.window[(row - self.first) * self.width + column] = value;
    }

    /// The rows, to be read from the temporary file.
    pub(super) fn finish(mut self, rows: usize) -> Result<Streamed> {
        self.advance(rows)?;
        let file = self.file.into_inner().map_err(|e| no_place(&self.path, &self.folder, e.error()))?;
        let element = if self.wide { Element::F64 } else { Element::F32 };
        let shape = [rows, self.width];
        let rows = FileRows { path: self.path, file, start: 0, element, endian: Endian::Little, shape };
        Ok(Streamed::new(Arc::new(rows)))
    }
}

/// Where the file goes: to the cache, since a directory for temporary files may be kept in memory.
fn folder() -> PathBuf {
    let cache = cache_dir().ok().filter(|dir| std::fs::create_dir_all(dir).is_ok());
    cache.unwrap_or_else(std::env::temp_dir)
}

fn no_place(path: &Path, folder: &Path, error: &std::io::Error) -> Error {
    Error::data(
        path,
        format!(
            "its rows are larger than memory, and cannot be kept in {} meanwhile: {error}; free some of that disk, or set \
             DEC_CACHE to a directory on another",
            folder.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::RowSource;

    #[test]
    fn rows_come_back_as_they_were_put() {
        for wide in [false, true] {
            let mut spill = Spill::new(Path::new("rows"), 3, wide).unwrap();
            for (first, last) in [(0, 2), (2, 2), (2, 5)] {
                spill.advance(last).unwrap();
                (first..last).for_each(|row| spill.put(row, row % 3, row as f64 + 0.1));
            }
            let rows = spill.finish(5).unwrap();
            let mut values = [0.0; 6];
            rows.read_f32(&[4, 1], &mut values).unwrap();
            assert_eq!(values, [0.0, 4.1, 0.0, 0.0, 1.1, 0.0]);
            assert_eq!(rows.is_wide(), wide);
        }
    }
}
