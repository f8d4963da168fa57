//! From a file's header and bytes to features or labels; the formats differ only in their headers.

use ndarray::{Array2, ArrayView, IxDyn, ShapeBuilder};

use super::element::Endian;
use super::format::labels::LABEL_BYTES;
use super::format::{Pick, Table, Values};
use super::header::{hex, Header};
use super::input::{Body, Input};
use super::source::FileRows;
use super::{idx, npy};
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
            "is neither IDX nor NPY: it begins with the bytes {}. IDX begins with 00 00, a type and the number of \
             dimensions; NPY with 93 4e 55 4d 50 59 (\"\\x93NUMPY\"); either may be gzipped",
            hex(magic),
        )))
    }
}

/// Reads rows; images where the file has three or four dimensions of their kind. Those of a plain file that are large stay there,
/// others take no more memory than `pick` allows.
pub(super) fn read_table(input: &mut Input, pick: &Pick) -> Result<Table> {
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
    let shape = (n_rows, rest.iter().product());
    let Header { element, endian, .. } = header;
    let copies = if header.is_transposed() { 2 } else { 1 };
    let body = Body { count, size: element.size(), copies, most_bytes: pick.most_bytes, claim: &header.describe() };
    let large = (count as u64).saturating_mul(element.size() as u64) > pick.most_resident() && !header.is_transposed();
    if let Some((file, start)) = if large { input.stay(body)? } else { None } {
        let (path, shape) = (input.path().to_owned(), [shape.0, shape.1]);
        return Ok(Table::in_file(FileRows { path, file, start, element, endian, shape }, rest));
    }
    let values = match element {
        _ if element.is_byte() => {
            let values = input.read_body(body, |bytes, out| element.decode_u8(bytes, out))?;
            Values::U8(to_rows(input, &header, shape, values)?)
        }
        _ if element.is_wide() => {
            let values = input.read_body(body, |bytes, out| element.decode_f64(endian, bytes, out))?;
            Values::F64(to_rows(input, &header, shape, values)?)
        }
        _ => {
            let values = input.read_body(body, |bytes, out| element.decode_f32(endian, bytes, out))?;
            Values::F32(to_rows(input, &header, shape, values)?)
        }
    };
    let mut table = Table { values, ..Table::default() };
    table.take_shape(rest);
    Ok(table)
}

/// Reads one integer a row.
pub(super) fn read_labels(input: &mut Input) -> Result<Vec<i64>> {
    let header = read_header(input)?;
    integers(input, &header, u64::MAX)
}

fn integers(input: &mut Input, header: &Header, most_bytes: u64) -> Result<Vec<i64>> {
    let count = checked_count(input, header)?;
    check_labels_shape(input, &header.shape)?;
    let Header { element, endian, .. } = *header;
    let body = Body { count, size: element.size(), copies: LABEL_COPIES, most_bytes, claim: &header.describe() };
    let mut wrong = None;
    let labels = input.read_body(body, |bytes, out| element.decode_i64(endian, bytes, out, &mut wrong))?;
    match wrong {
        None => Ok(labels),
        Some((row, value)) => Err(input.problem(format!(
            "its label at row {row} (counted from 0) is {value}; labels are whole numbers from -2^63 to 2^63 - 1, or strings"
        ))),
    }
}

/// How often the 8 bytes of a number that becomes a label fit into what it takes in memory.
const LABEL_COPIES: u64 = 1 + LABEL_BYTES.div_ceil(8);

fn check_labels_shape(input: &Input, shape: &[usize]) -> Result<()> {
    if matches!(shape, [_] | [_, 1]) {
        return Ok(());
    }
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    Err(input.problem(format!("has the shape [{}]; labels need [rows] or [rows, 1], one a row", shape.join(", "))))
}

/// One label a row of an NPY or IDX file, numbers or strings; `None` for a file of another format. They take no more than so many
/// bytes of memory.
pub(super) fn read_text_labels(input: &mut Input, most_bytes: u64) -> Result<Option<Vec<Option<String>>>> {
    let mut magic = [0; 4];
    let found = input.fill(&mut magic)?;
    let magic = &magic[..found];
    let text = |labels: Vec<i64>| Ok(Some(labels.into_iter().map(|label| Some(label.to_string())).collect()));
    if magic == &npy::MAGIC[..4] {
        return match npy::read_content(input)? {
            npy::Content::Numbers(header) => text(integers(input, &header, most_bytes)?),
            npy::Content::Text(header) => strings(input, &header, most_bytes).map(Some),
        };
    }
    if magic.starts_with(&[0, 0]) {
        let header = idx::read_header(input, magic)?;
        return text(integers(input, &header, most_bytes)?);
    }
    Ok(None)
}

fn strings(input: &mut Input, header: &npy::TextHeader, most_bytes: u64) -> Result<Vec<Option<String>>> {
    check_labels_shape(input, &header.shape)?;
    let count = header.shape.first().copied().unwrap_or(0);
    let claim = format!("{count} strings of {} characters", header.width);
    let size = header.width.checked_mul(if header.unicode.is_some() { 4 } else { 1 }).filter(|&size| size > 0);
    let bytes = size.and_then(|size| count.checked_mul(size)).filter(|&bytes| isize::try_from(bytes).is_ok());
    let (Some(size), Some(bytes)) = (size, bytes) else {
        return Err(input.problem(format!("its header promises {claim}: it is damaged")));
    };
    // Once as they are in the file, once as texts of their own.
    let copies = 3 + LABEL_BYTES.div_ceil(size as u64);
    let body = Body { count: bytes, size: 1, copies, most_bytes, claim: &claim };
    let bytes: Vec<u8> = input.read_body(body, |bytes, out| out.extend_from_slice(bytes))?;
    let decode = |cell: &[u8]| -> String {
        let text: String = match header.unicode {
            None => String::from_utf8_lossy(cell).into_owned(),
            Some(endian) => cell
                .chunks_exact(4)
                .map(|b| {
                    let b = [b[0], b[1], b[2], b[3]];
                    let code = if endian == Endian::Big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) };
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                })
                .collect(),
        };
        text.trim_end_matches('\0').to_owned()
    };
    Ok(bytes.chunks_exact(size).map(|cell| Some(decode(cell)).filter(|text| !text.is_empty())).collect())
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
