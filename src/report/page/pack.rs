//! The points' numbers, packed: arrays of bytes one after the other, compressed (zlib), in base64.
//!
//! A list of numbers of b bytes each is stored as b planes, the lowest bytes first: what is alike lies together, which
//! compresses better.

use std::io::Write;

use base64::prelude::{Engine, BASE64_STANDARD};
use flate2::write::ZlibEncoder;
use flate2::Compression;
use serde::Serialize;

use super::input::Layout;

/// Where an array lies in the packed bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Entry {
    name: String,
    /// `u8`, `u16`, `f32` or `text`.
    kind: &'static str,
    start: usize,
    bytes: usize,
}

/// Arrays that are being packed.
#[derive(Debug, Default)]
pub(super) struct Pack {
    pub(super) entries: Vec<Entry>,
    bytes: Vec<u8>,
}

impl Pack {
    fn add(&mut self, name: &str, kind: &'static str, bytes: impl IntoIterator<Item = u8>) {
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        self.entries.push(Entry { name: name.to_owned(), kind, start, bytes: self.bytes.len() - start });
    }

    /// Whole numbers, as bytes where all fit, else as two bytes each.
    pub(super) fn whole(&mut self, name: &str, values: &[u32]) {
        match values.iter().all(|&value| value < 256) {
            true => self.add(name, "u8", values.iter().map(|&value| value as u8)),
            false => self.planes16(name, &values.iter().map(|&value| value.min(65_535) as u16).collect::<Vec<_>>()),
        }
    }

    /// Row numbers: differences, in f32's planes of four bytes.
    pub(super) fn rising(&mut self, name: &str, values: &[u32]) {
        let mut before = 0;
        let steps: Vec<u32> =
            values.iter().map(|&value| value.wrapping_sub(std::mem::replace(&mut before, value))).collect();
        self.add(name, "u32", (0..4).flat_map(|plane| steps.iter().map(move |step| step.to_le_bytes()[plane])));
    }

    /// Fractions 0 to 1 as 0 to 254; 255: none.
    pub(super) fn fractions(&mut self, name: &str, values: &[f32]) {
        let byte = |value: f32| if value.is_nan() { 255 } else { (value.clamp(0.0, 1.0) * 254.0).round() as u8 };
        self.add(name, "u8", values.iter().map(|&value| byte(value)));
    }

    /// Numbers, rounded to 12 bits of mantissa: four digits, almost.
    pub(super) fn numbers(&mut self, name: &str, values: &[f32]) {
        let rounded = |value: f32| match value.is_finite() {
            true => (value.to_bits().saturating_add(0x0400) & 0xFFFF_F800).to_le_bytes(),
            false => f32::NAN.to_le_bytes(),
        };
        let words: Vec<[u8; 4]> = values.iter().map(|&value| rounded(value)).collect();
        self.add(name, "f32", (0..4).flat_map(|plane| words.iter().map(move |word| word[plane])));
    }

    /// Text, one line a value.
    pub(super) fn text(&mut self, name: &str, values: &[String]) {
        self.add(name, "text", values.join("\n").into_bytes());
    }

    /// A map as two arrays of 16 bits, x and y on one scale. Points that are not finite go to the middle.
    pub(super) fn map(&mut self, name: &str, layout: &Layout, kept: &[usize]) {
        let finite = || layout.xy.iter().filter(|point| point.iter().all(|value| value.is_finite()));
        let range = |axis: usize| {
            finite().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), p| (low.min(p[axis]), high.max(p[axis])))
        };
        let ranges = [range(0), range(1)];
        let width = ranges.iter().map(|&(low, high)| f64::from(high) - f64::from(low)).fold(0.0, f64::max);
        for (axis, suffix) in [(0, "x"), (1, "y")] {
            let middle = (f64::from(ranges[axis].0) + f64::from(ranges[axis].1)) / 2.0;
            let place = |value: f32| match value.is_finite() && width > 0.0 {
                true => ((f64::from(value) - middle) / width + 0.5).clamp(0.0, 1.0) * 65_535.0,
                false => 32_767.5,
            };
            let places: Vec<u16> = kept.iter().map(|&row| place(layout.xy[row][axis]) as u16).collect();
            self.planes16(&format!("{name}{suffix}"), &places);
        }
    }

    fn planes16(&mut self, name: &str, values: &[u16]) {
        self.add(name, "u16", (0..2).flat_map(|plane| values.iter().map(move |value| value.to_le_bytes()[plane])));
    }

    /// The bytes as they stand in the page.
    pub(super) fn finish(self) -> std::io::Result<(Vec<Entry>, String)> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(&self.bytes)?;
        Ok((self.entries, BASE64_STANDARD.encode(encoder.finish()?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;

    fn unpacked(pack: Pack) -> (Vec<Entry>, Vec<u8>) {
        let (entries, text) = pack.finish().unwrap();
        let mut bytes = Vec::new();
        let packed = BASE64_STANDARD.decode(text).unwrap();
        flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        (entries, bytes)
    }

    #[test]
    fn planes_come_one_after_the_other() {
        let mut pack = Pack::default();
        pack.whole("small", &[1, 255]);
        pack.whole("large", &[1, 258]);
        pack.fractions("share", &[0.0, 1.0, 7.0, f32::NAN]);
        pack.rising("rows", &[3, 10]);
        let (entries, bytes) = unpacked(pack);
        assert_eq!(bytes, [1, 255, 1, 2, 0, 1, 0, 254, 254, 255, 3, 7, 0, 0, 0, 0, 0, 0]);
        assert_eq!((entries[1].kind, entries[1].start, entries[1].bytes), ("u16", 2, 4));
    }

    #[test]
    fn maps_keep_their_shape() {
        let mut pack = Pack::default();
        let xy = vec![[0.0, 0.0], [10.0, 5.0], [f32::NAN, 1.0]];
        pack.map("m", &Layout { name: String::new(), xy }, &[0, 1, 2]);
        let (_, bytes) = unpacked(pack);
        let at = |start: usize, i: usize| u16::from_le_bytes([bytes[start + i], bytes[start + 3 + i]]);
        assert_eq!([at(0, 0), at(0, 1), at(0, 2)], [0, 65_535, 32_767]);
        assert_eq!([at(6, 0), at(6, 1)], [16_383, 49_151]);
    }

    #[test]
    fn numbers_keep_three_digits_and_more() {
        for value in [1.0f32, -2.5173, 12345.678, 1e-20, f32::MAX] {
            let mut pack = Pack::default();
            pack.numbers("v", &[value]);
            let (_, bytes) = unpacked(pack);
            let found = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            assert!(value == f32::MAX || (found / value - 1.0).abs() < 3e-4, "{value}: {found}");
        }
    }
}
