//! Lines of a text file, numbered and bounded in length.

use std::io::{BufRead, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// The longest line that is read. A file of zeros without a line's end would fill the memory otherwise.
const MOST_LINE_BYTES: u64 = 256 << 20;

/// Reads a text file line by line.
pub struct Lines<'a> {
    path: &'a Path,
    bytes: &'a mut dyn BufRead,
    line: Vec<u8>,
    number: u64,
}

impl<'a> Lines<'a> {
    /// Lines of `bytes`; `path` is for the errors.
    pub fn new(path: &'a Path, bytes: &'a mut dyn BufRead) -> Self {
        Self { path, bytes, line: Vec::new(), number: 0 }
    }

    /// The number of the line that was read last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line without its end, and its number from 1; `None` at the file's end.
    pub fn advance(&mut self) -> Result<Option<(u64, &str)>> {
        self.line.clear();
        let mut bounded = (&mut *self.bytes).take(MOST_LINE_BYTES);
        let read = bounded
            .read_until(b'\n', &mut self.line)
            .map_err(|error| unreadable(self.path, &format!("cannot be read after line {}", self.number), &error))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
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
    use super::*;

    #[test]
    fn lines_are_numbered_and_lose_their_ends() {
        let mut bytes: &[u8] = "\u{feff}a\r\n\nb".as_bytes();
        let mut lines = Lines::new(Path::new("f"), &mut bytes);
        assert_eq!(lines.advance().unwrap(), Some((1, "a")));
        assert_eq!(lines.advance().unwrap(), Some((2, "")));
        assert_eq!(lines.advance().unwrap(), Some((3, "b")));
        assert_eq!(lines.advance().unwrap(), None);
        assert_eq!(lines.number(), 3);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let mut bytes: &[u8] = b"a\n\xff\xfe\n";
        let mut lines = Lines::new(Path::new("f"), &mut bytes);
        lines.advance().unwrap();
        assert!(lines.advance().unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn long_tokens_are_shortened() {
        assert_eq!(quoted("ab"), "\"ab\"");
        assert!(quoted(&"é".repeat(1000)).chars().count() < 50);
    }
}
