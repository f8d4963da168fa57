//! `dec sweep`: a run for every combination of a recipe's `[sweep]` table.
//!
//! Each member is a process of its own, so that one that fails, runs out of memory or is killed takes nothing with it. A
//! member whose summary says that it finished, under the same settings, is not run again. One sweep at a time works in a
//! directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use dec::config::{members, Config, Member};
use dec::report::text_table;
use dec::run::{write_atomic, Checkpoint, Lock, CONFIG, SUMMARY};
use serde_json::Value;

use super::console::Console;
use super::interrupt;
use super::recipe::RecipeArgs;

/// How often a running member is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub struct SweepArgs {
    #[command(flatten)]
    recipe: RecipeArgs,

    /// Directory of the sweep, a run directory for each member in it [default: runs/<recipe>-sweep]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl SweepArgs {
    pub fn run(&self, console: &Console) -> anyhow::Result<()> {
        self.recipe.refuse_auto()?;
        let recipe = self.recipe.resolve()?;
        let members = members(&recipe.config)?;
        if recipe.config.data.source == "-" {
            let problem = "a sweep reads its rows once for every member, which standard input cannot give: name a file";
            return Err(dec::Error::Config(problem.to_owned()).into());
        }
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-sweep", recipe.name)));
        let recipes = out.join("recipes");
        fs::create_dir_all(&recipes).map_err(|e| {
            dec::Error::output(&recipes, format!("cannot make this directory: {e}; name another with --out"))
        })?;
        let _lock = Lock::acquire(&out)?;
        dec::run::check_writable(&recipes)?;

        interrupt::save_first(); // a member to stop, and the table
        let mut rows = run_members(&recipe.config, &members, &out, console)?;
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

/// Runs the members that are not finished, one after the other, and reads what all came to.
fn run_members(swept: &Config, members: &[Member], out: &Path, console: &Console) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (i, member) in members.iter().enumerate() {
        if interrupt::requested() {
            break;
        }
        let dir = out.join(&member.name);
        let config = member.config(swept)?;
        let (n, of) = (i + 1, members.len());
        if finished_under(&dir, &config) {
            console.line(&format!("[{n}/{of}] {}: finished before", member.name));
        } else {
            console.line(&format!("[{n}/{of}] {}", member.name));
            let file = out.join("recipes").join(format!("{}.toml", member.name));
            write_atomic(&file, config.to_toml()?.as_bytes())?;
            let status = run_member(&file, &dir, how_to_begin(&dir, &config), console)?;
            let how = match status.code() {
                Some(0) => "finished".to_owned(),
                Some(129 | 130 | 143) => "interrupted".to_owned(),
                _ => format!("failed, {status}"),
            };
            console.line(&format!("[{n}/{of}] {}: {how}", member.name));
        }
        rows.push(Row::read(member, &dir));
    }
    Ok(rows)
}

/// Runs `dec` on one member; its progress goes to our stderr, its table nowhere.
fn run_member(config: &Path, dir: &Path, how: &str, console: &Console) -> anyhow::Result<ExitStatus> {
    let program = std::env::current_exe().context("cannot find the running program")?;
    // A member that fails early must not be taken for what it was before.
    match fs::remove_file(dir.join(SUMMARY)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound && dir.exists() => {
            return Err(dec::Error::output(dir, format!("cannot remove the old {SUMMARY}: {e}")).into());
        }
        _ => {}
    }
    let mut command = Command::new(program);
    command.arg("--config").arg(config).arg("--out").arg(dir).arg(how).args(console.flags());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0); // see below
    dec::backend::end_with_parent(&mut command); // we are on the main thread
    let mut child = command.spawn().context("cannot start a member of the sweep")?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a member of the sweep")? {
            return Ok(status);
        }
        if interrupt::requested() && !told {
            stop(&mut child);
            told = true;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Asks a member to save what it has and end. It is in a process group of its own, so that a Ctrl-C of the terminal does not
/// reach it as well: a second signal would end it at once.
#[cfg(unix)]
fn stop(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    if let Err(e) = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM) {
        tracing::debug!("the member has ended already: {e}");
    }
}

/// Ends a member; there is no asking here.
#[cfg(not(unix))]
fn stop(child: &mut Child) {
    if let Err(e) = child.kill() {
        tracing::debug!("the member has ended already: {e}");
    }
}

fn summary(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(dir.join(SUMMARY)).ok()?).ok()
}

/// Whether the run in `dir` finished under these settings.
fn finished_under(dir: &Path, config: &Config) -> bool {
    let finished = summary(dir).is_some_and(|s| s["status"] == "finished");
    let same = |text: String| toml::from_str::<Config>(&text).is_ok_and(|found| found.trains_as(config));
    finished && fs::read_to_string(dir.join(CONFIG)).is_ok_and(same)
}

/// The option by which a member goes on with the run that its directory holds, or writes over it where its settings were
/// others.
fn how_to_begin(dir: &Path, config: &Config) -> &'static str {
    let found = Checkpoint::newest(dir).ok().flatten();
    let trains_so = |text: &str| toml::from_str::<Config>(text).is_ok_and(|found| found.trains_as(config));
    let same = found.is_some_and(|found| trains_so(found.config()));
    if same {
        "--resume-if-there"
    } else {
        "--force"
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
        let summary = summary(dir).unwrap_or(Value::Null);
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
