//! The folder that Cell Ranger writes. Its three files are the parts of the input between NUL bytes.
#![no_main]

use dec::data::Pick;
use dec_fuzz::{bounded, file, folder, read_rows, MOST_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |&byte| byte == 0);
    for name in ["matrix.mtx", "barcodes.tsv", "features.tsv"] {
        file(name, parts.next().unwrap_or_default());
    }
    bounded(0, || read_rows(folder(), None, Pick { most_bytes: MOST_BYTES, ..Pick::default() }));
});
