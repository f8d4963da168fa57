//! Tables of the page.

use serde::Serialize;

use super::input::{Cluster, Contingency, Finding, Run, Runs, Scores};
use super::text;

/// Clusters and classes of a table of counts at most.
const CLUSTERS: usize = 60;
const CLASSES: usize = 40;
/// Runs that are compared at most.
const RUNS: usize = 30;
/// Steps of shading.
const SHADES: f64 = 9.0;

/// Methods and their scores.
#[derive(Debug, Serialize)]
pub(super) struct ScoreTable {
    columns: Vec<String>,
    rows: Vec<ScoreLine>,
}

#[derive(Debug, Serialize)]
struct ScoreLine {
    method: String,
    result: bool,
    values: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    text: String,
    best: bool,
}

/// The table of scores. The best of a column is marked where more is better for sure.
pub(super) fn scores(scores: &Scores) -> ScoreTable {
    let shown: Vec<usize> = (0..scores.columns.len().min(12))
        .filter(|&column| scores.rows.iter().any(|row| row.values.get(column).is_some_and(Option::is_some)))
        .collect();
    let higher = |column: usize| {
        let name = scores.columns[column].to_ascii_lowercase();
        matches!(name.as_str(), "acc" | "nmi" | "ari" | "silhouette" | "homogeneity" | "completeness" | "purity")
    };
    let best: Vec<f64> = (0..scores.columns.len())
        .map(|column| scores.rows.iter().filter_map(|row| *row.values.get(column)?).fold(f64::NEG_INFINITY, f64::max))
        .collect();
    let marked = scores.rows.iter().any(|row| row.result);
    let last = scores.rows.len().saturating_sub(1);
    let line = |(place, row): (usize, &super::input::ScoreRow)| ScoreLine {
        method: text::name(&row.method),
        result: if marked { row.result } else { place == last },
        values: shown
            .iter()
            .map(|&column| Cell {
                text: row.values[column].map(score).unwrap_or_else(|| "–".to_owned()),
                best: scores.rows.len() > 1 && higher(column) && row.values[column] == Some(best[column]),
            })
            .collect(),
    };
    ScoreTable {
        columns: shown.iter().map(|&column| text::name(&scores.columns[column])).collect(),
        rows: scores.rows.iter().take(40).enumerate().map(line).collect(),
    }
}

/// Scores below 1 have four decimals, all of them: they are compared.
fn score(value: f64) -> String {
    match value.abs() <= 1.0 {
        true => format!("{value:.4}").replace('-', "−"),
        false => text::number(value),
    }
}

/// The run's particulars, name and value.
pub(super) fn run_facts(run: &Run) -> Vec<(String, String)> {
    let mut facts = vec![
        ("Recipe".to_owned(), text::name(&run.recipe)),
        ("Seed".to_owned(), run.seed.to_string()),
        ("Device".to_owned(), text::name(&run.device)),
        ("Threads".to_owned(), run.threads.to_string()),
        ("Run time".to_owned(), text::duration(run.seconds)),
    ];
    facts.extend(run.ended.iter().map(|ended| ("Ended".to_owned(), text::name(ended))));
    facts.extend(run.versions.iter().take(20).map(|(name, version)| (text::name(name), text::name(version))));
    facts.extend(run.fingerprint.iter().map(|print| ("Data fingerprint".to_owned(), text::name(print))));
    facts
}

/// The stages, one beside the other.
#[derive(Debug, Serialize)]
pub(super) struct StageBar {
    stages: Vec<StageView>,
    total: String,
}

#[derive(Debug, Serialize)]
struct StageView {
    name: String,
    seconds: String,
    share: String,
    steps: String,
    /// Per cent of the bar.
    x: String,
    width: String,
    tint: usize,
}

/// The bar of the stages' times.
pub(super) fn stages(run: &Run) -> StageBar {
    let valid = |seconds: f64| if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let total: f64 = run.stages.iter().map(|stage| valid(stage.seconds)).sum();
    let mut before = 0.0;
    let mut views = Vec::new();
    for (place, stage) in run.stages.iter().take(40).enumerate() {
        let share = if total > 0.0 { valid(stage.seconds) / total } else { 0.0 };
        views.push(StageView {
            name: text::name(&stage.name),
            seconds: text::duration(stage.seconds),
            share: text::percent(share),
            steps: text::count(stage.steps),
            x: format!("{:.2}", before * 100.0),
            width: format!("{:.2}", share * 100.0),
            tint: place % 6,
        });
        before += share;
    }
    StageBar { stages: views, total: text::duration(total) }
}

/// What was found in the data.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    label: String,
    text: String,
    attention: bool,
}

/// The findings; those that need attention first.
pub(super) fn health(findings: &[Finding]) -> Vec<Health> {
    let mut views: Vec<Health> = findings
        .iter()
        .take(100)
        .map(|f| Health { label: text::name(&f.label), text: text::sentence(&f.text), attention: f.attention })
        .collect();
    views.sort_by_key(|view| !view.attention);
    views
}

/// Clusters against classes.
#[derive(Debug, Serialize)]
pub(super) struct ClassTable {
    classes: Vec<String>,
    rows: Vec<ClassRow>,
    left_out: String,
    matched: bool,
}

#[derive(Debug, Serialize)]
struct ClassRow {
    cluster: String,
    size: String,
    matched: String,
    cells: Vec<ClassCell>,
}

#[derive(Debug, Serialize)]
struct ClassCell {
    text: String,
    shade: usize,
    matched: bool,
    /// For those who do not see the colour.
    share: String,
}

/// The table: clusters in the order of the classes that they were matched with, so that matches make a diagonal. None where
/// there is nothing to show.
pub(super) fn classes(table: &Contingency, names: &[String], clusters: &[Cluster]) -> Option<ClassTable> {
    let (k, width) = (names.len(), table.classes.len());
    if k == 0 || width == 0 {
        return None;
    }
    let count = |cluster: usize, class: usize| table.counts[cluster * width + class];
    let total = |class: usize| (0..k).map(|cluster| count(cluster, class)).sum::<u64>();
    let mut columns: Vec<usize> = (0..width).collect();
    columns.sort_by_key(|&class| std::cmp::Reverse(total(class)));
    columns.truncate(CLASSES);
    columns.sort_unstable();
    let mut rows: Vec<usize> = (0..k).collect();
    rows.sort_by_key(|&cluster| std::cmp::Reverse(clusters[cluster].size));
    rows.truncate(CLUSTERS);
    let matched = |cluster: usize| table.matched.get(cluster).copied().flatten().map(|class| class as usize);
    let largest = |cluster: usize| (0..width).max_by_key(|&class| (count(cluster, class), std::cmp::Reverse(class)));
    rows.sort_by_key(|&cluster| (matched(cluster).or(largest(cluster)), matched(cluster).is_none(), cluster));
    let row = |&cluster: &usize| {
        let sum = (0..width).map(|class| count(cluster, class)).sum::<u64>().max(1) as f64;
        let cell = |&class: &usize| {
            let share = count(cluster, class) as f64 / sum;
            ClassCell {
                text: if count(cluster, class) == 0 { "·".to_owned() } else { text::count(count(cluster, class)) },
                shade: (share * SHADES).ceil() as usize,
                matched: matched(cluster) == Some(class),
                share: text::percent(share),
            }
        };
        ClassRow {
            cluster: names[cluster].clone(),
            size: text::count(clusters[cluster].size),
            matched: matched(cluster).map(|class| text::name(&table.classes[class])).unwrap_or_default(),
            cells: columns.iter().map(cell).collect(),
        }
    };
    let cut = k > CLUSTERS || width > CLASSES;
    Some(ClassTable {
        rows: rows.iter().map(row).collect(),
        left_out: match cut {
            true => format!(
                "The largest {} of {} clusters and {} of {} classes.",
                rows.len(),
                text::count(k as u64),
                columns.len(),
                text::count(width as u64)
            ),
            false => String::new(),
        },
        classes: columns.iter().map(|&class| text::name(&table.classes[class])).collect(),
        matched: table.matched.iter().any(Option::is_some),
    })
}

/// Several runs.
#[derive(Debug, Serialize)]
pub(super) struct RunTable {
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
    names: Vec<String>,
    ari: Vec<(String, Vec<Shaded>)>,
    found: Vec<(String, Vec<(String, Shaded)>)>,
    left_out: String,
}

#[derive(Debug, Serialize)]
struct Shaded {
    text: String,
    shade: usize,
}

/// The runs side by side, and how much each pair agrees.
pub(super) fn runs(runs: &Runs) -> RunTable {
    let shown = runs.names.len().min(RUNS);
    let width = runs.columns.len();
    let names: Vec<String> = runs.names.iter().take(shown).map(|name| text::name(name)).collect();
    let value = |run: usize, column: usize| runs.values[run * width + column].map_or_else(|| "–".to_owned(), score);
    let shaded = |run: usize, other: usize| {
        let ari = runs.ari[run * runs.names.len() + other];
        Shaded {
            text: if ari.is_finite() { format!("{ari:.2}").replace('-', "−") } else { "–".to_owned() },
            shade: if ari.is_finite() { (ari.clamp(0.0, 1.0) * SHADES).round() as usize } else { 0 },
        }
    };
    let others = runs.names.len().saturating_sub(1);
    let found = |cluster: usize, other: usize| match &runs.found[cluster * others + other] {
        Some((name, share)) => (
            text::name(name),
            Shaded { text: text::percent(*share), shade: (share.clamp(0.0, 1.0) * SHADES).round() as usize },
        ),
        None => ("–".to_owned(), Shaded { text: String::new(), shade: 0 }),
    };
    let clusters = runs.clusters.iter().take(CLUSTERS).enumerate();
    let pairs = if runs.ari.is_empty() { 0 } else { shown };
    RunTable {
        columns: runs.columns.iter().take(12).map(|column| text::name(column)).collect(),
        rows: (0..shown)
            .map(|run| (names[run].clone(), (0..width.min(12)).map(|column| value(run, column)).collect()))
            .collect(),
        ari: (0..pairs).map(|run| (names[run].clone(), (0..shown).map(|other| shaded(run, other)).collect())).collect(),
        found: clusters
            .map(|(number, name)| {
                (text::name(name), (0..shown.saturating_sub(1)).map(|other| found(number, other)).collect())
            })
            .collect(),
        left_out: match runs.names.len() > RUNS {
            true => format!("The first {RUNS} of {} runs.", text::count(runs.names.len() as u64)),
            false => String::new(),
        },
        names,
    }
}
