//! What becomes of each column once all rows are read, and the table of it.

use std::path::Path;

use ndarray::Array2;

use super::column::{Cell, Cells, Column, Role, Symbols, MISSING, MOST_CATEGORIES};
use super::header::Header;
use super::records::Style;
use super::{list, shown};
use crate::data::format::is_class_name;
use crate::data::format::{Pick, Table, Values};
use crate::data::precision::Spread;
use crate::error::{Error, Result};

/// From this share of numbers on, a text cell in a column is a mistake.
const MOSTLY: f64 = 0.95;

/// One or more columns of the table.
enum Feature {
    Numbers(Vec<f64>),
    /// 1 where the row has the code, 0 where it has another, NaN where it has none.
    OneHot(Symbols, Vec<u32>),
}

impl Feature {
    fn width(&self) -> usize {
        match self {
            Self::Numbers(_) => 1,
            Self::OneHot(_, codes) => codes.len(),
        }
    }

    fn held(&self) -> u64 {
        match self {
            Self::Numbers(numbers) => numbers.capacity() as u64 * 8,
            Self::OneHot(symbols, codes) => (symbols.codes.capacity() + codes.len()) as u64 * 4,
        }
    }

    fn needs_f64(&self) -> bool {
        matches!(self, Self::Numbers(numbers) if !Spread::of(numbers.iter().copied()).fits_f32())
    }

    fn is_bytes(&self) -> bool {
        match self {
            Self::Numbers(numbers) => numbers.iter().all(|&x| x.fract() == 0.0 && (0.0..=255.0).contains(&x)),
            Self::OneHot(symbols, _) => !symbols.codes.contains(&MISSING),
        }
    }
}

/// The table in the making.
pub(super) struct Assembly<'a> {
    path: &'a Path,
    pick: &'a Pick<'a>,
    rows: usize,
    style: Style,
    header: Header,
    features: Vec<(String, Feature)>,
    ids: Vec<String>,
    labels: Option<Vec<Option<String>>>,
    notes: Vec<String>,
    /// Text columns that are left out.
    left: Vec<String>,
    /// Each column that is no feature, and why, for the error that there is none.
    found: Vec<String>,
}

impl<'a> Assembly<'a> {
    pub fn new(path: &'a Path, pick: &'a Pick<'a>, rows: usize, style: Style, mut header: Header) -> Self {
        let mut notes = std::mem::take(&mut header.notes);
        if style.decimal_comma {
            notes.push("numbers are read with a decimal comma".to_owned());
        }
        let (features, ids, left, found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { path, pick, rows, style, header, features, ids, labels: None, notes, left, found }
    }

    /// Takes the columns in this order.
    pub fn table(mut self, columns: Vec<Column>, order: &[usize]) -> Result<Table> {
        let mut columns: Vec<Option<Column>> = columns.into_iter().map(Some).collect();
        for &at in order {
            let Some(column) = columns.get_mut(at).and_then(Option::take) else { continue };
            let name = self.header.names[at].clone();
            match column.role {
                Role::Skip => {}
                Role::Auto => self.take_auto(at, name, column)?,
                Role::Categorical => self.take_categories(&name, column),
                Role::Label => self.labels = Some(self.texts(&column)),
                Role::Id => self.ids = self.names(&column),
                Role::Index => self.take_index(name, column),
            }
        }
        if !self.left.is_empty() {
            self.notes.push(format!(
                "text is left out: {}; make it 0/1 columns with --categorical NAME, or choose columns with --columns",
                list(&self.left)
            ));
        }
        let values = self.values()?;
        let columns = self.column_names();
        let Self { ids, labels, notes, .. } = self;
        Ok(Table { values, columns, ids, labels, notes, ..Table::default() })
    }

    fn texts(&self, column: &Column) -> Vec<Option<String>> {
        let Cells::Text(symbols) = &column.cells else { return Vec::new() };
        (0..self.rows).map(|row| symbols.get(row).map(str::to_owned)).collect()
    }

    fn names(&self, column: &Column) -> Vec<String> {
        self.texts(column).into_iter().map(Option::unwrap_or_default).collect()
    }

    fn take_index(&mut self, name: String, column: Column) {
        let Cells::Text(symbols) = &column.cells else { return };
        let differ = symbols.names.len() == self.rows;
        if differ && symbols.names.iter().enumerate().all(|(row, text)| **text == *row.to_string()) {
            self.notes.push("the first column has no name and counts the rows, and is left out".to_owned());
        } else if differ && self.pick.id_column.is_none() {
            self.notes.push("the first column has no name, and its values are taken for the rows' names".to_owned());
            self.ids = self.names(&column);
        } else if column.text == 0 && self.pick.columns.is_empty() && !differ {
            self.take_numbers(name, column);
        } else {
            self.notes.push("the first column has no name and is left out; give it one to use it".to_owned());
            self.found.push(format!("{} (text without a name)", shown(&name)));
        }
    }

    fn take_auto(&mut self, at: usize, name: String, column: Column) -> Result<()> {
        let asked = !self.pick.columns.is_empty();
        if column.text > 0 {
            return self.take_text(name, column, asked);
        }
        if column.present() == 0 && !self.header.named[at] && !asked {
            self.notes.push(format!("column {} has no name and no values, and is left out", at + 1));
            self.found.push(format!("{} (empty)", at + 1));
            return Ok(());
        }
        self.take_numbers(name, column);
        Ok(())
    }

    fn take_numbers(&mut self, name: String, column: Column) {
        let numbers = column.into_numbers(self.style.decimal_comma);
        if self.header.present && self.pick.columns.is_empty() && is_class_name(name.trim()) {
            let whole = numbers.iter().all(|x| x.is_nan() || x.fract() == 0.0);
            if whole {
                self.notes.push(format!(
                    "column {} is used as a feature; if it holds labels, name it in --label-column",
                    shown(&name)
                ));
            }
        }
        self.features.push((name, Feature::Numbers(numbers)));
    }

    fn take_text(&mut self, name: String, column: Column, asked: bool) -> Result<()> {
        let short = shown(&name);
        let (line, text) = column.first_text.clone().unwrap_or_default();
        if column.numbers as f64 >= MOSTLY * column.present() as f64 {
            return Err(Error::data(
                self.path,
                format!(
                    "line {line}, column {short} has the text '{text}' among numbers; write a number there, leave the cell \
                     empty, or choose other columns with --columns"
                ),
            ));
        }
        let class = is_class_name(name.trim()) && self.header.present;
        if class && !asked {
            self.notes
                .push(format!("column {short} looks like labels and is left out; score with --label-column {short}"));
            self.found.push(format!("{short} (text that looks like labels)"));
        } else if !asked && column.all_differ() && self.ids.is_empty() && self.pick.id_column.is_none() {
            self.notes.push(format!("column {short} has a different text in each row, which is taken for its name"));
            self.found.push(format!("{short} (the rows' names)"));
            self.ids = self.names(&column);
        } else if !class && self.is_plainly_categorical(&column) {
            self.take_categories(&name, column);
        } else if asked {
            let problem = format!(
                "column {short} is text (line {line} has '{text}'); name it in --categorical to make it 0/1 columns, or \
                 leave it out of --columns"
            );
            return Err(Error::data(self.path, problem));
        } else {
            let part = if column.numbers > 0 { "text and numbers" } else { "text" };
            self.found.push(format!("{short} ({part})"));
            self.left.push(name);
        }
        Ok(())
    }

    /// Whether few values come again and again.
    fn is_plainly_categorical(&self, column: &Column) -> bool {
        let Cells::Text(symbols) = &column.cells else { return false };
        let distinct = symbols.names.len();
        let few = if self.rows < 200 { distinct <= 20 } else { distinct * 10 <= self.rows };
        few && (2..=MOST_CATEGORIES).contains(&distinct) && distinct < column.present()
    }

    fn take_categories(&mut self, name: &str, column: Column) {
        let Cells::Text(symbols) = column.cells else { return };
        let number = |code: u32| match Cell::of(&symbols.names[code as usize], self.style.decimal_comma) {
            Cell::Number(number) => Some(number),
            _ => None,
        };
        let mut codes: Vec<u32> = (0..).take(symbols.names.len()).collect();
        codes.sort_by(|&left, &right| symbols.names[left as usize].cmp(&symbols.names[right as usize]));
        if let Some(numbers) = codes.iter().map(|&code| number(code)).collect::<Option<Vec<f64>>>() {
            let mut pairs: Vec<(f64, u32)> = numbers.into_iter().zip(codes.iter().copied()).collect();
            pairs.sort_by(|left, right| left.0.total_cmp(&right.0));
            codes = pairs.into_iter().map(|(_, code)| code).collect();
        }
        if codes.is_empty() {
            self.notes.push(format!("column {} has no values and is left out", shown(name)));
            self.found.push(format!("{} (empty)", shown(name)));
            return;
        }
        self.notes.push(format!("column {} is text and becomes {} columns of 0 and 1", shown(name), codes.len()));
        self.features.push((name.to_owned(), Feature::OneHot(symbols, codes)));
    }

    /// The names of the table's columns; none if the file has no header and no column needs a name of its own.
    fn column_names(&self) -> Vec<String> {
        let one_hot = self.features.iter().any(|(_, feature)| matches!(feature, Feature::OneHot(..)));
        if !self.header.present && !one_hot {
            return Vec::new();
        }
        let mut names = Vec::new();
        for (name, feature) in &self.features {
            match feature {
                Feature::Numbers(_) => names.push(name.clone()),
                Feature::OneHot(symbols, codes) => {
                    names.extend(codes.iter().map(|&code| format!("{name}={}", symbols.names[code as usize])));
                }
            }
        }
        names
    }

    fn values(&self) -> Result<Values> {
        let width: usize = self.features.iter().map(|(_, feature)| feature.width()).sum();
        if width == 0 {
            let found = if self.found.is_empty() { "nothing else".to_owned() } else { list(&self.found) };
            let problem = format!("has no column of numbers; found {found}; name text columns to use in --categorical");
            return Err(Error::data(self.path, problem));
        }
        let features = || self.features.iter().map(|(_, feature)| feature);
        let bytes = features().all(Feature::is_bytes);
        let double = self.pick.keeps_double || features().any(Feature::needs_f64);
        let size = match (bytes, double) {
            (true, _) => 1,
            (_, true) => 8,
            _ => 4,
        };
        let held: u64 = features().map(Feature::held).sum();
        let needed = (self.rows as u64).saturating_mul(width as u64).saturating_mul(size);
        // A long name may be that of many columns.
        let names =
            self.features.iter().map(|(name, feature)| (name.len() as u64).saturating_mul(feature.width() as u64));
        let needed = names.fold(needed, u64::saturating_add);
        self.pick.check_bytes(self.path, "its values", held.saturating_add(needed))?;
        Ok(match size {
            1 => Values::U8(self.array(width, |x| x as u8)),
            8 => Values::F64(self.array(width, |x| x)),
            _ => Values::F32(self.array(width, |x| x as f32)),
        })
    }

    /// Each column's values in rows.
    fn array<T: Copy + Default>(&self, width: usize, cast: impl Fn(f64) -> T) -> Array2<T> {
        let mut array = Array2::from_elem((self.rows, width), T::default());
        for (row, mut out) in array.outer_iter_mut().enumerate() {
            let mut at = 0;
            for (_, feature) in &self.features {
                match feature {
                    Feature::Numbers(numbers) => out[at] = cast(numbers[row]),
                    Feature::OneHot(symbols, codes) => {
                        let own = symbols.codes[row];
                        for (place, &code) in codes.iter().enumerate() {
                            let value = if own == MISSING { f64::NAN } else { f64::from(u8::from(own == code)) };
                            out[at + place] = cast(value);
                        }
                    }
                }
                at += feature.width();
            }
        }
        array
    }
}
