//! A look at a `model.pt` before libtorch reads it.
//!
//! libtorch believes what an archive claims: it makes room for whatever number of entries or bytes a pickle names, and lets a tensor
//! be longer than the bytes that are there for it. So every claim is compared with the file first:
//!
//! - Parts are no larger than the file; packed ones (code, which is small) no larger than [`MOST_PACKED`].
//! - Pickles hold no other instructions than libtorch writes, no numbers that their length does not bear out, and no tensor that is
//!   longer than its part ([`super::pickle`]).
//! - Code has no loops ([`without_loops`]): what `dec` writes has none, and without them, and without recursion, which TorchScript does
//!   not have, a program comes to an end.
//!
//! That is against damaged and careless files. It is no sandbox: the code is still run, and libtorch's parsers were not made for files
//! from people whom you do not trust.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use zip::{CompressionMethod, ZipArchive};

use super::pickle;

/// Parts of an archive at the most: a network of hundreds of layers has so many.
const MOST_PARTS: usize = 10_000;
/// Bytes that a packed part may have when it is unpacked, and a pickle.
const MOST_PACKED: u64 = 16 << 20;
/// The record that ends a zip archive without a comment, and how it begins.
const END_BYTES: usize = 22;
const END_MAGIC: &[u8] = b"PK\x05\x06";

/// Refuses an archive of `length` bytes whose parts claim more than there is, or whose code may not come to an end; says why.
pub(super) fn check(mut file: impl Read + Seek, length: u64) -> Result<(), String> {
    let parts = count_of(&mut file)?;
    let mut archive = ZipArchive::new(file).map_err(|e| e.to_string())?;
    if archive.len() != parts || archive.has_duplicate_names() || parts > MOST_PARTS {
        return Err(format!("it says that it has {parts} parts, and not as many can be told apart"));
    }
    let (mut sizes, mut packed, mut scanned) = (HashMap::new(), 0, Vec::new());
    for index in 0..parts {
        let part = archive.by_index_raw(index).map_err(|e| e.to_string())?;
        let (name, size) = (part.name().map_err(|e| e.to_string())?.into_owned(), part.size());
        packed += part.compressed_size();
        let fits = match part.compression() {
            CompressionMethod::Stored => size == part.compressed_size(),
            CompressionMethod::Deflated => size <= MOST_PACKED,
            _ => false,
        };
        if !fits || packed > length {
            return Err(format!("its part {name:?} claims {size} bytes"));
        }
        if name.ends_with("pkl") || name.ends_with(".py") {
            scanned.push((index, name.clone(), size));
        }
        sizes.insert(name, size);
    }
    // What tensors take, each a copy of its part; several may share one.
    let mut tensors = 0;
    for (index, name, size) in scanned {
        let content = content(&mut archive, index, size).map_err(|e| format!("its part {name:?} {e}"))?;
        let checked = if name.ends_with(".py") {
            without_loops(&content)
        } else {
            let folder = name.strip_suffix(".pkl").unwrap_or("");
            let size_of = |key: &str| sizes.get(&format!("{folder}/{key}")).copied();
            pickle::check(&content, &size_of).map(|bytes| tensors += bytes)
        };
        checked.map_err(|problem| format!("its part {name:?} {problem}"))?;
        if tensors / 4 > length {
            return Err(format!("its part {name:?} repeats tensors: {tensors} bytes out of {length}"));
        }
    }
    Ok(())
}

/// How many parts the record at the end of the archive says there are. One that is elsewhere, behind which more follows, may be read
/// in two ways.
fn count_of(file: &mut (impl Read + Seek)) -> Result<usize, String> {
    let mut end = [0; END_BYTES];
    let read = file.seek(SeekFrom::End(-(END_BYTES as i64))).and_then(|_| file.read_exact(&mut end));
    match read {
        Ok(()) if end.starts_with(END_MAGIC) => {}
        _ => return Err("it does not end as one".to_owned()),
    }
    file.rewind().map_err(|e| e.to_string())?;
    Ok(usize::from(u16::from_le_bytes([end[10], end[11]])))
}

/// A part, unpacked.
fn content<R: Read + Seek>(archive: &mut ZipArchive<R>, index: usize, size: u64) -> Result<Vec<u8>, String> {
    if size > MOST_PACKED {
        return Err(format!("claims {size} bytes"));
    }
    let part = archive.by_index(index).map_err(|e| format!("cannot be read: {e}"))?;
    let mut content = Vec::new();
    part.take(size + 1).read_to_end(&mut content).map_err(|e| format!("cannot be read: {e}"))?;
    if content.len() as u64 != size {
        return Err(format!("claims {size} bytes, and has {}", content.len()));
    }
    Ok(content)
}

/// Refuses TorchScript with a loop, or in which that cannot be told; strings and comments do not count.
fn without_loops(code: &[u8]) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut at = 0;
    while let Some(&byte) = code.get(at) {
        let rest = &code[at..];
        at += match byte {
            b'"' | b'\'' if rest.starts_with(&[byte; 3]) => return Err("has text over several lines".to_owned()),
            b'"' | b'\'' => length_of_text(rest),
            b'#' => rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()),
            byte if is_word(byte) => {
                let length = rest.iter().position(|&byte| !is_word(byte)).unwrap_or(rest.len());
                if matches!(&rest[..length], b"while" | b"for") {
                    return Err("has a loop, which no model of `dec`'s has".to_owned());
                }
                length
            }
            _ => 1,
        };
    }
    Ok(())
}

/// Bytes of a string literal, its quotes included.
fn length_of_text(code: &[u8]) -> usize {
    let mut at = 1;
    while at < code.len() && code[at] != code[0] {
        at += if code[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(code.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::ZipWriter;

    use super::*;
    use crate::backend::ScriptModule;

    /// A module with one parameter of four values, and `extra` among its methods.
    fn module(extra: &str) -> Vec<u8> {
        let mut module = ScriptModule::new("DEC").unwrap();
        module.register_parameter("w", &tch::Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0])).unwrap();
        module.define(&format!("def forward(self, x):\n  return x + self.w\n{extra}")).unwrap();
        module.to_bytes().unwrap()
    }

    fn problem(bytes: &[u8]) -> String {
        check(Cursor::new(bytes), bytes.len() as u64).unwrap_err()
    }

    /// The archive with some parts changed, all stored as they are.
    fn rewritten(archive: &[u8], change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
        let mut archive = ZipArchive::new(Cursor::new(archive)).unwrap();
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for index in 0..archive.len() {
            let mut part = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            part.read_to_end(&mut content).unwrap();
            let name = part.name().unwrap().into_owned();
            writer.start_file(name.as_str(), options).unwrap();
            writer.write_all(&change(&name, content)).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn replaced(content: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = content.windows(from.len()).position(|window| window == from).unwrap();
        [&content[..at], to, &content[at + from.len()..]].concat()
    }

    /// The module with its pickle changed in one place.
    fn pickled(from: &[u8], to: &[u8]) -> Vec<u8> {
        rewritten(&module(""), |name, content| match name.ends_with("data.pkl") {
            true => replaced(&content, from, to),
            false => content,
        })
    }

    #[test]
    fn what_libtorch_writes_is_taken() {
        let whole = module("def words(self):\n  return \"for a while # it's \\\"for\\\" you\"\n");
        for bytes in [&whole, &rewritten(&whole, |_, content| content)] {
            check(Cursor::new(bytes), bytes.len() as u64).unwrap();
        }
    }

    #[test]
    fn claims_that_the_file_does_not_bear_out_are_refused() {
        // A memo of two billion entries, which libtorch makes room for.
        assert!(problem(&pickled(b"q\x00", b"r\0\0\0\x80")).contains("memo"));
        // A string of two billion bytes.
        assert!(problem(&pickled(b"X\x08\0\0\0training", b"X\x08\0\0\x80training")).contains("ends in"));
        // A tensor of a million values in a part of four.
        assert!(problem(&pickled(b"K\x04tQ", b"J\x40\x42\x0f\0tQ")).contains("1000000"));
        assert!(problem(&pickled(b"X\x01\0\0\x000", b"X\x01\0\0\x007")).contains("no part"));
        let cut = rewritten(&module(""), |name, content| match name.ends_with("data/0") {
            true => content[..15].to_vec(),
            false => content,
        });
        assert!(problem(&cut).contains("4 values"));
    }

    #[test]
    fn archives_that_can_be_read_in_two_ways_are_refused() {
        let whole = module("");
        assert!(problem(&[&whole[..], b"more"].concat()).contains("does not end"));
        assert!(problem(&whole[..whole.len() - 1]).contains("does not end"));
        assert!(problem(b"PK").contains("does not end"));
        let mut more = whole.clone();
        let count = more.len() - 12;
        more[count] += 1;
        more[count - 2] += 1;
        assert!(check(Cursor::new(&more), more.len() as u64).is_err());
    }

    #[test]
    fn code_with_a_loop_is_refused() {
        let endless = "def go(self):\n  n = 1\n  while n > 0:\n    n += 1\n  return n\n";
        let count = "def go(self):\n  n = 0\n  for i in range(10):\n    n += i\n  return n\n";
        for code in [endless, count] {
            assert!(problem(&module(code)).contains("has a loop"), "{code}");
        }
        for (code, fine) in [
            ("a = \"while\" # for\nb = 'for' + c.format(1)\nforth = whiled\n", true),
            ("a = \"\\\\\"\nwhile b:", false),
            ("a = '\\''\nfor b in c:", false),
            ("# it's\nwhile", false),
            ("a = \"\"\"b\"\"\"", false),
            ("a = \"b", true),
        ] {
            assert_eq!(without_loops(code.as_bytes()).is_ok(), fine, "{code}");
        }
    }
}
