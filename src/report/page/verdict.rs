//! The run in words.

use serde::Serialize;

use super::input::{Report, RowKind, Status};
use super::text;

/// From this confidence on, the model is sure of a row.
pub const SURE: f32 = 0.9;
/// Below this confidence, a row is doubtful.
pub const DOUBTFUL: f32 = 0.5;

/// What the reader sees first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Verdict {
    /// One sentence.
    pub(super) headline: String,
    /// `good`, `fair` or `poor`: the colour of the mark beside it.
    pub(super) tone: &'static str,
    /// A word or two for the tone.
    pub(super) word: String,
    /// Numbers with their names.
    pub(super) tiles: Vec<Tile>,
    /// What else there is to say.
    pub(super) sentences: Vec<String>,
    /// What guards said, and warnings.
    pub(super) alarms: Vec<String>,
    /// What to try next.
    pub(super) next: Vec<String>,
}

/// A number with its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Tile {
    value: String,
    label: String,
    note: String,
}

/// The facts that several sentences need.
struct Seen {
    k: usize,
    empty: usize,
    largest: u64,
    smallest: u64,
    rows: u64,
    /// Shares of rows, 0 to 1.
    sure: Option<f64>,
    doubtful: Option<f64>,
    acc: Option<f64>,
    nmi: Option<f64>,
    ari: Option<f64>,
    silhouette: Option<f64>,
    /// Accuracy of plain k-means, where the table has it.
    plain_acc: Option<f64>,
    last_changed: Option<f64>,
}

/// Composes the verdict.
pub(super) fn compose(report: &Report) -> Verdict {
    let seen = look(report);
    let (tone, word) = tone(report, &seen);
    Verdict {
        headline: headline(report, &seen),
        tone,
        word: word.to_owned(),
        tiles: tiles(report, &seen),
        sentences: sentences(report, &seen),
        alarms: alarms(report),
        next: next(report, &seen),
    }
}

fn look(report: &Report) -> Seen {
    let sizes = || report.clusters.iter().map(|cluster| cluster.size);
    let rows = sizes().sum::<u64>();
    let confidence = report.points.as_ref().map(|points| points.confidence.as_slice()).unwrap_or_default();
    let share = |given: Option<f32>, fits: fn(f32) -> bool| {
        let counted = (!confidence.is_empty())
            .then(|| confidence.iter().filter(|&&value| fits(value)).count() as f64 / confidence.len() as f64);
        given.filter(|value| value.is_finite()).map(f64::from).or(counted)
    };
    let scores = &report.scores;
    let result = scores.rows.iter().find(|row| row.result).or(scores.rows.last());
    let column = |name: &str| scores.columns.iter().position(|column| column.eq_ignore_ascii_case(name));
    let score = |name: &str| *result?.values.get(column(name)?)?;
    let plain = scores.rows.iter().find(|row| row.plain);
    Seen {
        k: report.clusters.len(),
        empty: sizes().filter(|&size| size == 0).count(),
        largest: sizes().max().unwrap_or(0),
        smallest: sizes().filter(|&size| size > 0).min().unwrap_or(0),
        rows,
        sure: share(report.facts.sure_share, |value| value >= SURE),
        doubtful: share(report.facts.doubtful_share, |value| value < DOUBTFUL),
        acc: score("acc"),
        nmi: score("nmi"),
        ari: score("ari"),
        silhouette: score("silhouette"),
        plain_acc: plain.filter(|row| !row.result).and_then(|row| *row.values.get(column("acc")?)?),
        last_changed: report.facts.changed.last().map(|&share| f64::from(share)),
    }
}

/// What a row is called: singular and plural.
pub(super) fn row_words(kind: RowKind) -> (&'static str, &'static str) {
    match kind {
        RowKind::Images { .. } => ("image", "images"),
        RowKind::Series => ("series", "series"),
        RowKind::Counts | RowKind::Table => ("row", "rows"),
    }
}

fn headline(report: &Report, seen: &Seen) -> String {
    let (one, many) = row_words(report.run.kind);
    let found = text::counted((seen.k - seen.empty) as u64, "cluster", "clusters");
    let rows = text::counted(report.run.n_rows, one, many);
    match &report.run.status {
        Status::Finished => format!("{found} in {rows}."),
        Status::Interrupted => format!("Stopped early: {found} in {rows} so far."),
        Status::Collapsed { .. } => format!("The run failed. What it had before: {found} in {rows}."),
    }
}

fn tone(report: &Report, seen: &Seen) -> (&'static str, &'static str) {
    match report.run.status {
        Status::Collapsed { .. } => return ("poor", "Failed"),
        Status::Interrupted => return ("fair", "Not finished"),
        Status::Finished => {}
    }
    let settled = report.facts.converged != Some(false);
    match seen.sure {
        Some(sure) if sure >= 0.9 && settled && report.facts.guard.is_empty() => ("good", "Clear clusters"),
        Some(sure) if sure >= 0.6 => ("fair", "Mostly clear clusters"),
        Some(_) => ("poor", "Unclear clusters"),
        None => ("fair", "Finished"),
    }
}

fn tiles(report: &Report, seen: &Seen) -> Vec<Tile> {
    let tile = |value: String, label: &str, note: String| Tile { value, label: label.to_owned(), note };
    let mut tiles = vec![tile(
        text::count((seen.k - seen.empty) as u64),
        "clusters",
        match seen.empty {
            0 => format!("{} to {} rows", text::count(seen.smallest), text::count(seen.largest)),
            empty => format!("and {} empty", text::count(empty as u64)),
        },
    )];
    let (_, many) = row_words(report.run.kind);
    let features = match report.run.kind {
        RowKind::Images { height, width, channels: 1 } => format!("{height} × {width} pixels"),
        RowKind::Images { height, width, channels } => format!("{height} × {width} pixels, {channels} channels"),
        _ => text::counted(report.run.n_features, "column", "columns"),
    };
    tiles.push(tile(text::count(report.run.n_rows), many, features));
    if let Some(acc) = seen.acc {
        tiles.push(tile(text::percent(acc), "accuracy", "against the labels".to_owned()));
    } else if let Some(silhouette) = seen.silhouette {
        tiles.push(tile(text::number(silhouette), "silhouette", "−1 to 1; higher is better".to_owned()));
    }
    if let Some(sure) = seen.sure {
        tiles.push(tile(text::percent(sure), "sure rows", "confidence 0.9 or more".to_owned()));
    }
    if let Some(rounds) = report.facts.rounds {
        let note = match report.facts.converged {
            Some(true) => "the clusters settled",
            Some(false) if seen.last_changed == Some(0.0) => "no change in the last one",
            Some(false) => "still changing at the end",
            None => "of self-training",
        };
        tiles.push(tile(text::count(rounds), if rounds == 1 { "round" } else { "rounds" }, note.to_owned()));
    }
    tiles.push(tile(text::duration(report.run.seconds), "run time", format!("on {}", text::name(&report.run.device))));
    tiles
}

fn sentences(report: &Report, seen: &Seen) -> Vec<String> {
    let mut said = Vec::new();
    let share = |size: u64| text::percent(size as f64 / seen.rows.max(1) as f64);
    if seen.k > 1 && seen.rows > 0 {
        said.push(format!(
            "The largest cluster has {} ({}), the smallest {} ({}).",
            text::counted(seen.largest, "row", "rows"),
            share(seen.largest),
            text::count(seen.smallest),
            share(seen.smallest)
        ));
    }
    if seen.empty > 0 {
        said.push(format!(
            "{} no rows.",
            if seen.empty == 1 {
                "One cluster has".into()
            } else {
                format!("{} clusters have", text::count(seen.empty as u64))
            }
        ));
    }
    said.extend(score_sentence(seen));
    if let (Some(sure), Some(doubtful)) = (seen.sure, seen.doubtful) {
        said.push(format!(
            "The model is sure of {} of the rows. {}",
            if sure > 0.0 { text::percent(sure) } else { "none".to_owned() },
            match doubtful > 0.0 {
                true =>
                    format!("{} are doubtful: no cluster has more than half of their weight.", text::percent(doubtful)),
                false => "None is doubtful.".to_owned(),
            }
        ));
    }
    if let (Some(rounds), Some(converged)) = (report.facts.rounds, report.facts.converged) {
        let rounds = text::counted(rounds, "round", "rounds");
        let last = seen.last_changed.map(text::percent);
        said.push(match (converged, last) {
            (true, _) => format!("Self-training ended by itself after {rounds}: the clusters had settled."),
            (false, Some(_)) if seen.last_changed == Some(0.0) => {
                format!("In the last of {rounds} no row changed its cluster.")
            }
            (false, Some(last)) => format!("After {rounds}, {last} of the rows still changed cluster."),
            (false, None) => format!("After {rounds}, the clusters had not settled."),
        });
    }
    if report.facts.guard.is_empty() && report.run.status == Status::Finished {
        said.push("No guard stepped in: nothing diverged or collapsed.".to_owned());
    }
    said
}

fn score_sentence(seen: &Seen) -> Option<String> {
    if let Some(acc) = seen.acc {
        let others: Vec<String> = [("NMI", seen.nmi), ("ARI", seen.ari)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {:.3}", value?)))
            .collect();
        let beside = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
        let gain = seen
            .plain_acc
            .map_or(String::new(), |plain| format!(" k-means on the rows as they are: {}.", text::percent(plain)));
        return Some(format!(
            "Matched one to one with the classes, {} of the rows are in the cluster of their class{beside}.{gain}",
            text::percent(acc)
        ));
    }
    let silhouette = seen.silhouette?;
    let words = match silhouette {
        s if s >= 0.7 => "rows are much nearer to their own cluster than to the next",
        s if s >= 0.4 => "clusters stand apart, with some overlap",
        s if s >= 0.2 => "clusters overlap",
        _ => "clusters overlap so much that the borders may mean little",
    };
    Some(format!("There are no labels to compare with. The silhouette is {}: {words}.", text::number(silhouette)))
}

fn alarms(report: &Report) -> Vec<String> {
    let mut alarms = Vec::new();
    if let Status::Collapsed { message } = &report.run.status {
        alarms.push(text::sentence(message));
    }
    alarms.extend(
        report.facts.guard.iter().take(20).map(|message| format!("A guard stepped in: {}", text::sentence(message))),
    );
    alarms.extend(report.run.warnings.iter().take(20).map(|message| text::sentence(message)));
    let more = report.facts.guard.len().saturating_sub(20) + report.run.warnings.len().saturating_sub(20);
    if more > 0 {
        alarms.push(format!("And {} more.", text::counted(more as u64, "message", "messages")));
    }
    alarms
}

fn next(report: &Report, seen: &Seen) -> Vec<String> {
    let mut next: Vec<String> = report.facts.next.iter().take(10).map(|advice| text::sentence(advice)).collect();
    let mut say = |text: &str| next.push(text.to_owned());
    match report.run.status {
        Status::Collapsed { .. } => say("Lower the learning rate, or ask for fewer clusters, and run again."),
        Status::Interrupted => say("Resume the run: it goes on where it stopped."),
        Status::Finished => {}
    }
    if report.facts.converged == Some(false)
        && report.run.status == Status::Finished
        && seen.last_changed.is_none_or(|share| share > 0.001)
    {
        say("Allow more rounds (cluster.max_rounds): rows were still changing cluster.");
    }
    if seen.empty > 0 || (seen.k > 2 && seen.smallest > 0 && seen.smallest * seen.k as u64 * 20 < seen.rows) {
        say("Some clusters are tiny. Look at their rows; if they are strays, ask for fewer clusters.");
    }
    if seen.k > 2 && seen.largest * 2 > seen.rows {
        say("One cluster holds more than half of the rows. Try more clusters, or another scaling of the columns.");
    }
    if seen.doubtful.is_some_and(|share| share > 0.1) {
        say("Colour the map by confidence and look at the doubtful rows: they lie between clusters that may be one.");
    }
    if let (Some(acc), Some(plain)) = (seen.acc, seen.plain_acc) {
        if acc < plain {
            say("k-means on the rows as they are agrees better with the labels. Try other seeds, or a longer pretraining.");
        }
    }
    if report.runs.is_none() && report.run.status == Status::Finished {
        say("Run with two or three other seeds. Clusters that come back each time can be trusted.");
    }
    next
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::input::{Cluster, Points, ScoreRow, Scores};
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.run.n_rows = 100;
        report.clusters = [60, 40].map(|size| Cluster { size, ..Cluster::default() }).to_vec();
        report.points =
            Some(Points { cluster: vec![0; 4], confidence: vec![0.99, 0.95, 0.92, 0.3], ..Points::default() });
        report
    }

    #[test]
    fn a_run_with_labels_is_judged_by_them() {
        let mut report = report();
        report.scores = Scores {
            columns: ["ACC", "NMI"].map(str::to_owned).to_vec(),
            rows: vec![
                ScoreRow { method: "kmeans".into(), values: vec![Some(0.9), None], plain: true, result: false },
                ScoreRow { method: "dec".into(), values: vec![Some(0.8), Some(0.7)], plain: false, result: true },
            ],
        };
        let verdict = compose(&report);
        let all = verdict.sentences.join(" ");
        assert!(all.contains("80.0\u{202f}% of the rows are in the cluster of their class (NMI 0.700)"), "{all}");
        assert!(all.contains("sure of 75.0\u{202f}%"), "{all}");
        assert!(verdict.next.iter().any(|advice| advice.contains("agrees better")));
        assert_eq!(verdict.headline, "2 clusters in 100 rows.");
    }

    #[test]
    fn what_went_wrong_comes_first() {
        let mut report = report();
        report.run.status = Status::Collapsed { message: "the centroids met".into() };
        report.facts.guard = vec!["rate lowered".into()];
        let verdict = compose(&report);
        assert_eq!((verdict.tone, verdict.word.as_str()), ("poor", "Failed"));
        assert_eq!(verdict.alarms, ["the centroids met", "A guard stepped in: rate lowered"]);
    }

    #[test]
    fn an_empty_report_has_a_verdict() {
        let verdict = compose(&Report::default());
        assert_eq!(verdict.headline, "0 clusters in 0 rows.");
    }
}
