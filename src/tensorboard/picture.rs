//! Pixels as PNG, and grids of small images.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Error, Result};

/// Pixels row by row, the channels of a pixel together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 for grey, 3 for RGB, 4 for RGBA.
    pub channels: u8,
    /// \[height, width, channels\].
    pub pixels: Vec<u8>,
}

impl Picture {
    /// As a PNG file.
    ///
    /// # Errors
    /// [`Error::Config`] if the sizes do not fit.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        png([self.width, self.height], self.channels, &self.pixels)
    }
}

/// Images of one size, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Tiles<'a> {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 for grey, 3 for RGB, 4 for RGBA.
    pub channels: u8,
    /// \[count, height, width, channels\].
    pub pixels: &'a [u8],
}

impl Tiles<'_> {
    /// How many there are.
    ///
    /// # Errors
    /// [`Error::Config`] if the pixels are not those of whole images.
    pub fn count(&self) -> Result<usize> {
        let size = bytes([self.width, self.height], self.channels);
        match size {
            Some(size) if size > 0 && self.pixels.len().is_multiple_of(size) => Ok(self.pixels.len() / size),
            _ => Err(Error::Config(format!(
                "{} bytes are not whole images of {} × {} pixels with {} channels",
                self.pixels.len(),
                self.width,
                self.height,
                self.channels
            ))),
        }
    }

    /// All of them in a grid, `columns` in a row, in reading order; the places that remain are 0. No gaps: TensorBoard cuts a
    /// sprite into tiles by their size alone.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no images or no columns, the sizes do not fit, or the grid is too large for an image.
    pub fn grid(&self, columns: usize) -> Result<Picture> {
        let count = self.count()?;
        let too_large = || Error::Config(format!("{count} images in {columns} columns make no image"));
        if count == 0 || columns == 0 {
            return Err(too_large());
        }
        let side = |size: u32, count: usize| u32::try_from(count).ok()?.checked_mul(size);
        let width = side(self.width, columns).ok_or_else(too_large)?;
        let height = side(self.height, count.div_ceil(columns)).ok_or_else(too_large)?;
        let mut pixels = vec![0; bytes([width, height], self.channels).ok_or_else(too_large)?];
        let line = self.width as usize * usize::from(self.channels);
        for (index, source) in self.pixels.chunks_exact(line).enumerate() {
            let (tile, y) = (index / self.height as usize, index % self.height as usize);
            let row = tile / columns * self.height as usize + y;
            let start = (row * columns + tile % columns) * line;
            pixels[start..start + line].copy_from_slice(source);
        }
        Ok(Picture { width, height, channels: self.channels, pixels })
    }
}

/// The bytes of an image.
fn bytes([width, height]: [u32; 2], channels: u8) -> Option<usize> {
    (width as usize).checked_mul(height as usize)?.checked_mul(channels.into())
}

/// Pixels as a PNG file.
pub(super) fn png([width, height]: [u32; 2], channels: u8, pixels: &[u8]) -> Result<Vec<u8>> {
    let colour = match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        4 => ExtendedColorType::Rgba8,
        _ => return Err(Error::Config(format!("an image has 1, 3 or 4 channels, not {channels}"))),
    };
    if pixels.is_empty() || bytes([width, height], channels) != Some(pixels.len()) {
        return Err(Error::Config(format!(
            "{} bytes are not an image of {width} × {height} pixels with {channels} channels",
            pixels.len()
        )));
    }
    let mut out = Vec::new();
    let written = PngEncoder::new(&mut out).write_image(pixels, width, height, colour);
    written.map_err(|e| Error::Config(format!("an image cannot be encoded as PNG: {e}")))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tiles_lie_in_reading_order() {
        let tiles = Tiles { width: 2, height: 1, channels: 1, pixels: &[1, 2, 3, 4, 5, 6] };
        let grid = tiles.grid(2).unwrap();
        assert_eq!((grid.width, grid.height), (4, 2));
        assert_eq!(grid.pixels, [1, 2, 3, 4, 5, 6, 0, 0]);
        let high = Tiles { width: 1, height: 2, channels: 3, pixels: &[1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4] };
        assert_eq!(high.grid(2).unwrap().pixels, [1, 1, 1, 3, 3, 3, 2, 2, 2, 4, 4, 4]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(png([2, 2], 1, &[0; 3]).is_err() && png([2, 2], 2, &[0; 8]).is_err() && png([0, 0], 1, &[]).is_err());
        let tiles = |width, pixels| Tiles { width, height: 1, channels: 1, pixels };
        assert!(tiles(2, &[0; 3]).grid(1).is_err() && tiles(0, &[]).grid(1).is_err() && tiles(1, &[]).grid(1).is_err());
        assert!(tiles(1, &[0]).grid(0).is_err() && tiles(1, &[0]).grid(usize::MAX).is_err());
    }

    #[test]
    fn a_png_reads_back() {
        let picture = Picture { width: 2, height: 1, channels: 3, pixels: vec![1, 2, 3, 4, 5, 6] };
        let read = image::load_from_memory(&picture.to_png().unwrap()).unwrap();
        assert_eq!(read.to_rgb8().into_raw(), picture.pixels);
    }
}
