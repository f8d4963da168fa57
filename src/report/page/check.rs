//! Whether a report's lists fit each other.

use super::input::{Points, Report};
use super::PageError;

/// Clusters of a page at most.
const CLUSTERS: usize = 65_535;

/// # Errors
/// [`PageError::Shape`] or [`PageError::Range`].
pub(super) fn check(report: &Report) -> Result<(), PageError> {
    let k = report.clusters.len();
    below("clusters", k as u64, CLUSTERS as u64 + 1)?;
    if let Some(points) = &report.points {
        check_points(points, k)?;
    }
    for row in &report.scores.rows {
        length(&format!("scores of {}", row.method), row.values.len(), report.scores.columns.len())?;
    }
    if let Some(table) = &report.contingency {
        length("contingency.counts", table.counts.len(), k * table.classes.len())?;
        length_if_any("contingency.matched", table.matched.len(), k)?;
        table
            .matched
            .iter()
            .flatten()
            .try_for_each(|&class| below("contingency.matched", class, table.classes.len()))?;
    }
    if let Some(runs) = &report.runs {
        length("runs.values", runs.values.len(), runs.names.len() * runs.columns.len())?;
        length_if_any("runs.ari", runs.ari.len(), runs.names.len() * runs.names.len())?;
        length("runs.found", runs.found.len(), runs.clusters.len() * runs.names.len().saturating_sub(1))?;
    }
    for cluster in &report.clusters {
        cluster.nearest.iter().try_for_each(|&(other, _)| below("clusters.nearest", other, k))?;
    }
    report.reconstructions.iter().try_for_each(|pair| below("reconstructions.cluster", pair.cluster, k))
}

fn check_points(points: &Points, k: usize) -> Result<(), PageError> {
    let n = points.cluster.len();
    for (what, found) in [
        ("points.rows", points.rows.len()),
        ("points.confidence", points.confidence.len()),
        ("points.second", points.second.len()),
        ("points.class", points.class.len()),
        ("points.ids", points.ids.len()),
        ("points.outlier", points.outlier.len()),
    ] {
        length_if_any(what, found, n)?;
    }
    for layout in &points.layouts {
        length(&format!("points.layouts, {}", layout.name), layout.xy.len(), n)?;
    }
    for column in &points.columns {
        length(&format!("points.columns, {}", column.name), column.values.len(), n)?;
    }
    points.cluster.iter().try_for_each(|&cluster| below("points.cluster", cluster, k))?;
    points.second.iter().try_for_each(|&cluster| below("points.second", cluster, k))?;
    let classes = points.class.iter().filter(|&&class| class >= 0);
    classes.copied().try_for_each(|class| below("points.class", class as u32, points.class_names.len()))?;
    if let Some(pair) = points.rows.windows(2).find(|pair| pair[0] >= pair[1]) {
        return below("points.rows, which must rise", pair[0], pair[1] as usize);
    }
    let Some(thumbnails) = &points.thumbnails else { return Ok(()) };
    let pictures = if thumbnails.places.is_empty() { n } else { thumbnails.places.len() };
    let size = [thumbnails.height, thumbnails.width, thumbnails.channels].map(|side| side as usize);
    let bytes = size.iter().try_fold(pictures, |product, &side| product.checked_mul(side)).unwrap_or(usize::MAX);
    length("points.thumbnails.pixels", thumbnails.pixels.len(), bytes)?;
    if let Some(pair) = thumbnails.places.windows(2).find(|pair| pair[0] >= pair[1]) {
        return below("points.thumbnails.places, which must rise", pair[0], pair[1] as usize);
    }
    thumbnails.places.iter().try_for_each(|&place| below("points.thumbnails.places", place, n))
}

fn length(what: &str, found: usize, expected: usize) -> Result<(), PageError> {
    match found == expected {
        true => Ok(()),
        false => Err(PageError::Shape { what: super::text::name(what), found, expected }),
    }
}

fn length_if_any(what: &str, found: usize, expected: usize) -> Result<(), PageError> {
    match found {
        0 => Ok(()),
        _ => length(what, found, expected),
    }
}

fn below(what: &str, found: impl Into<u64>, limit: impl TryInto<u64>) -> Result<(), PageError> {
    let (found, limit) = (found.into(), limit.try_into().unwrap_or(u64::MAX));
    match found < limit {
        true => Ok(()),
        false => Err(PageError::Range { what: what.to_owned(), found, limit }),
    }
}
