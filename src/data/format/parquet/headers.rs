//! The footer of a Parquet file and the headers of its pages, looked at before the crate that reads them.
//!
//! That crate goes down by recursion. A footer of some hundred kilobytes can take that beyond the stack, which
//! ends the process; so the depth is counted here first. And it passes over lists that it does not know item by item, however many they
//! claim, truth values without taking a byte: a kilobyte can keep it busy for ever. So all is gone through here,
//! where every item takes a byte at least, and truth values in lists, which neither has, are refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Columns that lie deeper are not read. Lists of lists of records are some ten levels.
pub(super) const MOST_DEPTH: usize = 100;

/// What a file ends with, behind the length of its footer.
const MAGIC: &[u8; 4] = b"PAR1";

/// What a footer is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Footer {
    /// Its reader may have it.
    Sound,
    /// There is none, of which its reader will say what is wrong.
    Missing,
    /// It is none.
    Damaged,
    /// Its columns lie deeper than [`MOST_DEPTH`].
    Deep(usize),
}

/// The footer of `file`.
pub(super) fn of_file(file: &mut File) -> io::Result<Footer> {
    let length = file.seek(SeekFrom::End(0))?;
    if length < 8 {
        return Ok(Footer::Missing);
    }
    let mut tail = [0; 8];
    file.seek(SeekFrom::Start(length - 8))?;
    file.read_exact(&mut tail)?;
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if &tail[4..] != MAGIC || footer > length - 8 {
        return Ok(Footer::Missing);
    }
    file.seek(SeekFrom::Start(length - 8 - footer))?;
    let mut bytes = vec![0; footer as usize];
    file.read_exact(&mut bytes)?;
    Ok(match of_footer(&bytes) {
        None => Footer::Damaged,
        Some(levels) if levels > MOST_DEPTH => Footer::Deep(levels),
        Some(_) => Footer::Sound,
    })
}

/// The footer is a struct whose field 2 is the list of the schema's elements, in depth-first order. Field 5 of an element is the
/// number of its children.
fn of_footer(bytes: &[u8]) -> Option<usize> {
    let mut thrift = Thrift { bytes };
    let (mut id, mut depth) = (0, None);
    while let Some(kind) = thrift.field(&mut id)? {
        if id != 2 || kind != LIST {
            thrift.skip(kind, LEVELS)?;
            continue;
        }
        let (count, _) = thrift.list()?;
        let mut children = Vec::new(); // that are still to come, of each element above
        let mut deepest = 0;
        for _ in 0..count {
            let below = thrift.children()?;
            while children.last() == Some(&0) {
                children.pop();
            }
            if let Some(left) = children.last_mut() {
                *left -= 1;
            }
            if below > 0 {
                children.push(below);
                deepest = deepest.max(children.len());
            }
        }
        depth = Some(deepest);
    }
    depth
}

/// Bytes of a page's header that are read at first, and at the most: it may hold the least and the greatest of the page's values.
const PAGE_HEADER: [u64; 2] = [1 << 10, 1 << 26];

/// Whether the headers of all pages in `length` bytes of `file` from `start` on, those of a column, can be given to their reader.
pub(super) fn pages_are_sound(file: &mut File, start: u64, length: u64) -> io::Result<bool> {
    let (mut at, end) = (start, start.saturating_add(length));
    let mut bytes = Vec::new();
    while at < end {
        let mut room = PAGE_HEADER[0];
        let page = loop {
            bytes.clear();
            file.seek(SeekFrom::Start(at))?;
            file.by_ref().take(room.min(end - at)).read_to_end(&mut bytes)?;
            let found = page(&bytes);
            if found.is_some() || room >= PAGE_HEADER[1] || (bytes.len() as u64) < room {
                break found;
            }
            room *= 16;
        };
        let Some(page) = page else { return Ok(false) };
        at = at.saturating_add(page);
    }
    Ok(true)
}

/// Bytes of a page that begins here, with its header: a struct whose field 3 is the size of what follows.
fn page(bytes: &[u8]) -> Option<u64> {
    let mut thrift = Thrift { bytes };
    let (mut id, mut size) = (0, None);
    while let Some(kind) = thrift.field(&mut id)? {
        match (id, kind) {
            (3, I32) => size = u64::try_from(thrift.signed()?).ok(),
            _ => thrift.skip(kind, LEVELS)?,
        }
    }
    Some((bytes.len() - thrift.bytes.len()) as u64 + size?)
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// How deep values that are skipped may lie in each other.
const LEVELS: usize = 64;

/// Bytes of the compact protocol. Nothing is `None` but what is damaged.
struct Thrift<'a> {
    bytes: &'a [u8],
}

impl Thrift<'_> {
    fn take(&mut self, count: u64) -> Option<()> {
        self.bytes = self.bytes.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.first()?;
        self.take(1)?;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The type of a struct's next field, whose number becomes `id`; nothing at the struct's end.
    fn field(&mut self, id: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *id = match head >> 4 {
            0 => self.signed()?,
            step => id.checked_add(i64::from(step))?,
        };
        Some(Some(head & 0x0f))
    }

    /// How many items a list has, and their type.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((count, head & 0x0f))
    }

    /// Reads an element of the schema: how many children it has.
    fn children(&mut self) -> Option<i64> {
        let (mut id, mut children) = (0, 0);
        while let Some(kind) = self.field(&mut id)? {
            match (id, kind) {
                (5, I32) => children = self.signed()?,
                _ => self.skip(kind, LEVELS)?,
            }
        }
        Some(children)
    }

    /// Skips the value of a field.
    fn skip(&mut self, kind: u8, levels: usize) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        match kind {
            TRUE | FALSE => {}
            BYTE => self.take(1)?,
            I16 | I32 | I64 => drop(self.varint()?),
            DOUBLE => self.take(8)?,
            BINARY => {
                let length = self.varint()?;
                self.take(length)?;
            }
            LIST | SET => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_item(kind, levels))?;
            }
            MAP => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                for _ in 0..count {
                    self.skip_item(kinds >> 4, levels)?;
                    self.skip_item(kinds & 0x0f, levels)?;
                }
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, levels)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Skips an item of a list or a map, but for truth values.
    fn skip_item(&mut self, kind: u8, levels: usize) -> Option<()> {
        match kind {
            TRUE | FALSE => None,
            kind => self.skip(kind, levels),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A Parquet file without rows, whose one column lies in so many groups.
    pub(in super::super) fn nested(groups: usize) -> Vec<u8> {
        let mut footer = b"\x15\x02\x19\xfc".to_vec(); // the version; a list of structs
        let mut count = groups + 2;
        while count >= 0x80 {
            footer.push(count as u8 | 0x80);
            count >>= 7;
        }
        footer.push(count as u8);
        footer.extend(b"\x48\x01s\x15\x02\0");
        (0..groups).for_each(|_| footer.extend(b"\x35\0\x18\x01a\x15\x02\0"));
        footer.extend(b"\x15\x02\x25\0\x18\x01x\0\x16\0\x19\x0c\0");
        let length = (footer.len() as u32).to_le_bytes();
        [b"PAR1", &footer[..], &length, b"PAR1"].concat()
    }

    #[test]
    fn pages_are_gone_through_to_the_end_of_their_column() {
        // The type, both sizes, a header of its own with a truth value, what comes behind it, and four bytes of values.
        let page = |more: &[u8]| [b"\x15\x06\x15\x08\x15\x08\x5c\x11\x00", more, b"\x00abcd"].concat();
        let endless = [0xd9, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07]; // 2^31 truths
        let long = [&[0x88, 0x80, 0x40][..], &[7; 8192]].concat(); // a text of 8 KiB
        let cases = [
            (vec![page(&[]), page(&[]), page(&long)], true),
            (vec![page(&[]), page(&endless)], false),
            (vec![page(&[]), page(&[])[..8].to_vec()], false),
            (vec![b"\x15\x06\x00".to_vec()], false), // of no size
            (vec![], true),
        ];
        for (pages, sound) in cases {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &[b"PAR1".as_slice(), &pages.concat()].concat()).unwrap();
            let length = pages.concat().len() as u64;
            assert_eq!(pages_are_sound(&mut file, 4, length).unwrap(), sound, "{pages:02x?}");
        }
    }

    #[test]
    fn depth_is_that_of_the_deepest_column() {
        for groups in [0, 3, 100, 100_000] {
            let file = nested(groups);
            let footer = &file[4..file.len() - 8];
            assert_eq!(of_footer(footer), Some(groups + 1));
            assert_eq!(of_footer(&footer[..footer.len() / 2]), None, "{groups}");
        }
        let endless = |list: &[u8]| [&[0x15, 0x02, 0x19, 0x0c], list, &[0x00]].concat(); // behind an empty schema
        assert_eq!(of_footer(&endless(&[])), Some(0));
        assert_eq!(of_footer(&endless(&[0xd9, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07])), None, "2^31 truths in no byte");
        assert_eq!(of_footer(&[0x19, 0xff, 0xff, 0xff, 0xff, 0x7f]), None, "a list that is not there");
    }
}
