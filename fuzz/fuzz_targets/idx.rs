//! MNIST's format, gzipped too.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| dec_fuzz::rows("rows.idx", data, Some(Format::Idx), &[None], Pick::default(), 0));
