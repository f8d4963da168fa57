//! Text that is safe to show on a terminal, and of a known width.

use unicode_width::UnicodeWidthChar;

pub(super) use crate::text::grouped;

/// Names are not shown beyond so many characters.
const LONGEST: usize = 400;
const ESCAPE: char = '\u{1b}';

/// `text` as one line without control characters, terminal escapes, or characters that turn the direction of writing.
pub(super) fn clean(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || is_invisible(c) => {}
            c => out.push(c),
        }
    }
    out.chars().take(LONGEST).collect()
}

/// Marks of direction and of zero width, which would hide or turn what is beside them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The rest of an escape sequence (ECMA-48).
fn skip_escape(chars: &mut std::str::Chars) {
    match chars.next() {
        Some('[') => skip_control_sequence(chars),
        // A string (title, link): up to BEL or to ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let mut escaped = false;
            chars.find(|&c| {
                let ends = c == '\u{7}' || (escaped && c == '\\');
                escaped = c == ESCAPE;
                ends
            });
        }
        _ => {}
    }
}

fn skip_control_sequence(chars: &mut std::str::Chars) {
    chars.find(|c| ('@'..='~').contains(c));
}

/// Columns that a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// `text` cut to `width` columns, with "…" where something is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// `text` as just `width` columns: cut, or with blanks behind.
pub(super) fn fit(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width.saturating_sub(columns(&text));
    text + &" ".repeat(missing)
}

/// `left` and, at the right end, `right`; `right` goes first where both have no place.
pub(super) fn apart(left: &str, right: &str, width: usize) -> String {
    let taken = columns(right);
    if right.is_empty() || taken + 2 > width {
        return fit(left, width);
    }
    fit(left, width - taken - 1) + " " + right
}

/// As many of `parts` as have a place in `width` columns, with dots between; the first one in any case, cut.
pub(super) fn joined(mut parts: impl Iterator<Item = String>, width: usize) -> String {
    let mut out = cut(&parts.next().unwrap_or_default(), width);
    for part in parts {
        let longer = format!("{out} · {part}");
        if columns(&longer) > width {
            break;
        }
        out = longer;
    }
    out
}

/// A number with few digits.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e5).contains(&size) => {
            let digits = (3 - size.log10().floor() as i32).clamp(0, 5) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.2e}"),
    }
}

/// "9.4 s", "3:20 min", "2:05 h".
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn terminal_escapes_are_stripped() {
        assert_eq!(clean("a\u{1b}[31mred\u{1b}[0m b"), "ared b");
        assert_eq!(clean("a\u{1b}]0;title\u{7}b\u{1b}]8;;http://x\u{1b}\\link"), "ablink");
        assert_eq!(clean("a\u{9b}2Jb\u{1b}cd\u{1b}"), "abd");
        assert_eq!(clean("line\r\nnext\u{8}\u{202e}x\u{200b}"), "line  nextx");
        assert_eq!(clean("an open \u{1b}]0;title"), "an open ");
        assert_eq!(clean(&"é".repeat(1000)).chars().count(), LONGEST);
    }

    #[test]
    fn widths_are_those_of_the_terminal() {
        assert_eq!((fit("abc", 5), fit("abcdef", 4), fit("日本語", 4)), ("abc  ".into(), "abc…".into(), "日… ".into()));
        assert_eq!((cut("abc", 0), cut("abc", 1)), (String::new(), "…".into()));
        assert_eq!(apart("left", "right", 12), "left   right");
        assert_eq!(apart("left", "right", 6), "left  ");
        let parts = |width| joined(["one".to_owned(), "two".to_owned(), "three".to_owned()].into_iter(), width);
        assert_eq!([parts(2), parts(8), parts(9), parts(99)], ["o…", "one", "one · two", "one · two · three"]);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.82681, 12345.6, 0.00012, 3.4e7].map(short), ["0", "0.8268", "12346", "1.20e-4", "3.40e7"]);
        assert_eq!([1, 999, 1000, 1234567].map(grouped), ["1", "999", "1,000", "1,234,567"]);
        assert_eq!([9.44, 59.9, 200.0, 7500.0].map(duration), ["9.4 s", "1:00 min", "3:20 min", "2:05 h"]);
    }
}
