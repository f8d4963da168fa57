//! `dec sweep`: a run for every combination of a recipe's `[sweep]` table.
//!
//! [`members`] runs them. One sweep at a time works in a directory.

use std::path::{Path, PathBuf};

use clap::Args;
use dec::config::Member;
use dec::report::text_table;
use dec::run::write_atomic;
use serde_json::Value;

use super::console::Console;
use super::interrupt;
use super::members::{self, Jobs};
use super::recipe::RecipeArgs;

#[derive(Debug, Args)]
pub struct SweepArgs {
    #[command(flatten)]
    recipe: RecipeArgs,

    /// Directory of the sweep, a run directory for each member in it [default: runs/<recipe>-sweep]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Members that train at once; unless the recipe says how many threads they have, they share those that there are
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
}

impl SweepArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        let recipe = self.recipe.resolve()?;
        let members = dec::config::members(&recipe.config)?;
        if recipe.config.data.source == "-" {
            let problem = "a sweep reads its rows once for every member, which standard input cannot give: name a file";
            return Err(dec::Error::Config(problem.to_owned()).into());
        }
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-sweep", recipe.name)));
        let _lock = members::make(&out)?;

        interrupt::save_first(); // a member to stop, and the table
        let share = out.join("shared");
        let jobs = Jobs { at_once: self.jobs.into(), share: Some(&share) };
        let ran = members::run(&recipe.config, &members, &out, jobs, console)?;
        let mut rows: Vec<Row> = ran.iter().map(|(member, dir)| Row::read(member, dir)).collect();
        rows.sort_by(|a, b| b.score().total_cmp(&a.score()));

        let keys: Vec<&str> = recipe.config.sweep.keys().map(String::as_str).collect();
        let table = table(&keys, &rows);
        let csv = out.join("sweep.csv");
        write_atomic(&csv, &to_csv(&table)?)?;
        let place = format!("\nsweep directory: {} (the table is in sweep.csv)\n", out.display());
        let shown = super::print(&(text_table(&table) + &place));

        if interrupt::requested() {
            return Err(dec::Error::Interrupted.into());
        }
        let failed: Vec<&str> = rows.iter().filter(|r| r.status != "finished").map(|r| r.name.as_str()).collect();
        if !failed.is_empty() {
            let problem = format!("{} of {} members failed: {}", failed.len(), rows.len(), failed.join("; "));
            return Err(dec::Error::Training(problem).into());
        }
        shown
    }
}

/// What a member came to.
struct Row {
    name: String,
    values: Vec<String>,
    status: String,
    acc: Option<f64>,
    nmi: Option<f64>,
    ari: Option<f64>,
    silhouette: Option<f64>,
    inertia: Option<f64>,
    seconds: Option<f64>,
}

impl Row {
    fn read(member: &Member, dir: &Path) -> Self {
        let summary = members::summary(dir).unwrap_or(Value::Null);
        let results = summary["results"].as_array();
        let dec = results.and_then(|results| results.iter().find(|r| r["method"] == "dec")).unwrap_or(&Value::Null);
        Self {
            name: member.name.clone(),
            values: member.values.clone(),
            status: summary["status"].as_str().unwrap_or("failed").to_owned(),
            acc: dec["acc"].as_f64(),
            nmi: dec["nmi"].as_f64(),
            ari: dec["ari"].as_f64(),
            silhouette: dec["silhouette"].as_f64(),
            inertia: dec["inertia"].as_f64(),
            seconds: summary["seconds"].as_f64(),
        }
    }

    /// What the table is sorted by: ACC, or the silhouette where there are no labels; members without a score come last.
    fn score(&self) -> f64 {
        self.acc.or(self.silhouette).unwrap_or(f64::NEG_INFINITY)
    }
}

/// Header and rows: the varied settings, then status and scores.
fn table(keys: &[&str], rows: &[Row]) -> Vec<Vec<String>> {
    let labelled = rows.iter().any(|row| row.acc.is_some());
    let scores: &[&str] = if labelled { &["acc", "nmi", "ari"] } else { &["silhouette"] };
    let header = [keys, &["status"], scores, &["inertia", "seconds"]].concat();
    let number = |value: Option<f64>, digits: usize| value.map_or_else(String::new, |v| format!("{v:.digits$}"));
    let lines = rows.iter().map(|row| {
        let mut cells = row.values.clone();
        cells.push(row.status.clone());
        let scores = if labelled { vec![row.acc, row.nmi, row.ari] } else { vec![row.silhouette] };
        cells.extend(scores.into_iter().map(|score| number(score, 4)));
        cells.extend([number(row.inertia, 1), number(row.seconds, 1)]);
        cells
    });
    std::iter::once(header.into_iter().map(str::to_owned).collect()).chain(lines).collect()
}

fn to_csv(table: &[Vec<String>]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in table {
        writer.write_record(row)?;
    }
    Ok(writer.into_inner()?)
}
