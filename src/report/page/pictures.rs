//! Which pictures the page has, and where they are on the sheet.

use std::collections::BTreeMap;

use super::bounds::Cut;
use super::input::{Points, Report, Thumbnails};
use super::sprite::Sheet;
use super::PageError;

/// Prototypes of a cluster that are shown at most.
const PROTOTYPES: usize = 6;
/// Reconstructions that are shown at most.
pub(super) const PAIRS: usize = 40;

/// The pictures, by what they show.
#[derive(Debug, Default)]
pub(super) struct Gallery {
    sheet: Option<Sheet>,
    /// Tile of a point, by its place.
    points: BTreeMap<usize, usize>,
    /// Tile of each cluster's mean image.
    pub(super) means: Vec<Option<usize>>,
    /// Tiles of each cluster's prototypes.
    pub(super) prototypes: Vec<Vec<usize>>,
    /// Tiles of the reconstructions that are shown.
    pub(super) pairs: Vec<Option<(usize, usize)>>,
    /// Points that have a picture in the report.
    pub(super) offered: usize,
}

/// Puts what the cut leaves on a sheet: pictures of the cards first, then those of other points, evenly spread. `order` has
/// the clusters with cards first.
pub(super) fn gallery(report: &Report, order: &[usize], cut: &Cut) -> Gallery {
    let k = report.clusters.len();
    let mut gallery = Gallery { means: vec![None; k], prototypes: vec![Vec::new(); k], ..Gallery::default() };
    let Some((points, thumbnails)) = report.points.as_ref().and_then(|p| Some((p, p.thumbnails.as_ref()?))) else {
        return gallery;
    };
    gallery.offered = if thumbnails.places.is_empty() { points.cluster.len() } else { thumbnails.places.len() };
    let Some(mut sheet) = Sheet::new(thumbnails).filter(|_| cut.pictures) else { return gallery };
    for &cluster in order.iter().take(super::view::CARDS) {
        let content = &report.clusters[cluster];
        gallery.means[cluster] = sheet.add(&content.mean_image);
        let prototypes = content.prototypes.iter().take(PROTOTYPES.min(cut.rows_per_card));
        gallery.prototypes[cluster] = prototypes.filter_map(|pixels| sheet.add(pixels)).collect();
        for list in [&content.typical, &content.doubtful] {
            for &row in list.iter().take(cut.rows_per_card) {
                gallery.add_point(&mut sheet, thumbnails, place_of(points, row));
            }
        }
    }
    for pair in report.reconstructions.iter().take(PAIRS) {
        gallery.pairs.push(sheet.add(&pair.input).zip(sheet.add(&pair.output)));
    }
    let free = cut.other_pictures.min(sheet.most().saturating_sub(sheet.count));
    let wanted = free.min(gallery.offered);
    for number in 0..wanted {
        let picture = number * gallery.offered / wanted;
        let place = thumbnails.places.get(picture).map_or(picture, |&place| place as usize);
        gallery.add_point(&mut sheet, thumbnails, Some(place));
    }
    gallery.sheet = Some(sheet).filter(|sheet| sheet.count > 0);
    gallery
}

/// The place of a row on the map.
pub(super) fn place_of(points: &Points, row: u32) -> Option<usize> {
    match points.rows.is_empty() {
        true => Some(row as usize).filter(|&place| place < points.cluster.len()),
        false => points.rows.binary_search(&row).ok(),
    }
}

impl Gallery {
    fn add_point(&mut self, sheet: &mut Sheet, thumbnails: &Thumbnails, place: Option<usize>) {
        let Some(place) = place.filter(|place| !self.points.contains_key(place)) else { return };
        let number = match thumbnails.places.is_empty() {
            true => place,
            false => match thumbnails.places.binary_search(&(place as u32)) {
                Ok(number) => number,
                Err(_) => return,
            },
        };
        let bytes = sheet.tile_bytes();
        let pixels = thumbnails.pixels.get(number * bytes..(number + 1) * bytes);
        if let Some(tile) = pixels.and_then(|pixels| sheet.add(pixels)) {
            self.points.insert(place, tile);
        }
    }

    /// Tile of the point at this place.
    pub(super) fn tile(&self, place: usize) -> Option<usize> {
        self.points.get(&place).copied()
    }

    /// Pictures on the sheet.
    pub(super) fn count(&self) -> usize {
        self.sheet.as_ref().map_or(0, |sheet| sheet.count)
    }

    /// Points that have a picture on the sheet.
    pub(super) fn shown(&self) -> usize {
        self.points.len()
    }

    /// Columns and rows of the sheet, width and height of a picture.
    pub(super) fn size(&self) -> Option<(usize, usize, usize, usize)> {
        let sheet = self.sheet.as_ref()?;
        let columns = sheet.columns();
        Some((columns, sheet.count.div_ceil(columns), sheet.width, sheet.height))
    }

    /// The sheet, encoded.
    pub(super) fn png(&self) -> Result<String, PageError> {
        Ok(self.sheet.as_ref().map(Sheet::png).transpose()?.unwrap_or_default())
    }
}
