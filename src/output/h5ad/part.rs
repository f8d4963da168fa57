//! The columns of the answer: their names, their types, their bytes.

use hdf5_pure::{make_f32_type, make_i16_type, make_i32_type, make_i8_type, Datatype};

use super::super::chunk::line;
use super::{Chunk, Header};

/// One column of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Cluster,
    /// The cluster again, of categories that are the clusters' names.
    Name,
    Confidence,
    Second,
    Entropy,
    Outlier,
    Embedding,
    Memberships,
}

impl Part {
    /// The columns that belong to `obs`.
    pub(super) fn of_obs(header: &Header) -> Vec<Self> {
        let scores = header.scores;
        let all = [
            (Self::Cluster, true),
            (Self::Name, !header.names.is_empty()),
            (Self::Confidence, true),
            (Self::Second, scores.second),
            (Self::Entropy, scores.entropy),
            (Self::Outlier, scores.outlier),
        ];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(part, _)| part).collect()
    }

    /// The matrices that belong to `obsm`.
    pub(super) fn of_obsm(header: &Header) -> Vec<Self> {
        let mut parts = vec![Self::Embedding];
        parts.extend(header.memberships.then_some(Self::Memberships));
        parts
    }

    /// Its name in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cluster => "dec",
            Self::Name => "dec_name",
            Self::Confidence => "dec_confidence",
            Self::Second => "dec_second",
            Self::Entropy => "dec_entropy",
            Self::Outlier => "dec_outlier",
            Self::Embedding => "X_dec",
            Self::Memberships => "dec_memberships",
        }
    }

    /// Whether it holds codes of categories.
    pub(super) fn is_categorical(self) -> bool {
        matches!(self, Self::Cluster | Self::Name | Self::Second)
    }

    /// The number of values of a row; `None` for a column that is no matrix.
    pub(super) fn width(self, header: &Header) -> Option<usize> {
        match self {
            Self::Embedding => Some(header.n_latent),
            Self::Memberships => Some(header.n_clusters),
            _ => None,
        }
    }

    /// The type of one value.
    pub(super) fn datatype(self, header: &Header) -> Datatype {
        match (self.is_categorical(), code_bytes(header)) {
            (true, 1) => make_i8_type(),
            (true, 2) => make_i16_type(),
            (true, _) => make_i32_type(),
            (false, _) => make_f32_type(),
        }
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(self, header: &Header) -> usize {
        match self.is_categorical() {
            true => code_bytes(header),
            false => 4 * self.width(header).unwrap_or(1),
        }
    }

    /// Puts the bytes of row `row` behind `bytes`.
    pub(super) fn put(self, chunk: &Chunk, row: usize, header: &Header, bytes: &mut Vec<u8>) {
        let one = |values: Option<&[f32]>| values.and_then(|values| values.get(row)).copied().unwrap_or(f32::NAN);
        let values: &[f32] = match self {
            Self::Cluster | Self::Name => return put_code(chunk.cluster[row], header, bytes),
            Self::Second => {
                let second = chunk.second.and_then(|second| second.get(row)).copied().unwrap_or(-1);
                return put_code(second, header, bytes);
            }
            Self::Confidence => &[chunk.confidence[row]],
            Self::Entropy => &[one(chunk.entropy)],
            Self::Outlier => &[one(chunk.outlier)],
            Self::Embedding => line(chunk.z, row, header.n_latent),
            Self::Memberships => line(chunk.q, row, header.n_clusters),
        };
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Puts the bytes of a row that was not clustered behind `bytes`.
    pub(super) fn put_missing(self, header: &Header, bytes: &mut Vec<u8>) {
        if self.is_categorical() {
            return put_code(-1, header, bytes);
        }
        for _ in 0..self.width(header).unwrap_or(1) {
            bytes.extend(f32::NAN.to_le_bytes());
        }
    }
}

/// Bytes of the code of a category: as few as anndata takes.
fn code_bytes(header: &Header) -> usize {
    match header.n_clusters {
        0..=0x7f => 1,
        0x80..=0x7fff => 2,
        _ => 4,
    }
}

/// Codes that are checked to be below the number of clusters; little endian, so that the last bytes can be left out.
fn put_code(code: i64, header: &Header, bytes: &mut Vec<u8>) {
    bytes.extend(code.to_le_bytes().into_iter().take(code_bytes(header)));
}
