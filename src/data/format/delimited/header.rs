//! Whether the first line names the columns, and their names.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use csv::StringRecord;

use super::column::Cell;
use super::records::Style;
use super::{list, shown};
use crate::error::{Error, Result};

/// The columns' names.
#[derive(Debug)]
pub(in crate::data::format) struct Header {
    /// Whether the first line is a header. If not, the names are numbers from 1.
    pub present: bool,
    pub names: Vec<String>,
    /// Whether a column has a name in the file.
    pub named: Vec<bool>,
    /// Whether the first column has no name and so may name the rows.
    pub index: bool,
    pub notes: Vec<String>,
}

impl Header {
    /// Decides from the first records; `wanted` are names of columns that were asked for.
    pub fn find(sample: &[(u64, StringRecord)], style: Style, wanted: &[&str]) -> Self {
        let records: Vec<&StringRecord> = sample.iter().map(|(_, record)| record).collect();
        let Some((&first, rest)) = records.split_first() else { return Self::numbered(0) };
        let kinds: Vec<Cell> = first.iter().map(|cell| Cell::of(cell, style.decimal_comma)).collect();
        let counted = is_count(first, rest);
        if !(counted || is_header(first, &kinds, rest, style, wanted)) {
            return Self::numbered(first.len());
        }
        let mut cells: Vec<&str> = first.iter().map(str::trim).collect();
        let mut notes = Vec::new();
        if counted && !cells[0].is_empty() {
            notes.push("the first line counts 0, 1, 2 and so on, and is taken for the columns' names".to_owned());
        }
        let wider = |record: &&StringRecord| {
            record.len() == first.len() + 1 && record.iter().next_back().is_some_and(|cell| !cell.trim().is_empty())
        };
        if !rest.is_empty() && rest.iter().all(wider) {
            notes.push("the header has one cell less than the rows, whose first cells are taken for names".to_owned());
            cells.insert(0, "");
        }
        Self::named(&cells, notes)
    }

    fn numbered(width: usize) -> Self {
        let names = (1..=width).map(|number| number.to_string()).collect();
        Self { present: false, names, named: vec![false; width], index: false, notes: Vec::new() }
    }

    /// Names each column differently.
    fn named(cells: &[&str], mut notes: Vec<String>) -> Self {
        let mut taken: HashSet<String> = cells.iter().map(|&cell| cell.to_owned()).collect();
        let mut seen = HashMap::<&str, usize>::new();
        let mut twice = Vec::new();
        let mut names = Vec::with_capacity(cells.len());
        for (at, &cell) in cells.iter().enumerate() {
            let count = seen.entry(cell).or_default();
            *count += 1;
            let mut name = if cell.is_empty() { format!("column{}", at + 1) } else { cell.to_owned() };
            if !cell.is_empty() && *count > 1 {
                name = format!("{cell}_{count}");
            }
            while (cell.is_empty() || *count > 1) && taken.contains(&name) {
                *count += 1;
                name = if cell.is_empty() { format!("column{}_{count}", at + 1) } else { format!("{cell}_{count}") };
            }
            if !cell.is_empty() && *count > 1 {
                twice.push(name.clone());
            }
            taken.insert(name.clone());
            names.push(name);
        }
        if !twice.is_empty() {
            notes.push(format!("names that come more than once in the header got a number: {}", list(&twice)));
        }
        let named = cells.iter().map(|cell| !cell.is_empty()).collect();
        let index = cells.len() > 1 && cells[0].is_empty();
        Self { present: true, names, named, index, notes }
    }

    /// The place of each name.
    pub fn places(&self) -> HashMap<&str, usize> {
        self.names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect()
    }

    /// The error that a column is not there.
    pub fn unknown(&self, path: &Path, name: &str) -> Error {
        let name = shown(name);
        if !self.present {
            return Error::data(
                path,
                format!("has no header, so no column {name}; name columns by number, 1 to {}", self.names.len()),
            );
        }
        // Enough to find a slip of the pen, and quick where there are very many.
        let mut near: Vec<(usize, &String)> =
            self.names.iter().take(20_000).map(|other| (distance(&name, other), other)).collect();
        near.sort_by_key(|&(distance, _)| distance);
        let names: Vec<String> = near.iter().take(8).map(|(_, other)| shown(other)).collect();
        let which = if self.names.len() > 8 { "the nearest are" } else { "it has" };
        Error::data(path, format!("has no column {name}; {which} {}", names.join(", ")))
    }

    /// Refuses a record that has more or fewer cells than there are columns.
    pub fn check_width(&self, path: &Path, line: u64, record: &StringRecord, style: Style) -> Result<()> {
        if record.len() == self.names.len() {
            return Ok(());
        }
        let first = if self.present { "the header" } else { "the first line" };
        let separator = match style.separator {
            Some(b'\t') => "tabs",
            Some(b' ') => "spaces",
            Some(b';') => "';'",
            Some(b'|') => "'|'",
            _ => "','",
        };
        let spans = if record.as_slice().contains('\n') { ", and its quotes span lines" } else { "" };
        Err(Error::data(
            path,
            format!(
                "line {line} has {} cells but {first} has {}{spans}; cells are separated by {separator}: quote a cell \
                 that contains it, or mend the line",
                record.len(),
                self.names.len()
            ),
        ))
    }
}

/// Whether the cells are 0, 1, 2 and so on, perhaps after an empty one: how pandas names columns without names.
fn is_count(first: &StringRecord, rest: &[&StringRecord]) -> bool {
    let empty = first.iter().next().is_some_and(str::is_empty);
    let least = if empty { 2 } else { 3 };
    let mut cells = first.iter().skip(usize::from(empty)).enumerate();
    !rest.is_empty() && first.len() >= least && cells.all(|(at, cell)| cell == at.to_string())
}

fn is_header(first: &StringRecord, kinds: &[Cell], rest: &[&StringRecord], style: Style, wanted: &[&str]) -> bool {
    let text = |at: usize| kinds.get(at) == Some(&Cell::Text);
    if first.iter().enumerate().any(|(at, cell)| text(at) && wanted.contains(&cell.trim())) {
        return true;
    }
    // Columns may be named 1990 and 1991, but hardly 5.1.
    if kinds.iter().any(|kind| matches!(kind, Cell::Number(number) if number.fract() != 0.0)) {
        return false;
    }
    let any_number = kinds.iter().any(|kind| matches!(kind, Cell::Number(_) | Cell::Bool(_)));
    if rest.is_empty() {
        return !any_number && kinds.contains(&Cell::Text);
    }
    // R writes one cell less above the rows' names.
    let shift = usize::from(rest.iter().all(|record| record.len() == first.len() + 1));
    let is_numbers = |at: usize| {
        let mut present = 0;
        let numbers = rest.iter().filter_map(|record| record.get(at + shift)).all(|cell| {
            let kind = Cell::of(cell, style.decimal_comma);
            present += usize::from(kind != Cell::Missing);
            kind != Cell::Text
        });
        numbers && present > 0
    };
    if (0..kinds.len()).any(|at| text(at) && is_numbers(at)) {
        return true;
    }
    let names: HashSet<&str> = first.iter().map(str::trim).collect();
    if any_number || names.len() < first.len() {
        return false;
    }
    let filled = |at: usize| rest.iter().all(|record| record.get(at).is_some_and(|cell| !cell.trim().is_empty()));
    if first.len() > 1 && names.contains("") && !text(0) && (1..kinds.len()).all(text) && filled(0) {
        return true;
    }
    (0..kinds.len()).all(text) && stands_out(first, rest)
}

/// Whether no first cell comes again in its column, while in one column every other value does.
fn stands_out(first: &StringRecord, rest: &[&StringRecord]) -> bool {
    let mut repeated = false;
    for (at, name) in first.iter().enumerate() {
        let mut counts = HashMap::<&str, usize>::new();
        for cell in rest.iter().filter_map(|record| record.get(at)) {
            *counts.entry(cell.trim()).or_default() += 1;
        }
        if counts.contains_key(name.trim()) {
            return false;
        }
        repeated |= !counts.is_empty() && counts.values().all(|&count| count > 1);
    }
    repeated
}

/// How many letters differ, case aside.
fn distance(left: &str, right: &str) -> usize {
    let letters = |text: &str| text.chars().take(64).flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (left, right) = (letters(left), letters(right));
    let mut costs: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut corner = row;
        costs[0] = row + 1;
        for (at, b) in right.iter().enumerate() {
            let replaced = corner + usize::from(a != b);
            corner = costs[at + 1];
            costs[at + 1] = replaced.min(corner + 1).min(costs[at] + 1);
        }
    }
    costs[right.len()]
}
