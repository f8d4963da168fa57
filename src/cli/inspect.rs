//! `dec inspect`: what a file holds, and what training would make of it.

use std::fmt::Write as _;

use clap::Args;
use dec::backend::memory::human;
use dec::config::Config;
use dec::control::Control;
use dec::data::{Dataset, Health, RowKind, RowRule, Scaling};
use dec::run::{estimate, expected, Estimate};
use dec::state::{Task, ToldBy};

use super::recipe::{classes_of, load_data, RecipeArgs};

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Print a recipe with the choices that would be made, each with its reason, and nothing else
    #[arg(long = "recipe")]
    recipe_file: bool,

    #[command(flatten)]
    recipe: RecipeArgs,
}

impl InspectArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        self.recipe.refuse_auto()?;
        let mut recipe = self.recipe.resolve()?;
        super::recipe::set_threads(recipe.config.threads)?;
        let dataset = load_data(&recipe.config)?;
        let labelled = classes_of(&dataset);
        if let (false, Some(classes)) = (self.recipe.says_clusters(), labelled) {
            recipe.config.n_clusters = classes;
        }
        // So that a handful of rows can be looked at too.
        recipe.config.n_clusters = recipe.config.n_clusters.min(dataset.n_rows().max(1));
        let task = Task::new(&recipe.config.clone().check()?, &dataset, tch::Device::Cpu)?;
        if self.recipe_file {
            return super::print(&commented(&recipe.config, &task));
        }
        super::print(&page(&recipe.config, &dataset, &task)?)
    }
}

/// One screen.
fn page(config: &Config, dataset: &Dataset, task: &Task) -> dec::Result<String> {
    let mut lines: Vec<(&str, String)> = vec![("data", dataset.name.clone())];
    let (n, d, element) = (dataset.n_rows(), dataset.n_features(), dataset.features.element_bytes());
    let in_memory = if task.rows.is_streamed() { 0 } else { element };
    let (health, needed) = (Health::of(&dataset.features)?, estimate(config, n, d, in_memory));
    let kind = if element == 1 { "bytes" } else { "float32" };
    let streamed = if task.rows.is_streamed() { ", read a batch at a time" } else { "" };
    lines.push(("rows", format!("{n} of {d} values ({kind}, {}{streamed})", human((n * d * element) as u64))));
    if let Some(selection) = &dataset.intake.selected {
        lines.push((
            "columns",
            format!("{} of {} are kept, those that vary most", selection.columns.len(), selection.of),
        ));
    }
    if !dataset.columns.is_empty() {
        lines.push(("names", some(&dataset.columns)));
    }
    if !dataset.ids.is_empty() {
        lines.push(("ids", some(&dataset.ids)));
    }
    if dataset.intake.offset.is_some() {
        lines.push(("offset", "columns far from 0 have their means taken off in float64".to_owned()));
    }
    if let Some(classes) = dataset.n_classes() {
        let unlabelled = dataset.labels.iter().flatten().filter(|&&label| label < 0).count();
        let names = if dataset.classes.is_empty() { String::new() } else { format!(": {}", some(&dataset.classes)) };
        lines.push(("labels", format!("{classes} classes{names}; {unlabelled} rows without one")));
    }
    lines.push(("taken for", kind_text(task)));
    lines.push(("scaling", scaling_of(&task.scaling).1.to_owned()));
    let widths: Vec<String> = task.widths().iter().map(i64::to_string).collect();
    lines.push(("network", widths.join(" - ")));
    lines.push(("clusters", config.n_clusters.to_string()));
    lines.push((
        "health",
        format!(
            "{} constant columns, {} columns that repeat another, {} rows that repeat another",
            health.constant_columns, health.duplicate_columns, health.duplicate_rows
        ),
    ));
    lines.push(("memory", format!("about {} at the most in training", human(needed.peak()))));
    lines.push(("time", time_text(task, &needed)?));
    Ok(lines.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<10} {value}");
        text
    }))
}

/// How long training would take; what takes a moment here to measure needs some of the memory that training needs.
fn time_text(task: &Task, needed: &Estimate) -> dec::Result<String> {
    if needed.check(dec::backend::available_bytes()).is_err() {
        return Ok("not measured: the memory that is free now would not do".to_owned());
    }
    let expected = expected(task, &mut Control::ignored())?;
    let threads = dec::backend::threads::count();
    let on = if threads == 1 { "one thread".to_owned() } else { format!("{threads} threads") };
    Ok(format!("{expected} on the CPU with {on}, as busy as it is now"))
}

fn some(names: &[String]) -> String {
    const MOST: usize = 6;
    let more = if names.len() > MOST { format!(", ... ({} in all)", names.len()) } else { String::new() };
    let shown = names.iter().take(MOST).map(|name| super::shown(name));
    shown.collect::<Vec<_>>().join(", ") + &more
}

fn kind_text(task: &Task) -> String {
    let what = match task.kind.rows {
        RowKind::Image([height, width]) => format!("images of {height} x {width} pixels"),
        RowKind::Colour([height, width], channels) => {
            let order = if channels.first { "channels first" } else { "channels last" };
            format!("images of {height} x {width} pixels in {} channels ({order})", channels.count)
        }
        RowKind::Series => "series".to_owned(),
        RowKind::Table => "a table".to_owned(),
    };
    let why = match (task.kind.told_by, task.kind.margin) {
        (ToldBy::Recipe, _) => "the recipe says so".to_owned(),
        (ToldBy::File, _) => "by the file's shape".to_owned(),
        (ToldBy::Values, Some(margin)) => {
            format!("neighbouring values hang together, by a margin of {margin:.2}; 0.10 would do")
        }
        (ToldBy::Values, None) => "neighbouring values do not hang together as in an image".to_owned(),
    };
    let moved = if task.is_moved() { "moved at random in training" } else { "noise and dropped values in training" };
    format!("{what} ({why}); {moved}")
}

/// The setting that a table's scaling comes from, where one does, and what it does.
fn scaling_of(scaling: &Scaling) -> (&'static str, &'static str) {
    match scaling {
        Scaling::Factor(_) => ("", "one factor for all values"),
        Scaling::Centre { rows: RowRule::Counts(_), .. } => {
            ("counts", "counts: rows to one total, ln(1 + x), each column centred")
        }
        Scaling::Centre { rows: RowRule::Unit, .. } => ("unit", "directions: rows to length 1, each column centred"),
        Scaling::Centre { deviation, .. } if deviation.iter().any(|s| *s != deviation[0]) => {
            ("standardise", "standardised: each column to mean 0 and deviation 1")
        }
        Scaling::Centre { .. } => ("centre", "centred: each column to mean 0, all over one deviation"),
    }
}

/// The recipe's settings that describe data, with the reasons.
fn commented(config: &Config, task: &Task) -> String {
    let is_image = matches!(task.kind.rows, RowKind::Image(_) | RowKind::Colour(..));
    let scale = match (&task.scaling, scaling_of(&task.scaling)) {
        (Scaling::Factor(factor), _) => format!("{factor:?}"),
        (Scaling::Centre { rows: RowRule::Plain, .. }, _) if is_image => "\"auto\"".to_owned(),
        (_, (setting, _)) => format!("\"{setting}\""),
    };
    let (kind, image) = match task.kind.rows {
        RowKind::Image([h, w]) | RowKind::Colour([h, w], _) => ("image", format!("image = [{h}, {w}]\n")),
        RowKind::Series => ("time_shift", String::new()),
        RowKind::Table => ("noise", String::new()),
    };
    let data = toml::to_string(&config.data).unwrap_or_default();
    let data: String =
        data.lines().filter(|line| !line.starts_with("scale =")).map(|line| format!("{line}\n")).collect();
    format!(
        "# What `dec inspect` would choose for {}. `dec --config FILE` trains by it.\n\nn_clusters = {}\n\n[data]\n{data}\
         scale = {scale} # {}\n\n[augment]\nkind = \"{kind}\" # {}\n{image}",
        super::shown(&task.data_name),
        config.n_clusters,
        scaling_of(&task.scaling).1,
        kind_text(task)
    )
}
