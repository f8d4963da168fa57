//! Rows that stay where they are, in a file or as sparse values, until they are needed.
//!
//! A reader gives a [`RowSource`] for rows that are large. What is done to them on reading (columns selected, missing values
//! filled, an offset taken off) wraps it in another one. [`Streamed`] is some of its rows in some order.

use std::borrow::Cow;
use std::fmt::Debug;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use ndarray::{Array1, Array2};
use rayon::prelude::*;

use super::element::{Element, Endian};
use super::format::Csr;
use super::intake::{Column, Pass};
use crate::error::{Error, Result};

/// Bytes of a file that one call reads at the most.
const READ_BYTES: usize = 1 << 20;
/// Rows that one thread reads at the least.
const ROWS_PER_THREAD: usize = 64;

/// The type of values as training sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Bytes.
    U8,
    /// float32, and integers of up to 24 bits.
    F32,
    /// float64, and longer integers: float32 may round what tells rows apart.
    F64,
}

/// Rows \[n, d\] that are read by number.
pub trait RowSource: Debug + Send + Sync {
    /// n and d.
    fn shape(&self) -> [usize; 2];

    /// The type of the values.
    fn width(&self) -> Width;

    /// Whether the values are in memory already, if not as rows.
    fn in_memory(&self) -> bool {
        false
    }

    /// The rows of these numbers, in this order, into `out` of as many times d values.
    ///
    /// # Errors
    /// [`Error::Data`] where the file cannot be read any more.
    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()>;

    /// The same as float64.
    ///
    /// # Errors
    /// As for [`RowSource::read_f32`].
    fn read_f64(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        let mut narrow = vec![0.0; out.len()];
        self.read_f32(rows, &mut narrow)?;
        out.iter_mut().zip(narrow).for_each(|(out, value)| *out = value.into());
        Ok(())
    }

    /// The same as bytes, of [`Width::U8`] alone.
    ///
    /// # Errors
    /// As for [`RowSource::read_f32`].
    fn read_u8(&self, rows: &[usize], out: &mut [u8]) -> Result<()> {
        let mut wide = vec![0.0; out.len()];
        self.read_f32(rows, &mut wide)?;
        out.iter_mut().zip(wide).for_each(|(out, value)| *out = value as u8);
        Ok(())
    }
}

/// Rows of a file that lie one after the other from a byte on, uncompressed.
#[derive(Debug)]
pub(super) struct FileRows {
    pub path: PathBuf,
    pub file: File,
    /// The first byte of the first row.
    pub start: u64,
    pub element: Element,
    pub endian: Endian,
    pub shape: [usize; 2],
}

impl FileRows {
    /// Calls `decode` with the bytes of each run of rows that follow each other, and with where in `out` they go.
    fn read<T: Copy + Send>(
        &self,
        rows: &[usize],
        out: &mut [T],
        decode: impl Fn(&[u8], &mut Vec<T>) + Sync,
    ) -> Result<()> {
        let d = self.shape[1];
        if d == 0 {
            return Ok(());
        }
        let per_thread = rows.len().div_ceil(rayon::current_num_threads()).max(ROWS_PER_THREAD);
        let parts = rows.par_chunks(per_thread).zip(out.par_chunks_mut(per_thread * d));
        parts.try_for_each(|(rows, out)| self.read_part(rows, out, &decode))
    }

    fn read_part<T: Copy>(&self, rows: &[usize], out: &mut [T], decode: impl Fn(&[u8], &mut Vec<T>)) -> Result<()> {
        let d = self.shape[1];
        let row_bytes = d * self.element.size();
        let most = (READ_BYTES / row_bytes).max(1);
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let mut done = 0;
        while done < rows.len() {
            let follows = |(place, &row): (usize, &usize)| row == rows[done] + place;
            let run = rows[done..].iter().take(most).enumerate().take_while(|&next| follows(next)).count();
            bytes.resize(run * row_bytes, 0);
            let offset = self.start + rows[done] as u64 * row_bytes as u64;
            read_exact_at(&self.file, &mut bytes, offset).map_err(|e| {
                Error::data(&self.path, format!("cannot be read at byte {offset}: {e}; was it changed meanwhile?"))
            })?;
            values.clear();
            decode(&bytes, &mut values);
            out[done * d..(done + run) * d].copy_from_slice(&values);
            done += run;
        }
        Ok(())
    }
}

impl RowSource for FileRows {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn width(&self) -> Width {
        match self.element {
            element if element.is_byte() => Width::U8,
            element if element.is_wide() => Width::F64,
            _ => Width::F32,
        }
    }

    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.read(rows, out, |bytes, out| self.element.decode_f32(self.endian, bytes, out))
    }

    fn read_f64(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        self.read(rows, out, |bytes, out| self.element.decode_f64(self.endian, bytes, out))
    }

    fn read_u8(&self, rows: &[usize], out: &mut [u8]) -> Result<()> {
        self.read(rows, out, |bytes, out| self.element.decode_u8(bytes, out))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => (bytes, offset) = (&mut bytes[count..], offset + count as u64),
        }
    }
    Ok(())
}

/// Sparse rows, which become dense as they are read.
#[derive(Debug)]
pub(super) struct SparseRows(pub Csr);

impl RowSource for SparseRows {
    fn shape(&self) -> [usize; 2] {
        self.0.shape
    }

    fn width(&self) -> Width {
        Width::F32
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let Csr { shape: [_, d], starts, columns, values } = &self.0;
        out.fill(0.0);
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut((*d).max(1))) {
            let entries = starts[row] as usize..starts[row + 1] as usize;
            let entries = columns[entries.clone()].iter().zip(&values[entries]);
            entries.for_each(|(&column, &value)| out[column as usize] = value);
        }
        Ok(())
    }
}

/// Some columns of other rows; 0 where there is none.
#[derive(Debug)]
pub(super) struct Columns {
    pub of: Arc<dyn RowSource>,
    pub places: Vec<Option<usize>>,
}

impl Columns {
    fn pick<T: Copy + Default>(&self, all: &[T], out: &mut [T]) {
        let from = all.chunks_exact(self.of.shape()[1].max(1));
        for (from, out) in from.zip(out.chunks_exact_mut(self.places.len().max(1))) {
            let picked = self.places.iter().map(|place| place.map_or(T::default(), |place| from[place]));
            out.iter_mut().zip(picked).for_each(|(out, value)| *out = value);
        }
    }
}

/// Reads `rows` of `source` as float32, float64 or bytes into a buffer of its own.
macro_rules! all_columns {
    ($source:expr, $rows:expr, $read:ident, $zero:expr) => {{
        let mut all = vec![$zero; $rows.len() * $source.shape()[1]];
        $source.$read($rows, &mut all)?;
        all
    }};
}

impl RowSource for Columns {
    fn shape(&self) -> [usize; 2] {
        [self.of.shape()[0], self.places.len()]
    }

    fn width(&self) -> Width {
        self.of.width()
    }

    fn in_memory(&self) -> bool {
        self.of.in_memory()
    }

    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.pick(&all_columns!(self.of, rows, read_f32, 0.0), out);
        Ok(())
    }

    fn read_f64(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        self.pick(&all_columns!(self.of, rows, read_f64, 0.0), out);
        Ok(())
    }

    fn read_u8(&self, rows: &[usize], out: &mut [u8]) -> Result<()> {
        self.pick(&all_columns!(self.of, rows, read_u8, 0), out);
        Ok(())
    }
}

/// Other rows with each column's mean for what is missing.
#[derive(Debug)]
pub(super) struct Filled {
    pub of: Arc<dyn RowSource>,
    pub means: Vec<f64>,
}

impl Filled {
    fn fill<T: Copy + Into<f64>>(&self, out: &mut [T], from: impl Fn(f64) -> T) {
        let holes = out.iter_mut().zip(self.means.iter().cycle()).filter(|(value, _)| (**value).into().is_nan());
        holes.for_each(|(value, &mean)| *value = from(mean));
    }
}

impl RowSource for Filled {
    fn shape(&self) -> [usize; 2] {
        self.of.shape()
    }

    fn width(&self) -> Width {
        self.of.width()
    }

    fn in_memory(&self) -> bool {
        self.of.in_memory()
    }

    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.of.read_f32(rows, out)?;
        self.fill(out, |mean| mean as f32);
        Ok(())
    }

    fn read_f64(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        self.of.read_f64(rows, out)?;
        self.fill(out, |mean| mean);
        Ok(())
    }
}

/// Other rows less an offset, which is taken off in float64.
#[derive(Debug)]
pub(super) struct Less {
    pub of: Arc<dyn RowSource>,
    pub offset: Array1<f64>,
}

impl RowSource for Less {
    fn shape(&self) -> [usize; 2] {
        self.of.shape()
    }

    fn width(&self) -> Width {
        Width::F32
    }

    fn in_memory(&self) -> bool {
        self.of.in_memory()
    }

    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let all = all_columns!(self.of, rows, read_f64, 0.0);
        let less = all.iter().zip(self.offset.iter().cycle()).map(|(value, off)| (value - off) as f32);
        out.iter_mut().zip(less).for_each(|(out, value)| *out = value);
        Ok(())
    }
}

/// Rows that are in memory, beside others that are not.
#[derive(Debug)]
pub(super) struct Dense<T> {
    pub rows: Array2<T>,
    pub width: Width,
}

impl<T: Copy + Into<f64> + Debug + Send + Sync> RowSource for Dense<T> {
    fn shape(&self) -> [usize; 2] {
        [self.rows.nrows(), self.rows.ncols()]
    }

    fn width(&self) -> Width {
        self.width
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let values = rows.iter().flat_map(|&row| self.rows.row(row).into_iter());
        out.iter_mut().zip(values).for_each(|(out, &value)| *out = value.into() as f32);
        Ok(())
    }

    fn read_f64(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        let values = rows.iter().flat_map(|&row| self.rows.row(row).into_iter());
        out.iter_mut().zip(values).for_each(|(out, &value)| *out = value.into());
        Ok(())
    }
}

/// The rows of several sources of one width, one source after the other.
#[derive(Debug)]
pub(super) struct Joined {
    parts: Vec<Streamed>,
    /// The number of each part's first row, and how many rows there are.
    starts: Vec<usize>,
}

impl Joined {
    pub fn new(parts: Vec<Streamed>) -> Self {
        let mut starts = vec![0];
        for part in &parts {
            starts.push(starts[starts.len() - 1] + part.shape()[0]);
        }
        Self { parts, starts }
    }

    /// Calls `read` with the rows of one part at a time, their numbers in it, and where their values go.
    fn read<T>(
        &self,
        rows: &[usize],
        out: &mut [T],
        read: impl Fn(&Streamed, &[usize], &mut [T]) -> Result<()>,
    ) -> Result<()> {
        let d = self.shape()[1];
        let part_of = |row: usize| self.starts.partition_point(|&start| start <= row) - 1;
        let mut done = 0;
        while done < rows.len() {
            let part = part_of(rows[done]);
            let same: Vec<usize> = rows[done..]
                .iter()
                .take_while(|&&row| part_of(row) == part)
                .map(|row| row - self.starts[part])
                .collect();
            let end = done + same.len();
            read(&self.parts[part], &same, &mut out[done * d..end * d])?;
            done = end;
        }
        Ok(())
    }
}

impl RowSource for Joined {
    fn shape(&self) -> [usize; 2] {
        [self.starts[self.parts.len()], self.parts.first().map_or(0, |part| part.shape()[1])]
    }

    fn width(&self) -> Width {
        let is = |width| self.parts.iter().any(|part| part.width() == width);
        match () {
            () if is(Width::F64) => Width::F64,
            () if is(Width::F32) => Width::F32,
            () => Width::U8,
        }
    }

    fn in_memory(&self) -> bool {
        self.parts.iter().all(|part| part.in_memory())
    }

    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.read(rows, out, |part, rows, out| part.read_f32(rows, out))
    }

    fn read_f64(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        self.read(rows, out, |part, rows, out| part.read_f64(rows, out))
    }

    fn read_u8(&self, rows: &[usize], out: &mut [u8]) -> Result<()> {
        self.read(rows, out, |part, rows, out| part.read_u8(rows, out))
    }
}

/// Rows of a source, in an order.
#[derive(Debug, Clone)]
pub struct Streamed {
    source: Arc<dyn RowSource>,
    /// Their numbers; `None` for all as they come.
    rows: Option<Arc<Vec<u32>>>,
}

/// Those of one source and order are the same.
impl PartialEq for Streamed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.rows == other.rows
    }
}

impl Streamed {
    /// All rows of `source`.
    pub fn new(source: Arc<dyn RowSource>) -> Self {
        Self { source, rows: None }
    }

    /// Those of each, one after the other.
    pub(super) fn joined(parts: Vec<Self>) -> Self {
        Self::new(Arc::new(Joined::new(parts)))
    }

    /// Whether the values are bytes.
    pub fn is_bytes(&self) -> bool {
        self.width() == Width::U8
    }

    /// Whether float32 may round what tells rows apart.
    pub(super) fn is_wide(&self) -> bool {
        self.width() == Width::F64
    }

    /// The rows with these numbers, in this order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let rows = self.numbers(rows).iter().map(|&row| row as u32).collect();
        Self { source: Arc::clone(&self.source), rows: Some(Arc::new(rows)) }
    }

    /// Their numbers in the source.
    fn numbers<'a>(&self, rows: &'a [usize]) -> Cow<'a, [usize]> {
        match &self.rows {
            Some(known) => rows.iter().map(|&row| known[row] as usize).collect(),
            None => Cow::Borrowed(rows),
        }
    }

    /// The same rows of another source of as many.
    fn of(&self, source: impl RowSource + 'static) -> Self {
        Self { source: Arc::new(source), rows: self.rows.clone() }
    }

    /// The columns at these places, 0 where there is none.
    pub(super) fn columns(&self, places: Vec<Option<usize>>) -> Self {
        self.of(Columns { of: Arc::clone(&self.source), places })
    }

    /// Less `offset`, which is taken off in float64.
    pub(super) fn less(&self, offset: Option<Array1<f64>>) -> Self {
        match offset {
            Some(offset) => self.of(Less { of: Arc::clone(&self.source), offset }),
            None => self.clone(),
        }
    }

    /// With each column's mean for what is missing.
    pub(super) fn filled(&self) -> Result<Self> {
        let means = self.moments()?.iter().map(Column::mean).collect();
        Ok(self.of(Filled { of: Arc::clone(&self.source), means }))
    }

    /// What is known of each column, by two passes.
    pub(super) fn moments(&self) -> Result<Vec<Column>> {
        let [n, d] = self.shape();
        let mut columns = vec![Column::default(); d];
        let size = (READ_BYTES / (8 * d.max(1))).max(1);
        let mut block = vec![0.0; size.min(n) * d];
        for pass in Pass::ALL {
            for start in (0..n).step_by(size) {
                let end = (start + size).min(n);
                let block = &mut block[..(end - start) * d];
                self.read_f64(&(start..end).collect::<Vec<_>>(), block)?;
                for row in block.chunks_exact(d.max(1)) {
                    columns.iter_mut().zip(row).for_each(|(column, &value)| column.add(pass, value));
                }
            }
        }
        Ok(columns)
    }
}

impl RowSource for Streamed {
    fn shape(&self) -> [usize; 2] {
        let [n, d] = self.source.shape();
        [self.rows.as_ref().map_or(n, |rows| rows.len()), d]
    }

    fn width(&self) -> Width {
        self.source.width()
    }

    fn in_memory(&self) -> bool {
        self.source.in_memory()
    }

    fn read_f32(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        self.source.read_f32(&self.numbers(rows), out)
    }

    fn read_f64(&self, rows: &[usize], out: &mut [f64]) -> Result<()> {
        self.source.read_f64(&self.numbers(rows), out)
    }

    fn read_u8(&self, rows: &[usize], out: &mut [u8]) -> Result<()> {
        self.source.read_u8(&self.numbers(rows), out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use ndarray::array;

    use super::*;

    /// Rows 0, 1, … of `d` values each, in a file behind three other bytes.
    fn in_file(element: Element, endian: Endian, bytes: &[u8], shape: [usize; 2]) -> Streamed {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        file.write_all(bytes).unwrap();
        Streamed::new(Arc::new(FileRows { path: "rows".into(), file, start: 3, element, endian, shape }))
    }

    fn read(rows: &Streamed, chosen: &[usize]) -> Vec<f32> {
        let mut out = vec![f32::NAN; chosen.len() * rows.shape()[1]];
        rows.read_f32(chosen, &mut out).unwrap();
        out
    }

    #[test]
    fn rows_of_a_file_are_read_in_any_order() {
        let n = 5_000;
        let value = |row: usize, column: usize| (row * 10 + column) as i16;
        let bytes: Vec<u8> = (0..n).flat_map(|i| (0..3).flat_map(move |j| value(i, j).to_be_bytes())).collect();
        let rows = in_file(Element::I16, Endian::Big, &bytes, [n, 3]);
        let chosen: Vec<usize> = (0..n).map(|i| i * 7_919 % n).chain([4, 5, 6, 6, 0]).collect();
        let expected: Vec<f32> = chosen.iter().flat_map(|&i| (0..3).map(move |j| f32::from(value(i, j)))).collect();
        assert_eq!(read(&rows, &chosen), expected);
        let part = rows.select(&[9, 3, 4_999]);
        assert_eq!(part.shape(), [3, 3]);
        assert_eq!(read(&part, &[2, 0]), read(&rows, &[4_999, 9]));
        assert_eq!(read(&part.select(&[1, 2]), &[0]), read(&rows, &[3]));
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_no_crash() {
        let rows = in_file(Element::U8, Endian::Little, &[1, 2, 3, 4], [3, 2]);
        let mut out = [0.0; 2];
        rows.read_f32(&[1], &mut out).unwrap();
        assert_eq!(out, [3.0, 4.0]);
        let problem = rows.read_f32(&[2], &mut out).unwrap_err().to_string();
        assert!(problem.contains("rows: cannot be read at byte 7"), "{problem}");
        let mut bytes = [0; 2];
        rows.read_u8(&[1], &mut bytes).unwrap();
        assert_eq!(bytes, [3, 4]);
    }

    #[test]
    fn columns_holes_and_offsets_are_dealt_with_as_rows_are_read() {
        let values = [1e9 + 0.25, f64::NAN, 1e9 + 0.5, 4.0, 1e9, 8.0];
        let bytes: Vec<u8> = values.iter().flat_map(|value: &f64| value.to_le_bytes()).collect();
        let rows = in_file(Element::F64, Endian::Little, &bytes, [3, 2]);
        assert!(rows.is_wide());
        let filled = rows.filled().unwrap();
        assert_eq!(read(&filled, &[0])[1], 6.0);
        let less = filled.less(Some(array![1e9, 0.0]));
        assert_eq!(read(&less, &[0, 1, 2]), [0.25, 6.0, 0.5, 4.0, 0.0, 8.0]);
        assert_eq!(read(&less.columns(vec![Some(1), None]), &[2, 0]), [8.0, 0.0, 6.0, 0.0]);
    }

    #[test]
    fn sparse_rows_and_rows_of_several_sources_come_as_dense_ones() {
        let csr = Csr { shape: [2, 3], starts: vec![0, 2, 3], columns: vec![0, 2, 1], values: vec![1.0, 2.0, 3.0] };
        let sparse = Streamed::new(Arc::new(SparseRows(csr)));
        assert!(sparse.in_memory());
        assert_eq!(read(&sparse, &[1, 0]), [0.0, 3.0, 0.0, 1.0, 0.0, 2.0]);
        let dense = Dense { rows: array![[7u8, 8, 9], [4, 5, 6]], width: Width::U8 };
        let joined = Streamed::joined(vec![Streamed::new(Arc::new(dense)).select(&[1, 0]), sparse]);
        assert_eq!(joined.shape(), [4, 3]);
        assert_eq!(read(&joined, &[3, 1, 0, 2]), [0.0, 3.0, 0.0, 7.0, 8.0, 9.0, 4.0, 5.0, 6.0, 1.0, 0.0, 2.0]);
        assert!(!joined.is_bytes());
    }
}
