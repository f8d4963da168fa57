//! safetensors: named arrays behind a JSON header. The data are read by seeking, not as a whole file.

use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use ndarray::Array2;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::Deserialize;

use super::lines::{quoted, unreadable};
use super::{Pick, Table, Values};
use crate::data::element::{Element, Endian};
use crate::data::source::FileRows;
use crate::error::{Error, Result};

/// The longest header that is read, as the format's own library has it.
const MOST_HEADER_BYTES: u64 = 100_000_000;
/// Bytes that one byte of a header comes to, about: two characters are a side of a shape.
const HEADER_COST: u64 = 8;
/// How many tensors an error lists.
const MOST_LISTED: usize = 20;
/// Whole numbers beyond this are rounded in float64.
const EXACT_F64: u64 = 1 << 53;

/// Reads a tensor as rows: [`Pick::array`], else the only one of two dimensions. Three or four dimensions are images.
pub fn read(path: &Path, pick: &Pick) -> Result<Table> {
    let file = File::open(path).map_err(|error| unreadable(path, "cannot be opened", &error))?;
    let length = file.metadata().map_err(|error| unreadable(path, "cannot be read", &error))?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let header = read_header(path, &mut file, length, pick)?;
    let (name, tensor) = choose(path, pick, &header.tensors)?;
    let element = element_of(&tensor.dtype).ok_or_else(|| {
        let problem = format!("its type {} is not read; save it as F32", quoted(&tensor.dtype));
        wrong(path, name, problem)
    })?;
    let layout = Layout::of(path, name, &tensor.shape)?;
    let start = check_offsets(path, name, tensor, element, header.data_start, length)?;
    let stays = layout.count.saturating_mul(element.size() as u64) > pick.most_resident();
    if !stays {
        let bytes = layout.count.saturating_mul(bytes_in_memory(element));
        pick.check_bytes(path, &format!("the values of {name}"), bytes)?;
    }
    file.seek(SeekFrom::Start(start)).map_err(|error| unreadable(path, "cannot be read", &error))?;
    let mut read = Reader { path, name, layout: &layout, size: element.size(), file: &mut file };
    let mut rounded = 0;
    let mut count = |bytes: &[u8]| {
        let whole = bytes.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes));
        rounded += whole.filter(|whole| whole.unsigned_abs() > EXACT_F64).count();
    };
    let mut table = if stays {
        if element == Element::I64 {
            read.each(&mut count)?;
        }
        let (path, file, shape) = (path.to_owned(), file.into_inner(), [layout.rows, layout.width]);
        Table::in_file(FileRows { path, file, start, element, endian: Endian::Little, shape }, &layout.rest)
    } else {
        let values = match element {
            _ if element.is_byte() => Values::U8(read.rows(|bytes, out| element.decode_u8(bytes, out))?),
            _ if element.is_wide() => Values::F64(read.rows(|bytes, out| {
                if element == Element::I64 {
                    count(bytes);
                }
                element.decode_f64(Endian::Little, bytes, out);
            })?),
            _ => Values::F32(read.rows(|bytes, out| element.decode_f32(Endian::Little, bytes, out))?),
        };
        let mut table = Table { values, ..Table::default() };
        table.take_shape(&layout.rest);
        table
    };
    if rounded > 0 {
        table.notes.push(format!("integers of {name} that are beyond 2^53 and were rounded to float64: {rounded}"));
    }
    Ok(table)
}

/// An error about a tensor.
fn wrong(path: &Path, name: &str, problem: impl fmt::Display) -> Error {
    Error::data(path, format!("tensor {name}: {problem}"))
}

/// The file's header.
struct Header {
    tensors: BTreeMap<String, Tensor>,
    data_start: u64,
}

/// What the header says of a tensor.
#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header's tensors: all of its keys but "__metadata__".
struct Tensors(BTreeMap<String, Tensor>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Tensors;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Tensors, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    match tensors.entry(name) {
                        Entry::Vacant(place) => {
                            place.insert(map.next_value()?);
                        }
                        Entry::Occupied(place) => {
                            return Err(serde::de::Error::custom(format!("{} comes twice", quoted(place.key()))));
                        }
                    }
                }
                Ok(Tensors(tensors))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Reads the header's length and the header.
fn read_header(path: &Path, file: &mut impl Read, length: u64, pick: &Pick) -> Result<Header> {
    let broken = |problem: String| {
        Error::data(path, format!("{problem}; check that this is a safetensors file, or save it again"))
    };
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes).map_err(|error| broken(format!("its header cannot be read: {error}")))?;
    let header = u64::from_le_bytes(bytes);
    if header > MOST_HEADER_BYTES || header > length.saturating_sub(8) {
        return Err(broken(format!("claims a header of {header} bytes, but the file has {length} bytes")));
    }
    pick.check_bytes(path, "its header and the tensors that it lists", header * HEADER_COST)?;
    let mut text = vec![0; header as usize];
    file.read_exact(&mut text).map_err(|error| broken(format!("its header cannot be read: {error}")))?;
    let Tensors(tensors) =
        serde_json::from_slice(&text).map_err(|error| broken(format!("its header is wrong: {error}")))?;
    Ok(Header { tensors, data_start: 8 + header })
}

/// The tensor to read.
fn choose<'a>(path: &Path, pick: &Pick, tensors: &'a BTreeMap<String, Tensor>) -> Result<(&'a str, &'a Tensor)> {
    if let Some(name) = pick.array {
        let found = tensors.get_key_value(name).map(|(name, tensor)| (name.as_str(), tensor));
        return found.ok_or_else(|| {
            Error::data(path, format!("has no tensor {}; name one with --array: {}", quoted(name), list(tensors)))
        });
    }
    let mut tables = tensors.iter().filter(|(_, tensor)| tensor.shape.len() == 2);
    match (tables.next(), tables.next()) {
        (Some((name, tensor)), None) => Ok((name, tensor)),
        _ if tensors.is_empty() => {
            Err(Error::data(path, "holds no tensors; save one of two dimensions, rows and columns"))
        }
        (first, _) => {
            let problem = if first.is_some() { "several tensors" } else { "no tensor" };
            Err(Error::data(
                path,
                format!("holds {problem} of two dimensions; name one with --array: {}", list(tensors)),
            ))
        }
    }
}

/// The tensors with their types and shapes, for an error.
fn list(tensors: &BTreeMap<String, Tensor>) -> String {
    let mut parts: Vec<String> = tensors
        .iter()
        .take(MOST_LISTED)
        .map(|(name, tensor)| format!("{name} {} {:?}", tensor.dtype, tensor.shape))
        .collect();
    if tensors.len() > MOST_LISTED {
        parts.push(format!("and {} more", tensors.len() - MOST_LISTED));
    }
    parts.join(", ")
}

/// Checks a tensor's place in the file. Gives where it begins.
fn check_offsets(
    path: &Path,
    name: &str,
    tensor: &Tensor,
    element: Element,
    data_start: u64,
    length: u64,
) -> Result<u64> {
    let [from, to] = tensor.data_offsets;
    let bytes = tensor.shape.iter().try_fold(element.size() as u64, |bytes, &side| bytes.checked_mul(side));
    if bytes.is_none() || to.checked_sub(from) != bytes {
        let problem =
            format!("its shape {:?} does not fit its place, bytes {from} to {to}; save it again", tensor.shape);
        return Err(wrong(path, name, problem));
    }
    if to > length - data_start {
        let problem = format!(
            "it ends at byte {to} of the data, but the file has {} of them; fetch or save it again",
            length - data_start
        );
        return Err(wrong(path, name, problem));
    }
    Ok(data_start + from)
}

/// The type of a name.
fn element_of(dtype: &str) -> Option<Element> {
    Some(match dtype {
        "U8" => Element::U8,
        "BOOL" => Element::Bool,
        "I8" => Element::I8,
        "I16" => Element::I16,
        "U16" => Element::U16,
        "I32" => Element::I32,
        "U32" => Element::U32,
        "I64" => Element::I64,
        "F16" => Element::F16,
        "BF16" => Element::Bf16,
        "F32" => Element::F32,
        "F64" => Element::F64,
        _ => return None,
    })
}

/// Bytes that a number takes in memory.
fn bytes_in_memory(element: Element) -> u64 {
    match element {
        _ if element.is_byte() => 1,
        _ if element.is_wide() => 8,
        _ => 4,
    }
}

/// How a tensor becomes rows.
struct Layout {
    rows: usize,
    width: usize,
    count: u64,
    /// The shape of a row.
    rest: Vec<usize>,
}

impl Layout {
    /// The layout of a shape.
    fn of(path: &Path, name: &str, shape: &[u64]) -> Result<Self> {
        let sides: Vec<usize> = shape.iter().filter_map(|&side| usize::try_from(side).ok()).collect();
        let product = |sides: &[usize]| sides.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
        if !(2..=4).contains(&sides.len()) {
            let problem =
                format!("its shape is {shape:?}; save it with two to four dimensions, the first of them the rows");
            return Err(wrong(path, name, problem));
        }
        let size = product(&sides).and_then(|count| Some((count, product(&sides[1..])?)));
        let (count, width) =
            size.ok_or_else(|| wrong(path, name, format!("its shape {shape:?} is too large; save it again")))?;
        Ok(Self { rows: sides[0], width, count: count as u64, rest: sides[1..].to_vec() })
    }
}

/// The tensor's numbers, at the file's place.
struct Reader<'a, R> {
    path: &'a Path,
    name: &'a str,
    layout: &'a Layout,
    /// Bytes of a number.
    size: usize,
    file: &'a mut R,
}

impl<R: Read> Reader<'_, R> {
    /// Reads the rows; `decode` appends what whole numbers of bytes come to.
    fn rows<T>(&mut self, mut decode: impl FnMut(&[u8], &mut Vec<T>)) -> Result<Array2<T>> {
        let Layout { rows, width, .. } = *self.layout;
        let mut values: Vec<T> = Vec::with_capacity(rows * width);
        self.each(|bytes| decode(bytes, &mut values))?;
        Array2::from_shape_vec((rows, width), values)
            .map_err(|error| wrong(self.path, self.name, format!("its shape is too large ({error}); save it again")))
    }

    /// Calls `f` with the bytes of all numbers in turn, whole numbers at a time.
    fn each(&mut self, mut f: impl FnMut(&[u8])) -> Result<()> {
        const NUMBERS: u64 = 1 << 13;
        let mut buffer = vec![0; NUMBERS as usize * self.size];
        let mut left = self.layout.count;
        while left > 0 {
            let chunk = &mut buffer[..left.min(NUMBERS) as usize * self.size];
            self.file
                .read_exact(chunk)
                .map_err(|error| unreadable(self.path, &format!("tensor {}: cannot be read", self.name), &error))?;
            f(chunk);
            left -= left.min(NUMBERS);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::data::RowSource;
    use half::{bf16, f16};

    fn pick(array: Option<&str>) -> Pick<'_> {
        Pick { array, most_bytes: 1 << 20, ..Pick::default() }
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn parse(bytes: &[u8], array: Option<&str>) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        std::fs::write(&path, bytes).unwrap();
        read(&path, &pick(array))
    }

    fn one(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        file(&format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{}]}}}}"#, data.len()), data)
    }

    #[test]
    fn reads_every_type() {
        let f32s = |values: [f32; 2]| Values::F32(Array2::from_shape_vec((1, 2), values.to_vec()).unwrap());
        let f64s = |values: [f64; 2]| Values::F64(Array2::from_shape_vec((1, 2), values.to_vec()).unwrap());
        let u8s = |values: [u8; 2]| Values::U8(Array2::from_shape_vec((1, 2), values.to_vec()).unwrap());
        let cases: [(&str, Vec<u8>, Values); 12] = [
            ("U8", vec![1, 255], u8s([1, 255])),
            ("BOOL", vec![0, 1], u8s([0, 1])),
            ("I8", vec![1, 255], f32s([1.0, -1.0])),
            ("I16", [1_i16, -300].map(i16::to_le_bytes).concat(), f32s([1.0, -300.0])),
            ("U16", [1_u16, 60000].map(u16::to_le_bytes).concat(), f32s([1.0, 60000.0])),
            ("F16", [0.5_f32, -2.0].map(|v| f16::from_f32(v).to_le_bytes()).concat(), f32s([0.5, -2.0])),
            ("BF16", [0.5_f32, -2.0].map(|v| bf16::from_f32(v).to_le_bytes()).concat(), f32s([0.5, -2.0])),
            ("F32", [0.1_f32, -2.0].map(f32::to_le_bytes).concat(), f32s([0.1, -2.0])),
            ("F64", [0.1_f64, -2.0].map(f64::to_le_bytes).concat(), f64s([0.1, -2.0])),
            ("I32", [1_i32, i32::MIN].map(i32::to_le_bytes).concat(), f64s([1.0, f64::from(i32::MIN)])),
            ("U32", [1_u32, u32::MAX].map(u32::to_le_bytes).concat(), f64s([1.0, f64::from(u32::MAX)])),
            ("I64", [1_i64, -5].map(i64::to_le_bytes).concat(), f64s([1.0, -5.0])),
        ];
        for (dtype, data, values) in cases {
            let table = parse(&one(dtype, "[1,2]", &data), None).unwrap();
            assert_eq!(table.values, values, "{dtype}");
            assert!(table.notes.is_empty());
        }
        let table = parse(&one("I64", "[1,1]", &i64::MAX.to_le_bytes()), None).unwrap();
        assert!(table.notes[0].contains("2^53"));
    }

    /// A tensor that is too large for memory and stays in its file is what it is in memory.
    #[test]
    fn rows_in_the_file_are_those_in_memory_and_so_is_what_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let whole: Vec<u8> = [1_i64, i64::MAX, -5, i64::MIN].map(i64::to_le_bytes).concat();
        for (dtype, data, bytes, notes) in [("BOOL", vec![0, 1, 7, 0], true, 0), ("I64", whole, false, 1)] {
            let data = data.repeat(250); // more than the header takes
            std::fs::write(&path, one(dtype, "[500,2]", &data)).unwrap();
            let resident = read(&path, &pick(None)).unwrap();
            let stays = read(&path, &Pick { most_bytes: 1_000, ..Pick::default() }).unwrap();
            assert_eq!((&stays.notes, stays.notes.len()), (&resident.notes, notes));
            let Values::Rows(rows) = stays.values else { panic!("{dtype} is in memory") };
            assert_eq!(rows.is_bytes(), bytes, "{dtype}");
            let mut values = [0.0; 4];
            rows.read_f64(&[0, 1], &mut values).unwrap();
            let expected = match resident.values {
                Values::U8(rows) => rows.mapv(f64::from),
                Values::F64(rows) => rows,
                other => panic!("{other:?}"),
            };
            assert!(expected.iter().take(4).eq(&values), "{dtype}: {values:?}");
            if bytes {
                let mut values = [9; 4];
                rows.read_u8(&[0, 1], &mut values).unwrap();
                assert_eq!(values, [0, 1, 1, 0]);
            }
        }
    }

    #[test]
    fn picks_by_name_or_the_only_table() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
            "w":{"dtype":"U8","shape":[2,1],"data_offsets":[2,4]}}"#;
        let bytes = file(header, &[1, 2, 3, 4]);
        assert_eq!(parse(&bytes, None).unwrap().values, Values::U8(ndarray::array![[3], [4]]));
        assert!(parse(&bytes, Some("b")).unwrap_err().to_string().contains("tensor b: its shape is [2]"));
        let error = parse(&bytes, Some("z")).unwrap_err().to_string();
        assert!(error.contains("b U8 [2], w U8 [2, 1]"), "{error}");
        let two = header.replace("[2],", "[1,2],");
        let error = parse(&file(&two, &[1, 2, 3, 4]), None).unwrap_err().to_string();
        assert!(error.contains("several tensors") && error.contains("b U8 [1, 2]"), "{error}");
        assert!(parse(&file("{}", &[]), None).unwrap_err().to_string().contains("no tensors"));
    }

    #[test]
    fn images_stay_in_the_order_of_the_file() {
        let data: Vec<u8> = (0..2 * 3 * 8 * 9).map(|value| value as u8).collect();
        for (shape, image, first, notes) in [
            ("[2,3,8,9]", Some([8, 9, 3]), true, 0),
            ("[2,8,9,3]", Some([8, 9, 3]), false, 0),
            ("[6,8,9]", Some([8, 9, 1]), false, 0),
            ("[2,3,4,18]", None, false, 1),
        ] {
            let table = parse(&one("U8", shape, &data), Some("x")).unwrap();
            assert_eq!((table.image, table.channels_first, table.notes.len()), (image, first, notes), "{shape}");
            let Values::U8(values) = &table.values else { panic!("not bytes") };
            assert!(values.iter().eq(&data));
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        for (bytes, part) in [
            (vec![], "header"),
            (vec![1, 2, 3], "header"),
            (u64::MAX.to_le_bytes().to_vec(), "claims a header"),
            (100_u64.to_le_bytes().to_vec(), "claims a header of 100"),
            (file("[1]", &[]), "header is wrong"),
            (file("{\"x\":1}", &[]), "header is wrong"),
            (one("F32", "[-1,2]", &[0; 8]), "header is wrong"),
            (one("F32", "[2,2]", &[0; 8]), "does not fit"),
            (one("F32", "[4294967296,4294967296]", &[0; 8]), "too large"),
            (one("F32", "[0,4294967296,4294967296,16]", &[]), "too large"),
            (one("F8_E4M3", "[1,2]", &[0; 2]), "F8_E4M3"),
            (one("U8", "[1,1,1,1,2]", &[0; 2]), "two to four"),
            (one("U8", "[]", &[0; 1]), "two to four"),
            (
                file(r#"{"x":{"dtype":"U8","shape":[1,4],"data_offsets":[0,4]}}"#, &[0; 3]),
                "of the data, but the file has",
            ),
            (file(r#"{"x":{"dtype":"U8","shape":[1,4],"data_offsets":[4,0]}}"#, &[0; 4]), "does not fit"),
            (
                file(
                    r#"{"x":{"dtype":"U8","shape":[1,1],"data_offsets":[18446744073709551614,18446744073709551615]}}"#,
                    &[0],
                ),
                "of the data, but the file has",
            ),
            (file(r#"{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":0}"#, &[0]), "twice"),
        ] {
            let error = parse(&bytes, Some("x")).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        let whole = one("F32", "[1,2]", &[0; 8]);
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut], None).is_err(), "{cut}");
        }
        let large = parse(&one("F32", "[1000,1000]", &vec![0; 4_000_000]), None).unwrap();
        assert!(matches!(large.values, Values::Rows(rows) if rows.shape() == [1000, 1000]), "it stays in the file");
    }
}
