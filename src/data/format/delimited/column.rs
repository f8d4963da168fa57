//! One cell's kind, and one column while its rows are read.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The code of a missing cell.
pub(super) const MISSING: u32 = u32::MAX;
/// A column with more values is not plainly categorical.
pub(super) const MOST_CATEGORIES: usize = 32;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::data::format) enum Cell {
    Missing,
    Number(f64),
    /// true, yes, false or no, as 1 or 0.
    Bool(f64),
    Text,
}

impl Cell {
    pub fn of(text: &str, decimal_comma: bool) -> Self {
        // Pixels and counts are such, and there are many of them.
        if (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = text.bytes().fold(0, |number: u32, byte| number * 10 + u32::from(byte - b'0'));
            return Self::Number(f64::from(number));
        }
        let text = text.trim();
        if matches!(text, "" | "NA" | "N/A" | "NaN" | "nan" | "null" | "NULL" | "None" | "?" | "-") {
            return Self::Missing;
        }
        if text.len() <= 5 {
            let is = |word: &str| text.eq_ignore_ascii_case(word);
            if is("true") || is("yes") {
                return Self::Bool(1.0);
            }
            if is("false") || is("no") {
                return Self::Bool(0.0);
            }
        }
        let number = if !decimal_comma {
            text.parse::<f64>()
        } else if text.contains('.') {
            // 1.234 may be a thousand here. So it is taken for text, which a column of numbers refuses.
            return Self::Text;
        } else {
            text.replacen(',', ".", 1).parse::<f64>()
        };
        match number {
            Ok(number) if number.is_nan() => Self::Missing,
            Ok(number) => Self::Number(number),
            Err(_) => Self::Text,
        }
    }
}

/// What becomes of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Skip,
    /// Depends on its cells.
    Auto,
    /// One 0/1 column for each value.
    Categorical,
    Label,
    Id,
    /// The first column, without a name: the rows' names if they differ.
    Index,
}

/// Text cells, each different text kept once.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// One a row: a place in `names`, or [`MISSING`].
    pub codes: Vec<u32>,
    pub names: Vec<Rc<str>>,
    places: HashMap<Rc<str>, u32>,
    bytes: u64,
}

impl Symbols {
    fn push(&mut self, text: Option<&str>) {
        let Some(text) = text else {
            self.codes.push(MISSING);
            return;
        };
        let code = self.places.get(text).copied().unwrap_or_else(|| {
            // There are no more names than rows, and `fill` ends before rows outgrow the code.
            let code = u32::try_from(self.names.len()).unwrap_or(MISSING);
            let name: Rc<str> = text.into();
            // The text, its counts, the two pointers to it and its place in the table.
            self.bytes += text.len() as u64 + 80;
            self.names.push(Rc::clone(&name));
            self.places.insert(name, code);
            code
        });
        self.codes.push(code);
    }

    /// The row's text.
    pub fn get(&self, row: usize) -> Option<&str> {
        let code = *self.codes.get(row)?;
        self.names.get(code as usize).map(|name| &**name)
    }

    fn numbers(&self, decimal_comma: bool) -> Vec<f64> {
        let number = |name: &Rc<str>| match Cell::of(name, decimal_comma) {
            Cell::Number(number) | Cell::Bool(number) => number,
            Cell::Missing | Cell::Text => f64::NAN,
        };
        let known: Vec<f64> = self.names.iter().map(number).collect();
        self.codes.iter().map(|&code| known.get(code as usize).copied().unwrap_or(f64::NAN)).collect()
    }
}

/// The cells of a column so far.
#[derive(Debug)]
pub(super) enum Cells {
    Text(Symbols),
    Numbers(Vec<f64>),
    /// Text that is of no use: too many values for categories, and not all different.
    Dropped,
}

/// A column while rows are added.
#[derive(Debug)]
pub(super) struct Column {
    pub role: Role,
    pub cells: Cells,
    pub numbers: usize,
    pub bools: usize,
    pub missing: usize,
    pub text: usize,
    /// The line and the text of the first cell that is text.
    pub first_text: Option<(u64, String)>,
}

impl Column {
    pub fn new(role: Role) -> Self {
        let cells = Cells::Text(Symbols::default());
        Self { role, cells, numbers: 0, bools: 0, missing: 0, text: 0, first_text: None }
    }

    /// Cells that are not missing.
    pub fn present(&self) -> usize {
        self.numbers + self.bools + self.text
    }

    /// Adds the cell of the next row.
    pub fn push(&mut self, text: &str, line: u64, decimal_comma: bool) {
        if self.role == Role::Skip {
            return;
        }
        let text = text.trim();
        let cell = Cell::of(text, decimal_comma);
        match cell {
            Cell::Missing => self.missing += 1,
            Cell::Number(_) => self.numbers += 1,
            Cell::Bool(_) => self.bools += 1,
            Cell::Text => {
                self.text += 1;
                self.first_text.get_or_insert_with(|| (line, super::shown(text)));
            }
        }
        if cell == Cell::Text && matches!(self.cells, Cells::Numbers(_)) {
            self.turn_to_text();
        }
        match &mut self.cells {
            Cells::Text(symbols) => {
                let kept = cell != Cell::Missing || matches!(self.role, Role::Id | Role::Index);
                symbols.push(kept.then_some(text));
            }
            Cells::Numbers(numbers) => numbers.push(match cell {
                Cell::Number(number) | Cell::Bool(number) => number,
                Cell::Missing | Cell::Text => f64::NAN,
            }),
            Cells::Dropped => {}
        }
        self.drop_if_useless();
    }

    /// Text after many numbers: the column can only be categories, or wrong.
    fn turn_to_text(&mut self) {
        let Cells::Numbers(numbers) = &self.cells else { return };
        let mut distinct = HashSet::new();
        for number in numbers.iter().filter(|number| !number.is_nan()) {
            distinct.insert(number.to_bits());
            if distinct.len() > MOST_CATEGORIES {
                self.cells = Cells::Dropped;
                return;
            }
        }
        let mut symbols = Symbols::default();
        for number in numbers {
            symbols.push((!number.is_nan()).then(|| number.to_string()).as_deref());
        }
        self.cells = Cells::Text(symbols);
    }

    fn drop_if_useless(&mut self) {
        let Cells::Text(symbols) = &self.cells else { return };
        let many = symbols.names.len() > MOST_CATEGORIES;
        if self.role == Role::Auto && self.text > 0 && many && !self.all_differ() {
            self.cells = Cells::Dropped;
        }
    }

    /// Whether no cell is missing, none is a number and none comes twice.
    pub fn all_differ(&self) -> bool {
        let Cells::Text(symbols) = &self.cells else { return false };
        self.numbers == 0 && self.missing == 0 && symbols.names.len() == symbols.codes.len()
    }

    /// Keeps numbers as numbers once there are enough to tell.
    pub fn settle(&mut self, decimal_comma: bool) {
        if self.role == Role::Auto && self.text == 0 && self.numbers > 0 {
            self.keep_numbers(decimal_comma);
        }
    }

    fn keep_numbers(&mut self, decimal_comma: bool) {
        if let Cells::Text(symbols) = &self.cells {
            self.cells = Cells::Numbers(symbols.numbers(decimal_comma));
        }
    }

    /// The cells as numbers; none if they are text.
    pub fn into_numbers(mut self, decimal_comma: bool) -> Vec<f64> {
        self.keep_numbers(decimal_comma);
        match self.cells {
            Cells::Numbers(numbers) => numbers,
            Cells::Text(_) | Cells::Dropped => Vec::new(),
        }
    }

    /// Bytes in use.
    pub fn held(&self) -> u64 {
        size_of::<Self>() as u64
            + match &self.cells {
                Cells::Text(symbols) => symbols.bytes + symbols.codes.capacity() as u64 * 4,
                Cells::Numbers(numbers) => numbers.capacity() as u64 * 8,
                Cells::Dropped => 0,
            }
    }
}
