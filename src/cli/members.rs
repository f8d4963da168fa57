//! The members of a sweep or of an ensemble: runs of one recipe with different settings.
//!
//! Each is a process of its own, so that one that fails, runs out of memory or is killed takes nothing with it. A member whose
//! summary says that it finished, under the same settings, is not run again; one that was stopped goes on from its checkpoint.
//! Members leave each other what they have in common ([`dec::run::SharedParts`]).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use dec::backend::threads;
use dec::config::{Config, Member, Threads};
use dec::run::{autoencoder_group, write_atomic, Checkpoint, Lock, CONFIG, EVENTS, SUMMARY};
use serde_json::Value;

use super::console::Console;
use super::interrupt;

/// How often a running member is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a process that a killed sweep left behind may take to save what it has.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Makes the directory `out` of a sweep or an ensemble, in which no other one works until the lock is dropped.
pub fn make(out: &Path) -> dec::Result<Lock> {
    let recipes = make_recipes(out)?;
    let lock = Lock::acquire(out)?;
    dec::run::check_writable(&recipes)?;
    Ok(lock)
}

/// Makes the directory of a sweep's recipes.
pub fn make_recipes(out: &Path) -> dec::Result<PathBuf> {
    let recipes = out.join("recipes");
    fs::create_dir_all(&recipes).map_err(|e| {
        dec::Error::output(&recipes, format!("cannot make this directory: {e}; name another with --out"))
    })?;
    Ok(recipes)
}

/// How members are run.
#[derive(Debug, Clone, Copy)]
pub struct Jobs<'a> {
    /// Members at once, at least 1.
    pub at_once: usize,
    /// The directory of what they train once for all.
    pub share: Option<&'a Path>,
    /// This one alone, counted from 0.
    pub only: Option<usize>,
}

/// Runs the members of `swept` that are not finished in the directory `out`. Returns the members that it came to with their
/// directories, in their order: all, unless it was asked to stop.
pub fn run<'a>(
    swept: &Config,
    members: &'a [Member],
    out: &Path,
    jobs: Jobs,
    console: &Console,
) -> anyhow::Result<Vec<(&'a Member, PathBuf)>> {
    let mut pool = Pool { jobs, console, running: Vec::new(), waited: Instant::now() };
    let mut waiting = Vec::new();
    let mut reached = vec![false; members.len()];
    for (number, member) in members.iter().enumerate() {
        if jobs.only.is_some_and(|only| only != number) {
            continue;
        }
        let mut config = member.config(swept)?;
        let dir = out.join(&member.name);
        let place = format!("[{}/{}]", number + 1, members.len());
        if finished_under(&dir, &config) {
            console.line(&format!("{place} {}: finished before", member.name));
            reached[number] = true;
            continue;
        }
        if jobs.at_once > 1 && config.threads == Threads::Auto {
            config.threads = Threads::Given((threads::by_default() / jobs.at_once).max(1));
        }
        let recipe = out.join("recipes").join(format!("{}.toml", member.name));
        let group = autoencoder_group(&config)?;
        waiting.push(Waiting { number, name: member.name.clone(), place, dir, recipe, config, group });
    }
    while !(pool.running.is_empty() && (waiting.is_empty() || interrupt::requested())) {
        pool.look()?;
        match pool.next(&waiting).filter(|_| !interrupt::requested()) {
            Some(next) => {
                let next = waiting.remove(next);
                reached[next.number] = true;
                pool.start(next)?;
            }
            None => std::thread::sleep(POLL_INTERVAL),
        }
    }
    let dirs = members.iter().zip(reached).filter(|(_, reached)| *reached);
    Ok(dirs.map(|(member, _)| (member, out.join(&member.name))).collect())
}

/// A member that is not finished.
struct Waiting {
    number: usize,
    name: String,
    /// `[3/12]`.
    place: String,
    dir: PathBuf,
    recipe: PathBuf,
    config: Config,
    /// Members with the same one can share an autoencoder.
    group: String,
}

/// A member at work.
struct Running {
    member: Waiting,
    child: Child,
    /// Passes on what it says.
    reader: Option<JoinHandle<()>>,
    /// Whether it was asked to stop.
    told: bool,
    /// The length of its log before it was started.
    log: u64,
}

impl Running {
    /// Whether it has come to train, and to hold what it makes for others: its log has grown.
    fn has_begun(&self) -> bool {
        log_length(&self.member.dir) != self.log
    }
}

fn log_length(dir: &Path) -> u64 {
    fs::metadata(dir.join(EVENTS)).map_or(0, |log| log.len())
}

/// The members at work.
struct Pool<'a> {
    jobs: Jobs<'a>,
    console: &'a Console,
    running: Vec<Running>,
    /// Since when the first member that can start is waited for.
    waited: Instant,
}

impl Pool<'_> {
    /// Sees to members that have ended, and tells the others when they are to stop.
    fn look(&mut self) -> anyhow::Result<()> {
        let mut left = Vec::new();
        for mut running in std::mem::take(&mut self.running) {
            let Some(status) = running.child.try_wait().context("cannot wait for a member")? else {
                if interrupt::requested() && !running.told {
                    stop(&mut running.child);
                    running.told = true;
                }
                left.push(running);
                continue;
            };
            if let Some(Err(_)) = running.reader.map(JoinHandle::join) {
                tracing::debug!("what {} said was not passed on to the end", running.member.name);
            }
            let how = match status.code() {
                Some(0) => "finished".to_owned(),
                Some(129 | 130 | 143) => "interrupted".to_owned(),
                _ => format!("failed, {status}"),
            };
            self.console.line(&format!("{} {}: {how}", running.member.place, running.member.name));
        }
        self.running = left;
        Ok(())
    }

    /// The member to start now, if there is room: rather one whose autoencoder nobody at work trains, which would be waited for. One
    /// that goes on with an autoencoder comes before others that need it: they start once it has begun.
    /// What a killed sweep has left at work in a member's directory ends soon, and is waited for, by its group too.
    fn next(&mut self, waiting: &[Waiting]) -> Option<usize> {
        if self.running.len() >= self.jobs.at_once {
            return None;
        }
        let patient = self.waited.elapsed() < LONGEST_WAIT;
        let left = waiting.iter().filter(|member| patient && Lock::is_held(&member.dir));
        let left: Vec<&str> = left.map(|member| member.group.as_str()).collect();
        let free = |member: &Waiting| !left.contains(&member.group.as_str());
        let alone = |member: &Waiting| self.running.iter().all(|other| other.member.group != member.group);
        let behind =
            |member: &Waiting| self.running.iter().all(|other| other.member.group != member.group || other.has_begun());
        let next = waiting.iter().position(|member| free(member) && alone(member));
        let next = next.or_else(|| waiting.iter().position(|member| free(member) && behind(member)));
        if next.is_some() {
            self.waited = Instant::now();
        }
        next
    }

    /// Runs `dec` on one member; its progress goes to our stderr, its table nowhere.
    fn start(&mut self, member: Waiting) -> anyhow::Result<()> {
        let Waiting { name, place, dir, recipe, config, .. } = &member;
        self.console.line(&format!("{place} {name}"));
        write_atomic(recipe, config.to_toml()?.as_bytes())?;
        let program = std::env::current_exe().context("cannot find the running program")?;
        // A member that fails early must not be taken for what it was before.
        match fs::remove_file(dir.join(SUMMARY)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound && dir.exists() => {
                return Err(dec::Error::output(dir, format!("cannot remove the old {SUMMARY}: {e}")).into());
            }
            _ => {}
        }
        let mut command = Command::new(program);
        command.arg("--config").arg(recipe).arg("--out").arg(dir).arg(how_to_begin(dir, config));
        if let Some(share) = self.jobs.share {
            command.arg("--share").arg(share);
        }
        command.args(self.console.flags()).stdin(Stdio::null()).stdout(Stdio::null());
        // Of several, whole lines with a number in front, and no bars.
        let several = self.jobs.at_once > 1;
        if several {
            command.stderr(Stdio::piped());
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0); // see `stop`
        dec::backend::end_with_parent(&mut command); // we are on the main thread
        let log = log_length(dir);
        let mut child = command.spawn().context("cannot start a member")?;
        let reader = child.stderr.take().map(|stderr| {
            let (console, place) = (self.console.clone(), place.clone());
            std::thread::spawn(move || {
                let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
                lines.for_each(|line| console.pass_on(&format!("{place} {}", String::from_utf8_lossy(&line))));
            })
        });
        self.running.push(Running { member, child, reader, told: false, log });
        Ok(())
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

/// What a member came to, if it came to an end.
pub fn summary(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(dir.join(SUMMARY)).ok()?).ok()
}

/// Whether the run in `dir` finished under these settings.
pub fn finished_under(dir: &Path, config: &Config) -> bool {
    let finished = summary(dir).is_some_and(|s| s["status"] == "finished" && s["merged"].is_null());
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
