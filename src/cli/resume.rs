//! `dec resume`: goes on with a run that was stopped or killed, from its newest checkpoint.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use dec::backend::ranks;
use dec::config::{Config, Recipe};
use dec::run::{Checkpoint, Content, RunDir, CHOICE, CONFIG, SUMMARY};
use serde_json::Value;

use super::console::Console;
use super::session::{ClustersBy, Session, Start};

#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Change a setting that has not mattered yet, such as cluster.lr before self-training; may be repeated
    #[arg(short, long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,

    /// Threads that compute on the CPU: as many as the run began with
    #[arg(long, value_name = "N")]
    threads: Option<String>,

    /// Where to compute: where the run began
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// The directory that the run began with, if it had one; see `dec --help`
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
}

impl ResumeArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        let dir = ranks::join()?.is_first().then(|| RunDir::open(&self.run)).transpose()?;
        let Some(checkpoint) = Checkpoint::newest(&self.run)? else { return Err(nothing_to_resume(&self.run)) };
        let before: Config = toml::from_str(checkpoint.config())
            .map_err(|e| dec::Error::data(checkpoint.path(), format!("its recipe cannot be read: {}", e.message())))?;
        let mut recipe = Recipe { name: checkpoint.identity().recipe.clone(), config: before.clone() };
        recipe.set(&self.set)?;
        let mut changed = recipe.config.clone();
        if let Some(threads) = &self.threads {
            recipe.config.threads = threads.parse()?;
        }
        if let Some(device) = &self.device {
            recipe.config.device.clone_from(device);
        }
        recipe.config.validate()?;
        (changed.threads, changed.device) = (before.threads, before.device.clone());
        let session = Session::prepare(recipe, ClustersBy::Recipe)?.sharing(self.share.as_deref());
        session.check_changes(&before, &changed, &checkpoint)?;
        let directory = |_: &str| match dir {
            Some(dir) => Ok(dir),
            None => RunDir::open(&self.run), // not asked of those that do not write
        };
        session.start(console, directory, Start::Checkpoint(Box::new(checkpoint)))
    }
}

/// Why a directory without a checkpoint cannot be resumed, and what can be done.
fn nothing_to_resume(run: &Path) -> anyhow::Error {
    let summary: Value =
        fs::read(run.join(SUMMARY)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let config = run.join(CONFIG);
    let anew = format!("start it anew (dec --config {} --out {} --force)", config.display(), run.display());
    if let Some(from) = summary["merged"]["from"].as_str() {
        let problem = format!(
            "the clusters of this run were joined by `dec merge`, and there is nothing to train on with; the run that they are \
             of is {}",
            super::shown(from)
        );
        return dec::Error::output(run, problem).into();
    }
    let problem = match (summary["status"].as_str(), summary["format"].as_u64()) {
        (Some("finished"), _) => "this run has finished: there is nothing to go on with".to_owned(),
        (Some(status), None) => {
            format!("this run ({status}) is of format 1, an earlier dec's, which kept no checkpoints; {anew}")
        }
        (Some(status), Some(_)) => format!("this run ({status}) has no checkpoint; {anew}"),
        (None, _) if config.exists() && run.join(CHOICE).exists() => {
            format!("here is what `dec choose-k` found, which is no run: train with dec --config {}", config.display())
        }
        (None, _) if config.exists() => format!("this run was stopped before its first checkpoint; {anew}"),
        (None, _) => "this is no run directory: it has neither checkpoints nor a summary".to_owned(),
    };
    dec::Error::output(run, problem).into()
}

/// For `--resume-if-there`: goes on with the run in `out`, or says that it has finished. `None` where a new run is to begin.
pub fn if_there(
    out: &Path,
    recipe: &Recipe,
    says_clusters: bool,
    share: Option<&Path>,
    console: &Console,
) -> Option<anyhow::Result<()>> {
    let same = |text: &str| {
        toml::from_str::<Config>(text).is_ok_and(|config| {
            let n_clusters = if says_clusters { recipe.config.n_clusters } else { config.n_clusters };
            config.trains_as(&Config { n_clusters, ..recipe.config.clone() })
        })
    };
    let other = || {
        let problem =
            "this directory holds a run with other settings; name another with --out, or write over it with --force";
        Some(Err(dec::Error::output(out, problem).into()))
    };
    match RunDir::content(out) {
        Content::Nothing => None,
        Content::Unfinished => {
            let checkpoint = match Checkpoint::newest(out) {
                Ok(Some(checkpoint)) => checkpoint,
                Ok(None) => return None,
                Err(problem) => return Some(Err(problem.into())),
            };
            if !same(checkpoint.config()) {
                return other();
            }
            drop(checkpoint);
            let args = ResumeArgs {
                run: out.to_owned(),
                set: Vec::new(),
                threads: None,
                device: None,
                share: share.map(Path::to_owned),
            };
            Some(args.run(console))
        }
        Content::Results => {
            let summary: Value = fs::read(out.join(SUMMARY))
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok())
                .unwrap_or_default();
            if !summary["merged"].is_null() {
                let problem = "this directory holds a run whose clusters were joined by `dec merge`; name another with --out, or \
                               write over it with --force";
                return Some(Err(dec::Error::output(out, problem).into()));
            }
            if summary.is_null() && out.join(CHOICE).exists() && out.join(CONFIG).exists() {
                let problem = "this directory holds what `dec choose-k` found; name another with --out, or write over it with --force";
                return Some(Err(dec::Error::output(out, problem).into()));
            }
            let finished = summary["status"] == "finished";
            let same = fs::read_to_string(out.join(CONFIG)).is_ok_and(|text| same(&text));
            match (finished, same) {
                (true, true) => {
                    console.line(&format!("{}: finished before", out.display()));
                    Some(Ok(()))
                }
                (true, false) => other(),
                (false, _) => None,
            }
        }
    }
}
