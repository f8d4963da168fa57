//! What a person types. One file a subcommand; without one, `dec` trains.

mod choose_k;
mod config;
mod console;
mod ensemble;
mod evaluate;
mod export;
mod fetch;
mod finished;
mod inspect;
mod interrupt;
mod members;
mod merge;
mod predict;
mod recipe;
mod remedy;
mod rename;
mod report;
mod resume;
mod session;
mod sweep;
mod train;
mod watch;

use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use dec::backend::ranks;

/// Deep Embedded Clustering: clusters rows that nobody has labelled.
///
/// Trains an autoencoder, finds first clusters in its latent space, and sharpens both by self-training (Xie, Girshick
/// & Farhadi, ICML 2016). Without options it clusters 10,000 handwritten digits that are built in.
#[derive(Debug, Parser)]
#[command(name = "dec", version, after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: train::TrainArgs,
    /// Print warnings, errors and results only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print what happens in more detail
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Go on with a run that was stopped or killed
    Resume(resume::ResumeArgs),
    /// Label new rows with a run, or with its model.pt
    Predict(predict::PredictArgs),
    /// Train for every combination of a recipe's [sweep] table, or for some of them, and rank what comes out
    Sweep(sweep::SweepArgs),
    /// Look for the number of clusters, in one pretrained autoencoder
    ChooseK(choose_k::ChooseKArgs),
    /// Train the same recipe from several seeds, and let the runs vote
    Ensemble(ensemble::EnsembleArgs),
    /// Join clusters of a finished run, without training
    Merge(merge::MergeArgs),
    /// Give clusters of a finished run names
    Rename(rename::RenameArgs),
    /// Score clusters that are there against labels
    Evaluate(evaluate::EvaluateArgs),
    /// Write a run's predictor in another format
    Export(export::ExportArgs),
    /// Show a run in this terminal: curves, clusters, time left
    Watch(watch::WatchArgs),
    /// Make the page that shows what a run found, or several beside each other
    Report(report::ReportArgs),
    /// Say what a file holds and what training would make of it, and train nothing
    Inspect(inspect::InspectArgs),
    /// Print the fully resolved recipe as TOML, and train nothing
    Config(config::ConfigArgs),
    /// Download a public data set into the cache
    Fetch(fetch::FetchArgs),
}

const EXAMPLES: &str = "\
Examples:
  dec                                            cluster the built-in digits
  dec --device cuda                              the same on a GPU
  dec inspect rows.csv                           what a file holds, and what would be made of it
  dec rows.csv --clusters 7                      rows of your own, nothing known about them
  dec choose-k rows.csv --range 2..20            how many clusters there may be
  dec cells.h5ad --label-column louvain          the same, scored against labels
  dec fetch mnist && dec --config notebook       the Keras notebook's run on all 70,000 digits
  dec --set pretrain.epochs=5 --set cluster.tol=0.01
  dec sweep --config seeds                       three seeds and one table
  dec sweep --config mine.toml --random 20 --halving --jobs 4
  dec ensemble rows.csv -k 7 --seeds 10          ten seeds, their consensus, and which rows are sure
  dec predict runs/… new.csv -o clusters.csv
  dec predict runs/… cells.h5ad -o out.h5ad      clusters in obs and obsm, for scanpy; .parquet, .arrow, .npy too
  dec export runs/… --to onnx                    the predictor for ONNX Runtime
  dec evaluate runs/… --labels y.csv             scores, and which class is which cluster
  dec watch runs/…                               a run at work, in another terminal
  dec report runs/…                              the page that shows what was found, made again
  dec rename runs/… 3=neurons 5=T_cells          names, which come behind the numbers from then on
  dec merge runs/… --to 7                        fewer clusters, without training again; or --join 3,5
  dec resume runs/…                              go on after Ctrl-C, a kill, or a power failure

A recipe is a TOML file that says where it differs from the defaults; `dec config` prints every setting.
Built-in recipes, described by `dec config --list`: default, fast, best, notebook, dec-paper, idec, dec-da, idec-da,
aspc-da, seeds (a sweep).

A run leaves in its directory: config.toml, events.jsonl, summary.json, assignments.csv, weights.safetensors, model.pt, report.html;
until it has finished also checkpoints.

Exit codes: 0 done, 1 other failure, 2 usage or recipe, 3 data, 4 training diverged or collapsed, 5 results not saved, 6 out of
memory, 7 more outliers than --max-outliers allows, 130 interrupted (129 and 143 by SIGHUP and SIGTERM).";

impl Args {
    /// Runs what was asked for.
    pub fn run(self) -> anyhow::Result<()> {
        // (clap's own check for this would refuse `dec -q sweep` as well.)
        if self.command.is_some() && self.train != Self::parse_from(["dec"]).train {
            let problem =
                "options that stand before a subcommand are those of training; put the subcommand's behind it";
            Self::command().error(ErrorKind::ArgumentConflict, problem).exit();
        }
        let (processes, rank) = ranks::launched();
        if processes > 1 && !matches!(self.command, None | Some(Command::Resume(_))) {
            let problem = format!(
                "{processes} processes were started together, and this subcommand is the work of one: mpirun and the like are for \
                 training and for `dec resume`"
            );
            return Err(dec::Error::Config(problem).into());
        }
        let console = match rank {
            0 => console::Console::start(self.quiet, self.verbose),
            _ => console::Console::silent(),
        };
        if !matches!(
            self.command,
            Some(
                Command::Predict(_)
                    | Command::Export(_)
                    | Command::Evaluate(_)
                    | Command::Report(_)
                    | Command::Watch(_)
                    | Command::Merge(_)
                    | Command::Rename(_)
                    | Command::Inspect(_)
                    | Command::Config(_)
            )
        ) {
            interrupt::install(&console)?; // those have nothing to save: Ctrl-C ends them at once
        }
        match self.command {
            None => self.train.run(&console),
            Some(Command::Resume(args)) => args.run(&console),
            Some(Command::Predict(args)) => args.run(),
            Some(Command::Sweep(args)) => args.run(&console),
            Some(Command::ChooseK(args)) => args.run(&console),
            Some(Command::Ensemble(args)) => args.run(&console),
            Some(Command::Merge(args)) => args.run(),
            Some(Command::Rename(args)) => args.run(),
            Some(Command::Evaluate(args)) => args.run(),
            Some(Command::Export(args)) => args.run(),
            Some(Command::Report(args)) => args.run(),
            Some(Command::Watch(args)) => args.run(),
            Some(Command::Inspect(args)) => args.run(),
            Some(Command::Config(args)) => args.run(),
            Some(Command::Fetch(args)) => args.run(&console),
        }
    }
}

pub use remedy::remedy;

/// Whether the reader of stdout has gone away: the other end of a pipe, or the terminal.
pub fn is_unread(error: &anyhow::Error) -> bool {
    const EIO: i32 = 5;
    error.downcast_ref::<std::io::Error>().is_some_and(|e| {
        e.kind() == std::io::ErrorKind::BrokenPipe || (e.raw_os_error() == Some(EIO) && stdout_is_a_device())
    })
}

/// Whether stdout is no file on a disk, whose errors count. A terminal that is gone does not say of itself that it is one.
fn stdout_is_a_device() -> bool {
    std::fs::read_link("/proc/self/fd/1").is_ok_and(|target| target.starts_with("/dev"))
}

/// Whether two paths lead to the same file or directory, which is there.
fn same_place(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Text of somebody's as a terminal may show it: what would be a command there is escaped.
fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Writes results to stdout.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}
