//! From a file's header and bytes to features or labels; the formats differ only in their headers.

use ndarray::{Array2, ArrayView, IxDyn, ShapeBuilder};

use super::element::Element;
use super::header::{hex, Header};
use super::input::{Body, Input};
use super::{idx, npy, Features};
use crate::error::Result;

/// Reads the header of whichever format the first bytes belong to.
fn read_header(input: &mut Input) -> Result<Header> {
    let mut magic = [0; 4];
    let found = input.fill(&mut magic)?;
    let magic = &magic[..found];
    if found == 0 {
        return Err(input.problem("is an empty gzip file (0 bytes decompressed)"));
    }
    if magic == &npy::MAGIC[..4] {
        npy::read_header(input)
    } else if magic.starts_with(&[0, 0]) {
        idx::read_header(input, magic)
    } else {
        Err(input.problem(format!(
            "is neither IDX nor NPY: it begins with the bytes {}{}. IDX begins with 00 00, a type and the number of \
             dimensions; NPY with 93 4e 55 4d 50 59 (\"\\x93NUMPY\"); either may be gzipped",
            hex(magic),
            guess(magic)
        )))
    }
}

/// What a file that is neither IDX nor NPY probably is, and what to do about it.
fn guess(magic: &[u8]) -> &'static str {
    if magic.starts_with(b"PK") {
        " (a zip archive; if it is an .npz, save its array alone with numpy.save)"
    } else if magic.starts_with(b"\x89HDF") {
        " (HDF5; save the array with numpy.save)"
    } else if magic.starts_with(b"\x80") {
        " (perhaps a Python pickle; save the array with numpy.save)"
    } else if magic.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        " (text; if it is a table, save its numbers as an NPY file with numpy.save)"
    } else {
        ""
    }
}

/// Reads rows, and their height and width if the file is 3-dimensional.
pub(super) fn read_features(input: &mut Input) -> Result<(Features, Option<[usize; 2]>)> {
    let header = read_header(input)?;
    let count = checked_count(input, &header)?;
    let (n_rows, rest) = match header.shape.as_slice() {
        [] => return Err(input.problem("holds a single value (0 dimensions); rows need the shape [rows, features]")),
        [n] => {
            return Err(input.problem(format!(
                "has 1 dimension ({n} values); rows need the shape [rows, features]. One value a row? reshape to \
                 [{n}, 1]. Labels? give the file as --labels"
            )))
        }
        [n_rows, rest @ ..] => (*n_rows, rest),
    };
    let image = if let [height, width] = *rest { Some([height, width]) } else { None };
    let shape = (n_rows, rest.iter().product());
    let Header { element, endian, .. } = header;
    let copies = if header.is_transposed() { 2 } else { 1 };
    let body = Body { count, size: element.size(), copies, claim: &header.describe() };
    let features = match element {
        Element::U8 => {
            let values = input.read_body(body, |bytes, out: &mut Vec<u8>| out.extend_from_slice(bytes))?;
            Features::U8(to_rows(input, &header, shape, values)?)
        }
        _ => {
            let values = input.read_body(body, |bytes, out| element.decode_f32(endian, bytes, out))?;
            Features::F32(to_rows(input, &header, shape, values)?)
        }
    };
    Ok((features, image))
}

/// Reads one integer a row.
pub(super) fn read_labels(input: &mut Input) -> Result<Vec<i64>> {
    let header = read_header(input)?;
    let count = checked_count(input, &header)?;
    if !matches!(header.shape.as_slice(), [_] | [_, 1]) {
        return Err(input.problem(format!(
            "has the shape [{}]; labels need [rows] or [rows, 1], one integer a row",
            header.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    let Header { element, endian, .. } = header;
    let body = Body { count, size: element.size(), copies: 1, claim: &header.describe() };
    let mut wrong = None;
    let labels = input.read_body(body, |bytes, out| element.decode_i64(endian, bytes, out, &mut wrong))?;
    match wrong {
        None => Ok(labels),
        Some((row, value)) => Err(input.problem(format!(
            "its label at row {row} (counted from 0) is {value}; labels are whole numbers from -2^63 to 2^63 - 1"
        ))),
    }
}

fn checked_count(input: &Input, header: &Header) -> Result<usize> {
    header.count().ok_or_else(|| {
        input.problem(format!(
            "its header promises {}, whose size in bytes overflows: the header (the {} bytes before the data) is \
             damaged",
            header.describe(),
            input.offset()
        ))
    })
}

/// Values in the file's order as rows, row-major.
fn to_rows<T: Copy>(input: &Input, header: &Header, shape: (usize, usize), values: Vec<T>) -> Result<Array2<T>> {
    let problem = |e| input.problem(format!("cannot be laid out as {} x {} rows: {e}", shape.0, shape.1));
    let values = if header.is_transposed() {
        let columns = ArrayView::from_shape(IxDyn(&header.shape).f(), &values).map_err(problem)?;
        let mut rows = input.room(values.len(), &header.describe())?;
        rows.extend(columns.iter());
        rows
    } else {
        values
    };
    Array2::from_shape_vec(shape, values).map_err(problem)
}
