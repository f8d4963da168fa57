//! What the members of a sweep came to: the table, as text, as CSV and as a page.

use std::path::{Path, PathBuf};

use dec::config::Member;
use dec::report::page::{render_sweep, Sweep, SweepMember};
use dec::report::text_table;
use dec::run::{parse_events, write_atomic, EVENTS, REPORT};
use serde_json::Value;

use crate::cli::members;

/// The label-free score in tables.
pub const SCORE: &str = "score";

/// What a member came to.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub status: String,
    /// What the sweep is ranked by.
    pub score: Option<f64>,
    /// Rows that it was trained on, in a sweep that trains on more and more.
    pub rung: Option<usize>,
    values: Vec<String>,
    acc: Option<f64>,
    nmi: Option<f64>,
    ari: Option<f64>,
    silhouette: Option<f64>,
    inertia: Option<f64>,
    seconds: Option<f64>,
    /// What it had from other members.
    shared: Vec<String>,
    dir: PathBuf,
}

impl Outcome {
    pub fn read(member: &Member, dir: &Path, score: Option<f64>, rung: Option<usize>) -> Self {
        let summary = members::summary(dir).unwrap_or(Value::Null);
        let results = summary["results"].as_array();
        let dec = results.and_then(|results| results.iter().find(|r| r["method"] == "dec")).unwrap_or(&Value::Null);
        let events = parse_events(&std::fs::read(dir.join(EVENTS)).unwrap_or_default());
        let shared =
            events.iter().filter(|event| event["event"] == "shared").filter_map(|event| event["from"].as_str());
        Self {
            name: member.name.clone(),
            values: member.values.clone(),
            status: summary["status"].as_str().unwrap_or(if dir.exists() { "failed" } else { "not begun" }).to_owned(),
            score,
            rung,
            acc: dec["acc"].as_f64(),
            nmi: dec["nmi"].as_f64(),
            ari: dec["ari"].as_f64(),
            silhouette: dec["silhouette"].as_f64(),
            inertia: dec["inertia"].as_f64(),
            seconds: summary["seconds"].as_f64(),
            shared: shared.map(str::to_owned).collect(),
            dir: dir.to_owned(),
        }
    }

    /// The numbers that are shown of each, with their names.
    fn numbers(&self, labelled: bool) -> Vec<(&'static str, Option<f64>)> {
        let scores = match labelled {
            true => vec![("acc", self.acc), ("nmi", self.nmi), ("ari", self.ari)],
            false => vec![("silhouette", self.silhouette)],
        };
        [vec![(SCORE, self.score)], scores, vec![("inertia", self.inertia)]].concat()
    }
}

/// Sorts the best first: more rows, then the higher score. Labels have no say.
pub fn rank(outcomes: &mut [Outcome]) {
    let key = |outcome: &Outcome| (outcome.rung, outcome.score.unwrap_or(f64::NEG_INFINITY));
    outcomes.sort_by(|a, b| {
        let ((rung_a, a), (rung_b, b)) = (key(a), key(b));
        rung_b.cmp(&rung_a).then(b.total_cmp(&a))
    });
}

/// The outcomes of a sweep, ranked.
pub struct Outcomes<'a> {
    pub title: &'a str,
    pub data: &'a str,
    pub keys: Vec<&'a str>,
    pub outcomes: &'a [Outcome],
}

impl Outcomes<'_> {
    fn labelled(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.acc.is_some())
    }

    fn has_rungs(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.rung.is_some())
    }

    /// Header and rows: the varied settings, then status and scores.
    fn table(&self) -> Vec<Vec<String>> {
        let (labelled, rungs) = (self.labelled(), self.has_rungs());
        let mut header: Vec<String> = self.keys.iter().map(|&key| key.to_owned()).collect();
        header.extend(rungs.then(|| "rows".to_owned()));
        header.push("status".to_owned());
        let none = [SCORE, "silhouette", "inertia"].to_vec();
        let names =
            self.outcomes.first().map(|first| first.numbers(labelled).into_iter().map(|(name, _)| name).collect());
        header.extend(names.unwrap_or(none).into_iter().map(str::to_owned));
        header.push("seconds".to_owned());
        let number = |value: Option<f64>, digits: usize| value.map_or_else(String::new, |v| format!("{v:.digits$}"));
        let lines = self.outcomes.iter().map(|outcome| {
            let mut cells = outcome.values.clone();
            cells.extend(rungs.then(|| outcome.rung.map_or_else(String::new, |rows| rows.to_string())));
            cells.push(outcome.status.clone());
            let digits = |name| if name == "inertia" { 1 } else { 4 };
            cells.extend(outcome.numbers(labelled).into_iter().map(|(name, value)| number(value, digits(name))));
            cells.push(number(outcome.seconds, 1));
            cells
        });
        std::iter::once(header).chain(lines).collect()
    }

    /// The table as text.
    pub fn text(&self) -> String {
        text_table(&self.table())
    }

    /// Writes `sweep.csv` and `sweep.html` to `out`.
    pub fn write(&self, out: &Path) -> anyhow::Result<()> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in self.table() {
            writer.write_record(row)?;
        }
        write_atomic(&out.join("sweep.csv"), &writer.into_inner()?)?;
        write_atomic(&out.join("sweep.html"), render_sweep(&self.page(out))?.as_bytes())?;
        Ok(())
    }

    fn page(&self, out: &Path) -> Sweep {
        let (labelled, rungs) = (self.labelled(), self.has_rungs());
        let numbers = self.outcomes.first().map(|first| first.numbers(labelled)).unwrap_or_default();
        let mut keys: Vec<String> = self.keys.iter().map(|&key| key.to_owned()).collect();
        keys.extend(rungs.then(|| "rows".to_owned()));
        let member = |outcome: &Outcome| {
            let page = outcome.dir.join(REPORT);
            let link = page.strip_prefix(out).ok().filter(|_| page.is_file()).and_then(Path::to_str);
            let mut values = outcome.values.clone();
            values.extend(rungs.then(|| outcome.rung.map_or_else(String::new, |rows| rows.to_string())));
            SweepMember {
                name: outcome.name.clone(),
                values,
                status: outcome.status.clone(),
                numbers: outcome.numbers(labelled).into_iter().map(|(_, value)| value).collect(),
                seconds: outcome.seconds,
                shared: outcome.shared.join(", "),
                link: link.map(str::to_owned),
            }
        };
        let finished = self.outcomes.iter().filter(|outcome| outcome.status == "finished").count();
        let shared: usize = self.outcomes.iter().map(|outcome| outcome.shared.len()).sum();
        let trained: f64 = self.outcomes.iter().filter_map(|outcome| outcome.seconds).sum();
        let mut notes = vec![
            "The score is the modularity of a member's clusters on the graph of the nearest neighbours of the rows, which is \
             the same for all members: how much more often neighbours are in one cluster than chance would have it. Labels, \
             where there are some, are only shown: they choose nothing."
                .to_owned(),
        ];
        if rungs {
            notes.push(
                "Members began on few rows; of each step the best third by score went on to three times as many."
                    .to_owned(),
            );
        }
        Sweep {
            title: self.title.to_owned(),
            data: self.data.to_owned(),
            keys,
            numbers: numbers.into_iter().map(|(name, _)| name.to_owned()).collect(),
            members: self.outcomes.iter().map(member).collect(),
            facts: vec![
                ("members".to_owned(), format!("{finished} of {} finished", self.outcomes.len())),
                ("time in members".to_owned(), format!("{trained:.1} s")),
                ("taken from other members".to_owned(), format!("{shared} parts")),
            ],
            notes,
        }
    }
}
