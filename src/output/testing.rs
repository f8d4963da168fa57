//! Rows that several tests write.

use std::path::{Path, PathBuf};

use super::{create, Chunk, Header, OutputFormat, Scores, TableWriter};
use crate::error::Result;

/// Clusters and latent width of the rows.
pub const K: usize = 5;
pub const M: usize = 3;

/// Everything that a table can hold.
pub const ALL: Header = Header {
    has_ids: true,
    n_clusters: K,
    names: Vec::new(),
    n_latent: M,
    embedding: true,
    memberships: true,
    scores: Scores::ALL,
};

/// The least that a table can hold.
#[allow(dead_code)] // tests/read_back.rs takes everything
pub const LEAST: Header = Header {
    has_ids: false,
    n_clusters: K,
    names: Vec::new(),
    n_latent: M,
    embedding: false,
    memberships: false,
    scores: Scores { second: false, entropy: false, outlier: false },
};

/// Names of the clusters, one of which CSV has to quote.
#[allow(dead_code)] // tests/read_back.rs has none
pub fn names() -> Vec<String> {
    ["neurons", "a, \"b\"", "2", "T cells", "é"].map(str::to_owned).to_vec()
}

/// Made-up rows; every float is exact.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    pub rows: Vec<u64>,
    pub ids: Vec<String>,
    pub cluster: Vec<i64>,
    pub confidence: Vec<f32>,
    pub second: Vec<i64>,
    pub entropy: Vec<f32>,
    pub outlier: Vec<f32>,
    pub z: Vec<f32>,
    pub q: Vec<f32>,
}

impl Rows {
    /// The rows of these numbers.
    pub fn of(numbers: impl Iterator<Item = u64>) -> Self {
        let mut all = Self::default();
        for i in numbers {
            all.rows.push(i);
            all.ids.push(match i {
                3 => "a, \"b\"".to_owned(),
                4 => "=1+1".to_owned(),
                5 => "é\tü".to_owned(),
                _ => format!("c{i}"),
            });
            all.cluster.push(if i % 50 == 7 { -1 } else { (i % K as u64) as i64 });
            all.confidence.push((i % 1024) as f32 / 1024.0);
            all.second.push(((i + 1) % K as u64) as i64);
            all.entropy.push((i % 13) as f32 / 8.0);
            all.outlier.push((i % 97) as f32 / 128.0);
            all.z.extend((0..M as u64).map(|j| (i % 512) as f32 / 2.0 - j as f32));
            all.q.extend((0..K as u64).map(|j| ((i + j) % 8) as f32 / 8.0));
        }
        all
    }

    /// The rows from `from` to before `to`, as a chunk.
    pub fn chunk(&self, from: usize, to: usize) -> Chunk<'_> {
        Chunk {
            rows: &self.rows[from..to],
            ids: Some(&self.ids[from..to]),
            cluster: &self.cluster[from..to],
            confidence: &self.confidence[from..to],
            second: Some(&self.second[from..to]),
            entropy: Some(&self.entropy[from..to]),
            outlier: Some(&self.outlier[from..to]),
            z: Some(&self.z[from * M..to * M]),
            q: Some(&self.q[from * K..to * K]),
        }
    }

    /// Writes them in chunks of `step` rows.
    pub fn write(&self, writer: &mut dyn TableWriter, step: usize) -> Result<()> {
        let starts = (0..self.rows.len()).step_by(step);
        starts
            .map(|from| self.chunk(from, (from + step).min(self.rows.len())))
            .try_for_each(|chunk| writer.write(&chunk))
    }

    /// Writes a whole table, whose format the extension tells.
    pub fn table(&self, path: &Path, header: Header, source: Option<&Path>, step: usize) -> Result<Vec<PathBuf>> {
        let mut writer = create(path, OutputFormat::of(path)?, header, source)?;
        self.write(&mut *writer, step)?;
        writer.finish()
    }
}
