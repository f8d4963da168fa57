//! safetensors.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| dec_fuzz::rows(
    "rows.safetensors",
    data,
    Some(Format::Safetensors),
    &[None, Some("b")],
    Pick::default(),
    0
));
