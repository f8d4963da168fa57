//! Parquet: one file, or a folder of parts.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::ProjectionMask;
use parquet::file::metadata::ParquetMetaData;

use super::record::{self, Each, Source};
use super::{Pick, Table};
use crate::error::{Error, Result};
use headers::Footer;

mod headers;

/// As many values are decoded at once, about.
const BATCH_VALUES: usize = 1 << 20;

/// Reads the Parquet file `path`, or the parts `*.parquet` of the folder `path` by name.
pub fn read(path: &Path, pick: &Pick) -> Result<Table> {
    let mut parts = vec![];
    for file in files(path)? {
        parts.push(Part::open(file)?);
    }
    let parquet = Parquet { path, schema: agreed(&parts)?, parts };
    record::table(&parquet, pick)
}

/// The files to read. Names that begin with `_` or `.` belong to the programs that wrote the folder.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error: std::io::Error| Error::data(path, format!("cannot list the folder: {error}"));
    let mut files = vec![];
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let hidden = file.file_name().is_none_or(|name| name.to_string_lossy().starts_with(['_', '.']));
        let named = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"));
        if named && !hidden && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::data(path, "the folder holds no *.parquet files; give a folder that does, or a file"));
    }
    files.sort();
    Ok(files)
}

/// The schema of all parts.
fn agreed(parts: &[Part]) -> Result<SchemaRef> {
    let mut parts = parts.iter();
    let Some(first) = parts.next() else { return Ok(SchemaRef::new(Schema::empty())) };
    let schema = first.metadata.schema();
    for part in parts {
        let other = part.metadata.schema();
        let differ = schema
            .fields()
            .iter()
            .zip(other.fields())
            .find(|(a, b)| a.name() != b.name() || a.data_type() != b.data_type());
        if let Some((a, b)) = differ {
            let (kind, other_kind) = (a.data_type(), b.data_type());
            let problem = format!(
                "this part has column {} of type {other_kind} where {} has column {} of type {kind}; write all parts \
                 with the same columns",
                b.name(),
                first.path.display(),
                a.name()
            );
            return Err(Error::data(&part.path, problem));
        }
        let (count, other_count) = (schema.fields().len(), other.fields().len());
        if count != other_count {
            let longer = if count > other_count { schema } else { other };
            let name = longer.field(count.min(other_count)).name();
            let problem = format!(
                "this part has {other_count} columns where {} has {count} (column {name} is in one alone); write all \
                 parts with the same columns",
                first.path.display()
            );
            return Err(Error::data(&part.path, problem));
        }
    }
    Ok(schema.clone())
}

/// One or more files as one source.
struct Parquet<'a> {
    path: &'a Path,
    schema: SchemaRef,
    parts: Vec<Part>,
}

/// One file.
struct Part {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl Part {
    fn open(path: PathBuf) -> Result<Self> {
        let mut file = opened(&path)?;
        let length = file.metadata().map_err(|error| cannot_open(&path, &error))?.len();
        let footer = headers::of_file(&mut file).map_err(|error| cannot_open(&path, &error))?;
        let failed = |error: &dyn std::fmt::Display| {
            Error::data(&path, format!("not a whole Parquet file ({error}); copy it again, or write it anew"))
        };
        if footer == Footer::Damaged {
            return Err(failed(&"its footer is damaged"));
        }
        if let Footer::Deep(levels) = footer {
            let problem =
                format!("its columns lie {levels} levels deep in each other, but {} are read", headers::MOST_DEPTH);
            return Err(Error::data(&path, format!("{problem}; it is damaged, or write it again with plain columns")));
        }
        let metadata = record::guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?;
        check_claims(&path, metadata.metadata(), length)?;
        Ok(Self { path, metadata })
    }

    /// How many rows the file claims, which [`check_claims`] found to be no negative number.
    fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().unsigned_abs()
    }

    fn scan(&self, fields: &[usize], each: &mut Each<'_>) -> Result<ControlFlow<()>> {
        let failed = |error: &dyn std::fmt::Display| {
            let problem = format!("cannot be read to its end ({error}); the file is damaged, or its codec unsupported");
            Error::data(&self.path, format!("{problem}; write it again with snappy, zstd, gzip or lz4"))
        };
        let mut file = opened(&self.path)?;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), fields.iter().copied());
        let leaves = self.metadata.parquet_schema().num_columns().max(1);
        for (number, group) in self.metadata.metadata().row_groups().iter().enumerate() {
            for (_, column) in group.columns().iter().enumerate().filter(|&(leaf, _)| mask.leaf_included(leaf)) {
                let (start, length) = column.byte_range();
                let sound = headers::pages_are_sound(&mut file, start, length);
                if !sound.map_err(|error| cannot_open(&self.path, &error))? {
                    return Err(failed(&format!("a page of column {} is damaged", column.column_path())));
                }
            }
            let file = file.try_clone().map_err(|error| cannot_open(&self.path, &error))?;
            let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(mask.clone())
                .with_row_groups(vec![number])
                .with_batch_size((BATCH_VALUES / leaves).clamp(64, 8192))
                .build()
                .map_err(|error| failed(&error))?;
            while let Some(batch) = record::guarded(|| reader.next()).map_err(|error| failed(&error))? {
                if each(&batch.map_err(|error| failed(&error))?)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Source for Parquet<'_> {
    fn path(&self) -> &Path {
        self.path
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn rows(&self) -> u64 {
        self.parts.iter().map(Part::rows).fold(0, u64::saturating_add)
    }

    fn scan(&self, fields: &[usize], each: &mut Each<'_>) -> Result<()> {
        for part in &self.parts {
            if part.scan(fields, each)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Refuses metadata that the file cannot keep, before memory is reserved from it.
fn check_claims(path: &Path, metadata: &ParquetMetaData, length: u64) -> Result<()> {
    let damaged = |what: &str| Error::data(path, format!("{what}; the file is damaged or cut off, copy it again"));
    let rows = metadata.file_metadata().num_rows();
    let mut sum = 0i64;
    for group in metadata.row_groups() {
        sum = sum.saturating_add(group.num_rows());
        for column in group.columns() {
            let first = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let end = first.checked_add(column.compressed_size()).and_then(|end| u64::try_from(end).ok());
            if group.num_rows() < 0 || first < 0 || column.compressed_size() < 0 || end.is_none_or(|end| end > length) {
                let name = column.column_path().string();
                return Err(damaged(&format!("column {name} is said to lie where the file has ended")));
            }
        }
    }
    if rows < 0 || rows != sum {
        return Err(damaged(&format!("the file claims {rows} rows, but its row groups hold {sum}")));
    }
    Ok(())
}

fn opened(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| cannot_open(path, &error))
}

fn cannot_open(path: &Path, error: &std::io::Error) -> Error {
    Error::data(path, format!("cannot be opened ({error}); check the path and its permissions"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ndarray::{array, Array2};

    use super::super::testing::{file, ROOMY};
    use super::super::Values;
    use super::*;
    use crate::data::RowSource;

    fn problem(name: &str, pick: &Pick) -> String {
        read(&file(name), pick).map_or_else(|error| error.to_string(), |table| format!("{table:?}"))
    }

    fn floats(table: &Table) -> &Array2<f32> {
        let Values::F32(values) = &table.values else { panic!("not float32: {:?}", table.values) };
        values
    }

    #[test]
    fn reads_numbers_texts_and_nulls() -> Result<()> {
        let table = read(&file("plain.parquet"), &ROOMY)?;
        assert_eq!(table.columns, ["a", "b", "truth", "kind=u", "kind=v", "kind=w"]);
        let values = floats(&table);
        assert_eq!(values.dim(), (24, 6));
        for (i, row) in values.outer_iter().enumerate() {
            let a = i as f32 / 2.0;
            assert!(if i == 3 { row[0].is_nan() } else { row[0] == a }, "row {i}: {row}");
            let truth = f32::from(u8::from(i % 2 == 0));
            let kind = [[0., 0., 1.], [1., 0., 0.], [0., 1., 0.]][i % 3];
            assert_eq!(row.as_slice().map(|row| &row[1..]), Some(&[i as f32, truth, kind[0], kind[1], kind[2]][..]));
        }
        assert_eq!((table.ids.len(), table.ids[23].as_str()), (24, "row 23"));
        let notes = table.notes.join("; ");
        assert!(notes.contains("column species looks like labels and is left out; score with --label-column species"));
        assert!(notes.contains("column when is of a type that is not supported"), "{notes}");
        assert!(notes.contains("column name differs in every row and names the rows"), "{notes}");
        Ok(())
    }

    /// Found by fuzzing: a footer of a kilobyte that kept the crate busy for half a minute.
    #[test]
    fn footers_that_never_end_are_refused() {
        let text = read(&file("endless.parquet"), &ROOMY).unwrap_err().to_string();
        assert!(text.contains("its footer is damaged"), "{text}");
    }

    #[test]
    fn columns_that_lie_too_deep_are_refused_before_the_stack_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep.parquet");
        for (groups, part) in [(90, "holds no rows"), (100_000, "100001 levels deep")] {
            std::fs::write(&path, headers::tests::nested(groups)).unwrap();
            let text = read(&path, &ROOMY).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn takes_labels_ids_and_categories_by_name() -> Result<()> {
        let categorical = ["species".to_owned(), "b".to_owned()];
        let pick = Pick { label_column: Some("truth"), id_column: Some("b"), categorical: &categorical, ..ROOMY };
        let table = read(&file("plain.parquet"), &pick)?;
        assert_eq!(table.columns, ["a", "kind=u", "kind=v", "kind=w", "species=p", "species=q"]);
        assert_eq!(table.ids[..3], ["0", "1", "2"]);
        assert_eq!(table.labels.as_ref().map(|labels| labels[1].as_deref()), Some(Some("false")));
        let values = floats(&table);
        assert!(values[[1, 4]].is_nan() && values[[1, 5]].is_nan());
        assert_eq!((values[[2, 4]], values[[2, 5]]), (1.0, 0.0));
        let table = read(&file("plain.parquet"), &Pick { label_column: Some("species"), ..ROOMY })?;
        assert_eq!(table.labels.map(|labels| labels[..2].to_vec()), Some(vec![Some("p".to_owned()), None]));
        Ok(())
    }

    #[test]
    fn picks_columns_in_their_order() -> Result<()> {
        let columns = ["truth".to_owned(), "species".to_owned(), "b".to_owned()];
        let table = read(&file("plain.parquet"), &Pick { columns: &columns, ..ROOMY })?;
        assert_eq!(table.columns, ["truth", "species=p", "species=q", "b"]);
        assert_eq!(floats(&table).row(4).to_vec(), [1., 1., 0., 4.]);
        assert!(table.notes.is_empty(), "{:?}", table.notes);
        let text = problem("plain.parquet", &Pick { columns: &["c".to_owned()], ..ROOMY });
        assert!(text.contains("no column is called \"c\"; it has columns a, b, truth, kind"), "{text}");
        let text = problem("plain.parquet", &Pick { columns: &["when".to_owned()], ..ROOMY });
        assert!(text.contains("column when is of type Date32"), "{text}");
        Ok(())
    }

    #[test]
    fn takes_lists_as_rows() -> Result<()> {
        let expected = Array2::from_shape_fn((24, 4), |(i, j)| (4 * i + j) as f32);
        let table = read(&file("lists.parquet"), &ROOMY)?;
        assert_eq!(floats(&table), &expected);
        assert_eq!(table.columns, ["emb_0", "emb_1", "emb_2", "emb_3"]);
        assert_eq!(table.notes, ["column text is text and left out"]);
        let table = read(&file("lists_beside.parquet"), &Pick { array: Some("emb"), ..ROOMY })?;
        assert_eq!(floats(&table), &expected);
        let table = read(&file("lists_beside.parquet"), &ROOMY)?;
        assert_eq!(table.columns, ["x"]);
        assert!(table.notes[0].contains("column emb holds lists of numbers and is left out"), "{:?}", table.notes);
        let text = problem("ragged.parquet", &ROOMY);
        assert!(text.contains("row 6 of column emb holds 3 numbers where earlier rows hold 4"), "{text}");
        Ok(())
    }

    #[test]
    fn chooses_the_narrowest_type_that_is_enough() -> Result<()> {
        let table = read(&file("bytes.parquet"), &ROOMY)?;
        assert_eq!(
            table.values,
            Values::U8(Array2::from_shape_fn((24, 2), |(i, j)| if j == 0 { i as u8 } else { 255 }))
        );
        let table = read(&file("big.parquet"), &ROOMY)?;
        assert_eq!(table.values, Values::F64(Array2::from_shape_fn((24, 1), |(i, _)| 1e9 + 0.25 * i as f64)));
        Ok(())
    }

    #[test]
    fn reads_parts_by_name() -> Result<()> {
        let table = read(&file("parts"), &ROOMY)?;
        assert_eq!(table.values, Values::F32(array![[0.], [1.], [2.], [3.]]));
        let text = problem("parts_differ", &ROOMY);
        assert!(text.contains("part-1.parquet: this part has column x of type Float64 where"), "{text}");
        Ok(())
    }

    #[test]
    fn refuses_nothing_too_much_and_other_files() {
        assert!(problem("empty.parquet", &ROOMY).contains("the file holds no rows"));
        assert!(problem("plain.feather", &ROOMY).contains("not a whole Parquet file"));
        assert!(problem("missing.parquet", &ROOMY).contains("cannot be opened"));
        // What is too much for memory goes to a file.
        let pick = |most_bytes| Pick { most_bytes, ..Pick::default() };
        let (large, small) = (read(&file("big.parquet"), &pick(191)), read(&file("big.parquet"), &ROOMY));
        let (Values::Rows(large), small) = (large.unwrap().values, small.unwrap().values) else { panic!("in memory") };
        let [n, d] = large.shape();
        let mut values = vec![0.0; n * d];
        large.read_f32(&(0..n).collect::<Vec<_>>(), &mut values).unwrap();
        let expected = match small {
            Values::F32(rows) => rows,
            Values::F64(rows) => rows.mapv(|value| value as f32),
            other => panic!("{other:?}"),
        };
        assert!(expected.iter().eq(&values));
    }

    #[test]
    fn refuses_files_that_are_cut_off() -> std::io::Result<()> {
        let whole = std::fs::read(file("plain.parquet"))?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("cut.parquet");
        for length in (0..whole.len()).step_by(41) {
            std::fs::write(&path, &whole[..length])?;
            let result = read(&path, &ROOMY);
            assert!(matches!(result, Err(Error::Data { .. })), "{length}: {result:?}");
        }
        // The end of the file is whole, but the data before it are not.
        let mut hollow = whole.clone();
        hollow.drain(4..400);
        std::fs::write(&path, &hollow)?;
        assert!(matches!(read(&path, &ROOMY), Err(Error::Data { .. })));
        Ok(())
    }
}
