//! The rows that a report shows: all of a few, some of many.

use crate::data::{Dataset, Features, Health};
use crate::error::Result;

/// Rows that are shown at most, and their values.
const MOST_ROWS: usize = 20_000;
const MOST_VALUES: usize = 1 << 26;
/// Values up to which the health of all rows is looked at, beyond which that of the sample.
const ALL_VALUES: usize = 1 << 28;

/// Rows that a report shows, as they were read, with what is known of all rows.
#[derive(Debug)]
pub struct Sample {
    /// Their numbers in the data, ascending.
    pub(super) rows: Vec<usize>,
    /// Their values, in memory.
    pub(super) features: Features,
    /// Their names, or none.
    pub(super) ids: Vec<String>,
    /// The class of each row of the data; below 0: none.
    pub(super) labels: Option<Vec<i64>>,
    /// The classes' names, or none.
    pub(super) classes: Vec<String>,
    /// The columns' names, or none.
    pub(super) columns: Vec<String>,
    /// What was taken off the columns on reading.
    pub(super) offset: Option<Vec<f64>>,
    pub(super) health: Health,
}

impl Sample {
    /// Of the rows of `dataset` that a run has in this random `order` ([`crate::state::order_of`]): up to 20,000.
    ///
    /// # Errors
    /// [`crate::Error::Data`] where rows that stay in a file cannot be read.
    pub fn of(dataset: &Dataset, order: &[usize]) -> Result<Self> {
        let most = MOST_ROWS.min(MOST_VALUES / dataset.n_features().max(1)).max(1);
        let mut rows: Vec<usize> = order.iter().copied().take(most).collect();
        rows.sort_unstable();
        let features = dataset.features.resident_at(&rows)?;
        let few = dataset.n_rows().saturating_mul(dataset.n_features()) <= ALL_VALUES;
        let ids = match dataset.ids.is_empty() {
            true => Vec::new(),
            false => rows.iter().map(|&row| dataset.ids[row].clone()).collect(),
        };
        Ok(Self {
            health: Health::of(if few { &dataset.features } else { &features })?,
            rows,
            features,
            ids,
            labels: dataset.labels.clone(),
            classes: dataset.classes.clone(),
            columns: dataset.columns.clone(),
            offset: dataset.intake.offset.as_ref().map(|offset| offset.to_vec()),
        })
    }
}
