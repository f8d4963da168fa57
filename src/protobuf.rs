//! Writes protocol buffers, the encoding of ONNX models and of TensorBoard's events.
//!
//! A message is a list of fields. Each has a key, `number << 3 | wire type`, and a value: a varint (type 0), 8 bytes (1),
//! a length and so many bytes (2), or 4 bytes (5). Numbers are little-endian.
//!
//! Only writing, and only the types that are needed here, so that no schema compiler is.

/// An encoded message; its fields are in the order of the calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message(Vec<u8>);

/// How a value is encoded.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Eight = 1,
    Length = 2,
    Four = 5,
}

impl Message {
    /// A message without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The encoded bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// An `int32`, `int64` or enum; a negative one takes ten bytes.
    pub fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, Wire::Varint);
        self.varint(value as u64); // two's complement, as the encoding wants it
        self
    }

    /// A `repeated int64`, one field for each.
    pub fn ints(self, field: u32, values: impl IntoIterator<Item = i64>) -> Self {
        values.into_iter().fold(self, |message, value| message.int(field, value))
    }

    /// A `float`.
    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, Wire::Four);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A `double`.
    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, Wire::Eight);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A `string`.
    pub fn string(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// A `bytes`.
    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.head(field, bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    /// A message within this one.
    pub fn message(self, field: u32, inner: &Self) -> Self {
        self.bytes(field, &inner.0)
    }

    /// A `bytes`, or a packed `repeated` field, of numbers of `N` bytes each, as `to_bytes` gives them.
    pub fn numbers<T: Copy, const N: usize>(mut self, field: u32, values: &[T], to_bytes: fn(T) -> [u8; N]) -> Self {
        self.head(field, N * values.len());
        self.0.extend(values.iter().flat_map(|&value| to_bytes(value)));
        self
    }

    /// The fields of `other` after those of this one.
    pub fn then(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    fn head(&mut self, field: u32, length: usize) {
        self.key(field, Wire::Length);
        self.varint(length as u64);
        self.0.reserve(length);
    }

    fn key(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field) << 3 | wire as u64);
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A decoder for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod decode {
    /// A field's value.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Value {
        /// Of wire type 0.
        Varint(u64),
        /// Of wire type 1.
        Eight([u8; 8]),
        /// Of wire type 2.
        Bytes(Vec<u8>),
        /// Of wire type 5.
        Four([u8; 4]),
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (head, rest) = bytes.split_at(length);
        *bytes = rest;
        head
    }

    /// The fields of a message, in their order; panics where it is none.
    pub fn fields(mut bytes: &[u8]) -> Vec<(u64, Value)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Varint(varint(&mut bytes)),
                1 => Value::Eight(take(&mut bytes, 8).try_into().unwrap()),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Value::Bytes(take(&mut bytes, length).to_vec())
                }
                5 => Value::Four(take(&mut bytes, 4).try_into().unwrap()),
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, value));
        }
        found
    }

    /// What field `number` holds, wherever it comes, of length-delimited ones.
    pub fn all(bytes: &[u8], number: u64) -> Vec<Vec<u8>> {
        let of = |(field, value)| match value {
            Value::Bytes(bytes) if field == number => Some(bytes),
            _ => None,
        };
        fields(bytes).into_iter().filter_map(of).collect()
    }

    /// The text in field `number`.
    pub fn text(bytes: &[u8], number: u64) -> String {
        String::from_utf8(all(bytes, number).remove(0)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::decode::{fields, Value};
    use super::*;

    #[test]
    fn the_examples_of_the_encoding_guide() {
        // From protobuf.dev's page on the encoding: 150 in field 1, "testing" in field 2, that first message in field 3.
        let first = Message::new().int(1, 150);
        assert_eq!(first.clone().into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().string(2, "testing").into_bytes(), b"\x12\x07testing");
        assert_eq!(Message::new().message(3, &first).into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(
            Message::new().int(1, -2).into_bytes(),
            [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]
        );
    }

    #[test]
    fn all_types_read_back() {
        let values = [0, 1, 127, 128, 16_383, 16_384, i64::MAX, i64::MIN, -1];
        let message = Message::new()
            .ints(1, values)
            .float(15, 1.5)
            .double(16, -2.25)
            .bytes(2047, &[7; 300])
            .numbers(3, &[1.0f32, -2.0], f32::to_le_bytes)
            .then(&Message::new().string(4, "é"));
        let mut expected: Vec<(u64, Value)> = values.iter().map(|&v| (1, Value::Varint(v as u64))).collect();
        expected.extend([
            (15, Value::Four(1.5f32.to_le_bytes())),
            (16, Value::Eight((-2.25f64).to_le_bytes())),
            (2047, Value::Bytes(vec![7; 300])),
            (3, Value::Bytes([1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat())),
            (4, Value::Bytes("é".into())),
        ]);
        assert_eq!(fields(&message.into_bytes()), expected);
    }
}
