//! A file opened for reading: gunzipped where it is gzipped, its position known, its length never trusted.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::format::Pick;
use crate::backend::memory::{available_bytes, human};
use crate::error::{Error, Result};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Bytes that one byte of gzip becomes at most: deflate's shortest code, of 2 bits, stands for 258.
const GZIP_FACTOR: u64 = 1032;

/// How many bytes are decoded at a time; a multiple of every element's size.
const CHUNK_BYTES: usize = 1 << 16;

/// What a header says of the values behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'a> {
    /// How many values; their bytes do not overflow.
    pub count: usize,
    /// Bytes a value.
    pub size: usize,
    /// How often the values are in memory at once, at the most, after they were read.
    pub copies: u64,
    /// Bytes that they may take there.
    pub most_bytes: u64,
    /// In words, for messages.
    pub claim: &'a str,
}

/// A stream of the (decompressed) bytes of one file.
pub(super) struct Input<'a> {
    path: PathBuf,
    reader: Box<dyn Read + 'a>,
    /// The file itself, where it is a regular one.
    file: Option<File>,
    /// Bytes read so far, after decompression.
    offset: u64,
    /// All bytes of the file, as it is, where that is known without reading: not for pipes.
    length: Option<u64>,
    gzip: bool,
    /// The gzip stream ended before its end.
    cut_off: bool,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl<'a> Input<'a> {
    /// Opens a file, and looks at its first bytes for gzip's magic.
    pub fn open(path: &Path) -> Result<Input<'static>> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::data(path, cannot_open(&e)))?;
        if metadata.is_dir() {
            return Err(Error::data(path, "is a directory; what is needed is one IDX or NPY file"));
        }
        let length = metadata.is_file().then_some(metadata.len());
        let file = File::open(path).map_err(|e| Error::data(path, cannot_open(&e)))?;
        let same = if metadata.is_file() { file.try_clone().ok() } else { None };
        let input = Input::new(path, BufReader::with_capacity(CHUNK_BYTES, file), length)?;
        Ok(Input { file: same, ..input })
    }

    /// Reads from memory; `path` is what messages call it.
    pub fn from_bytes(path: &Path, bytes: &'a [u8]) -> Result<Self> {
        Self::new(path, bytes, Some(bytes.len() as u64))
    }

    /// Reads a stream of this many bytes; `path` is what messages call it.
    pub fn from_reader(path: &Path, reader: impl Read + 'a, length: u64) -> Result<Self> {
        Self::new(path, BufReader::new(reader), Some(length))
    }

    /// Reads a stream that nobody knows the length of.
    pub fn from_stream(path: &Path, reader: impl BufRead + 'a) -> Result<Self> {
        Self::new(path, reader, None)
    }

    fn new(path: &Path, mut reader: impl BufRead + 'a, length: Option<u64>) -> Result<Self> {
        // One fill of the buffer is enough for two bytes of any file; a pipe that trickles is taken as it comes.
        let start = reader.fill_buf().map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
        if start.is_empty() {
            return Err(Error::data(path, "is empty (0 bytes)"));
        }
        let gzip = start.starts_with(&GZIP_MAGIC);
        let reader: Box<dyn Read + 'a> = if gzip { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) };
        Ok(Self { path: path.to_owned(), reader, file: None, offset: 0, length, gzip, cut_off: false })
    }

    /// Bytes read so far, after decompression.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What messages call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file and the byte at which the rest begins, which must be exactly what `body` says, to be read later; `None` for what
    /// is no plain file.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that is shorter or longer.
    pub fn stay(&mut self, body: Body) -> Result<Option<(File, u64)>> {
        if self.gzip {
            return Ok(None);
        }
        let (Some(file), Some(length)) = (self.file.take(), self.length) else { return Ok(None) };
        let (expected, found) = ((body.count * body.size) as u64, length.saturating_sub(self.offset));
        if found != expected {
            return Err(self.wrong_length(body.claim, expected, self.offset, Some(found)));
        }
        Ok(Some((file, self.offset)))
    }

    /// An error about this file.
    pub fn problem(&self, problem: impl Into<String>) -> Error {
        Error::data(&self.path, problem)
    }

    /// Fills `buffer` as far as the file goes; returns how many bytes there were.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    self.offset += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if self.gzip && e.kind() == ErrorKind::UnexpectedEof => {
                    self.cut_off = true;
                    break;
                }
                Err(e) => return Err(self.unreadable(&e)),
            }
        }
        Ok(filled)
    }

    /// Fills `buffer` with bytes of the header, all of which must be there.
    pub fn fill_header(&mut self, buffer: &mut [u8], format: &str) -> Result<()> {
        let start = self.offset;
        let found = self.fill(buffer)?;
        if found < buffer.len() {
            return Err(self.problem(format!(
                "is cut off inside its {format} header: bytes {start} to {} should be there, but the {} after byte {}",
                start + buffer.len() as u64 - 1,
                self.ends(),
                self.offset
            )));
        }
        Ok(())
    }

    /// Reads the rest of the file, which must be exactly what `body` says.
    ///
    /// `decode` appends a chunk of whole values to the result. What the header claims is checked against the file's length
    /// and the memory that there is before any is taken.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that is shorter or longer, or damaged; [`Error::Memory`].
    pub fn read_body<T>(&mut self, body: Body, mut decode: impl FnMut(&[u8], &mut Vec<T>)) -> Result<Vec<T>> {
        let Body { count, size, claim, .. } = body;
        let expected = (count * size) as u64;
        let start = self.offset;
        match self.length {
            Some(length) if self.gzip => self.check_ratio(claim, expected, length)?,
            Some(length) if length.saturating_sub(start) != expected => {
                return Err(self.wrong_length(claim, expected, start, Some(length.saturating_sub(start))));
            }
            _ => {}
        }
        self.check_memory::<T>(body, available_bytes())?;
        let mut values = self.room(count, claim)?;
        let mut chunk = vec![0; CHUNK_BYTES.min(count * size)];
        let mut left = count * size;
        while left > 0 {
            let wanted = left.min(chunk.len());
            let found = self.fill(&mut chunk[..wanted])?;
            if found < wanted {
                return Err(self.wrong_length(claim, expected, start, Some(self.offset - start)));
            }
            decode(&chunk[..wanted], &mut values);
            left -= wanted;
        }
        // One byte more tells whether the file ends here, and makes gzip check its checksum.
        if self.fill(&mut [0])? != 0 {
            return Err(self.wrong_length(claim, expected, start, None));
        }
        if self.cut_off {
            return Err(self.problem(format!(
                "its gzip data is cut off: the checksum at its end is missing, after {} decompressed bytes; get the \
                 file again",
                self.offset
            )));
        }
        Ok(values)
    }

    /// An empty vector with room for `count` values.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none: a [`Vec`] that grows by itself would abort the process.
    pub fn room<T>(&self, count: usize, claim: &str) -> Result<Vec<T>> {
        let mut values = Vec::new();
        match values.try_reserve_exact(count) {
            Ok(()) => Ok(values),
            Err(_) => Err(self.too_large(claim, (count as u64).saturating_mul(size_of::<T>() as u64), None)),
        }
    }

    /// Refuses more values than there is memory for; they are kept as `T`.
    fn check_memory<T>(&self, body: Body, available: Option<u64>) -> Result<()> {
        let bytes = (body.count as u64).saturating_mul(size_of::<T>() as u64);
        let needed = bytes.saturating_mul(body.copies);
        match available {
            Some(available) if needed > available => Err(self.too_large(body.claim, needed, Some(available))),
            _ => {
                let pick = Pick { most_bytes: body.most_bytes, ..Pick::default() };
                pick.check_bytes(&self.path, &format!("its {}", body.claim), needed)
            }
        }
    }

    fn too_large(&self, claim: &str, needed: u64, available: Option<u64>) -> Error {
        let there = match available {
            Some(available) => format!("{} are available", human(available)),
            None => "the system gives no more".to_owned(),
        };
        Error::Memory(format!(
            "{}: its {claim} need {} of memory, but {there}; give a file of fewer rows, uint8 values where they do (other \
             types take four bytes or more a value), or more memory (data.limit does not help: the whole file is read first)",
            self.path.display(),
            human(needed),
        ))
    }

    /// Refuses a gzip file of `length` bytes that cannot hold what its header claims.
    fn check_ratio(&self, claim: &str, expected: u64, length: u64) -> Result<()> {
        let most = length.saturating_mul(GZIP_FACTOR);
        if expected <= most {
            return Ok(());
        }
        Err(self.problem(format!(
            "is cut off, or its header is wrong: that promises {claim}, {expected} bytes, but {length} bytes of gzip \
             hold {most} at most; get the file again"
        )))
    }

    /// The body is shorter or longer than the header says; `found` is `None` for "more, not counted".
    fn wrong_length(&self, claim: &str, expected: u64, start: u64, found: Option<u64>) -> Error {
        let of_what = if self.gzip { " (decompressed)" } else { "" };
        let promise = format!("its header promises {claim}, {expected} bytes after byte {start}{of_what}");
        match found {
            Some(found) if found < expected => self.problem(format!(
                "is cut off: {promise}, but only {found} are there{}; get the file again",
                if self.cut_off { " before the gzip data ends" } else { "" }
            )),
            found => self.problem(format!(
                "has bytes after its end: {promise}, but {} there; either the header is wrong or something was \
                 appended",
                found.map_or("more are".to_owned(), |found| format!("{found} are"))
            )),
        }
    }

    fn unreadable(&self, e: &std::io::Error) -> Error {
        if self.gzip && matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData) {
            self.problem(format!(
                "its gzip data is corrupt after {} decompressed bytes ({e}); get the file again",
                self.offset
            ))
        } else {
            self.problem(format!("cannot be read at byte {}: {e}", self.offset))
        }
    }

    fn ends(&self) -> &'static str {
        if self.cut_off {
            "gzip data ends"
        } else {
            "file ends"
        }
    }
}

pub(super) fn cannot_open(e: &std::io::Error) -> String {
    match e.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        _ => format!("cannot be opened: {e}"),
    }
}
