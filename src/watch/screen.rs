//! The layout of the screen.

use super::chart::{bars, curve};
use super::text::{apart, columns, cut, duration, fit, grouped, joined, short};
use super::{Kind, Stage, WatchState};

/// Columns for the list of stages.
const LIST: usize = 28;
/// Lines that are neither the list and the curve nor bars: title, two headings, round, result, warning, stage at work.
const FIXED: usize = 7;

/// Colours of a terminal (SGR).
#[derive(Clone, Copy)]
enum Paint {
    Bold = 1,
    Dim = 2,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

/// `state` as at most `height` lines of at most `width` columns, with a line feed after each but the last; with colours, if
/// `colour`. Made for 80 × 24 and more; what has no place on a smaller screen is left out.
///
/// The text holds no other terminal escapes than colours, whatever the names in the log.
pub fn screen(state: &WatchState, width: u16, height: u16, colour: bool) -> String {
    let (width, height) = (usize::from(width), usize::from(height));
    let draw = Draw { state, width, colour };
    let flexible = height.saturating_sub(FIXED);
    let bar_lines = (flexible / 3).min(8);
    let mut lines = vec![draw.title()];
    lines.extend(draw.stages_and_curve(flexible - bar_lines));
    lines.extend(draw.clusters(bar_lines));
    lines.extend([draw.round(), draw.results(), draw.warning(), draw.at_work()]);
    // The last line says what happens now: it stays.
    if lines.len() > height {
        let surplus = lines.len() - height;
        let end = lines.len() - 1;
        lines.drain(end.saturating_sub(surplus)..end);
        lines.truncate(height);
    }
    lines.join("\n")
}

/// A line across `width` columns with a heading in it.
fn rule(text: &str, width: usize) -> String {
    let text = cut(&format!("── {text} "), width);
    let rest = width.saturating_sub(columns(&text));
    text + &"─".repeat(rest)
}

struct Draw<'a> {
    state: &'a WatchState,
    width: usize,
    colour: bool,
}

impl Draw<'_> {
    fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{}m{text}\u{1b}[0m", paint as u8)
        } else {
            text.to_owned()
        }
    }

    fn title(&self) -> String {
        let state = self.state;
        let network = state.network.map_or_else(String::new, |[network, all]| format!("network {network} of {all} · "));
        let rows = state.rows.map_or_else(String::new, |rows| format!("{} rows · ", grouped(rows)));
        let right = format!("{network}{rows}{}", state.status);
        self.paint(Paint::Bold, &apart(&state.title, &right, self.width))
    }

    fn heading(&self, text: &str) -> String {
        self.paint(Paint::Dim, &rule(text, self.width))
    }

    fn stages_and_curve(&self, height: usize) -> Vec<String> {
        let list_width = LIST.min(self.width);
        let curve_width = self.width.saturating_sub(LIST + 1);
        let shown = self.state.stages.iter().rev().find(|stage| stage.curve.iter().any(|value| value.is_finite()));
        let of = match shown {
            Some(stage) if stage.kind == Kind::Restarts => format!("best inertia of {}", stage.name),
            Some(stage) => format!("loss of {}", stage.name),
            None => "loss".to_owned(),
        };
        let heading = rule("stages", list_width.saturating_add(1).min(self.width)) + &rule(&of, curve_width);
        let mut lines = vec![self.paint(Paint::Dim, &heading)];
        let curve = curve(shown.map_or(&[], |stage| &stage.curve), curve_width, height);
        let list = self.list(list_width, height);
        lines.extend(list.into_iter().zip(curve).map(|(stage, curve)| {
            let curve = self.paint(Paint::Cyan, &curve);
            if curve_width > 0 {
                format!("{stage} {curve}")
            } else {
                stage
            }
        }));
        lines
    }

    /// The stages, each with a mark; the latest ones where not all have a place.
    fn list(&self, width: usize, height: usize) -> Vec<String> {
        let stages = &self.state.stages;
        let hidden = if stages.len() > height { stages.len() + 1 - height.max(1) } else { 0 };
        let mut lines = Vec::new();
        if hidden > 0 && height > 0 {
            lines.push(self.paint(Paint::Dim, &fit(&format!("  {hidden} earlier"), width)));
        }
        lines.extend(stages[hidden.min(stages.len())..].iter().map(|stage| self.entry(stage, width)));
        lines.resize(height.max(lines.len()), " ".repeat(width));
        lines.truncate(height);
        lines
    }

    fn entry(&self, stage: &Stage, width: usize) -> String {
        // Which network it is of, where others have the stage too.
        let repeats = self.state.stages.iter().any(|other| other.name == stage.name && other.network != stage.network);
        let network = stage.network.filter(|_| repeats).map_or_else(String::new, |network| format!("{network} "));
        let (mark, right) = match (stage.done, self.state.planned_for(stage)) {
            (true, _) => ('✓', duration(stage.seconds)),
            (false, Some(all)) => ('▸', format!("{}/{all}", stage.count)),
            (false, None) => ('▸', stage.count.to_string()),
        };
        let line = apart(&format!("{mark} {network}{}", stage.name), &right, width);
        if stage.done {
            line.replacen('✓', &self.paint(Paint::Green, "✓"), 1)
        } else {
            self.paint(Paint::Bold, &line)
        }
    }

    fn clusters(&self, height: usize) -> Vec<String> {
        let sizes = self.state.round.as_ref().map_or(&[][..], |round| &round.sizes);
        let heading = match (sizes.iter().min(), sizes.iter().max()) {
            (Some(&least), Some(&most)) => {
                let shown =
                    if sizes.len() > self.width { format!(", the first {} below", self.width) } else { String::new() };
                format!("{} clusters of {} to {} rows{shown}", sizes.len(), grouped(least), grouped(most))
            }
            _ => "clusters: none yet".to_owned(),
        };
        let bars = bars(sizes, self.width, height);
        [self.heading(&heading)].into_iter().chain(bars.iter().map(|line| self.paint(Paint::Cyan, line))).collect()
    }

    fn round(&self) -> String {
        let Some(round) = &self.state.round else { return String::new() };
        let percent = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {:.2} %", 100.0 * value));
        let parts = [
            Some(format!("round {}", round.number)),
            percent("changed", round.changed),
            percent("confidence", round.confidence),
            round.effective.map(|value| format!("effective clusters {value:.1}")),
            round.acc.map(|value| format!("acc {value:.3}")),
        ];
        joined(parts.into_iter().flatten(), self.width)
    }

    fn results(&self) -> String {
        let one = |score: &super::Score| {
            let scores: Vec<String> = score.scores.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
            format!("{}: {}", score.method, scores.join(", "))
        };
        // The latest first: it is the best one to see where not all have a place.
        joined(self.state.results.iter().rev().map(one), self.width)
    }

    fn warning(&self) -> String {
        match self.state.warnings.last() {
            Some(warning) => self.paint(Paint::Yellow, &cut(&format!("! {warning}"), self.width)),
            None => String::new(),
        }
    }

    /// The stage at work: how far, how long still, how fast, how well. What is least missed comes last, and is cut first.
    fn at_work(&self) -> String {
        let state = self.state;
        let Some(stage) = state.stages.last().filter(|stage| !stage.done) else { return String::new() };
        let (count, value) = match stage.kind {
            Kind::Epochs => ("epoch", "loss"),
            Kind::Restarts => ("restart", "inertia"),
        };
        let of = state.planned_for(stage).map_or_else(String::new, |all| format!(" of {all}"));
        let parts = [
            Some(format!("{}: {count} {}{of}", stage.name, stage.count)),
            state.left_of(stage).map(|seconds| format!("{} left", duration(seconds))),
            state.rate_of(stage).map(|rate| format!("{} rows/s", grouped(rate.round() as u64))),
            stage.curve.last().map(|&last| format!("{value} {}", short(last))),
            stage.learning_rate.map(|rate| format!("rate {}", short(rate))),
        ];
        joined(parts.into_iter().flatten(), self.width)
    }
}
