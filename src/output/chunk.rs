//! Rows of the table on their way to a writer.

use super::Header;

/// Some rows of the table: b rows, column by column. What the header does not ask for may be `None`, and is not written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chunk<'a> {
    /// Numbers of the rows in the input, \[b\].
    pub rows: &'a [u64],
    /// Names of the rows, \[b\].
    pub ids: Option<&'a [String]>,
    /// Clusters, \[b\]; -1 = unsure.
    pub cluster: &'a [i64],
    /// Soft assignment to the nearest cluster, \[b\].
    pub confidence: &'a [f32],
    /// Second choice, \[b\]; -1 = none.
    pub second: Option<&'a [i64]>,
    /// Entropy in nats, \[b\].
    pub entropy: Option<&'a [f32]>,
    /// Outlier score, \[b\], 0 to 1.
    pub outlier: Option<&'a [f32]>,
    /// Latent codes, \[b, m\], row by row.
    pub z: Option<&'a [f32]>,
    /// Soft assignments, \[b, k\], row by row.
    pub q: Option<&'a [f32]>,
}

impl Chunk<'_> {
    /// Number of rows, b.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Says what does not fit the header.
    pub(super) fn check(&self, header: &Header) -> Result<(), String> {
        let rows = self.rows.len();
        let size = |name: &str, wanted: bool, found: Option<usize>, width: usize| match found {
            None if wanted => Err(format!("the header has {name}, but a chunk has none")),
            Some(found) if wanted && Some(found) != rows.checked_mul(width) => {
                Err(format!("{name} of a chunk has {found} values, but {rows} rows of {width} are needed"))
            }
            _ => Ok(()),
        };
        let Header { n_latent, n_clusters, scores, .. } = *header;
        size("id", header.has_ids, self.ids.map(<[String]>::len), 1)?;
        size("cluster", true, Some(self.cluster.len()), 1)?;
        size("confidence", true, Some(self.confidence.len()), 1)?;
        size("second", scores.second, self.second.map(<[i64]>::len), 1)?;
        size("entropy", scores.entropy, self.entropy.map(<[f32]>::len), 1)?;
        size("outlier", scores.outlier, self.outlier.map(<[f32]>::len), 1)?;
        size("the embedding", header.embedding, self.z.map(<[f32]>::len), n_latent)?;
        size("the memberships", header.memberships, self.q.map(<[f32]>::len), n_clusters)?;
        let clusters = i64::try_from(n_clusters).unwrap_or(i64::MAX);
        let second = if scores.second { self.second.unwrap_or(&[]) } else { &[] };
        match self.cluster.iter().chain(second).find(|&&cluster| !(-1..clusters).contains(&cluster)) {
            Some(cluster) => Err(format!("a chunk has cluster {cluster}, but there are {n_clusters} clusters")),
            None => Ok(()),
        }
    }
}

/// Row `row` of a matrix of `width` columns; empty if there is no matrix.
pub(super) fn line(matrix: Option<&[f32]>, row: usize, width: usize) -> &[f32] {
    matrix.and_then(|values| values.get(row * width..(row + 1) * width)).unwrap_or(&[])
}
