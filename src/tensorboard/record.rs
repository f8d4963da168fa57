//! The framing of an event file: TensorFlow's record format.
//!
//! A record is its length (8 bytes), a checksum of these (4), the data, and a checksum of the data (4); little-endian. A
//! checksum is CRC-32C, turned by 15 bits and moved by a constant, so that one of data with checksums in it works too.

use std::io::{self, Read};

const LENGTH: usize = 8;
const CHECKSUM: usize = 4;
/// The constant that is added to a checksum.
const MASK: u32 = 0xa282_ead8;
/// No record of ours is larger; a length above it is no length.
const MOST_BYTES: u64 = 1 << 30;

/// Adds `data` to `out` as a record.
pub(super) fn push(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend(masked(data).to_le_bytes());
}

fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK)
}

/// The bytes of the whole records in `file`, behind which there is nothing, or half a record. `None` where a record is damaged,
/// or it is no event file.
///
/// # Errors
/// A failure to read.
pub(super) fn whole(mut file: impl Read) -> io::Result<Option<u64>> {
    let mut total = 0;
    loop {
        let head = up_to(&mut file, (LENGTH + CHECKSUM) as u64)?;
        let Some((length, checksum)) = head.split_first_chunk::<LENGTH>() else { return Ok(Some(total)) };
        if checksum.len() < CHECKSUM {
            return Ok(Some(total));
        }
        let size = u64::from_le_bytes(*length);
        if checksum != masked(length).to_le_bytes() || size > MOST_BYTES {
            return Ok(None);
        }
        let rest = up_to(&mut file, size + CHECKSUM as u64)?;
        let Some((data, checksum)) = rest.split_last_chunk::<CHECKSUM>().filter(|(data, _)| data.len() as u64 == size)
        else {
            return Ok(Some(total));
        };
        if *checksum != masked(data).to_le_bytes() {
            return Ok(None);
        }
        total += (head.len() + rest.len()) as u64;
    }
}

/// The next bytes, fewer where the file ends.
fn up_to(file: &mut impl Read, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn checksums_are_those_of_the_format() {
        // RFC 3720, B.4, has 0x8a9136aa for 32 zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(&[0; 32]), 0x6d55_1522u32.wrapping_add(MASK));
    }

    #[test]
    fn only_whole_records_count() {
        let mut out = Vec::new();
        push(&mut out, b"first");
        let first = out.len() as u64;
        push(&mut out, b"");
        push(&mut out, &[9; 300]);
        let ends = [0, first, first + 16, out.len() as u64];
        for length in 0..=out.len() {
            let expected = ends.iter().rfind(|&&end| end <= length as u64).unwrap();
            assert_eq!(whole(&out[..length]).unwrap(), Some(*expected), "{length} bytes");
        }
        let last = out.len() - 100;
        out[last] ^= 1;
        assert_eq!(whole(out.as_slice()).unwrap(), None);
        assert_eq!(whole(b"{\"event\":\"epoch\",\"stage\"".as_slice()).unwrap(), None);
    }
}
