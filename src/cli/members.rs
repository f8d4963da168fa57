//! The members of a sweep or of an ensemble: runs of one recipe with different settings.
//!
//! Each is a process of its own, so that one that fails, runs out of memory or is killed takes nothing with it. A member whose
//! summary says that it finished, under the same settings, is not run again; one that was stopped goes on from its checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use dec::config::{Config, Member};
use dec::run::{write_atomic, Checkpoint, Lock, CONFIG, SUMMARY};
use serde_json::Value;

use super::console::Console;
use super::interrupt;

/// How often a running member is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Makes the directory `out` of a sweep or an ensemble, in which no other one works until the lock is dropped.
pub fn make(out: &Path) -> dec::Result<Lock> {
    let recipes = out.join("recipes");
    fs::create_dir_all(&recipes).map_err(|e| {
        dec::Error::output(&recipes, format!("cannot make this directory: {e}; name another with --out"))
    })?;
    let lock = Lock::acquire(out)?;
    dec::run::check_writable(&recipes)?;
    Ok(lock)
}

/// Runs the members of `swept` that are not finished, one after the other, in the directory `out`. Returns the directories of those
/// that it came to: all, unless it was asked to stop.
pub fn run(swept: &Config, members: &[Member], out: &Path, console: &Console) -> anyhow::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
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
        dirs.push(dir);
    }
    Ok(dirs)
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
    let mut child = command.spawn().context("cannot start a member")?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a member")? {
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

/// What a member came to, if it came to an end.
pub fn summary(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(dir.join(SUMMARY)).ok()?).ok()
}

/// Whether the run in `dir` finished under these settings.
fn finished_under(dir: &Path, config: &Config) -> bool {
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
