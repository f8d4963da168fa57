//! Parquet.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let arrays = [None, Some("emb")];
    dec_fuzz::rows("rows.parquet", data, Some(Format::Parquet), &arrays, Pick::default(), dec_fuzz::PAGE);
});
