//! Curves of braille dots and bars of blocks.

use super::text;

/// Columns for the numbers at a curve's left.
const LABEL: usize = 9;
/// A curve whose largest value is so many times its least is drawn by logarithms.
const LOGARITHMIC: f64 = 20.0;
/// Eighths of a block, from none to all.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The finite ones of `values` as `height` lines of `width` columns: the largest at the top, the least at the bottom.
pub(super) fn curve(values: &[f64], width: usize, height: usize) -> Vec<String> {
    let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let (min, max) = range(&values);
    if min > max || height == 0 || width < LABEL + 2 {
        return vec![" ".repeat(width); height];
    }
    let by_log = min > 0.0 && max > LOGARITHMIC * min;
    let scale = |value: f64| if by_log { value.ln() } else { value };
    let (bottom, span) = (scale(min), scale(max) - scale(min));
    let columns = 2 * (width - LABEL);
    // From the bottom up, in dots.
    let level = |value: f64| match span > 0.0 && span.is_finite() {
        true => ((scale(value) - bottom) / span * (4 * height - 1) as f64).round() as usize,
        false => 2 * height,
    };
    let mut dots = Dots::new(width - LABEL, height);
    let mut before = None;
    for (x, value) in resampled(&values, columns).into_iter().enumerate() {
        let y = level(value);
        let from: usize = before.unwrap_or(y);
        (from.min(y)..=from.max(y)).for_each(|y| dots.set(x, y));
        before = Some(y);
    }
    let label = |line: usize| match line {
        0 => text::short(max),
        _ if line + 1 == height => text::short(min),
        1 if by_log => "(log)".to_owned(),
        _ => String::new(),
    };
    dots.lines().enumerate().map(|(line, dots)| format!("{:>1$} {dots}", label(line), LABEL - 1)).collect()
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), &value| (min.min(value), max.max(value)))
}

/// `count` values: means of equal parts, or where there are fewer values, on lines between them.
fn resampled(values: &[f64], count: usize) -> Vec<f64> {
    if values.len() > count {
        let end = |part: usize| (part as u128 * values.len() as u128 / count as u128) as usize;
        let mean = |part: &[f64]| part.iter().map(|value| value / part.len() as f64).sum();
        return (0..count).map(|part| mean(&values[end(part)..end(part + 1)])).collect();
    }
    let last = values.len().saturating_sub(1);
    let between = |x: usize| {
        let place = x as f64 * last as f64 / (count - 1).max(1) as f64;
        let before = (place as usize).min(last);
        let share = place - before as f64;
        values[before] * (1.0 - share) + values[(before + 1).min(last)] * share
    };
    (0..count).map(between).collect()
}

/// A field of dots, 2 × 4 a character.
struct Dots {
    width: usize,
    height: usize,
    cells: Vec<u8>,
}

impl Dots {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, cells: vec![0; width * height] }
    }

    /// `x` from the left, `y` from the bottom.
    fn set(&mut self, x: usize, y: usize) {
        // The bits of a braille character (U+2800 …) by column, from the lowest dot up.
        const BITS: [[u8; 4]; 2] = [[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]];
        let (column, line) = (x / 2, y / 4);
        if column < self.width && line < self.height {
            self.cells[(self.height - 1 - line) * self.width + column] |= BITS[x % 2][y % 4];
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let braille = |&cell: &u8| char::from_u32(0x2800 + u32::from(cell)).unwrap_or(' ');
        self.cells.chunks(self.width.max(1)).map(move |cells| cells.iter().map(braille).collect())
    }
}

/// Sizes as upright bars, one each, the largest as high as there is place; any that is not 0 is seen. Where there are more than
/// columns, the first ones.
pub(super) fn bars(sizes: &[u64], width: usize, height: usize) -> Vec<String> {
    let shown = &sizes[..sizes.len().min(width)];
    let most = shown.iter().copied().max().unwrap_or(0).max(1);
    // Bars of several columns have a gap between.
    let each = (width / shown.len().max(1)).clamp(1, 8);
    let eighths = |size: u64| match size {
        0 => 0,
        _ => ((size as f64 / most as f64 * (8 * height) as f64).round() as usize).max(1),
    };
    let line = |line: usize| {
        let below = 8 * (height - 1 - line);
        let bar = |&size: &u64| {
            let block = BLOCKS[eighths(size).saturating_sub(below).min(8)];
            let bar: String = std::iter::repeat_n(block, (each - 1).max(1)).collect();
            if each > 1 {
                bar + " "
            } else {
                bar
            }
        };
        text::fit(&shown.iter().map(bar).collect::<String>(), width)
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_falling_line_falls() {
        let values: Vec<f64> = (0..8).map(|i| 7.0 - f64::from(i)).collect();
        assert_eq!(curve(&values, LABEL + 4, 2), ["   7.000 ⠙⢦⡀⠀", "       0 ⠀⠀⠙⢦"]);
        let falling: Vec<f64> = (0..500).map(|i| 1000.0 * (-0.02 * f64::from(i)).exp()).collect();
        let lines = curve(&falling, 40, 6);
        assert!(lines[0].starts_with("    1000 ") && lines[1].starts_with("   (log) "), "{lines:?}");
        assert!(lines.iter().all(|line| text::columns(line) == 40));
    }

    #[test]
    fn odd_values_are_no_problem() {
        assert_eq!(curve(&[], 20, 2), [" ".repeat(20), " ".repeat(20)]);
        for values in [&[f64::NAN, f64::INFINITY][..], &[1.0], &[2.0; 9], &[f64::MAX, f64::MIN], &[0.0, -0.0, 1e300]] {
            for (width, height) in [(0, 0), (5, 1), (11, 1), (80, 24)] {
                assert_eq!(curve(values, width, height).len(), height);
            }
        }
    }

    #[test]
    fn bars_are_as_high_as_sizes() {
        assert_eq!(bars(&[8, 4, 1, 0], 12, 1), ["██ ▄▄ ▁▁    "]);
        assert_eq!(bars(&[16, 1], 4, 2), ["█   ", "█ ▁ "]);
        assert_eq!(bars(&[1000, 1], 2, 1), ["█▁"]);
        assert_eq!(bars(&[5; 9], 4, 1), ["████"]);
        assert_eq!(bars(&[], 3, 1), ["   "]);
        assert_eq!(bars(&[0, 0], 4, 1), ["    "]);
    }
}
