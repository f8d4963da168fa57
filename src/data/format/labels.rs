//! Labels: a text file of them, and the classes that they name.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use csv::StringRecord;

use super::delimited::column::Cell;
use super::delimited::header::Header;
use super::delimited::records::Records;
use super::delimited::{list, shown};
use super::{is_class_name, Pick};
use crate::error::{Error, Result};

/// Bytes that a label takes in memory besides its letters, a missing one too.
pub(in crate::data) const LABEL_BYTES: u64 = 40;

/// Reads labels from text: one a line, or the column of this name (without a header: of this number, from 1) of CSV or TSV. They
/// take no more than so many bytes of memory.
///
/// # Errors
///
/// If it is no UTF-8 text, has no labels, has several columns and `column` is `None`, or has no such column; [`Error::Memory`].
pub fn read_text(
    path: &Path,
    bytes: &mut dyn Read,
    column: Option<&str>,
    most_bytes: u64,
) -> Result<Vec<Option<String>>> {
    let pick = Pick { most_bytes, ..Pick::default() };
    // Labels may have spaces. So spaces separate columns only if one of them is asked for.
    let mut records = Records::open(path, bytes, &pick, column.is_some())?;
    let labels = if records.style.separator.is_none() {
        read_lines(path, &mut records, column, &pick)?
    } else {
        read_column(path, &mut records, column, &pick)?
    };
    if labels.is_empty() {
        return Err(Error::data(path, "has a header and no labels; give a file with one label a line"));
    }
    Ok(labels)
}

fn label(cell: &str) -> Option<String> {
    let cell = cell.trim();
    (Cell::of(cell, false) != Cell::Missing).then(|| cell.to_owned())
}

/// Labels that are found one after the other, within the memory.
struct Found<'a> {
    path: &'a Path,
    pick: &'a Pick<'a>,
    labels: Vec<Option<String>>,
    bytes: u64,
}

impl<'a> Found<'a> {
    fn new(path: &'a Path, pick: &'a Pick<'a>) -> Self {
        Self { path, pick, labels: Vec::new(), bytes: 0 }
    }

    fn count(&mut self, labels: u64, letters: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(labels.saturating_mul(LABEL_BYTES)).saturating_add(letters as u64);
        self.pick.check_bytes(self.path, "the labels", self.bytes)
    }

    fn push(&mut self, cell: &str) -> Result<()> {
        let label = label(cell);
        self.count(1, label.as_ref().map_or(0, String::len))?;
        self.labels.push(label);
        Ok(())
    }

    fn push_missing(&mut self, count: u64) -> Result<()> {
        self.count(count, 0)?;
        self.labels.extend((0..count).map(|_| None));
        Ok(())
    }
}

/// Reads one label a line. A blank line between two labels is a missing one.
fn read_lines(path: &Path, records: &mut Records, column: Option<&str>, pick: &Pick) -> Result<Vec<Option<String>>> {
    let mut found = Found::new(path, pick);
    let mut record = StringRecord::new();
    while records.next(&mut record)?.is_some() {
        if !found.labels.is_empty() {
            found.push_missing(records.blank_before)?;
        }
        found.push(record.get(0).unwrap_or_default())?;
    }
    let mut labels = found.labels;
    let first = labels.first().and_then(Option::as_deref).unwrap_or_default();
    let named = column == Some(first) && Cell::of(first, false) == Cell::Text;
    if column.is_some_and(|name| !named && name != "1") {
        let problem = format!(
            "has one column, and its first line is '{}', not {}; leave out --label-column, or name that column",
            shown(first),
            shown(column.unwrap_or_default())
        );
        return Err(Error::data(path, problem));
    }
    if named || is_header(first, &labels) {
        labels.remove(0);
    }
    Ok(labels)
}

/// Whether the first of the lines names the others.
fn is_header(first: &str, labels: &[Option<String>]) -> bool {
    if Cell::of(first, false) != Cell::Text {
        return false;
    }
    let mut counts = HashMap::<&str, usize>::new();
    for other in labels.iter().skip(1).flatten() {
        *counts.entry(other).or_default() += 1;
    }
    let unlike = !counts.is_empty() && counts.keys().all(|other| Cell::of(other, false) != Cell::Text);
    let alone = !counts.contains_key(first) && !counts.is_empty() && counts.values().all(|&count| count > 1);
    is_class_name(first.trim()) || unlike || alone
}

/// Reads one of several columns.
fn read_column(path: &Path, records: &mut Records, column: Option<&str>, pick: &Pick) -> Result<Vec<Option<String>>> {
    let sample = records.sample()?;
    let header = Header::find(&sample, records.style, column.as_slice());
    let Some(name) = column else {
        let names = if header.present { list(&header.names) } else { format!("1 to {}", header.names.len()) };
        let problem = format!("has several columns: {names}; say with --label-column which holds the labels");
        return Err(Error::data(path, problem));
    };
    let at = header.places().get(name).copied().ok_or_else(|| header.unknown(path, name))?;
    let mut found = Found::new(path, pick);
    for (line, record) in sample.iter().skip(usize::from(header.present)) {
        header.check_width(path, *line, record, records.style)?;
        found.push(record.get(at).unwrap_or_default())?;
    }
    let mut record = StringRecord::new();
    while let Some(line) = records.next(&mut record)? {
        header.check_width(path, line, &record, records.style)?;
        found.push(record.get(at).unwrap_or_default())?;
    }
    Ok(found.labels)
}

/// The classes that labels name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Classes {
    /// The classes' names in order: by number if all are numbers, else as text.
    pub names: Vec<String>,
    /// Each row's place in `names`; `None` where the label is missing.
    pub labels: Vec<Option<usize>>,
    /// How many labels are -1, which stands for unknown. They count as missing.
    pub unknown_minus_one: usize,
}

/// Numbers the classes.
pub fn classes(labels: &[Option<String>]) -> Classes {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let is_unknown = |text: &str| number(text) == Some(-1.0);
    let known: HashSet<&str> = labels.iter().flatten().map(String::as_str).filter(|text| !is_unknown(text)).collect();
    let mut names: Vec<&str> = known.into_iter().collect();
    names.sort_unstable();
    if let Some(numbers) = names.iter().map(|name| number(name)).collect::<Option<Vec<f64>>>() {
        let mut pairs: Vec<(f64, &str)> = numbers.into_iter().zip(names).collect();
        pairs.sort_by(|left, right| left.0.total_cmp(&right.0));
        names = pairs.into_iter().map(|(_, name)| name).collect();
    }
    let places: HashMap<&str, usize> = names.iter().enumerate().map(|(at, &name)| (name, at)).collect();
    let place = |label: &Option<String>| label.as_deref().and_then(|text| places.get(text).copied());
    Classes {
        labels: labels.iter().map(place).collect(),
        unknown_minus_one: labels.iter().flatten().filter(|text| is_unknown(text)).count(),
        names: names.into_iter().map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn take(text: &str, column: Option<&str>) -> Result<Vec<Option<String>>> {
        read_text(Path::new("y.csv"), &mut text.as_bytes(), column, 1 << 30)
    }

    fn found(text: &str, column: Option<&str>) -> Vec<String> {
        take(text, column).unwrap().into_iter().map(|label| label.unwrap_or_else(|| "(none)".into())).collect()
    }

    fn refusal(text: &str, column: Option<&str>) -> String {
        take(text, column).unwrap_err().to_string()
    }

    fn given(labels: &[&str]) -> Vec<Option<String>> {
        labels.iter().map(|&text| (!text.is_empty()).then(|| text.to_owned())).collect()
    }

    #[test]
    fn one_label_a_line() {
        assert_eq!(found("0\n1\n1\n2", None), ["0", "1", "1", "2"]);
        assert_eq!(found("\u{feff}T cell\r\nB cell\r\nT cell\r\n", None), ["T cell", "B cell", "T cell"]);
        assert_eq!(found("a\rb\ra", None), ["a", "b", "a"]);
        assert_eq!(found("cat, small\ndog\nox\n", None), ["cat, small", "dog", "ox"]);
        assert_eq!(found("\"cat, small\"\ndog\nox\n", None), ["cat, small", "dog", "ox"]);
        assert_eq!(found("7\n", None), ["7"]);
    }

    #[test]
    fn missing_labels() {
        assert_eq!(found("a\nNA\n\"\"\n?\nb\na\n", None), ["a", "(none)", "(none)", "(none)", "b", "a"]);
        assert_eq!(found("a\n\n \na\n\n\n", None), ["a", "(none)", "(none)", "a"]);
        assert_eq!(found("label\n\na\n", None), ["(none)", "a"]);
    }

    #[test]
    fn headers_of_one_column() {
        assert_eq!(found("digit\n0\n1\nNA\n", None), ["0", "1", "(none)"]);
        assert_eq!(found("Species\nsetosa\nvirginica\n", None), ["setosa", "virginica"]);
        assert_eq!(found("kind\na\nb\nb\na\n", None), ["a", "b", "b", "a"]);
        assert_eq!(found("kind\na\nb\n", Some("kind")), ["a", "b"]);
        assert_eq!(found("kind\na\nb\nb\n", None), ["kind", "a", "b", "b"]);
        assert_eq!(found("a\na\nb\nb\n", None), ["a", "a", "b", "b"]);
        assert_eq!(found("0\n1\n1\n2\n2\n", None), ["0", "1", "1", "2", "2"]);
        assert_eq!(found("a\nb\n", Some("1")), ["a", "b"]);
        let error = refusal("kind\na\n", Some("type"));
        assert!(error.contains("its first line is 'kind', not type"), "{error}");
    }

    #[test]
    fn several_columns() {
        let text = "id,y,z\nr1,1,u\nr2,NA,v\n";
        assert_eq!(found(text, Some("y")), ["1", "(none)"]);
        let error = refusal(text, None);
        assert!(error.contains("has several columns: id, y, z; ") && error.contains("--label-column"), "{error}");
        assert!(refusal(text, Some("w")).contains("has no column w; it has "));
        assert_eq!(found("1\ta\n2\tb\n", Some("2")), ["a", "b"]);
        assert!(refusal("1\ta\n2\tb\n", None).contains("1 to 2"));
        assert_eq!(found("id y\nr1 1\nr2 2\n", Some("y")), ["1", "2"]);
        assert!(refusal("id,y\n1,2\n1\n", Some("y")).contains("line 3 has 1 cells"));
    }

    #[test]
    fn files_without_labels() {
        assert!(refusal("", None).contains("is empty"));
        assert!(refusal("\n\n", None).contains("only blank lines"));
        assert!(refusal("label\n", None).contains("a header and no labels"));
        assert!(refusal("id,y\n", Some("y")).contains("a header and no labels"));
        assert!(refusal("a\n\"b\nc\n", None).contains("opens in line 2 is never closed"));
        assert!(refusal("a\nb\0\n", None).contains("NUL"));
    }

    #[test]
    fn classes_are_sorted() {
        let numeric = classes(&given(&["10", "9", "", "10"]));
        assert_eq!(numeric.names, ["9", "10"]);
        assert_eq!(numeric.labels, [Some(1), Some(0), None, Some(1)]);
        let text = classes(&given(&["b", "10", "a"]));
        assert_eq!(
            (text.names, text.labels),
            (vec!["10".into(), "a".into(), "b".into()], vec![Some(2), Some(0), Some(1)])
        );
        assert_eq!(classes(&[]), Classes::default());
    }

    #[test]
    fn minus_one_is_unknown() {
        let found = classes(&given(&["-1", "0", "-1.0", "2", ""]));
        assert_eq!(found.names, ["0", "2"]);
        assert_eq!(found.labels, [None, Some(0), None, Some(1), None]);
        assert_eq!(found.unknown_minus_one, 2);
    }
}
