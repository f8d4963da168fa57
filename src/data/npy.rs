//! The header of NPY, NumPy's format for one array (NEP 1, versions 1.0, 2.0 and 3.0).
//!
//! `\x93NUMPY`, two version bytes, the length of the text that follows (little-endian, 2 bytes in version 1.0, 4 later),
//! and the text, a Python dictionary:
//!
//! ```text
//! {'descr': '<f4', 'fortran_order': False, 'shape': (70000, 784), }
//! ```
//!
//! The text is parsed here, and no further than these three keys need: one pass, no recursion, nothing evaluated, the
//! dimensions kept as they are until their product has been checked.

use super::element::{Element, Endian};
use super::header::Header;
use super::input::Input;
use crate::error::Result;

pub(super) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// More than this is no header that NumPy writes for a type we read (it pads to 64 or 128 bytes).
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// NumPy has so many at most. Arrays laid out by columns are gone through axis by axis, for every value.
const MAX_DIMENSIONS: usize = 64;

/// An array of strings of one width.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TextHeader {
    pub shape: Vec<usize>,
    /// Characters of each.
    pub width: usize,
    /// Four bytes a character (UTF-32) in this order; `None` for one byte a character.
    pub unicode: Option<Endian>,
}

/// What a header describes.
pub(super) enum Content {
    Numbers(Header),
    Text(TextHeader),
}

/// Reads the header of an array of numbers, of which the magic's first four bytes have been read.
pub(super) fn read_header(input: &mut Input) -> Result<Header> {
    let text = read_dictionary(input)?;
    parse(&text).and_then(Raw::numbers).map_err(|problem| input.problem(problem))
}

/// Reads the header of an array of numbers or strings, of which the magic's first four bytes have been read.
pub(super) fn read_content(input: &mut Input) -> Result<Content> {
    let text = read_dictionary(input)?;
    let content = parse(&text).and_then(|raw| match raw.text() {
        Some(text) => Ok(Content::Text(text)),
        None => raw.numbers().map(Content::Numbers),
    });
    content.map_err(|problem| input.problem(problem))
}

fn read_dictionary(input: &mut Input) -> Result<String> {
    let mut start = [0; 4];
    input.fill_header(&mut start, "NPY")?;
    let [m, y, major, minor] = start;
    if [m, y] != MAGIC[4..] {
        return Err(input.problem("has a wrong magic number: NPY begins with 93 4e 55 4d 50 59 (\"\\x93NUMPY\")"));
    }
    let length = match (major, minor) {
        (1, 0) => {
            let mut bytes = [0; 2];
            input.fill_header(&mut bytes, "NPY")?;
            u64::from(u16::from_le_bytes(bytes))
        }
        (2 | 3, 0) => {
            let mut bytes = [0; 4];
            input.fill_header(&mut bytes, "NPY")?;
            u64::from(u32::from_le_bytes(bytes))
        }
        _ => {
            return Err(input.problem(format!("is NPY version {major}.{minor}; versions 1.0, 2.0 and 3.0 can be read")))
        }
    };
    if length > MAX_HEADER_BYTES {
        return Err(input.problem(format!(
            "its NPY header claims to be {length} bytes long (at most {MAX_HEADER_BYTES} are read): it is damaged"
        )));
    }
    let mut text = vec![0; length as usize];
    input.fill_header(&mut text, "NPY")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The dictionary's three values.
struct Raw<'a> {
    descr: &'a str,
    fortran: bool,
    shape: Vec<usize>,
}

impl Raw<'_> {
    fn numbers(self) -> Result<Header, String> {
        let (element, endian) = element(self.descr)?;
        Ok(Header { shape: self.shape, element, endian, fortran: self.fortran })
    }

    /// Where the type is `S` or `U` with a width.
    fn text(&self) -> Option<TextHeader> {
        let code = self.descr.trim_start_matches(['<', '>', '=', '|']);
        let endian = if self.descr.starts_with('>') { Endian::Big } else { Endian::Little };
        let (unicode, width) = match code.split_at_checked(1)? {
            ("U", width) => (Some(endian), width),
            ("S" | "a", width) => (None, width),
            _ => return None,
        };
        Some(TextHeader { shape: self.shape.clone(), width: width.parse().ok()?, unicode })
    }
}

fn parse(text: &str) -> Result<Raw<'_>, String> {
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    let mut cursor = Cursor { text, at: 0 };
    cursor.expect('{')?;
    while !cursor.eat('}') {
        let key = cursor.string()?;
        cursor.expect(':')?;
        match key {
            "descr" => descr = Some(cursor.descr()?),
            "fortran_order" => fortran = Some(cursor.boolean()?),
            "shape" => shape = Some(cursor.shape()?),
            _ => return Err(cursor.problem(&format!("has the unknown key '{key}'"))),
        }
        if !cursor.eat(',') {
            cursor.expect('}')?;
            break;
        }
    }
    if !cursor.rest().trim().is_empty() {
        return Err(cursor.problem("goes on after the dictionary's end"));
    }
    let missing = |key| format!("its NPY header lacks the key '{key}'; it needs 'descr', 'fortran_order' and 'shape'");
    let descr = descr.ok_or_else(|| missing("descr"))?;
    let fortran = fortran.ok_or_else(|| missing("fortran_order"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    Ok(Raw { descr, fortran, shape })
}

/// The type that a `descr` like `<f4` stands for.
fn element(descr: &str) -> Result<(Element, Endian), String> {
    let native = if cfg!(target_endian = "big") { Endian::Big } else { Endian::Little };
    let (endian, code) = match descr.split_at_checked(1) {
        Some(("<", code)) => (Some(Endian::Little), code),
        Some((">", code)) => (Some(Endian::Big), code),
        Some(("=", code)) => (Some(native), code),
        Some(("|", code)) => (None, code),
        _ => (None, descr),
    };
    let element = match code {
        "b1" => Element::Bool,
        "u1" => Element::U8,
        "i1" => Element::I8,
        "u2" => Element::U16,
        "i2" => Element::I16,
        "u4" => Element::U32,
        "i4" => Element::I32,
        "u8" => Element::U64,
        "i8" => Element::I64,
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        _ => return Err(unsupported(descr, code)),
    };
    match endian {
        Some(endian) => Ok((element, endian)),
        None if element.size() == 1 => Ok((element, native)),
        None => Err(format!(
            "its dtype '{descr}' does not say the byte order, which a type of {} bytes needs: '<' (little-endian) or \
             '>' (big-endian)",
            element.size()
        )),
    }
}

fn unsupported(descr: &str, code: &str) -> String {
    // A structured type's description can be long: its beginning is enough.
    let shown: String = if descr.chars().count() > 60 {
        descr.chars().take(57).chain("...".chars()).collect()
    } else {
        descr.to_owned()
    };
    let float = "save it as numbers with numpy.save(path, a.astype('float64'))";
    let (kind, remedy) = match code.chars().next() {
        Some('[') => (
            " (structured: named fields)",
            "numpy.save(path, numpy.lib.recfunctions.structured_to_unstructured(a)) makes it a table of numbers",
        ),
        Some('V') => (" (raw bytes)", "say what the bytes are with a.view('float32'), for example, before numpy.save"),
        Some('c') => (
            " (complex)",
            "numpy.save(path, numpy.concatenate([a.real, a.imag], axis=1)) makes two real columns of each",
        ),
        Some('O') => (
            " (Python objects)",
            "numbers: numpy.save(path, a.astype('float64')); strings, as labels: numpy.save(path, a.astype(str))",
        ),
        Some('S' | 'a' | 'U') => (" (strings)", "strings can be labels (--labels), not rows"),
        Some('M' | 'm') => (" (dates or times)", "numpy.save(path, a.astype('int64')) makes numbers of them"),
        Some('f') => (" (long double)", float),
        _ => ("", float),
    };
    format!(
        "its dtype {shown}{kind} is not supported; bool, int8 to int64, uint8 to uint64, float16, float32 and float64 \
         are: {remedy}"
    )
}

/// A place in the header's text; spaces between tokens are skipped.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn problem(&self, what: &str) -> String {
        format!("its NPY header {what}, at character {} of the dictionary", self.at)
    }

    fn eat(&mut self, token: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len_utf8();
        }
        found
    }

    fn expect(&mut self, token: char) -> Result<(), String> {
        if self.eat(token) {
            Ok(())
        } else {
            Err(self.problem(&format!("has no '{token}' where one belongs")))
        }
    }

    /// A quoted string; backslashes have no meaning, as no key or type that we read has one.
    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.eat('"') {
            '"'
        } else {
            self.expect('\'')?;
            '\''
        };
        let (string, _) = self.rest().split_once(quote).ok_or_else(|| self.problem("has a string without an end"))?;
        self.at += string.len() + 1;
        Ok(string)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.skip_space();
        for (word, value) in [("True", true), ("False", false)] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.problem("has neither True nor False as 'fortran_order'"))
    }

    /// A tuple of dimensions: `()`, `(3,)`, `(3, 4)`; Python 2 wrote `(3L, 4L)`.
    fn shape(&mut self) -> Result<Vec<usize>, String> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.eat(')') {
            self.skip_space();
            let digits = self.rest().len() - self.rest().trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number = &self.rest()[..digits];
            if number.is_empty() {
                return Err(self.problem("has a shape that is not whole numbers of 0 or more"));
            }
            let Ok(number) = number.parse() else {
                return Err(self.problem(&format!("has the dimension {number}, which overflows")));
            };
            if shape.len() == MAX_DIMENSIONS {
                return Err(self.problem(&format!("has more than {MAX_DIMENSIONS} dimensions")));
            }
            shape.push(number);
            self.at += digits;
            self.eat('L');
            if !self.eat(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }

    /// The type: a string, or a structured type's list, which is returned as its text for the message about it.
    fn descr(&mut self) -> Result<&'a str, String> {
        self.skip_space();
        if !self.rest().starts_with(['[', '(', '{']) {
            return self.string();
        }
        let (mut depth, mut quote) = (0usize, None);
        for (at, c) in self.rest().char_indices() {
            match (quote, c) {
                (Some(q), c) if q == c => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '[' | '(' | '{') => depth += 1,
                (None, ']' | ')' | '}') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let list = &self.rest()[..=at];
                self.at += list.len();
                return Ok(list);
            }
        }
        Err(self.problem("has a 'descr' without an end"))
    }
}
