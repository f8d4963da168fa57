//! `[augment]`: random changes of a batch's rows.

use serde::{Deserialize, Serialize};

use super::auto::Probability;
use super::range::{at_least_one, fraction, not_negative, require};
use crate::error::Result;

/// `[augment]`: random changes of a batch's rows, in the stages whose `augment` asks for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Kind of change. Default `auto`.
    pub kind: AugmentKind,
    /// Height and width of rows that are images, in pixels, each at least 1. Default: the shape in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 2]>,
    /// Images: largest rotation either way, in degrees, 0 to 180. Default 10.
    pub rotation: f64,
    /// Images: largest shift either way, as a fraction of each side, 0 to below 1. Default 0.1.
    pub shift: f64,
    /// Images: largest zoom either way, 0 to below 1; 0.1 means 90 to 110 %. Default 0.1.
    pub zoom: f64,
    /// Images: largest shear either way, in pixels to the side per pixel down, 0 to below 1. Default 0.1.
    pub shear: f64,
    /// Images: largest move of an elastic bend's control points, as a fraction of each side, 0 to below 1. Default 0.14.
    pub elastic: f64,
    /// Noise: its standard deviation, as a fraction of the root mean square of all values, at least 0. Default 0.1.
    pub noise: f64,
    /// Noise: probability of dropping a value, 0 to below 1, or `auto` (0.5; 0.1 below 25 features). Default `auto`.
    pub feature_dropout: Probability,
    /// Time shift: largest shift either way, as a fraction of the row, 0 to below 1. Default 0.1.
    pub time_shift: f64,
}

/// Kind of random change of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AugmentKind {
    /// None.
    None,
    /// `image` for rows that are known to be images, `noise` for others.
    #[default]
    Auto,
    /// Rotation and shift (Guo et al. 2018), zoom, shear and an elastic bend (Simard et al. 2003), by bilinear interpolation.
    Image,
    /// Gaussian noise and dropped values.
    Noise,
    /// A shift along the row, for spectra and time series.
    TimeShift,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            kind: AugmentKind::Auto,
            image: None,
            rotation: 10.0,
            shift: 0.1,
            zoom: 0.1,
            shear: 0.1,
            elastic: 0.14,
            noise: 0.1,
            feature_dropout: Probability::Auto,
            time_shift: 0.1,
        }
    }
}

impl AugmentConfig {
    pub(super) fn check(&self) -> Result<()> {
        if let Some([height, width]) = self.image {
            at_least_one("augment.image", height.min(width) as u64)?;
        }
        require("augment.rotation", self.rotation, (0.0..=180.0).contains(&self.rotation), "degrees, from 0 to 180")?;
        fraction("augment.shift", self.shift)?;
        // As float32, in which it is used: 0.99999999 rounds to 1.
        let zoom_fits = self.zoom >= 0.0 && (self.zoom as f32) < 1.0;
        require("augment.zoom", self.zoom, zoom_fits, "a number from 0 to below 1")?;
        fraction("augment.shear", self.shear)?;
        fraction("augment.elastic", self.elastic)?;
        not_negative("augment.noise", self.noise)?;
        fraction("augment.feature_dropout", self.feature_dropout.or(|| 0.0))?;
        fraction("augment.time_shift", self.time_shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::assert_refused;

    #[test]
    fn a_refusal_names_the_key_and_what_was_found() {
        assert_refused(&[
            ("augment.image", "0", |c| c.augment.image = Some([0, 3])),
            ("augment.rotation", "181", |c| c.augment.rotation = 181.0),
            ("augment.shift", "1", |c| c.augment.shift = 1.0),
            ("augment.zoom", "0.99999999", |c| c.augment.zoom = 0.99999999),
            ("augment.shear", "-0.1", |c| c.augment.shear = -0.1),
            ("augment.elastic", "1", |c| c.augment.elastic = 1.0),
            ("augment.noise", "-1", |c| c.augment.noise = -1.0),
            ("augment.feature_dropout", "1", |c| c.augment.feature_dropout = Probability::Given(1.0)),
            ("augment.time_shift", "NaN", |c| c.augment.time_shift = f64::NAN),
        ]);
    }
}
