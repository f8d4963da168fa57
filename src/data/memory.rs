//! Rows that are in memory already: arrays and sparse matrices as a [`Dataset`], by the same way that a file's rows go.

use std::borrow::Cow;
use std::path::Path;

use linfa::dataset::DatasetBase;
use ndarray::{ArrayBase, ArrayView2, Data, Ix2};

use super::format::{Csr, Table, Values};
use super::{check_finite, check_magnitude, table, Dataset, Reading};
use crate::error::{Error, Result};

/// What rows in memory are called in messages.
pub(crate) const IN_MEMORY: &str = "the rows in memory";

/// What rows can be taken from: arrays of ndarray \[n, d\] of `u8`, `f32` or `f64`, linfa's datasets of such (their targets are not
/// looked at), and a [`Dataset`].
pub trait ToDataset {
    /// n and d.
    fn shape(&self) -> [usize; 2];

    /// The rows, read as `reading` says; what it picks from a file does not matter here.
    ///
    /// # Errors
    /// [`Error::Rows`] for values that are missing, infinite or too large; [`Error::Memory`] for sparse rows too wide.
    fn to_dataset(&self, reading: &Reading) -> Result<Cow<'_, Dataset>>;
}

/// The types of numbers that rows in memory may have: `u8` stays what it is, `f64` becomes `f32` as [`super::read`] says.
pub trait Number: Copy + sealed::Number {}

impl Number for u8 {}
impl Number for f32 {}
impl Number for f64 {}

mod sealed {
    use super::{ArrayView2, Values};

    pub trait Number: Sized {
        fn values(rows: ArrayView2<Self>) -> Values;
    }

    macro_rules! number {
        ($type:ty, $variant:ident) => {
            impl Number for $type {
                fn values(rows: ArrayView2<Self>) -> Values {
                    Values::$variant(rows.as_standard_layout().into_owned())
                }
            }
        };
    }
    number!(u8, U8);
    number!(f32, F32);
    number!(f64, F64);
}

impl<T: Number, S: Data<Elem = T>> ToDataset for ArrayBase<S, Ix2> {
    fn shape(&self) -> [usize; 2] {
        [self.nrows(), self.ncols()]
    }

    fn to_dataset(&self, reading: &Reading) -> Result<Cow<'_, Dataset>> {
        Dataset::from_array(self.view(), reading).map(Cow::Owned)
    }
}

impl<R: ToDataset + linfa::dataset::Records, T> ToDataset for DatasetBase<R, T> {
    fn shape(&self) -> [usize; 2] {
        self.records.shape()
    }

    fn to_dataset(&self, reading: &Reading) -> Result<Cow<'_, Dataset>> {
        self.records.to_dataset(reading)
    }
}

impl ToDataset for Dataset {
    fn shape(&self) -> [usize; 2] {
        [self.n_rows(), self.n_features()]
    }

    /// Rows that were read for a model went the model's way then; they cannot do so afterwards.
    fn to_dataset(&self, reading: &Reading) -> Result<Cow<'_, Dataset>> {
        match reading.intake {
            Some(intake) if *intake != self.intake => Err(Error::Rows(format!(
                "{}: the rows were read without what the model does to columns on reading; read them with \
                 Reading {{ intake: Some(&model.intake), .. }}",
                self.name
            ))),
            _ => Ok(Cow::Borrowed(self)),
        }
    }
}

impl Dataset {
    /// Rows of an array \[n, d\].
    ///
    /// Bytes stay bytes, `f64` becomes `f32`; where that would lose what tells rows apart each column's mean is taken off first
    /// ([`super::Intake`]).
    ///
    /// # Errors
    /// [`Error::Rows`] for values that are missing, infinite or too large.
    ///
    /// ```
    /// use dec::data::{Dataset, Reading};
    /// let rows = ndarray::array![[1e9, 1.0], [1e9 + 0.5, 2.0]];
    /// let dataset = Dataset::from_array(rows.view(), &Reading::default())?;
    /// assert_eq!(dataset.intake.offset, Some(ndarray::array![1e9 + 0.25, 0.0]));
    /// # Ok::<(), dec::Error>(())
    /// ```
    pub fn from_array<T: Number>(rows: ArrayView2<T>, reading: &Reading) -> Result<Self> {
        Self::from_values(T::values(rows), reading)
    }

    /// Rows of a sparse matrix \[n, d\] in compressed rows: row i has the entries `starts[i]..starts[i + 1]` of `columns` and
    /// `values`. Of more than 5,000 columns the 2,000 that vary most are kept, unless `reading.features` says otherwise.
    ///
    /// # Errors
    /// [`Error::Rows`] for parts that do not fit together, a column that is named twice in a row, and as for
    /// [`Dataset::from_array`]; [`Error::Memory`] where the dense rows would not fit into memory.
    ///
    /// ```
    /// use dec::data::{Dataset, Features, Reading};
    /// let (starts, columns, values) = (vec![0, 1, 3], vec![2, 0, 1], vec![5.0, 6.0, 7.0]);
    /// let dataset = Dataset::from_csr([2, 3], starts, columns, values, &Reading::default())?;
    /// assert_eq!(dataset.features, Features::F32(ndarray::array![[0.0, 0.0, 5.0], [6.0, 7.0, 0.0]]));
    /// # Ok::<(), dec::Error>(())
    /// ```
    pub fn from_csr(
        shape: [usize; 2],
        starts: Vec<u64>,
        columns: Vec<u32>,
        values: Vec<f32>,
        reading: &Reading,
    ) -> Result<Self> {
        let sparse = Csr { shape, starts, columns, values };
        check_sparse(&sparse).map_err(|problem| Error::Rows(format!("{IN_MEMORY}: sparse {problem}")))?;
        Self::from_values(Values::Csr(sparse), reading)
    }

    fn from_values(values: Values, reading: &Reading) -> Result<Self> {
        let table = Table { values, ..Table::default() };
        let Reading { missing, features, intake, .. } = *reading;
        let wishes = table::Wishes { missing, features, intake, names: &[], most_bytes: reading.most_bytes() };
        let dataset = table::dataset(Path::new(IN_MEMORY), table, wishes)?;
        check_finite(&dataset)?;
        check_magnitude(&dataset)?;
        Ok(dataset)
    }
}

fn check_sparse(sparse: &Csr) -> std::result::Result<(), String> {
    let Csr { shape: [n, d], starts, columns, values } = sparse;
    let entries = values.len() as u64;
    if columns.len() != values.len() {
        return Err(format!("rows have {} columns for {} values", columns.len(), values.len()));
    }
    if starts.len() != n + 1 || starts.first() != Some(&0) || starts.last() != Some(&entries) {
        return Err(format!("rows of shape [{n}, {d}] with {entries} entries have starts that do not fit"));
    }
    if !starts.is_sorted() {
        return Err("rows have starts that do not ascend".to_owned());
    }
    for (row, ends) in starts.windows(2).enumerate() {
        let of_row = &columns[ends[0] as usize..ends[1] as usize]; // ascending up to `entries`, which is a length
        if of_row.iter().any(|&column| column as usize >= *d) {
            return Err(format!("row {row} names a column beyond the {d} that there are"));
        }
        if !of_row.is_sorted_by(|a, b| a < b) {
            return Err(format!("row {row} names columns out of order, or one twice"));
        }
    }
    match values.iter().position(|value| value.is_nan()) {
        Some(place) => Err(format!("rows have NaN, in column {} first", columns[place])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::{Features, Intake, Selection};
    use ndarray::array;

    #[test]
    fn bytes_stay_bytes_and_views_are_copied_in_order() {
        let bytes = array![[1u8, 2, 3], [4, 5, 6]];
        let turned = bytes.t();
        let dataset = turned.to_dataset(&Reading::default()).unwrap();
        assert_eq!(dataset.features, Features::U8(array![[1, 4], [2, 5], [3, 6]]));
        let of_linfa = DatasetBase::from(array![[1.5f64], [2.5]]);
        assert_eq!(of_linfa.to_dataset(&Reading::default()).unwrap().features, Features::F32(array![[1.5], [2.5]]));
        assert_eq!(ToDataset::shape(&of_linfa), [2, 1]);
    }

    #[test]
    fn new_rows_go_the_models_way() {
        let intake =
            Intake { selected: Some(Selection { of: 3, columns: vec![0, 2] }), offset: Some(array![1e9, 1.0]) };
        let reading = Reading { intake: Some(&intake), ..Reading::default() };
        let rows = array![[1e9 + 0.5, 7.0, 3.0]];
        let read = rows.to_dataset(&reading).unwrap().into_owned();
        assert_eq!(read.features, Features::F32(array![[0.5, 2.0]]));
        assert!(read.to_dataset(&reading).is_ok(), "read for the model");
        let other = rows.to_dataset(&Reading::default()).unwrap().into_owned();
        let refused = other.to_dataset(&reading).unwrap_err().to_string();
        assert!(refused.contains("read without"), "{refused}");
    }

    #[test]
    fn values_that_are_not_there_are_refused_with_their_place() {
        let refused = array![[1.0, 2.0], [3.0, f64::NAN]].to_dataset(&Reading::default()).unwrap_err().to_string();
        assert!(refused.starts_with(IN_MEMORY) && refused.contains("row 1, column 1"), "{refused}");
        let refused = array![[1.0, f32::INFINITY]].to_dataset(&Reading::default()).unwrap_err().to_string();
        assert!(refused.contains("1 infinite"), "{refused}");
    }

    #[test]
    fn sparse_parts_have_to_fit_together() {
        let sparse = |starts: &[u64], columns: &[u32], values: &[f32]| {
            let (starts, columns, values) = (starts.to_vec(), columns.to_vec(), values.to_vec());
            Dataset::from_csr([2, 3], starts, columns, values, &Reading::default())
        };
        assert!(sparse(&[0, 1, 2], &[0, 2], &[1.0, 2.0]).is_ok());
        for (starts, columns, values, expected) in [
            (&[0u64, 1, 2][..], &[0u32][..], &[1.0f32, 2.0][..], "1 columns for 2 values"),
            (&[0, 2], &[0, 1], &[1.0, 2.0], "starts that do not fit"),
            (&[0, 1, 3], &[0, 1], &[1.0, 2.0], "starts that do not fit"),
            (&[0, 1, 2], &[0, 3], &[1.0, 2.0], "row 1 names a column beyond the 3"),
            (&[0, 2, 2], &[1, 0], &[1.0, 2.0], "row 0 names columns out of order"),
            (&[0, 2, 2], &[1, 1], &[1.0, 2.0], "or one twice"),
            (&[0, 1, 2], &[0, 1], &[1.0, f32::NAN], "NaN, in column 1"),
        ] {
            let refused = sparse(starts, columns, values).unwrap_err();
            assert!(matches!(refused, Error::Rows(_)) && refused.to_string().contains(expected), "{refused}");
        }
    }
}
