//! AnnData (`.h5ad`): cells and genes in an HDF5 file. Old layouts are read too: matrices marked by `h5sparse_format`, and
//! `obs`, `var` and `obsm` as tables of records.

use std::collections::HashMap;
use std::path::Path;

use hdf5_pure::{Chunk, Dataset, File, FormatError, Group};

use super::grid::Grid;
use super::{listing, reserved, Pick, Table, Values};
use crate::error::{Error, Result};

mod frame;
mod number;
mod sparse;

use frame::Frame;
use number::Number;

/// As many bytes are read at once, about.
const WINDOW: u64 = 4 << 20;
/// Chunks are decompressed once each if a row of them takes no more than that.
const MOST_WINDOW: u64 = 128 << 20;
/// How files of a layout that is not read become such that are.
const RESAVE: &str = "resave it in Python with anndata.read_h5ad(p).write_h5ad(q)";

/// Reads the matrix that `pick.array` names ("X", "layers/NAME" or "obsm/NAME") of the AnnData file `path`.
pub fn read(path: &Path, pick: &Pick) -> Result<Table> {
    let h5 = H5::open(path, pick)?;
    let name = pick.array.unwrap_or("X");
    let matrix = h5.matrix(name)?;
    let [rows, width] = matrix.shape();
    if rows == 0 || width == 0 {
        return Err(Error::data(
            path,
            format!("{name} has {rows} rows and {width} columns; give a file that holds values"),
        ));
    }
    let (rows, width) = (h5.size(rows)?, h5.size(width)?);
    let obs = Frame::open(&h5, "obs")?;
    let names = match name.strip_prefix("obsm/") {
        Some(short) => {
            pick.check_bytes(path, "the names of its columns", (width as u64).saturating_mul(32))?;
            (0..width).map(|i| format!("{short}_{i}")).collect()
        }
        None => names(&h5, Frame::open(&h5, "var")?.as_ref(), width)?,
    };
    let chosen = choose(&h5, &names)?;
    let mut table = Table { ids: ids(&h5, obs.as_ref(), rows)?, ..Table::default() };
    table.labels = pick.label_column.map(|column| texts(&h5, obs.as_ref(), column, rows)).transpose()?;
    table.values = h5.values(name, matrix, [rows, width], chosen.as_deref(), &mut table.notes)?;
    table.columns = match chosen {
        Some(chosen) => chosen.iter().filter_map(|&at| names.get(at).cloned()).collect(),
        None => names,
    };
    Ok(table)
}

/// The matrix that was asked for, before its values are read.
enum Matrix {
    Dense(Dataset, [u64; 2]),
    Sparse(sparse::Layout, [u64; 2]),
    /// Part of a table of records: its offset, its type.
    Field(frame::Records, usize, Number, [u64; 2]),
}

impl Matrix {
    fn shape(&self) -> [u64; 2] {
        match self {
            Self::Dense(_, shape) | Self::Sparse(_, shape) | Self::Field(_, _, _, shape) => *shape,
        }
    }
}

/// What a path in the file leads to.
enum Node {
    Dataset(Dataset),
    Group(Group),
}

/// The file.
struct H5<'a> {
    path: &'a Path,
    pick: &'a Pick<'a>,
    file: File,
}

impl<'a> H5<'a> {
    fn open(path: &'a Path, pick: &'a Pick<'a>) -> Result<Self> {
        let file = File::open_streaming(path).map_err(|error| {
            let problem = match &error {
                hdf5_pure::Error::Io(error) => {
                    format!("cannot be opened ({error}); check the path and its permissions")
                }
                hdf5_pure::Error::Format(FormatError::SignatureNotFound) => {
                    "not an HDF5 file, as .h5ad files are; give one, or name the file after what it is".to_owned()
                }
                error => format!("not a whole HDF5 file ({error}); copy it again, or write it anew"),
            };
            Error::data(path, problem)
        })?;
        if file.superblock().eof_address > file.file_size() {
            return Err(Error::data(path, "the file is cut off; copy it again, or write it anew"));
        }
        Ok(Self { path, pick, file })
    }

    fn damaged(&self, what: &str, error: &dyn std::fmt::Display) -> Error {
        let problem = format!("{what} cannot be read ({error}); the file is damaged, copy it again or write it anew");
        Error::data(self.path, problem)
    }

    fn size(&self, size: u64) -> Result<usize> {
        usize::try_from(size).map_err(|_| self.damaged("a size", &"it is larger than memory"))
    }

    /// What `name` leads to; `None` if nothing is there.
    fn node(&self, name: &str) -> Result<Option<Node>> {
        use hdf5_pure::Error::{Format, NotADataset, NotAGroup};
        let missing = |error: &hdf5_pure::Error| matches!(error, Format(FormatError::PathNotFound(_)) | NotAGroup(_));
        match self.file.dataset(name) {
            Ok(dataset) => {
                self.check_chunks(name, &dataset)?;
                return Ok(Some(Node::Dataset(dataset)));
            }
            Err(NotADataset(_)) => {}
            Err(error) if missing(&error) => return Ok(None),
            Err(error) => return Err(self.damaged(name, &error)),
        }
        match self.file.group(name) {
            Ok(group) => Ok(Some(Node::Group(group))),
            Err(error) if missing(&error) => Ok(None),
            Err(error) => Err(self.damaged(name, &error)),
        }
    }

    /// Refuses chunks that lie beyond the end of the file: their reader would make room for whatever size they claim.
    fn check_chunks(&self, name: &str, dataset: &Dataset) -> Result<()> {
        if !dataset.is_chunked() {
            return Ok(());
        }
        let Ok(chunks) = dataset.chunks() else { return Ok(()) }; // reading it will say what is wrong
        let within = |chunk: &Chunk| {
            let end = chunk.address.checked_add(chunk.storage_size);
            end.is_some_and(|end| end <= self.file.file_size())
        };
        match chunks.iter().all(within) {
            true => Ok(()),
            false => Err(self.damaged(name, &"a part of it lies beyond the end of the file")),
        }
    }

    /// A dataset that has to be there.
    fn dataset(&self, name: &str) -> Result<Dataset> {
        match self.node(name)? {
            Some(Node::Dataset(dataset)) => Ok(dataset),
            _ => Err(self.damaged(name, &"it is missing")),
        }
    }

    /// The type of a dataset's numbers; `None` if it holds no numbers.
    fn number(&self, name: &str, dataset: &Dataset) -> Result<Option<Number>> {
        Ok(Number::of(&dataset.datatype().map_err(|error| self.damaged(name, &error))?))
    }

    fn shape_of(&self, name: &str, dataset: &Dataset) -> Result<Vec<u64>> {
        dataset.shape().map_err(|error| self.damaged(name, &error))
    }

    /// Finds the matrix `name`.
    fn matrix(&self, name: &str) -> Result<Matrix> {
        let known = name == "X" || ["layers/", "obsm/"].iter().any(|start| name.starts_with(start));
        let node = if known { self.node(name)? } else { None };
        match node {
            Some(Node::Dataset(dataset)) => self.dense_matrix(name, dataset),
            Some(Node::Group(group)) => self.sparse_matrix(name, &group),
            None => match name.strip_prefix("obsm/") {
                Some(field) => self.record_matrix(name, field),
                None => Err(self.no_matrix(name)?),
            },
        }
    }

    fn dense_matrix(&self, name: &str, dataset: Dataset) -> Result<Matrix> {
        let shape = self.shape_of(name, &dataset)?;
        if self.number(name, &dataset)?.is_none() {
            return Err(Error::data(self.path, format!("{name} does not hold numbers; name another array")));
        }
        match shape[..] {
            [rows] => Ok(Matrix::Dense(dataset, [rows, 1])),
            [rows, width] => Ok(Matrix::Dense(dataset, [rows, width])),
            _ => {
                let problem = format!("{name} has {} axes, but a matrix has 2; name another array", shape.len());
                Err(Error::data(self.path, problem))
            }
        }
    }

    fn sparse_matrix(&self, name: &str, group: &Group) -> Result<Matrix> {
        let attributes = group.attrs().map_err(|error| self.damaged(name, &error))?;
        let text = |key: &str| attributes.get(key).and_then(|value| value.as_str());
        let encoding = text("encoding-type").or_else(|| text("h5sparse_format"));
        let layout = match encoding {
            Some("csr_matrix" | "csr") => sparse::Layout::Csr,
            Some("csc_matrix" | "csc") => sparse::Layout::Csc,
            other => {
                let kind = other.unwrap_or("group without a kind");
                let problem = format!("{name} is a {kind}, but has to be dense or sparse numbers; name another array");
                return Err(Error::data(self.path, problem));
            }
        };
        let shape = attributes.get("shape").or_else(|| attributes.get("h5sparse_shape"));
        match shape.and_then(|shape| shape.to_i64s()).as_deref() {
            Some(&[rows, width]) if rows >= 0 && width >= 0 => {
                Ok(Matrix::Sparse(layout, [rows.unsigned_abs(), width.unsigned_abs()]))
            }
            _ => Err(self.damaged(name, &"its shape is missing")),
        }
    }

    /// A matrix of `obsm`, where that is a table of records.
    fn record_matrix(&self, name: &str, field: &str) -> Result<Matrix> {
        if let Some(Node::Dataset(dataset)) = self.node("obsm")? {
            let records = frame::Records::read(self, "obsm", &dataset)?;
            if let Some((at, number, width)) = records.find_numbers(field) {
                let rows = records.rows() as u64;
                return Ok(Matrix::Field(records, at, number, [rows, width]));
            }
        }
        Err(self.no_matrix(name)?)
    }

    /// Says that there is no matrix `name`, and which there are.
    fn no_matrix(&self, name: &str) -> Result<Error> {
        let mut there = vec![];
        if self.node("X")?.is_some() {
            there.push("X".to_owned());
        }
        for place in ["layers", "obsm"] {
            match self.node(place)? {
                Some(Node::Group(group)) => {
                    there.extend(self.children(place, &group)?.iter().map(|c| format!("{place}/{c}")))
                }
                Some(Node::Dataset(dataset)) if place == "obsm" => {
                    let records = frame::Records::read(self, place, &dataset)?;
                    there.extend(records.names().map(|field| format!("{place}/{field}")));
                }
                _ => {}
            }
        }
        if there.is_empty() {
            let problem =
                format!("an HDF5 file without X, layers or obsm, so not AnnData; {RESAVE}, or give another file");
            return Ok(Error::data(self.path, problem));
        }
        Ok(Error::data(
            self.path,
            format!(
                "there is no array {name}; name one that is there with --array: {}",
                listing(&there, str::to_owned)
            ),
        ))
    }

    /// The names of what a group holds, sorted.
    fn children(&self, name: &str, group: &Group) -> Result<Vec<String>> {
        let failed = |error| self.damaged(name, &error);
        let mut names = group.datasets().map_err(failed)?;
        names.extend(group.groups().map_err(failed)?);
        names.sort();
        Ok(names)
    }

    /// Reads windows of rows and hands their bytes to `each`.
    fn windows(
        &self,
        name: &str,
        dataset: &Dataset,
        row_bytes: u64,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if row_bytes == 0 {
            return Err(self.damaged(name, &"its rows take no bytes"));
        }
        let failed = |error: hdf5_pure::Error| self.damaged(name, &error);
        let rows = dataset.shape().map_err(failed)?.first().copied().unwrap_or(0);
        let chunk = dataset.chunk_shape().map_err(failed)?.and_then(|chunk| chunk.first().copied()).unwrap_or(1).max(1);
        let wanted = (WINDOW / row_bytes).max(1);
        let aligned = wanted.div_ceil(chunk).saturating_mul(chunk);
        // Values become up to eight times their bytes in the file.
        let most = MOST_WINDOW.min(self.pick.most_bytes / 16).max(WINDOW);
        let step = if aligned.saturating_mul(row_bytes) <= most { aligned } else { wanted };
        let mut start = 0;
        while start < rows {
            let count = step.min(rows - start);
            let bytes = dataset.read_raw_rows(start, count).map_err(failed)?;
            if bytes.len() as u64 != count.saturating_mul(row_bytes) {
                return Err(self.damaged(name, &"it is shorter than it claims"));
            }
            each(&bytes)?;
            start += count;
        }
        Ok(())
    }

    /// Reads the columns `chosen` of a matrix.
    fn values(
        &self,
        name: &str,
        matrix: Matrix,
        [rows, width]: [usize; 2],
        chosen: Option<&[usize]>,
        notes: &mut Vec<String>,
    ) -> Result<Values> {
        let taken = chosen.map_or(width, <[usize]>::len);
        match matrix {
            Matrix::Sparse(layout, _) => {
                sparse::read(self, name, layout, [rows, width], chosen, notes).map(Values::Csr)
            }
            Matrix::Dense(dataset, _) => {
                let Some(number) = self.number(name, &dataset)? else {
                    return Err(self.damaged(name, &"it holds no numbers"));
                };
                let mut grid = Grid::new(self.path, self.pick, rows, taken, number.kind())?;
                let row_bytes = width.saturating_mul(number.size());
                let mut filled = 0;
                self.windows(name, &dataset, row_bytes as u64, |bytes| {
                    grid.grow(filled + bytes.len() / row_bytes)?;
                    for row in bytes.chunks_exact(row_bytes) {
                        put_row(&mut grid, filled, row, &number, chosen);
                        filled += 1;
                    }
                    Ok(())
                })?;
                grid.finish(self.path)
            }
            Matrix::Field(records, at, number, _) => {
                let mut grid = Grid::new(self.path, self.pick, rows, taken, number.kind())?;
                grid.grow(rows)?;
                for (i, row) in records.fields(at, width * number.size()).enumerate() {
                    put_row(&mut grid, i, row, &number, chosen);
                }
                grid.finish(self.path)
            }
        }
    }
}

/// Sets one row from its bytes.
fn put_row(grid: &mut Grid, row: usize, bytes: &[u8], number: &Number, chosen: Option<&[usize]>) {
    let size = number.size();
    match chosen {
        None => {
            for (column, value) in bytes.chunks_exact(size).enumerate() {
                grid.put(row, column, number.get(value));
            }
        }
        Some(chosen) => {
            for (column, &from) in chosen.iter().enumerate() {
                grid.put(row, column, number.get(&bytes[from * size..(from + 1) * size]));
            }
        }
    }
}

/// The names of the `count` columns of X and of layers; none if the file has none.
fn names(h5: &H5, var: Option<&Frame>, count: usize) -> Result<Vec<String>> {
    let names = var.map_or(Ok(vec![]), |var| var.index(h5))?;
    if !names.is_empty() && names.len() != count {
        let problem = format!("var names {} columns, but the matrix has {count}; write the file again", names.len());
        return Err(Error::data(h5.path, problem));
    }
    Ok(names)
}

/// The name of each row: of the column that was asked for, or of the index of obs.
fn ids(h5: &H5, obs: Option<&Frame>, rows: usize) -> Result<Vec<String>> {
    if let Some(column) = h5.pick.id_column {
        let texts = texts(h5, obs, column, rows)?;
        return Ok(texts.into_iter().map(Option::unwrap_or_default).collect());
    }
    let ids = obs.map_or(Ok(vec![]), |obs| obs.index(h5))?;
    if !ids.is_empty() && ids.len() != rows {
        let problem = format!("obs names {} rows, but the matrix has {rows}; write the file again", ids.len());
        return Err(Error::data(h5.path, problem));
    }
    Ok(ids)
}

/// The column `column` of obs as text.
fn texts(h5: &H5, obs: Option<&Frame>, column: &str, rows: usize) -> Result<Vec<Option<String>>> {
    let found = obs.map(|obs| obs.column(h5, column)).transpose()?.flatten();
    let Some(texts) = found else {
        let there = obs.map(|obs| obs.names(h5)).transpose()?.unwrap_or_default();
        let problem = match there.is_empty() {
            true => format!("there is no column {column}, because obs has no columns; leave it out"),
            false => format!("obs has no column {column}; it has {}; name one of them", listing(&there, str::to_owned)),
        };
        return Err(Error::data(h5.path, problem));
    };
    if texts.len() != rows {
        let problem = format!("column {column} of obs has {} rows, but the matrix has {rows}", texts.len());
        return Err(Error::data(h5.path, format!("{problem}; write the file again")));
    }
    Ok(texts)
}

/// The places of the columns that `pick.columns` names; `None` for all.
fn choose(h5: &H5, names: &[String]) -> Result<Option<Vec<usize>>> {
    if h5.pick.columns.is_empty() {
        return Ok(None);
    }
    let mut places = HashMap::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        places.entry(name.as_str()).or_insert(place);
    }
    let mut chosen = vec![];
    for name in h5.pick.columns {
        let Some(place) = places.remove(name.as_str()) else {
            let problem = if names.contains(name) {
                format!("column {name} is picked twice; name it once")
            } else {
                format!("no column is called \"{name}\"; it has {}; correct the name", listing(names, str::to_owned))
            };
            return Err(Error::data(h5.path, problem));
        };
        chosen.push(place);
    }
    Ok(Some(chosen))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::testing::{file, ROOMY};
    use super::super::Csr;
    use super::*;

    fn problem(name: &str, pick: &Pick) -> String {
        read(&file(name), pick).map_or_else(|error| error.to_string(), |table| format!("{table:?}"))
    }

    /// The matrix of csr.h5ad and csc.h5ad without its zeros: i * j where i + j is even.
    fn counts() -> Csr {
        let mut csr = Csr { shape: [6, 4], starts: vec![0], columns: vec![], values: vec![] };
        for i in 0..6u32 {
            for j in (0..4u32).filter(|j| (i + j) % 2 == 0 && i * j > 0) {
                csr.columns.push(j);
                csr.values.push((i * j) as f32);
            }
            csr.starts.push(csr.columns.len() as u64);
        }
        csr
    }

    fn labels(table: &Table) -> Vec<&str> {
        table.labels.iter().flatten().map(|label| label.as_deref().unwrap_or("-")).collect()
    }

    #[test]
    fn reads_sparse_rows_with_names_and_labels() -> Result<()> {
        let table = read(&file("csr.h5ad"), &Pick { label_column: Some("louvain"), ..ROOMY })?;
        assert_eq!(table.values, Values::Csr(counts()));
        assert_eq!(table.ids, ["cell0", "cell1", "cell2", "cell3", "cell4", "cell5"]);
        assert_eq!(table.columns, ["gene0", "gene1", "gene2", "gene3"]);
        assert_eq!(labels(&table), ["T", "B", "-", "T", "B", "T"]);
        assert!(table.notes.is_empty(), "{:?}", table.notes);
        Ok(())
    }

    #[test]
    fn reads_sparse_columns_as_rows() -> Result<()> {
        let table = read(&file("csc.h5ad"), &Pick { label_column: Some("batch"), ..ROOMY })?;
        assert_eq!(table.values, Values::Csr(counts()));
        assert_eq!(labels(&table), ["1", "1", "2", "2", "3", "3"]);
        Ok(())
    }

    #[test]
    fn picks_columns_in_their_order() -> Result<()> {
        let columns = ["gene3".to_owned(), "gene1".to_owned()];
        let sparse = read(&file("csr.h5ad"), &Pick { columns: &columns, ..ROOMY })?;
        let Values::Csr(csr) = sparse.values else { panic!("not sparse") };
        assert_eq!((csr.shape, &csr.starts[..]), ([6, 2], &[0, 0, 2, 2, 4, 4, 6][..]));
        assert_eq!((&csr.columns[..], &csr.values[..]), (&[0, 1, 0, 1, 0, 1][..], &[3., 1., 9., 3., 15., 5.][..]));
        let pick = Pick { columns: &columns, array: Some("layers/raw"), ..ROOMY };
        let dense = read(&file("csr.h5ad"), &pick)?;
        let expected = array![[0., 0.], [3., 1.], [0., 0.], [9., 3.], [0., 0.], [15., 5.]];
        assert_eq!(dense.values, Values::F32(expected));
        assert_eq!(dense.columns, columns);
        Ok(())
    }

    #[test]
    fn reads_obsm_and_every_kind_of_obs_column() -> Result<()> {
        let pick = Pick { array: Some("obsm/X_pca"), label_column: Some("good"), id_column: Some("donor"), ..ROOMY };
        let table = read(&file("csr.h5ad"), &pick)?;
        let expected = ndarray::Array2::from_shape_fn((6, 2), |(i, j)| (2 * i + j) as f32);
        assert_eq!(table.values, Values::F32(expected));
        assert_eq!(table.columns, ["X_pca_0", "X_pca_1"]);
        assert_eq!(table.ids, ["d0", "d1", "d0", "d1", "d0", "d1"]);
        assert_eq!(labels(&table), ["true", "-", "false", "true", "true", "false"]);
        Ok(())
    }

    #[test]
    fn reads_the_layout_before_0_7() -> Result<()> {
        let pick = Pick { label_column: Some("louvain"), ..ROOMY };
        let table = read(&file("old_sparse.h5ad"), &pick)?;
        let expected = Csr { shape: [2, 3], starts: vec![0, 2, 3], columns: vec![0, 2, 1], values: vec![1., 5., 5.] };
        assert_eq!(table.values, Values::Csr(expected));
        assert_eq!((labels(&table), &table.ids[..]), (vec!["T", "-"], &["c0".to_owned(), "c1".to_owned()][..]));
        assert_eq!(table.columns, ["g0", "g1", "g2"]);
        let table = read(&file("old_sparse.h5ad"), &Pick { array: Some("obsm/X_pca"), ..ROOMY })?;
        assert_eq!(table.values, Values::F32(array![[1., 2.], [3., 4.]]));
        Ok(())
    }

    #[test]
    fn reads_categories_beside_their_codes() -> Result<()> {
        let table = read(&file("categories.h5ad"), &Pick { label_column: Some("louvain"), ..ROOMY })?;
        assert_eq!(table.values, Values::U8(array![[0, 1], [2, 3], [4, 5]]));
        assert_eq!(labels(&table), ["T", "-", "B"]);
        assert!(table.columns.is_empty());
        Ok(())
    }

    #[test]
    fn names_what_is_there() {
        let text = problem("csr.h5ad", &Pick { array: Some("layers/nope"), ..ROOMY });
        assert!(text.contains("with --array: X, layers/raw, obsm/X_pca"), "{text}");
        let text = problem("csr.h5ad", &Pick { label_column: Some("nope"), ..ROOMY });
        assert!(text.contains("it has batch, donor, good, louvain"), "{text}");
        let text = problem("csr.h5ad", &Pick { columns: &["nope".to_owned()], ..ROOMY });
        assert!(text.contains("\"nope\"; it has gene0, gene1"), "{text}");
        assert!(problem("other.h5ad", &ROOMY).contains("not AnnData"));
        assert!(problem("plain.parquet", &ROOMY).contains("not an HDF5 file"));
    }

    #[test]
    fn refuses_nothing_and_too_much() {
        assert!(problem("empty.h5ad", &ROOMY).contains("X has 0 rows and 3 columns"));
        for array in ["X", "layers/s"] {
            let result = read(&file("huge.h5ad"), &Pick { array: Some(array), ..ROOMY });
            assert!(matches!(result, Err(Error::Memory(_))), "{array}: {result:?}");
        }
    }

    #[test]
    fn refuses_columns_that_contain_themselves() {
        for column in ["values", "categories"] {
            let text = problem("loop.h5ad", &Pick { label_column: Some(column), ..ROOMY });
            assert!(text.contains("it is a column within columns"), "{text}");
        }
    }

    /// Found by fuzzing: a chunk of 4 GB in a file of 4 kB, for which the crate makes room.
    #[test]
    fn refuses_chunks_beyond_the_end_of_the_file() {
        let text = problem("chunks.h5ad", &ROOMY);
        assert!(text.contains("beyond the end of the file"), "{text}");
    }

    #[test]
    fn refuses_files_that_are_cut_off() -> std::io::Result<()> {
        let whole = std::fs::read(file("csc.h5ad"))?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("cut.h5ad");
        for length in (0..whole.len()).step_by(97) {
            std::fs::write(&path, &whole[..length])?;
            let result = read(&path, &ROOMY);
            assert!(matches!(result, Err(Error::Data { .. })), "{length}: {result:?}");
        }
        Ok(())
    }
}
