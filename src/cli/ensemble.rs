//! `dec ensemble`: the same run from several seeds, and what they come to together.
//!
//! [`members`] runs the seeds, each in a directory of its own; the ensemble's directory has the consensus beside them, and names the
//! run that agrees most with it, which `dec predict` uses. Labels are only shown: no choice looks at them.

use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use dec::config::{Axis, Config, Member};
use dec::ensemble::Ensemble;
use dec::metrics::Contingency;
use dec::report::text_table;
use dec::run::{write_atomic, Assignment, Content, Lock, RunDir, ASSIGNMENTS, SUMMARY, WEIGHTS};
use serde_json::{json, Value};

use super::console::Console;
use super::interrupt;
use super::members::{self, Jobs};
use super::recipe::{classes_of, load_data, RecipeArgs};

/// What an ensemble's directory is known by.
const ENSEMBLE: &str = "ensemble.json";
/// Runs up to which the table of agreements between them is shown.
const MOST_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub struct EnsembleArgs {
    #[command(flatten)]
    recipe: RecipeArgs,

    /// How many seeds: that of --seed (0, unless the recipe has another) and those that follow it
    #[arg(long, value_name = "N")]
    seeds: u64,

    /// Directory of the ensemble, a run directory for each seed in it; what has finished there is not run again [default:
    /// runs/<recipe>-ensemble]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl EnsembleArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        self.recipe.refuse_auto()?;
        let mut recipe = self.recipe.resolve()?;
        check(&recipe.config, self.seeds)?;
        let dataset = load_data(&recipe.config)?;
        let classes = classes_of(&dataset);
        if let (false, Some(classes)) = (self.recipe.says_clusters(), classes) {
            recipe.config.n_clusters = classes;
        }
        let labels = dataset.labels.clone();
        drop(dataset); // each run reads its own
        let seeds = (0..self.seeds).map(|i| toml::Value::Integer((recipe.config.seed + i) as i64));
        recipe.config.sweep = [("seed".to_owned(), Axis::Values(seeds.collect()))].into();
        let members = dec::config::members(&recipe.config)?;
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-ensemble", recipe.name)));
        let _lock = make(&out)?;

        interrupt::save_first();
        let jobs = Jobs { at_once: 1, share: None, only: None }; // seeds have nothing in common
        let ran = members::run(&recipe.config, &members, &out, jobs, console)?;
        if interrupt::requested() {
            tracing::warn!("interrupted; the same command goes on, with what has finished as it is");
            return Err(dec::Error::Interrupted.into());
        }
        let runs: Vec<Run> = ran.iter().map(|(member, dir)| Run::read(member, dir)).collect();
        let failed: Vec<&str> = runs.iter().filter(|run| !run.finished).map(|run| run.name.as_str()).collect();
        let (all, problem) = (runs.len(), failed.join("; "));
        let problem = format!("{} of {all} runs failed: {problem}", failed.len());
        let finished: Vec<&Run> = runs.iter().filter(|run| run.finished).collect();
        if finished.len() < 2 {
            return Err(dec::Error::Training(format!("{problem}; a consensus needs two that finish")).into());
        }
        let together = Together::of(&finished, &ran, recipe.config.n_clusters, labels.as_deref())?;
        together.write(&out)?;
        super::print(&(together.page() + &format!("ensemble directory: {}\n", out.display())))?;
        match failed.is_empty() {
            true => Ok(()),
            false => Err(dec::Error::Training(problem).into()),
        }
    }
}

/// Refuses what no ensemble can be made of.
fn check(config: &Config, seeds: u64) -> dec::Result<()> {
    let refuse = |problem: String| Err(dec::Error::Config(problem));
    if seeds < 2 {
        return refuse(format!("--seeds {seeds}: an ensemble has two runs or more"));
    }
    if config.seed.checked_add(seeds).is_none_or(|end| end > i64::MAX as u64) {
        return refuse(format!("--seeds {seeds}: there are not so many seeds from {} on", config.seed));
    }
    if !config.sweep.is_empty() {
        return refuse("the recipe has a [sweep] table; run it with `dec sweep`".to_owned());
    }
    if config.data.source == "-" {
        let problem = "an ensemble reads its rows once for every seed, which standard input cannot give: name a file";
        return refuse(problem.to_owned());
    }
    if config.start.from.is_some() {
        return refuse("start.from: seeds that start from one run are of one mind; leave it out".to_owned());
    }
    if config.data.limit.is_some() {
        return refuse(
            "data.limit: each seed would cluster other rows, which have no consensus; leave it out".to_owned(),
        );
    }
    Ok(())
}

/// Makes the directory, and takes away what an earlier call came to, which may have been something else.
fn make(out: &Path) -> dec::Result<Lock> {
    let holds_run = matches!(RunDir::content(out), Content::Unfinished)
        || [SUMMARY, WEIGHTS].iter().any(|name| out.join(name).exists());
    if holds_run {
        return Err(dec::Error::output(
            out,
            "this directory holds a run, and not an ensemble; name another with --out",
        ));
    }
    let lock = members::make(out)?;
    for name in [ENSEMBLE, ASSIGNMENTS] {
        match fs::remove_file(out.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(dec::Error::output(out.join(name), format!("cannot be replaced: {e}")));
            }
            _ => {}
        }
    }
    Ok(lock)
}

/// The run that an ensemble's directory names; of any other path, the path.
///
/// # Errors
/// [`dec::Error::Data`] for a file `ensemble.json` that is none of ours.
pub fn run_in(path: &Path) -> dec::Result<PathBuf> {
    let file = path.join(ENSEMBLE);
    if !file.exists() {
        return Ok(path.to_owned());
    }
    let unusable = |problem: &str| dec::Error::data(&file, problem);
    let text = fs::read(&file).map_err(|e| unusable(&format!("cannot be read: {e}")))?;
    let ensemble: Value =
        serde_json::from_slice(&text).map_err(|e| unusable(&format!("is none of an ensemble: {e}")))?;
    let chosen = ensemble["chosen"].as_str().map(Path::new);
    // A directory in this one, whoever wrote the file.
    let chosen = chosen.filter(|name| matches!(name.components().collect::<Vec<_>>()[..], [Component::Normal(_)]));
    Ok(path.join(chosen.ok_or_else(|| unusable("names no run of the ensemble"))?))
}

/// Whether this is an ensemble's directory.
pub fn is_one(path: &Path) -> bool {
    path.join(ENSEMBLE).exists()
}

/// What one seed came to.
struct Run {
    name: String,
    finished: bool,
    acc: Option<f64>,
}

impl Run {
    fn read(member: &Member, dir: &Path) -> Self {
        let summary = members::summary(dir).unwrap_or(Value::Null);
        let dec = summary["results"].as_array().and_then(|all| all.iter().find(|result| result["method"] == "dec"));
        let acc = dec.and_then(|dec| dec["acc"].as_f64());
        Self { name: member.name.clone(), finished: summary["status"] == "finished", acc }
    }
}

/// What all that finished came to.
struct Together<'a> {
    runs: &'a [&'a Run],
    rows: Vec<usize>,
    ids: Vec<String>,
    n_clusters: usize,
    consensus: Ensemble,
    scores: Option<Contingency>,
}

impl<'a> Together<'a> {
    fn of(
        runs: &'a [&'a Run],
        ran: &[(&Member, PathBuf)],
        n_clusters: usize,
        classes: Option<&[i64]>,
    ) -> dec::Result<Self> {
        let mut clusterings = Vec::new();
        let mut first: Option<Assignment> = None;
        for (member, dir) in ran {
            if !runs.iter().any(|run| run.name == member.name) {
                continue;
            }
            let mut next = Assignment::read(&dir.join(ASSIGNMENTS))?;
            clusterings.push(std::mem::take(&mut next.labels));
            match &first {
                Some(first) if first.rows != next.rows => {
                    return Err(dec::Error::data(
                        dir.join(ASSIGNMENTS),
                        "is of other rows than those of the other seeds: run the ensemble in another directory (--out)",
                    ));
                }
                Some(_) => {}
                None => first = Some(next),
            }
        }
        let first = first.unwrap_or_default();
        let outside = |label: &i64| !usize::try_from(*label).is_ok_and(|label| label < n_clusters);
        if let Some(label) = clusterings.iter().flatten().find(|label| outside(label)) {
            let problem = format!("a run has the cluster {label}, which is none of {n_clusters}");
            return Err(dec::Error::Rows(problem));
        }
        let consensus = Ensemble::of(&clusterings, n_clusters)?;
        let class = |row: &usize| classes.and_then(|classes| classes.get(*row)).copied().unwrap_or(-1);
        let truth: Vec<i64> = first.rows.iter().map(class).collect();
        let known = truth.iter().any(|&class| class >= 0);
        let scores = known.then(|| Contingency::of_labelled(&truth, &consensus.labels)).transpose()?;
        Ok(Self { runs, rows: first.rows, ids: first.ids, n_clusters, consensus, scores })
    }

    /// Writes the consensus, and then `ensemble.json`.
    fn write(&self, out: &Path) -> anyhow::Result<()> {
        let Ensemble { labels, stability, .. } = &self.consensus;
        let mut table = csv::Writer::from_writer(Vec::new());
        let names = ["row", "id", "cluster", "stability"].into_iter();
        table.write_record(names.filter(|name| *name != "id" || !self.ids.is_empty()))?;
        for (i, row) in self.rows.iter().enumerate() {
            table.write_field(row.to_string())?;
            if let Some(id) = self.ids.get(i) {
                table.write_field(id)?;
            }
            table.write_field(labels[i].to_string())?;
            table.write_field(stability[i].to_string())?;
            table.write_record(None::<&[u8]>)?;
        }
        write_atomic(&out.join(ASSIGNMENTS), &table.into_inner()?)?;
        write_atomic(&out.join(ENSEMBLE), &serde_json::to_vec_pretty(&self.summary())?)?;
        Ok(())
    }

    fn summary(&self) -> Value {
        let Ensemble { agreements, between, chosen, .. } = &self.consensus;
        let run = |(i, run): (usize, &&Run)| json!({ "run": run.name, "ari_consensus": agreements[i], "ari_others": self.consensus.mean_between(i), "acc": run.acc });
        json!({
            "chosen": self.runs[*chosen].name,
            "n_rows": self.rows.len(),
            "n_clusters": self.n_clusters,
            "mean_stability": self.mean_stability(),
            "stable_rows": self.stable_share(),
            "runs": self.runs.iter().enumerate().map(run).collect::<Vec<_>>(),
            "ari": between,
            "acc": self.scores.as_ref().map(Contingency::accuracy),
            "nmi": self.scores.as_ref().map(Contingency::normalized_mutual_info),
            "ari_labels": self.scores.as_ref().map(Contingency::adjusted_rand_index),
        })
    }

    fn mean_stability(&self) -> f64 {
        let stability = &self.consensus.stability;
        stability.iter().map(|&share| f64::from(share)).sum::<f64>() / stability.len().max(1) as f64
    }

    /// The share of the rows that all runs agree on.
    fn stable_share(&self) -> f64 {
        let stability = &self.consensus.stability;
        stability.iter().filter(|&&share| share == 1.0).count() as f64 / stability.len().max(1) as f64
    }

    /// A row a run; how far the runs agree with each other; the consensus.
    fn page(&self) -> String {
        let Ensemble { agreements, between, chosen, .. } = &self.consensus;
        let cell = |value: f64| format!("{value:.4}");
        let labelled = self.scores.is_some();
        let mut header = vec!["run", "ARI with consensus", "ARI with others"];
        header.extend(labelled.then_some("ACC"));
        let mut table = vec![header.into_iter().map(str::to_owned).collect::<Vec<String>>()];
        for (i, run) in self.runs.iter().enumerate() {
            let mut row = vec![run.name.clone(), cell(agreements[i]), cell(self.consensus.mean_between(i))];
            row.extend(labelled.then(|| run.acc.map_or_else(|| "-".to_owned(), cell)));
            table.push(row);
        }
        let mut text = text_table(&table) + "\n";
        if self.runs.len() <= MOST_SHOWN {
            let names = self.runs.iter().map(|run| run.name.clone());
            let mut table = vec![std::iter::once("ARI".to_owned()).chain(names.clone()).collect::<Vec<String>>()];
            table.extend(names.zip(between).map(|(name, row)| {
                std::iter::once(name).chain(row.iter().map(|&ari| cell(ari))).collect::<Vec<String>>()
            }));
            text += &(text_table(&table) + "\n");
        }
        text += &format!(
            "all runs agree on {:.1} % of the rows; mean stability {:.4}\n{} agrees most with the consensus: `dec predict` uses it\n",
            100.0 * self.stable_share(),
            self.mean_stability(),
            self.runs[*chosen].name
        );
        if let Some(scores) = &self.scores {
            let mut all: Vec<f64> = self.runs.iter().filter_map(|run| run.acc).collect();
            all.sort_by(f64::total_cmp);
            text += &format!("ACC {:.4} of the consensus", scores.accuracy());
            if let (Some(low), Some(high)) = (all.get(all.len().saturating_sub(1) / 2), all.get(all.len() / 2)) {
                text += &format!(", {:.4} in the median of the runs", f64::midpoint(*low, *high));
            }
            text.push('\n');
        }
        text
    }
}
