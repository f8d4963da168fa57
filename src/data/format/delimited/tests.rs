//! Each rule of the reader, and hostile files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::path::Path;

use ndarray::array;

use super::*;
use crate::data::format::testing::ROOMY;
use crate::data::format::Values;

const ALL: Pick<'static> = Pick { most_bytes: 1 << 30, ..ROOMY };

fn take(text: impl AsRef<[u8]>, pick: &Pick) -> Result<Table> {
    read(Path::new("x.csv"), &mut text.as_ref(), pick)
}

fn table(text: impl AsRef<[u8]>) -> Table {
    take(text, &ALL).unwrap()
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    take(text, &ALL).unwrap_err().to_string()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// The values as numbers, whatever their type.
fn numbers(table: &Table) -> Vec<Vec<f64>> {
    let rows = |x: ndarray::Array2<f64>| x.outer_iter().map(|row| row.to_vec()).collect();
    match &table.values {
        Values::U8(x) => rows(x.mapv(f64::from)),
        Values::F32(x) => rows(x.mapv(f64::from)),
        Values::F64(x) => rows(x.clone()),
        Values::Csr(_) | Values::Rows(_) => unreachable!("text gives dense values"),
    }
}

/// Text with a column of numbers and one of these texts.
fn with_column(name: &str, texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = format!("x,{name}\n");
    for (row, cell) in texts.into_iter().enumerate() {
        writeln!(text, "{row}.5,{}", cell.as_ref()).unwrap();
    }
    text
}

#[test]
fn separators_are_found() {
    for text in ["a,b\n1,2\n3,4\n", "a;b\n1;2\n3;4\n", "a\tb\n1\t2\n3\t4\n", "a|b\n1|2\n3|4\n", "a  b\n 1 2 \n3    4"] {
        let table = table(text);
        assert_eq!(table.columns, ["a", "b"], "{text:?}");
        assert_eq!(table.values, Values::U8(array![[1, 2], [3, 4]]), "{text:?}");
    }
}

#[test]
fn numbers_split_by_spaces_need_no_header() {
    let table = table("# x y\n1.5 2.5\n  3.5   4.5\n");
    assert_eq!(table.columns, names(&[]));
    assert_eq!(table.values, Values::F32(array![[1.5, 2.5], [3.5, 4.5]]));
}

#[test]
fn long_files_split_by_spaces() {
    let found = table("  -1.5  2.25 \n".repeat(70_000));
    assert_eq!(numbers(&found), vec![vec![-1.5, 2.25]; 70_000]);
}

#[test]
fn quoted_cells_may_hold_spaces_and_separators() {
    let one = table("x name y\n1 \"a  b\" 2\n3 \"c d\" 4\n");
    assert_eq!(one.ids, ["a  b", "c d"]);
    let two = table("x,name\n1,\"a, \"\"b\"\"\"\n2,\"line\r\nbreak\"\n");
    assert_eq!(two.ids, ["a, \"b\"", "line\nbreak"]);
}

#[test]
fn text_with_other_separators_does_not_mislead() {
    let table = table("id\tx\na,b,c\t1\nd\t2\ne,f\t3\n");
    assert_eq!(table.ids, ["a,b,c", "d", "e,f"]);
}

#[test]
fn decimal_commas() {
    let found = table("a;b\n1,5;2\n2,5;3\n");
    assert_eq!(numbers(&found), [[1.5, 2.0], [2.5, 3.0]]);
    assert!(found.notes.iter().any(|note| note.contains("decimal comma")));
    assert_eq!(numbers(&table("1,5;2,5;1\n3,5;4,5;2\n")), [[1.5, 2.5, 1.0], [3.5, 4.5, 2.0]]);
    assert_eq!(numbers(&table("a;b\n1.5;2\n2.5;3\n")), [[1.5, 2.0], [2.5, 3.0]]);
    // Whole numbers first, and more of them than lines are tried.
    let late = format!("a;b\n{}1,5;2\n", "1;2\n".repeat(300));
    assert_eq!(numbers(&table(late))[300], [1.5, 2.0]);
}

#[test]
fn thousands_points_are_not_taken_for_decimals() {
    let text = format!("a;b\n{}1.234;2\n", "1,5;2\n".repeat(30));
    let error = refusal(text);
    assert!(error.contains("line 32, column a has the text '1.234' among numbers"), "{error}");
}

#[test]
fn line_breaks_blank_lines_and_comments() {
    for text in [
        "\n\n# made by x\n  \na,b\r\n1,2\r\n\r\n3,4\r\n",
        "# c\ra,b\r1,2\r3,4",
        "\u{feff}# c\na,b\n1,2\n   \n3,4\n\n\n",
        "\u{feff}a,b\n1,2\n3,4",
    ] {
        let table = table(text);
        assert_eq!(table.columns, ["a", "b"], "{text:?}");
        assert_eq!(numbers(&table), [[1.0, 2.0], [3.0, 4.0]], "{text:?}");
    }
}

#[test]
fn lines_are_counted_from_the_first_of_the_file() {
    for line_break in ["\n", "\r\n", "\r"] {
        let text = ["# c", "", "a,b", "1,2", "", "", "3,\"4\"", "5"].join(line_break);
        let error = refusal(text);
        assert!(error.contains("line 8 has 1 cells but the header has 2"), "{error}");
    }
    let error = refusal("a,b\n1,\"x\ny\nz\"\n1,2,3\n");
    assert!(error.contains("line 5 has 3 cells"), "{error}");
}

#[test]
fn encodings_other_than_utf8_are_refused() {
    for text in [&b"\xff\xfea\0,\0"[..], b"\xfe\xff\0a", b"a,b\n1,2\n\xe9,3\n"] {
        let error = refusal(text);
        assert!(error.contains("save it as UTF-8") && error.contains("line "), "{error}");
    }
    assert!(refusal(b"a,b\n\n1,2\n\xe9,3\n").contains("line 4 "));
    assert!(refusal("a,b\n1,2\n3\0,4\n").contains("line 3 has a NUL byte"));
}

#[test]
fn header_over_numbers() {
    assert_eq!(table("a,b\n1,x\n2,x\n3,y\n").columns, ["a", "b=x", "b=y"]);
    // Years name columns too.
    assert_eq!(table("x,1990,1991\n1,1,2\n3,3,4\n").columns, ["x", "1990", "1991"]);
    assert_eq!(table("x\n1\n2\n").columns, ["x"]);
}

#[test]
fn files_without_header() {
    let found = table("5.1,3.5,a\n4.9,3.0,a\n4.7,3.2,b\n");
    assert_eq!(found.columns, ["1", "2", "3=a", "3=b"]);
    assert_eq!(numbers(&found).len(), 3);
    assert_eq!(table("1,2\n3,4\n").columns, names(&[]));
    assert_eq!(table("NA,2\n3,4\n").columns, names(&[]));
    assert_eq!(numbers(&table("7\n")), [[7.0]]);
}

#[test]
fn header_over_text_alone() {
    let text = "color,shape\nred,round\nred,square\nblue,round\nblue,square\n";
    assert_eq!(table(text).columns, ["color=blue", "color=red", "shape=round", "shape=square"]);
    let pick = Pick { categorical: &names(&["color"]), ..ALL };
    let text = "color,name\nred,a\nblue,b\n";
    assert_eq!(take(text, &pick).unwrap().columns, ["color=blue", "color=red"]);
}

#[test]
fn names_that_repeat_get_a_number() {
    let table = table("a,a,a_2,,a\n1,2,3,4,5\n");
    assert_eq!(table.columns, ["a", "a_3", "a_2", "column4", "a_4"]);
    assert!(table.notes[0].contains("more than once"), "{:?}", table.notes);
}

#[test]
fn pandas_index() {
    let counted = table(",a,b\n0,1,2\n1,3,4\n");
    assert_eq!((counted.columns.clone(), counted.ids.len()), (names(&["a", "b"]), 0));
    assert!(counted.notes[0].contains("counts the rows"));
    let named = table(",a,b\nr1,1,2\nr2,3,4\n");
    assert_eq!(named.ids, ["r1", "r2"]);
    assert_eq!(named.columns, ["a", "b"]);
    let with_id = take(",a,b\n5,1,r\n6,3,s\n", &Pick { id_column: Some("b"), ..ALL }).unwrap();
    assert_eq!((with_id.ids, with_id.columns), (names(&["r", "s"]), names(&["a"])));
    let repeated = table(",a\n5,1\n5,3\n");
    assert_eq!(repeated.columns, ["column1", "a"]);
}

#[test]
fn pandas_columns_without_names() {
    let table = table(",0,1\n0,0.5,2\n1,0.25,4\n");
    assert_eq!(table.columns, ["0", "1"]);
    assert_eq!(numbers(&table), [[0.5, 2.0], [0.25, 4.0]]);
    let table = super::tests::table("0,1,2\n0.5,2,3\n1,0.25,4\n");
    assert_eq!(table.columns, ["0", "1", "2"]);
    assert!(table.notes[0].contains("counts 0, 1, 2"));
}

#[test]
fn r_row_names() {
    let table = table("a b\nr1 1 2\nr2 3 4\n");
    assert_eq!((table.ids, table.columns), (names(&["r1", "r2"]), names(&["a", "b"])));
}

#[test]
fn cells_of_numbers() {
    let found = table("x\n1e5\n+3\n-.5\ninf\n-inf\n 7 \n");
    let inf = f64::INFINITY;
    assert_eq!(numbers(&found).concat(), [1e5, 3.0, -0.5, inf, -inf, 7.0]);
    let bools = table("x\ntrue\nFalse\nyes\nno\nTRUE\n");
    assert_eq!(bools.values, Values::U8(array![[1], [0], [1], [0], [1]]));
}

#[test]
fn missing_cells() {
    for missing in ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "-", " "] {
        let found = numbers(&table(format!("x,y\n1,2\n{missing},3\n")));
        assert!(found[1][0].is_nan(), "{missing:?}");
        assert_eq!(found[1][1], 3.0, "{missing:?}");
    }
}

#[test]
fn labels_and_ids_are_text_as_it_is() {
    let pick = Pick { label_column: Some("y"), id_column: Some("n"), ..ALL };
    let found = take("n,x,y\n007,1,01\n008,2,NA\nNA,3,1.0\n", &pick).unwrap();
    assert_eq!(found.ids, ["007", "008", "NA"]);
    assert_eq!(found.labels.unwrap(), [Some("01".to_owned()), None, Some("1.0".to_owned())]);
    assert_eq!(found.columns, ["x"]);
}

#[test]
fn late_labels_are_text_as_it_is() {
    let mut text = "x,y\n".to_owned();
    (0..10_000).for_each(|row| writeln!(text, "{row},0{}", row % 10).unwrap());
    let found = take(text, &Pick { label_column: Some("y"), ..ALL }).unwrap();
    assert_eq!(found.labels.unwrap()[9_999].as_deref(), Some("09"));
}

#[test]
fn categories() {
    let text = with_column("color", ["red", "blue", "red", "NA"]);
    let found = table(&text);
    assert_eq!(found.columns, ["x", "color=blue", "color=red"]);
    let values = numbers(&found);
    assert_eq!((&values[0][1..], &values[1][1..]), (&[0.0, 1.0][..], &[1.0, 0.0][..]));
    assert!(values[3][1].is_nan() && values[3][2].is_nan());
    assert!(found.notes.iter().any(|note| note.contains("column color is text and becomes 2 columns")));
    // Numbers on demand, sorted as numbers.
    let pick = Pick { categorical: &names(&["color"]), ..ALL };
    let found = take(with_column("color", ["10", "9", "10"]), &pick).unwrap();
    assert_eq!(found.columns, ["x", "color=9", "color=10"]);
}

#[test]
fn plainly_categorical_has_few_values() {
    let texts = |rows: usize, distinct: usize| (0..rows).map(move |row| format!("v{}", row % distinct));
    assert_eq!(table(with_column("c", texts(199, 20))).columns.len(), 21);
    assert_eq!(table(with_column("c", texts(199, 21))).columns.len(), 1);
    assert_eq!(table(with_column("c", texts(320, 32))).columns.len(), 33);
    assert_eq!(table(with_column("c", texts(319, 32))).columns.len(), 1);
    let many = table(with_column("c", texts(400, 33)));
    assert_eq!(many.columns, ["x"]);
    assert!(
        many.notes[0].contains("text is left out: c; ") && many.notes[0].contains("--categorical"),
        "{:?}",
        many.notes
    );
    let pick = Pick { categorical: &names(&["c"]), ..ALL };
    assert_eq!(take(with_column("c", texts(400, 33)), &pick).unwrap().columns.len(), 34);
}

#[test]
fn text_that_differs_names_the_rows() {
    let text = "x,gene,note\n1,a,p\n2,b,q\n3,c,r\n";
    let found = table(text);
    assert_eq!(found.ids, ["a", "b", "c"]);
    assert!(found.notes.iter().any(|note| note.contains("column gene has a different text")));
    assert!(found.notes.iter().any(|note| note.contains("left out: note")));
    let found = take(text, &Pick { id_column: Some("note"), ..ALL }).unwrap();
    assert_eq!(found.ids, ["p", "q", "r"]);
}

#[test]
fn class_columns_are_left_out() {
    let found = table(with_column("Species", ["a", "b", "a", "b"]));
    assert_eq!(found.columns, ["x"]);
    let note = "column Species looks like labels and is left out; score with --label-column Species";
    assert_eq!(found.notes, [note]);
    let found = table(with_column("class", ["1", "2", "1", "2"]));
    assert_eq!(found.columns, ["x", "class"]);
    assert!(found.notes[0].contains("--label-column"));
}

#[test]
fn text_among_numbers_is_a_mistake() {
    let mut rows: Vec<String> = (0..99).map(|row| row.to_string()).collect();
    rows[40] = format!("1.2\u{7}{}", "z".repeat(60));
    let error = refusal(with_column("w", &rows));
    assert!(error.starts_with("x.csv: line 42, column w has the text '1.2\\u{7}zzz"), "{error}");
    assert!(error.contains("…'") && !error.contains(&"z".repeat(40)), "{error}");
    // Named as categories, it is none.
    assert!(take(with_column("w", &rows), &Pick { categorical: &names(&["w"]), ..ALL }).is_ok());
    // Nor where it is left out.
    let found = take(with_column("w", &rows), &Pick { columns: &names(&["x"]), ..ALL }).unwrap();
    assert_eq!(found.columns, ["x"]);
}

#[test]
fn text_after_many_numbers_is_found() {
    let mut rows: Vec<String> = (0..20_000).map(|row| row.to_string()).collect();
    rows.push("oops".into());
    assert!(refusal(with_column("w", &rows)).contains("line 20002, column w has the text 'oops'"));
    // Few numbers that repeat, and as many texts: categories.
    let mixed = (0..20_000).map(|row| if row < 10_000 { "1" } else { "a" });
    assert_eq!(table(with_column("w", mixed)).columns, ["x", "w=1", "w=a"]);
    let mixed = (0..20_000).map(|row| if row < 10_000 { row.to_string() } else { "a".into() });
    assert_eq!(table(with_column("w", mixed)).columns, ["x"]);
}

#[test]
fn picked_columns() {
    let text = "a,b,c\n1,2,3\n4,5,6\n";
    let found = take(text, &Pick { columns: &names(&["c", "a"]), ..ALL }).unwrap();
    assert_eq!((found.columns.clone(), numbers(&found)), (names(&["c", "a"]), vec![vec![3.0, 1.0], vec![6.0, 4.0]]));
    let found = take("1,2,3\n4,5,6\n", &Pick { columns: &names(&["3", "1"]), ..ALL }).unwrap();
    assert_eq!(numbers(&found), [[3.0, 1.0], [6.0, 4.0]]);
    let fails = |pick: &Pick| take(text, pick).unwrap_err().to_string();
    let error = fails(&Pick { columns: &names(&["B"]), ..ALL });
    assert!(error.contains("has no column B; it has b, a, c"), "{error}");
    assert!(fails(&Pick { label_column: Some("z"), ..ALL }).contains("has no column z"));
    assert!(fails(&Pick { columns: &names(&["a", "a"]), ..ALL }).contains("asked for twice"));
    assert!(fails(&Pick { columns: &names(&["a"]), label_column: Some("a"), ..ALL }).contains("only one of"));
    assert!(fails(&Pick { columns: &names(&["a"]), categorical: &names(&["b"]), ..ALL }).contains("--columns"));
    let error = take("1,2\n3,4\n", &Pick { columns: &names(&["a"]), ..ALL }).unwrap_err().to_string();
    assert!(error.contains("by number, 1 to 2"), "{error}");
}

#[test]
fn picked_text_must_be_categories() {
    let pick = Pick { columns: &names(&["x", "species"]), ..ALL };
    let error = take(with_column("species", ["a", "b", "a"]), &pick).unwrap_err().to_string();
    assert!(error.contains("column species is text") && error.contains("--categorical"), "{error}");
    let both = Pick { categorical: &names(&["species"]), ..pick };
    assert_eq!(take(with_column("species", ["a", "b", "a"]), &both).unwrap().columns.len(), 3);
}

#[test]
fn unknown_names_list_the_nearest() {
    let header: Vec<String> = (0..50).map(|at| format!("gene{at}")).collect();
    let text = format!("{}\n{}\n", header.join(","), vec!["1"; 50].join(","));
    let error = take(text, &Pick { columns: &names(&["Gene7x"]), ..ALL }).unwrap_err().to_string();
    assert!(error.contains("the nearest are gene7,"), "{error}");
    assert_eq!(error.matches(", ").count(), 7, "{error}");
}

#[test]
fn no_column_of_numbers() {
    let error = refusal("name,species\na,s\nb,s\nc,t\nd,t\n");
    assert!(error.contains("no column of numbers"), "{error}");
    assert!(error.contains("name (the rows' names), species (text that looks like labels)"), "{error}");
}

#[test]
fn rows_that_differ_in_width() {
    let error = refusal("a,b\n1,2\n1,2,3\n");
    assert!(error.contains("line 3 has 3 cells but the header has 2"), "{error}");
    let error = refusal("1,2\n1,2\n1\n");
    assert!(error.contains("line 3 has 1 cells but the first line has 2"), "{error}");
}

#[test]
fn trailing_separators_make_no_column() {
    let found = table("a,b,\n1,2,\n3,4,\n");
    assert_eq!(found.columns, ["a", "b"]);
    assert!(found.notes[0].contains("no name and no values"));
    assert_eq!(numbers(&table("1,2,\n3,4,\n")), [[1.0, 2.0], [3.0, 4.0]]);
}

#[test]
fn empty_files() {
    assert!(refusal("").contains("is empty"));
    assert!(refusal("\n\n \r\n# x\n").contains("only blank lines"));
    for text in ["a,b\n", "a,b", "x\n", "\n\"a\",\"b\"\n\n\n"] {
        assert!(refusal(text).contains("has a header and no rows"), "{text:?}");
    }
}

#[test]
fn the_type_of_values() {
    assert!(matches!(table("a\n0\n255\n").values, Values::U8(_)));
    assert!(matches!(table("a\n0\n256\n").values, Values::F32(_)));
    assert!(matches!(table("a,b\n0,\n1,5\n").values, Values::F32(_)));
    assert!(matches!(table("a\n-1\n1\n").values, Values::F32(_)));
    assert!(matches!(table("a\n16777217\n16777218\n").values, Values::F64(_)));
    assert!(matches!(table("a\n16777217\n1\n").values, Values::F32(_)), "as far apart as these are, 1 is nothing");
    assert!(matches!(table("a\n1000000.1\n1000000.2\n").values, Values::F64(_)));
    assert!(matches!(table("a\n0.1\n0.1\n").values, Values::F32(_)));
    let exact = Pick { keeps_double: true, ..ALL };
    assert!(matches!(take("a\n0.1\n0.2\n", &exact).unwrap().values, Values::F64(_)));
}

#[test]
fn open_quotes_are_refused() {
    for (text, line) in [
        ("a,b\n1,2\n3,\"4\n5,6\n", 3),
        ("\"a,b\n1,2\n", 1),
        ("a,b\n1,\"2\"\n3,\"", 3),
        ("# c\na,b\n1,2\n3,\"4\"\"", 4),
        ("# c\n\n\"a", 3),
    ] {
        let error = refusal(text);
        assert!(error.contains(&format!("opens in line {line} is never closed")), "{text:?}: {error}");
    }
    // A closed quote with line breaks at the end is none.
    assert_eq!(table("x,a\n1,p\n2,\"q\n\n\"").ids, ["p", "q"]);
}

#[test]
fn memory_is_bounded() {
    let mut text = "x,y\n".to_owned();
    (0..50_000).for_each(|row| writeln!(text, "{row}.5,{row}").unwrap());
    let error = take(&text, &Pick { most_bytes: 500_000, ..ALL }).unwrap_err();
    assert!(matches!(error, Error::Memory(_)), "{error}");
    assert!(take(&text, &Pick { most_bytes: 3_000_000, ..ALL }).is_ok());
}

#[test]
fn endless_lines_are_refused() {
    let pick = Pick { most_bytes: 1 << 40, ..ALL };
    let fails = |bytes: &mut dyn Read, pick: &Pick| read(Path::new("x"), bytes, pick).unwrap_err();
    for start in ["", "a,b\n1,2\n1,2\n1,2\n3,\""] {
        let mut endless = start.as_bytes().chain(std::io::repeat(b'1'));
        let error = fails(&mut endless, &pick).to_string();
        assert!(error.contains("longer than 64 MiB"), "{error}");
    }
    // A billion columns.
    let error = fails(&mut std::io::repeat(b',').take(1 << 30), &pick).to_string();
    assert!(error.contains("line 1 is longer"), "{error}");
    let million = vec!["1"; 2_000_000].join(",");
    let error = fails(&mut million.as_bytes(), &Pick { most_bytes: 100_000_000, ..ALL });
    assert!(matches!(error, Error::Memory(_)), "{error}");
}

#[test]
fn lines_of_empty_cells_take_no_more_memory_than_is_allowed() {
    // A million cells, none of which has a letter: in the first lines, and behind them.
    let wide = ",".repeat(1 << 20) + "\n";
    let text = "a,b\n".to_owned() + &"1,2\n".repeat(100_000) + &wide;
    for text in ["a,b\n".to_owned() + &wide.repeat(50), text.clone()] {
        let error = take(&text, &Pick { most_bytes: 8 << 20, ..ALL }).unwrap_err();
        assert!(matches!(&error, Error::Memory(_)), "{error}");
    }
    assert!(take(&text, &ALL).unwrap_err().to_string().contains("has 1048577 cells"));
    let long_name = "n".repeat(100_000);
    let text = format!("{long_name},x\n") + &(0..100).map(|row| format!("t{row},{row}\n")).collect::<String>();
    let categorical = [long_name];
    let error = take(&text, &Pick { most_bytes: 4 << 20, categorical: &categorical, ..ALL }).unwrap_err();
    assert!(matches!(error, Error::Memory(_)), "{error}");
}

#[test]
fn failing_sources_are_reported() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    let mut early = Broken;
    let error = read(Path::new("x"), &mut early, &ALL).unwrap_err().to_string();
    assert!(error.contains("the disk is gone"), "{error}");
    let text = "1,2\n".repeat(200_000);
    let mut late = text.as_bytes().chain(Broken);
    let error = read(Path::new("x"), &mut late, &ALL).unwrap_err().to_string();
    assert!(error.contains("cannot be read after line ") && error.contains("the disk is gone"), "{error}");
}

#[test]
fn a_source_that_gives_one_byte_at_a_time() {
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }
    for text in ["a,é\r\n1,2\r\n3,4\r\n", "a   é\r\n 1   2 \r\n3 4\r\n"] {
        let found = read(Path::new("x"), &mut Slow(text.as_bytes()), &ALL).unwrap();
        assert_eq!(
            (found.columns.clone(), numbers(&found)),
            (names(&["a", "é"]), vec![vec![1.0, 2.0], vec![3.0, 4.0]])
        );
    }
}

/// Files of random pieces are read or refused, never worse, and rows and columns agree.
#[test]
fn random_files_do_no_harm() {
    let pieces = [
        "1", "2.5", ",", ",", ";", "\t", "|", " ", "\n", "\n", "\r", "\r\n", "\"", "\"\"", "a", "b", "NA", "yes", "#",
        "\0", "1,5", "é", "\u{4}", "\u{1f}", "\u{feff}", "inf", "class", "-", "0", "\n\u{4}",
    ];
    let mut state = 1_u64;
    for _ in 0..3_000 {
        let mut text = String::new();
        for _ in 0..30 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        let mut bytes = text.clone().into_bytes();
        if state.is_multiple_of(10) {
            bytes.insert(bytes.len() / 2, 0xff);
        }
        if let Ok(found) = take(&bytes, &ALL) {
            let values = numbers(&found);
            assert!(!values.is_empty(), "{text:?}");
            assert!(found.columns.is_empty() || found.columns.len() == values[0].len(), "{text:?}");
            assert!(found.ids.is_empty() || found.ids.len() == values.len(), "{text:?}");
        }
    }
}
