//! Where the columns of the answer go: groups of a new file, or `obs` and `obsm` of the input file.

use std::path::Path;

use hdf5_pure::{AttrValue, FormatError};

use super::names::Names;
use super::place::{encode, Place};
use super::records::Records;
use super::{not_added, Hdf5, Header, Part};
use crate::error::Result;

/// What a path in the file leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dataset,
    Group,
    Nothing,
}

impl Hdf5 {
    fn kind(&self, path: &str) -> Result<Kind> {
        use hdf5_pure::Error::{Format, NotADataset, NotAGroup};
        match self.file.dataset(path) {
            Ok(_) => Ok(Kind::Dataset),
            Err(NotADataset(_)) => Ok(Kind::Group),
            Err(Format(FormatError::PathNotFound(_)) | NotAGroup(_)) => Ok(Kind::Nothing),
            Err(error) => Err(self.refused(path, error)),
        }
    }

    /// Removes what an earlier answer has left at `path`.
    fn clear(&self, path: &str) -> Result<()> {
        if self.kind(path)? == Kind::Nothing {
            return Ok(());
        }
        self.file.root().delete(path).map_err(|error| self.refused(path, error))
    }

    /// Makes the group `path`, unless it is there.
    fn group(&self, path: &str, attributes: &[(&str, AttrValue)]) -> Result<()> {
        if self.kind(path)? == Kind::Group {
            return Ok(());
        }
        let made = self.file.root().create_group_with(path, |group| {
            for (name, value) in attributes {
                group.set_attr(name, value.clone());
            }
        });
        made.map(drop).map_err(|error| self.refused(path, error))
    }

    /// Makes a dataset of texts.
    fn texts(&self, path: &str, texts: &[&str]) -> Result<()> {
        let made = self.file.root().create_dataset(path, |dataset| {
            dataset.with_vlen_strings(texts);
            encode(dataset, "string-array", "0.2.0");
        });
        made.map(drop).map_err(|error| self.refused(path, error))
    }
}

fn text(value: &str) -> AttrValue {
    AttrValue::VarLenString(value.to_owned())
}

fn encoding(kind: &str, version: &str) -> [(&'static str, AttrValue); 2] {
    [("encoding-type", text(kind)), ("encoding-version", text(version))]
}

/// The datasets of the answer, where `obs` and `obsm` are groups.
pub(super) fn plan(header: &Header) -> Vec<Place> {
    let mut places = plan_obs(header);
    places.extend(plan_obsm(header));
    places
}

fn plan_obs(header: &Header) -> Vec<Place> {
    let path = |part: Part| {
        let codes = if part.is_categorical() { "/codes" } else { "" };
        format!("obs/{}{codes}", part.name())
    };
    Part::of_obs(header).into_iter().map(|part| Place::new(path(part), part, header)).collect()
}

fn plan_obsm(header: &Header) -> Vec<Place> {
    let parts = Part::of_obsm(header).into_iter();
    parts.map(|part| Place::new(format!("obsm/{}", part.name()), part, header)).collect()
}

/// Makes the groups and datasets of a new file, which will have `rows` rows or more.
pub(super) fn begin(file: &Hdf5, places: &[Place], header: &Header, rows: u64) -> Result<()> {
    for (name, value) in encoding("anndata", "0.1.0") {
        file.file.root().set_attr(name, value).map_err(|error| file.refused(name, error))?;
    }
    for (name, columns) in [("obs", names(header)), ("var", vec![])] {
        let order = match columns.is_empty() {
            true => AttrValue::F64Array(vec![]), // as anndata itself writes it
            false => AttrValue::VarLenStringArray(columns),
        };
        let [kind, version] = encoding("dataframe", "0.2.0");
        file.group(name, &[kind, version, ("_index", text("_index")), ("column-order", order)])?;
    }
    file.group("obsm", &encoding("dict", "0.1.0"))?;
    make(file, places, header, rows)?;
    file.commit("new columns")
}

/// Names the rows of a new file.
pub(super) fn name_rows(file: &Hdf5, rows: &Names) -> Result<()> {
    file.texts("obs/_index", &rows.list())?;
    file.texts("var/_index", &[])?;
    file.commit("the names of the rows")
}

/// Names of the columns that go into `obs`.
fn names(header: &Header) -> Vec<String> {
    Part::of_obs(header).into_iter().map(|part| part.name().to_owned()).collect()
}

/// Makes the datasets of groups.
fn make(file: &Hdf5, places: &[Place], header: &Header, rows: u64) -> Result<()> {
    for place in places.iter().filter(|place| place.records.is_none()) {
        let &[part] = &place.parts[..] else { continue };
        if part.is_categorical() {
            let group = format!("obs/{}", part.name());
            let [kind, version] = encoding("categorical", "0.2.0");
            let made = file.file.root().create_group_with(&group, |group| {
                for (name, value) in [kind, version, ("ordered", AttrValue::U8(0))] {
                    group.set_attr(name, value);
                }
            });
            made.map_err(|error| file.refused(&group, error))?;
            let categories = categories(part, header);
            let categories: Vec<&str> = categories.iter().map(String::as_str).collect();
            file.texts(&format!("{group}/categories"), &categories)?;
        }
        let kind = part.datatype(header);
        let made = file.file.root().create_dataset(&place.path, |dataset| place.describe(dataset, kind, header, rows));
        made.map_err(|error| file.refused(&place.path, error))?;
    }
    Ok(())
}

/// The categories of a column: the clusters' numbers, or what people call them.
fn categories(part: Part, header: &Header) -> Vec<String> {
    if part == Part::Name {
        return header.names.clone();
    }
    (0..header.n_clusters).map(|cluster| cluster.to_string()).collect()
}

/// Makes the columns in a copy of `source`, without rows. Returns its number of rows, and the datasets to append to.
pub(super) fn extend(file: &Hdf5, source: &Path, header: &Header) -> Result<(u64, Vec<Place>)> {
    let (rows, mut places) = match file.kind("obs")? {
        Kind::Group => (count(file, source)?, plan_obs(header)),
        Kind::Dataset => {
            let records = Records::open(source, "obs")?;
            (records.rows()?, vec![Place::table("obs", Part::of_obs(header), records)])
        }
        Kind::Nothing => return Err(not_added(source, "it has no obs, so it is not AnnData")),
    };
    match file.kind("obsm")? {
        Kind::Dataset => {
            let records = Records::open(source, "obsm")?;
            places.push(Place::table("obsm", Part::of_obsm(header), records));
        }
        Kind::Group | Kind::Nothing => {
            file.group("obsm", &encoding("dict", "0.1.0"))?;
            places.extend(plan_obsm(header));
        }
    }
    for place in &mut places {
        place.reserve(rows)?;
        match &place.records {
            Some(records) => replace_table(file, place, records, header, rows)?,
            None => file.clear(place.path.trim_end_matches("/codes"))?,
        }
    }
    make(file, &places, header, rows)?;
    if file.kind("obs")? == Kind::Group {
        if header.names.is_empty() {
            file.clear(&format!("obs/{}", Part::Name.name()))?; // an earlier answer's, of other clusters
        }
        list_columns(file, header)?;
    }
    file.commit("new columns")?;
    Ok((rows, places))
}

/// The number of rows, by the index of `obs`.
fn count(file: &Hdf5, source: &Path) -> Result<u64> {
    let refused = |error| file.refused("obs", error);
    let attributes = file.file.group("obs").and_then(|obs| obs.attrs()).map_err(refused)?;
    let Some(index) = attributes.get("_index").and_then(AttrValue::as_str) else {
        return Err(not_added(source, "obs has no index"));
    };
    for path in [format!("obs/{index}"), format!("obs/{index}/values"), format!("obs/{index}/codes")] {
        if file.kind(&path)? == Kind::Dataset {
            let shape = file.file.dataset(&path).and_then(|index| index.shape()).map_err(refused)?;
            return shape.first().copied().ok_or_else(|| not_added(source, "the index of obs is a single value"));
        }
    }
    Err(not_added(source, "the index of obs is of a kind that is not known"))
}

/// Adds the columns to the list of those that `obs` has, in which anndata looks for them.
fn list_columns(file: &Hdf5, header: &Header) -> Result<()> {
    let refused = |error| file.refused("obs/column-order", error);
    let obs = file.file.group("obs").map_err(refused)?;
    let attributes = obs.attrs().map_err(refused)?;
    let old = attributes.get("column-order").and_then(AttrValue::as_strings).unwrap_or(&[]);
    let (new, named) = (names(header), Part::Name.name());
    let kept = old.iter().filter(|name| *name != named || new.contains(*name)).cloned();
    let added = new.iter().filter(|name| !old.contains(*name)).cloned();
    let order: Vec<String> = kept.chain(added).collect();
    obs.set_attr("column-order", AttrValue::VarLenStringArray(order)).map_err(refused)
}

/// Puts an empty table with more fields in the place of a table of records.
fn replace_table(file: &Hdf5, place: &Place, records: &Records, header: &Header, rows: u64) -> Result<()> {
    let kind = records.datatype(&place.parts, header)?;
    file.clear(&place.path)?;
    let made = file.file.root().create_dataset(&place.path, |dataset| {
        place.describe(dataset, kind, header, rows);
        for (name, value) in &records.attributes {
            dataset.set_attr(name, value.clone());
        }
    });
    made.map_err(|error| file.refused(&place.path, error))?;
    let codes = place.parts.iter().filter(|part| part.is_categorical());
    for part in codes {
        let path = format!("uns/{}_categories", part.name());
        file.group("uns", &[])?;
        file.clear(&path)?;
        let categories = categories(*part, header);
        let categories: Vec<&str> = categories.iter().map(String::as_str).collect();
        file.texts(&path, &categories)?;
    }
    Ok(())
}
