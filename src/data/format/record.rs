//! From Arrow record batches to a [`Table`]. Parquet and Arrow files share it: each of them is a [`Source`].
//!
//! A file is read twice at most. The first time takes only the columns of text, because their values decide how many
//! columns the table has. The second time fills the table, whose memory is reserved once.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema};

use super::grid::Kind;
use super::{is_class_name, listing, Pick, Table};
use crate::error::{Error, Result};

mod fill;
mod number;
mod text;

use text::Texts;

/// The column in which pandas keeps the index of a data frame.
const PANDAS_INDEX: &str = "__index_level_0__";
/// As many different texts can become columns of 0 and 1 without being asked for.
const MOST_CATEGORIES: usize = 32;
/// What the name of a column takes in memory, about.
const NAME_BYTES: u64 = 40;
/// A file, or several that are read as one, with columns of one schema.
pub(super) trait Source {
    /// What errors name.
    fn path(&self) -> &Path;
    /// The columns of every batch.
    fn schema(&self) -> &Schema;
    /// How many rows the file claims.
    fn rows(&self) -> u64;
    /// What a person should know about the file.
    fn notes(&self) -> Vec<String> {
        vec![]
    }
    /// Hands every batch of the columns `fields` (they ascend) to `each`, until that breaks.
    fn scan(&self, fields: &[usize], each: &mut Each<'_>) -> Result<()>;
}

/// Takes one batch.
pub(super) type Each<'a> = dyn FnMut(&RecordBatch) -> Result<ControlFlow<()>> + 'a;

/// Runs a decoder, which may panic over damaged files. It must not be used again if it does.
pub(super) fn guarded<T>(decode: impl FnOnce() -> T) -> std::result::Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode))
        .map_err(|_| "its data contradict each other".to_owned())
}

/// Reads `source` as `pick` asks.
pub(super) fn table(source: &dyn Source, pick: &Pick) -> Result<Table> {
    if source.rows() == 0 {
        return Err(Error::data(source.path(), "the file holds no rows; give one that does"));
    }
    let rows = usize::try_from(source.rows())
        .map_err(|_| Error::data(source.path(), "the file claims more rows than memory can hold; it may be damaged"))?;
    let plan = Plan::new(source, pick)?;
    let surveyed = survey(source, pick, &plan, rows)?;
    let mut notes = source.notes();
    notes.extend(plan.notes);
    let Surveyed { slots, columns, ids, labels, notes: more } = surveyed;
    notes.extend(more);
    if slots.is_empty() {
        return Err(Error::data(source.path(), nothing_left(&notes)));
    }
    let values = fill::fill(source, pick, &slots, columns.len(), rows)?;
    Ok(Table { values, columns, ids, labels, notes, ..Table::default() })
}

/// Why a table would have no columns.
fn nothing_left(notes: &[String]) -> String {
    let mut problem = "no column holds numbers".to_owned();
    if !notes.is_empty() {
        problem = format!("{problem} ({})", notes.join("; "));
    }
    format!("{problem}; give a file with columns of numbers, or name columns of text as data.categorical")
}

/// Part of the table's columns, and where they come from.
struct Slot {
    /// The first of the table's columns.
    at: usize,
    /// How many columns it takes.
    width: usize,
    content: Content,
}

/// What fills a [`Slot`].
enum Content {
    /// A column of numbers.
    Number(usize, Kind),
    /// A column of lists of numbers.
    List(usize, Kind),
    /// One text a row: `codes[row]` is the column that holds 1.
    OneHot(Vec<u32>),
}

/// What a column of the file could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Number(Kind),
    List(Kind),
    Text,
}

/// What is done with the columns of a file, as far as their names and types tell.
struct Plan {
    /// The columns that become features, in order, unless a text among them turns out not to.
    features: Vec<(usize, Role)>,
    ids: Option<usize>,
    labels: Option<usize>,
    /// Whether columns of text become features without being asked for.
    guess_categories: bool,
    notes: Vec<String>,
}

impl Plan {
    fn new(source: &dyn Source, pick: &Pick) -> Result<Self> {
        let schema = source.schema();
        let find = |name: &str| find(source.path(), schema, name);
        let labels = pick.label_column.map(find).transpose()?;
        let mut ids = pick.id_column.map(find).transpose()?;
        for name in pick.categorical {
            find(name)?;
        }
        let mut plan = Self { features: vec![], ids: None, labels, guess_categories: false, notes: vec![] };
        let named: Option<Vec<usize>> = match (pick.array, pick.columns) {
            (Some(array), _) => Some(vec![array_column(source, find(array)?)?]),
            (None, []) => None,
            (None, columns) => Some(columns.iter().map(|name| find(name)).collect::<Result<_>>()?),
        };
        let index = schema.fields().iter().position(|field| field.name() == PANDAS_INDEX);
        if ids.is_none() && labels != index {
            ids = index.filter(|&at| number::is_text(schema.field(at).data_type()));
        }
        plan.ids = ids;
        let taken = |at: &usize| Some(*at) == ids || Some(*at) == labels;
        match named {
            Some(fields) => {
                for at in fields.into_iter().filter(|at| !taken(at)) {
                    plan.features.push((at, named_role(source, pick, at)?));
                }
            }
            None => plan.all(source, pick, |at| taken(at) || Some(*at) == index)?,
        }
        Ok(plan)
    }

    /// Takes every column that can be used.
    fn all(&mut self, source: &dyn Source, pick: &Pick, taken: impl Fn(&usize) -> bool) -> Result<()> {
        let schema = source.schema();
        let mut unusable = vec![];
        for at in (0..schema.fields().len()).filter(|at| !taken(at)) {
            match role(pick, schema, at) {
                Some(role) => self.features.push((at, role)),
                None => unusable.push(schema.field(at).name().as_str()),
            }
        }
        let is_list = |(_, role): &&(usize, Role)| matches!(role, Role::List(_));
        let lists: Vec<usize> = self.features.iter().filter(is_list).map(|&(at, _)| at).collect();
        let names: Vec<&str> = lists.iter().map(|&at| schema.field(at).name().as_str()).collect();
        let numbers = self
            .features
            .iter()
            .any(|(at, role)| matches!(role, Role::Number(_)) || pick.categorical.contains(schema.field(*at).name()));
        if numbers && !lists.is_empty() {
            self.features.retain(|(at, _)| !lists.contains(at));
            let what = if lists.len() == 1 { "holds lists of numbers and is" } else { "hold lists of numbers and are" };
            self.notes.push(format!("{} {what} left out; take it alone with data.array", columns_listed(&names)));
        } else if lists.len() > 1 {
            let problem =
                format!("{} each hold lists of numbers; name one of them as data.array", columns_listed(&names));
            return Err(Error::data(source.path(), problem));
        }
        self.guess_categories = numbers || lists.is_empty();
        if !unusable.is_empty() {
            let is = if unusable.len() == 1 { "is" } else { "are" };
            let which = columns_listed(&unusable);
            self.notes.push(format!("{which} {is} of a type that is not supported and left out"));
        }
        Ok(())
    }
}

/// The place of the column `name`.
fn find(path: &Path, schema: &Schema, name: &str) -> Result<usize> {
    schema.fields().iter().position(|field| field.name() == name).ok_or_else(|| {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let problem = format!("no column is called \"{name}\"; it has {}; correct the name", columns_listed(&names));
        Error::data(path, problem)
    })
}

/// The column that `pick.array` named, if it is one of lists.
fn array_column(source: &dyn Source, at: usize) -> Result<usize> {
    let field = source.schema().field(at);
    if number::list_kind(field.data_type()).is_some() {
        return Ok(at);
    }
    let (name, kind) = (field.name(), field.data_type());
    let problem = format!("column {name} is of type {kind} and holds no lists of numbers; name it as data.columns");
    Err(Error::data(source.path(), problem))
}

/// What the column `at` can be; `None` if nothing.
fn role(pick: &Pick, schema: &Schema, at: usize) -> Option<Role> {
    let field = schema.field(at);
    let kind = field.data_type();
    if number::is_text(kind) || (pick.categorical.contains(field.name()) && text::can_be_text(kind)) {
        return Some(Role::Text);
    }
    number::kind(kind).map(Role::Number).or_else(|| number::list_kind(kind).map(Role::List))
}

/// What a column is that was asked for by name.
fn named_role(source: &dyn Source, pick: &Pick, at: usize) -> Result<Role> {
    role(pick, source.schema(), at).ok_or_else(|| {
        let field = source.schema().field(at);
        let (name, kind) = (field.name(), field.data_type());
        Error::data(source.path(), format!("column {name} is of type {kind}, which cannot be used; leave it out"))
    })
}

/// "column a", or "columns a, b and 3 more".
fn columns_listed(names: &[&str]) -> String {
    let word = if names.len() == 1 { "column" } else { "columns" };
    format!("{word} {}", listing(names, str::to_owned))
}

/// What the texts of a file decided.
struct Surveyed {
    slots: Vec<Slot>,
    columns: Vec<String>,
    ids: Vec<String>,
    labels: Option<Vec<Option<String>>>,
    notes: Vec<String>,
}

/// What becomes of one column of text.
enum Fate {
    OneHot,
    Ids,
    Left,
}

/// Reads the columns of text, and the widths of lists, and settles the table's columns.
fn survey(source: &dyn Source, pick: &Pick, plan: &Plan, rows: usize) -> Result<Surveyed> {
    let mut texts = read_texts(source, pick, plan, rows)?;
    let mut done = Surveyed { slots: vec![], columns: vec![], ids: vec![], labels: None, notes: vec![] };
    // An id column and a label column may be one and the same.
    if let Some(at) = plan.labels {
        done.labels = Some(if plan.ids == plan.labels {
            texts.get(at).map(Texts::to_options).unwrap_or_default()
        } else {
            texts.take(at).map(Texts::into_options).unwrap_or_default()
        });
    }
    if let Some(at) = plan.ids {
        done.ids = texts.take(at).map(Texts::into_strings).unwrap_or_default();
    }
    let (mut left, mut distinct) = (vec![], HashSet::new());
    for &(at, role) in &plan.features {
        let name = source.schema().field(at).name();
        if !distinct.insert(at) {
            return Err(Error::data(source.path(), format!("column {name} is picked twice; name it once")));
        }
        match role {
            Role::Number(kind) => push(&mut done, vec![name.clone()], Content::Number(at, kind)),
            Role::List(kind) => {
                let width = fill::list_width(source, at)?;
                check_names(source.path(), pick, name, width)?;
                push(&mut done, (0..width).map(|i| format!("{name}_{i}")).collect(), Content::List(at, kind));
            }
            Role::Text => {
                let Some(found) = texts.take(at) else { continue };
                match fate(source, pick, plan, &mut done, (name, &found), rows)? {
                    Fate::OneHot => {
                        let (values, codes) = found.into_categories();
                        check_names(source.path(), pick, name, values.len())?;
                        let names = values.iter().map(|value| format!("{name}={value}")).collect();
                        push(&mut done, names, Content::OneHot(codes));
                    }
                    Fate::Ids => done.ids = found.into_strings(),
                    Fate::Left => left.push(name.as_str()),
                }
            }
        }
    }
    left.retain(|name| !is_class_name(name));
    if !left.is_empty() {
        let is = if left.len() == 1 { "is" } else { "are" };
        done.notes.push(format!("{} {is} text and left out", columns_listed(&left)));
    }
    Ok(done)
}

/// Refuses more columns than may have their names, each of which begins with `name`.
fn check_names(path: &Path, pick: &Pick, name: &str, width: usize) -> Result<()> {
    let bytes = (width as u64).saturating_mul(NAME_BYTES.saturating_add(name.len() as u64));
    pick.check_bytes(path, "the names of its columns", bytes)
}

/// Adds columns of the table.
fn push(done: &mut Surveyed, names: Vec<String>, content: Content) {
    done.slots.push(Slot { at: done.columns.len(), width: names.len(), content });
    done.columns.extend(names);
}

/// Decides over one column of text, and notes what a person did not ask for.
fn fate(
    source: &dyn Source,
    pick: &Pick,
    plan: &Plan,
    done: &mut Surveyed,
    (name, found): (&String, &Texts),
    rows: usize,
) -> Result<Fate> {
    let distinct = found.distinct();
    let few = distinct.is_some_and(|count| (1..=MOST_CATEGORIES).contains(&count));
    if pick.categorical.contains(name) {
        if distinct.is_some_and(|count| count > 0) {
            return Ok(Fate::OneHot);
        }
        return Err(Error::data(source.path(), format!("column {name} holds no text at all; leave it out")));
    }
    if pick.columns.contains(name) {
        if few {
            return Ok(Fate::OneHot);
        }
        let problem = format!(
            "column {name} is text with more than {MOST_CATEGORIES} different values or none; leave it out of \
             data.columns, or name it as data.categorical too"
        );
        return Err(Error::data(source.path(), problem));
    }
    if is_class_name(name) {
        done.notes.push(format!("column {name} looks like labels and is left out; score with --label-column {name}"));
        return Ok(Fate::Left);
    }
    if found.all_different() {
        if plan.ids.is_none() && done.ids.is_empty() {
            done.notes.push(format!("column {name} differs in every row and names the rows"));
            return Ok(Fate::Ids);
        }
        return Ok(Fate::Left);
    }
    let limit = if rows < 200 { 20 } else { rows / 10 };
    match distinct {
        Some(count @ 2..=MOST_CATEGORIES) if plan.guess_categories && count <= limit => {
            done.notes.push(format!("column {name} is text and becomes {count} columns of 0 and 1"));
            Ok(Fate::OneHot)
        }
        _ => Ok(Fate::Left),
    }
}

/// The texts of some columns.
struct Collected(Vec<(usize, Option<Texts>)>);

impl Collected {
    fn get(&self, at: usize) -> Option<&Texts> {
        self.0.iter().find(|(field, _)| *field == at).and_then(|(_, texts)| texts.as_ref())
    }

    fn take(&mut self, at: usize) -> Option<Texts> {
        self.0.iter_mut().find(|(field, _)| *field == at).and_then(|(_, texts)| texts.take())
    }
}

/// Reads the columns that are needed as text.
fn read_texts(source: &dyn Source, pick: &Pick, plan: &Plan, rows: usize) -> Result<Collected> {
    let schema = source.schema();
    let is_text = |&&(_, role): &&(usize, Role)| role == Role::Text;
    let mut fields: Vec<usize> = plan.features.iter().filter(is_text).map(|&(at, _)| at).collect();
    fields.extend(plan.ids.into_iter().chain(plan.labels));
    fields.sort_unstable();
    fields.dedup();
    let mut all = Collected(vec![]);
    for &at in &fields {
        let field = schema.field(at);
        if !text::can_be_text(field.data_type()) {
            return Err(unreadable(source.path(), field.name(), field.data_type()));
        }
        let asked = [plan.ids, plan.labels].contains(&Some(at)) || pick.categorical.contains(field.name());
        all.0.push((at, Some(Texts::new(asked))));
    }
    if fields.is_empty() {
        return Ok(all);
    }
    // Arrays of nulls take nothing in the file, whatever their length.
    pick.check_bytes(source.path(), "the texts of its rows", (rows as u64).saturating_mul(size_of::<u32>() as u64))?;
    source.scan(&fields, &mut |batch| {
        for ((at, texts), array) in all.0.iter_mut().zip(batch.columns()) {
            let Some(texts) = texts else { continue };
            let field = schema.field(*at);
            if !texts.add(array.as_ref()) {
                return Err(unreadable(source.path(), field.name(), field.data_type()));
            }
            let bytes = texts.bytes();
            if texts.asked() {
                pick.check_bytes(source.path(), &format!("the texts of column {}", field.name()), bytes)?;
            } else if bytes > pick.most_bytes / 8 {
                texts.give_up();
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some((_, Some(texts))) = all.0.iter().find(|(_, texts)| texts.as_ref().is_some_and(|t| t.rows() != rows)) {
        return Err(wrong_rows(source.path(), texts.rows(), rows));
    }
    Ok(all)
}

/// For columns whose type no text can be made of.
fn unreadable(path: &Path, name: &str, kind: &DataType) -> Error {
    Error::data(path, format!("column {name} is of type {kind}, which cannot be taken as text; pick another column"))
}

/// For files that hold fewer or more rows than they claim.
fn wrong_rows(path: &Path, found: usize, claimed: usize) -> Error {
    let problem = format!("the file claims {claimed} rows, but holds {found}; it is damaged, copy it again");
    Error::data(path, problem)
}
