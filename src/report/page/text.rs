//! Text and numbers as readers see them.

/// Characters of a name that are shown at most.
pub(super) const NAME: usize = 80;
/// Characters of a sentence that are shown at most.
pub(super) const SENTENCE: usize = 600;
/// Thin space that does not break, between a number and its unit.
const THIN: char = '\u{202f}';

/// A name: one line, at most [`NAME`] characters.
pub(super) fn name(text: &str) -> String {
    cleaned(text, NAME, false)
}

/// A message: one line, at most [`SENTENCE`] characters.
pub(super) fn sentence(text: &str) -> String {
    cleaned(text, SENTENCE, false)
}

/// Text with its lines, at most `most` characters.
pub(super) fn lines(text: &str, most: usize) -> String {
    cleaned(text, most, true)
}

/// Characters that change how *other* characters are shown, or that terminals obey, become visible: control characters are
/// shown as their pictures (U+2400 on), marks of direction and others that cannot be seen as their numbers. HTML is escaped
/// elsewhere.
fn cleaned(text: &str, most: usize, keep_lines: bool) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        match character {
            '\n' | '\t' if keep_lines => out.push(character),
            '\r' if keep_lines => {}
            '\u{0}'..='\u{1f}' => out.push(char::from_u32(0x2400 + character as u32).unwrap_or('␦')),
            '\u{7f}' => out.push('␡'),
            hidden if is_hidden(hidden) => out.push_str(&format!("⟨U+{:04X}⟩", hidden as u32)),
            _ => out.push(character),
        }
    }
    out
}

/// C1 controls, marks of direction, line separators, characters of no width, tags, and marks that stack without end.
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}'
        | '\u{300}'..='\u{36f}'
    )
}

/// JSON that can stand in a `<script>`: nothing in it ends the element or starts a comment.
pub(super) fn script_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", character as u32)),
            _ => out.push(character),
        }
    }
    out
}

pub(super) use crate::text::grouped as count;

/// `1 row`, `2 rows`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// 0.1234 → `12.3 %`. Only what is exactly 0 or all is shown as 0 or 100.
pub(super) fn percent(share: f64) -> String {
    let hundredths = share * 100.0;
    match share {
        share if !share.is_finite() => "–".to_owned(),
        share if share > 0.0 && hundredths < 0.1 => format!("< 0.1{THIN}%"),
        share if share < 1.0 && hundredths > 99.9 => format!("> 99.9{THIN}%"),
        _ if hundredths >= 99.95 || hundredths == 0.0 => format!("{hundredths:.0}{THIN}%"),
        _ => format!("{hundredths:.1}{THIN}%"),
    }
}

/// A number with about four significant digits.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    let text = match size {
        0.0 => "0".to_owned(),
        _ if !(1e-4..1e7).contains(&size) => format!("{value:.2e}"),
        _ if size >= 1000.0 => return signed_count(value),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 10.0 => format!("{value:.2}"),
        _ if size >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    };
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').replace('-', "−"),
        false => text.replace('-', "−"),
    }
}

/// A number with about three significant digits.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() || value.abs() >= 1000.0 {
        return number(value);
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(digits);
    number((value * scale).round() / scale)
}

fn signed_count(value: f64) -> String {
    let whole = count(value.abs().round() as u64);
    if value < 0.0 {
        format!("−{whole}")
    } else {
        whole
    }
}

/// Seconds as `0.42 s`, `12.3 s`, `4 min 5 s`, `2 h 3 min`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s < 0.0 => "–".to_owned(),
        s if s < 9.995 => format!("{s:.2}{THIN}s"),
        s if s < 59.95 => format!("{s:.1}{THIN}s"),
        s if s < 3599.5 => {
            let whole = s.round() as u64;
            format!("{}{THIN}min {}{THIN}s", whole / 60, whole % 60)
        }
        s => {
            let minutes = (s / 60.0).round() as u64;
            format!("{}{THIN}h {}{THIN}min", count(minutes / 60), minutes % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_hidden_becomes_visible() {
        assert_eq!(name("a\u{1b}[31mb"), "a␛[31mb");
        assert_eq!(name("abc\u{202e}cba"), "abc⟨U+202E⟩cba");
        assert_eq!(name("x\r\ny\0"), "x␍␊y␀");
        assert_eq!(lines("a\r\n\tb\u{2028}", 99), "a\n\tb⟨U+2028⟩");
        assert_eq!(name("naïve 日本 עברית 🐟"), "naïve 日本 עברית 🐟");
    }

    #[test]
    fn long_names_are_cut() {
        let long = name(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), NAME + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn json_cannot_leave_its_script() {
        let json = serde_json::to_string("</script><!-- & \u{2028}").unwrap();
        let safe = script_json(&json);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), "</script><!-- & \u{2028}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([count(0), count(1797), count(12_345_678)], ["0", "1,797", "12,345,678"]);
        assert_eq!(percent(0.1234), "12.3\u{202f}%");
        assert_eq!(percent(0.999_99), "> 99.9\u{202f}%");
        assert_eq!((percent(1.0), percent(0.0)), ("100\u{202f}%".to_owned(), "0\u{202f}%".to_owned()));
        assert_eq!(percent(f64::NAN), "–");
        assert_eq!((number(-0.5), number(12345.6), number(1e-9)), ("−0.5".into(), "12,346".into(), "1.00e−9".into()));
        assert_eq!(duration(59.99), "1\u{202f}min 0\u{202f}s");
        assert_eq!(duration(7325.0), "2\u{202f}h 2\u{202f}min");
    }
}
