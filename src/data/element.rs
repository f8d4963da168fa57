//! The numbers that IDX and NPY files hold, and how they become `f32` features or `i64` labels.

/// The type of one value in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

/// The order of the bytes of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Big,
    Little,
}

/// `$body` with `$value` bound to each number of `$bytes` in turn, as the Rust type that `$element` stands for.
macro_rules! for_each_number {
    ($element:expr, $endian:expr, $bytes:expr, $value:ident => $body:expr) => {
        match $element {
            Element::Bool => for_each_number!(@as u8, $endian, $bytes, byte => { let $value = u8::from(byte != 0); $body }),
            Element::U8 => for_each_number!(@as u8, $endian, $bytes, $value => $body),
            Element::I8 => for_each_number!(@as i8, $endian, $bytes, $value => $body),
            Element::U16 => for_each_number!(@as u16, $endian, $bytes, $value => $body),
            Element::I16 => for_each_number!(@as i16, $endian, $bytes, $value => $body),
            Element::U32 => for_each_number!(@as u32, $endian, $bytes, $value => $body),
            Element::I32 => for_each_number!(@as i32, $endian, $bytes, $value => $body),
            Element::U64 => for_each_number!(@as u64, $endian, $bytes, $value => $body),
            Element::I64 => for_each_number!(@as i64, $endian, $bytes, $value => $body),
            Element::F16 => for_each_number!(@as u16, $endian, $bytes, bits => { let $value = f16_to_f32(bits); $body }),
            Element::Bf16 => for_each_number!(@as u16, $endian, $bytes, bits => { let $value = f32::from_bits(u32::from(bits) << 16); $body }),
            Element::F32 => for_each_number!(@as f32, $endian, $bytes, $value => $body),
            Element::F64 => for_each_number!(@as f64, $endian, $bytes, $value => $body),
        }
    };
    (@as $type:ty, $endian:expr, $bytes:expr, $value:ident => $body:expr) => {{
        let big = $endian == Endian::Big;
        for bytes in $bytes.chunks_exact(size_of::<$type>()) {
            let mut array = [0; size_of::<$type>()];
            array.copy_from_slice(bytes);
            let $value = if big { <$type>::from_be_bytes(array) } else { <$type>::from_le_bytes(array) };
            $body
        }
    }};
}

impl Element {
    /// Bytes a value.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// NumPy's name of the type, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Appends the values in `bytes`, each rounded to the nearest `f32`.
    pub fn decode_f32(self, endian: Endian, bytes: &[u8], out: &mut Vec<f32>) {
        for_each_number!(self, endian, bytes, value => out.push(value as f32));
    }

    /// Whether values of this type are kept as bytes.
    pub fn is_byte(self) -> bool {
        matches!(self, Self::U8 | Self::Bool)
    }

    /// Appends the values in `bytes`, of a type that is kept as bytes.
    pub fn decode_u8(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Bool => out.extend(bytes.iter().map(|&byte| u8::from(byte != 0))),
            _ => out.extend_from_slice(bytes),
        }
    }

    /// Whether float32 may round values of this type.
    pub fn is_wide(self) -> bool {
        matches!(self, Self::U32 | Self::I32 | Self::U64 | Self::I64 | Self::F64)
    }

    /// Appends the values in `bytes`, each rounded to the nearest `f64`.
    pub fn decode_f64(self, endian: Endian, bytes: &[u8], out: &mut Vec<f64>) {
        for_each_number!(self, endian, bytes, value => out.push(value as f64));
    }

    /// Appends the values in `bytes` as integers. `wrong` becomes the place in `out` and the text of the first that is not an
    /// `i64`, unless it is one already.
    pub fn decode_i64(self, endian: Endian, bytes: &[u8], out: &mut Vec<i64>, wrong: &mut Option<(usize, String)>) {
        for_each_number!(self, endian, bytes, value => {
            // `as` rounds and saturates, so a float is that integer only if it survives the way back. i128 holds every
            // 64-bit integer, signed or not, and 2^63, which is what i64::MAX would be as a float.
            let integer = value as i128;
            let exact = integer as f64 == value as f64 && (i128::from(i64::MIN)..=i128::from(i64::MAX)).contains(&integer);
            if !exact && wrong.is_none() {
                *wrong = Some((out.len(), value.to_string()));
            }
            out.push(integer as i64);
        });
    }
}

/// An IEEE 754 half: 1 sign bit, 5 exponent bits (bias 15), 10 fraction bits. Every half is exact as an `f32`.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        // Zero and the subnormals: fraction * 2^-24.
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        // Infinity and NaN.
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        // The bias goes from 15 to 127.
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_the_singles_they_stand_for() {
        // Values from IEEE 754: one, -2, the largest half, the smallest normal, the smallest subnormal, thirds.
        let cases: [(u16, f32); 7] = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0x8000, -0.0),
        ];
        for (bits, value) in cases {
            assert_eq!(f16_to_f32(bits).to_bits(), value.to_bits(), "{bits:#06x}");
        }
        assert_eq!(f16_to_f32(0x7c00), f32::INFINITY);
        assert_eq!(f16_to_f32(0xfc00), f32::NEG_INFINITY);
        assert!(f16_to_f32(0x7e00).is_nan());
    }

    #[test]
    fn every_type_decodes_in_both_byte_orders() {
        macro_rules! check {
            ($element:ident, $value:expr) => {
                let mut out = Vec::new();
                Element::$element.decode_f32(Endian::Big, &$value.to_be_bytes(), &mut out);
                Element::$element.decode_f32(Endian::Little, &$value.to_le_bytes(), &mut out);
                assert_eq!(out, [$value as f32; 2], stringify!($element));
                assert_eq!(Element::$element.size(), size_of_val(&$value));
            };
        }
        check!(U8, 200u8);
        check!(I8, -100i8);
        check!(U16, 60_001u16);
        check!(I16, -30_001i16);
        check!(U32, 4_000_000_001u32);
        check!(I32, -2_000_000_001i32);
        check!(U64, 18_000_000_000_000_000_001u64);
        check!(I64, -9_000_000_000_000_000_001i64);
        check!(F32, -1.5e-3f32);
        check!(F64, 1.1e300f64);
    }

    #[test]
    fn labels_are_exact_integers_or_named() {
        let decode = |element: Element, endian, bytes: &[u8]| {
            let (mut out, mut wrong) = (vec![7], None);
            element.decode_i64(endian, bytes, &mut out, &mut wrong);
            (out[1..].to_vec(), wrong)
        };
        for (value, text) in [(0.5, "0.5"), (f64::NAN, "NaN"), (9.3e18, "9300000000000000000"), (f64::INFINITY, "inf")]
        {
            let floats: Vec<u8> = [3.0, -0.0, value, 0.25].iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
            let (out, wrong) = decode(Element::F64, Endian::Little, &floats);
            assert_eq!((&out[..2], wrong), (&[3, 0][..], Some((3, text.to_owned()))), "the first, at its place");
        }
        let integers: Vec<u8> = [i64::MAX as u64, i64::MAX as u64 + 1].iter().flat_map(|v| v.to_be_bytes()).collect();
        let (out, wrong) = decode(Element::U64, Endian::Big, &integers);
        assert_eq!((out[0], wrong), (i64::MAX, Some((2, "9223372036854775808".to_owned()))));
        assert_eq!(decode(Element::I64, Endian::Big, &(i64::MIN + 1).to_be_bytes()), (vec![i64::MIN + 1], None));
        assert_eq!(decode(Element::Bool, Endian::Big, &[0, 7]), (vec![0, 1], None));
    }
}
