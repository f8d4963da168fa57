//! A folder with one PNG or JPEG image.
#![no_main]

use dec::data::{Format, Pick};
use dec_fuzz::{bounded, file, folder, read_rows, MOST_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    file("image.png", data);
    for image_size in [None, Some([4, 5])] {
        let pick = Pick { image_size, folder_labels: true, most_bytes: MOST_BYTES, ..Pick::default() };
        bounded(0, || read_rows(folder(), Some(Format::Images), pick));
    }
});
