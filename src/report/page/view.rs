//! What the template is filled with.

use serde::Serialize;

use super::bounds::Cut;
use super::charts::{self, Chart};
use super::input::{Cluster, Distinguishing, Report, RowKind};
use super::palette;
use super::pictures::{place_of, Gallery};
use super::points::cluster_names;
use super::tables::{self, Health, RunTable, ScoreTable, StageBar};
use super::text;
use super::tree::{self, Tree};
use super::verdict::{self, Verdict};

/// Clusters that have a card at most.
pub(super) const CARDS: usize = 50;
/// Columns of a card at most.
const CARD_COLUMNS: usize = 10;
/// Rows of each kind on a card without pictures.
const NAMED_ROWS: usize = 4;
/// Characters of the recipe that are shown at most.
const RECIPE: usize = 100_000;

/// The page without the map's points.
#[derive(Debug, Serialize)]
pub(super) struct View {
    title: String,
    run: Vec<(String, String)>,
    recipe: String,
    recipe_name: String,
    ended: String,
    verdict: Verdict,
    scores: ScoreTable,
    map: Option<Map>,
    cards: Vec<Card>,
    /// Clusters without a card.
    rest: Vec<Rest>,
    /// What the share of a column means.
    share_means: &'static str,
    has_columns: bool,
    /// What the columns of a cluster are called.
    columns_title: &'static str,
    tree: Option<Tree>,
    contingency: Option<tables::ClassTable>,
    pairs: Vec<Pair>,
    charts: Vec<Chart>,
    stages: StageBar,
    health: Vec<Health>,
    runs: Option<RunTable>,
}

#[derive(Debug, Serialize)]
struct Map {
    layouts: Vec<String>,
    /// How many of how many rows.
    caption: String,
    has_classes: bool,
    has_confidence: bool,
    has_outliers: bool,
    columns: Vec<String>,
    repeated: bool,
    pictures: bool,
}

/// A cluster, in detail.
#[derive(Debug, Serialize)]
struct Card {
    number: usize,
    name: String,
    colour: u8,
    shape: u8,
    size: String,
    share: String,
    confidence: String,
    bars: Vec<Bar>,
    bars_label: String,
    mean: Option<Picture>,
    prototypes: Vec<Picture>,
    typical: Vec<RowView>,
    doubtful: Vec<RowView>,
    columns: Vec<ColumnView>,
    near: Vec<Near>,
}

#[derive(Debug, Serialize)]
struct Near {
    number: u32,
    name: String,
    colour: u8,
    shape: u8,
    distance: String,
    has_card: bool,
}

/// A place on the sprite sheet.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Picture {
    x: usize,
    y: usize,
}

#[derive(Debug, Serialize)]
struct RowView {
    row: u32,
    label: String,
    confidence: String,
    picture: Option<Picture>,
}

#[derive(Debug, Serialize)]
struct ColumnView {
    name: String,
    effect: String,
    /// Of the bar, whose middle is at 50.
    x: String,
    width: String,
    higher: bool,
    share: String,
    share_rest: String,
}

#[derive(Debug, Serialize)]
struct Bar {
    x: String,
    y: String,
    height: String,
    width: String,
    /// Bins below half confidence.
    low: bool,
}

#[derive(Debug, Serialize)]
struct Rest {
    number: usize,
    name: String,
    colour: u8,
    shape: u8,
    size: String,
    confidence: String,
    columns: String,
    near: String,
}

#[derive(Debug, Serialize)]
struct Pair {
    row: u32,
    input: Picture,
    output: Picture,
    cluster: String,
}

/// The clusters, largest first.
pub(super) fn order(report: &Report) -> Vec<usize> {
    let mut order: Vec<usize> = (0..report.clusters.len()).collect();
    order.sort_by_key(|&cluster| std::cmp::Reverse(report.clusters[cluster].size));
    // Few clusters: by their numbers, which readers look for.
    if order.len() <= CARDS {
        order.sort_unstable();
    }
    order
}

/// Composes the page.
pub(super) fn view(report: &Report, order: &[usize], gallery: &Gallery, cut: &Cut) -> View {
    let names = cluster_names(report);
    let colours = palette::assign(&report.clusters);
    let seen = Seen { report, names: &names, colours: &colours, gallery, cut, order };
    let counts = report.run.kind == RowKind::Counts;
    View {
        title: text::name(&report.run.data),
        run: tables::run_facts(&report.run),
        recipe: text::lines(&report.run.recipe_toml, RECIPE),
        recipe_name: text::name(&report.run.recipe),
        ended: report.run.ended.as_deref().map(text::name).unwrap_or_default(),
        verdict: verdict::compose(report),
        scores: tables::scores(&report.scores),
        map: seen.map(),
        cards: order.iter().take(CARDS).map(|&cluster| seen.card(cluster)).collect(),
        rest: order.iter().skip(CARDS).map(|&cluster| seen.rest(cluster)).collect(),
        share_means: if counts { "counted at all" } else { "above the median" },
        has_columns: report.clusters.iter().any(|cluster| !cluster.columns.is_empty()),
        columns_title: if counts { "Marker" } else { "Column" },
        tree: tree::tree(&report.dendrogram, &names, &colours),
        contingency: report.contingency.as_ref().and_then(|table| tables::classes(table, &names, &report.clusters)),
        pairs: seen.pairs(),
        charts: charts::charts(&report.curves, &report.stage_marks),
        stages: tables::stages(&report.run),
        health: tables::health(&report.health),
        runs: report.runs.as_ref().map(tables::runs),
    }
}

struct Seen<'a> {
    report: &'a Report,
    names: &'a [String],
    colours: &'a [(u8, u8)],
    gallery: &'a Gallery,
    cut: &'a Cut,
    order: &'a [usize],
}

impl Seen<'_> {
    fn map(&self) -> Option<Map> {
        let points = self.report.points.as_ref().filter(|points| !points.layouts.is_empty())?;
        if self.cut.points == 0 || points.cluster.is_empty() {
            return None;
        }
        let (shown, rows) = (self.cut.points as u64, self.report.run.n_rows);
        Some(Map {
            layouts: points.layouts.iter().map(|layout| text::name(&layout.name)).collect(),
            caption: match shown < rows {
                true => format!("{} of {} rows", text::count(shown), text::count(rows)),
                false => format!("All {} rows", text::count(shown)),
            },
            has_classes: !points.class.is_empty(),
            has_confidence: !points.confidence.is_empty(),
            has_outliers: !points.outlier.is_empty(),
            columns: points.columns.iter().take(self.cut.columns).map(|column| text::name(&column.name)).collect(),
            repeated: self.names.len() > palette::COLOURS.len(),
            pictures: self.gallery.shown() > 0,
        })
    }

    fn mark(&self, cluster: usize) -> (u8, u8) {
        self.colours.get(cluster).copied().unwrap_or_default()
    }

    fn picture(&self, tile: usize) -> Option<Picture> {
        let columns = self.gallery.size()?.0;
        Some(Picture { x: tile % columns, y: tile / columns })
    }

    fn card(&self, number: usize) -> Card {
        let cluster = &self.report.clusters[number];
        let (colour, shape) = self.mark(number);
        let rows: u64 = self.report.clusters.iter().map(|cluster| cluster.size).sum();
        let prototypes = self.gallery.prototypes.get(number).map(Vec::as_slice).unwrap_or_default();
        Card {
            number,
            name: self.names[number].clone(),
            colour,
            shape,
            size: text::count(cluster.size),
            share: text::percent(cluster.size as f64 / rows.max(1) as f64),
            confidence: confidence(cluster.mean_confidence),
            bars: bars(&cluster.confidence_histogram),
            bars_label: bars_label(&cluster.confidence_histogram),
            mean: self.gallery.means.get(number).copied().flatten().and_then(|tile| self.picture(tile)),
            prototypes: prototypes.iter().filter_map(|&tile| self.picture(tile)).collect(),
            typical: self.rows(&cluster.typical),
            doubtful: self.rows(&cluster.doubtful),
            columns: columns(&cluster.columns),
            near: self.near(cluster, 3),
        }
    }

    fn near(&self, cluster: &Cluster, most: usize) -> Vec<Near> {
        let near = |&(number, distance): &(u32, f32)| {
            let (colour, shape) = self.mark(number as usize);
            let has_card = self.order.iter().take(CARDS).any(|&cluster| cluster == number as usize);
            let name = self.names[number as usize].clone();
            Near { number, name, colour, shape, distance: text::short(f64::from(distance)), has_card }
        };
        cluster.nearest.iter().take(most).map(near).collect()
    }

    fn rows(&self, rows: &[u32]) -> Vec<RowView> {
        let points = self.report.points.as_ref();
        let view = |&row: &u32| {
            let place = points.and_then(|points| place_of(points, row));
            let of = |list: fn(&super::input::Points) -> &[f32]| {
                points.zip(place).and_then(|(p, place)| list(p).get(place).copied())
            };
            let id = points.zip(place).and_then(|(points, place)| points.ids.get(place));
            RowView {
                row,
                label: id.map_or_else(|| row.to_string(), |id| text::name(id)),
                confidence: of(|points| &points.confidence).map(confidence).unwrap_or_default(),
                picture: place.and_then(|place| self.gallery.tile(place)).and_then(|tile| self.picture(tile)),
            }
        };
        // Names take more room than pictures.
        let most = if self.gallery.count() > 0 { self.cut.rows_per_card } else { NAMED_ROWS };
        rows.iter().take(most).map(view).collect()
    }

    fn rest(&self, number: usize) -> Rest {
        let cluster = &self.report.clusters[number];
        let (colour, shape) = self.mark(number);
        let arrow = |column: &Distinguishing| {
            format!("{} {}", text::name(&column.name), if column.effect < 0.0 { "↓" } else { "↑" })
        };
        let near: Vec<String> = self.near(cluster, 2).into_iter().map(|near| near.name).collect();
        Rest {
            number,
            name: self.names[number].clone(),
            colour,
            shape,
            size: text::count(cluster.size),
            confidence: confidence(cluster.mean_confidence),
            columns: cluster.columns.iter().take(3).map(arrow).collect::<Vec<_>>().join(", "),
            near: near.join(", "),
        }
    }

    fn pairs(&self) -> Vec<Pair> {
        let shown = self.report.reconstructions.iter().zip(&self.gallery.pairs);
        shown
            .filter_map(|(pair, &tiles)| {
                let (input, output) = tiles?;
                Some(Pair {
                    row: pair.row,
                    input: self.picture(input)?,
                    output: self.picture(output)?,
                    cluster: self.names[pair.cluster as usize].clone(),
                })
            })
            .collect()
    }
}

fn confidence(value: f32) -> String {
    match value.is_finite() {
        true => format!("{value:.2}"),
        false => "–".to_owned(),
    }
}

/// The columns of a card with bars that are as long as |d|, 3 and more filling the width.
fn columns(columns: &[Distinguishing]) -> Vec<ColumnView> {
    const FULL: f64 = 3.0;
    let largest = columns.iter().take(CARD_COLUMNS).map(|column| f64::from(column.effect.abs())).fold(0.0, f64::max);
    let full = largest.clamp(1.0, FULL);
    let share = |value: f32| if value.is_finite() { text::percent(f64::from(value)) } else { "–".to_owned() };
    let view = |column: &Distinguishing| {
        let effect = f64::from(column.effect);
        let width = (effect.abs() / full).min(1.0) * 48.0;
        ColumnView {
            name: text::name(&column.name),
            effect: if effect.is_finite() { format!("{:+.2}", effect).replace('-', "−") } else { "–".to_owned() },
            x: charts::coordinate(if effect < 0.0 { 50.0 - width } else { 50.0 }),
            width: charts::coordinate(if width.is_finite() { width } else { 0.0 }),
            higher: effect >= 0.0,
            share: share(column.share),
            share_rest: share(column.share_rest),
        }
    };
    columns.iter().take(CARD_COLUMNS).map(view).collect()
}

/// A histogram, 100 wide and 24 high.
fn bars(histogram: &[u64]) -> Vec<Bar> {
    let bins = histogram.len().min(50);
    let highest = histogram.iter().take(bins).copied().max().unwrap_or(0).max(1) as f64;
    let bar = |(bin, &count): (usize, &u64)| {
        // Bins with few rows stay visible.
        let height = if count == 0 { 0.0 } else { (count as f64 / highest * 24.0).max(1.0) };
        Bar {
            x: charts::coordinate(100.0 * bin as f64 / bins as f64),
            y: charts::coordinate(24.0 - height),
            height: charts::coordinate(height),
            width: charts::coordinate(100.0 / bins as f64 - 1.0),
            low: 2 * bin < bins,
        }
    };
    histogram.iter().take(bins).enumerate().map(bar).collect()
}

fn bars_label(histogram: &[u64]) -> String {
    let all: u64 = histogram.iter().sum();
    let low: u64 = histogram.iter().take(histogram.len() / 2).sum();
    format!("Rows by confidence: {} of {} are below one half.", text::count(low), text::count(all))
}
