//! Files are read back with hdf5-pure; `tests/read_back.rs` has anndata read them.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use hdf5_pure::{AttrValue, FileBuilder};

use super::super::testing::{names, Rows, ALL, K, LEAST, M};
use super::super::{create, OutputFormat};
use super::*;

fn order(file: &File) -> Vec<String> {
    file.group("obs").unwrap().attrs().unwrap()["column-order"].as_strings().unwrap().to_vec()
}

fn check(path: &Path, rows: &Rows) {
    let file = File::open(path).unwrap();
    let codes = |name: &str| file.dataset(&format!("obs/{name}/codes")).unwrap().read_i64().unwrap();
    let floats = |name: &str| file.dataset(name).unwrap().read_f32().unwrap();
    assert_eq!(codes("dec"), rows.cluster);
    assert_eq!(codes("dec_second"), rows.second);
    assert_eq!(file.dataset("obs/dec/categories").unwrap().read_string().unwrap(), ["0", "1", "2", "3", "4"]);
    assert_eq!(floats("obs/dec_confidence"), rows.confidence);
    assert_eq!(floats("obs/dec_entropy"), rows.entropy);
    assert_eq!(floats("obs/dec_outlier"), rows.outlier);
    assert_eq!(floats("obsm/X_dec"), rows.z);
    assert_eq!(floats("obsm/dec_memberships"), rows.q);
    let shape = file.dataset("obsm/X_dec").unwrap().shape().unwrap();
    assert_eq!(shape, [rows.rows.len() as u64, M as u64]);
    assert_eq!(order(&file), ["dec", "dec_confidence", "dec_second", "dec_entropy", "dec_outlier"]);
}

#[test]
fn a_new_file_holds_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5ad");
    for (n, step) in [(1, 1), (1000, 64), (30_000, 10_000)] {
        let rows = Rows::of(0..n);
        rows.table(&path, ALL, None, step).unwrap();
        check(&path, &rows);
        let file = File::open(&path).unwrap();
        assert_eq!(file.dataset("obs/_index").unwrap().read_string().unwrap(), rows.ids);
    }
    Rows::of([7, 2].into_iter()).table(&path, Header { embedding: true, ..LEAST }, None, 1).unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!(file.dataset("obs/_index").unwrap().read_string().unwrap(), ["7", "2"]);
    assert_eq!(order(&file), ["dec", "dec_confidence"]);
    Rows::default().table(&path, ALL, None, 1).unwrap();
    check(&path, &Rows::default());
}

#[test]
fn an_earlier_answer_is_replaced_and_the_input_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (input, path) = (folder.path().join("in.h5ad"), folder.path().join("out.h5ad"));
    let reverse = Rows::of((0..500).rev());
    reverse.table(&input, Header { has_ids: false, ..ALL }, None, 100).unwrap();
    let before = fs::read(&input).unwrap();
    Rows::of(0..500).table(&path, ALL, Some(&input), 99).unwrap();
    assert_eq!(fs::read(&input).unwrap(), before);
    check(&path, &Rows::of(0..500));
    let names = File::open(&path).unwrap().dataset("obs/_index").unwrap().read_string().unwrap();
    assert_eq!(names, (0..500).rev().map(|i| i.to_string()).collect::<Vec<_>>());
    // The table may take the place of the input file.
    Rows::of(0..500).table(&input, ALL, Some(&input), 77).unwrap();
    check(&input, &Rows::of(0..500));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn names_are_categories_and_those_of_an_earlier_answer_go() {
    let folder = tempfile::tempdir().unwrap();
    let (input, path) = (folder.path().join("in.h5ad"), folder.path().join("out.h5ad"));
    let rows = Rows::of(0..60);
    for source in [None, Some(input.as_path())] {
        rows.table(&path, Header { names: names(), ..ALL }, source, 60).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(file.dataset("obs/dec_name/codes").unwrap().read_i64().unwrap(), rows.cluster);
        assert_eq!(file.dataset("obs/dec_name/categories").unwrap().read_string().unwrap(), names());
        assert_eq!(order(&file).iter().filter(|name| *name == "dec_name").count(), 1);
        drop(file);
        std::fs::copy(&path, &input).unwrap();
    }
    rows.table(&path, ALL, Some(&input), 60).unwrap();
    check(&path, &rows);
    assert!(File::open(&path).unwrap().dataset("obs/dec_name/codes").is_err());
}

#[test]
fn rows_that_were_not_clustered_have_no_values() {
    let folder = tempfile::tempdir().unwrap();
    let (input, path) = (folder.path().join("in.h5ad"), folder.path().join("out.h5ad"));
    Rows::of(0..6).table(&input, ALL, None, 6).unwrap();
    Rows::of([1, 2, 4].into_iter()).table(&path, ALL, Some(&input), 2).unwrap();
    let file = File::open(&path).unwrap();
    assert_eq!(file.dataset("obs/dec/codes").unwrap().read_i64().unwrap(), [-1, 1, 2, -1, 4, -1]);
    let z = file.dataset("obsm/X_dec").unwrap().read_f32().unwrap();
    assert!(z[..M].iter().all(|value| value.is_nan()) && z[M..3 * M].iter().all(|value| !value.is_nan()));
    for (numbers, word) in [(vec![2, 1], "comes after row 2"), (vec![6], "has 6 rows"), (vec![3, 3], "in their order")]
    {
        let written = Rows::of(numbers.into_iter()).table(&path, ALL, Some(&input), 2);
        let text = written.unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn many_clusters_have_wider_codes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5ad");
    for (n_clusters, bytes) in [(127, 1), (128, 2), (32767, 2), (32768, 4)] {
        let header = Header { n_clusters, embedding: true, ..LEAST };
        let mut writer = create(&path, OutputFormat::H5ad, header, None).unwrap();
        let last = n_clusters as i64 - 1;
        let rows = Rows::of(0..2);
        let chunk = Chunk { cluster: &[last, -1], ..rows.chunk(0, 2) };
        writer.write(&chunk).unwrap();
        writer.finish().unwrap();
        let codes = File::open(&path).unwrap().dataset("obs/dec/codes").unwrap();
        assert_eq!((codes.read_i64().unwrap(), codes.element_size().unwrap()), (vec![last, -1], bytes));
    }
}

#[test]
fn files_that_cannot_take_the_answer_are_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let (input, path) = (folder.path().join("in.h5ad"), folder.path().join("out.h5ad"));
    let refused = |word: &str| {
        let Err(error) = create(&path, OutputFormat::H5ad, ALL, Some(&input)) else { panic!("{word}") };
        assert!(matches!(&error, Error::Data { path, .. } if *path == input), "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(!path.exists());
    };
    refused("cannot be read");
    fs::write(&input, "no HDF5").unwrap();
    refused("cannot be added");
    let mut builder = FileBuilder::new();
    builder.create_dataset("X").with_f32_data(&[0.0; K]);
    builder.write(&input).unwrap();
    refused("no obs");
    let mut builder = FileBuilder::new();
    builder.create_dataset("obs").with_f32_data(&[0.0; K]);
    builder.write(&input).unwrap();
    refused("neither a group nor a table");
    let mut builder = FileBuilder::new();
    let mut obs = builder.create_group("obs");
    obs.set_attr("_index", AttrValue::VarLenString("nowhere".to_owned()));
    builder.add_group(obs.finish());
    builder.write(&input).unwrap();
    refused("index of obs");
}
