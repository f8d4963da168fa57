//! Numbers as HDF5 stores them.

use half::f16;
use hdf5_pure::{Datatype, DatatypeByteOrder, FixedPointLayout, FloatingPointLayout};

use super::super::grid::Kind;

/// The type of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Signed,
    Unsigned,
    Float,
    /// A byte that is 0 or 1.
    Truth,
}

/// How one number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    form: Form,
    size: usize,
    big_endian: bool,
}

impl Number {
    /// `None` for types that are no numbers, or of a kind that numpy does not write.
    pub(super) fn of(kind: &Datatype) -> Option<Self> {
        let (form, size, order) = match kind {
            Datatype::FixedPoint { size, byte_order, layout } => {
                let FixedPointLayout { signed, bit_offset, bit_precision } = *layout;
                if bit_offset != 0 || u32::from(bit_precision) != size.saturating_mul(8) {
                    return None;
                }
                (if signed { Form::Signed } else { Form::Unsigned }, *size, byte_order)
            }
            Datatype::FloatingPoint { size, byte_order, layout } => {
                let FloatingPointLayout { exponent_size, mantissa_size, bit_offset, .. } = *layout;
                if bit_offset != 0
                    || !matches!((size, exponent_size, mantissa_size), (2, 5, 10) | (4, 8, 23) | (8, 11, 52))
                {
                    return None;
                }
                (Form::Float, *size, byte_order)
            }
            Datatype::Enumeration { base_type, members, .. } => {
                let base = Self::of(base_type)?;
                let is_truth = base.size == 1 && members.iter().any(|member| member.name == "TRUE");
                return Some(if is_truth { Self { form: Form::Truth, ..base } } else { base });
            }
            _ => return None,
        };
        let big_endian = match order {
            DatatypeByteOrder::LittleEndian => false,
            DatatypeByteOrder::BigEndian => true,
            DatatypeByteOrder::Vax => return None,
        };
        matches!(size, 1 | 2 | 4 | 8).then_some(Self { form, size: size as usize, big_endian })
    }

    /// Bytes that one number takes in the file.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// What holds it in memory.
    pub(super) fn kind(&self) -> Kind {
        match (self.form, self.size) {
            (Form::Unsigned, 1) => Kind::Byte,
            (Form::Float, ..=4) | (Form::Truth, _) | (Form::Signed | Form::Unsigned, ..=2) => Kind::Single,
            _ => Kind::Double,
        }
    }

    /// The number's bits, the lowest first. `bytes` are [`Number::size`] of them.
    fn bits(&self, bytes: &[u8]) -> u64 {
        let mut wide = [0; 8];
        for (i, &byte) in bytes.iter().take(self.size).enumerate() {
            wide[if self.big_endian { self.size - 1 - i } else { i }] = byte;
        }
        u64::from_le_bytes(wide)
    }

    /// The bits as a whole number with a sign.
    fn signed(&self, bytes: &[u8]) -> i64 {
        let unused = 64 - 8 * self.size as u32;
        (self.bits(bytes) << unused) as i64 >> unused
    }

    fn float(&self, bytes: &[u8]) -> f64 {
        let bits = self.bits(bytes);
        match self.size {
            2 => f64::from(f16::from_bits(bits as u16)),
            4 => f64::from(f32::from_bits(bits as u32)),
            _ => f64::from_bits(bits),
        }
    }

    /// The number that `bytes` are.
    pub(super) fn get(&self, bytes: &[u8]) -> f64 {
        match self.form {
            Form::Float => self.float(bytes),
            Form::Signed => self.signed(bytes) as f64,
            Form::Unsigned => self.bits(bytes) as f64,
            Form::Truth => f64::from(u8::from(self.bits(bytes) != 0)),
        }
    }

    /// A whole number that is not negative; `None` for others.
    pub(super) fn index(&self, bytes: &[u8]) -> Option<u64> {
        match self.form {
            Form::Signed => u64::try_from(self.signed(bytes)).ok(),
            Form::Unsigned | Form::Truth => Some(self.bits(bytes)),
            Form::Float => None,
        }
    }

    /// The number as it is written; `None` for what is no number.
    pub(super) fn text(&self, bytes: &[u8]) -> Option<String> {
        match self.form {
            Form::Signed => Some(self.signed(bytes).to_string()),
            Form::Unsigned => Some(self.bits(bytes).to_string()),
            Form::Truth => Some(if self.bits(bytes) != 0 { "true" } else { "false" }.to_owned()),
            Form::Float if self.size == 4 => {
                let value = f32::from_bits(self.bits(bytes) as u32);
                (!value.is_nan()).then(|| value.to_string())
            }
            Form::Float => {
                let value = self.float(bytes);
                (!value.is_nan()).then(|| value.to_string())
            }
        }
    }
}
