//! CSV, TSV and other text, gzipped too.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| dec_fuzz::rows("rows.csv", data, Some(Format::Csv), &[None], Pick::default(), 0));
