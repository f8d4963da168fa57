//! The library's errors as Python's.

use pyo3::create_exception;
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::PyErr;

create_exception!(dec, TrainingError, PyRuntimeError, "Training that diverged or collapsed.");

pub fn to_python(error: dec::Error) -> PyErr {
    use dec::Error::{
        Collapsed, Config, Data, Device, Diverged, Interrupted, Memory, Output, Rows, Shape, Training, Unsaved,
    };
    let text = error.to_string();
    match error {
        Config(_) | Device(_) | Data { .. } | Rows(_) | Shape { .. } => PyValueError::new_err(text),
        Training(_) | Diverged { .. } | Collapsed { .. } => TrainingError::new_err(text),
        Memory(_) => PyMemoryError::new_err(text),
        Output { .. } | Unsaved(_) => PyOSError::new_err(text),
        Interrupted => PyKeyboardInterrupt::new_err(()),
        _ => PyRuntimeError::new_err(text),
    }
}

pub fn value(text: String) -> PyErr {
    PyValueError::new_err(text)
}
