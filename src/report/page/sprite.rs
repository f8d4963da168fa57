//! All small pictures of the page in one PNG, a sprite sheet.

use base64::prelude::{Engine, BASE64_STANDARD};
use png::{BitDepth, ColorType, Compression, Encoder};

use super::input::Thumbnails;

/// Pixels of a sheet at most: what phones show without shrinking it.
const PIXELS: usize = 16 << 20;
/// Pixels of a sheet's side at most.
const SIDE: usize = 8_192;
/// Pictures of a sheet at most: their numbers are packed in two bytes.
const COUNT: usize = 65_000;

/// Pictures that are being put on a sheet, side by side in rows.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) height: usize,
    pub(super) width: usize,
    channels: usize,
    tiles: Vec<u8>,
    pub(super) count: usize,
}

impl Sheet {
    /// A sheet for pictures of this size; none where it makes no sense.
    pub(super) fn new(thumbnails: &Thumbnails) -> Option<Self> {
        let Thumbnails { height, width, channels, .. } = *thumbnails;
        let fits = (1..=512).contains(&height) && (1..=512).contains(&width) && (channels == 1 || channels == 3);
        fits.then_some(Self {
            height: height as usize,
            width: width as usize,
            channels: channels as usize,
            tiles: Vec::new(),
            count: 0,
        })
    }

    pub(super) fn tile_bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Pictures that a sheet holds at most.
    pub(super) fn most(&self) -> usize {
        let rows = SIDE / self.height;
        (PIXELS / (self.height * self.width)).min(rows * (SIDE / self.width)).min(COUNT)
    }

    /// Puts a picture on the sheet and gives its number; none where it has another size or the sheet is full.
    pub(super) fn add(&mut self, pixels: &[u8]) -> Option<usize> {
        if pixels.len() != self.tile_bytes() || self.count >= self.most() {
            return None;
        }
        self.tiles.extend_from_slice(pixels);
        self.count += 1;
        Some(self.count - 1)
    }

    /// Pictures side by side.
    pub(super) fn columns(&self) -> usize {
        let square = ((self.count * self.height) as f64 / self.width as f64).sqrt().ceil() as usize;
        square.clamp(1, SIDE / self.width).max(self.count.div_ceil(SIDE / self.height)).max(1)
    }

    /// The sheet as PNG, in base64.
    pub(super) fn png(&self) -> Result<String, png::EncodingError> {
        let columns = self.columns();
        let rows = self.count.div_ceil(columns).max(1);
        let line = self.width * self.channels;
        let mut pixels = vec![0u8; rows * self.height * columns * line];
        for (tile, content) in self.tiles.chunks_exact(self.tile_bytes()).enumerate() {
            let (top, left) = (tile / columns * self.height, tile % columns * line);
            for (y, values) in content.chunks_exact(line).enumerate() {
                let start = (top + y) * columns * line + left;
                pixels[start..start + line].copy_from_slice(values);
            }
        }
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, (columns * self.width) as u32, (rows * self.height) as u32);
        encoder.set_color(if self.channels == 1 { ColorType::Grayscale } else { ColorType::Rgb });
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Balanced);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()?;
        Ok(BASE64_STANDARD.encode(file))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tiles_lie_where_they_are_looked_for() {
        let size = Thumbnails { height: 2, width: 3, channels: 1, ..Thumbnails::default() };
        let mut sheet = Sheet::new(&size).unwrap();
        for tile in 0..5u8 {
            assert_eq!(sheet.add(&[tile * 10; 6]), Some(tile as usize));
        }
        assert_eq!(sheet.add(&[0; 7]), None);
        let file = BASE64_STANDARD.decode(sheet.png().unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let columns = sheet.columns();
        assert_eq!(info.width as usize, columns * 3);
        for tile in 0..5 {
            let (x, y) = (tile % columns * 3 + 1, tile / columns * 2 + 1);
            assert_eq!(pixels[y * info.width as usize + x], tile as u8 * 10);
        }
    }

    #[test]
    fn odd_sizes_give_no_sheet() {
        for (height, width, channels) in [(0, 3, 1), (3, 0, 1), (3, 3, 2), (4_000, 3, 1)] {
            assert!(Sheet::new(&Thumbnails { height, width, channels, ..Thumbnails::default() }).is_none());
        }
    }
}
