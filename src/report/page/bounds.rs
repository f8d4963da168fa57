//! What is left out so that the page stays below its limit.

use super::input::Report;
use super::pictures::Gallery;
use super::text;

/// Points of a map at most, whatever the limit: more do not stay fluid.
const POINTS: usize = 200_000;
/// Columns to colour by at most.
const COLUMNS: usize = 12;
/// Rows of each kind on a card.
const ROWS_PER_CARD: usize = 8;
/// Cards' pictures give way before points do only where they take more than this, in bytes.
const SMALL: usize = 1_000_000;
/// Points that stay until all pictures are gone.
const KEPT: usize = 20_000;

/// How much of the report goes on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Whether there are pictures.
    pub(super) pictures: bool,
    /// Pictures of points that no card shows.
    pub(super) other_pictures: usize,
    /// Typical rows, and doubtful rows, of a card.
    pub(super) rows_per_card: usize,
    /// Columns to colour by.
    pub(super) columns: usize,
    /// Whether the points have names.
    pub(super) ids: bool,
    /// Points on the map.
    pub(super) points: usize,
}

/// Bytes of the parts of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub(super) pictures: usize,
    pub(super) picture_count: usize,
    pub(super) points: usize,
}

impl Cut {
    /// Leaves out only what no page has.
    pub(super) fn none(report: &Report) -> Self {
        let points = report.points.as_ref();
        Self {
            pictures: true,
            other_pictures: usize::MAX,
            rows_per_card: ROWS_PER_CARD,
            columns: points.map_or(0, |points| points.columns.len().min(COLUMNS)),
            ids: points.is_some_and(|points| !points.ids.is_empty()),
            points: points.map_or(0, |points| points.cluster.len().min(POINTS)),
        }
    }

    /// Leaves out more, as the page has `over` bytes too many; false where nothing is left.
    pub(super) fn tighten(&mut self, weights: &Weights, over: usize) -> bool {
        let Weights { pictures, picture_count, points } = *weights;
        if self.pictures && self.other_pictures > 0 && pictures > 0 {
            // All pictures count, those of the cards too: a few less than the estimate.
            let share = pictures.saturating_sub(over) as f64 / pictures as f64 * 0.97;
            let fitting = (picture_count.min(self.other_pictures) as f64 * share) as usize;
            self.other_pictures = if fitting < 50 { 0 } else { fitting };
        } else if self.pictures && pictures > SMALL && self.rows_per_card > 2 {
            self.rows_per_card /= 2;
        } else if self.pictures && pictures > SMALL {
            self.pictures = false;
        } else if self.columns > 2 {
            self.columns /= 2;
        } else if self.ids && points > SMALL {
            self.ids = false;
        } else if self.columns > 0 && points > SMALL {
            self.columns = 0;
        } else if self.points > KEPT {
            let share = points.saturating_sub(over) as f64 / points.max(1) as f64 * 0.97;
            self.points = ((self.points as f64 * share) as usize).clamp(KEPT, self.points - 1);
        } else if self.pictures && pictures > 0 {
            self.pictures = false;
        } else if self.ids || self.columns > 0 {
            (self.ids, self.columns) = (false, 0);
        } else if self.points > 0 {
            self.points = if self.points < 100 { 0 } else { self.points / 2 };
        } else {
            return false;
        }
        true
    }

    /// Places of the points that are kept, evenly spread.
    pub(super) fn kept(&self, n: usize) -> Vec<usize> {
        let count = self.points.min(n);
        (0..count).map(|number| (number as u128 * n as u128 / count as u128) as usize).collect()
    }

    /// What readers are told.
    pub(super) fn notes(&self, report: &Report, gallery: &Gallery) -> Vec<String> {
        let Some(points) = &report.points else { return Vec::new() };
        let mut notes = Vec::new();
        let n = points.cluster.len();
        if gallery.shown() < gallery.offered {
            notes.push(format!(
                "{} of {} pictures of rows",
                text::count((gallery.offered - gallery.shown()) as u64),
                text::count(gallery.offered as u64)
            ));
        }
        if self.columns < points.columns.len() {
            notes.push(format!(
                "{} to colour by",
                text::counted((points.columns.len() - self.columns) as u64, "column", "columns")
            ));
        }
        if !self.ids && !points.ids.is_empty() {
            notes.push("the names of the rows".to_owned());
        }
        if self.points < n {
            notes.push(format!(
                "{} of {} points of the map",
                text::count((n - self.points) as u64),
                text::count(n as u64)
            ));
        }
        notes
    }
}
