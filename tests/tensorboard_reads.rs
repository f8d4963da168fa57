//! Event files and projector files against TensorBoard's own readers.
//!
//! Needs a Python with `tensorboard` and `pillow`, named by `DEC_PYTHON`; without it the test says that it skips.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use dec::tensorboard::{write_projector, Column, EventWriter, Tiles};

const START: f64 = 1_800_000_000.0;

/// What tests/tensorboard_reads.py expects.
fn write_logs(dir: &Path) {
    let mut writer = EventWriter::create(dir).unwrap();
    for step in 0..100u64 {
        writer.scalar("pretrain/loss", step, START + step as f64, 1.0 / (step + 1) as f64).unwrap();
    }
    writer.flush().unwrap();
    let path = writer.path().to_owned();
    drop(writer);
    // A process that was killed in the middle of a record.
    OpenOptions::new().append(true).open(path).unwrap().write_all(&[40, 0, 0, 0, 0, 0, 0, 0, 1, 2]).unwrap();

    let mut writer = EventWriter::resume(dir).unwrap();
    writer.scalar("pretrain/loss", 100, START + 100.0, f64::NAN).unwrap();
    let values: Vec<f32> = (0..1000).map(|i| (i as f32 / 1000.0).powi(2)).collect();
    writer.histogram("confidence", 7, START, &values).unwrap();
    writer.histogram("same", 7, START, &[2.5; 10]).unwrap();
    let pixels: Vec<u8> = (0..10 * 6 * 4).map(|i| i as u8).collect();
    let tiles = Tiles { width: 6, height: 4, channels: 1, pixels: &pixels };
    let grid = tiles.grid(4).unwrap();
    writer.image("centroids", 3, START, [grid.width, grid.height], grid.channels, &grid.pixels).unwrap();
    writer.image("colour", 3, START, [1, 2], 3, &[255, 0, 0, 0, 255, 0]).unwrap();
    writer.flush().unwrap();

    let z: Vec<f32> = (0..30).map(|i| i as f32 / 7.0 - 2.0).collect();
    let clusters: Vec<String> = (0..10).map(|i| (i % 3).to_string()).collect();
    let classes: Vec<String> = (0..10).map(|i| format!("class\t{i}")).collect();
    let columns = [Column { name: "cluster", values: &clusters }, Column { name: "class", values: &classes }];
    write_projector(dir, &z, 3, &columns, Some(tiles)).unwrap();
}

#[test]
fn tensorboard_reads_what_is_written() {
    let python = std::env::var("DEC_PYTHON").unwrap_or_default();
    let has = |python: &str| {
        let output = Command::new(python).args(["-c", "import tensorboard, PIL"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if python.is_empty() || !has(&python) {
        eprintln!("skipped: DEC_PYTHON does not name a Python with tensorboard and pillow");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_logs(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tensorboard_reads.py");
    let output = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    assert!(output.status.success());
}
