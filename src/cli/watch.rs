//! `dec watch`: a run on the terminal, from its event log.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use console::Term;
use dec::run::{Lock, EVENTS, SUMMARY};
use dec::watch::{screen, WatchState};
use serde_json::Value;

/// How often the log is looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// The screen where there is no terminal.
const PLAIN: (u16, u16) = (80, 24);

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The run directory of a run that is at work, or was
    #[arg(value_name = "RUN")]
    run: PathBuf,
}

impl WatchArgs {
    /// Draws the run until it ends; once, where stdout is no terminal.
    pub fn run(&self) -> anyhow::Result<()> {
        let path = self.run.join(EVENTS);
        let cannot = |e: std::io::Error| {
            dec::Error::data(&self.run, format!("is no run directory: {EVENTS} cannot be read: {e}"))
        };
        let mut log = File::open(&path).map_err(cannot)?;
        let name = self.run.file_name().unwrap_or(self.run.as_os_str()).to_string_lossy();
        let mut state = WatchState::new(&name, None);
        let live = std::io::stdout().is_terminal() && !console::is_dumb();
        let term = Term::stdout();
        let mut read = 0;
        let mut drawn = false;
        loop {
            // Before the log is read: what is written until then is shown.
            let at_work = Lock::is_held(&self.run);
            read = feed(&mut log, read, &mut state).map_err(cannot)?;
            state.set_status(&status(&self.run, at_work));
            let (height, width) = if live { term.size() } else { (PLAIN.1, PLAIN.0) };
            let text = screen(&state, width, height.saturating_sub(1), live && console::colors_enabled());
            super::print(&if live { redrawn(&text, drawn) } else { text + "\n" })?;
            drawn = true;
            if !live || !at_work {
                return Ok(());
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

/// Takes in what the log has from byte `read` on; how far it was read. A resumed run cuts half a line off: that comes again.
fn feed(log: &mut File, mut read: u64, state: &mut WatchState) -> std::io::Result<u64> {
    if log.metadata()?.len() < read {
        read -= state.forget_half() as u64;
    }
    log.seek(SeekFrom::Start(read))?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    state.feed(&bytes);
    Ok(read + bytes.len() as u64)
}

/// How the run stands, in a word.
fn status(run: &Path, at_work: bool) -> String {
    if at_work {
        return "running".to_owned();
    }
    let summary = std::fs::read(run.join(SUMMARY)).unwrap_or_default();
    let summary: Value = serde_json::from_slice(&summary).unwrap_or_default();
    summary["status"].as_str().unwrap_or("stopped").to_owned()
}

/// The screen over the one before: from the top left, each line to its end and then what is below cleared.
fn redrawn(text: &str, drawn: bool) -> String {
    let begin = if drawn { "\x1b[H" } else { "\x1b[2J\x1b[H" };
    format!("{begin}{}\x1b[K\n\x1b[J", text.replace('\n', "\x1b[K\n"))
}
