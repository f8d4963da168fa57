//! Rows and settings from Python.

use dec::data::{Dataset, Reading};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::errors::{to_python, value};

/// The rows of a NumPy array [n, d] of uint8, float32 or float64, or of a sparse matrix as (shape, starts, columns, values) of uint64,
/// uint32 and float32.
pub fn dataset(rows: &Bound<'_, PyAny>, reading: &Reading) -> PyResult<Dataset> {
    let read = if let Ok(array) = rows.extract::<PyReadonlyArray2<u8>>() {
        Dataset::from_array(array.as_array(), reading)
    } else if let Ok(array) = rows.extract::<PyReadonlyArray2<f32>>() {
        Dataset::from_array(array.as_array(), reading)
    } else if let Ok(array) = rows.extract::<PyReadonlyArray2<f64>>() {
        Dataset::from_array(array.as_array(), reading)
    } else {
        type Sparse<'py> =
            ((usize, usize), PyReadonlyArray1<'py, u64>, PyReadonlyArray1<'py, u32>, PyReadonlyArray1<'py, f32>);
        let ((n, d), starts, columns, values): Sparse = rows.extract()?;
        let (starts, columns, values) =
            (starts.as_array().to_vec(), columns.as_array().to_vec(), values.as_array().to_vec());
        Dataset::from_csr([n, d], starts, columns, values, reading)
    };
    read.map_err(to_python)
}

/// A setting's value as a recipe has it.
pub fn toml(given: &Bound<'_, PyAny>) -> PyResult<toml::Value> {
    if given.is_instance_of::<PyBool>() {
        Ok(toml::Value::Boolean(given.extract()?))
    } else if given.is_instance_of::<PyInt>() {
        Ok(toml::Value::Integer(given.extract()?))
    } else if given.is_instance_of::<PyFloat>() {
        Ok(toml::Value::Float(given.extract()?))
    } else if given.is_instance_of::<PyString>() {
        Ok(toml::Value::String(given.extract()?))
    } else if given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>() {
        let values = given.try_iter()?.map(|item| toml(&item?)).collect::<PyResult<_>>()?;
        Ok(toml::Value::Array(values))
    } else if let Ok(number) = given.extract::<i64>() {
        Ok(toml::Value::Integer(number)) // NumPy's
    } else if let Ok(number) = given.extract::<f64>() {
        Ok(toml::Value::Float(number))
    } else {
        Err(value(format!("a setting is a number, text, true, false or a list of such, not {}", given.get_type())))
    }
}
