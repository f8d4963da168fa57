//! NumPy's arrays, gzipped too.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| dec_fuzz::rows("rows.npy", data, Some(Format::Npy), &[None], Pick::default(), 0));
