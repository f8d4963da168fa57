//! Labels: from a file of text, and from texts to classes by number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use super::{is_class_name, shown_names};
use crate::error::{Error, Result};

/// Classes, by number.
pub struct Classes {
    /// The classes' names, sorted: as numbers where all are such.
    pub names: Vec<String>,
    /// The class of each row; `None` where its label is missing.
    pub labels: Vec<Option<usize>>,
    /// Rows whose label is −1, the field's "unknown", which counts as missing.
    pub unknown_minus_one: usize,
}

/// The classes that `labels` name.
pub fn classes(labels: &[Option<String>]) -> Classes {
    let is_unknown = |label: &str| label.parse::<f64>() == Ok(-1.0);
    let distinct: BTreeSet<&str> =
        labels.iter().flatten().map(String::as_str).filter(|label| !is_unknown(label)).collect();
    let mut names: Vec<&str> = distinct.into_iter().collect();
    let numbers: Option<Vec<f64>> = names.iter().map(|name| name.parse().ok().filter(|n: &f64| !n.is_nan())).collect();
    if numbers.is_some() {
        names.sort_by(|a, b| a.parse().unwrap_or(0.0f64).total_cmp(&b.parse().unwrap_or(0.0)));
    }
    let place_of: HashMap<&str, usize> = names.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    Classes {
        labels: labels.iter().map(|label| place_of.get(label.as_deref()?).copied()).collect(),
        unknown_minus_one: labels.iter().flatten().filter(|label| is_unknown(label)).count(),
        names: names.into_iter().map(str::to_owned).collect(),
    }
}

/// Reads labels from text: one in each line, or a column of a table, which `column` names where there are several.
///
/// # Errors
/// [`Error::Data`] for what is no such text, with the columns that there are.
pub fn read_text(path: &Path, bytes: &mut dyn Read, column: Option<&str>) -> Result<Vec<Option<String>>> {
    let mut text = Vec::new();
    bytes.read_to_end(&mut text).map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
    let text = String::from_utf8(text).map_err(|_| {
        Error::data(path, "is neither an array nor UTF-8 text; labels are an NPY, IDX, CSV or text file")
    })?;
    let text = text.trim_start_matches('\u{feff}');
    if text.contains('\0') {
        return Err(Error::data(path, "is neither an array nor text; labels are an NPY, IDX, CSV or text file"));
    }
    let first = text.lines().next().unwrap_or_default();
    let separator =
        [b'\t', b';', b','].into_iter().max_by_key(|&s| first.bytes().filter(|&b| b == s).count()).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut rows: Vec<Vec<String>> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| Error::data(path, format!("is no table: {e}")))?;
        rows.push(record.iter().map(str::to_owned).collect());
    }
    let Some(header) = rows.first().cloned() else { return Err(Error::data(path, "is empty")) };
    let place = match (column, header.len()) {
        (Some(name), width) if width > 1 || header[0] == name => header
            .iter()
            .position(|cell| cell == name)
            .ok_or_else(|| Error::data(path, format!("has no column {name:?}; it has {}", shown_names(&header))))?,
        (_, 1) => 0,
        _ => {
            return Err(Error::data(
                path,
                format!(
                    "has {} columns ({}): --label-column names the one with the labels",
                    header.len(),
                    shown_names(&header)
                ),
            ))
        }
    };
    let skip = usize::from(column.is_some_and(|name| header[place] == name) || is_header(&rows, place));
    let cell = |row: &Vec<String>| row.get(place).filter(|cell| !super::delimited::is_missing(cell)).cloned();
    Ok(rows[skip..].iter().map(cell).collect())
}

/// Whether the first cell names the column: it is a class-like name, or no number over numbers, or the only one that comes once.
fn is_header(rows: &[Vec<String>], place: usize) -> bool {
    let cells: Vec<&str> = rows.iter().filter_map(|row| row.get(place)).map(String::as_str).collect();
    let Some((first, rest)) = cells.split_first() else { return false };
    let is_number = |cell: &&str| cell.parse::<f64>().is_ok();
    if rest.is_empty() || is_number(first) {
        return false;
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    rest.iter().for_each(|cell| *counts.entry(cell).or_default() += 1);
    let alone = !counts.contains_key(first) && counts.values().all(|&count| count > 1);
    (is_class_name(first) && !counts.contains_key(first)) || rest.iter().all(is_number) || alone
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str, column: Option<&str>) -> Result<Vec<Option<String>>> {
        read_text(Path::new("y.csv"), &mut text.as_bytes(), column)
    }

    fn texts(text: &str, column: Option<&str>) -> Vec<String> {
        read(text, column).unwrap().into_iter().map(|label| label.unwrap_or_else(|| "-".to_owned())).collect()
    }

    #[test]
    fn labels_come_with_and_without_a_header() {
        assert_eq!(texts("ash\noak\nash\n", None), ["ash", "oak", "ash"]);
        assert_eq!(texts("species\n\"oak, red\"\nash\nNA\n", None), ["oak, red", "ash", "-"]);
        assert_eq!(texts("tree\nash\nash\noak\noak\n", None), ["ash", "ash", "oak", "oak"]);
        assert_eq!(texts("k\n3\n1\n", None), ["3", "1"]);
        assert_eq!(texts("id,species\n1,ash\n2,oak\n", Some("species")), ["ash", "oak"]);
        assert!(read("a,b\n1,2\n", None).unwrap_err().to_string().contains("--label-column"));
        assert!(read("a,b\n1,2\n", Some("c")).unwrap_err().to_string().contains("no column \"c\""));
        assert!(read("a\0b", None).unwrap_err().to_string().contains("neither an array nor text"));
    }

    #[test]
    fn classes_are_sorted_and_the_unknown_have_none() {
        let labels = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>();
        let found = classes(&labels(&["10", "9", "-1", "10", "-1.0"]));
        assert_eq!(found.names, ["9", "10"]);
        assert_eq!((found.labels, found.unknown_minus_one), (vec![Some(1), Some(0), None, Some(1), None], 2));
        let found = classes(&[Some("b".to_owned()), None, Some("a".to_owned())]);
        assert_eq!(
            (found.names.as_slice(), found.labels),
            (&["a".to_owned(), "b".to_owned()][..], vec![Some(1), None, Some(0)])
        );
    }
}
