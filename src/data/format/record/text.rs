//! Texts of Arrow arrays: labels, ids and categories.

use std::collections::HashMap;
use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Decimal256Type, Decimal32Type, Decimal64Type, DecimalType, Float16Type,
    Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Int8Type, UInt16Type, UInt32Type, UInt64Type, UInt8Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::number;
use super::MOST_CATEGORIES;

/// The code of a missing text.
pub(super) const MISSING: u32 = u32::MAX;
/// What a text takes in memory besides its letters.
const OVERHEAD: u64 = 48;

/// Whether [`Texts::add`] takes arrays of this type.
pub(super) fn can_be_text(kind: &DataType) -> bool {
    number::is_text(kind) || number::kind(kind).is_some() || *kind == DataType::Null
}

/// The texts of one column, each different one kept once.
pub(super) struct Texts {
    /// Which text each row has.
    codes: Vec<u32>,
    values: HashMap<String, u32>,
    bytes: u64,
    rows: usize,
    missing: bool,
    /// Whether the recipe names the column. If not, it is only kept while it may be of use.
    asked: bool,
    /// Whether it was found to be of no use.
    given_up: bool,
}

impl Texts {
    pub(super) fn new(asked: bool) -> Self {
        Self { codes: vec![], values: HashMap::new(), bytes: 0, rows: 0, missing: false, asked, given_up: false }
    }

    pub(super) fn asked(&self) -> bool {
        self.asked
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The memory it takes, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + 4 * self.codes.len() as u64
    }

    /// Forgets the texts.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        self.codes = vec![];
        self.values = HashMap::new();
        self.bytes = 0;
    }

    /// How many texts differ; `None` if that was given up.
    pub(super) fn distinct(&self) -> Option<usize> {
        (!self.given_up).then_some(self.values.len())
    }

    /// Whether every row has a text of its own.
    pub(super) fn all_different(&self) -> bool {
        !self.given_up && !self.missing && self.rows > 1 && self.values.len() == self.rows
    }

    /// Takes the texts of one batch. Returns false if there are none in arrays of its type.
    pub(super) fn add(&mut self, array: &dyn Array) -> bool {
        if self.given_up {
            self.rows += array.len();
            return true;
        }
        let done = each(array, &mut |text| self.push(text));
        let none_twice = self.values.len() == self.rows;
        if !self.asked && self.values.len() > MOST_CATEGORIES && !none_twice {
            self.give_up();
        }
        done
    }

    fn push(&mut self, text: Option<&str>) {
        self.rows += 1;
        let Some(text) = text else {
            self.missing = true;
            self.codes.push(MISSING);
            return;
        };
        if let Some(&code) = self.values.get(text) {
            self.codes.push(code);
            return;
        }
        let code = self.values.len() as u32;
        self.values.insert(text.to_owned(), code);
        self.bytes += text.len() as u64 + OVERHEAD;
        self.codes.push(code);
    }

    /// The different texts by code.
    fn by_code(values: HashMap<String, u32>) -> Vec<String> {
        let mut pairs: Vec<(String, u32)> = values.into_iter().collect();
        pairs.sort_unstable_by_key(|&(_, code)| code);
        pairs.into_iter().map(|(text, _)| text).collect()
    }

    /// The text of each row, an empty one where it is missing.
    pub(super) fn into_strings(self) -> Vec<String> {
        if self.all_different() {
            return Self::by_code(self.values);
        }
        let texts = Self::by_code(self.values);
        self.codes.iter().map(|&code| texts.get(code as usize).cloned().unwrap_or_default()).collect()
    }

    /// The text of each row.
    pub(super) fn into_options(self) -> Vec<Option<String>> {
        let texts = Self::by_code(self.values);
        self.codes.iter().map(|&code| texts.get(code as usize).cloned()).collect()
    }

    /// The text of each row, where the texts are needed again.
    pub(super) fn to_options(&self) -> Vec<Option<String>> {
        let texts = Self::by_code(self.values.clone());
        self.codes.iter().map(|&code| texts.get(code as usize).cloned()).collect()
    }

    /// The different texts, sorted, and for each row the place of its own.
    pub(super) fn into_categories(mut self) -> (Vec<String>, Vec<u32>) {
        let mut pairs: Vec<(String, u32)> = self.values.into_iter().collect();
        pairs.sort_unstable();
        let mut places = vec![0; pairs.len()];
        for (place, &(_, code)) in pairs.iter().enumerate() {
            places[code as usize] = place as u32;
        }
        for code in &mut self.codes {
            *code = places.get(*code as usize).copied().unwrap_or(MISSING);
        }
        (pairs.into_iter().map(|(text, _)| text).collect(), self.codes)
    }
}

/// Hands the text of every value to `put`. Returns false for arrays of other types than [`can_be_text`] names.
fn each(array: &dyn Array, put: &mut dyn FnMut(Option<&str>)) -> bool {
    match array.data_type() {
        DataType::Utf8 => strings(array.as_string_opt::<i32>().map(|texts| texts.iter()), put),
        DataType::LargeUtf8 => strings(array.as_string_opt::<i64>().map(|texts| texts.iter()), put),
        DataType::Utf8View => strings(array.as_string_view_opt().map(|texts| texts.iter()), put),
        DataType::Null => {
            (0..array.len()).for_each(|_| put(None));
            true
        }
        DataType::Boolean => array.as_boolean_opt().is_some_and(|values| {
            values.iter().for_each(|value| put(value.map(|value| if value { "true" } else { "false" })));
            true
        }),
        DataType::Int8 => shown::<Int8Type>(array, put),
        DataType::Int16 => shown::<Int16Type>(array, put),
        DataType::Int32 => shown::<Int32Type>(array, put),
        DataType::Int64 => shown::<Int64Type>(array, put),
        DataType::UInt8 => shown::<UInt8Type>(array, put),
        DataType::UInt16 => shown::<UInt16Type>(array, put),
        DataType::UInt32 => shown::<UInt32Type>(array, put),
        DataType::UInt64 => shown::<UInt64Type>(array, put),
        DataType::Float16 => shown::<Float16Type>(array, put),
        DataType::Float32 => shown::<Float32Type>(array, put),
        DataType::Float64 => shown::<Float64Type>(array, put),
        DataType::Decimal32(..) => decimals::<Decimal32Type>(array, put),
        DataType::Decimal64(..) => decimals::<Decimal64Type>(array, put),
        DataType::Decimal128(..) => decimals::<Decimal128Type>(array, put),
        DataType::Decimal256(..) => decimals::<Decimal256Type>(array, put),
        DataType::Dictionary(..) => number::without_dictionary(array)
            .is_some_and(|plain: ArrayRef| !matches!(plain.data_type(), DataType::Dictionary(..)) && each(&plain, put)),
        _ => false,
    }
}

fn strings<'a>(texts: Option<impl Iterator<Item = Option<&'a str>>>, put: &mut dyn FnMut(Option<&str>)) -> bool {
    texts.map(|texts| texts.for_each(put)).is_some()
}

/// Numbers as they are written; no number is a missing text.
fn shown<T: ArrowPrimitiveType>(array: &dyn Array, put: &mut dyn FnMut(Option<&str>)) -> bool
where
    T::Native: std::fmt::Display,
{
    let Some(values) = array.as_primitive_opt::<T>() else { return false };
    let mut text = String::new();
    for value in values {
        text.clear();
        match value.map(|value| write!(text, "{value}")) {
            Some(Ok(())) if text != "NaN" => put(Some(&text)),
            _ => put(None),
        }
    }
    true
}

fn decimals<T: DecimalType>(array: &dyn Array, put: &mut dyn FnMut(Option<&str>)) -> bool {
    let Some(values) = array.as_primitive_opt::<T>() else { return false };
    for i in 0..values.len() {
        if values.is_null(i) {
            put(None);
        } else {
            put(Some(&values.value_as_string(i)));
        }
    }
    true
}
