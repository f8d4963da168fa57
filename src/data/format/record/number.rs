//! Numbers of Arrow arrays.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Decimal256Type, Decimal32Type, Decimal64Type, Float16Type, Float32Type,
    Float64Type, Int16Type, Int32Type, Int64Type, Int8Type, UInt16Type, UInt32Type, UInt64Type, UInt8Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::super::grid::Kind;

/// The type of the values, where a dictionary holds them.
pub(super) fn plain(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) => values,
        kind => kind,
    }
}

pub(super) fn is_text(kind: &DataType) -> bool {
    matches!(plain(kind), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Of a column of numbers.
pub(super) fn kind(kind: &DataType) -> Option<Kind> {
    match plain(kind) {
        DataType::UInt8 => Some(Kind::Byte),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::UInt16
        | DataType::Float16
        | DataType::Float32 => Some(Kind::Single),
        DataType::Int32
        | DataType::Int64
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Some(Kind::Double),
        _ => None,
    }
}

/// Of the items of a column of lists.
pub(super) fn list_kind(list: &DataType) -> Option<Kind> {
    match list {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => kind(item.data_type()),
        _ => None,
    }
}

/// The array without a dictionary; `None` if its keys are damaged.
pub(super) fn without_dictionary(array: &dyn Array) -> Option<ArrayRef> {
    let dictionary = array.as_any_dictionary_opt()?;
    arrow_select::take::take(dictionary.values().as_ref(), dictionary.keys(), None).ok()
}

/// Hands every value with its place to `put`, in order, NaN for nulls. Returns false for arrays that hold no numbers.
pub(super) fn each(array: &dyn Array, mut put: impl FnMut(usize, f64)) -> bool {
    match array.data_type() {
        DataType::Boolean => array.as_boolean_opt().is_some_and(|values| {
            values.iter().enumerate().for_each(|(i, value)| put(i, value.map_or(f64::NAN, f64::from)));
            true
        }),
        DataType::Int8 => primitive::<Int8Type>(array, put, f64::from),
        DataType::Int16 => primitive::<Int16Type>(array, put, f64::from),
        DataType::Int32 => primitive::<Int32Type>(array, put, f64::from),
        DataType::Int64 => primitive::<Int64Type>(array, put, |value| value as f64),
        DataType::UInt8 => primitive::<UInt8Type>(array, put, f64::from),
        DataType::UInt16 => primitive::<UInt16Type>(array, put, f64::from),
        DataType::UInt32 => primitive::<UInt32Type>(array, put, f64::from),
        DataType::UInt64 => primitive::<UInt64Type>(array, put, |value| value as f64),
        DataType::Float16 => primitive::<Float16Type>(array, put, f64::from),
        DataType::Float32 => primitive::<Float32Type>(array, put, f64::from),
        DataType::Float64 => primitive::<Float64Type>(array, put, |value| value),
        DataType::Decimal32(_, scale) => {
            let unit = unit(*scale);
            primitive::<Decimal32Type>(array, put, |value| f64::from(value) / unit)
        }
        DataType::Decimal64(_, scale) => {
            let unit = unit(*scale);
            primitive::<Decimal64Type>(array, put, |value| value as f64 / unit)
        }
        DataType::Decimal128(_, scale) => {
            let unit = unit(*scale);
            primitive::<Decimal128Type>(array, put, |value| value as f64 / unit)
        }
        DataType::Decimal256(_, scale) => {
            let unit = unit(*scale);
            primitive::<Decimal256Type>(array, put, |value| value.to_string().parse().unwrap_or(f64::NAN) / unit)
        }
        DataType::Dictionary(..) => without_dictionary(array)
            .is_some_and(|plain| !matches!(plain.data_type(), DataType::Dictionary(..)) && each_dyn(&plain, &mut put)),
        _ => false,
    }
}

/// [`each`] without a type parameter, so that it may call itself.
fn each_dyn(array: &ArrayRef, put: &mut dyn FnMut(usize, f64)) -> bool {
    each(array.as_ref(), put)
}

/// What a decimal of this scale counts in.
fn unit(scale: i8) -> f64 {
    10f64.powi(i32::from(scale))
}

fn primitive<T: ArrowPrimitiveType>(
    array: &dyn Array,
    mut put: impl FnMut(usize, f64),
    to: impl Fn(T::Native) -> f64,
) -> bool {
    let Some(values) = array.as_primitive_opt::<T>() else { return false };
    match values.nulls() {
        Some(nulls) if nulls.null_count() > 0 => {
            for (i, (&value, valid)) in values.values().iter().zip(nulls.iter()).enumerate() {
                put(i, if valid { to(value) } else { f64::NAN });
            }
        }
        _ => values.values().iter().enumerate().for_each(|(i, &value)| put(i, to(value))),
    }
    true
}
