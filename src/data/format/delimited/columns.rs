//! The columns of a text: numbers, categories, names, labels; and the table that they make.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use ndarray::Array2;

use super::dialect::number;
use crate::data::format::{is_class_name, shown_names, wide_enough, Pick, Table, Values};
use crate::error::{Error, Result};

/// What stands for a value that is not known.
const MISSING: [&str; 11] = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "none", "?", "-"];
/// Different values that categories have at most, and how many rows there are for each at least.
const MOST_VALUES: usize = 32;
const ROWS_A_VALUE: usize = 10;
/// The same of a table of few rows.
const FEW_ROWS: usize = 200;
const MOST_VALUES_OF_FEW: usize = 20;
/// The share of numbers from which a cell of text is a mistake.
const MOSTLY: f64 = 0.95;

pub(in crate::data::format) fn is_missing(cell: &str) -> bool {
    MISSING.contains(&cell)
}

/// The cells of one column. Text is kept once for each different one.
#[derive(Debug, Clone, Default)]
pub(super) struct Column {
    /// NaN where a cell is missing or text.
    numbers: Vec<f64>,
    /// The text of each row, by its place in `texts`; 0 for a number or a missing cell.
    cells: Vec<u32>,
    /// Different texts, from number 1 on.
    texts: Vec<String>,
    place_of: HashMap<String, u32>,
    text_cells: usize,
    /// Line and text of the first cell that is text.
    first_text: Option<(u64, String)>,
    /// Numbers as they are written, where they are needed for labels: the cells of every row.
    written: Vec<u32>,
}

impl Column {
    /// Adds a cell.
    pub fn push(&mut self, cell: &str, line: u64, decimal_comma: bool) {
        let value = if is_missing(cell) { Some(f64::NAN) } else { truth(cell).or_else(|| number(cell, decimal_comma)) };
        let place = if is_missing(cell) { 0 } else { self.place(cell) };
        self.written.push(place);
        match value {
            Some(value) => {
                self.numbers.push(value);
                self.cells.push(0);
            }
            None => {
                self.numbers.push(f64::NAN);
                self.cells.push(place);
                self.text_cells += 1;
                self.first_text.get_or_insert_with(|| (line, cell.to_owned()));
            }
        }
    }

    /// The number of a text among those seen. Of numbers so many different ones are remembered as labels may have.
    fn place(&mut self, cell: &str) -> u32 {
        if let Some(&place) = self.place_of.get(cell) {
            return place;
        }
        self.texts.push(cell.to_owned());
        let place = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.place_of.insert(cell.to_owned(), place);
        place
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> u64 {
        let texts: usize = self.texts.iter().map(|text| 2 * text.len() + 80).sum();
        (self.numbers.len() * 16 + texts) as u64
    }

    fn text_at(&self, row: usize) -> Option<&str> {
        let place = *self.written.get(row)? as usize;
        self.texts.get(place.checked_sub(1)?).map(String::as_str)
    }

    fn as_texts(&self) -> Vec<Option<String>> {
        (0..self.written.len()).map(|row| self.text_at(row).map(str::to_owned)).collect()
    }

    fn is_numeric(&self) -> bool {
        self.text_cells == 0 && self.numbers.iter().any(|value| !value.is_nan())
    }

    fn distinct_texts(&self) -> BTreeSet<&str> {
        self.cells
            .iter()
            .filter(|&&place| place > 0)
            .filter_map(|&place| Some(self.texts.get(place as usize - 1)?.as_str()))
            .collect()
    }
}

fn truth(cell: &str) -> Option<f64> {
    match cell {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" => Some(1.0),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" => Some(0.0),
        _ => None,
    }
}

/// A column of the table: its name and values.
type Feature = (String, Vec<f64>);

/// Makes the table.
pub(super) fn table(path: &Path, names: Vec<String>, columns: Vec<Column>, n: usize, pick: &Pick) -> Result<Table> {
    let has_names = !names.is_empty();
    let names = if has_names { names } else { (1..=columns.len()).map(|number| number.to_string()).collect() };
    let place_of = |name: &str| {
        names
            .iter()
            .position(|found| found == name)
            .ok_or_else(|| Error::data(path, format!("has no column {name:?}; it has {}", shown_names(&names))))
    };
    let id = pick.id_column.map(place_of).transpose()?;
    let label = pick.label_column.map(place_of).transpose()?;
    let categorical = pick.categorical.iter().map(|name| place_of(name)).collect::<Result<BTreeSet<_>>>()?;
    let wanted = match pick.columns {
        [] => (0..columns.len()).collect(),
        chosen => chosen.iter().map(|name| place_of(name)).collect::<Result<Vec<_>>>()?,
    };
    let mut maker = Maker { path, n, features: Vec::new(), ids: Vec::new(), left_out: Vec::new(), notes: Vec::new() };
    if let Some(place) = id {
        maker.ids = columns[place].as_texts().into_iter().map(Option::unwrap_or_default).collect();
    }
    for place in wanted.into_iter().filter(|place| Some(*place) != id && Some(*place) != label) {
        maker.take(place, &names[place], &columns[place], categorical.contains(&place), !pick.columns.is_empty())?;
    }
    maker.into_table(has_names, label.map(|place| columns[place].as_texts()), &names, pick)
}

struct Maker<'a> {
    path: &'a Path,
    n: usize,
    features: Vec<Feature>,
    ids: Vec<String>,
    left_out: Vec<String>,
    notes: Vec<String>,
}

impl Maker<'_> {
    /// Takes one column for what it is.
    fn take(&mut self, place: usize, name: &str, column: &Column, is_categorical: bool, is_asked: bool) -> Result<()> {
        if is_categorical {
            self.categories(name, column);
            return Ok(());
        }
        if column.is_numeric() {
            let counts_rows = column.numbers.iter().enumerate().all(|(row, &value)| value == row as f64);
            if place == 0 && matches!(name, "" | "Unnamed: 0" | "index") && counts_rows && !is_asked {
                self.notes.push("the first column numbers the rows and is left out".to_owned());
                return Ok(());
            }
            self.features.push((name.to_owned(), column.numbers.clone()));
            return Ok(());
        }
        let known = column.text_cells + column.numbers.iter().filter(|value| !value.is_nan()).count();
        if column.text_cells > 0 && (known - column.text_cells) as f64 >= MOSTLY * known as f64 {
            let (line, text) = column.first_text.clone().unwrap_or_default();
            let text: String = text.chars().take(40).collect::<String>().escape_debug().to_string();
            return Err(Error::data(
                self.path,
                format!("line {line}: column {name:?} holds numbers, but here \"{text}\": mend the cell, or empty it for a missing value"),
            ));
        }
        let different = column.distinct_texts().len();
        let all_different = different == self.n && self.n > 1;
        let few = if self.n < FEW_ROWS {
            different <= MOST_VALUES_OF_FEW
        } else {
            different <= MOST_VALUES && different * ROWS_A_VALUE <= self.n
        };
        if all_different && self.ids.is_empty() && !is_asked {
            self.ids = column.as_texts().into_iter().map(Option::unwrap_or_default).collect();
            self.notes.push(format!("column {name:?} names the rows"));
        } else if is_class_name(name) && !is_asked {
            self.notes
                .push(format!("column {name:?} looks like labels and is left out; score with --label-column {name}"));
        } else if few && different > 1 && different * 2 <= self.n {
            self.categories(name, column);
            self.notes.push(format!(
                "column {name:?} holds {different} different texts and becomes as many columns of 0 and 1"
            ));
        } else {
            self.left_out.push(name.to_owned());
        }
        Ok(())
    }

    /// A column of 0 and 1 for each of the values, numbers among them as they are written.
    fn categories(&mut self, name: &str, column: &Column) {
        let texts = column.as_texts();
        let values: BTreeSet<&str> = texts.iter().flatten().map(String::as_str).collect();
        for value in values {
            let is = |text: &Option<String>| f64::from(u8::from(text.as_deref() == Some(value)));
            self.features.push((format!("{name}={value}"), texts.iter().map(is).collect()));
        }
    }

    fn into_table(
        mut self,
        has_names: bool,
        labels: Option<Vec<Option<String>>>,
        names: &[String],
        pick: &Pick,
    ) -> Result<Table> {
        if self.features.is_empty() {
            return Err(Error::data(
                self.path,
                format!(
                    "has no column of numbers among {}: name columns of text with few values (data.categorical)",
                    shown_names(names)
                ),
            ));
        }
        if !self.left_out.is_empty() {
            self.notes.push(format!(
                "columns of text are left out: {} (data.categorical makes columns of 0 and 1 of them)",
                shown_names(&self.left_out)
            ));
        }
        let (n, d) = (self.n, self.features.len());
        pick.check_bytes(self.path, "its values", (n as u64).saturating_mul(8 * d as u64))?;
        let values = values_of(n, &self.features);
        let columns = if has_names { self.features.into_iter().map(|(name, _)| name).collect() } else { Vec::new() };
        Ok(Table { values, columns, ids: self.ids, labels, notes: self.notes, ..Table::default() })
    }
}

/// Bytes where all are such, float64 where float32 would lose what tells rows apart, else float32.
fn values_of(n: usize, features: &[Feature]) -> Values {
    let d = features.len();
    let at = |(i, j): (usize, usize)| features[j].1[i];
    let is_byte = |value: &f64| (0.0..=255.0).contains(value) && value.fract() == 0.0;
    if features.iter().all(|(_, values)| values.iter().all(is_byte)) {
        return Values::U8(Array2::from_shape_fn((n, d), |place| at(place) as u8));
    }
    if features.iter().any(|(_, values)| wide_enough(values.iter().copied())) {
        return Values::F64(Array2::from_shape_fn((n, d), at));
    }
    Values::F32(Array2::from_shape_fn((n, d), |place| at(place) as f32))
}
