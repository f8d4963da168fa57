//! NumPy's .npz: a zip archive of .npy arrays, and what `scipy.sparse.save_npz` makes of it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::DeflateDecoder;
use flate2::Crc;
use zip::{CompressionMethod, ZipArchive};

use super::csr::{check_entries, check_ordered, check_shape, narrow, tidy, Entries};
use super::lines::{quoted, unreadable};
use super::{Csr, Pick};
use crate::error::{Error, Result};

/// The names that are taken, in this order, if an archive holds several arrays and none is asked for.
const USUAL: [&str; 4] = ["x", "X", "data", "arr_0"];
/// The longest NPY header that is read.
const MOST_HEADER_BYTES: u64 = 1 << 16;
/// How many members an error lists.
const MOST_LISTED: usize = 20;

/// What an archive holds.
pub enum Npz {
    /// An array, as the bytes of an NPY file.
    Array {
        /// The member's name, without ".npy".
        name: String,
        /// The NPY file, decompressed. At its end the checksum is verified. It never gives more than `length` bytes.
        bytes: Box<dyn Read>,
        /// The NPY file's length in bytes.
        length: u64,
    },
    /// A matrix of `scipy.sparse.save_npz`.
    Sparse(Csr),
}

/// Opens an archive and picks what to read: [`Pick::array`]; else the sparse matrix if it is one of SciPy's; else the
/// only array; else x, X, data or arr_0.
pub fn read(path: &Path, pick: &Pick) -> Result<Npz> {
    let archive = Archive::open(path)?;
    if pick.array.is_none() {
        if let Some(format) = archive.sparse_format()? {
            return Ok(Npz::Sparse(archive.read_sparse(pick, &format)?));
        }
    }
    let member = archive.choose(pick)?;
    pick.check_bytes(path, &format!("the values of {}", member.name), member.length.saturating_sub(MOST_HEADER_BYTES))?;
    let bytes = archive.bytes(member)?;
    Ok(Npz::Array { name: member.name.clone(), bytes: Box::new(bytes), length: member.length })
}

/// An archive's arrays.
struct Archive<'a> {
    path: &'a Path,
    members: Vec<Member>,
}

/// Where an array lies in the archive.
struct Member {
    /// The name without ".npy".
    name: String,
    start: u64,
    packed: u64,
    length: u64,
    crc: u32,
    method: CompressionMethod,
    encrypted: bool,
}

impl<'a> Archive<'a> {
    /// Lists the arrays of an archive.
    fn open(path: &'a Path) -> Result<Self> {
        let broken = |error: zip::result::ZipError| {
            let problem = format!("is not a zip archive that can be read ({error}); write it again with numpy.savez");
            Error::data(path, problem)
        };
        let file = File::open(path).map_err(|error| unreadable(path, "cannot be opened", &error))?;
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
        if archive.has_duplicate_names() {
            return Err(Error::data(path, "holds several members of one name; write it again with numpy.savez"));
        }
        let mut members = Vec::new();
        for index in 0..archive.len() {
            let file = archive.by_index_raw(index).map_err(broken)?;
            let name = String::from_utf8_lossy(file.name_raw()).into_owned();
            let (Some(name), Some(start)) = (name.strip_suffix(".npy"), file.data_start()) else { continue };
            members.push(Member {
                name: name.to_owned(),
                start,
                packed: file.compressed_size(),
                length: file.size(),
                crc: file.crc32(),
                method: file.compression(),
                encrypted: file.encrypted(),
            });
        }
        Ok(Self { path, members })
    }

    /// The array of a name, with or without ".npy".
    fn find(&self, name: &str) -> Option<&Member> {
        let bare = name.strip_suffix(".npy").unwrap_or(name);
        self.members.iter().find(|member| member.name == name || member.name == bare)
    }

    /// An error about a member.
    fn wrong(&self, name: &str, problem: impl std::fmt::Display) -> Error {
        Error::data(self.path, format!("member {name}: {problem}"))
    }

    /// The array to read.
    fn choose(&self, pick: &Pick) -> Result<&Member> {
        if let Some(name) = pick.array {
            return self.find(name).ok_or_else(|| {
                Error::data(self.path, format!("has no array {}; name one with --array: {}", quoted(name), self.list()))
            });
        }
        if let [only] = self.members.as_slice() {
            return Ok(only);
        }
        USUAL.iter().find_map(|name| self.members.iter().find(|member| member.name == *name)).ok_or_else(|| {
            let problem = match self.members.is_empty() {
                true => "holds no .npy arrays; write it again with numpy.savez".to_owned(),
                false => format!("holds several arrays; name one with --array: {}", self.list()),
            };
            Error::data(self.path, problem)
        })
    }

    /// The arrays with their types and shapes, for an error.
    fn list(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for member in self.members.iter().take(MOST_LISTED) {
            let header = self.bytes(member).ok().and_then(|mut bytes| Header::read(&mut bytes).ok());
            parts.push(match header {
                Some(header) => format!("{} {} {:?}", member.name, header.descr, header.shape),
                None => format!("{} (unreadable)", member.name),
            });
        }
        if self.members.len() > MOST_LISTED {
            parts.push(format!("and {} more", self.members.len() - MOST_LISTED));
        }
        parts.join(", ")
    }

    /// Decompresses a member.
    fn bytes(&self, member: &Member) -> Result<Checked> {
        if member.encrypted {
            return Err(self.wrong(&member.name, "is encrypted; write the archive again without a password"));
        }
        let mut file = File::open(self.path).map_err(|error| unreadable(self.path, "cannot be opened", &error))?;
        file.seek(SeekFrom::Start(member.start))
            .map_err(|error| unreadable(self.path, &format!("member {}: cannot be found", member.name), &error))?;
        let packed = BufReader::with_capacity(1 << 16, file.take(member.packed));
        let inner: Box<dyn Read> = match member.method {
            CompressionMethod::Stored => Box::new(packed),
            CompressionMethod::Deflated => Box::new(DeflateDecoder::new(packed)),
            other => {
                let problem = format!("is compressed by {other}; write the archive again with numpy.savez_compressed");
                return Err(self.wrong(&member.name, problem));
            }
        };
        Ok(Checked { inner, crc: Crc::new(), expected: member.crc, left: member.length, done: false })
    }
}

/// Bytes of a member. Their number and checksum must be those of the archive's directory.
struct Checked {
    inner: Box<dyn Read>,
    crc: Crc,
    expected: u32,
    left: u64,
    done: bool,
}

impl Checked {
    /// At the end: nothing may follow, and the checksum must be right.
    fn finish(&mut self) -> io::Result<()> {
        if self.done {
            return Ok(());
        }
        if self.inner.read(&mut [0])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than the archive's directory says"));
        }
        if self.crc.sum() != self.expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
        }
        self.done = true;
        Ok(())
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            return self.finish().map(|()| 0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            let problem = format!("it is {} bytes shorter than the archive's directory says", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
        }
        self.left -= read as u64;
        self.crc.update(&buffer[..read]);
        Ok(read)
    }
}

/// An NPY header.
struct Header {
    descr: String,
    shape: Vec<u64>,
}

impl Header {
    /// Reads a header. The error says what is wrong.
    fn read(bytes: &mut impl Read) -> std::result::Result<Self, String> {
        let mut exact = |length: usize| {
            let mut buffer = vec![0; length];
            bytes
                .read_exact(&mut buffer)
                .map(|()| buffer)
                .map_err(|error| format!("its header cannot be read: {error}"))
        };
        let start = exact(8)?;
        if !start.starts_with(b"\x93NUMPY") {
            return Err("is not an NPY array; write the archive again with numpy.savez".to_owned());
        }
        let length = match start[6] {
            1 => exact(2)?.iter().rev().fold(0, |length, &byte| (length << 8) | u64::from(byte)),
            _ => exact(4)?.iter().rev().fold(0, |length, &byte| (length << 8) | u64::from(byte)),
        };
        if length > MOST_HEADER_BYTES {
            return Err(format!("claims a header of {length} bytes; write the archive again with numpy.savez"));
        }
        let header = exact(length as usize)?;
        let header = String::from_utf8_lossy(&header);
        Self::parse(&header)
            .ok_or_else(|| format!("its header {} is not NPY's; write the archive again", quoted(&header)))
    }

    /// Parses the header's text, a Python dictionary.
    fn parse(text: &str) -> Option<Self> {
        let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start());
        let descr = after("'descr':")?;
        let descr = match descr.strip_prefix('\'') {
            Some(rest) => rest.split_once('\'')?.0.to_owned(),
            None => "structured".to_owned(),
        };
        let (shape, _) = after("'shape':")?.strip_prefix('(')?.split_once(')')?;
        let sides = shape.split(',').map(|side| side.trim().trim_end_matches('L')).filter(|side| !side.is_empty());
        Some(Self { descr, shape: sides.map(|side| side.parse().ok()).collect::<Option<_>>()? })
    }
}

/// A number of an array.
enum Number {
    Whole(i64),
    Real(f64),
}

impl Number {
    /// As the index of a row or column below `bound`.
    fn index(&self, bound: usize) -> std::result::Result<u32, String> {
        match self {
            Self::Whole(index) if *index >= 0 && (*index as u64) < bound as u64 => Ok(*index as u32),
            Self::Whole(index) => Err(format!("{index} is not from 0 to below {bound}")),
            Self::Real(value) => Err(format!("{value} is not a whole number")),
        }
    }

    /// As a size.
    fn size(&self) -> std::result::Result<u64, String> {
        match self {
            Self::Whole(size) => u64::try_from(*size).map_err(|_| format!("{size} is negative")),
            Self::Real(value) => Err(format!("{value} is not a whole number")),
        }
    }

    /// As a value of the matrix.
    fn value(&self) -> std::result::Result<f32, String> {
        let value = match self {
            Self::Whole(value) => return Ok(*value as f32),
            Self::Real(value) => *value,
        };
        narrow(value)
            .ok_or_else(|| format!("{value} is not finite in float32, and a sparse matrix has no missing values"))
    }
}

/// Decodes the bytes of one number.
type Decode = fn(&[u8]) -> Number;

/// Bytes of one number of a type, and how it is decoded.
fn decoder(descr: &str) -> Option<(usize, Decode)> {
    /// The first bytes as an array; a chunk always has them.
    fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.first_chunk().copied().unwrap_or([0; N])
    }
    Some(match descr {
        "<f4" => (4, |bytes| Number::Real(f64::from(f32::from_le_bytes(first(bytes))))),
        "<f8" => (8, |bytes| Number::Real(f64::from_le_bytes(first(bytes)))),
        "|i1" => (1, |bytes| Number::Whole(i64::from(i8::from_le_bytes(first(bytes))))),
        "<i2" => (2, |bytes| Number::Whole(i64::from(i16::from_le_bytes(first(bytes))))),
        "<i4" => (4, |bytes| Number::Whole(i64::from(i32::from_le_bytes(first(bytes))))),
        "<i8" => (8, |bytes| Number::Whole(i64::from_le_bytes(first(bytes)))),
        "|u1" => (1, |bytes| Number::Whole(i64::from(u8::from_le_bytes(first(bytes))))),
        "<u2" => (2, |bytes| Number::Whole(i64::from(u16::from_le_bytes(first(bytes))))),
        "<u4" => (4, |bytes| Number::Whole(i64::from(u32::from_le_bytes(first(bytes))))),
        "|b1" => (1, |bytes| Number::Whole(i64::from(first::<1>(bytes)[0] != 0))),
        _ => return None,
    })
}

/// A one-dimensional array whose header has been read.
struct Vector<'a> {
    archive: &'a Archive<'a>,
    name: &'a str,
    bytes: Checked,
    count: u64,
    width: usize,
    decode: Decode,
}

impl Vector<'_> {
    /// Reads the numbers, each through `convert`, and verifies the checksum. The caller has checked `count`.
    fn collect<T>(mut self, convert: impl Fn(Number) -> std::result::Result<T, String>) -> Result<Vec<T>> {
        let mut numbers = Vec::with_capacity(usize::try_from(self.count).unwrap_or(0));
        let mut buffer = vec![0; (1 << 13) * self.width];
        let failed = |error: io::Error| {
            let problem = format!("cannot be read: {error}; the file may be damaged, so fetch or write it again");
            self.archive.wrong(self.name, problem)
        };
        while (numbers.len() as u64) < self.count {
            let left = usize::try_from(self.count - numbers.len() as u64).unwrap_or(usize::MAX);
            let chunk = left.min(1 << 13) * self.width;
            let chunk = &mut buffer[..chunk];
            self.bytes.read_exact(chunk).map_err(failed)?;
            for number in chunk.chunks_exact(self.width) {
                let converted = convert((self.decode)(number)).map_err(|problem| {
                    let problem =
                        format!("entry {} (from 0): {problem}; correct the matrix and save it again", numbers.len());
                    self.archive.wrong(self.name, problem)
                })?;
                numbers.push(converted);
            }
        }
        match self.bytes.read(&mut [0]).map_err(failed)? {
            0 => Ok(numbers),
            _ => Err(self.archive.wrong(self.name, "is longer than its shape says; save the matrix again")),
        }
    }
}

/// Reading of `scipy.sparse.save_npz` archives.
impl Archive<'_> {
    /// SciPy's name of the sparse format ("csr"), or `None` if the archive is not one of a sparse matrix.
    fn sparse_format(&self) -> Result<Option<String>> {
        let (Some(member), Some(_), Some(_)) = (self.find("format"), self.find("shape"), self.find("data")) else {
            return Ok(None);
        };
        let mut bytes = self.bytes(member)?;
        let header = Header::read(&mut bytes).map_err(|problem| self.wrong("format", problem))?;
        // A text of bytes ("|S3"), or of 4-byte letters ("<U3").
        if !(header.descr.starts_with("|S") || header.descr.starts_with("<U")) || !header.shape.is_empty() {
            return Ok(None);
        }
        let mut text = Vec::new();
        bytes
            .take(256)
            .read_to_end(&mut text)
            .map_err(|error| self.wrong("format", format!("cannot be read: {error}; save the matrix again")))?;
        text.retain(|&byte| byte != 0);
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Reads the sparse matrix.
    fn read_sparse(&self, pick: &Pick, format: &str) -> Result<Csr> {
        let shape = self.vector("shape")?;
        if shape.count != 2 {
            let problem = format!("the sparse array has {} dimensions; save one of two, rows and columns", shape.count);
            return Err(self.wrong("shape", problem));
        }
        let sides = shape.collect(|side| side.size())?;
        let shape = check_shape(self.path, sides[0], sides[1])?;
        match format {
            "csr" => self.read_csr(pick, shape),
            "csc" => self.read_csc(pick, shape),
            "coo" => self.read_coo(pick, shape),
            _ => {
                let problem =
                    format!("sparse matrices of SciPy's format {} are not read; save matrix.tocsr()", quoted(format));
                Err(self.wrong("format", problem))
            }
        }
    }

    /// Opens a one-dimensional array of numbers.
    fn vector<'b>(&'b self, name: &'b str) -> Result<Vector<'b>> {
        let member = self.find(name).ok_or_else(|| {
            Error::data(self.path, format!("has no member {name}, which its sparse format needs; save matrix.tocsr()"))
        })?;
        let mut bytes = self.bytes(member)?;
        let header = Header::read(&mut bytes).map_err(|problem| self.wrong(name, problem))?;
        let Some((width, decode)) = decoder(&header.descr) else {
            let problem = format!(
                "its type {} is not read in a sparse matrix; convert it to float32 or int32 and save it again",
                quoted(&header.descr)
            );
            return Err(self.wrong(name, problem));
        };
        let &[count] = header.shape.as_slice() else {
            return Err(
                self.wrong(name, format!("has the shape {:?}, not one dimension; save the matrix again", header.shape))
            );
        };
        if count.checked_mul(width as u64) != Some(bytes.left) {
            let problem = format!("claims {count} numbers, but {} bytes follow; save the matrix again", bytes.left);
            return Err(self.wrong(name, problem));
        }
        Ok(Vector { archive: self, name, bytes, count, width, decode })
    }

    /// Opens the values and as many indices.
    fn entries<'b>(&'b self, indices: &'b str) -> Result<(Vector<'b>, Vector<'b>)> {
        let (values, indices) = (self.vector("data")?, self.vector(indices)?);
        if values.count != indices.count {
            let problem = format!("has {} numbers, but data has {}", indices.count, values.count);
            return Err(self.wrong(indices.name, format!("{problem}; save the matrix again")));
        }
        Ok((values, indices))
    }

    /// Reads `indptr` of `lines` rows or columns: it ascends from 0 to at most `entries`.
    fn starts(&self, lines: usize, entries: u64) -> Result<Vec<u64>> {
        let starts = self.vector("indptr")?;
        if starts.count != lines as u64 + 1 {
            let problem =
                format!("has {} numbers, but the shape asks for {}; save the matrix again", starts.count, lines + 1);
            return Err(self.wrong("indptr", problem));
        }
        let starts = starts.collect(|start| start.size())?;
        let ascends = starts.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ascends || starts.first() != Some(&0) || starts.last().is_none_or(|&last| last > entries) {
            let problem = format!("does not ascend from 0 to at most {entries}; save the matrix again");
            return Err(self.wrong("indptr", problem));
        }
        Ok(starts)
    }

    /// Reads compressed rows.
    fn read_csr(&self, pick: &Pick, shape: [usize; 2]) -> Result<Csr> {
        let (values, columns) = self.entries("indices")?;
        check_ordered(self.path, pick, shape[0] as u64, values.count)?;
        let starts = self.starts(shape[0], values.count)?;
        let columns = columns.collect(|column| column.index(shape[1]))?;
        let values = values.collect(|value| value.value())?;
        let mut csr = Csr { shape, starts, columns, values };
        tidy(self.path, &mut csr)?;
        Ok(csr)
    }

    /// Reads compressed columns.
    fn read_csc(&self, pick: &Pick, shape: [usize; 2]) -> Result<Csr> {
        let (values, rows) = self.entries("indices")?;
        check_entries(self.path, pick, shape[0].max(shape[1]) as u64, values.count)?;
        let starts = self.starts(shape[1], values.count)?;
        let mut rows = rows.collect(|row| row.index(shape[0]))?;
        let mut values = values.collect(|value| value.value())?;
        let mut columns = Vec::with_capacity(values.len());
        for (column, pair) in (0..).zip(starts.windows(2)) {
            columns.extend((pair[0]..pair[1]).map(|_| column));
        }
        rows.truncate(columns.len());
        values.truncate(columns.len());
        Entries { rows, columns, values }.into_csr(self.path, shape)
    }

    /// Reads coordinates.
    fn read_coo(&self, pick: &Pick, shape: [usize; 2]) -> Result<Csr> {
        let (values, rows) = self.entries("row")?;
        let (_, columns) = self.entries("col")?;
        check_entries(self.path, pick, shape[0] as u64, values.count)?;
        let rows = rows.collect(|row| row.index(shape[0]))?;
        let columns = columns.collect(|column| column.index(shape[1]))?;
        let values = values.collect(|value| value.value())?;
        Entries { rows, columns, values }.into_csr(self.path, shape)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::io::Write;

    use zip::write::SimpleFileOptions;
    use zip::ZipWriter;

    use super::*;

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        header.push_str(&" ".repeat(63 - (header.len() + 10) % 64));
        header.push('\n');
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    fn ints(values: &[i32]) -> Vec<u8> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        npy("<i4", &format!("({},)", values.len()), &data)
    }

    fn reals(values: &[f64]) -> Vec<u8> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        npy("<f8", &format!("({},)", values.len()), &data)
    }

    fn archive(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            let options = SimpleFileOptions::default().compression_method(method).large_file(true);
            writer.start_file(format!("{name}.npy"), options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn open(bytes: &[u8], array: Option<&str>) -> Result<Npz> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        std::fs::write(&path, bytes).unwrap();
        let pick = Pick { array, most_bytes: 1 << 20, ..Pick::default() };
        match read(&path, &pick)? {
            // The file goes with the folder, so its bytes are taken now.
            Npz::Array { name, mut bytes, length } => {
                let mut all = Vec::new();
                bytes.read_to_end(&mut all).map_err(|error| Error::data(&path, error.to_string()))?;
                Ok(Npz::Array { name, bytes: Box::new(io::Cursor::new(all)), length })
            }
            sparse => Ok(sparse),
        }
    }

    fn name_of(bytes: &[u8], array: Option<&str>) -> String {
        match open(bytes, array).unwrap() {
            Npz::Array { name, .. } => name,
            Npz::Sparse(_) => panic!("sparse"),
        }
    }

    fn refused(bytes: &[u8], array: Option<&str>) -> String {
        match open(bytes, array) {
            Ok(_) => panic!("not refused"),
            Err(error) => error.to_string(),
        }
    }

    fn sparse(members: &[(&str, Vec<u8>)]) -> Result<Csr> {
        match open(&archive(members, CompressionMethod::Deflated), None)? {
            Npz::Sparse(csr) => Ok(csr),
            Npz::Array { name, .. } => panic!("array {name}"),
        }
    }

    /// A matrix of 2 x 3, whose members may be replaced.
    fn members<'a>(format: &str, replaced: &[(&'a str, Vec<u8>)]) -> Vec<(&'a str, Vec<u8>)> {
        let format = npy("|S3", "()", format.as_bytes());
        let mut members = vec![
            ("format", format),
            ("shape", ints(&[2, 3])),
            ("data", reals(&[1.0, 2.0, 3.0])),
            ("indices", ints(&[0, 2, 1])),
            ("indptr", ints(&[0, 2, 3])),
        ];
        for (name, bytes) in replaced {
            members.retain(|member| member.0 != *name);
            members.push((name, bytes.clone()));
        }
        members
    }

    #[test]
    fn picks_an_array() {
        let array = npy("<f4", "(1, 1)", &[0; 4]);
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let one = archive(&[("only", array.clone())], method);
            assert_eq!(name_of(&one, None), "only");
            let Npz::Array { mut bytes, length, .. } = open(&one, None).unwrap() else { panic!("sparse") };
            let mut all = Vec::new();
            bytes.read_to_end(&mut all).unwrap();
            assert_eq!((all.len() as u64, &all), (length, &array));
        }
        let two =
            archive(&[("a", array.clone()), ("arr_0", array.clone()), ("X", array.clone())], CompressionMethod::Stored);
        assert_eq!(name_of(&two, None), "X");
        assert_eq!(name_of(&two, Some("a")), "a");
        assert_eq!(name_of(&two, Some("a.npy")), "a");
        assert!(refused(&two, Some("b")).contains("a <f4 [1, 1], arr_0 <f4 [1, 1], X <f4 [1, 1]"));
        let unnamed = archive(&[("a", array.clone()), ("b", array)], CompressionMethod::Stored);
        assert!(refused(&unnamed, None).contains("several arrays; name one with --array: a <f4 [1, 1], b"));
        assert!(refused(&archive(&[], CompressionMethod::Stored), None).contains("no .npy arrays"));
    }

    #[test]
    fn reads_scipys_csr_csc_and_coo() {
        let csr = sparse(&members("csr", &[])).unwrap();
        assert_eq!((csr.shape, csr.starts.as_slice()), ([2, 3], &[0, 2, 3][..]));
        assert_eq!((csr.columns.as_slice(), csr.values.as_slice()), (&[0, 2, 1][..], &[1.0, 2.0, 3.0][..]));

        let unsorted = [("indices", ints(&[2, 2, 1])), ("data", npy("|i1", "(3,)", &[1, 2, 3]))];
        let csr = sparse(&members("csr", &unsorted)).unwrap();
        assert_eq!((csr.columns.as_slice(), csr.values.as_slice()), (&[2, 1][..], &[3.0, 3.0][..]));

        let csr = sparse(&members("csc", &[("indices", ints(&[1, 0, 1])), ("indptr", ints(&[0, 1, 1, 3]))])).unwrap();
        assert_eq!((csr.starts.as_slice(), csr.columns.as_slice()), (&[0, 1, 3][..], &[2, 0, 2][..]));
        assert_eq!(csr.values, [2.0, 1.0, 3.0]);

        let csr = sparse(&members("coo", &[("row", ints(&[1, 0, 1])), ("col", ints(&[2, 0, 2]))])).unwrap();
        assert_eq!((csr.starts.as_slice(), csr.columns.as_slice()), (&[0, 1, 2][..], &[0, 2][..]));
        assert_eq!(csr.values, [2.0, 4.0]);
    }

    #[test]
    fn a_matrix_that_contradicts_itself_is_refused() {
        for (format, replaced, part) in [
            ("csr", ("indices", ints(&[0, 3, 1])), "member indices: entry 1 (from 0): 3 is not from 0 to below 3"),
            ("csr", ("indices", ints(&[0, -1, 1])), "-1 is not"),
            ("csr", ("indices", reals(&[0.0, 1.0, 1.0])), "not a whole number"),
            ("csr", ("indices", ints(&[0, 1])), "has 2 numbers, but data has 3"),
            ("csr", ("indptr", ints(&[0, 3, 2])), "does not ascend"),
            ("csr", ("indptr", ints(&[0, 2, 4])), "does not ascend"),
            ("csr", ("indptr", ints(&[1, 2, 3])), "does not ascend"),
            ("csr", ("indptr", ints(&[0, 3])), "the shape asks for 3"),
            ("csr", ("indptr", ints(&[0, -2, 3])), "-2 is negative"),
            ("csr", ("shape", ints(&[2, -3])), "-3 is negative"),
            ("csr", ("shape", ints(&[2, 3, 4])), "3 dimensions"),
            ("csr", ("data", reals(&[1.0, f64::NAN, 3.0])), "NaN is not finite"),
            ("csr", ("data", reals(&[1.0, 1e300, 3.0])), "not finite in float32"),
            ("csr", ("data", npy("|O", "(3,)", &[0; 24])), "\"|O\""),
            ("csr", ("data", npy(">f8", "(3,)", &[0; 24])), "\">f8\""),
            ("csr", ("data", npy("<f8", "(3, 1)", &[0; 24])), "not one dimension"),
            ("csr", ("data", npy("<f8", "(4,)", &[0; 24])), "claims 4 numbers"),
            ("csr", ("data", npy("<f8", "(18446744073709551615,)", &[0; 24])), "claims"),
            ("csr", ("data", npy("<f8", "(-3,)", &[0; 24])), "is not NPY's"),
            ("csr", ("data", b"pickle".repeat(9)), "is not an NPY array"),
            ("csc", ("indptr", ints(&[0, 2, 3])), "the shape asks for 4"),
            ("bsr", ("x", ints(&[])), "tocsr()"),
            ("coo", ("row", ints(&[0, 1, 2])), "member col"),
        ] {
            let error = sparse(&members(format, &[replaced])).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        let huge = npy("<i8", "(2,)", &[(1_i64 << 31).to_le_bytes(), 3_i64.to_le_bytes()].concat());
        assert!(matches!(sparse(&members("csr", &[("shape", huge)])), Err(Error::Memory(_))));
    }

    #[test]
    fn a_cut_archive_is_refused() {
        let whole = archive(&members("csr", &[]), CompressionMethod::Deflated);
        for cut in 0..whole.len() {
            assert!(open(&whole[..cut], None).is_err(), "{cut}");
        }
    }

    #[test]
    fn lying_sizes_checksums_and_bombs_are_refused() {
        let array = npy("|u1", "(1, 600)", &[7; 600]);
        let whole = archive(&[("x", array.clone())], CompressionMethod::Deflated);
        let entry = whole.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
        let patched = |at: usize, bytes: [u8; 4]| {
            let mut patched = whole.clone();
            patched[entry + at..entry + at + 4].copy_from_slice(&bytes);
            refused(&patched, None)
        };
        assert!(patched(24, 500_u32.to_le_bytes()).contains("longer than"));
        assert!(patched(24, 900_u32.to_le_bytes()).contains("shorter than"));
        assert!(patched(16, [1; 4]).contains("checksum"));
        let mut encrypted = whole.clone();
        encrypted[entry + 8] |= 1;
        assert!(refused(&encrypted, None).contains("encrypted"));
        let bomb = archive(&[("x", npy("|u1", "(1, 9000000)", &vec![0; 9_000_000]))], CompressionMethod::Deflated);
        assert!(bomb.len() < 20_000 && matches!(open(&bomb, None), Err(Error::Memory(_))));
        let bomb = npy("|u1", "(9000000,)", &vec![0; 9_000_000]);
        let bomb = members("csr", &[("data", bomb.clone()), ("indices", bomb)]);
        assert!(matches!(sparse(&bomb), Err(Error::Memory(_))));
    }
}
