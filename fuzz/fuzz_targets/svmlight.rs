//! svmlight text, gzipped too, with and without labels.
#![no_main]

use dec::data::{Format, Pick};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for label_column in [None, Some("label")] {
        let pick = Pick { label_column, ..Pick::default() };
        dec_fuzz::rows("rows.svm", data, Some(Format::Svmlight), &[None], pick, 0);
    }
});
