//! `dec choose-k`: how many clusters there may be, found in one pretrained autoencoder.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use dec::choose::{Choice, KRange};
use dec::config::{Config, Recipe};
use dec::data::Dataset;
use dec::estimator::set_up_machine;
use dec::report::{choice_csv, choice_svg, choice_table};
use dec::run::{write_atomic, EventLog, RunDir, Trainer, CHOICE, CHOICE_PLOT, CHOICE_TABLE, EVENTS};
use dec::DecValidParams;
use serde_json::json;

use super::console::Console;
use super::interrupt;
use super::recipe::{load_data, RecipeArgs};
use super::session::RunObserver;
use super::train::{default_out, with_flags};

#[derive(Debug, Args)]
pub struct ChooseKArgs {
    #[command(flatten)]
    recipe: RecipeArgs,

    /// Numbers of clusters to try, the first and the last one [default: 2..30, fewer of few rows]
    #[arg(long, value_name = "FROM..TO")]
    range: Option<KRange>,

    /// Directory for choose-k.json, choose-k.csv, choose-k.svg and config.toml [default: runs/choose-k-<recipe>-<time>]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write over the run that --out holds
    #[arg(long, requires = "out")]
    force: bool,
}

impl ChooseKArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        let mut recipe = self.recipe.resolve()?;
        if self.recipe.gives_clusters() {
            let problem =
                "choose-k looks for the number of clusters: --range A..B says which are tried, not --clusters";
            return Err(dec::Error::Config(problem.to_owned()).into());
        }
        if recipe.config.start.from.is_some() {
            let problem = "choose-k pretrains a network, and the recipe starts from a run (start.from): leave that out";
            return Err(dec::Error::Config(problem.to_owned()).into());
        }
        if !recipe.config.sweep.is_empty() {
            let problem = format!("the recipe {} has a [sweep] table, and choose-k takes one recipe", recipe.name);
            return Err(dec::Error::Config(problem).into());
        }
        let device = set_up_machine(&recipe.config)?;
        let dataset = load_data(&recipe.config)?;
        let range = self.range.unwrap_or_default();
        recipe.config.n_clusters = check(range, &recipe.config, &dataset)?.from();
        let mut trainer = DecValidParams::of_recipe(recipe.clone())?.trainer(&dataset, device)?;
        let dir = self.directory(&recipe.name)?;
        tracing::info!("{}: {} rows; writing to {}", dataset.name, dataset.n_rows(), dir.path().display());
        interrupt::save_first();
        let (choice, _) = look(&mut trainer, range, &dir, console)?;
        recipe.config.n_clusters = choice.recommended;
        dir.write_config(&recipe.config)?;
        write_choice(&dir, &choice, &recipe, &dataset.name)?;
        let text = format!("{}\nrun directory: {}\n", choice_table(&choice), dir.path().display());
        super::print(&text)
    }

    fn directory(&self, recipe: &str) -> dec::Result<RunDir> {
        match &self.out {
            Some(path) => RunDir::create(path, self.force).map_err(|problem| with_flags(problem, path)),
            None => RunDir::create(&default_out(&format!("choose-k-{recipe}")), false),
        }
    }
}

/// The range for the rows that the search will see.
pub(super) fn check(range: KRange, config: &Config, dataset: &Dataset) -> dec::Result<KRange> {
    range.check(config.data.rows_of(dataset.n_rows()).min(config.start.max_rows))
}

/// Pretrains and chooses, with what happens in the directory's log, which is returned.
pub(super) fn look(
    trainer: &mut Trainer,
    range: KRange,
    dir: &RunDir,
    console: &Console,
) -> anyhow::Result<(Choice, EventLog)> {
    let mut observer = RunObserver::new(console, EventLog::create(&dir.file(EVENTS))?);
    let looked = catch_unwind(AssertUnwindSafe(|| {
        trainer.pretrain(&mut observer).and_then(|()| trainer.choose_k(range, &mut observer))
    }));
    let log = observer.into_log();
    let choice = looked.unwrap_or_else(|payload| Err(dec::Error::from_payload(&*payload)));
    if matches!(choice, Err(dec::Error::Interrupted)) {
        tracing::warn!("interrupted before the number of clusters was found; nothing is kept, start it again");
    }
    Ok((choice?, log.context("the event log is in use")?))
}

/// Writes what was found: the table and the plot first, then the JSON, whose presence says that all of it is there.
pub(super) fn write_choice(dir: &RunDir, choice: &Choice, recipe: &Recipe, data: &str) -> anyhow::Result<()> {
    write_atomic(&dir.file(CHOICE_TABLE), choice_csv(choice).as_bytes())?;
    write_atomic(&dir.file(CHOICE_PLOT), choice_svg(choice).as_bytes())?;
    let mut value = serde_json::to_value(choice)?;
    value["data"] = json!(data);
    value["recipe"] = json!(recipe.name);
    value["seed"] = json!(recipe.config.seed);
    write_atomic(&dir.file(CHOICE), &serde_json::to_vec_pretty(&value)?)?;
    Ok(())
}
