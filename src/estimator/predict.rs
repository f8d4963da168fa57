//! A fitted [`Dec`] as linfa's `Predict`.

use linfa::dataset::Records;
use linfa::traits::PredictInplace;
use ndarray::Array1;

use super::Dec;
use crate::data::ToDataset;

/// linfa's way to label rows, which knows no errors: [`Dec::try_predict`] does.
///
/// ```
/// use dec::{Dec, linfa::{traits::Predict, DatasetBase}};
/// use ndarray::{Array1, Array2};
///
/// let x = Array2::from_shape_fn((60, 4), |(i, j)| (i % 3) as f64 * 5.0 + ((7 * i + j) % 5) as f64 * 0.1);
/// let dec = Dec::params(3).set("start.networks", 1).set("cluster.max_rounds", 2).fit(&x)?;
/// let labels: Array1<usize> = dec.predict(&x);
/// assert_eq!(labels, dec.labels());
/// let dataset = dec.predict(DatasetBase::from(x));
/// assert_eq!(dataset.targets, labels);
/// # Ok::<(), dec::Error>(())
/// ```
///
/// # Panics
///
/// Where [`Dec::try_predict`] gives an error, with its message.
impl<R: ToDataset + Records> PredictInplace<R, Array1<usize>> for Dec {
    #[allow(clippy::panic)] // the trait has no other way
    fn predict_inplace<'a>(&'a self, x: &'a R, y: &mut Array1<usize>) {
        match self.try_predict(x) {
            Ok(labels) => *y = labels,
            Err(problem) => panic!("{problem}"),
        }
    }

    fn default_target(&self, x: &R) -> Array1<usize> {
        Array1::zeros(x.nsamples())
    }
}
