//! NumPy's archives, and SciPy's sparse matrices.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| dec_fuzz::rows("rows.npz", data, Some(Format::Npz), &[None, Some("b")], Pick::default(), 0));
