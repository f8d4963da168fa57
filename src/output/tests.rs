//! Tables are read back with the crates that wrote them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use super::testing::{names, Rows, ALL, K, LEAST, M};
use super::*;

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn csv_has_the_columns_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let rows = Rows::of([0, 7, 3, 4].into_iter());
    assert_eq!(rows.table(&path, LEAST, None, 3).unwrap(), std::slice::from_ref(&path));
    let text = "row,cluster,confidence\n0,0,0\n7,-1,0.0068359375\n3,3,0.0029296875\n4,4,0.00390625\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    rows.table(&path, ALL, None, 1).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "row,id,cluster,confidence,second,entropy,outlier,z_0,z_1,z_2,q_0,q_1,q_2,q_3,q_4");
    let quoted = "3,\"a, \"\"b\"\"\",3,0.0029296875,4,0.375,0.0234375,1.5,0.5,-0.5,0.375,0.5,0.625,0.75,0.875";
    assert_eq!(lines[3], quoted);
    assert!(lines[4].starts_with("4,=1+1,4,"), "{}", lines[4]);
    assert_eq!(count(folder.path()), 1);
}

#[test]
fn names_come_behind_the_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let header = Header { names: names(), ..LEAST };
    Rows::of([0, 7, 1].into_iter()).table(&path, header.clone(), None, 3).unwrap();
    let text = "row,cluster,name,confidence\n0,0,neurons,0\n7,-1,,0.0068359375\n1,1,\"a, \"\"b\"\"\",0.0009765625\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(OutputFormat::Npy.leaves_out(&header), ["name", "confidence"]);
    let Err(error) = create(&path, OutputFormat::Csv, Header { n_clusters: 4, ..header }, None) else { panic!() };
    assert!(error.to_string().contains("5 names for 4 clusters"), "{error}");
}

#[test]
fn each_score_can_be_asked_for_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsv");
    let scores = Scores { outlier: true, ..Scores::default() };
    Rows::of(5..6).table(&path, Header { scores, has_ids: true, ..LEAST }, None, 1).unwrap();
    let text = "row\tid\tcluster\tconfidence\toutlier\n5\t\"é\tü\"\t0\t0.0048828125\t0.0390625\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn floats_of_a_csv_read_back_as_their_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let values = [f32::MIN_POSITIVE, 0.1, 1.0 / 3.0, 1e-45, f32::MAX, f32::INFINITY, f32::NAN];
    let cluster = [0; 7];
    let chunk = Chunk { rows: &[0, 1, 2, 3, 4, 5, 6], cluster: &cluster, confidence: &values, ..Chunk::default() };
    let mut writer = create(&path, OutputFormat::Csv, LEAST, None).unwrap();
    writer.write(&chunk).unwrap();
    writer.finish().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for (line, value) in text.lines().skip(1).zip(values) {
        let cell = line.rsplit(',').next().unwrap().parse::<f32>().unwrap();
        assert!(cell.to_bits() == value.to_bits() || (cell.is_nan() && value.is_nan()), "{line}");
    }
}

#[test]
fn npy_holds_each_array_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let rows = Rows::of(0..1000);
    let written = rows.table(&path, ALL, None, 64).unwrap();
    let names = ["a.npy", "a.embedding.npy", "a.memberships.npy"].map(|name| folder.path().join(name));
    assert_eq!(written, names);
    let shapes = ["(1000,)".to_owned(), format!("(1000, {M})"), format!("(1000, {K})")];
    let values: [Vec<u8>; 3] = [
        rows.cluster.iter().flat_map(|value| value.to_le_bytes()).collect(),
        rows.z.iter().flat_map(|value| value.to_le_bytes()).collect(),
        rows.q.iter().flat_map(|value| value.to_le_bytes()).collect(),
    ];
    for ((name, shape), values) in names.iter().zip(shapes).zip(values) {
        let bytes = fs::read(name).unwrap();
        assert!(String::from_utf8_lossy(&bytes[..128]).contains(&shape));
        assert_eq!(bytes[128..], values);
    }
    assert_eq!(OutputFormat::Npy.leaves_out(&ALL), ["id", "confidence", "second", "entropy", "outlier"]);
    assert_eq!(rows.table(&path, LEAST, None, 64).unwrap(), names[..1]);
}

#[test]
fn nothing_is_left_without_finish() {
    let folder = tempfile::tempdir().unwrap();
    let rows = Rows::of(0..100);
    for name in ["a.csv", "a.npy", "a.parquet", "a.arrow", "a.h5ad"] {
        let path = folder.path().join(name);
        fs::write(&path, "old").unwrap();
        if let Ok(mut writer) = create(&path, OutputFormat::of(&path).unwrap(), ALL, None) {
            rows.write(&mut *writer, 10).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::remove_file(&path).unwrap();
        assert_eq!(count(folder.path()), 0, "{name}");
    }
}

#[test]
fn places_that_cannot_be_written_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["csv", "npy", "parquet", "arrow", "h5ad"] {
        for path in [folder.path().join("none").join(format!("a.{name}")), folder.path().to_owned()] {
            let Err(error) = create(&path, name.parse().unwrap(), ALL, None) else { panic!("{name}") };
            assert!(matches!(&error, Error::Output { path: named, .. } if *named == path), "{error}");
        }
    }
    let Err(error) = create(Path::new("-"), OutputFormat::Npy, ALL, None) else { panic!() };
    assert!(error.to_string().contains("CSV only, not npy"), "{error}");
    let path = folder.path().join("a.h5ad");
    let Err(error) = create(&path, OutputFormat::H5ad, LEAST, None) else { panic!() };
    assert!(error.to_string().contains("ask for the embedding"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_names_the_file() {
    let path = Path::new("/dev/full");
    let mut writer = create(path, OutputFormat::Csv, ALL, None).unwrap();
    let written = Rows::of(0..10_000).write(&mut *writer, 1000).and_then(|()| writer.finish());
    assert!(written.unwrap_err().to_string().starts_with("/dev/full: cannot be written: No space left"));
    let mut sink = create(Path::new("/dev/null"), OutputFormat::Csv, ALL, None).unwrap();
    Rows::of(0..10).write(&mut *sink, 3).unwrap();
    assert!(sink.finish().unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file.csv"), folder.path().join("link.csv"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    Rows::of(0..1).table(&link, LEAST, None, 1).unwrap();
    assert!(link.is_symlink());
    assert!(fs::read_to_string(&file).unwrap().starts_with("row,"));
}

#[test]
fn chunks_that_are_not_what_the_header_says_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let mut writer = create(&path, OutputFormat::Csv, ALL, None).unwrap();
    let rows = Rows::of(0..4);
    let good = rows.chunk(0, 4);
    for (bad, word) in [
        (Chunk { ids: None, ..good }, "id"),
        (Chunk { confidence: &[0.5; 3], ..good }, "confidence"),
        (Chunk { z: Some(&[0.0; 4]), ..good }, "embedding"),
        (Chunk { q: None, ..good }, "memberships"),
        (Chunk { outlier: None, ..good }, "outlier"),
        (Chunk { cluster: &[0, 1, 2, K as i64], ..good }, "cluster 5"),
        (Chunk { second: Some(&[0, 1, 2, -2]), ..good }, "cluster -2"),
    ] {
        let text = writer.write(&bad).unwrap_err().to_string();
        assert!(text.contains(word) && text.contains("a.csv"), "{text}");
    }
    writer.write(&good).unwrap();
    writer.write(&Chunk { z: Some(&[]), q: Some(&[]), ..rows.chunk(0, 0) }).unwrap();
}

#[cfg(feature = "parquet")]
mod columnar {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float32Type, Int64Type, UInt64Type};
    use arrow_array::RecordBatch;
    use arrow_ipc::reader::FileReader;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    /// The rows of batches, as far as they have columns.
    fn rows(batches: &[RecordBatch]) -> Rows {
        let mut rows = Rows::default();
        for batch in batches {
            let floats = |name| batch.column_by_name(name).map(|c| c.as_primitive::<Float32Type>().values().to_vec());
            let whole = |name| batch.column_by_name(name).map(|c| c.as_primitive::<Int64Type>().values().to_vec());
            let list = |name| {
                let values = batch.column_by_name(name).map(|c| c.as_fixed_size_list().values().clone());
                values.map(|values| values.as_primitive::<Float32Type>().values().to_vec())
            };
            rows.rows.extend(batch.column_by_name("row").unwrap().as_primitive::<UInt64Type>().values());
            rows.ids.extend(
                batch
                    .column_by_name("id")
                    .iter()
                    .flat_map(|c| c.as_string::<i32>().iter())
                    .flatten()
                    .map(str::to_owned),
            );
            rows.cluster.extend(whole("cluster").unwrap());
            rows.confidence.extend(floats("confidence").unwrap());
            rows.second.extend(whole("second").unwrap_or_default());
            rows.entropy.extend(floats("entropy").unwrap_or_default());
            rows.outlier.extend(floats("outlier").unwrap_or_default());
            rows.z.extend(list("embedding").unwrap_or_default());
            rows.q.extend(list("memberships").unwrap_or_default());
        }
        rows
    }

    #[test]
    fn parquet_reads_back_in_row_groups() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let all = Rows::of(0..150_000);
        all.table(&path, ALL, None, 10_007).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap();
        let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [65536, 65536, 18928]);
        let batches: Vec<RecordBatch> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
        assert!(rows(&batches) == all);
    }

    #[test]
    fn names_are_a_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.feather");
        let all = Rows::of(0..100);
        all.table(&path, Header { names: names(), ..ALL }, None, 30).unwrap();
        let reader = FileReader::try_new(fs::File::open(&path).unwrap(), None).unwrap();
        let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
        assert!(rows(&batches) == all);
        let found = batches[0].column_by_name("name").unwrap().as_string::<i32>();
        let expected = all.cluster.iter().map(|&cluster| names().get(cluster as usize).cloned().unwrap_or_default());
        assert!(found.iter().flatten().eq(expected));
    }

    #[test]
    fn arrow_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.feather");
        let all = Rows::of(0..70_000);
        all.table(&path, ALL, None, 3000).unwrap();
        let reader = FileReader::try_new(fs::File::open(&path).unwrap(), None).unwrap();
        assert_eq!(reader.num_batches(), 2);
        let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
        assert!(rows(&batches) == all);
    }

    #[test]
    fn least_columns_and_no_rows_are_tables_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arrow");
        Rows::of(0..3).table(&path, LEAST, None, 1).unwrap();
        let reader = FileReader::try_new(fs::File::open(&path).unwrap(), None).unwrap();
        let names: Vec<String> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["row", "cluster", "confidence"]);
        for name in ["a.arrow", "a.pq", "a.csv", "a.npy"] {
            let path = folder.path().join(name);
            Rows::default().table(&path, ALL, None, 1).unwrap();
            assert!(fs::metadata(&path).unwrap().len() > 0);
        }
    }
}
