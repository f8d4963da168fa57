//! How a text is written: its separator, its decimal mark, whether its first line names the columns.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::data::format::{columns_named, Pick};
use crate::error::{Error, Result};

/// Lines that are looked at.
const LINES: usize = 50;

/// How a text is written.
pub(super) struct Dialect {
    pub separator: u8,
    /// Whether numbers have a comma where others have a point.
    pub decimal_comma: bool,
    /// Whether runs of spaces separate the cells.
    spaces: bool,
}

/// How many bytes of a byte-order mark begin the text.
pub(super) fn skip_mark(path: &Path, head: &[u8]) -> Result<usize> {
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Err(Error::data(path, "is UTF-16 text: save it as UTF-8"));
    }
    Ok(if head.starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 })
}

impl Dialect {
    /// The separator that gives the first lines the same number of cells, two or more; of several the one that gives the most.
    pub fn of(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        // The last line may be cut off.
        let whole = text.rsplit_once('\n').map_or(&*text, |(whole, _)| whole);
        let lines: Vec<&str> = meaningful(whole).take(LINES).collect();
        let cells = |separator: u8| -> usize {
            let counts: Vec<usize> = lines.iter().map(|line| outside_quotes(line, separator) + 1).collect();
            match counts.first() {
                Some(&first) if first > 1 && counts.iter().all(|&count| count == first) => first,
                _ => 0,
            }
        };
        let found =
            [b'\t', b';', b',', b'|'].into_iter().max_by_key(|&separator| (cells(separator), separator == b','));
        let separator = found.filter(|&separator| cells(separator) > 1);
        let any = |byte: u8| lines.iter().any(|line| line.as_bytes().contains(&byte));
        let spaces = separator.is_none() && ![b'\t', b';', b',', b'|'].into_iter().any(any) && any(b' ');
        let separator = separator.unwrap_or_else(|| if spaces { b' ' } else { most_common(&lines) });
        let comma = |cell: &str| cell.contains(',') && number(&cell.replace(',', "."), false).is_some();
        let decimal_comma =
            separator == b';' && lines.iter().any(|line| line.split(';').any(|cell| comma(cell.trim())));
        Self { separator, decimal_comma, spaces }
    }

    /// The text as the table's reader takes it: runs of spaces become one.
    pub fn reader<'a>(&self, text: impl Read + 'a) -> Box<dyn Read + 'a> {
        if self.spaces {
            Box::new(SingleSpaces { inner: BufReader::new(text), line: Vec::new(), at: 0 })
        } else {
            Box::new(text)
        }
    }

    /// The cells of the first lines, for a look at them.
    pub fn first_lines(&self, head: &[u8]) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.separator)
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .from_reader(self.reader(head));
        let decimal = |cell: &str| if self.decimal_comma { cell.replace(',', ".") } else { cell.to_owned() };
        let records = reader.byte_records().take(LINES).map_while(std::result::Result::ok);
        records.map(|record| record.iter().map(|cell| decimal(&String::from_utf8_lossy(cell))).collect()).collect()
    }
}

/// A line's separators outside quotes.
fn outside_quotes(line: &str, separator: u8) -> usize {
    let mut quoted = false;
    line.bytes()
        .filter(|&byte| {
            quoted ^= byte == b'"';
            byte == separator && !quoted
        })
        .count()
}

/// Where no separator fits all lines: the one that is there, so that the message about cells makes sense.
fn most_common(lines: &[&str]) -> u8 {
    let count = |separator: u8| lines.iter().map(|line| outside_quotes(line, separator)).sum::<usize>();
    [b'\t', b';', b',', b'|'].into_iter().max_by_key(|&separator| (count(separator), separator == b',')).unwrap_or(b',')
}

fn meaningful(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

/// Whether the first line names the columns: it has a cell that is no number where the others of that column are, or the pick names
/// one of its cells, or all of it is text, each cell another.
pub(super) fn has_header(lines: &[Vec<String>], pick: &Pick) -> bool {
    let Some((first, rest)) = lines.split_first() else { return false };
    let named = |name: &str| first.iter().any(|cell| cell == name);
    if columns_named(pick).any(named) {
        return true;
    }
    let is_number = |cell: &str| super::columns::is_missing(cell) || number(cell, false).is_some();
    let column = |place: usize| rest.iter().filter_map(move |line| line.get(place));
    let over_numbers = |place: usize| {
        column(place).next().is_some()
            && column(place).all(|cell| is_number(cell))
            && column(place).any(|cell| number(cell, false).is_some())
    };
    let texts = first.iter().enumerate().filter(|(_, cell)| !is_number(cell));
    if texts.clone().any(|(place, _)| over_numbers(place)) {
        return true;
    }
    let all_text = texts.count() == first.len();
    let different = first.iter().collect::<std::collections::HashSet<_>>().len() == first.len();
    // A header's cells do not come again below it.
    let again = first.iter().enumerate().any(|(place, cell)| column(place).any(|other| other == cell));
    all_text && different && !again && rest.len() != 1
}

/// The number that a cell says.
pub(super) fn number(cell: &str, decimal_comma: bool) -> Option<f64> {
    let text = if decimal_comma { cell.replace(',', ".") } else { cell.to_owned() };
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.iI".contains(c)) {
        return None;
    }
    text.parse().ok()
}

/// Lines without spaces at their ends, and with one for each run of them within.
struct SingleSpaces<R> {
    inner: BufReader<R>,
    line: Vec<u8>,
    at: usize,
}

impl<R: Read> Read for SingleSpaces<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.line.len() {
            let mut raw = Vec::new();
            if self.inner.read_until(b'\n', &mut raw)? == 0 {
                return Ok(0);
            }
            let words: Vec<&[u8]> = raw.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
            self.line = words.join(&b' ');
            self.line.push(b'\n');
            self.at = 0;
        }
        let count = out.len().min(self.line.len() - self.at);
        out[..count].copy_from_slice(&self.line[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
