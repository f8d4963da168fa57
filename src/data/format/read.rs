//! Which format a file has: by its first bytes, then by its name, or as the recipe says.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::{delimited, images, mtx, npz, safetensors, svmlight, Format, Pick, Table, Values};
use crate::data::array;
use crate::data::input::Input;
use crate::error::{Error, Result};

/// First bytes that are looked at.
const HEAD: usize = 4096;

/// Reads `path` (`-` for standard input) as `format`, or as what it looks like.
///
/// # Errors
/// [`Error::Data`] for what cannot be read, [`Error::Memory`] for what is too large.
pub fn read(path: &Path, format: Option<Format>, pick: &Pick) -> Result<Table> {
    guarded(path, || read_any(path, format, pick))
}

/// Runs a reader of `path`. The crates that decode files may panic over damaged ones; that is an error about the file then, and not
/// the end of the work.
pub fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|payload| match Error::from_payload(&*payload) {
        Error::Fault(said) => Err(Error::data(
            path,
            format!(
                "its reader gave up on it ({said}); it is damaged, or of a kind that is not known: copy it again, or write it \
                 anew, and report it if other programs read it"
            ),
        )),
        other => Err(other),
    })
}

fn read_any(path: &Path, format: Option<Format>, pick: &Pick) -> Result<Table> {
    if path == Path::new("-") {
        return read_stream(path, &mut BufReader::new(std::io::stdin().lock()), format, pick);
    }
    let metadata = std::fs::metadata(path).map_err(|e| Error::data(path, crate::data::input::cannot_open(&e)))?;
    if metadata.is_dir() {
        return read_folder(path, format, pick);
    }
    let open = || File::open(path).map_err(|e| Error::data(path, format!("cannot be opened: {e}")));
    if !metadata.is_file() {
        return read_stream(path, &mut BufReader::new(open()?), format, pick); // a pipe: read once
    }
    let mut file = BufReader::new(open()?);
    let mut head = vec![0; HEAD];
    let found = fill(path, &mut file, &mut head)?;
    head.truncate(found);
    if head.is_empty() {
        return Err(Error::data(path, "is empty (0 bytes)"));
    }
    let format = match format.or_else(|| by_content(&head)).or_else(|| by_name(path)) {
        Some(format) => format,
        None => by_text(path, &head)?,
    };
    match format {
        Format::Npy | Format::Idx => array::read_table(&mut Input::open(path)?, pick),
        Format::Npz => read_npz(path, pick),
        Format::Safetensors => safetensors::read(path, pick),
        Format::Mtx => mtx::read_file(path, pick),
        #[cfg(feature = "parquet")]
        Format::Parquet => super::parquet::read(path, pick),
        #[cfg(feature = "parquet")]
        Format::Arrow => super::arrow::read(path, pick),
        #[cfg(feature = "h5ad")]
        Format::H5ad => super::h5ad::read(path, pick),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet | Format::Arrow => Err(left_out(path, "parquet")),
        #[cfg(not(feature = "h5ad"))]
        Format::H5ad => Err(left_out(path, "h5ad")),
        Format::Images => Err(Error::data(path, "is one file; give the folder of the images")),
        Format::Csv | Format::Svmlight => {
            file.rewind().map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
            read_text(path, &mut file, format, pick)
        }
    }
}

#[cfg(not(all(feature = "parquet", feature = "h5ad")))]
fn left_out(path: &Path, feature: &str) -> Error {
    Error::data(
        path,
        format!("this build cannot read it: build with the cargo feature {feature}, which is on by default"),
    )
}

fn read_folder(path: &Path, format: Option<Format>, pick: &Pick) -> Result<Table> {
    if format != Some(Format::Images) && mtx::is_10x_folder(path) {
        return mtx::read_folder(path, pick);
    }
    #[cfg(feature = "parquet")]
    if format == Some(Format::Parquet) || (format.is_none() && has_parts(path)) {
        return super::parquet::read(path, pick);
    }
    if format == Some(Format::Images) || images::is_image_folder(path) {
        return images::read_folder(path, pick);
    }
    Err(Error::data(
        path,
        "is a directory with nothing that can be read in it: it may hold PNG or JPEG images, parts of a Parquet data set, or \
         10x's matrix.mtx, barcodes.tsv and features.tsv",
    ))
}

/// Whether a folder holds parts of a Parquet data set.
#[cfg(feature = "parquet")]
fn has_parts(path: &Path) -> bool {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(10_000);
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|ending| ending == "parquet"))
}

fn read_npz(path: &Path, pick: &Pick) -> Result<Table> {
    match npz::read(path, pick)? {
        npz::Npz::Sparse(csr) => Ok(Table { values: Values::Csr(csr), ..Table::default() }),
        npz::Npz::Array { name, bytes, length } => {
            let member = path.join(&name);
            array::read_table(&mut Input::from_reader(&member, bytes, length)?, pick)
        }
    }
}

/// Text that may be gzipped.
fn read_text(path: &Path, reader: &mut dyn BufRead, format: Format, pick: &Pick) -> Result<Table> {
    let start = reader.fill_buf().map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
    let mut text: Box<dyn BufRead + '_> = match start.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(BufReader::new(MultiGzDecoder::new(reader))),
        false => Box::new(reader),
    };
    match format {
        Format::Svmlight => svmlight::read(path, &mut *text, pick),
        _ => delimited::read(path, &mut *text, pick),
    }
}

/// What can be read once, from its beginning.
fn read_stream(path: &Path, reader: &mut dyn BufRead, format: Option<Format>, pick: &Pick) -> Result<Table> {
    let head = reader.fill_buf().map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
    if head.is_empty() {
        return Err(Error::data(path, "is empty (0 bytes)"));
    }
    let found = format.or_else(|| by_content(head)).unwrap_or(Format::Csv);
    match found {
        Format::Npy | Format::Idx => array::read_table(&mut Input::from_stream(path, reader)?, pick),
        Format::Csv | Format::Svmlight => read_text(path, reader, found, pick),
        other => Err(Error::data(
            path,
            format!("{} cannot be read from a stream; give a file (NPY, IDX, CSV and svmlight can)", other.name()),
        )),
    }
}

/// By the first bytes, as far as they tell.
fn by_content(head: &[u8]) -> Option<Format> {
    const MAGIC: [(&[u8], Format); 8] = [
        (b"\x93NUM", Format::Npy),
        (b"PK\x03\x04", Format::Npz),
        (b"PAR1", Format::Parquet),
        (b"ARROW1", Format::Arrow),
        (b"\x89HDF\r\n\x1a\n", Format::H5ad),
        (b"%%MatrixMarket", Format::Mtx),
        (b"\xff\xff\xff\xff", Format::Arrow), // an IPC stream
        (b"\x00\x00", Format::Idx),
    ];
    if let Some(inner) = inflated(head) {
        if inner.is_empty() {
            return Some(Format::Npy); // whose reader says what is wrong with the gzip data
        }
        return by_content(&inner).filter(|format| matches!(format, Format::Npy | Format::Idx | Format::Mtx));
    }
    // A safetensors header: its length, then JSON.
    if head.len() > 9 && head[8] == b'{' && u64::from_le_bytes(head[..8].try_into().ok()?) < 100_000_000 {
        return Some(Format::Safetensors);
    }
    MAGIC.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, format)| format)
}

/// The first bytes inside gzip data; `None` for other data.
fn inflated(head: &[u8]) -> Option<Vec<u8>> {
    if !head.starts_with(&[0x1f, 0x8b]) {
        return None;
    }
    let mut inner = vec![0; HEAD];
    let found = MultiGzDecoder::new(head).read(&mut inner).unwrap_or(0);
    inner.truncate(found);
    Some(inner)
}

fn by_name(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Some(match name.rsplit_once('.')?.1 {
        "csv" | "tsv" | "txt" | "tab" | "dat" => return None, // text of either kind
        "svm" | "svmlight" | "libsvm" => Format::Svmlight,
        "npy" => Format::Npy,
        "npz" => Format::Npz,
        "mtx" => Format::Mtx,
        "parquet" | "pq" => Format::Parquet,
        "arrow" | "feather" | "ipc" => Format::Arrow,
        "h5ad" => Format::H5ad,
        "safetensors" => Format::Safetensors,
        _ => return None,
    })
}

/// Text is svmlight where its lines are `label index:value …`, else a table; what is no text is refused with its first bytes.
fn by_text(path: &Path, head: &[u8]) -> Result<Format> {
    let inner = inflated(head);
    let head = inner.as_deref().unwrap_or(head);
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Err(Error::data(path, "is UTF-16 text; save it as UTF-8"));
    }
    if head.iter().any(|&byte| byte < 9 || (13 < byte && byte < 32 && byte != 27)) {
        let bytes: Vec<String> = head.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        return Err(Error::data(
            path,
            format!(
                "its format is not known: it begins with the bytes {}. Formats that are read: {}",
                bytes.join(" "),
                Format::ALL.map(Format::name).join(", ")
            ),
        ));
    }
    let text = String::from_utf8_lossy(head);
    let sparse_line = |line: &str| {
        let mut cells = line.split_ascii_whitespace();
        cells.next().is_some_and(|label| label.parse::<f64>().is_ok())
            && cells.clone().next().is_some()
            && cells.all(|cell| {
                cell.split_once(':').is_some_and(|(index, value)| {
                    (index == "qid" || index.parse::<u64>().is_ok()) && value.parse::<f64>().is_ok()
                })
            })
    };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    Ok(if lines.next().is_some_and(sparse_line) { Format::Svmlight } else { Format::Csv })
}

fn fill(path: &Path, reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::data(path, format!("cannot be read: {e}"))),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_panic_of_a_decoder_is_an_error_about_the_file() {
        let error = guarded::<()>(Path::new("a.h5ad"), || panic!("index out of bounds")).unwrap_err();
        assert!(matches!(&error, Error::Data { path, .. } if path == Path::new("a.h5ad")), "{error:?}");
        assert!(error.to_string().contains("index out of bounds"), "{error}");
        let memory = guarded::<()>(Path::new("a"), || panic!("std::bad_alloc")).unwrap_err();
        assert!(matches!(memory, Error::Memory(_)), "{memory:?}");
        assert_eq!(guarded(Path::new("a"), || Ok(1)).unwrap(), 1);
    }
}
