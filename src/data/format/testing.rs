//! What the tests of several formats need.

#[cfg(any(feature = "parquet", feature = "h5ad"))]
use std::path::{Path, PathBuf};

use super::Pick;

/// Everything that a file holds, up to a megabyte.
pub const ROOMY: Pick<'static> = Pick {
    columns: &[],
    categorical: &[],
    label_column: None,
    id_column: None,
    array: None,
    image_size: None,
    folder_labels: false,
    most_bytes: 1 << 20,
    keeps_double: false,
};

/// A file that `make_columnar.py` made.
#[cfg(any(feature = "parquet", feature = "h5ad"))]
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}
