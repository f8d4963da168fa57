//! The first block of an HDF5 file. h5py writes its oldest version, and files of it can only be edited as a whole in memory.
//! The copy gets version 2 instead, which every HDF5 since 1.8 reads; the rest of the file stays as it is.
//!
//! Both versions are laid out in the HDF5 File Format Specification, section II.A.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// How HDF5 files begin.
const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// No address.
const UNDEFINED: [u8; 8] = [0xff; 8];
/// Bytes of version 0, with addresses of 8 bytes.
const OLD: usize = 96;
/// Bytes of version 2.
const NEW: usize = 48;

/// Writes version 2 over version 0, where nothing is lost by it; leaves other files as they are.
pub(super) fn upgrade(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut old = [0; OLD];
    match file.read_exact(&mut old) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        read => read?,
    }
    if let Some(new) = convert(&old) {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&new)?;
    }
    Ok(())
}

/// The block in version 2; `None` if it is not of version 0, or holds what version 2 has no place for.
fn convert(old: &[u8; OLD]) -> Option<[u8; NEW]> {
    let plain = old.starts_with(SIGNATURE)
        && old[8..13] == [0; 5]                 // versions of this block and of what it leads to
        && old[13..15] == [8, 8]                // bytes of an address and of a length
        && old[16..20] == [4, 0, 16, 0]         // sizes of the trees of groups: those that version 2 takes for granted
        && old[20..24] == [0; 4]                // nobody writes to it
        && old[24..32] == [0; 8]                // it begins at the start of the file
        && old[48..56] == UNDEFINED; // no driver
    if !plain {
        return None;
    }
    let mut new = [0; NEW];
    new[..8].copy_from_slice(SIGNATURE);
    new[8..12].copy_from_slice(&[2, 8, 8, 0]);
    new[20..28].copy_from_slice(&UNDEFINED); // no extension
    new[28..36].copy_from_slice(&old[40..48]); // the end of the file
    new[36..44].copy_from_slice(&old[64..72]); // the root group
    let checksum = lookup3(&new[..44]);
    new[44..].copy_from_slice(&checksum.to_le_bytes());
    Some(new)
}

/// Bob Jenkins' hash lookup3, which HDF5 takes for its checksums.
fn lookup3(bytes: &[u8]) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(bytes.len() as u32);
    let [mut a, mut b, mut c] = [start; 3];
    let mut rest = bytes;
    while !rest.is_empty() {
        let (block, more) = rest.split_at(rest.len().min(12));
        let mut padded = [0; 12];
        padded[..block.len()].copy_from_slice(block);
        let word = |at: usize| u32::from_le_bytes([padded[at], padded[at + 1], padded[at + 2], padded[at + 3]]);
        (a, b, c) = (a.wrapping_add(word(0)), b.wrapping_add(word(4)), c.wrapping_add(word(8)));
        (a, b, c) = if more.is_empty() { last(a, b, c) } else { mix(a, b, c) };
        rest = more;
    }
    c
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    for turn in [4, 6, 8, 16, 19, 4] {
        a = a.wrapping_sub(c) ^ c.rotate_left(turn);
        c = c.wrapping_add(b);
        (a, b, c) = (b, c, a);
    }
    (a, b, c)
}

fn last(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    for turn in [14, 11, 25, 16, 4, 14, 24] {
        c = (c ^ b).wrapping_sub(b.rotate_left(turn));
        (a, b, c) = (b, c, a);
    }
    (c, a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_has_its_published_values() {
        assert_eq!(lookup3(b""), 0xdead_beef);
        assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551);
    }

    #[test]
    fn odd_blocks_stay_as_they_are() {
        let mut old = [0; OLD];
        old[..8].copy_from_slice(SIGNATURE);
        old[13..20].copy_from_slice(&[8, 8, 0, 4, 0, 16, 0]);
        old[48..56].copy_from_slice(&UNDEFINED);
        assert!(convert(&old).is_some());
        for at in [0, 8, 9, 13, 16, 18, 20, 24, 48] {
            let mut odd = old;
            odd[at] ^= 1;
            assert!(convert(&odd).is_none(), "{at}");
        }
    }
}
