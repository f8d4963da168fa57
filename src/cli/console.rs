//! The terminal: logs and progress on stderr, without getting in each other's way.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use console::Term;
use dec::control::{Event, Observer, Round, StageName};
use indicatif::{
    HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike,
};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Off a terminal, a stage prints a line at most this often, so that a log stays readable.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// How often bars are drawn at most, in a second.
const DRAWS_PER_SECOND: u8 = 20;

/// How stderr is used in this process.
#[derive(Debug, Clone)]
pub struct Console {
    bars: MultiProgress,
    mode: Mode,
    verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Quiet,
    Lines,
    Bars,
}

impl Console {
    /// Starts logging to stderr: warnings with `quiet`, debug messages with `verbose`, information else.
    pub fn start(quiet: bool, verbose: bool) -> Self {
        let mode = match (quiet, io::stderr().is_terminal() && !console::is_dumb()) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Bars,
            (false, false) => Mode::Lines,
        };
        let level = match (quiet, verbose) {
            (true, _) => Level::WARN,
            (_, true) => Level::DEBUG,
            _ => Level::INFO,
        };
        Self::of(mode, level, verbose)
    }

    /// For a process beside another one that says everything: errors alone.
    pub fn silent() -> Self {
        Self::of(Mode::Quiet, Level::ERROR, false)
    }

    fn of(mode: Mode, level: Level, verbose: bool) -> Self {
        let target = match mode {
            Mode::Bars => ProgressDrawTarget::term_like_with_hz(Box::new(Screen::new()), DRAWS_PER_SECOND),
            Mode::Lines | Mode::Quiet => ProgressDrawTarget::hidden(),
        };
        let console = Self { bars: MultiProgress::with_draw_target(target), mode, verbose };
        let logs = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_target(false)
            .with_ansi(mode == Mode::Bars)
            .log_internal_errors(false) // tells them to stderr, and panics where that is what fails
            .with_writer(console.clone());
        if verbose {
            logs.init();
        } else {
            logs.without_time().init();
        }
        console
    }

    /// The options that make another `dec` as talkative as this one.
    pub fn flags(&self) -> &'static [&'static str] {
        match (self.mode, self.verbose) {
            (Mode::Quiet, _) => &["--quiet"],
            (_, true) => &["--verbose"],
            (_, false) => &[],
        }
    }

    /// Progress of one run.
    pub fn progress(&self) -> Progress {
        Progress {
            console: self.clone(),
            bar: None,
            stage: String::new(),
            round: String::new(),
            last: String::new(),
            shown: Instant::now(),
        }
    }

    /// A bar over `len` units, or a hidden one off a terminal.
    pub fn bar(&self, len: u64, template: &str) -> ProgressBar {
        if self.mode != Mode::Bars {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("speed_and_left", speed_and_left);
        self.bars.add(ProgressBar::new(len).with_style(style.progress_chars("━╸─")))
    }

    /// One line on stderr, above any bar; nothing with `--quiet`.
    pub fn line(&self, text: &str) {
        if self.mode != Mode::Quiet {
            self.pass_on(text);
        }
    }

    /// The same, with `--quiet` too: of another process, which was told to be as quiet.
    pub fn pass_on(&self, text: &str) {
        let _ = self.make_writer().write_all(format!("{text}\n").as_bytes()); // cannot fail
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = AboveBars;

    fn make_writer(&'a self) -> AboveBars {
        AboveBars(self.bars.clone())
    }
}

/// Writes to stderr while the bars stand aside. What cannot be written (a closed terminal or pipe, a full disk) is dropped: it
/// is no reason to stop a run.
pub struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let write = || {
            let _ = io::stderr().write_all(text);
        };
        if std::thread::panicking() {
            write(); // the bars' lock may be this thread's own
        } else {
            self.0.suspend(write);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // stderr has no buffer
    }
}

/// The terminal that bars are drawn on, at stderr. It can be closed at any time, and indicatif panics on some of the errors that
/// this brings: there are none here, and what cannot be written is dropped.
#[derive(Debug)]
struct Screen {
    term: Term,
    /// Written all at once, so that bars do not flicker.
    unwritten: Mutex<String>,
}

impl Screen {
    fn new() -> Self {
        Self { term: Term::stderr(), unwritten: Mutex::default() }
    }

    fn push(&self, text: &str) -> io::Result<()> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    /// Moves the cursor by `n` places: up (A), down (B), right (C) or left (D).
    fn move_cursor(&self, n: usize, direction: char) -> io::Result<()> {
        match n {
            0 => Ok(()), // which terminals take for 1
            _ => self.push(&format!("\x1b[{n}{direction}")),
        }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.term.size().1
    }

    fn height(&self) -> u16 {
        self.term.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.push(s)?;
        self.push("\n")
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.push(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.push("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = io::stderr().write_all(text.as_bytes());
        Ok(())
    }
}

/// Shows a run: a bar for the stage at work on a terminal, lines elsewhere, a closing line a stage on both.
pub struct Progress {
    console: Console,
    bar: Option<ProgressBar>,
    stage: String,
    /// The round that the epochs of self-training belong to.
    round: String,
    /// What the stage has come to: its latest epoch, round or restart.
    last: String,
    shown: Instant,
}

impl Progress {
    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn news(&mut self, news: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(news.clone());
        }
        self.last = news;
        if self.console.mode == Mode::Lines && self.shown.elapsed() >= LINE_INTERVAL {
            self.console.line(&format!("{:<12} {}", self.stage, self.last));
            self.shown = Instant::now();
        }
    }
}

impl Observer for Progress {
    fn on_event(&mut self, event: &Event) {
        match *event {
            Event::StageStarted { stage, steps } => {
                self.finish();
                let unit = match stage {
                    StageName::KMeansRaw | StageName::KMeans => "restarts",
                    StageName::Start => "searches",
                    StageName::ChooseK => "looks",
                    _ => "steps",
                };
                let template = format!("{{prefix:<12}} {{bar:24}} {{pos}}/{{len}} {unit}{{speed_and_left}}  {{msg}}");
                let bar = self.console.bar(steps, &template).with_prefix(stage.to_string());
                bar.enable_steady_tick(Duration::from_millis(500));
                self.bar = Some(bar);
                self.stage = stage.to_string();
                self.round = String::new();
                self.last = String::new();
                if self.console.mode == Mode::Lines {
                    self.console.line(&format!("{:<12} {steps} {unit}{}", self.stage, at_most(stage)));
                }
                self.shown = Instant::now();
            }
            Event::Step { done } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(done);
                }
            }
            Event::Epoch { epoch, loss, learning_rate, .. } => {
                let round = &self.round;
                self.news(format!("{round}epoch {epoch}  loss {}  rate {learning_rate}", short(loss)));
            }
            Event::Restart { restart, inertia, .. } => {
                self.news(format!("restart {restart}  best inertia {inertia:.5e}"));
            }
            Event::Round { round, .. } => {
                let Round { round, changed, loss, acc, .. } = *round;
                let acc = acc.map_or_else(String::new, |acc| format!("  ACC {acc:.4}"));
                let news = format!("round {round}  changed {:.2}%  KL {}{acc}", 100.0 * changed, short(loss));
                self.round = format!("{news}  ");
                self.news(news);
            }
            Event::StageFinished { time, .. } => {
                self.finish();
                let last = std::mem::take(&mut self.last);
                self.console.line(&format!("{:<12} {:>7.1} s  {last}", time.name, time.seconds));
            }
            Event::RolledBack(rollback) => tracing::warn!(
                "{} diverged at step {}: back to step {}, and on at {} of its rate",
                rollback.stage,
                rollback.at_step,
                rollback.to_step,
                rollback.rate_factor
            ),
            Event::Warning { text, .. } => {
                tracing::warn!("{text}; lower the rate (--set cluster.lr=…) if that is not right")
            }
            Event::NetworkStarted { network, networks } => {
                self.console.line(&format!("network {network} of {networks}"));
            }
            Event::Scored(result) => tracing::debug!("{result:?}"),
        }
    }
}

/// A loss with digits to see also where it is small.
fn short(loss: f64) -> String {
    if loss != 0.0 && loss.abs() < 0.001 {
        format!("{loss:.2e}")
    } else {
        format!("{loss:.5}")
    }
}

/// Units a second and the time left, once there is something to go by; before the message, which a narrow terminal cuts.
fn speed_and_left(state: &ProgressState, text: &mut dyn std::fmt::Write) {
    if state.pos() > 0 {
        // A bar that cannot be drawn is no reason to stop.
        let _ = write!(text, "  {:.1}/s  {:#} left", state.per_sec(), HumanDuration(state.eta()));
    }
}

/// Self-training may end early.
fn at_most(stage: StageName) -> &'static str {
    match stage {
        StageName::Cluster => " at most",
        _ => "",
    }
}
