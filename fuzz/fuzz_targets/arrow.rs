//! Arrow IPC, files and streams.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| dec_fuzz::rows(
    "rows.arrow",
    data,
    Some(Format::Arrow),
    &[None, Some("emb")],
    Pick::default(),
    0
));
