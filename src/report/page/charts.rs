//! Lines over time as SVG.

use std::collections::BTreeMap;

use serde::Serialize;

use super::input::{Curve, StageMark};
use super::text;

/// Charts that are drawn at most.
const CHARTS: usize = 24;
/// Lines of a chart at most.
const LINES: usize = 20;
/// Lines that are named beside the chart at most.
const NAMED: usize = 12;
/// Pixels that a stage's name takes: nearer ones stay unnamed.
const MARK: f64 = 52.0;
/// Points of a line: more are thinned out, keeping the extremes.
const POINTS: usize = 400;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 30.0;

/// A chart that is ready to be drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Chart {
    title: String,
    /// For those who do not see it.
    description: String,
    x_name: String,
    unit: String,
    lines: Vec<Line>,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    marks: Vec<Tick>,
    named: bool,
    left_out: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Line {
    name: String,
    path: String,
    colour: usize,
    last: String,
    /// A line of one point is drawn as a dot.
    dot: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Tick {
    pub(super) at: String,
    pub(super) label: String,
}

/// The charts, in the order in which they are first named.
pub(super) fn charts(curves: &[Curve], marks: &[StageMark]) -> Vec<Chart> {
    let mut order: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&Curve>> = BTreeMap::new();
    for curve in curves.iter().filter(|curve| curve.x.len() == curve.y.len()) {
        if !groups.contains_key(curve.chart.as_str()) {
            order.push(&curve.chart);
        }
        groups.entry(&curve.chart).or_default().push(curve);
    }
    order.iter().take(CHARTS).filter_map(|name| chart(name, &groups[name], marks)).collect()
}

/// Which lines are drawn: the first, or those that end highest.
fn chosen<'a>(curves: &[&'a Curve]) -> Vec<(usize, &'a Curve)> {
    let mut numbered: Vec<(usize, &Curve)> = curves.iter().copied().enumerate().collect();
    if numbered.len() > LINES {
        let end = |curve: &Curve| curve.y.iter().rev().copied().find(|y| y.is_finite()).unwrap_or(f64::NEG_INFINITY);
        numbered.sort_by(|a, b| end(b.1).total_cmp(&end(a.1)));
        numbered.truncate(LINES);
        numbered.sort_by_key(|entry| entry.0);
    }
    numbered
}

fn chart(title: &str, curves: &[&Curve], marks: &[StageMark]) -> Option<Chart> {
    let shown = chosen(curves);
    let points = || shown.iter().flat_map(|(_, curve)| curve.x.iter().copied().zip(curve.y.iter().copied()));
    let finite = || points().filter(|(x, y)| x.is_finite() && y.is_finite());
    finite().next()?;
    let log = curves.iter().any(|curve| curve.log) && finite().all(|(_, y)| y > 0.0);
    let x = Axis::new(finite().map(|point| point.0), LEFT, WIDTH - RIGHT, false, false);
    let y = Axis::new(finite().map(|point| point.1), HEIGHT - BOTTOM, TOP, log, true);
    let lines: Vec<Line> = shown.iter().map(|&(number, curve)| line(number, curve, &x, &y)).collect();
    let here = marks.iter().filter(|mark| mark.chart.as_deref().is_none_or(|chart| chart == title));
    let mut free = f64::NEG_INFINITY;
    let marks = here.filter(|mark| x.holds(mark.x)).take(12).map(|mark| {
        let at = x.place(mark.x);
        let label = if at >= free { text::name(&mark.name) } else { String::new() };
        free = if label.is_empty() { free } else { at + MARK };
        Tick { at: coordinate(at), label }
    });
    let first = shown.first()?.1;
    let ends: Vec<String> =
        lines.iter().take(NAMED).map(|line| format!("{} ends at {}", line.name, line.last)).collect();
    Some(Chart {
        title: text::name(title),
        description: format!(
            "{} over {}, {} to {}. {}.",
            text::name(title),
            text::name(&first.x_name),
            text::number(x.low),
            text::number(x.high),
            ends.join("; ")
        ),
        x_name: text::name(&first.x_name),
        unit: text::name(&first.unit) + if log { " (log)" } else { "" },
        named: lines.len() > 1 && lines.len() <= NAMED,
        left_out: match curves.len() - shown.len() {
            0 => String::new(),
            _ => format!("The {LINES} of {} lines that end highest.", text::count(curves.len() as u64)),
        },
        lines,
        x_ticks: x.ticks(5),
        y_ticks: y.ticks(4),
        marks: marks.collect(),
    })
}

fn line(number: usize, curve: &Curve, x: &Axis, y: &Axis) -> Line {
    let points = thinned(&curve.x, &curve.y);
    let mut path = String::new();
    let mut pen = 'M';
    let mut drawn = Vec::new();
    for (px, py) in points {
        if !px.is_finite() || !py.is_finite() {
            pen = 'M';
            continue;
        }
        let place = (coordinate(x.place(px)), coordinate(y.place(py)));
        path.push_str(&format!("{pen}{} {}", place.0, place.1));
        drawn.push(place);
        pen = 'L';
    }
    let last = curve.y.iter().rev().copied().find(|value| value.is_finite()).unwrap_or(f64::NAN);
    let dot = if drawn.len() == 1 { drawn.pop() } else { None };
    Line {
        name: text::name(&curve.name),
        path,
        colour: number % super::palette::COLOURS.len(),
        last: text::number(last),
        dot,
    }
}

/// At most [`POINTS`] points or so: of each stretch the lowest and the highest, in their order.
fn thinned(x: &[f64], y: &[f64]) -> Vec<(f64, f64)> {
    let all: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    if all.len() <= POINTS {
        return all;
    }
    let stretch = all.len().div_ceil(POINTS / 2);
    let mut kept = Vec::new();
    for part in all.chunks(stretch) {
        let order = |a: &usize, b: &usize| part[*a].1.total_cmp(&part[*b].1);
        let (low, high) = ((0..part.len()).min_by(order), (0..part.len()).max_by(order));
        if let (Some(low), Some(high)) = (low, high) {
            kept.push(part[low.min(high)]);
            if low != high {
                kept.push(part[low.max(high)]);
            }
        }
    }
    kept.extend(all.last());
    kept
}

/// From values to places on the paper.
pub(super) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Axis {
    /// `room`: the axis ends beyond the values rather than at them.
    pub(super) fn new(values: impl Iterator<Item = f64>, from: f64, to: f64, log: bool, room: bool) -> Self {
        let (mut low, mut high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if room && !log && low >= 0.0 && low < 0.4 * high {
            low = 0.0;
        }
        if high - low <= f64::EPSILON * high.abs() {
            let by = if high == 0.0 { 1.0 } else { high.abs() * if log { 0.5 } else { 0.1 } };
            (low, high) = (if high == 0.0 && room { 0.0 } else { low - by }, high + by);
        } else if room && !log {
            high += (high - low) * 0.04;
        }
        Self { low, high, from, to, log }
    }

    fn scaled(&self, value: f64) -> f64 {
        if self.log {
            value.max(f64::MIN_POSITIVE).ln()
        } else {
            value
        }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.scaled(self.low), self.scaled(self.high));
        self.from + (self.scaled(value) - low) / (high - low) * (self.to - self.from)
    }

    fn holds(&self, value: f64) -> bool {
        value >= self.low && value <= self.high
    }

    /// About `wanted` round values.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<Tick> {
        let tick = |value: f64| Tick { at: coordinate(self.place(value)), label: text::number(value) };
        if self.log {
            let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
            let step = (decades.clone().count() / (wanted + 1)).max(1);
            let parts: &[f64] = if decades.clone().count() <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let values =
                decades.step_by(step).flat_map(|decade| parts.iter().map(move |part| part * 10f64.powi(decade)));
            return values.filter(|&value| self.holds(value)).map(tick).collect();
        }
        let rough = (self.high - self.low) / wanted as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * power).find(|&s| s >= rough).unwrap_or(power);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).take(12).map(|place| tick(place as f64 * step)).collect()
    }
}

/// A place on the paper with one decimal.
pub(super) fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn curve(chart: &str, y: &[f64]) -> Curve {
        let x = (0..y.len()).map(|x| x as f64).collect();
        Curve { chart: chart.into(), name: "loss".into(), x, y: y.to_vec(), x_name: "epoch".into(), ..Curve::default() }
    }

    #[test]
    fn odd_values_are_drawn_or_left_out() {
        for y in [&[][..], &[f64::NAN], &[1.0], &[0.0, 0.0], &[1.0, f64::INFINITY, 3.0], &[-1e300, 1e300]] {
            for chart in charts(&[curve("a", y), Curve { log: true, ..curve("b", y) }], &[]) {
                let json = serde_json::to_string(&chart).unwrap();
                assert!(!json.contains("NaN") && !json.contains("inf"), "{y:?}: {json}");
            }
        }
    }

    #[test]
    fn peaks_survive_thinning() {
        let mut y = vec![0.0; 100_000];
        y[77_777] = 5.0;
        let kept = thinned(&(0..100_000).map(f64::from).collect::<Vec<_>>(), &y);
        assert!(kept.len() <= POINTS + 3 && kept.iter().any(|point| point.1 == 5.0));
    }

    #[test]
    fn many_lines_are_cut_to_the_highest() {
        let curves: Vec<Curve> = (0..1000).map(|c| curve("sizes", &[1.0, f64::from(c)])).collect();
        let chart = charts(&curves, &[]).remove(0);
        assert_eq!(chart.lines.len(), LINES);
        assert!(chart.left_out.contains("1,000"));
    }

    #[test]
    fn marks_stay_in_the_picture() {
        let mark = |x| StageMark { name: "cluster".into(), x, chart: None };
        let chart = charts(&[curve("a", &[3.0, 2.0, 1.0])], &[mark(1.0), mark(9.0)]).remove(0);
        assert_eq!(chart.marks.len(), 1);
        assert_eq!(chart.marks[0].at, coordinate((LEFT + WIDTH - RIGHT) / 2.0));
    }
}
