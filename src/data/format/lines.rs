//! Lines of a text file, numbered and bounded in length.

use std::io::{BufRead, Read};
use std::path::Path;

use super::Pick;
use crate::error::{Error, Result};

/// The longest line that is read. A file of zeros without a line's end would fill the memory otherwise.
const MOST_LINE_BYTES: u64 = 256 << 20;
/// Bytes that one byte of a line comes to, at the most, while it is read.
const LINE_COST: u64 = 4;

/// Reads a text file line by line.
pub struct Lines<'a> {
    path: &'a Path,
    bytes: &'a mut dyn BufRead,
    line: Vec<u8>,
    number: u64,
    /// Bytes that [`Pick::most_bytes`] is.
    most_bytes: u64,
}

impl<'a> Lines<'a> {
    /// Lines of `bytes`, none of which takes more memory than `pick` allows; `path` is for the errors.
    pub fn new(path: &'a Path, bytes: &'a mut dyn BufRead, pick: &Pick) -> Self {
        Self { path, bytes, line: Vec::new(), number: 0, most_bytes: pick.most_bytes }
    }

    /// The number of the line that was read last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line without its end, and its number from 1; `None` at the file's end.
    pub fn advance(&mut self) -> Result<Option<(u64, &str)>> {
        self.line.clear();
        let most = MOST_LINE_BYTES.min(self.most_bytes / LINE_COST + 1);
        let mut bounded = (&mut *self.bytes).take(most);
        let read = bounded
            .read_until(b'\n', &mut self.line)
            .map_err(|error| unreadable(self.path, &format!("cannot be read after line {}", self.number), &error))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        let pick = Pick { most_bytes: self.most_bytes, ..Pick::default() };
        pick.check_bytes(self.path, &format!("line {number} and its values"), (read as u64).saturating_mul(LINE_COST))?;
        if read as u64 == MOST_LINE_BYTES {
            return Err(at_line(self.path, number, "is longer than 256 MB; check that this is the right file"));
        }
        let line = std::str::from_utf8(&self.line)
            .map_err(|_| at_line(self.path, number, "is not UTF-8 text; check that this is the right file"))?;
        let line = if number == 1 { line.trim_start_matches('\u{feff}') } else { line };
        Ok(Some((number, line.trim_end_matches(['\n', '\r']))))
    }
}

/// An error at a line.
pub fn at_line(path: &Path, number: u64, problem: impl std::fmt::Display) -> Error {
    Error::data(path, format!("line {number}: {problem}"))
}

/// An error of the operating system or of decompression; `what` says what could not be done.
pub fn unreadable(path: &Path, what: &str, error: &std::io::Error) -> Error {
    let remedy = match error.kind() {
        std::io::ErrorKind::NotFound => "check its name",
        std::io::ErrorKind::PermissionDenied => "check its permissions",
        _ => "it may be damaged or cut short, so fetch or write it again",
    };
    Error::data(path, format!("{what}: {error}; {remedy}"))
}

/// A token for an error: quoted, and its beginning alone if it is long.
pub fn quoted(token: &str) -> String {
    if token.chars().nth(40).is_none() {
        return format!("{token:?}");
    }
    format!("{:?}…", token.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::super::testing::ROOMY;
    use super::*;

    #[test]
    fn lines_are_numbered_and_lose_their_ends() {
        let mut bytes: &[u8] = "\u{feff}a\r\n\nb".as_bytes();
        let mut lines = Lines::new(Path::new("f"), &mut bytes, &ROOMY);
        assert_eq!(lines.advance().unwrap(), Some((1, "a")));
        assert_eq!(lines.advance().unwrap(), Some((2, "")));
        assert_eq!(lines.advance().unwrap(), Some((3, "b")));
        assert_eq!(lines.advance().unwrap(), None);
        assert_eq!(lines.number(), 3);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let mut bytes: &[u8] = b"a\n\xff\xfe\n";
        let mut lines = Lines::new(Path::new("f"), &mut bytes, &ROOMY);
        lines.advance().unwrap();
        assert!(lines.advance().unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn a_line_takes_no_more_memory_than_is_allowed() {
        let mut endless = std::io::BufReader::new(std::io::repeat(b'1'));
        let few = Pick { most_bytes: 1 << 16, ..ROOMY };
        let error = Lines::new(Path::new("f"), &mut endless, &few).advance().unwrap_err();
        assert!(matches!(&error, Error::Memory(text) if text.contains("line 1")), "{error}");
    }

    #[test]
    fn long_tokens_are_shortened() {
        assert_eq!(quoted("ab"), "\"ab\"");
        assert!(quoted(&"é".repeat(1000)).chars().count() < 50);
    }
}
