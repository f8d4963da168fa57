//! A look at a pickle of a `model.pt`, instruction by instruction, without doing what it says.
//!
//! What libtorch's reader would do by itself is bounded by the pickle's length then: strings end within it, the memo has no more
//! entries than it has bytes, containers are few enough that taking them down does not exhaust the stack. And every storage is one that
//! the archive has in full.
//!
//! A storage is named by a tuple (`"storage"`, type, key, device, number of values) and taken by the instruction behind it. The tuple's
//! parts are only known where nothing but plain values was put between its mark and its end, as libtorch writes it: any other is refused.

use std::collections::HashMap;

/// Tuples, lists and dictionaries of one pickle at the most: some ten of them come for each tensor and each line of code.
const MOST_CONTAINERS: usize = 20_000;

/// A value, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Text(&'a [u8]),
    Global(&'a [u8]),
    Number(i64),
    Other,
}

/// Refuses a pickle that claims more than there is, and says why; else the bytes of all storages that it takes. `size_of` gives the
/// bytes of a storage's part of the archive.
pub(super) fn check(pickle: &[u8], size_of: &dyn Fn(&str) -> Option<u64>) -> Result<u64, String> {
    let mut scan = Scan {
        rest: pickle,
        length: pickle.len(),
        memo: HashMap::new(),
        items: None,
        top: Value::Other,
        tuple: None,
        containers: 0,
        bytes: 0,
    };
    while scan.step(size_of)? {}
    Ok(scan.bytes)
}

struct Scan<'a> {
    rest: &'a [u8],
    length: usize,
    memo: HashMap<u32, Value<'a>>,
    /// What was put since the last mark; `None` where something else happened.
    items: Option<Vec<Value<'a>>>,
    /// The last value put.
    top: Value<'a>,
    /// The items of the tuple that the last instruction made.
    tuple: Option<Vec<Value<'a>>>,
    containers: usize,
    bytes: u64,
}

impl<'a> Scan<'a> {
    /// Goes over one instruction; whether more follow.
    fn step(&mut self, size_of: &dyn Fn(&str) -> Option<u64>) -> Result<bool, String> {
        let tuple = self.tuple.take();
        match self.take(1)?[0] {
            b'.' => return Ok(false),
            0x80 => drop(self.take(1)?), // the protocol
            b'(' => self.items = Some(Vec::new()),
            b'N' | 0x88 | 0x89 => self.put(Value::Other),
            b'G' => {
                self.take(8)?;
                self.put(Value::Other);
            }
            b'K' => self.put_number(1)?,
            b'M' => self.put_number(2)?,
            b'J' => {
                let bytes = self.take(4)?;
                self.put(Value::Number(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into()));
            }
            0x8a => {
                let size = usize::from(self.take(1)?[0]);
                self.put_number(size)?;
            }
            b'X' => {
                let length = self.u32()? as usize;
                let text = self.take(length)?;
                self.put(Value::Text(text));
            }
            b'c' => {
                self.line()?;
                let name = self.line()?;
                self.put(Value::Global(name));
            }
            b'q' => {
                let place = u32::from(self.take(1)?[0]);
                self.keep(place)?;
            }
            b'r' => {
                let place = self.u32()?;
                self.keep(place)?;
            }
            b'h' => {
                let place = u32::from(self.take(1)?[0]);
                self.put(self.memo.get(&place).copied().unwrap_or(Value::Other));
            }
            b'j' => {
                let place = self.u32()?;
                self.put(self.memo.get(&place).copied().unwrap_or(Value::Other));
            }
            b'}' | b']' | b')' => {
                self.container()?;
                self.put(Value::Other);
            }
            b't' => {
                self.container()?;
                self.tuple = self.items.take();
                self.top = Value::Other;
            }
            b'Q' => {
                self.storage(tuple.as_deref(), size_of)?;
                self.items = None;
                self.top = Value::Other;
            }
            instruction => {
                // Tuples of one, two and three; what makes objects and fills containers.
                match instruction {
                    0x85..=0x87 => self.container()?,
                    b'R' | b'b' | 0x81 | b'a' | b'e' | b's' | b'u' => {}
                    other => return Err(format!("has the instruction {other:#04x}, which libtorch does not write")),
                }
                self.items = None;
                self.top = Value::Other;
            }
        }
        Ok(true)
    }

    fn put(&mut self, value: Value<'a>) {
        if let Some(items) = &mut self.items {
            items.push(value);
        }
        self.top = value;
    }

    fn container(&mut self) -> Result<(), String> {
        self.containers += 1;
        match self.containers <= MOST_CONTAINERS {
            true => Ok(()),
            false => Err(format!("has more than {MOST_CONTAINERS} tuples and lists")),
        }
    }

    /// Adds the storage that `tuple` names.
    fn storage(&mut self, tuple: Option<&[Value]>, size_of: &dyn Fn(&str) -> Option<u64>) -> Result<(), String> {
        let Some(
            [Value::Text(b"storage"), Value::Global(kind), Value::Text(key), Value::Text(_), Value::Number(count)],
        ) = tuple
        else {
            return Err("takes something that is not named as a storage is".to_owned());
        };
        let width: u64 = match *kind {
            b"ByteStorage" | b"CharStorage" | b"BoolStorage" => 1,
            b"HalfStorage" | b"BFloat16Storage" | b"ShortStorage" => 2,
            b"FloatStorage" | b"IntStorage" => 4,
            b"DoubleStorage" | b"LongStorage" => 8,
            _ => return Err(format!("has a storage of an unknown type, {}", String::from_utf8_lossy(kind))),
        };
        let key = String::from_utf8_lossy(key);
        let found = size_of(&key).ok_or_else(|| format!("has a tensor {key:?}, of which there is no part"))?;
        match u64::try_from(*count).ok().and_then(|count| count.checked_mul(width)) {
            Some(bytes) if bytes <= found => self.bytes += found,
            _ => return Err(format!("has a tensor {key:?} of {count} values, for which {found} bytes are there")),
        }
        Ok(())
    }

    /// Puts a whole number of so many bytes, the lowest first.
    fn put_number(&mut self, size: usize) -> Result<(), String> {
        let bytes = self.take(size)?;
        // The highest bit is the sign's, of what has all eight bytes; longer ones count nothing here.
        let value = match size {
            ..=8 => Value::Number(bytes.iter().rev().fold(0_i64, |number, &byte| number << 8 | i64::from(byte))),
            _ => Value::Other,
        };
        self.put(value);
        Ok(())
    }

    /// Notes the last value in the memo.
    fn keep(&mut self, place: u32) -> Result<(), String> {
        if place as usize >= self.length {
            return Err(format!("has a memo of {place} entries, more than it has bytes"));
        }
        self.memo.insert(place, self.top);
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("ends in the middle of an instruction")?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn line(&mut self) -> Result<&'a [u8], String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or("ends in the middle of a name")?;
        Ok(self.take(end + 1)?.trim_ascii_end())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn checked(pickle: &[u8]) -> Result<u64, String> {
        check(pickle, &|key: &str| (key == "0").then_some(16))
    }

    /// A pickle that takes the storage of `count`, with something before its tuple ends.
    fn storage(count: &[u8], before_end: &[u8]) -> Vec<u8> {
        let named: &[u8] = b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu";
        [named, count, before_end, b"tQ."].concat()
    }

    #[test]
    fn a_storage_is_no_longer_than_its_part() {
        assert_eq!(checked(&storage(b"K\x04", b"")), Ok(16));
        assert_eq!(checked(&storage(b"\x8a\x02\x04\0", b"")), Ok(16));
        for count in [&b"K\x05"[..], b"J\xff\xff\xff\xff", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"M\x04\x01"] {
            assert!(checked(&storage(count, b"")).unwrap_err().contains("16 bytes are there"), "{count:?}");
        }
    }

    /// Were the tuple another one than was looked at, its number would be too.
    #[test]
    fn a_storage_that_is_named_in_a_roundabout_way_is_refused() {
        for before_end in [&b"N"[..], b"K\x01", b"K\x01s", b"\x85", b"(t", b"(", b"q\x00h\x00"] {
            let refused = checked(&storage(b"K\x04", before_end)).unwrap_err();
            assert!(refused.contains("not named as a storage is"), "{before_end:?}: {refused}");
        }
        // One that was kept, another put before it is taken, or none.
        assert!(checked(b"(K\x01tq\x00Q.").is_err() && checked(b"Q.").is_err());
        let whole = storage(b"K\x04", b"");
        let twice = [&whole[..whole.len() - 1], b"Q."].concat();
        assert!(checked(&twice).is_err());
        // By way of the memo, as the second storage of a pickle is.
        let first: &[u8] = b"X\x07\0\0\0storageq\x01ctorch\nFloatStorage\nq\x02X\x03\0\0\0cpuq\x03";
        assert_eq!(checked(&[first, &b"(h\x01h\x02X\x01\0\0\x000h\x03K\x04tQ."[..]].concat()), Ok(16));
        assert!(checked(&[first, &b"(h\x02h\x01X\x01\0\0\x000h\x03K\x04tQ."[..]].concat()).is_err());
    }

    #[test]
    fn what_would_grow_beyond_the_file_is_refused() {
        let cases: [(&[u8], &str); 7] = [
            (b"Nr\0\0\0\x80.", "a memo of 2147483648 entries"),
            (b"Nq\x09.", "a memo of 9 entries"),
            (b"X\0\0\0\x80a.", "ends in the middle"),
            (b"\x8a\xff\x01.", "ends in the middle"),
            (b"ctorch\n", "ends in the middle"),
            (b"N", "ends in the middle"),
            (b"B\0\0\0\0.", "instruction 0x42"),
        ];
        for (pickle, problem) in cases {
            let refused = checked(pickle).unwrap_err();
            assert!(refused.contains(problem), "{problem}: {refused}");
        }
        let nested = |times: usize| [vec![b')'], vec![0x85; times], vec![b'.']].concat();
        assert_eq!(checked(&nested(1000)), Ok(0));
        assert!(checked(&nested(1_000_000)).unwrap_err().contains("tuples and lists"));
    }
}
