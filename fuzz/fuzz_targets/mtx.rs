//! Matrix Market, gzipped too.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| dec_fuzz::rows("rows.mtx", data, Some(Format::Mtx), &[None], Pick::default(), 0));
