#![allow(clippy::unwrap_used)]

use std::io::Write;

use ndarray::array;
use npyz::WriterBuilder;
use proptest::prelude::*;

use super::*;
use crate::backend::ranks::Ranks;

/// A directory for one test's files.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn idx(code: u8, dims: &[u32], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, code, dims.len() as u8];
    dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
    bytes.extend(body);
    bytes
}

fn npy(header: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    bytes
}

fn npy_of(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"), body)
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn f32s(array: ndarray::Array2<f32>) -> Features {
    Features::F32(array)
}

/// The message of an error about the file's bytes, after checking that it is about the file and exits with 3.
fn problem<T: std::fmt::Debug>(name: &str, bytes: &[u8], read: impl Fn(&Path) -> Result<T>) -> String {
    let dir = Dir::new();
    let path = dir.file(name, bytes);
    let error = read(&path).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(matches!(&error, Error::Data { path: p, .. } if *p == path), "{error:?}");
    error.to_string()
}

fn rows_problem(bytes: &[u8]) -> String {
    problem("rows", bytes, read_rows)
}

fn labels_problem(bytes: &[u8]) -> String {
    problem("labels", bytes, |path| read_labels(path, None))
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in {text:?}"));
}

#[test]
fn idx_of_every_type_raw_and_gzipped() {
    let dir = Dir::new();
    let images = idx(0x08, &[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 255]);
    for (name, bytes) in [("raw", images.clone()), ("no-such-ending", gz(&images))] {
        let path = dir.file(name, &bytes);
        let data = read_rows(&path).unwrap();
        assert_eq!(data.features, Features::U8(array![[0, 1, 2, 3], [4, 5, 6, 255]]));
        assert_eq!((data.image, data.labels, data.name), (Some([2, 2]), None, path.display().to_string()));
    }
    let expected = f32s(array![[1.0, -2.0]]);
    for (code, body) in [
        (0x09, vec![1, 0xfe]),
        (0x0b, [1i16, -2].iter().flat_map(|v| v.to_be_bytes()).collect()),
        (0x0c, [1i32, -2].iter().flat_map(|v| v.to_be_bytes()).collect()),
        (0x0d, [1f32, -2.].iter().flat_map(|v| v.to_be_bytes()).collect()),
        (0x0e, [1f64, -2.].iter().flat_map(|v| v.to_be_bytes()).collect::<Vec<u8>>()),
    ] {
        let data = read_rows(&dir.file("typed", &idx(code, &[1, 2], &body))).unwrap();
        assert_eq!((data.features, data.image), (expected.clone(), None), "type {code:#x}");
    }
    // More than one chunk of the reader, and a last one that is not full.
    let many: Vec<u8> = (0..200_001u32).flat_map(|v| (v as f32).to_be_bytes()).collect();
    let Features::F32(a) = read_rows(&dir.file("many", &gz(&idx(0x0d, &[200_001, 1], &many)))).unwrap().features else {
        panic!("f32")
    };
    assert!(a.iter().enumerate().all(|(i, &v)| v == i as f32));
}

#[test]
fn npy_as_an_independent_writer_writes_it() {
    macro_rules! round_trip {
        ($($type:ty, $order:ident, $shape:expr, $values:expr => $features:expr, $image:expr;)*) => {$(
            let mut bytes = Vec::new();
            let mut writer = npyz::WriteOptions::<$type>::new()
                .default_dtype()
                .order(npyz::Order::$order)
                .shape(&$shape)
                .writer(&mut bytes)
                .begin_nd()
                .unwrap();
            let values: Vec<$type> = $values.into();
            writer.extend(values).unwrap();
            writer.finish().unwrap();
            for bytes in [gz(&bytes), bytes] {
                let data = read_rows(&Dir::new().file("a", &bytes)).unwrap();
                assert_eq!((data.features, data.image), ($features, $image), stringify!($type $order $shape));
            }
        )*};
    }
    let square = || f32s(array![[1., 2.], [3., 4.]]);
    round_trip! {
        u8, C, [2, 2], [1, 2, 3, 4] => Features::U8(array![[1, 2], [3, 4]]), None;
        u8, Fortran, [2, 2], [1, 3, 2, 4] => Features::U8(array![[1, 2], [3, 4]]), None;
        f32, C, [2, 2], [1., 2., 3., 4.] => square(), None;
        f32, Fortran, [2, 2], [1., 3., 2., 4.] => square(), None;
        f64, C, [2, 2], [1., 2., 3., 4.] => square(), None;
        i8, C, [2, 2], [1, 2, 3, 4] => square(), None;
        i16, C, [2, 2], [1, 2, 3, 4] => square(), None;
        i32, Fortran, [2, 2], [1, 3, 2, 4] => square(), None;
        i64, C, [2, 2], [1, 2, 3, 4] => square(), None;
        u16, C, [2, 2], [1, 2, 3, 4] => square(), None;
        u32, C, [2, 2], [1, 2, 3, 4] => square(), None;
        u64, C, [2, 2], [1, 2, 3, 4] => square(), None;
        bool, C, [1, 2], [true, false] => Features::U8(array![[1, 0]]), None;
        // Row-major flattening, whatever the order in the file: index (i, j, k) is at 2 j + k of row i.
        f32, C, [2, 2, 2], [0., 1., 2., 3., 4., 5., 6., 7.] => f32s(array![[0., 1., 2., 3.], [4., 5., 6., 7.]]), Some([2, 2]);
        f32, Fortran, [2, 2, 2], [0., 4., 2., 6., 1., 5., 3., 7.] => f32s(array![[0., 1., 2., 3.], [4., 5., 6., 7.]]), Some([2, 2]);
        f32, C, [1, 2, 1, 2], [1., 2., 3., 4.] => f32s(array![[1., 2., 3., 4.]]), None;
        f32, C, [0, 3], [] => f32s(ndarray::Array2::zeros((0, 3))), None;
    }
}

#[test]
fn npy_byte_orders_versions_and_spellings() {
    let dir = Dir::new();
    let expected = f32s(array![[1.5, -2.0]]);
    let big: Vec<u8> = [1.5f32, -2.].iter().flat_map(|v| v.to_be_bytes()).collect();
    let little = floats(&[1.5, -2.]);
    let v1 = npy("{\"shape\":(1L,2L),'descr':\"<f4\" , 'fortran_order' :False}   \n", &little);
    let mut v3 = v1[..6].to_vec();
    v3.extend([3, 0]);
    v3.extend(u32::from(u16::from_le_bytes([v1[8], v1[9]])).to_le_bytes());
    v3.extend(&v1[10..]);
    for bytes in [npy_of(">f4", "(1, 2)", &big), npy_of("<f4", "(1, 2)", &little), v1, v3] {
        assert_eq!(read_rows(&dir.file("a", &bytes)).unwrap().features, expected);
    }
    let halves = npy_of("<f2", "(1, 2)", &[0x00, 0x3e, 0x00, 0xc0]);
    assert_eq!(read_rows(&dir.file("a", &halves)).unwrap().features, expected);
}

#[test]
fn labels_of_any_integer_type() {
    let dir = Dir::new();
    let read = |bytes: &[u8]| -> Vec<String> {
        read_labels(&dir.file("y", bytes), None).unwrap().into_iter().map(Option::unwrap).collect()
    };
    assert_eq!(read(&idx(0x08, &[3], &[7, 0, 255])), ["7", "0", "255"]);
    assert_eq!(read(&gz(&idx(0x0c, &[1], &[0xff, 0xff, 0xff, 0xfe]))), ["-2"]);
    assert_eq!(
        read(&npy_of("<i8", "(2,)", &[1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255])),
        ["1", "-1"]
    );
    assert_eq!(read(&npy_of("<f4", "(2, 1)", &floats(&[3.0, -1.0]))), ["3", "-1"]);
    assert_eq!(read(&npy_of("|b1", "(2,)", &[0, 1])), ["0", "1"]);
    assert_eq!(read(&npy_of("|S3", "(2,)", b"oakash")), ["oak", "ash"]);
    let wide: Vec<u8> = "oak\0ash!".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    assert_eq!(read(&npy_of("<U4", "(2,)", &wide)), ["oak", "ash!"]);

    has(
        &labels_problem(&npy_of("<f4", "(2,)", &floats(&[3.0, 0.5]))),
        &["row 1 (counted from 0) is 0.5", "whole numbers"],
    );
    has(&labels_problem(&npy_of("<f4", "(1,)", &floats(&[f32::NAN]))), &["row 0", "NaN"]);
    has(&labels_problem(&idx(0x08, &[1, 2], &[1, 2])), &["shape [1, 2]", "[rows] or [rows, 1]"]);
    has(&labels_problem(&npy_of("|u1", "()", &[1])), &["shape []"]);
}

#[test]
fn files_that_are_no_files_of_rows() {
    let dir = Dir::new();
    let error = read_rows(&dir.0.path().join("nope.npy")).unwrap_err();
    has(&error.to_string(), &["nope.npy: no such file"]);
    assert_eq!(error.exit_code(), 3);
    has(&read_rows(dir.0.path()).unwrap_err().to_string(), &["is a directory"]);
    has(&rows_problem(b""), &["is empty (0 bytes)"]);
    has(&rows_problem(&gz(b"")), &["empty gzip file"]);
    has(&rows_problem(b"\x01\x02rest"), &["its format is not known", "01 02 72 65", "npy, idx, npz, csv"]);
    has(&rows_problem(b"\x00\x01\x08\x03"), &["its format is not known", "00 01 08 03"]);
    has(&rows_problem(b"\x93NUMBER\x01\x00"), &["wrong magic", "93 4e 55 4d 50 59"]);
}

#[test]
fn damaged_idx() {
    has(&rows_problem(&idx(0x07, &[1, 1], &[0])), &["wrong magic number, 00 00 07 02", "byte 2", "08 (uint8)"]);
    has(&rows_problem(&idx(0x08, &[], &[])), &["wrong magic number", "0 dimensions"]);
    has(&rows_problem(&[0, 0, 8]), &["cut off inside its IDX header"]);
    has(
        &rows_problem(&[0, 0, 8, 2, 0, 0, 0, 1, 0]),
        &["cut off inside its IDX header", "bytes 4 to 11", "after byte 9"],
    );
    has(&rows_problem(&idx(0x08, &[5], &[0; 5])), &["1 dimension (5 values)", "[5, 1]", "--labels"]);
    // Found from the length, and found by reading.
    let cut = idx(0x0d, &[10, 3], &[0; 17]);
    has(&rows_problem(&cut), &["cut off", "10 x 3 float32 values, 120 bytes after byte 12", "only 17 are there"]);
    has(&rows_problem(&gz(&cut)), &["cut off", "120 bytes after byte 12 (decompressed)", "only 17 are there"]);
    let long = idx(0x08, &[1, 2], &[0; 5]);
    has(&rows_problem(&long), &["bytes after its end", "1 x 2 uint8 values, 2 bytes", "but 5 are there"]);
    has(&rows_problem(&gz(&long)), &["bytes after its end", "but more are there"]);
    // 2^96 values; 2^63 bytes; 16 TB that are not there, which must not be allocated.
    has(
        &rows_problem(&idx(0x08, &[u32::MAX; 3], &[])),
        &["overflows", "4294967295 x 4294967295 x 4294967295 uint8", "16 bytes"],
    );
    has(&rows_problem(&idx(0x0e, &[1 << 30, 1 << 30], &[])), &["overflows"]);
    let lying = idx(0x08, &[1 << 22, 1 << 22], &[1, 2, 3]);
    has(&rows_problem(&lying), &["cut off", "17592186044416 bytes", "only 3 are there"]);
    let zipped = gz(&lying);
    let most = format!("{} bytes of gzip hold {} at most", zipped.len(), zipped.len() * 1032);
    has(&rows_problem(&zipped), &["cut off", "4194304 x 4194304 uint8 values, 17592186044416 bytes", &most]);
}

#[test]
fn the_most_that_gzip_can_hold_is_read() {
    let zeros = vec![0; 1 << 24];
    let bytes = idx(0x08, &[1 << 12, 1 << 12], &zeros);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&bytes).unwrap();
    let zipped = encoder.finish().unwrap();
    assert!(zipped.len() * 1032 < bytes.len() * 11 / 10, "near the bound: {}", zipped.len());
    let rows = read_rows(&Dir::new().file("zeros", &zipped)).unwrap();
    assert_eq!((rows.n_rows(), rows.n_features()), (1 << 12, 1 << 12));
}

#[test]
fn damaged_gzip() {
    let good = gz(&idx(0x08, &[40, 40], &(0..1600).map(|i| (i * i % 251) as u8).collect::<Vec<_>>()));
    has(&rows_problem(&good[..good.len() / 2]), &["cut off", "1600 bytes after byte 12", "before the gzip data ends"]);
    has(&rows_problem(&good[..good.len() - 4]), &["gzip data is cut off", "checksum"]);
    let mut bad = good.clone();
    let checksum = bad.len() - 8;
    bad[checksum] ^= 1;
    has(&rows_problem(&bad), &["gzip data is corrupt after 1612 decompressed bytes"]);
    has(&rows_problem(&[0x1f, 0x8b, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0]), &["gzip data is corrupt after 0"]);
    has(&rows_problem(&[0x1f, 0x8b]), &["gzip"]);
    has(&rows_problem(&[good.as_slice(), b"junk"].concat()), &["gzip data is"]);
}

#[test]
fn damaged_or_unsupported_npy() {
    for (descr, kind, remedy) in [
        ("<c8", "complex", "a.real, a.imag"),
        ("|O", "Python objects", "astype('float64')"),
        ("<U5", "strings", "--labels"),
        ("|S5", "strings", "--labels"),
        ("<f16", "long double", "astype('float64')"),
        ("<M8[ns]", "dates", "astype('int64')"),
        ("|V4", "raw bytes", "view('float32')"),
        ("<u3", "not supported", "astype('float64')"),
        ("", "not supported", "astype('float64')"),
    ] {
        let text = rows_problem(&npy_of(descr, "(1, 1)", &[0; 16]));
        has(&text, &["its dtype", descr, kind, "float16, float32 and float64", remedy]);
    }
    let structured = "{'descr': [('a', '<f4'), ('b)', '<i2', (2, 3))], 'fortran_order': False, 'shape': (1,), }";
    has(&rows_problem(&npy(structured, &[0; 16])), &["dtype [('a', '<f4')", "structured_to_unstructured"]);
    has(&rows_problem(&npy_of("|f4", "(1, 1)", &[0; 4])), &["'|f4'", "byte order"]);
    has(
        &rows_problem(&npy_of("<f4", "(3,)", &[0; 12])),
        &["1 dimension (3 values)", "One value a row? reshape to [3, 1]"],
    );
    has(&rows_problem(&npy_of("<f4", "()", &[0; 4])), &["single value"]);
    has(
        &rows_problem(&npy_of("<f4", "(2, 2)", &[0; 15])),
        &["cut off", "2 x 2 float32 values, 16 bytes", "only 15 are there"],
    );
    has(&rows_problem(&npy_of("<f4", "(2, 2)", &[0; 17])), &["after its end", "but 17 are there"]);
    has(&rows_problem(&npy_of("<f8", "(4294967296, 4294967296)", &[])), &["overflows", "float64"]);
    has(&rows_problem(&npy_of("<f8", "(0, 4294967296, 4294967296)", &[])), &["overflows"]);
    has(&rows_problem(&npy_of("<f8", "(99999999999999999999, 1)", &[])), &["99999999999999999999, which overflows"]);
    has(&rows_problem(&npy_of("<f8", "(-1, 1)", &[])), &["whole numbers"]);
    has(&rows_problem(&npy_of("<f8", "[1, 1]", &[])), &["no '('"]);
    has(&rows_problem(&npy("{'descr': '<f4', 'shape': (1, 1)}", &[0; 4])), &["lacks the key 'fortran_order'"]);
    has(&rows_problem(&npy("{'descr': '<f4', 'other': 3}", &[0; 4])), &["unknown key 'other'"]);
    has(&rows_problem(&npy("{'descr': '<f4", &[])), &["string without an end", "at character 11"]);
    has(&rows_problem(&npy("{'descr': [(((((", &[])), &["'descr' without an end"]);
    has(&rows_problem(&npy("{'fortran_order': 1}", &[])), &["neither True nor False"]);
    has(&rows_problem(&npy("{} and more", &[])), &["goes on after"]);
    has(&rows_problem(b"\x93NUMPY\x01\x00\xff\xffabc"), &["cut off inside its NPY header", "bytes 10 to 65544"]);
    has(&rows_problem(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"), &["4294967295 bytes long"]);
    has(&rows_problem(b"\x93NUMPY\x04\x00\x00\x00"), &["version 4.0"]);
    has(&rows_problem(b"\x93NUMP"), &["cut off inside its NPY header"]);
}

#[test]
fn nesting_that_would_exhaust_the_stack_is_one_message() {
    let deep = format!("{{'descr': {}", "[".repeat(60_000));
    has(&rows_problem(&npy(&deep, &[])), &["'descr' without an end"]);
}

#[test]
fn values_that_are_not_finite_are_counted_and_placed() {
    let dir = Dir::new();
    let path = dir.file("x.npy", &npy_of("<f4", "(2, 3)", &floats(&[1., 2., 3., 4., f32::NAN, f32::NEG_INFINITY])));
    let source = path.display().to_string();
    let error = load(&Source { source: &source, dir: None, labels: None, ..Source::default() }).unwrap_err();
    assert!(matches!(error, Error::Rows(_)));
    assert_eq!(error.exit_code(), 3);
    let parts = [
        &*source,
        "1 of its values are missing or NaN, in 1 of 2 rows",
        "row 1, column 1, counted from 0",
        "data.missing=mean",
        "data.missing=drop",
    ];
    has(&error.to_string(), &parts);
    let reading = |missing| Reading { missing, ..Reading::default() };
    let of = |missing| Source { source: &source, reading: reading(missing), ..Source::default() };
    let error = load(&of(Missing::Mean)).unwrap_err();
    has(&error.to_string(), &["1 infinite of its 2 x 3 values", "-inf at row 1, column 2"]);
    assert_eq!(load(&of(Missing::Drop)).unwrap().features, f32s(array![[1., 2., 3.]]));
    let path = dir.file("y.npy", &npy_of("<f4", "(3, 1)", &floats(&[1., f32::NAN, 2.])));
    let filled = read(&[&path], &reading(Missing::Mean)).unwrap();
    assert_eq!(filled.features, f32s(array![[1.], [1.5], [2.]]));
    // Fine as float64, infinite as the float32 that clustering works in.
    let big: Vec<u8> = [1.0, 1e39].iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
    let path = dir.file("big.npy", &npy_of("<f8", "(2, 1)", &big));
    let error = load(&Source { source: &path.display().to_string(), dir: None, labels: None, ..Source::default() })
        .unwrap_err();
    has(&error.to_string(), &["1 infinite", "inf at row 1, column 0", "±3.4e38"]);
}

#[test]
fn labels_must_be_one_a_row() {
    let dir = Dir::new();
    let rows = dir.file("x", &idx(0x08, &[3, 2], &[1, 2, 3, 4, 5, 6])).display().to_string();
    let labels = dir.file("y", &idx(0x08, &[2], &[1, 2]));
    let error = load(&Source { source: &rows, dir: None, labels: Some(&labels), ..Source::default() }).unwrap_err();
    assert!(matches!(&error, Error::Data { path, .. } if *path == labels));
    has(&error.to_string(), &["has 2 labels", &rows, "has 3 rows", "one label a row"]);

    let labels = dir.file("y", &idx(0x08, &[3], &[1, 2, 1]));
    let data = load(&Source { source: &rows, dir: None, labels: Some(&labels), ..Source::default() }).unwrap();
    assert_eq!((&data.labels, data.classes.as_slice()), (&Some(vec![0, 1, 0]), &["1".to_owned(), "2".to_owned()][..]));
    let some = data.select(&[2, 0, 2]);
    assert_eq!(some.labels, Some(vec![0, 0, 0]));
    assert_eq!(some.features, Features::U8(array![[5, 6], [1, 2], [5, 6]]));
}

#[test]
fn rows_that_cannot_be_clustered() {
    let data = |features| Dataset { features, labels: None, name: "x.npy".to_owned(), ..Dataset::default() };
    let refused = |features, k| {
        let error = check_clusterable(&data(features), k).unwrap_err();
        assert!(matches!(error, Error::Rows(_)));
        error.to_string()
    };
    has(&refused(f32s(array![[1., 2.], [3., 4.]]), 3), &["x.npy", "2 rows, fewer than the 3 clusters"]);
    has(&refused(f32s(array![[1., 2.], [1., 2.], [1., 2.]]), 2), &["rows (3) are the same"]);
    has(&refused(Features::U8(array![[1, 2], [1, 2]]), 2), &["are the same"]);
    has(&refused(f32s(ndarray::Array2::zeros((4, 0))), 2), &["4 rows of 0 values"]);
    has(&refused(f32s(ndarray::Array2::zeros((0, 4))), 2), &["no rows"]);
    check_clusterable(&data(Features::U8(array![[1, 1], [1, 2]])), 2).unwrap();
    check_counts(&data(Features::F32(array![[0.0, 2.5]])), Ranks::ALONE).unwrap();
    let error = check_counts(&data(Features::F32(array![[0.0, 1.0], [3.0, -2.0]])), Ranks::ALONE).unwrap_err();
    assert!(error.to_string().contains("-2 at row 1, column 1"), "{error}");
}

#[test]
fn a_value_that_is_absurdly_far_out_is_named() {
    let mut rows = ndarray::Array2::from_shape_fn((200, 3), |(i, j)| ((i * 7 + j * 13) % 31) as f32);
    assert_eq!(first_absurd(&f32s(rows.clone()), Ranks::ALONE).unwrap(), None);
    rows[[150, 1]] = 1e6;
    assert_eq!(first_absurd(&f32s(rows), Ranks::ALONE).unwrap(), Some((150, 1, 1e6)));
    // Mostly zeros, as counts are, is no unit to measure by.
    let mut counts = ndarray::Array2::zeros((200, 2));
    counts[[3, 0]] = 40.0;
    assert_eq!(first_absurd(&f32s(counts), Ranks::ALONE).unwrap(), None);
}

/// Writes a small MNIST: two training digits and one test digit.
fn small_mnist(dir: &Dir, names: [&str; 4]) {
    dir.file(names[0], &idx(0x08, &[2, 1, 2], &[1, 2, 3, 4]));
    dir.file(names[1], &gz(&idx(0x08, &[2], &[7, 8])));
    dir.file(names[2], &gz(&idx(0x08, &[1, 1, 2], &[5, 6])));
    dir.file(names[3], &idx(0x08, &[1], &[9]));
}

/// A pick of no more than a megabyte.
fn megabyte() -> Reading<'static> {
    Reading { pick: Pick { most_bytes: 1 << 20, ..Pick::default() }, ..Reading::default() }
}

#[test]
fn claims_that_take_no_bytes_in_a_file_take_no_time_or_memory() {
    let dir = Dir::new();
    // A trillion rows of nothing, in each format that can say so.
    let trillion = 1u64 << 40;
    let safetensors = format!(r#"{{"x":{{"dtype":"F64","shape":[{trillion},0],"data_offsets":[0,0]}}}}"#);
    for (name, bytes) in [
        ("a.npy", npy_of("<f8", &format!("({trillion}, 0)"), &[])),
        ("a.mtx", format!("%%MatrixMarket matrix array real general\n{trillion} 0\n").into_bytes()),
        ("a.safetensors", [&(safetensors.len() as u64).to_le_bytes(), safetensors.as_bytes()].concat()),
    ] {
        let error = read(&[&dir.file(name, &bytes)], &megabyte()).unwrap_err().to_string();
        has(&error, &[name, "1099511627776 rows of 0 values"]);
    }
    // As many columns, in no rows or in one that is sparse.
    for (name, bytes) in [
        ("b.npy", npy_of("<f8", &format!("(0, {trillion})"), &[])),
        ("b.mtx", b"%%MatrixMarket matrix coordinate real general\n1 4294967295 1\n1 1 1\n".to_vec()),
        ("b.svm", b"1 1:1 4294967295:1\n".to_vec()),
    ] {
        let error = read(&[&dir.file(name, &bytes)], &megabyte()).unwrap_err();
        assert!(matches!(&error, Error::Memory(text) if text.contains(name)), "{error:?}");
    }
}

#[test]
fn gzipped_arrays_take_no_more_memory_than_is_allowed() {
    let dir = Dir::new();
    let zeros = gz(&npy_of("|u1", "(1000, 10000)", &vec![0; 10_000_000]));
    for (name, bytes) in [("a.npy", zeros), ("a.idx", gz(&idx(0x0d, &[1000, 1000], &vec![0; 4_000_000])))] {
        let error = read(&[&dir.file(name, &bytes)], &megabyte()).unwrap_err();
        assert!(
            matches!(&error, Error::Memory(text) if text.contains(name) && text.contains("max_memory")),
            "{error:?}"
        );
    }
}

#[test]
fn labels_take_no_more_memory_than_is_allowed() {
    let dir = Dir::new();
    let rows = dir.file("rows.csv", b"1,2\n3,4\n");
    for (name, bytes) in [
        ("lines", gz("1\n".repeat(100_000).as_bytes())),
        ("blank", gz(format!("1{}2", "\n".repeat(1_000_000)).as_bytes())),
        ("numbers", gz(&npy_of("|u1", "(100000,)", &[1; 100_000]))),
        ("strings", gz(&npy_of("|S1", "(100000,)", &[b'a'; 100_000]))),
    ] {
        let labels = dir.file(name, &bytes);
        let source =
            Source { source: rows.to_str().unwrap(), labels: Some(&labels), reading: megabyte(), ..Source::default() };
        let error = load(&source).unwrap_err();
        assert!(matches!(&error, Error::Memory(text) if text.contains(name)), "{error:?}");
    }
}

#[test]
fn npy_headers_whose_sizes_overflow_are_refused() {
    has(&labels_problem(&npy_of("<U4611686018427387905", "(1,)", &[0; 4])), &["4611686018427387905 characters"]);
    let sides = "1, ".repeat(100);
    has(&rows_problem(&npy_of("|u1", &format!("(2, {sides})"), &[0; 2])), &["more than 64 dimensions"]);
}

#[test]
fn mnist_is_train_then_test_under_any_spelling() {
    for names in [
        [
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte",
        ],
        [
            "train-images.idx3-ubyte",
            "train-labels.idx1-ubyte.gz",
            "t10k-images.idx3-ubyte.gz",
            "t10k-labels.idx1-ubyte",
        ],
    ] {
        let dir = Dir::new();
        small_mnist(&dir, names);
        let data =
            load(&Source { source: "mnist", dir: Some(dir.0.path()), labels: None, ..Source::default() }).unwrap();
        assert_eq!(data.features, Features::U8(array![[1, 2], [3, 4], [5, 6]]));
        assert_eq!((data.labels, data.image), (Some(vec![7, 8, 9]), Some([1, 2])));
    }
}

#[test]
fn mnist_that_is_not_there_says_where_it_looked_and_what_to_do() {
    let dir = Dir::new();
    dir.file("train-labels-idx1-ubyte", &[]);
    let mnist =
        |dir: &Path| load(&Source { source: "mnist", dir: Some(dir), labels: None, ..Source::default() }).unwrap_err();
    let error = mnist(dir.0.path());
    assert_eq!(error.exit_code(), 3);
    let text = error.to_string();
    has(
        &text,
        &[
            &dir.0.path().display().to_string(),
            "missing train-images-idx3-ubyte, t10k-images",
            "`dec fetch mnist`",
            "--data-dir",
        ],
    );
    assert!(!text.contains("train-labels"), "{text}");
    has(&mnist(&dir.0.path().join("no")).to_string(), &["there is no such directory", "train-labels"]);

    let names =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    small_mnist(&dir, names);
    dir.file(names[2], &idx(0x08, &[1, 2, 1], &[1, 2]));
    has(&mnist(dir.0.path()).to_string(), &["t10k-images-idx3-ubyte: has images of another size", "train-images"]);
    dir.file(names[3], &idx(0x08, &[2], &[1, 2]));
    has(&mnist(dir.0.path()).to_string(), &["t10k-labels-idx1-ubyte: has 2 labels", "has 1 rows"]);
}

/// Rows read from memory.
fn rows_of(bytes: &[u8]) -> Result<Features> {
    let path = Path::new("bytes");
    let pick = Pick { most_bytes: 1 << 30, ..Pick::default() };
    let wishes = table::Wishes { most_bytes: 1 << 30, ..table::Wishes::default() };
    Ok(table::dataset(path, array::read_table(&mut Input::from_bytes(path, bytes)?, &pick)?, wishes)?.features)
}

/// Labels read from memory.
fn labels_of(bytes: &[u8]) -> Result<Vec<i64>> {
    array::read_labels(&mut Input::from_bytes(Path::new("bytes"), bytes)?)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Reading must return, whatever the bytes: the properties are that it does, and never makes up values.
    #[test]
    fn arbitrary_bytes_are_read_or_refused(
        start in prop::sample::select(vec![
            vec![], vec![0, 0], vec![0, 0, 8, 2], vec![0, 0, 13, 2, 0, 0, 0], vec![0x1f, 0x8b], vec![0x1f, 0x8b, 8, 0],
            b"\x93NUMPY".to_vec(), b"\x93NUMPY\x01\x00\x20\x00{'descr': '<f4', ".to_vec(),
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start, rest].concat();
        let n_values = rows_of(&bytes).map_or(0, |rows| rows.n_rows() * rows.n_features());
        let n_labels = labels_of(&bytes).map_or(0, |labels| labels.len());
        prop_assert!(bytes.starts_with(&[0x1f]) || n_values.max(n_labels) <= bytes.len());
    }

    /// A header made of the right words in any order and number.
    #[test]
    fn arbitrary_npy_headers_are_read_or_refused(
        words in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "(", ")", "[", "]", ",", ":", "'descr'", "'shape'", "'fortran_order'", "'<f4'", "'|u1'", "True",
            "False", "1", "2", "18446744073709551615", "'", "\"", "L", " ", "é",
        ]), 0..30),
    ) {
        let bytes = npy(&words.concat(), &[0; 8]);
        prop_assert!(rows_of(&bytes).map_or(0, |rows| rows.n_rows() * rows.n_features()) <= 8);
        prop_assert!(labels_of(&bytes).map_or(0, |labels| labels.len()) <= 8);
    }

    #[test]
    fn small_arrays_survive_the_round_trip(
        (n, d, values) in (1usize..6, 1usize..6).prop_flat_map(|(n, d)| {
            (Just(n), Just(d), prop::collection::vec(any::<f32>(), n * d))
        }),
    ) {
        let expected = ndarray::Array2::from_shape_vec((n, d), values.clone()).unwrap();
        let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
        let columns: Vec<f32> = expected.t().iter().copied().collect();
        let fortran = format!("{{'descr': '<f4', 'fortran_order': True, 'shape': ({n}, {d}), }}");
        for bytes in [
            idx(0x0d, &[n as u32, d as u32], &big),
            npy_of(">f4", &format!("({n}, {d})"), &big),
            npy(&fortran, &floats(&columns)),
        ] {
            let Features::F32(found) = rows_of(&bytes).unwrap() else { panic!("f32") };
            // Bits, so that NaN compares too.
            prop_assert!(found.shape() == [n, d] && found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }

    #[test]
    fn cut_files_are_refused(cut in 0usize..28, gzipped in any::<bool>()) {
        let whole = idx(0x08, &[4, 4], &[9; 16]);
        let bytes = if gzipped { gz(&whole[..cut]) } else { whole[..cut].to_vec() };
        prop_assert!(rows_of(&bytes).is_err());
    }
}

/// The same columns as CSV, NPY and Parquet.
fn written(dir: &Dir, columns: &[&[f64]]) -> Vec<std::path::PathBuf> {
    let (n, d) = (columns[0].len(), columns.len());
    let row = |i: usize| columns.iter().map(move |column| column[i]);
    let names: Vec<String> = (0..d).map(|j| format!("x{j}")).collect();
    let line = |i: usize| row(i).map(|value| format!("{value:?}")).collect::<Vec<_>>().join(",");
    let text = std::iter::once(names.join(",")).chain((0..n).map(line)).collect::<Vec<_>>().join("\n");
    let bytes: Vec<u8> = (0..n).flat_map(row).flat_map(f64::to_le_bytes).collect();
    let paths = vec![
        dir.file("rows.csv", text.as_bytes()),
        dir.file("rows.npy", &npy_of("<f8", &format!("({n}, {d})"), &bytes)),
    ];
    #[cfg(feature = "parquet")]
    let paths = {
        use arrow_array::{ArrayRef, Float64Array, RecordBatch};
        let array = |column: &&[f64]| std::sync::Arc::new(Float64Array::from(column.to_vec())) as ArrayRef;
        let batch = RecordBatch::try_from_iter(names.iter().zip(columns.iter().map(array))).unwrap();
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        [paths, vec![dir.file("rows.parquet", &bytes)]].concat()
    };
    paths
}

/// One rule says when float32 is too coarse.
#[test]
fn numbers_become_the_same_rows_whatever_file_they_come_from() {
    let cases: [(&[f64], bool); 8] = [
        (&[0.1, 0.7, 0.2], false),
        (&[0.1, 0.1, 0.1], false),
        (&[1e-50, 2e-50, 3e-50], false),
        (&[16_777_217.0, 1.0, 2.0], false),
        (&[16_777_217.0, 16_777_218.0, 16_777_219.0], true),
        (&[1e9 + 0.25, 1e9 + 0.5, 1e9], true),
        // float32 holds these, but not what lies between them.
        (&[1_073_741_824.0, 1_073_741_952.0, 1_073_741_824.0], true),
        (&[1e9 + 0.25, 1e9 + 0.25, 1e9 + 0.25], false),
    ];
    for (column, coarse) in cases {
        let dir = Dir::new();
        let paths = written(&dir, &[column, &[0.5, 1.5, 3.0]]);
        let found: Vec<Dataset> = paths.iter().map(|path| read_rows(path).unwrap()).collect();
        for other in &found {
            assert_eq!(other.intake.offset.is_some(), coarse, "{column:?} in {}", other.name);
            assert_eq!((&other.features, &other.intake), (&found[0].features, &found[0].intake), "{}", other.name);
        }
    }
}

/// A model's offset shows differences that the rows of one file alone would not need.
#[test]
fn a_models_offset_is_taken_off_in_float64() {
    let intake = Intake { selected: None, offset: Some(array![1e9, 0.0]) };
    for column in [&[1e9 + 0.25][..], &[1e9 + 0.25, 5e9]] {
        let dir = Dir::new();
        for path in written(&dir, &[column, &vec![0.5; column.len()]]) {
            let found = read(&[&path], &Reading { intake: Some(&intake), ..Reading::default() }).unwrap();
            let Features::F32(rows) = &found.features else { panic!("{}", found.name) };
            assert_eq!(rows.row(0), array![0.25, 0.5], "{}", found.name);
        }
    }
}

#[test]
fn a_file_that_float32_would_do_for_is_joined_with_others_in_float64() {
    let dir = Dir::new();
    let varies = dir.file("a.csv", b"x,y\n1000000000.25,1.5\n1000000000.5,2.5\n");
    let constant = dir.file("b.csv", b"x,y\n1000000000.75,1.5\n");
    let Features::F32(rows) = read(&[&varies, &constant], &Reading::default()).unwrap().features else { panic!() };
    assert_eq!(rows.column(0), array![-0.25, 0.0, 0.25]);
}

#[test]
fn pixels_that_are_selected_are_no_image() {
    let dir = Dir::new();
    let path = dir.file("x.npy", &npy_of("|u1", "(3, 2, 2)", &[0, 9, 5, 5, 1, 0, 5, 5, 2, 4, 5, 5]));
    let found = read(&[&path], &Reading { features: FeatureChoice::Count(1), ..Reading::default() }).unwrap();
    assert_eq!((found.n_features(), found.image), (1, None));
    let whole = read(&[&path], &Reading::default()).unwrap();
    assert_eq!((whole.n_features(), whole.image), (4, Some([2, 2])));
}
