//! What the headers of both formats say.

use super::element::{Element, Endian};

/// What a file says about the array in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub shape: Vec<usize>,
    pub element: Element,
    pub endian: Endian,
    /// Column-major: the first axis varies fastest.
    pub fortran: bool,
}

impl Header {
    /// The number of values, if their bytes can be addressed at all.
    ///
    /// Axes of length 0 are left out of the product, as ndarray does: [0, 2^40, 2^40] is no array either.
    pub(super) fn count(&self) -> Option<usize> {
        let bytes = self
            .shape
            .iter()
            .filter(|&&n| n > 0)
            .try_fold(self.element.size(), |product, &n| product.checked_mul(n))
            .filter(|&bytes| isize::try_from(bytes).is_ok())?;
        Some(if self.shape.contains(&0) { 0 } else { bytes / self.element.size() })
    }

    /// Whether the values lie in another order than those of rows, one row after the other.
    pub(super) fn is_transposed(&self) -> bool {
        self.fortran && self.shape.iter().filter(|&&n| n != 1).count() > 1
    }

    /// "60000 x 28 x 28 uint8 values", for messages.
    pub(super) fn describe(&self) -> String {
        let shape = if self.shape.is_empty() { "1".to_owned() } else { shape_text(&self.shape) };
        format!("{shape} {} values", self.element.name())
    }
}

fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// Bytes as a person reads a hex dump.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}
