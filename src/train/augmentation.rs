//! How a batch's rows are changed at random (`[augment]` of the recipe).

use tch::Tensor;

use crate::backend::augment::{self, Warp};
use crate::backend::dense::{self, Dropout};
use crate::config::{lengths, AugmentConfig, AugmentKind};
use crate::data::{Channels, Rows, LEAST_SIDE};
use crate::error::{Error, Result};

/// Sites of what one step draws; the masks of dropout have the numbers of the layers.
const NOISE: u32 = 1000;
const FEATURE_DROPOUT: u32 = 1001;

/// One way to change rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Augmentation {
    /// Images turned, zoomed, sheared, shifted, bent; or rows shifted along themselves.
    Warp(Warp),
    /// Gaussian noise of this standard deviation, then dropped features, the others scaled up to make up for them.
    Noise {
        /// In units of the scaled rows.
        deviation: f64,
        /// The probability to drop a value, at least 0 and below 1.
        dropout: f64,
    },
}

impl Augmentation {
    /// What `config` asks for, on rows of `n_features` values with this root mean square (as training sees them, scaled), which
    /// are images of this height, width and channels where that is known. `None`: nothing is to be done.
    ///
    /// # Errors
    /// [`Error::Config`] for images whose shape is not known or does not fit.
    pub fn new(
        config: &AugmentConfig,
        image: Option<[usize; 2]>,
        channels: Channels,
        n_features: usize,
        root_mean_square: f64,
    ) -> Result<Option<Self>> {
        let values = |[h, w]: &[usize; 2]| h.checked_mul(*w).and_then(|pixels| pixels.checked_mul(channels.count));
        if let Some([height, width]) = image.filter(|shape| values(shape) != Some(n_features)) {
            return Err(Error::Config(format!(
                "augment.image = [{height}, {width}]: a row has {n_features} values, not {height} x {width}"
            )));
        }
        let kind = match (config.kind, image) {
            (AugmentKind::Auto, Some([height, width])) if height.min(width) >= LEAST_SIDE => AugmentKind::Image,
            (AugmentKind::Auto, _) => AugmentKind::Noise,
            (kind, _) => kind,
        };
        Ok(match (kind, image) {
            (AugmentKind::None | AugmentKind::Auto, _) => None,
            (AugmentKind::Image, None) => {
                return Err(Error::Config(format!(
                    "augment.kind = image: the rows have {n_features} values and no height and width; give them \
                     (augment.image=[HEIGHT,WIDTH])"
                )))
            }
            (AugmentKind::Image, Some([height, width])) => Some(Self::Warp(Warp {
                rotation: config.rotation.to_radians() as f32,
                zoom: config.zoom as f32,
                shear: config.shear as f32,
                shift_y: (config.shift * height as f64) as f32,
                shift_x: (config.shift * width as f64) as f32,
                elastic_y: (config.elastic * height as f64) as f32,
                elastic_x: (config.elastic * width as f64) as f32,
                channels: channels.count as i64,
                channels_first: channels.first,
                ..Warp::still(height as i64, width as i64)
            })),
            (AugmentKind::TimeShift, _) => Some(Self::Warp(Warp {
                shift_x: (config.time_shift * n_features as f64) as f32,
                edge: true,
                ..Warp::still(1, n_features as i64)
            })),
            (AugmentKind::Noise, _) => Some(Self::Noise {
                deviation: config.noise * root_mean_square,
                dropout: config.feature_dropout.or(|| lengths::feature_dropout(n_features)),
            }),
        })
    }

    /// The same, and of images a patch, up to the fraction `share` of each side, becomes that of another row of the batch.
    #[must_use]
    pub fn with_patches(self, share: f64) -> Self {
        match self {
            Self::Warp(warp) if self.is_of_images() => {
                let most = |side: i64| (share * side as f64).round() as i64;
                Self::Warp(Warp { patch_height: most(warp.height), patch_width: most(warp.width), ..warp })
            }
            other => other,
        }
    }

    /// Whether a row may have a patch of another.
    pub fn has_patches(&self) -> bool {
        matches!(self, Self::Warp(warp) if warp.patch_height > 0 && warp.patch_width > 0)
    }

    /// Whether it moves the pixels of images.
    pub fn is_of_images(&self) -> bool {
        matches!(self, Self::Warp(warp) if !warp.edge)
    }

    /// Whether it moves values to other places, which makes few rows many.
    pub fn moves(&self) -> bool {
        matches!(self, Self::Warp(_))
    }

    /// The `rows` at `indices` (int64 \[b\]), scaled and changed, into `out` \[b, d\]; `key` (one int64 on the device) is what is
    /// drawn from.
    ///
    /// # Errors
    /// An index outside the rows, another shape.
    pub fn gather(&self, rows: &Rows, indices: &Tensor, key: &Tensor, out: &Tensor) -> Result<()> {
        match *self {
            Self::Warp(warp) => {
                let (stored, places) = rows.at(indices)?;
                augment::warp(&stored, &places, rows.scale(), key, &warp, out)
            }
            Self::Noise { deviation, dropout } => {
                rows.gather(indices, out)?;
                augment::noise(out, deviation, key, NOISE)?;
                if dropout == 0.0 {
                    return Ok(());
                }
                dense::dropout(out, out, Dropout { p: dropout, key, site: FEATURE_DROPOUT })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn new(config: &AugmentConfig, image: Option<[usize; 2]>) -> Result<Option<Augmentation>> {
        Augmentation::new(config, image, Channels::default(), 784, 0.5)
    }

    #[test]
    fn auto_goes_by_whether_the_rows_are_images() {
        let config = AugmentConfig::default();
        let Some(Augmentation::Warp(warp)) = new(&config, Some([28, 28])).unwrap() else { panic!() };
        assert_eq!((warp.height, warp.shift_x), (28, 2.8));
        assert!(Augmentation::Warp(warp).is_of_images());
        let noise = Augmentation::Noise { deviation: 0.05, dropout: 0.5 };
        assert_eq!(new(&config, None).unwrap(), Some(noise));
        let shift = new(&AugmentConfig { kind: AugmentKind::TimeShift, ..config.clone() }, None).unwrap().unwrap();
        assert!(!noise.is_of_images() && !shift.is_of_images());
        assert!(!noise.moves() && shift.moves());
        let Augmentation::Warp(patched) = Augmentation::Warp(warp).with_patches(0.7) else { panic!() };
        assert_eq!((patched.patch_height, patched.patch_width), (20, 20));
        assert_eq!(patched.rotation, warp.rotation);
        assert_eq!([noise, shift].map(|kind| kind.with_patches(0.7)), [noise, shift], "of images alone");
        assert_eq!(new(&config, Some([1, 784])).unwrap(), Some(noise), "a line is no image");
        assert_eq!(new(&AugmentConfig { kind: AugmentKind::None, ..config }, Some([28, 28])).unwrap(), None);
    }

    #[test]
    fn an_image_without_its_shape_is_refused_with_the_remedy() {
        let config = AugmentConfig { kind: AugmentKind::Image, ..AugmentConfig::default() };
        let message = new(&config, None).unwrap_err().to_string();
        assert!(message.contains("augment.image=[HEIGHT,WIDTH]"), "{message}");
        let message = new(&config, Some([20, 20])).unwrap_err().to_string();
        assert!(message.contains("784"), "{message}");
        assert!(new(&config, Some([14, 56])).unwrap().is_some());
    }
}
