//! Python reads back what the tables hold. Needs DEC_PYTHON, a Python that has the packages; otherwise it says that it skips.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

#[path = "../src/output/testing.rs"]
mod testing;

// What testing.rs takes from its parent.
use dec::error;
use dec::output::{create, Chunk, Header, OutputFormat, Scores, TableWriter};
use testing::{Rows, ALL};

/// Runs the script; false where the Python or a package is missing.
fn python(arguments: &[&OsStr]) -> bool {
    let Some(python) = std::env::var_os("DEC_PYTHON") else {
        eprintln!("skipped: DEC_PYTHON is not set");
        return false;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_back.py");
    let done = Command::new(python).arg(script).args(arguments).output().unwrap();
    if done.status.code() == Some(77) {
        eprintln!("skipped: {}", String::from_utf8_lossy(&done.stdout));
        return false;
    }
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    true
}

fn reads(name: &str, rows: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    Rows::of(0..rows).table(&path, ALL, None, 777).unwrap();
    python(&["check".as_ref(), path.as_ref()]);
}

#[test]
fn pandas_reads_text() {
    reads("a.csv", 1000);
    reads("a.tsv", 1000);
}

#[test]
fn numpy_reads_arrays() {
    reads("a.npy", 1000);
}

#[cfg(feature = "parquet")]
#[test]
fn pyarrow_reads_columns() {
    reads("a.parquet", 1000);
    reads("a.feather", 1000);
}

#[cfg(feature = "h5ad")]
#[test]
fn anndata_reads_a_new_file() {
    reads("a.h5ad", 200_000); // many chunks of the file
}

#[cfg(feature = "h5ad")]
#[test]
fn anndata_reads_copies_with_all_that_was_in_them() {
    let (inputs, outputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if !python(&["make".as_ref(), inputs.path().as_ref()]) {
        return;
    }
    for entry in std::fs::read_dir(inputs.path()).unwrap() {
        let input = entry.unwrap().path();
        let path = outputs.path().join(input.file_name().unwrap());
        let rows = if input.ends_with("legacy.h5ad") { 700 } else { 300 };
        Rows::of(0..rows).table(&path, ALL, Some(&input), 64).unwrap();
    }
    python(&["copies".as_ref(), outputs.path().as_ref(), inputs.path().as_ref()]);
}
