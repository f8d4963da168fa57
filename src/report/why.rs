//! What tells clusters apart: the columns that differ, rows that show a cluster well or badly, near clusters, and the tree
//! that joins them.
//!
//! ```
//! use ndarray::array;
//! use dec::report::why::{distinguishing_columns, Ranking};
//! let rows = array![[1.0f32, 0.0], [1.2, 0.1], [5.0, 0.1], [5.2, 0.0]];
//! let columns = distinguishing_columns(rows.view(), &[0, 0, 1, 1], 2, 1, Ranking::Effect)?;
//! assert_eq!(columns[1][0].column, 0);
//! assert!(columns[1][0].effect > 10.0 && columns[0][0].effect < -10.0);
//! # Ok::<(), dec::report::why::WhyError>(())
//! ```

mod columns;
mod rows;
#[cfg(test)]
mod tests;
mod tree;

pub use columns::{distinguishing_columns, ColumnEffect, Ranking};
pub use rows::{doubtful_rows, nearest_clusters, typical_rows};
pub use tree::{dendrogram, Join, Linkage};

/// Why nothing can be said about the clusters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhyError {
    /// Arrays whose lengths do not fit each other.
    #[error("{what}: {found}, where there should be {expected}")]
    Shape {
        /// The array and what is counted.
        what: &'static str,
        /// What was found.
        found: usize,
        /// What would fit.
        expected: usize,
    },
    /// A label that is not a cluster.
    #[error("row {row} is in cluster {label}, and there are {k} clusters")]
    Label {
        /// The row.
        row: usize,
        /// Its label.
        label: u32,
        /// Clusters.
        k: usize,
    },
}

fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), WhyError> {
    match found == expected {
        true => Ok(()),
        false => Err(WhyError::Shape { what, found, expected }),
    }
}

fn check_labels(labels: &[u32], k: usize) -> Result<(), WhyError> {
    match labels.iter().position(|&label| label as usize >= k) {
        Some(row) => Err(WhyError::Label { row, label: labels[row], k }),
        None => Ok(()),
    }
}
