//! The tables `obs` and `var`: names and labels.

use hdf5_pure::{CompoundMember, Dataset, Datatype, Group, VlenStringReadOptions};

use super::number::Number;
use super::{Node, H5, RESAVE};
use crate::error::{Error, Result};

/// What a text takes in memory besides its letters.
const OVERHEAD: u64 = 24;
/// The groups that hold categories, in older files, beside what they belong to.
const CATEGORIES: &str = "__categories";

/// How deep columns lie in each other: categories that may be missing, say.
const DEPTH: usize = 2;

/// `obs` or `var`.
pub(super) enum Frame {
    /// One array a column, and the group's name.
    Columns(String, Group),
    /// Records, as files before AnnData 0.7 have them.
    Records(Records),
}

impl Frame {
    /// The table `name`, if the file has it.
    pub(super) fn open(h5: &H5, name: &str) -> Result<Option<Self>> {
        Ok(match h5.node(name)? {
            None => None,
            Some(Node::Group(group)) => Some(Self::Columns(name.to_owned(), group)),
            Some(Node::Dataset(dataset)) => Some(Self::Records(Records::read(h5, name, &dataset)?)),
        })
    }

    /// The names of its rows; none if it names none.
    pub(super) fn index(&self, h5: &H5) -> Result<Vec<String>> {
        let texts = match self {
            Self::Columns(name, group) => {
                let attributes = group.attrs().map_err(|error| h5.damaged(name, &error))?;
                let index = attributes.get("_index").and_then(|index| index.as_str()).unwrap_or("_index");
                texts(h5, &format!("{name}/{index}"))?
            }
            Self::Records(records) => records.column(h5, "index")?,
        };
        Ok(texts.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The texts of a column; `None` if there is no such column.
    pub(super) fn column(&self, h5: &H5, column: &str) -> Result<Option<Vec<Option<String>>>> {
        match self {
            Self::Columns(name, _) => {
                let categories = format!("{name}/{CATEGORIES}/{column}");
                match h5.node(&categories)? {
                    Some(_) => categorical(h5, &format!("{name}/{column}"), &categories, DEPTH).map(Some),
                    None => texts(h5, &format!("{name}/{column}")),
                }
            }
            Self::Records(records) => {
                let categories = format!("uns/{column}_categories");
                let codes = records.codes(column);
                match (codes, h5.node(&categories)?) {
                    (Some(codes), Some(_)) => {
                        let categories = texts(h5, &categories)?.unwrap_or_default();
                        Ok(Some(codes.into_iter().map(|code| named(code, &categories)).collect()))
                    }
                    _ => records.column(h5, column),
                }
            }
        }
    }

    /// The names of its columns.
    pub(super) fn names(&self, h5: &H5) -> Result<Vec<String>> {
        match self {
            Self::Columns(name, group) => {
                let attributes = group.attrs().map_err(|error| h5.damaged(name, &error))?;
                let index = attributes.get("_index").and_then(|index| index.as_str()).unwrap_or("_index");
                let mut names = h5.children(name, group)?;
                names.retain(|name| name != index && name != CATEGORIES);
                Ok(names)
            }
            Self::Records(records) => Ok(records.names().filter(|&name| name != "index").map(str::to_owned).collect()),
        }
    }
}

/// The category of a code.
fn named(code: Option<u64>, categories: &[Option<String>]) -> Option<String> {
    let place = usize::try_from(code?).ok()?;
    categories.get(place).cloned().flatten()
}

/// Codes and what they stand for. Codes below 0 stand for nothing.
fn categorical(h5: &H5, codes: &str, categories: &str, depth: usize) -> Result<Vec<Option<String>>> {
    let categories = texts_within(h5, categories, depth)?.unwrap_or_default();
    numbers(h5, codes, |number, bytes| named(number.index(bytes), &categories))
}

/// Reads an array of numbers, one text each.
fn numbers(h5: &H5, name: &str, text: impl Fn(&Number, &[u8]) -> Option<String>) -> Result<Vec<Option<String>>> {
    let dataset = h5.dataset(name)?;
    let count = one_axis(h5, name, &dataset)?;
    h5.pick.check_bytes(h5.path, &format!("the texts of {name}"), count.saturating_mul(OVERHEAD))?;
    let Some(number) = h5.number(name, &dataset)? else { return Err(h5.damaged(name, &"it holds no numbers")) };
    let mut texts = vec![];
    h5.windows(name, &dataset, number.size() as u64, |bytes| {
        texts.extend(bytes.chunks_exact(number.size()).map(|bytes| text(&number, bytes)));
        Ok(())
    })?;
    Ok(texts)
}

/// The length of an array that has to be a column.
fn one_axis(h5: &H5, name: &str, dataset: &Dataset) -> Result<u64> {
    match h5.shape_of(name, dataset)?[..] {
        [count] => Ok(count),
        _ => Err(h5.damaged(name, &"it is not a column")),
    }
}

/// Whatever column `name` is, as texts; `None` if it is not there.
fn texts(h5: &H5, name: &str) -> Result<Option<Vec<Option<String>>>> {
    texts_within(h5, name, DEPTH)
}

/// The same of a column within a column, `depth` of which are left: a link may lead back to the group that it is in.
fn texts_within(h5: &H5, name: &str, depth: usize) -> Result<Option<Vec<Option<String>>>> {
    match h5.node(name)? {
        None => Ok(None),
        Some(Node::Group(_)) if depth == 0 => Err(h5.damaged(name, &"it is a column within columns")),
        Some(Node::Group(group)) => coded(h5, name, &group, depth - 1).map(Some),
        Some(Node::Dataset(dataset)) => {
            let kind = dataset.datatype().map_err(|error| h5.damaged(name, &error))?;
            if Number::of(&kind).is_some() {
                return numbers(h5, name, Number::text).map(Some);
            }
            strings(h5, name, &dataset, &kind).map(Some)
        }
    }
}

/// A column that is a group: categories with codes, or values with a mask.
fn coded(h5: &H5, name: &str, group: &Group, depth: usize) -> Result<Vec<Option<String>>> {
    let attributes = group.attrs().map_err(|error| h5.damaged(name, &error))?;
    let encoding = attributes.get("encoding-type").and_then(|encoding| encoding.as_str()).unwrap_or("group");
    if encoding == "categorical" {
        return categorical(h5, &format!("{name}/codes"), &format!("{name}/categories"), depth);
    }
    if !encoding.starts_with("nullable-") {
        let problem = format!("{name} is of the kind {encoding}, which cannot be taken as text; name another column");
        return Err(Error::data(h5.path, problem));
    }
    let mut values = texts_within(h5, &format!("{name}/values"), depth)?.unwrap_or_default();
    let mask = numbers(h5, &format!("{name}/mask"), |number, bytes| (number.get(bytes) != 0.0).then(String::new))?;
    for (value, masked) in values.iter_mut().zip(mask) {
        if masked.is_some() {
            *value = None;
        }
    }
    Ok(values)
}

/// An array of strings.
fn strings(h5: &H5, name: &str, dataset: &Dataset, kind: &Datatype) -> Result<Vec<Option<String>>> {
    let count = one_axis(h5, name, dataset)?;
    let each = match kind {
        Datatype::String { size, .. } => u64::from(*size).saturating_add(OVERHEAD),
        Datatype::VariableLength { is_string: true, .. } => 2 * OVERHEAD,
        other => {
            let problem = format!("{name} is of type {other}, which cannot be taken as text; name another column");
            return Err(Error::data(h5.path, problem));
        }
    };
    h5.pick.check_bytes(h5.path, &format!("the texts of {name}"), count.saturating_mul(each))?;
    let texts = if matches!(kind, Datatype::String { .. }) {
        dataset.read_string()
    } else {
        let most = usize::try_from(h5.pick.most_bytes).unwrap_or(usize::MAX);
        dataset.read_vlen_strings(VlenStringReadOptions::new().with_max_payload_bytes(most))
    };
    let texts = texts.map_err(|error| h5.damaged(name, &error))?;
    Ok(texts.into_iter().map(Some).collect())
}

/// A table of records.
pub(super) struct Records {
    name: String,
    members: Vec<CompoundMember>,
    /// Bytes of one record.
    size: usize,
    bytes: Vec<u8>,
}

impl Records {
    pub(super) fn read(h5: &H5, name: &str, dataset: &Dataset) -> Result<Self> {
        let kind = dataset.datatype().map_err(|error| h5.damaged(name, &error))?;
        let count = one_axis(h5, name, dataset)?;
        let Datatype::Compound { size, members } = kind else {
            let problem = format!("{name} is neither a group nor a table of records; {RESAVE}");
            return Err(Error::data(h5.path, problem));
        };
        h5.pick.check_bytes(h5.path, name, count.saturating_mul(u64::from(size)))?;
        let mut bytes = super::reserved(h5.path, h5.size(count.saturating_mul(u64::from(size)))?)?;
        h5.windows(name, dataset, u64::from(size), |window| {
            bytes.extend_from_slice(window);
            Ok(())
        })?;
        let size = size as usize;
        // A record's parts lie within it.
        let members = members.into_iter().filter(|member| {
            let end = member.byte_offset.saturating_add(u64::from(member.datatype.type_size()));
            end <= size as u64
        });
        Ok(Self { name: name.to_owned(), members: members.collect(), size, bytes })
    }

    pub(super) fn rows(&self) -> usize {
        self.bytes.len() / self.size.max(1)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    fn member(&self, name: &str) -> Option<&CompoundMember> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The bytes `at..at + length` of each record. They lie within it.
    pub(super) fn fields(&self, at: usize, length: usize) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.size.max(1)).filter_map(move |record| record.get(at..at + length))
    }

    /// Where the numbers `name` lie in a record, what they are, and how many.
    pub(super) fn find_numbers(&self, name: &str) -> Option<(usize, Number, u64)> {
        let member = self.member(name)?;
        let at = usize::try_from(member.byte_offset).ok()?;
        let (number, count) = match &member.datatype {
            Datatype::Array { base_type, dimensions } => {
                let count = dimensions.iter().fold(1u64, |count, &size| count.saturating_mul(u64::from(size)));
                (Number::of(base_type)?, count)
            }
            kind => (Number::of(kind)?, 1),
        };
        let end = count.saturating_mul(number.size() as u64).saturating_add(at as u64);
        (end <= self.size as u64).then_some((at, number, count))
    }

    /// The codes of a column of whole numbers.
    fn codes(&self, name: &str) -> Option<Vec<Option<u64>>> {
        let (at, number, count) = self.find_numbers(name)?;
        (count == 1).then(|| self.fields(at, number.size()).map(|bytes| number.index(bytes)).collect())
    }

    /// The texts of a column; `None` if there is no such column.
    fn column(&self, h5: &H5, name: &str) -> Result<Option<Vec<Option<String>>>> {
        let Some(member) = self.member(name) else { return Ok(None) };
        let kind = &member.datatype;
        let length = h5.size(u64::from(kind.type_size()))?;
        let fields = self.fields(h5.size(member.byte_offset)?, length);
        if let Some(number) = Number::of(kind) {
            return Ok(Some(fields.map(|bytes| number.text(bytes)).collect()));
        }
        if !matches!(kind, Datatype::String { .. }) {
            let problem =
                format!("column {name} of {} is of type {kind}, which this old layout hides; {RESAVE}", self.name);
            return Err(Error::data(h5.path, problem));
        }
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        Ok(Some(fields.map(|bytes| Some(text(bytes))).collect()))
    }
}
