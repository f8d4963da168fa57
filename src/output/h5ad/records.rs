//! Tables of records, which `obs` and `obsm` were before AnnData 0.7: they get new fields.

use std::ops::Range;
use std::path::Path;

use hdf5_pure::{AttrValue, CompoundTypeBuilder, Dataset, Datatype, File};

use super::{not_added, Header, Part};
use crate::error::{Error, Result};

/// Most bytes of a record: hdf5-pure 0.47 encodes the size of longer ones in a way that libhdf5 refuses.
const MOST_BYTES: usize = 65535;

/// A table of the input file, without the fields of an earlier answer.
pub(super) struct Records {
    source: std::path::PathBuf,
    dataset: Dataset,
    /// Bytes of a record.
    size: usize,
    /// The bytes of a record that are kept.
    kept: Vec<Range<usize>>,
    fields: Vec<(String, Datatype)>,
    /// The attributes of the table.
    pub(super) attributes: Vec<(String, AttrValue)>,
}

impl Records {
    /// Opens the table `name` of `source` for reading.
    pub(super) fn open(source: &Path, name: &str) -> Result<Self> {
        let refused = |error: hdf5_pure::Error| not_added(source, &format!("{name}: {error}"));
        let file = File::open_streaming(source).map_err(refused)?;
        let dataset = file.dataset(name).map_err(refused)?;
        let Datatype::Compound { size, members } = dataset.datatype().map_err(refused)? else {
            return Err(not_added(source, &format!("{name} is neither a group nor a table of records")));
        };
        let mut kept = vec![];
        let mut fields = vec![];
        for member in members {
            if is_ours(&member.name) {
                continue;
            }
            if points_elsewhere(&member.datatype) {
                return Err(not_added(source, &format!("the field {} of {name} points elsewhere", member.name)));
            }
            let start = usize::try_from(member.byte_offset).unwrap_or(usize::MAX);
            kept.push(start..start.saturating_add(member.datatype.type_size() as usize));
            fields.push((member.name, member.datatype));
        }
        if kept.iter().any(|range| range.end > size as usize) {
            return Err(not_added(source, &format!("the fields of {name} are longer than its records")));
        }
        let attributes: Vec<_> = dataset.attrs().map_err(refused)?.into_iter().collect();
        if attributes.len() != dataset.attr_datatypes().map_err(refused)?.len() {
            return Err(not_added(source, &format!("{name} has attributes that cannot be read")));
        }
        Ok(Self { source: source.to_owned(), dataset, size: size as usize, kept, fields, attributes })
    }

    /// The number of records.
    pub(super) fn rows(&self) -> Result<u64> {
        let shape = self.dataset.shape().map_err(|error| not_added(&self.source, &error.to_string()))?;
        match shape[..] {
            [rows] => Ok(rows),
            _ => Err(not_added(&self.source, "a table of records has more than one axis")),
        }
    }

    /// Bytes of a record without the new fields.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.iter().map(ExactSizeIterator::len).sum()
    }

    /// The type of the records with the new fields.
    pub(super) fn datatype(&self, parts: &[Part], header: &Header) -> Result<Datatype> {
        let mut builder = CompoundTypeBuilder::new();
        for (name, kind) in &self.fields {
            builder = builder.field(name, kind.clone());
        }
        for part in parts {
            let one = part.datatype(header);
            let kind = match part.width(header) {
                Some(width) => Datatype::Array {
                    base_type: Box::new(one),
                    dimensions: vec![u32::try_from(width).unwrap_or(u32::MAX)],
                },
                None => one,
            };
            builder = builder.field(part.name(), kind);
        }
        let new: usize = parts.iter().map(|part| part.row_bytes(header)).sum();
        if self.kept_bytes() + new > MOST_BYTES {
            return Err(not_added(&self.source, "the records of a table would be longer than 65535 bytes"));
        }
        builder.build().map_err(|error| not_added(&self.source, &error.to_string()))
    }

    /// The `count` records from `start` on, each with its part of `new` behind it.
    pub(super) fn join(&self, start: u64, count: u64, new: &[u8]) -> Result<Vec<u8>> {
        let damaged = |why: &dyn std::fmt::Display| Error::data(&self.source, format!("cannot be read: {why}"));
        let old = self.dataset.read_raw_rows(start, count).map_err(|error| damaged(&error))?;
        let rows = old.len() / self.size.max(1);
        if rows as u64 != count || rows == 0 || !new.len().is_multiple_of(rows) {
            return Err(damaged(&"a table of records is shorter than it claims"));
        }
        let width = new.len() / rows;
        let mut joined = Vec::with_capacity(rows * (self.kept_bytes() + width));
        for (record, added) in old.chunks_exact(self.size).zip(new.chunks_exact(width.max(1))) {
            for range in &self.kept {
                joined.extend_from_slice(&record[range.clone()]);
            }
            joined.extend_from_slice(added);
        }
        Ok(joined)
    }
}

/// Whether an earlier answer has made the field.
fn is_ours(name: &str) -> bool {
    use Part::{Cluster, Confidence, Embedding, Entropy, Memberships, Name, Outlier, Second};
    [Cluster, Name, Confidence, Second, Entropy, Outlier, Embedding, Memberships].iter().any(|part| part.name() == name)
}

/// Whether values of the type lie outside the record.
fn points_elsewhere(kind: &Datatype) -> bool {
    match kind {
        Datatype::VariableLength { .. } | Datatype::Reference { .. } => true,
        Datatype::Array { base_type, .. } => points_elsewhere(base_type),
        Datatype::Compound { members, .. } => members.iter().any(|member| points_elsewhere(&member.datatype)),
        _ => false,
    }
}
