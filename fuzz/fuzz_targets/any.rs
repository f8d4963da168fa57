//! Files without a known name, whose format is found by their content.
#![no_main]

use dec::data::Pick;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| dec_fuzz::rows("rows", data, None, &[None], Pick::default(), dec_fuzz::PAGE));
