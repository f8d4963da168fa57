//! The lines of a delimited text: line breaks made alike, separator found, records with their line numbers.

use std::cell::Cell as Shared;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use csv::{ByteRecord, StringRecord};

use super::column::Cell;
use crate::data::format::Pick;
use crate::error::{Error, Result};

/// The longest line (or record with line breaks in quotes) that is read.
const LONGEST: u64 = 64 << 20;
/// Bytes that one byte of a line comes to, at the most, while it is read: where each cell is empty.
const LINE_COST: u64 = 16;
/// No line is refused that is shorter.
const SHORT: u64 = 64 << 10;
/// Cells that are looked at to see what the columns are.
const SAMPLED_CELLS: u64 = 4 << 20;
/// The separator is looked for in so many bytes, or more where lines are long.
const HEAD: usize = 256 << 10;
/// Records that are looked at to find the separator.
const TRIED: usize = 50;
/// Follows the last byte. A record of its own means that all quotes are closed; in a cell, that one is open.
const END: &str = "\n\u{4}";
/// Separates nothing: the separator of a file with one column.
const NO_SEPARATOR: u8 = 0x1f;
/// Memory that one column needs before it has a row.
const COLUMN_BYTES: u64 = 256;

/// How the cells of a file are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::data::format) struct Style {
    /// What separates cells; `None` where each line is one cell.
    pub separator: Option<u8>,
    /// Whether 1,5 is a number.
    pub decimal_comma: bool,
}

/// Reads records one after the other.
pub(in crate::data::format) struct Records<'a> {
    path: &'a Path,
    reader: csv::Reader<Metered<'a>>,
    left: Rc<Shared<u64>>,
    /// The longest line that is read here.
    longest: u64,
    most_bytes: u64,
    /// Lines before the first record.
    skipped: u64,
    /// The line after the last record.
    after: u64,
    /// Blank lines between the last record and the one before.
    pub blank_before: u64,
    pub style: Style,
}

impl<'a> Records<'a> {
    /// Reads the first lines and finds out how cells are separated. `spaces`: whether runs of spaces may do it.
    pub fn open(path: &'a Path, bytes: &'a mut dyn Read, pick: &Pick, spaces: bool) -> Result<Self> {
        let mut source = Newlines { inner: bytes, after_cr: false };
        let (mut head, whole) = read_head(path, &mut source, pick)?;
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return Err(Error::data(path, "line 1 begins with the mark of UTF-16 text; save it as UTF-8"));
        }
        if head.is_empty() {
            return Err(Error::data(path, "is empty; give a file with one row a line"));
        }
        let (start, skipped) = preamble(&head);
        head.drain(..start);
        if head.is_empty() {
            return Err(Error::data(path, "has only blank lines and comments; give a file with one row a line"));
        }
        let style = find_style(&head, whole, spaces);
        check_width(path, &head, style, pick)?;
        let mut text: Box<dyn Read + 'a> = Box::new(io::Cursor::new(head).chain(source));
        if style.separator == Some(b' ') {
            text = Box::new(Squeeze::new(text));
        }
        let longest = LONGEST.min((pick.most_bytes / LINE_COST).max(SHORT));
        let left = Rc::new(Shared::new(longest));
        let metered = Metered { inner: Box::new(text.chain(END.as_bytes())), left: Rc::clone(&left) };
        let reader = csv_reader(metered, style.separator.unwrap_or(NO_SEPARATOR));
        Ok(Self { path, reader, left, longest, most_bytes: pick.most_bytes, skipped, after: 1, blank_before: 0, style })
    }

    /// Reads the next record and returns its line, from 1. `None` at the end.
    pub fn next(&mut self, record: &mut StringRecord) -> Result<Option<u64>> {
        loop {
            self.left.set(self.longest);
            let more = self.reader.read_record(record).map_err(|error| self.refusal(&error))?;
            if !more {
                return Ok(None);
            }
            // The reader's own line of a record is that of the blank lines before it. So count back from its end.
            let after = self.reader.position().line();
            let breaks = record.as_slice().bytes().filter(|&byte| byte == b'\n').count() as u64;
            let first = after.saturating_sub(breaks + 1).max(1);
            let last_cell = record.iter().next_back().unwrap_or_default();
            if record.len() == 1 && last_cell == END.trim_start() {
                return Ok(None);
            }
            let line = first + self.skipped;
            if last_cell.ends_with(END) {
                // The end mark's line break is inside the cell, and none ends the record.
                let line = after.saturating_sub(breaks) + self.skipped;
                let problem = format!("a quote that opens in line {line} is never closed; close it");
                return Err(Error::data(self.path, problem));
            }
            self.blank_before = first.saturating_sub(self.after);
            self.after = after;
            if record.as_slice().contains('\0') {
                return Err(Error::data(
                    self.path,
                    format!("line {line} has a NUL byte, which no text has; save it as UTF-8 text"),
                ));
            }
            let blank = record.len() == 1 && last_cell.trim().is_empty();
            if !(blank && self.style.separator.is_some()) {
                return Ok(Some(line));
            }
        }
    }

    /// The first records, with their lines: enough to see what the columns are.
    pub fn sample(&mut self) -> Result<Vec<(u64, StringRecord)>> {
        let mut sample = Vec::new();
        let (mut bytes, mut cells) = (0, 0);
        let most_cells = SAMPLED_CELLS.min(self.most_bytes / (2 * LINE_COST)) as usize;
        while sample.len() < 200 && ((bytes < 4 << 20 && cells < most_cells) || sample.len() < 2) {
            let mut record = StringRecord::new();
            let Some(line) = self.next(&mut record)? else { break };
            bytes += record.as_slice().len();
            cells += record.len();
            sample.push((line, record));
        }
        Ok(sample)
    }

    /// What is wrong if the reader fails.
    fn refusal(&self, error: &csv::Error) -> Error {
        let line = self.reader.position().line() + self.skipped;
        if self.left.get() == 0 && self.longest < LONGEST {
            let megabytes = self.most_bytes / 1_000_000;
            return Error::Memory(format!(
                "{}: line {line} takes more than the {megabytes} MB of memory that may be used, or a quote in it is never \
                 closed; close the quote, or allow more (data.max_memory)",
                self.path.display()
            ));
        }
        let problem = match error.kind() {
            csv::ErrorKind::Utf8 { .. } => {
                // The reader stands behind the record.
                format!("line {} is no UTF-8 text; save it as UTF-8", line.saturating_sub(1).max(1))
            }
            _ if self.left.get() == 0 => too_long(line),
            _ => format!("cannot be read after line {}: {error}; check the file", line.saturating_sub(1)),
        };
        Error::data(self.path, problem)
    }
}

fn too_long(line: u64) -> String {
    format!(
        "line {line} is longer than {} MiB, or a quote in it is never closed; break the line or close the quote",
        LONGEST >> 20
    )
}

/// Reads the first lines. Also says whether that is all.
fn read_head(path: &Path, source: &mut Newlines, pick: &Pick) -> Result<(Vec<u8>, bool)> {
    let mut head = Vec::new();
    let most = LONGEST as usize + 1;
    loop {
        let chunk = head.len().clamp(HEAD, most.saturating_sub(head.len()).max(HEAD));
        let read = source.take(chunk as u64).read_to_end(&mut head);
        let read = read.map_err(|error| Error::data(path, format!("cannot be read: {error}; check the file")))?;
        if head.starts_with(&[0xef, 0xbb, 0xbf]) {
            head.drain(..3);
        }
        let cost = if head.len() > HEAD { LINE_COST } else { 1 };
        pick.check_bytes(path, "its first lines", (head.len() as u64).saturating_mul(cost))?;
        if read < chunk {
            return Ok((head, true));
        }
        let (start, skipped) = preamble(&head);
        let lines = head[start..].iter().filter(|&&byte| byte == b'\n').count();
        if lines >= 3 || (head.len() >= most && lines > 0) {
            return Ok((head, false));
        }
        if head.len() >= most {
            return Err(Error::data(path, too_long(skipped + 1)));
        }
    }
}

/// The bytes and the lines before the first line that is neither blank nor a comment.
fn preamble(head: &[u8]) -> (usize, u64) {
    let (mut start, mut lines) = (0, 0);
    while start < head.len() {
        let rest = &head[start..];
        let length = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
        let line = rest[..length].trim_ascii();
        if !line.is_empty() && line[0] != b'#' {
            break;
        }
        start += length;
        lines += 1;
    }
    (start, lines)
}

/// Refuses a first line with more cells than the memory holds columns.
fn check_width(path: &Path, head: &[u8], style: Style, pick: &Pick) -> Result<()> {
    let Some(separator) = style.separator else { return Ok(()) };
    let cells = head.iter().take_while(|&&byte| byte != b'\n').filter(|&&byte| byte == separator).count() + 1;
    pick.check_bytes(path, &format!("the {cells} columns of its first line"), cells as u64 * COLUMN_BYTES)
}

fn csv_reader<R: Read>(text: R, separator: u8) -> csv::Reader<R> {
    csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text)
}

/// How well a separator suits the first lines.
struct Trial {
    /// The number of cells that most records have.
    width: usize,
    /// The share of records that have it.
    agree: f64,
    /// The share of cells that are numbers, of all but the first record.
    numbers: f64,
    decimal_comma: bool,
}

impl Trial {
    fn of(head: &[u8], whole: bool, separator: u8, most: usize) -> Self {
        let mut reader = csv_reader(head, separator);
        let mut record = ByteRecord::new();
        let mut widths = HashMap::<usize, usize>::new();
        let (mut records, mut cells, mut numbers, mut decimal_comma) = (0_usize, 0_usize, 0_usize, false);
        while records < most && reader.read_byte_record(&mut record).unwrap_or(false) {
            let cut = !whole && reader.position().byte() >= head.len() as u64;
            if cut && records > 0 {
                break;
            }
            if record.len() == 1 && record[0].trim_ascii().is_empty() {
                continue;
            }
            *widths.entry(record.len()).or_default() += 1;
            for cell in record.iter().map(|cell| std::str::from_utf8(cell).unwrap_or("text")) {
                let with_comma = separator == b';' && is_decimal_comma(cell);
                decimal_comma |= with_comma;
                if records > 0 {
                    cells += 1;
                    numbers += usize::from(with_comma || !matches!(Cell::of(cell, false), Cell::Text));
                }
            }
            records += 1;
        }
        let (width, agreeing) = widths.into_iter().max_by_key(|&(width, count)| (count, width)).unwrap_or((0, 0));
        let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
        Self { width, agree: share(agreeing, records), numbers: share(numbers, cells), decimal_comma }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_share = self.agree.total_cmp(&other.agree).then(self.numbers.total_cmp(&other.numbers));
        by_share.then(self.width.cmp(&other.width))
    }
}

/// Whether a cell is digits, a comma and digits.
fn is_decimal_comma(cell: &str) -> bool {
    let cell = cell.trim().trim_start_matches(['+', '-']);
    let digits = |text: &str| text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    cell.split_once(',').is_some_and(|(whole, part)| {
        whole.bytes().all(|byte| byte.is_ascii_digit()) && digits(part) && part.replace(',', "x").parse::<f64>().is_ok()
    })
}

/// The separator that splits the first lines most evenly.
fn find_style(head: &[u8], whole: bool, spaces: bool) -> Style {
    let mut best: Option<(u8, Trial)> = None;
    for separator in [b',', b';', b'\t', b'|'] {
        let trial = Trial::of(head, whole, separator, TRIED);
        let better = best.as_ref().is_none_or(|(_, other)| trial.compare(other) == Ordering::Greater);
        if trial.width > 1 && better {
            best = Some((separator, trial));
        }
    }
    if best.is_none() && spaces {
        let mut squeeze = Squeeze::new(Box::new(io::empty()));
        squeeze.squeeze(head);
        let squeezed = squeeze.ready;
        let trial = Trial::of(&squeezed, whole, b' ', TRIED);
        let single = !head.trim_ascii().contains(&b'\n');
        if trial.width > 1 && (trial.numbers > 0.0 || single) {
            best = Some((b' ', trial));
        }
    }
    let separator = best.map(|(separator, _)| separator);
    // All of the first lines count here, because whole numbers may come first.
    let decimal_comma = separator == Some(b';') && Trial::of(head, whole, b';', usize::MAX).decimal_comma;
    Style { separator, decimal_comma }
}

/// Makes `\r\n` and `\r` into `\n`.
struct Newlines<'a> {
    inner: &'a mut dyn Read,
    after_cr: bool,
}

impl Read for Newlines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if read == 0 || (!self.after_cr && !buffer[..read].contains(&b'\r')) {
                return Ok(read);
            }
            let mut kept = 0;
            for at in 0..read {
                let byte = buffer[at];
                let second = byte == b'\n' && self.after_cr;
                self.after_cr = byte == b'\r';
                if !second {
                    buffer[kept] = if byte == b'\r' { b'\n' } else { byte };
                    kept += 1;
                }
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

/// Makes runs of spaces into one, and drops those at the ends of lines.
struct Squeeze<'a> {
    inner: Box<dyn Read + 'a>,
    /// A space was read that is not yet written.
    pending: bool,
    quoted: bool,
    at_start: bool,
    /// Bytes to give, of which so many were given.
    ready: Vec<u8>,
    given: usize,
}

impl<'a> Squeeze<'a> {
    fn new(inner: Box<dyn Read + 'a>) -> Self {
        Self { inner, pending: false, quoted: false, at_start: true, ready: Vec::new(), given: 0 }
    }

    fn squeeze(&mut self, bytes: &[u8]) {
        self.ready.clear();
        self.given = 0;
        for &byte in bytes {
            if byte == b' ' && !self.quoted {
                self.pending = !self.at_start;
                continue;
            }
            if self.pending && byte != b'\n' {
                self.ready.push(b' ');
            }
            self.pending = false;
            self.quoted ^= byte == b'"';
            self.at_start = byte == b'\n' && !self.quoted;
            self.ready.push(byte);
        }
    }
}

impl Read for Squeeze<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.ready.len() {
            let mut input = [0; 4096];
            let read = self.inner.read(&mut input)?;
            if read == 0 {
                return Ok(0);
            }
            self.squeeze(&input[..read]);
        }
        let count = buffer.len().min(self.ready.len() - self.given);
        buffer[..count].copy_from_slice(&self.ready[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

/// Fails after so many bytes as are left, so that no record fills the memory.
struct Metered<'a> {
    inner: Box<dyn Read + 'a>,
    left: Rc<Shared<u64>>,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("the line is too long"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..most])?;
        self.left.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}
