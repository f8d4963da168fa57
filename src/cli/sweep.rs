//! `dec sweep`: a run for every combination of a recipe's `[sweep]` table, or for some that are drawn, ranked without labels.
//!
//! [`members`] runs them, [`judge`] scores them, [`halving`] says who goes on to more rows. One sweep at a time works in a directory.

mod halving;
mod judge;
mod outcome;
mod slurm;

use std::path::{Path, PathBuf};

use clap::Args;
use dec::config::{Config, Member, Recipe};

use super::console::Console;
use super::interrupt;
use super::members::{self, Jobs};
use super::recipe::RecipeArgs;
use judge::Judge;
use outcome::{rank, Outcome, Outcomes};
use slurm::{Scripts, Slurm};

#[derive(Debug, Args)]
pub struct SweepArgs {
    #[command(flatten)]
    recipe: RecipeArgs,

    /// Directory of the sweep, a run directory for each member in it [default: runs/<recipe>-sweep]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Members that train at once; unless the recipe says how many threads they have, they share those that there are
    /// [default: 1; with --launcher slurm as many as the cluster runs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,

    /// Draw N members by the recipe's seed, instead of all combinations; ranges such as { min = 1e-4, max = 1e-2, log = true }
    /// are for this
    #[arg(long, value_name = "N")]
    random: Option<usize>,

    /// Successive halving: all members on few rows, the best third on three times as many, and so on to all rows
    #[arg(long)]
    halving: bool,

    /// Where members run: here, or as a job array that is submitted to Slurm, with a job behind it that makes the table
    #[arg(long, value_name = "WHERE", default_value = "local")]
    launcher: Launcher,

    /// With --launcher slurm: show the job scripts, and submit nothing
    #[arg(long)]
    print: bool,

    /// With --launcher slurm: an option for sbatch, such as --sbatch=--partition=gpu or --sbatch=--time=4:00:00; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,

    /// Run the member with this number alone, from 1, and make no table: for the job arrays of any scheduler
    #[arg(long, value_name = "N", conflicts_with_all = ["jobs", "halving", "launcher", "collect"])]
    member: Option<usize>,

    /// Run no member: make the table of what there is
    #[arg(long, conflicts_with_all = ["jobs", "halving", "launcher"])]
    collect: bool,
}

/// Where the members of a sweep run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Launcher {
    Local,
    Slurm,
}

impl SweepArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        self.recipe.refuse_auto()?;
        let recipe = self.recipe.resolve()?;
        let members = match self.random {
            Some(count) => dec::config::random_members(&recipe.config, count)?,
            None => dec::config::members(&recipe.config)?,
        };
        self.check(&recipe.config)?;
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-sweep", recipe.name)));
        if self.launcher == Launcher::Slurm {
            return self.launch(&recipe, &members, &out);
        }
        if let Some(number) = self.member {
            return run_one(&recipe.config, &members, number, &out, console);
        }
        let _lock = members::make(&out)?;

        interrupt::save_first(); // members to stop, and the table
        let mut outcomes = self.outcomes(&recipe, &members, &out, console)?;
        rank(&mut outcomes);
        let found = Outcomes {
            title: &recipe.name,
            data: &recipe.config.data.source,
            keys: recipe.config.sweep.keys().map(String::as_str).collect(),
            outcomes: &outcomes,
        };
        found.write(&out)?;
        let place = format!("\nsweep directory: {} (the table is in sweep.csv and sweep.html)\n", out.display());
        let shown = super::print(&(found.text() + &place));

        if interrupt::requested() {
            return Err(dec::Error::Interrupted.into());
        }
        let failed: Vec<&str> = outcomes
            .iter()
            .filter(|outcome| outcome.status != "finished")
            .map(|outcome| outcome.name.as_str())
            .collect();
        if !failed.is_empty() {
            let how = if self.collect { "have not finished" } else { "failed" };
            let problem = format!("{} of {} members {how}: {}", failed.len(), outcomes.len(), failed.join("; "));
            return Err(dec::Error::Training(problem).into());
        }
        shown
    }

    /// Submits the members that have not finished to Slurm, or shows how.
    fn launch(&self, recipe: &Recipe, members: &[Member], out: &Path) -> anyhow::Result<()> {
        let absolute = std::path::absolute(out)
            .map_err(|e| dec::Error::output(out, format!("cannot find this directory: {e}")))?;
        let mut left = Vec::new();
        for (number, member) in members.iter().enumerate() {
            if !members::finished_under(&absolute.join(&member.name), &member.config(&recipe.config)?) {
                left.push(number + 1);
            }
        }
        if left.is_empty() {
            return super::print("all members have finished: --collect makes the table\n");
        }
        let slurm = Slurm {
            name: &recipe.name,
            config: &recipe.config,
            out: &absolute,
            members: &left,
            at_once: self.jobs,
            random: self.random,
            options: &self.sbatch,
        };
        if self.print {
            let Scripts { members, table } = slurm.scripts()?;
            return super::print(&format!("{members}\n{table}"));
        }
        let _lock = members::make(&absolute)?;
        super::print(&slurm.submit()?)
    }

    fn check(&self, config: &Config) -> dec::Result<()> {
        let refuse = |problem: &str| Err(dec::Error::Config(problem.to_owned()));
        if config.data.source == "-" {
            return refuse(
                "a sweep reads its rows once for every member, which standard input cannot give: name a file",
            );
        }
        if self.halving && config.sweep.contains_key("seed") {
            return refuse(
                "--halving compares members on the same rows, and each seed draws others: leave seed out of [sweep]",
            );
        }
        if config.start.from.is_some() && config.sweep.contains_key("n_clusters") {
            return refuse("start.from says how many clusters there are: leave n_clusters out of [sweep]");
        }
        if self.halving && config.sweep.contains_key("data.limit") {
            return refuse("--halving chooses data.limit itself: leave it out of [sweep]");
        }
        let slurm = self.launcher == Launcher::Slurm;
        if slurm && self.halving {
            return refuse("--halving waits for all members before it goes on: it runs with --launcher local alone");
        }
        if !slurm && (self.print || !self.sbatch.is_empty()) {
            return refuse("--print and --sbatch are for --launcher slurm");
        }
        Ok(())
    }

    /// Runs the members that have not finished, and reads what all came to.
    fn outcomes(
        &self,
        recipe: &Recipe,
        members: &[Member],
        out: &Path,
        console: &Console,
    ) -> anyhow::Result<Vec<Outcome>> {
        let share = out.join("shared");
        let jobs = Jobs { at_once: self.jobs.unwrap_or(1).into(), share: Some(&share), only: None };
        let mut judge = Judge::new(recipe);
        if self.collect {
            let all: Vec<_> = members.iter().map(|member| (member, out.join(&member.name))).collect();
            return Ok(read(&mut judge, &all, None));
        }
        if !self.halving {
            let ran = members::run(&recipe.config, members, out, jobs, console)?;
            return Ok(read(&mut judge, &ran, None));
        }
        let rungs = halving::rungs(members.len(), judge.n_rows()?, &recipe.config);
        let mut left = members.to_vec();
        let mut outcomes = Vec::new();
        for (place, rung) in rungs.iter().enumerate() {
            let last = place + 1 == rungs.len();
            console.line(&format!(
                "rung {} of {}: {} members on {} rows",
                place + 1,
                rungs.len(),
                left.len(),
                rung.rows
            ));
            let (config, dir) = if last {
                (recipe.config.clone(), out.to_owned())
            } else {
                let mut config = recipe.config.clone();
                (config.data.limit, config.output.report) = (Some(rung.rows), false);
                let dir = out.join("rungs").join(rung.rows.to_string());
                std::fs::create_dir_all(dir.join("recipes"))
                    .map_err(|e| dec::Error::output(&dir, format!("cannot make this directory: {e}")))?;
                (config, dir)
            };
            let ran = members::run(&config, &left, &dir, jobs, console)?;
            let mut read = read(&mut judge, &ran, Some(rung.rows));
            rank(&mut read);
            if !last && read.iter().all(|outcome| outcome.score.is_none()) && !interrupt::requested() {
                let problem = format!("no member on {} rows has a score, and so none goes on to more", rung.rows);
                return Err(dec::Error::Training(problem).into());
            }
            if last || interrupt::requested() {
                outcomes.extend(read);
                break;
            }
            let behind =
                read.split_off(halving::kept(read.len()).min(read.iter().filter(|o| o.score.is_some()).count()));
            outcomes.extend(behind);
            left.retain(|member| read.iter().any(|kept| kept.name == member.name));
        }
        Ok(outcomes)
    }
}

/// Runs one member, counted from 1, beside others that run elsewhere.
fn run_one(config: &Config, members: &[Member], number: usize, out: &Path, console: &Console) -> anyhow::Result<()> {
    let Some(only) = number.checked_sub(1).filter(|&only| only < members.len()) else {
        let problem = format!("--member {number}: must be from 1 to {}, the number of members", members.len());
        return Err(dec::Error::Config(problem).into());
    };
    members::make_recipes(out)?;
    let share = out.join("shared");
    interrupt::save_first();
    members::run(config, members, out, Jobs { at_once: 1, share: Some(&share), only: Some(only) }, console)?;
    if interrupt::requested() {
        return Err(dec::Error::Interrupted.into());
    }
    let name = &members[only].name;
    match members::summary(&out.join(name)) {
        Some(summary) if summary["status"] == "finished" => Ok(()),
        _ => Err(dec::Error::Training(format!("the member {name} failed")).into()),
    }
}

/// What members came to, on so many rows of a rung; without scores where somebody waits for the end.
fn read(judge: &mut Judge, ran: &[(&Member, PathBuf)], rung: Option<usize>) -> Vec<Outcome> {
    let scores = if interrupt::requested() { vec![None; ran.len()] } else { judge.scores(ran) };
    ran.iter().zip(scores).map(|((member, dir), score)| Outcome::read(member, dir, score, rung)).collect()
}
