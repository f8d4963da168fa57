//! `dec`: one run, from rows to its run directory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use dec::backend::device_name;
use dec::config::Recipe;
use dec::report::results_table;
use dec::run::{EventLog, RunDir, Summary, EVENTS};
use dec::train::{Event, Observer, Trainer};

use super::console::{Console, Progress};
use super::interrupt;
use super::recipe::{load_data, set_up_machine, RecipeArgs};

#[derive(Debug, PartialEq, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    recipe: RecipeArgs,

    /// Run directory [default: runs/<recipe>-<time>]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write into --out even if it is not empty
    #[arg(long, requires = "out")]
    force: bool,
}

impl TrainArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        let recipe = self.recipe.resolve()?;
        if !recipe.config.sweep.is_empty() {
            let problem = format!("the recipe {} has a [sweep] table; run it with `dec sweep`", recipe.name);
            return Err(dec::Error::Config(problem).into());
        }
        let device = set_up_machine(&recipe.config)?;
        let dataset = load_data(&recipe.config)?;
        let mut trainer = Trainer::new(&recipe.config, &dataset, device)?;
        let dir = match &self.out {
            Some(path) => RunDir::create(path, self.force)?,
            None => RunDir::create(&default_out(&recipe.name), false)?,
        };
        dir.write_config(&recipe.config)?;
        tracing::info!(
            "{}: {} rows of {} features, {} clusters, on {}; writing to {}",
            trainer.data_name(),
            trainer.n_rows(),
            trainer.n_features(),
            recipe.config.n_clusters,
            device_name(device),
            dir.path().display()
        );
        drop(dataset); // the trainer has its own, shuffled

        let started = Instant::now();
        let mut observer = RunObserver { progress: console.progress(), log: EventLog::create(&dir.file(EVENTS))? };
        let ended = run_to_the_end(&mut trainer, &mut observer);
        observer.progress.finish();
        finish(&recipe, &dir, &trainer, ended, started)
    }
}

/// Writes what was reached, shows it, and passes on how training ended.
fn finish(
    recipe: &Recipe,
    dir: &RunDir,
    trainer: &Trainer,
    ended: dec::Result<()>,
    started: Instant,
) -> anyhow::Result<()> {
    let summary = Summary::new(recipe, trainer, &ended, started.elapsed().as_secs_f64());
    let written = dir.write_outcome(trainer, &summary);
    let mut text = if trainer.results.is_empty() { String::new() } else { results_table(&trainer.results) + "\n" };
    text += &format!("run directory: {}\n", dir.path().display());
    let shown = super::print(&text);
    if written.is_ok() && matches!(ended, Err(dec::Error::Interrupted)) {
        tracing::warn!("interrupted; what was reached until then is saved in {}", dir.path().display());
    }
    // How training ended weighs more than that it could not be written, and that more than that nobody reads the table.
    ended?;
    written?;
    shown
}

/// Runs every stage. Memory that runs out inside the network is a panic of tch: it ends the run as a failure, so that what
/// was reached is saved all the same.
fn run_to_the_end(trainer: &mut Trainer, observer: &mut RunObserver) -> dec::Result<()> {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trainer.run(observer)));
    ran.unwrap_or_else(|payload| {
        Err(dec::Error::Training(format!("training stopped: {}", super::panic_text(&*payload))))
    })
}

/// `runs/<recipe>-<time>`, with a number behind it where that is taken.
fn default_out(recipe: &str) -> PathBuf {
    let time = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S");
    let base = Path::new("runs").join(format!("{recipe}-{time}"));
    let numbered = (2..).map(|n| Path::new("runs").join(format!("{recipe}-{time}-{n}")));
    std::iter::once(base.clone()).chain(numbered).find(|path| !path.exists()).unwrap_or(base)
}

/// Shows progress, logs events, and passes Ctrl-C on.
struct RunObserver {
    progress: Progress,
    log: EventLog,
}

impl Observer for RunObserver {
    fn on_event(&mut self, event: &Event) {
        self.log.on_event(event);
        self.progress.on_event(event);
    }

    fn should_stop(&self) -> bool {
        interrupt::requested()
    }
}
