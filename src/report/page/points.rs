//! The map's data for the script.

use serde::Serialize;

use super::bounds::Cut;
use super::input::{Points, Report};
use super::pack::{Entry, Pack};
use super::palette;
use super::pictures::Gallery;
use super::text;
use super::PageError;

/// Classes that have names at most.
const CLASSES: usize = 1_000;

/// What the script reads.
pub(super) struct Packed {
    pub(super) json: String,
    pub(super) base64: String,
}

#[derive(Debug, Serialize)]
struct Data {
    /// Points on the map.
    n: usize,
    /// Rows of the data.
    rows: u64,
    file: String,
    clusters: Vec<ClusterData>,
    classes: Vec<String>,
    layouts: Vec<String>,
    columns: Vec<String>,
    /// Whether rows, ids, … are there is seen by their arrays.
    arrays: Vec<Entry>,
    /// Columns of the sprite sheet; 0: no pictures.
    sheet: usize,
}

#[derive(Debug, Serialize)]
struct ClusterData {
    name: String,
    size: u64,
    colour: u8,
    shape: u8,
    /// Tile of the mean image.
    mean: Option<usize>,
}

/// Packs the points that the cut keeps.
pub(super) fn pack(report: &Report, cut: &Cut, gallery: &Gallery) -> Result<Packed, PageError> {
    let none = Points::default();
    let points = report.points.as_ref().unwrap_or(&none);
    let kept = cut.kept(points.cluster.len());
    let (arrays, base64) = arrays(points, &kept, cut, gallery).finish()?;
    let names = cluster_names(report);
    let marks = palette::assign(&report.clusters);
    let clusters = report.clusters.iter().zip(names).zip(marks).enumerate();
    let data = Data {
        n: kept.len(),
        rows: report.run.n_rows,
        file: file_name(&report.run.data),
        clusters: clusters
            .map(|(number, ((cluster, name), (colour, shape)))| {
                let mean = gallery.means.get(number).copied().flatten();
                ClusterData { name, size: cluster.size, colour, shape, mean }
            })
            .collect(),
        classes: points.class_names.iter().take(CLASSES).map(|name| text::name(name)).collect(),
        layouts: points.layouts.iter().map(|layout| text::name(&layout.name)).collect(),
        columns: points.columns.iter().take(cut.columns).map(|column| text::name(&column.name)).collect(),
        arrays,
        sheet: gallery.size().map_or(0, |size| size.0),
    };
    Ok(Packed { json: serde_json::to_string(&data)?, base64 })
}

fn arrays(points: &Points, kept: &[usize], cut: &Cut, gallery: &Gallery) -> Pack {
    fn of<T: Copy>(values: &[T], kept: &[usize]) -> Vec<T> {
        kept.iter().map(|&place| values[place]).collect()
    }
    let mut pack = Pack::default();
    if kept.is_empty() {
        return pack;
    }
    for (number, layout) in points.layouts.iter().enumerate() {
        pack.map(&format!("map{number}"), layout, kept);
    }
    pack.whole("cluster", &of(&points.cluster, kept));
    match points.rows.is_empty() {
        true if kept.len() == points.cluster.len() => {}
        true => pack.rising("row", &kept.iter().map(|&place| place as u32).collect::<Vec<_>>()),
        false => pack.rising("row", &of(&points.rows, kept)),
    }
    for (name, values) in [("confidence", &points.confidence), ("outlier", &points.outlier)] {
        if !values.is_empty() {
            pack.fractions(name, &of(values, kept));
        }
    }
    if !points.second.is_empty() {
        pack.whole("second", &of(&points.second, kept));
    }
    if !points.class.is_empty() {
        // 0: no class.
        let shown = |class: i32| if (class as usize) < CLASSES { class + 1 } else { 0 };
        let classes: Vec<u32> = of(&points.class, kept).into_iter().map(|class| shown(class).max(0) as u32).collect();
        pack.whole("class", &classes);
    }
    for (number, column) in points.columns.iter().take(cut.columns).enumerate() {
        pack.numbers(&format!("column{number}"), &of(&column.values, kept));
    }
    if gallery.count() > 0 {
        // 0: no picture.
        let tiles: Vec<u32> = kept.iter().map(|&place| gallery.tile(place).map_or(0, |tile| tile as u32 + 1)).collect();
        pack.whole("tile", &tiles);
    }
    if cut.ids {
        pack.text("id", &kept.iter().map(|&place| text::name(&points.ids[place])).collect::<Vec<_>>());
    }
    pack
}

/// The clusters' names: their own, or their numbers.
pub(super) fn cluster_names(report: &Report) -> Vec<String> {
    let own = |(number, name): (usize, &Option<String>)| match name {
        Some(name) => format!("{number} · {}", text::name(name)),
        None => number.to_string(),
    };
    report.clusters.iter().map(|cluster| &cluster.name).enumerate().map(own).collect()
}

/// A file name that no system minds.
fn file_name(data: &str) -> String {
    let plain: String = data.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(40).collect();
    if plain.is_empty() {
        "rows".to_owned()
    } else {
        plain
    }
}
