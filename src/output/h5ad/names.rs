//! The names of the rows of a new file.

/// Texts, one behind the other: a million of them take little more than their letters.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Names {
    pub(super) fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    /// All names, in their order.
    pub(super) fn list(&self) -> Vec<&str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| self.text.get(start..end).unwrap_or("")).collect()
    }
}
