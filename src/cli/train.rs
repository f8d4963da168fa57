//! `dec`: one run, from rows to its run directory.

use std::path::{Path, PathBuf};

use clap::Args;
use dec::run::{Content, RunDir};

use super::console::Console;
use super::recipe::{free, RecipeArgs};
use super::resume;
use super::session::{ClustersBy, Session, Start};

#[derive(Debug, PartialEq, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    recipe: RecipeArgs,

    /// Start from a finished run: its recipe, network, scaling and clusters, which keep their numbers, and new clusters of rows that are
    /// in none of them
    #[arg(long, value_name = "RUN", conflicts_with = "clusters")]
    warm_start: Option<PathBuf>,

    /// Run directory [default: runs/<recipe>-<time>]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write over the run that --out holds
    #[arg(long, requires = "out")]
    force: bool,

    /// Write the run for TensorBoard too, to tensorboard/ in its directory: tensorboard --logdir DIR
    #[arg(long)]
    tensorboard: bool,

    /// Go on with the run that --out holds, if there is one with these settings; done at once if it has finished. For
    /// schedulers that start a job again
    #[arg(long, requires = "out", conflicts_with = "force")]
    resume_if_there: bool,

    /// Train what other runs have in common with this one once for all that name the same directory: autoencoders, and starts
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
}

impl TrainArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        let mut recipe = self.recipe.resolve_from(self.warm_start.as_deref())?;
        recipe.config.output.tensorboard |= self.tensorboard;
        if let Some(from) = &recipe.config.start.from {
            self.check_start(from)?;
        }
        if !recipe.config.sweep.is_empty() {
            let problem = format!("the recipe {} has a [sweep] table; run it with `dec sweep`", recipe.name);
            return Err(dec::Error::Config(problem).into());
        }
        if let (Some(out), true) = (&self.out, self.resume_if_there) {
            if let Some(ended) = resume::if_there(
                out,
                &recipe,
                self.recipe.says_clusters() && !self.recipe.chooses_clusters(),
                self.share.as_deref(),
                console,
            ) {
                return ended;
            }
        }
        let by = match (self.recipe.chooses_clusters(), self.recipe.says_clusters()) {
            (true, _) => ClustersBy::Search,
            _ if recipe.config.start.from.is_some() => ClustersBy::Recipe,
            (false, true) => ClustersBy::Recipe,
            (false, false) => ClustersBy::Labels,
        };
        let session = Session::prepare(recipe, by)?.sharing(self.share.as_deref());
        session.start(console, |name| self.directory(name), Start::New)
    }

    /// Refuses a number of clusters beside a run to start from, and to write over that run.
    fn check_start(&self, from: &Path) -> dec::Result<()> {
        if self.recipe.asks_for_clusters() {
            let problem = format!(
                "the clusters are those of {}, and what new ones there are: leave the number of clusters out, or start.from",
                from.display()
            );
            return Err(dec::Error::Config(problem));
        }
        let same = |out: &Path| super::same_place(out, from);
        match &self.out {
            Some(out) if same(out) => {
                Err(dec::Error::output(out, "is the run to start from, which stays as it is; name another with --out"))
            }
            _ => Ok(()),
        }
    }

    /// Makes the run directory.
    fn directory(&self, recipe: &str) -> dec::Result<RunDir> {
        match &self.out {
            Some(path) => {
                RunDir::create(path, self.force || self.resume_if_there).map_err(|problem| with_flags(problem, path))
            }
            None => RunDir::create(&default_out(recipe), false),
        }
    }
}

/// What the options of the command line can do about a directory that is taken.
pub(super) fn with_flags(problem: dec::Error, path: &Path) -> dec::Error {
    let remedy = match RunDir::content(path) {
        Content::Unfinished => format!("go on with it (dec resume {}), name another", path.display()),
        Content::Results | Content::Nothing => "name another".to_owned(),
    };
    match problem {
        dec::Error::Output { path, problem } if problem.starts_with("this directory holds") => dec::Error::output(
            path,
            format!("{problem}; {remedy} with --out, or write over what is there with --force"),
        ),
        dec::Error::Output { path, problem } if !problem.contains("--out") => {
            dec::Error::output(path, format!("{problem}; name another with --out"))
        }
        other => other,
    }
}

/// `runs/<recipe>-<time>`, with a number behind it where that is taken.
pub(super) fn default_out(recipe: &str) -> PathBuf {
    let time = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S");
    free(&Path::new("runs").join(format!("{recipe}-{time}")))
}
