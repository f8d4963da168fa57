//! CSV, TSV and other text with a row in each line: separator, header and the columns' types are found.

mod columns;
mod dialect;

use std::io::Read;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder, Trim};

use super::{Pick, Table};
use crate::error::{Error, Result};
pub(super) use columns::is_missing;
use columns::Column;
use dialect::Dialect;

/// Bytes from which separator and header are found.
const HEAD: u64 = 1 << 18;
/// Rows between two looks at the memory.
const LOOK: usize = 4096;

/// Reads text with a row in each line.
///
/// # Errors
/// [`Error::Data`] with line and column, [`Error::Memory`] for more than [`Pick::most_bytes`].
pub fn read(path: &Path, bytes: &mut dyn Read, pick: &Pick) -> Result<Table> {
    let unreadable = |e: std::io::Error| Error::data(path, format!("cannot be read: {e}"));
    let mut head = Vec::new();
    bytes.take(HEAD).read_to_end(&mut head).map_err(unreadable)?;
    let start = dialect::skip_mark(path, &head)?;
    let head = head.split_off(start);
    if head.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::data(path, "is empty but for blank lines"));
    }
    let dialect = Dialect::of(&head);
    let text = dialect.reader(head.as_slice().chain(bytes));
    let mut reader = ReaderBuilder::new()
        .delimiter(dialect.separator)
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(Trim::All)
        .from_reader(text);
    let first = dialect.first_lines(&head);
    let mut rows = Rows { path, names: Vec::new(), columns: Vec::new(), n: 0 };
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|e| broken(path, &e))? {
        let line = record.position().map_or(0, csv::Position::line);
        if rows.columns.is_empty() {
            let has_header = dialect::has_header(&first, pick);
            rows.begin(&record, has_header, line)?;
            if has_header {
                continue;
            }
        }
        rows.add(&record, line, dialect.decimal_comma)?;
        if rows.n.is_multiple_of(LOOK) {
            let held = rows.columns.iter().map(Column::bytes).sum();
            pick.check_bytes(path, &format!("its first {} rows", rows.n), held)?;
        }
    }
    rows.into_table(pick)
}

fn broken(path: &Path, error: &csv::Error) -> Error {
    match error.kind() {
        csv::ErrorKind::Io(e) => Error::data(path, format!("cannot be read: {e}")),
        _ => Error::data(path, format!("is no table: {error}")),
    }
}

/// The rows read so far, column by column.
struct Rows<'a> {
    path: &'a Path,
    names: Vec<String>,
    columns: Vec<Column>,
    n: usize,
}

impl Rows<'_> {
    /// Takes the columns' names from the first record, or numbers them.
    fn begin(&mut self, record: &ByteRecord, has_header: bool, line: u64) -> Result<()> {
        self.columns = vec![Column::default(); record.len()];
        if !has_header {
            return Ok(()); // they stay without names
        }
        let mut names = Vec::with_capacity(record.len());
        for cell in record {
            let text = self.text(cell, line)?;
            let mut name = text.to_owned();
            let mut number = 1;
            while names.contains(&name) {
                number += 1;
                name = format!("{text}_{number}");
            }
            names.push(name);
        }
        self.names = names;
        Ok(())
    }

    fn text<'c>(&self, cell: &'c [u8], line: u64) -> Result<&'c str> {
        std::str::from_utf8(cell)
            .map_err(|_| Error::data(self.path, format!("line {line} is not UTF-8 text: save the file as UTF-8")))
    }

    fn add(&mut self, record: &ByteRecord, line: u64, decimal_comma: bool) -> Result<()> {
        if record.len() != self.columns.len() {
            return Err(Error::data(
                self.path,
                format!(
                    "line {line} has {} cells, and the first line has {}: a cell that holds the separator or a quote needs quotes \
                     around it",
                    record.len(),
                    self.columns.len()
                ),
            ));
        }
        for (place, cell) in record.iter().enumerate() {
            let text = self.text(cell, line)?;
            self.columns[place].push(text, line, decimal_comma);
        }
        self.n += 1;
        Ok(())
    }

    fn into_table(self, pick: &Pick) -> Result<Table> {
        if self.n == 0 {
            return Err(Error::data(self.path, "has a header and no rows"));
        }
        columns::table(self.path, self.names, self.columns, self.n, pick)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Values;
    use super::*;
    use ndarray::array;

    fn parse(text: &str, pick: Pick) -> Result<Table> {
        read(Path::new("t.csv"), &mut text.as_bytes(), &Pick { most_bytes: 1 << 30, ..pick })
    }

    fn table(text: &str) -> Table {
        parse(text, Pick::default()).unwrap()
    }

    fn problem(text: &str, pick: Pick) -> String {
        parse(text, pick).unwrap_err().to_string()
    }

    #[test]
    fn separators_headers_and_number_spellings_are_found() {
        let expected = Values::F32(array![[1.5, -2.0], [0.25, 1e3]]);
        for text in [
            "a,b\n1.5,-2\n0.25,1e3\n",
            "a;b\n1,5;-2\n0,25;1e3\n",
            "a\tb\r\n1.5\t-2\r\n0.25\t1e3",
            "a|b\n1.5|-2\n0.25|+1000\n",
            "a b\n1.5   -2\n 0.25 1e3\n",
            "\u{feff}# made by hand\n\n\"a\",\"b\"\n\"1.5\",\"-2\"\n0.25,1e3\n\n",
        ] {
            let found = table(text);
            assert_eq!(
                (found.values, found.columns),
                (expected.clone(), vec!["a".to_owned(), "b".to_owned()]),
                "{text:?}"
            );
        }
        let plain = table("1,2\n3,4\n");
        assert_eq!((plain.values, plain.columns), (Values::U8(array![[1, 2], [3, 4]]), Vec::<String>::new()));
        let wide = table("x\n1700000000.25\n1700000001.5\n");
        assert_eq!(wide.values, Values::F64(array![[1_700_000_000.25], [1_700_000_001.5]]));
        let flags = table("p,q\ntrue,yes\nFALSE,no\n");
        assert_eq!(flags.values, Values::U8(array![[1, 1], [0, 0]]));
    }

    #[test]
    fn what_is_missing_is_nan() {
        let Values::F32(rows) = table("a,b\n1,NA\n,2\nnull,?\n4,5\n").values else { panic!("not float32") };
        let holes: Vec<bool> = rows.iter().map(|value| value.is_nan()).collect();
        assert_eq!(holes, [false, true, true, false, true, true, false, false]);
    }

    #[test]
    fn text_becomes_ids_labels_or_columns_or_is_left_out_with_a_word() {
        let text = "name,size,colour,species,note\n\
                    a,1,red,x,lorem\nb,2,blue,x,ipsum\nc,3,red,y,ipsum\nd,4,red,y,dolor amet\n";
        let found = table(text);
        assert_eq!(found.columns, ["size", "colour=blue", "colour=red"]);
        assert_eq!(found.values, Values::U8(array![[1, 0, 1], [2, 1, 0], [3, 0, 1], [4, 0, 1]]));
        assert_eq!(found.ids, ["a", "b", "c", "d"]);
        assert!(found.notes.iter().any(|note| note.contains("species") && note.contains("--label-column species")));
        let columns = ["size".to_owned()];
        let pick =
            Pick { label_column: Some("species"), id_column: Some("note"), columns: &columns, ..Pick::default() };
        let found = parse(text, pick).unwrap();
        assert_eq!(found.values, Values::U8(array![[1], [2], [3], [4]]));
        assert_eq!(found.labels.unwrap()[3].as_deref(), Some("y"));
        assert_eq!(found.ids[3], "dolor amet");
        // What pandas writes for its index.
        let indexed = table(",v\n0,5\n1,6\n2,7\n");
        assert_eq!((indexed.columns.as_slice(), indexed.ids.len()), (&["v".to_owned()][..], 0));
    }

    proptest::proptest! {
        /// Whatever the text is, it is a table whose parts fit each other, or an error.
        #[test]
        fn any_text_is_a_table_or_an_error(text in "([-+0-9.eE,;\\t |\"'#a-c\u{e9}\r\n]|NA|true|\\n){0,120}") {
            if let Ok(table) = parse(&text, Pick::default()) {
                let [n, d] = table.values.shape();
                assert!(n > 0 && d > 0);
                assert!(table.columns.is_empty() || table.columns.len() == d);
                assert!(table.ids.is_empty() || table.ids.len() == n);
            }
        }

        /// Numbers come back as they were written, whatever separates them.
        #[test]
        fn numbers_come_back(
            rows in proptest::collection::vec(proptest::collection::vec(-1e6f32..1e6, 3), 1..20),
            separator in proptest::sample::select(vec![',', ';', '\t', '|', ' ']),
            header in proptest::bool::ANY,
        ) {
            let line = |row: &Vec<f32>| row.iter().map(f32::to_string).collect::<Vec<_>>().join(&separator.to_string());
            let names = if header { vec![["a", "b", "c"].join(&separator.to_string())] } else { Vec::new() };
            let text = names.into_iter().chain(rows.iter().map(line)).collect::<Vec<_>>().join("\n");
            let found = parse(&text, Pick::default()).unwrap();
            let expected: Vec<f32> = rows.concat();
            let values: Vec<f32> = match found.values {
                Values::F32(values) => values.iter().copied().collect(),
                Values::F64(values) => values.iter().map(|&value| value as f32).collect(),
                Values::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
                Values::Csr(_) => panic!("not sparse"),
            };
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn bad_tables_are_refused_with_line_and_column() {
        let none = Pick::default();
        assert!(problem("a,b\n1,2\n3\n", none).contains("line 3 has 1 cells, and the first line has 2"));
        let many: String = (0..40).map(|i| format!("{i},{i}\n")).collect();
        let text = format!("a,b\n{many}7,o\u{1b}ops\n");
        let said = problem(&text, none);
        assert!(said.contains("line 42") && said.contains("\"b\"") && said.contains("o\\u{1b}ops"), "{said}");
        assert!(problem("a,b\n", none).contains("no rows"));
        assert!(problem("\n \n", none).contains("blank"));
        assert!(problem("x,y\nfoo bar,lorem\nfoo baz,ipsum\n", none).contains("no column of numbers"));
        let wanted = ["z".to_owned()];
        assert!(problem("x,y\n1,2\n", Pick { columns: &wanted, ..none }).contains("no column \"z\""));
        assert!(problem("x,y\n1,2\n", Pick { label_column: Some("z"), ..none }).contains("no column \"z\""));
        let latin = read(Path::new("t"), &mut &b"a\n1\n\xe9\n"[..], &Pick { most_bytes: 1 << 30, ..none }).unwrap_err();
        assert!(latin.to_string().contains("line 3 is not UTF-8"));
        let wide = read(Path::new("t"), &mut &b"\xff\xfea\x00"[..], &Pick { most_bytes: 1 << 30, ..none }).unwrap_err();
        assert!(wide.to_string().contains("UTF-16"));
        let small = read(
            Path::new("t"),
            &mut "x,y\n".repeat(9000).replace('x', "1").replace('y', "2").as_bytes(),
            &Pick { most_bytes: 1000, ..none },
        );
        assert!(matches!(small, Err(Error::Memory(_))));
    }
}
