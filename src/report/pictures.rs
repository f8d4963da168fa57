//! Rows that are images, as small pictures of bytes.

use ndarray::ArrayView2;

use super::page::Thumbnails;
use crate::run::Image;

/// Pixels that a picture is long at most.
const LONGEST: usize = 32;

/// Makes pictures: values from `low` (black) to `high` (white), and sides of up to 32 pixels, each the mean of a square.
#[derive(Debug)]
pub(super) struct Painter {
    image: Image,
    /// Pixels of the image that one of the picture is wide.
    factor: usize,
    low: f64,
    high: f64,
}

impl Painter {
    /// For images among which `rows` \[n, d\] are, whose least and greatest values become black and white.
    pub(super) fn new(image: Image, rows: ArrayView2<f32>) -> Self {
        let (low, high) =
            rows.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
        let factor = image.shape[0].max(image.shape[1]).div_ceil(LONGEST).max(1);
        Self { image, factor, low: low.into(), high: high.into() }
    }

    /// Height, width and channels (1 or 3) of a picture.
    pub(super) fn shape(&self) -> [usize; 3] {
        let [height, width] = self.image.shape.map(|side| side.div_ceil(self.factor));
        [height, width, if self.image.channels.count >= 3 { 3 } else { 1 }]
    }

    /// One row's picture, \[height, width, channels\].
    pub(super) fn paint<T: Copy + Into<f64>>(&self, row: &[T]) -> Vec<u8> {
        let [height, width, channels] = self.shape();
        let mut picture = Vec::with_capacity(height * width * channels);
        for y in 0..height {
            for x in 0..width {
                picture.extend((0..channels).map(|channel| self.byte(self.mean(row, [y, x], channel))));
            }
        }
        picture
    }

    /// The mean of the pixels that the picture's pixel stands for.
    fn mean<T: Copy + Into<f64>>(&self, row: &[T], [y, x]: [usize; 2], channel: usize) -> f64 {
        let ([height, width], all) = (self.image.shape, self.image.channels);
        let (mut sum, mut count) = (0.0, 0);
        for i in y * self.factor..((y + 1) * self.factor).min(height) {
            for j in x * self.factor..((x + 1) * self.factor).min(width) {
                let place = match all.first {
                    true => (channel * height + i) * width + j,
                    false => (i * width + j) * all.count + channel,
                };
                sum += row.get(place).map_or(0.0, |&value| value.into());
                count += 1;
            }
        }
        sum / f64::from(count.max(1))
    }

    fn byte(&self, value: f64) -> u8 {
        ((value - self.low) / (self.high - self.low).max(f64::MIN_POSITIVE) * 255.0).round() as u8
        // saturates
    }

    /// The pictures of all `rows` \[n, d\].
    pub(super) fn thumbnails(&self, rows: ArrayView2<f32>) -> Thumbnails {
        let [height, width, channels] = self.shape().map(|side| side as u32);
        let pixels = rows.outer_iter().flat_map(|row| self.paint(&row.to_vec())).collect();
        Thumbnails { height, width, channels, places: Vec::new(), pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Channels;

    #[test]
    fn large_images_are_reduced_by_means_and_channels_found_where_they_are() {
        let rows = ndarray::Array2::from_shape_vec((1, 4), vec![0.0f32, 10.0, 5.0, 5.0]).unwrap_or_default();
        let grey = Painter::new(Image { shape: [2, 2], channels: Channels::new(1, false) }, rows.view());
        assert_eq!((grey.shape(), grey.paint(&[0.0f32, 10.0, 5.0, 20.0])), ([2, 2, 1], vec![0, 255, 128, 255]));

        let wide = Image { shape: [1, 64], channels: Channels::new(1, false) };
        let values: Vec<f32> = (0..64).map(|j| if j < 2 { 1.0 } else { 0.0 }).collect();
        let rows = ndarray::Array2::from_shape_vec((1, 64), values.clone()).unwrap_or_default();
        let wide = Painter::new(wide, rows.view());
        assert_eq!((wide.shape(), &wide.paint(&values)[..2]), ([1, 32, 1], &[255u8, 0][..]));

        // A red and a green pixel, channels first and last.
        for (first, row) in [(true, [1.0f32, 0.0, 0.0, 1.0, 0.0, 0.0]), (false, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0])] {
            let rows = ndarray::Array2::from_shape_vec((1, 6), row.to_vec()).unwrap_or_default();
            let painter = Painter::new(Image { shape: [1, 2], channels: Channels::new(3, first) }, rows.view());
            assert_eq!(painter.thumbnails(rows.view()).pixels, [255, 0, 0, 0, 255, 0]);
        }
    }
}
