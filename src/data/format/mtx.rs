//! Matrix Market text, plain or gzipped: a single file, or the folder that 10x Genomics' Cell Ranger writes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use ndarray::Array2;

use super::csr::{check_entries, check_shape, Entries};
use super::lines::{at_line, quoted, unreadable, Lines};
use super::{Pick, Table, Values};
use crate::error::{Error, Result};

/// The names that a 10x folder's files may have.
const MATRIX: [&str; 2] = ["matrix.mtx", "matrix.mtx.gz"];
const BARCODES: [&str; 2] = ["barcodes.tsv", "barcodes.tsv.gz"];
const GENES: [&str; 4] = ["features.tsv", "features.tsv.gz", "genes.tsv", "genes.tsv.gz"];

/// Reads a Matrix Market file: its rows are the rows.
pub fn read_file(path: &Path, pick: &Pick) -> Result<Table> {
    let mut bytes = open(path)?;
    let mut lines = Lines::new(path, &mut *bytes, pick);
    let head = read_head(path, &mut lines)?;
    let values = if head.dense {
        Values::F64(read_dense(path, &mut lines, &head, pick)?)
    } else {
        let shape = check_shape(path, head.rows, head.columns)?;
        check_entries(path, pick, head.rows, head.entries)?;
        let entries = read_entries(path, &mut lines, &head, |row, column| Some((row, column)))?;
        Values::Csr(entries.into_csr(path, shape)?)
    };
    Ok(Table { values, ..Table::default() })
}

/// Whether a path is a folder that holds `matrix.mtx` or `matrix.mtx.gz`.
pub fn is_10x_folder(path: &Path) -> bool {
    present(path, &MATRIX).is_some()
}

/// Reads a 10x folder. Its matrix is genes × cells and is transposed: cells are the rows, barcodes name them.
pub fn read_folder(path: &Path, pick: &Pick) -> Result<Table> {
    let matrix_path = member(path, &MATRIX)?;
    let mut bytes = open(&matrix_path)?;
    let mut lines = Lines::new(&matrix_path, &mut *bytes, pick);
    let head = read_head(&matrix_path, &mut lines)?;
    if head.dense {
        let problem = "is a dense array, but 10x folders hold coordinates; give the file itself, not its folder";
        return Err(Error::data(&matrix_path, problem));
    }
    let [genes, cells] = check_shape(&matrix_path, head.rows, head.columns)?;
    let ids = read_names(&member(path, &BARCODES)?, pick, cells, "columns", |line| first_field(line).to_owned())?;
    let (columns, mut notes) = read_genes(&member(path, &GENES)?, pick, genes)?;
    let (columns, places) = choose(path, pick, columns)?;
    let place = |gene: u32, cell: u32| match &places {
        None => Some((cell, gene)),
        Some(places) => places.get(gene as usize).copied().flatten().map(|column| (cell, column)),
    };
    check_entries(&matrix_path, pick, head.columns, head.entries)?;
    let entries = read_entries(&matrix_path, &mut lines, &head, place)?;
    let csr = entries.into_csr(&matrix_path, [cells, columns.len()])?;
    notes.insert(0, format!("the matrix of {genes} genes x {cells} cells was transposed: cells are the rows"));
    Ok(Table { values: Values::Csr(csr), columns, ids, notes, ..Table::default() })
}

/// Opens a file, and decompresses it if it begins with gzip's magic bytes.
fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).map_err(|error| unreadable(path, "cannot be opened", &error))?;
    let mut bytes = BufReader::with_capacity(1 << 16, file);
    let start = bytes.fill_buf().map_err(|error| unreadable(path, "cannot be read", &error))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(bytes))));
    }
    Ok(Box::new(bytes))
}

/// The first of `names` that is a file in the folder.
fn present(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// The first of `names` that is in the folder, or an error that names them.
fn member(folder: &Path, names: &[&str]) -> Result<PathBuf> {
    present(folder, names).ok_or_else(|| {
        let problem = format!("the folder has no {}; put that file beside the matrix", names.join(" or "));
        Error::data(folder, problem)
    })
}

/// What the banner and the line of sizes say.
struct Head {
    dense: bool,
    /// Whether entries have no values and count as 1.
    pattern: bool,
    rows: u64,
    columns: u64,
    entries: u64,
}

/// Reads the banner, the comments and the line of sizes.
fn read_head(path: &Path, lines: &mut Lines) -> Result<Head> {
    let (dense, pattern) = match lines.advance()? {
        Some((_, line)) => read_banner(line).map_err(|problem| at_line(path, 1, problem))?,
        None => {
            return Err(Error::data(
                path,
                "is empty; a Matrix Market file begins with %%MatrixMarket, so check the file",
            ))
        }
    };
    while let Some((number, line)) = lines.advance()? {
        if line.starts_with('%') || line.trim().is_empty() {
            continue;
        }
        let sizes: Vec<u64> = line
            .split_ascii_whitespace()
            .map(|token| token.parse::<u64>())
            .collect::<std::result::Result<_, _>>()
            .unwrap_or_default();
        return match (dense, sizes.as_slice()) {
            (false, &[rows, columns, entries]) => Ok(Head { dense, pattern, rows, columns, entries }),
            (true, &[rows, columns]) => {
                Ok(Head { dense, pattern, rows, columns, entries: rows.saturating_mul(columns) })
            }
            _ => {
                let expected = if dense { "\"rows columns\"" } else { "\"rows columns entries\"" };
                Err(at_line(path, number, format!("{} where {expected} is expected; correct it", quoted(line))))
            }
        };
    }
    Err(Error::data(path, "ends before the line of sizes; the file was cut short, so fetch or write it again"))
}

/// Reads the banner: whether the matrix is dense, and whether its entries have no values. The error says what is wrong.
fn read_banner(line: &str) -> std::result::Result<(bool, bool), String> {
    let lower = line.to_ascii_lowercase();
    let words: Vec<&str> = lower.split_ascii_whitespace().collect();
    let &["%%matrixmarket", "matrix", layout, field, symmetry] = words.as_slice() else {
        return Err(format!(
            "{} is not like \"%%MatrixMarket matrix coordinate real general\"; check that this is the right file",
            quoted(line)
        ));
    };
    let dense = match layout {
        "coordinate" => false,
        "array" => true,
        _ => return Err(format!("the layout {} is not known; write coordinate or array", quoted(layout))),
    };
    let pattern = match field {
        "real" | "double" | "integer" | "unsigned-integer" => false,
        "pattern" if !dense => true,
        _ => return Err(format!("{} values are not read; write real, integer or pattern", quoted(field))),
    };
    if symmetry != "general" {
        return Err(format!(
            "the file holds one half of a {} matrix; write all of it, with scipy.io.mmwrite(…, symmetry=\"general\")",
            quoted(symmetry)
        ));
    }
    Ok((dense, pattern))
}

/// Reads the coordinate entries. `place` gives where in the result an entry goes, or `None` to leave it out.
fn read_entries(
    path: &Path,
    lines: &mut Lines,
    head: &Head,
    place: impl Fn(u32, u32) -> Option<(u32, u32)>,
) -> Result<Entries> {
    let mut entries = Entries::default();
    let mut count = 0;
    while let Some((number, line)) = lines.advance()? {
        if line.starts_with('%') || line.trim().is_empty() {
            continue;
        }
        count += 1;
        if count > head.entries {
            return Err(at_line(
                path,
                number,
                format!("entry {count}, but the file promises {}; correct its line of sizes", head.entries),
            ));
        }
        let (row, column, value) = read_entry(line, head).map_err(|problem| at_line(path, number, problem))?;
        if let Some((row, column)) = place(row, column) {
            entries.push(row, column, value);
        }
    }
    if count < head.entries {
        return Err(cut_short(path, lines.number(), count, head.entries));
    }
    Ok(entries)
}

/// The error of a file that has fewer entries than it promises.
fn cut_short(path: &Path, number: u64, count: u64, promised: u64) -> Error {
    let problem =
        format!("the file ends after {count} of {promised} entries; it was cut short, so fetch or write it again");
    at_line(path, number, problem)
}

/// Reads "row column value" (a pattern: "row column"), counted from 0 in the result. The error says what is wrong.
fn read_entry(line: &str, head: &Head) -> std::result::Result<(u32, u32, f32), String> {
    let mut tokens = line.split_ascii_whitespace();
    let mut next =
        |what: &str| tokens.next().ok_or_else(|| format!("{} has no {what}; correct or delete it", quoted(line)));
    let row = coordinate(next("row")?, "row", head.rows)?;
    let column = coordinate(next("column")?, "column", head.columns)?;
    let value = if head.pattern { 1.0 } else { finite(next("value")?)? };
    match tokens.next() {
        None => Ok((row, column, value)),
        Some(more) => Err(format!("{} is one token too many; correct or delete the line", quoted(more))),
    }
}

/// Reads a row or column from 1 to `most`; gives it from 0.
fn coordinate(token: &str, what: &str, most: u64) -> std::result::Result<u32, String> {
    match token.parse::<u32>() {
        Ok(number @ 1..) if u64::from(number) <= most => Ok(number - 1),
        _ => Err(format!("the {what} {} is not a number from 1 to {most}; correct it", quoted(token))),
    }
}

/// Reads a value that is finite in float32.
fn finite(token: &str) -> std::result::Result<f32, String> {
    match token.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(format!(
            "the value {} is not finite in float32, and a sparse matrix has no missing values; replace or delete it",
            quoted(token)
        )),
        Err(_) => Err(format!("the value {} is not a number; correct it", quoted(token))),
    }
}

/// Reads the values of a dense array: they come column by column.
fn read_dense(path: &Path, lines: &mut Lines, head: &Head, pick: &Pick) -> Result<Array2<f64>> {
    pick.check_bytes(path, "the values", head.entries.saturating_mul(8))?;
    let too_large = || Error::data(path, "the array's sides are too large for this machine; split the file");
    let rows = usize::try_from(head.rows).map_err(|_| too_large())?;
    let columns = usize::try_from(head.columns).map_err(|_| too_large())?;
    let zeros = vec![0.0; usize::try_from(head.entries).map_err(|_| too_large())?];
    let mut values = Array2::from_shape_vec((rows, columns), zeros).map_err(|_| too_large())?;
    let (mut row, mut column) = (0, 0);
    while let Some((number, line)) = lines.advance()? {
        if line.starts_with('%') {
            continue;
        }
        for token in line.split_ascii_whitespace() {
            let value = token.parse::<f64>().map_err(|_| {
                at_line(path, number, format!("the value {} is not a number; correct it", quoted(token)))
            })?;
            let Some(slot) = values.get_mut((row, column)) else {
                let problem =
                    format!("more than the {} values that the file promises; correct its line of sizes", head.entries);
                return Err(at_line(path, number, problem));
            };
            *slot = value;
            row += 1;
            if row == rows {
                (row, column) = (0, column + 1);
            }
        }
    }
    let count = column as u64 * head.rows + row as u64;
    if count < head.entries {
        return Err(cut_short(path, lines.number(), count, head.entries));
    }
    Ok(values)
}

/// A line's text before the first tab.
fn first_field(line: &str) -> &str {
    line.split('\t').next().unwrap_or_default()
}

/// Reads one item a line, and checks their number against a side of the matrix.
fn read_names<T>(path: &Path, pick: &Pick, expected: usize, side: &str, item: impl Fn(&str) -> T) -> Result<Vec<T>> {
    let mut bytes = open(path)?;
    let mut lines = Lines::new(path, &mut *bytes, pick);
    let mut items = Vec::new();
    let mut taken = 0;
    while let Some((number, line)) = lines.advance()? {
        if line.is_empty() {
            continue;
        }
        if items.len() == expected {
            let problem = format!(
                "is one more than the {expected} {side} of the matrix; take all files from one run of Cell Ranger"
            );
            return Err(at_line(path, number, problem));
        }
        taken += line.len() as u64 + size_of::<T>() as u64;
        pick.check_bytes(path, "the names", taken)?;
        items.push(item(line));
    }
    if items.len() < expected {
        let problem = format!(
            "has {} names, but the matrix has {expected} {side}; take all files from one run of Cell Ranger",
            items.len()
        );
        return Err(Error::data(path, problem));
    }
    Ok(items)
}

/// Reads the genes' names, made unique, and what to note about them.
fn read_genes(path: &Path, pick: &Pick, genes: usize) -> Result<(Vec<String>, Vec<String>)> {
    let fields = read_names(path, pick, genes, "rows", |line| {
        let mut fields = line.split('\t');
        let id = fields.next().unwrap_or_default();
        (fields.next().unwrap_or(id).to_owned(), fields.next().map(str::to_owned))
    })?;
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut names = Vec::with_capacity(fields.len());
    for (name, kind) in fields {
        names.push(name);
        if let Some(kind) = kind {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let mut notes = Vec::new();
    let changed = make_unique(&mut names);
    if changed > 0 {
        notes.push(format!("genes whose name came before and got -1, -2, … at its end: {changed}"));
    }
    if kinds.len() > 1 {
        let list: Vec<_> =
            kinds.iter().take(8).map(|(kind, count)| format!("{count} of type {}", quoted(kind))).collect();
        notes.push(format!("features of several types are all kept: {}", list.join(", ")));
    }
    Ok((names, notes))
}

/// Adds -1, -2, … to names that were there before, as scanpy's `var_names_make_unique` does. Gives how many.
fn make_unique(names: &mut [String]) -> usize {
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    if taken.len() == names.len() {
        return 0;
    }
    let mut met: HashSet<String> = HashSet::with_capacity(taken.len());
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut changed = 0;
    for name in names.iter_mut() {
        if met.insert(name.clone()) {
            continue;
        }
        let number = last.entry(name.clone()).or_default();
        loop {
            *number += 1;
            let tried = format!("{name}-{number}");
            if taken.insert(tried.clone()) {
                *name = tried;
                break;
            }
        }
        changed += 1;
    }
    changed
}

/// The column that each gene goes to, or `None` where it is left out.
type Places = Vec<Option<u32>>;

/// Applies [`Pick::columns`]: the names that are kept, and where each gene goes (`None`: all stay where they are).
fn choose(path: &Path, pick: &Pick, names: Vec<String>) -> Result<(Vec<String>, Option<Places>)> {
    if pick.columns.is_empty() {
        return Ok((names, None));
    }
    let genes: HashMap<&str, usize> = names.iter().enumerate().map(|(gene, name)| (name.as_str(), gene)).collect();
    let mut places = vec![None; names.len()];
    for (column, name) in (0..).zip(pick.columns) {
        let Some(&gene) = genes.get(name.as_str()) else {
            return Err(Error::data(
                path,
                format!("has no gene {}; check the columns that are asked for", quoted(name)),
            ));
        };
        if places[gene].replace(column).is_some() {
            return Err(Error::data(path, format!("the gene {} is asked for twice; name it once", quoted(name))));
        }
    }
    Ok((pick.columns.to_vec(), Some(places)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::io::Write;

    use super::*;
    use crate::data::format::testing::ROOMY;
    use crate::data::format::Csr;

    fn parse(text: &[u8]) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.mtx");
        std::fs::write(&path, text).unwrap();
        read_file(&path, &ROOMY)
    }

    fn csr(table: &Table) -> &Csr {
        let Values::Csr(csr) = &table.values else { panic!("not sparse") };
        csr
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// A 10x folder of two cells and three genes, two of one name.
    fn ten_x(matrix: &str, barcodes: &str, genes: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("matrix.mtx.gz"), gzip(matrix)).unwrap();
        std::fs::write(folder.path().join("barcodes.tsv.gz"), gzip(barcodes)).unwrap();
        std::fs::write(folder.path().join("features.tsv"), genes).unwrap();
        folder
    }

    const MATRIX_TEXT: &str = "%%MatrixMarket matrix coordinate integer general\n%meta\n3 2 3\n1 1 5\n3 2 6\n2 1 7\n";
    const GENES_TEXT: &str = "E1\tA\tGene Expression\nE2\tA\tGene Expression\nE3\tB\tAntibody Capture\n";

    #[test]
    fn reads_coordinates_in_any_order_and_adds_up_duplicates() {
        let text =
            "%%MatrixMarket matrix coordinate real general\n% c\n\n3 4 4\n3 1 1.5\n1 4 -2\n% c\n1 2 3e0\n3 1 1\n";
        for bytes in [text.as_bytes().to_vec(), gzip(text)] {
            let table = parse(&bytes).unwrap();
            assert_eq!(csr(&table).shape, [3, 4]);
            assert_eq!(csr(&table).starts, [0, 2, 2, 3]);
            assert_eq!(csr(&table).columns, [1, 3, 0]);
            assert_eq!(csr(&table).values, [3.0, -2.0, 2.5]);
        }
    }

    #[test]
    fn reads_patterns_and_arrays() {
        let table = parse(b"%%MatrixMarket matrix coordinate pattern general\n2 2 2\n2 1\n1 2\n").unwrap();
        assert_eq!(csr(&table).values, [1.0, 1.0]);
        let table = parse(b"%%MatrixMarket matrix array real general\n2 3\n1\n2\n3\n4\nnan\n6\n").unwrap();
        let Values::F64(values) = table.values else { panic!("not dense") };
        assert_eq!(values.dim(), (2, 3));
        assert_eq!(values.row(0).to_vec()[..2], [1.0, 3.0]);
        assert_eq!(values.row(1).to_vec(), [2.0, 4.0, 6.0]);
        assert!(values[(0, 2)].is_nan());
    }

    #[test]
    fn hostile_files_are_refused_with_their_line() {
        const HEAD: &str = "%%MatrixMarket matrix coordinate real general\n";
        for (text, part) in [
            (String::new(), "is empty"),
            ("1 2 3\n".into(), "line 1"),
            (HEAD.into(), "line of sizes"),
            ("%%MatrixMarket matrix coordinate real symmetric\n1 1 1\n1 1 1\n".into(), "symmetric"),
            ("%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 0\n".into(), "complex"),
            ("%%MatrixMarket matrix array pattern general\n1 1\n1\n".into(), "pattern"),
            ("%%MatrixMarket matrix array real general\n2 1\n1\n".into(), "after 1 of 2"),
            ("%%MatrixMarket matrix array real general\n1 1\n1 2\n".into(), "more than the 1 values"),
            ("%%MatrixMarket matrix array real general\n0 5\n1 2\n".into(), "more than the 0 values"),
            ("%%MatrixMarket matrix array real general\n1 1\nx\n".into(), "\"x\""),
            (format!("{HEAD}2 2\n"), "line 2"),
            (format!("{HEAD}2 2 -1\n"), "line 2"),
            (format!("{HEAD}2 2 2\n1 1 1\n"), "after 1 of 2"),
            (format!("{HEAD}2 2 1\n1 1 1\n1 2 1\n"), "line 4: entry 2"),
            (format!("{HEAD}2 2 1\n0 1 1\n"), "line 3: the row \"0\""),
            (format!("{HEAD}2 2 1\n1 3 1\n"), "the column \"3\""),
            (format!("{HEAD}2 2 1\n-1 1 1\n"), "the row \"-1\""),
            (format!("{HEAD}2 2 1\n1 1\n"), "no value"),
            (format!("{HEAD}2 2 1\n1 1 1 1\n"), "too many"),
            (format!("{HEAD}2 2 1\n1 1 nan\n"), "\"nan\""),
            (format!("{HEAD}2 2 1\n1 1 1e40\n"), "\"1e40\""),
            (format!("{HEAD}99999999999 2 1\n1 1 1\n"), "on a side"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        for sizes in ["2 2 18446744073709551615", "4294967295 2 1"] {
            assert!(matches!(parse(format!("{HEAD}{sizes}\n1 1 1\n").as_bytes()), Err(Error::Memory(_))), "{sizes}");
        }
        let dense = "%%MatrixMarket matrix array real general\n4294967296 4294967296\n";
        assert!(matches!(parse(dense.as_bytes()), Err(Error::Memory(_))));
    }

    #[test]
    fn a_cut_gzip_is_refused() {
        let bytes = gzip(MATRIX_TEXT);
        for cut in [0, 2, 10, bytes.len() / 2, bytes.len() - 1] {
            assert!(parse(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_10x_folder_is_transposed_and_named() {
        let folder = ten_x(MATRIX_TEXT, "AA-1\nCC-1\n", GENES_TEXT);
        assert!(is_10x_folder(folder.path()));
        assert!(!is_10x_folder(&folder.path().join("features.tsv")));
        let table = read_folder(folder.path(), &ROOMY).unwrap();
        assert_eq!(table.ids, ["AA-1", "CC-1"]);
        assert_eq!(table.columns, ["A", "A-1", "B"]);
        assert_eq!(csr(&table).shape, [2, 3]);
        assert_eq!(csr(&table).starts, [0, 2, 3]);
        assert_eq!(csr(&table).columns, [0, 1, 2]);
        assert_eq!(csr(&table).values, [5.0, 7.0, 6.0]);
        assert_eq!(table.notes.len(), 3);
    }

    #[test]
    fn columns_of_a_10x_folder_are_picked_in_order() {
        let folder = ten_x(MATRIX_TEXT, "AA-1\nCC-1\n", GENES_TEXT);
        let wanted = ["B".to_owned(), "A".to_owned()];
        let table = read_folder(folder.path(), &Pick { columns: &wanted, ..ROOMY }).unwrap();
        assert_eq!(table.columns, wanted);
        assert_eq!(csr(&table).columns, [1, 0]);
        assert_eq!(csr(&table).values, [5.0, 6.0]);
        for wrong in [["C".to_owned()].as_slice(), &["A".to_owned(), "A".to_owned()]] {
            assert!(read_folder(folder.path(), &Pick { columns: wrong, ..ROOMY }).is_err());
        }
    }

    #[test]
    fn counts_that_do_not_match_the_matrix_are_refused() {
        for (barcodes, genes, part) in [
            ("AA-1\n", GENES_TEXT, "has 1 names, but the matrix has 2 columns"),
            ("AA-1\nCC-1\nGG-1\n", GENES_TEXT, "line 3: is one more than the 2 columns"),
            ("AA-1\nCC-1\n", "E1\tA\n", "has 1 names, but the matrix has 3 rows"),
        ] {
            let folder = ten_x(MATRIX_TEXT, barcodes, genes);
            let error = read_folder(folder.path(), &ROOMY).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let folder = ten_x(MATRIX_TEXT, "AA-1\nCC-1\n", GENES_TEXT);
        std::fs::remove_file(folder.path().join("features.tsv")).unwrap();
        assert!(read_folder(folder.path(), &ROOMY).unwrap_err().to_string().contains("genes.tsv"));
    }

    #[test]
    fn names_are_made_unique_as_scanpy_does() {
        let mut names = ["a", "a", "a-1", "b", "a", "a-1"].map(str::to_owned);
        assert_eq!(make_unique(&mut names), 3);
        assert_eq!(names, ["a", "a-2", "a-1", "b", "a-3", "a-1-1"]);
    }
}
