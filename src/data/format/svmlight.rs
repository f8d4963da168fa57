//! svmlight and libsvm text: `label index:value index:value …`, one row a line.

use std::io::BufRead;
use std::path::Path;

use super::lines::{at_line, quoted, Lines};
use super::{Csr, Pick, Table, Values};
use crate::error::{Error, Result};

/// The name by which [`Pick::label_column`] asks for the labels.
const LABEL: &str = "label";

/// Reads svmlight text from `bytes`; `path` is for the errors. Indices begin at 1, or at 0 if a 0 occurs. Labels are
/// kept if [`Pick::label_column`] is "label".
pub fn read(path: &Path, bytes: &mut dyn BufRead, pick: &Pick) -> Result<Table> {
    let mut found = Found { starts: vec![0], ..Found::default() };
    match pick.label_column {
        None => {}
        Some(LABEL) => found.labels = Some(Vec::new()),
        Some(other) => {
            return Err(Error::data(
                path,
                format!(
                    "has no column {}: the labels of svmlight text are called \"{LABEL}\"; ask for that",
                    quoted(other)
                ),
            ));
        }
    }
    let mut lines = Lines::new(path, bytes, pick);
    while let Some((number, line)) = lines.advance()? {
        found.take_line(line).map_err(|problem| at_line(path, number, problem))?;
        pick.check_bytes(path, &format!("the rows up to line {number}"), found.bytes())?;
    }
    found.into_table(path)
}

/// What was found so far. Indices are as written.
#[derive(Default)]
struct Found {
    starts: Vec<u64>,
    indices: Vec<u32>,
    values: Vec<f32>,
    labels: Option<Vec<Option<String>>>,
    label_bytes: u64,
    /// The smallest and the largest index.
    span: Option<(u32, u32)>,
    queries: u64,
    unsorted: u64,
    row: Vec<(u32, f32)>,
}

impl Found {
    /// Bytes that the rows take in memory.
    fn bytes(&self) -> u64 {
        8 * (self.starts.len() as u64 + self.values.len() as u64) + self.label_bytes
    }

    /// Takes one line; the error says what is wrong with it.
    fn take_line(&mut self, line: &str) -> std::result::Result<(), String> {
        let text = line.split('#').next().unwrap_or_default();
        let mut tokens = text.split_ascii_whitespace().peekable();
        let Some(&first) = tokens.peek() else { return Ok(()) };
        // A line that begins with a space has an empty list of labels: so writes scikit-learn.
        let unlabelled = first.contains(':') && text.starts_with([' ', '\t']);
        let label = if unlabelled { None } else { tokens.next() };
        self.take_label(label)?;
        if tokens.peek().is_some_and(|token| token.starts_with("qid:")) {
            tokens.next();
            self.queries += 1;
        }
        self.row.clear();
        for token in tokens {
            self.row.push(feature(token)?);
        }
        self.take_row()
    }

    /// Checks a row's label, and keeps it if labels are asked for.
    fn take_label(&mut self, label: Option<&str>) -> std::result::Result<(), String> {
        if let Some(label) = label {
            if label.split(',').any(|part| part.parse::<f64>().is_err()) {
                return Err(format!("begins with {}, where a number is expected, the label; write one", quoted(label)));
            }
            if self.labels.is_some() && label.contains(',') {
                return Err(format!(
                    "has several labels, {}; give each row one label, or do not ask for labels",
                    quoted(label)
                ));
            }
        }
        if let Some(labels) = &mut self.labels {
            self.label_bytes += (size_of::<Option<String>>() + label.map_or(0, str::len)) as u64;
            labels.push(label.map(str::to_owned));
        }
        Ok(())
    }

    /// Moves the row in, its indices sorted.
    fn take_row(&mut self) -> std::result::Result<(), String> {
        if self.row.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            self.row.sort_by_key(|entry| entry.0);
            if let Some(pair) = self.row.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(format!("index {} comes twice; keep one of its values", pair[0].0));
            }
            self.unsorted += 1;
        }
        if let (Some(first), Some(last)) = (self.row.first(), self.row.last()) {
            let (least, most) = self.span.unwrap_or((first.0, last.0));
            self.span = Some((least.min(first.0), most.max(last.0)));
        }
        self.indices.extend(self.row.iter().map(|entry| entry.0));
        self.values.extend(self.row.iter().map(|entry| entry.1));
        self.starts.push(self.indices.len() as u64);
        Ok(())
    }

    /// The table, once all lines are in.
    fn into_table(mut self, path: &Path) -> Result<Table> {
        let rows = self.starts.len() - 1;
        let Some((least, most)) = self.span else {
            let problem = if rows == 0 { "has no rows" } else { "has labels alone, and no index:value" };
            return Err(Error::data(path, format!("{problem}; check that this is the right file")));
        };
        let base = least.min(1);
        self.indices.iter_mut().for_each(|index| *index -= base);
        let mut notes = vec![format!("the indices of the features begin at {base}")];
        if self.queries > 0 {
            notes.push(format!("rows whose qid was left out: {}", self.queries));
        }
        if self.unsorted > 0 {
            notes.push(format!("rows whose indices did not ascend and were sorted: {}", self.unsorted));
        }
        let shape = [rows, (most - base) as usize + 1];
        let values = Values::Csr(Csr { shape, starts: self.starts, columns: self.indices, values: self.values });
        Ok(Table { values, labels: self.labels, notes, ..Table::default() })
    }
}

/// Reads "index:value".
fn feature(token: &str) -> std::result::Result<(u32, f32), String> {
    let Some((index, value)) = token.split_once(':') else {
        return Err(format!("{} is not index:value; correct or delete it", quoted(token)));
    };
    let index = index.parse::<u32>().map_err(|_| {
        format!("{}: the index is not a whole number from 0 to {}; correct it", quoted(token), u32::MAX)
    })?;
    let value =
        value.parse::<f32>().map_err(|_| format!("{}: the value is not a number; correct it", quoted(token)))?;
    if !value.is_finite() {
        return Err(format!(
            "{}: the value is not finite in float32, and sparse rows have no missing values; replace or delete it",
            quoted(token)
        ));
    }
    Ok((index, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn parse(text: &str, label_column: Option<&str>) -> Result<Table> {
        let pick = Pick { label_column, most_bytes: 1 << 20, ..Pick::default() };
        read(Path::new("f.svm"), &mut text.as_bytes(), &pick)
    }

    fn csr(table: &Table) -> &Csr {
        let Values::Csr(csr) = &table.values else { panic!("not sparse") };
        csr
    }

    fn refused(text: &str) -> String {
        parse(text, Some("label")).unwrap_err().to_string()
    }

    #[test]
    fn reads_labels_queries_comments_and_empty_rows() {
        let table = parse("# head\n+1 qid:3 1:0.5 3:-2e1 # tail\r\n\n-1.50 \n2 2:7", Some("label")).unwrap();
        assert_eq!(csr(&table).shape, [3, 3]);
        assert_eq!(csr(&table).starts, [0, 2, 2, 3]);
        assert_eq!(csr(&table).columns, [0, 2, 1]);
        assert_eq!(csr(&table).values, [0.5, -20.0, 7.0]);
        let labels: Vec<_> = table.labels.as_ref().unwrap().iter().map(|label| label.as_deref().unwrap()).collect();
        assert_eq!(labels, ["+1", "-1.50", "2"]);
        assert_eq!(table.notes, ["the indices of the features begin at 1", "rows whose qid was left out: 1"]);
    }

    #[test]
    fn a_zero_anywhere_makes_indices_begin_at_zero() {
        let table = parse("1 2:1\n1 0:4\n", None).unwrap();
        assert_eq!(csr(&table).shape, [2, 3]);
        assert_eq!(csr(&table).columns, [2, 0]);
        assert_eq!(table.labels, None);
        assert_eq!(table.notes, ["the indices of the features begin at 0"]);
    }

    #[test]
    fn sorts_rows_and_refuses_an_index_that_comes_twice() {
        let table = parse("1 5:5 2:2 9:9\n", None).unwrap();
        assert_eq!(csr(&table).columns, [1, 4, 8]);
        assert_eq!(csr(&table).values, [2.0, 5.0, 9.0]);
        assert!(refused("1 1:1\n1 4:1 2:1 4:1\n").contains("line 2: index 4 comes twice"));
        assert!(refused("1 4:1 4:1\n").contains("line 1: index 4 comes twice"));
    }

    #[test]
    fn several_labels_are_refused_only_if_labels_are_asked_for() {
        assert!(parse("1,3 1:1\n 2:1\n", None).is_ok());
        assert!(refused("1 1:1\n1,3 1:1\n").contains("line 2: has several labels, \"1,3\""));
        let table = parse(" 1:1\n7 1:1\n", Some("label")).unwrap();
        assert_eq!(table.labels.unwrap(), [None, Some("7".to_owned())]);
    }

    #[test]
    fn hostile_tokens_are_refused_with_line_and_token() {
        for (text, part) in [
            ("1 1:1\n1 -1:2", "line 2: \"-1:2\""),
            ("1 4294967296:2", "\"4294967296:2\""),
            ("1 1:nan", "\"1:nan\""),
            ("1 1:inf", "\"1:inf\""),
            ("1 1:1e39", "\"1:1e39\""),
            ("1 1:", "\"1:\""),
            ("1 :1", "\":1\""),
            ("1 1", "\"1\" is not index:value"),
            ("1 1:2:3", "\"1:2:3\""),
            ("cat 1:1", "\"cat\""),
            ("1:1 2:2", "begins with \"1:1\""),
            ("1 1:1 qid:3", "\"qid:3\""),
            ("", "no rows"),
            ("# a\n", "no rows"),
            ("1\n2\n", "labels alone"),
        ] {
            let error = refused(text);
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(parse("1 1:1", Some("y")).unwrap_err().to_string().contains("\"label\""));
        assert!(read(Path::new("f"), &mut &b"1 1:\xff\xff"[..], &Pick { most_bytes: 99, ..Pick::default() }).is_err());
    }

    #[test]
    fn the_largest_index_fits_and_memory_is_bounded() {
        assert_eq!(csr(&parse("1 0:1 4294967295:2", None).unwrap()).shape, [1, 1 << 32]);
        let pick = Pick { most_bytes: 100, ..Pick::default() };
        let text = "1 1:1\n".repeat(50);
        assert!(matches!(read(Path::new("f"), &mut text.as_bytes(), &pick), Err(Error::Memory(_))));
    }
}
