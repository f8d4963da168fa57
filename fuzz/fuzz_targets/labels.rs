//! Files of labels: NPY, IDX, CSV, text, gzipped too.
#![no_main]

use dec::data::{load, Pick, Reading, Source};
use dec_fuzz::{accepted, bounded, file, MOST_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let rows = file("rows.csv", b"1,2\n3,4\n5,7\n");
    let labels = file("labels", data);
    for label_column in [None, Some("1"), Some("label")] {
        let pick = Pick { most_bytes: MOST_BYTES, ..Pick::default() };
        let source = Source {
            source: rows.to_str().expect("a path"),
            labels: Some(&labels),
            reading: Reading { pick: Pick { label_column, ..pick }, ..Reading::default() },
            ..Source::default()
        };
        // The column is one of the labels' file alone.
        let read = bounded(0, || match label_column {
            None => load(&source).map(|rows| rows.labels.map_or(0, |labels| labels.len())),
            column => dec::data::read_labels(&labels, column).map(|labels| labels.len()),
        });
        accepted(&labels, read);
    }
});
