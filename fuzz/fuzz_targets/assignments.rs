//! The table of assignments that a run left.
#![no_main]

use dec::run::Assignment;
use dec_fuzz::{accepted, bounded, file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = file("assignments.csv", data);
    bounded(0, || {
        if let Some(read) = accepted(&path, Assignment::read(&path)) {
            let count = read.rows.len();
            assert!([read.labels.len(), read.confidence.len(), read.second.len(), read.entropy.len()] == [count; 4]);
            assert!(read.ids.is_empty() || read.ids.len() == count, "{} ids of {count}", read.ids.len());
            let _ = read.to_csv();
        }
    });
});
