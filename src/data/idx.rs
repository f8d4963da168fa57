//! The header of IDX, the format of MNIST's files.
//!
//! Two zero bytes, a byte for the type, a byte for the number of dimensions, then each dimension as a big-endian `u32`;
//! the values follow, big-endian, row-major.

use super::element::{Element, Endian};
use super::header::{hex, Header};
use super::input::Input;
use crate::error::Result;

/// Reads the header whose first four bytes, `magic` (fewer where the file ends before), have been read.
pub(super) fn read_header(input: &mut Input, magic: &[u8]) -> Result<Header> {
    let &[0, 0, code, n_dims] = magic else {
        return Err(input.problem(format!(
            "is cut off inside its IDX header: it has only the bytes {}, and 4 are the least",
            hex(magic)
        )));
    };
    let element = match code {
        0x08 => Element::U8,
        0x09 => Element::I8,
        0x0b => Element::I16,
        0x0c => Element::I32,
        0x0d => Element::F32,
        0x0e => Element::F64,
        _ => {
            return Err(input.problem(format!(
                "has a wrong magic number, {}: byte 2 is not an IDX type; those are 08 (uint8), 09 (int8), \
                 0b (int16), 0c (int32), 0d (float32) and 0e (float64)",
                hex(magic)
            )))
        }
    };
    if n_dims == 0 {
        return Err(input.problem(format!(
            "has a wrong magic number, {}: byte 3 says 0 dimensions; rows have 2 or more, labels 1",
            hex(magic)
        )));
    }
    let mut bytes = vec![0; 4 * usize::from(n_dims)];
    input.fill_header(&mut bytes, "IDX")?;
    let shape = bytes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    Ok(Header { shape, element, endian: Endian::Big, fortran: false })
}
