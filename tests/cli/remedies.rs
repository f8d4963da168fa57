//! What an error message tells to do is done as it says, and the input is then taken.
//!
//! The remedy is taken out of the message: a setting, an option with its value, a name out of a list, an expression of Python. So a
//! message that names another one, or one that does not help, fails a test. Expressions of Python need a Python with NumPy, SciPy and
//! AnnData, named by `DEC_PYTHON`; without it these tests say that they skip.

use std::fs;
use std::process::Command;

use crate::support::{blobs, idx, write_npy, Scratch};

/// What `dec inspect ARGS` is refused with, by the code for data.
fn refusal(scratch: &Scratch, args: &[&str]) -> String {
    let ran = scratch.dec(["inspect"].iter().chain(args));
    ran.failed(3, &[]);
    ran.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect::<Vec<_>>().join("\n")
}

fn taken(scratch: &Scratch, args: &[&str]) {
    let page = scratch.dec(["inspect"].iter().chain(args)).ok().stdout;
    assert!(page.contains("\ntaken for "), "{args:?}: {page}");
}

/// What stands in `message` from `start` on, up to the end of the word: no sign that ends a sentence belongs to it.
#[track_caller]
fn word<'a>(message: &'a str, start: &str) -> &'a str {
    let at = message.find(start).unwrap_or_else(|| panic!("no {start:?} in {message}"));
    let word = message[at..].split([' ', '\n', ';', ',', '`']).next().unwrap_or_default();
    word.trim_end_matches(['.', ':'])
}

/// The option `name` of `message` and the word behind it, which is its value.
#[track_caller]
fn option<'a>(message: &'a str, name: &str) -> [&'a str; 2] {
    let at = message.find(name).unwrap_or_else(|| panic!("no {name:?} in {message}"));
    let mut words = message[at..].split_whitespace();
    [(); 2].map(|()| words.next().unwrap_or_default())
}

/// The first name of a list that follows `start`, without quotes.
#[track_caller]
fn first_of<'a>(message: &'a str, start: &str) -> &'a str {
    let at = message.find(start).unwrap_or_else(|| panic!("no {start:?} in {message}")) + start.len();
    word(message[at..].trim_start(), "").trim_matches(['"', '\''])
}

/// The settings named `key` that a message has, each as a `--set` would have it.
fn settings(message: &str, key: &str) -> Vec<String> {
    let found = message.match_indices(key).map(|(at, _)| word(&message[at..], key).to_owned());
    found.filter(|setting| setting.len() > key.len()).collect()
}

/// Rows of three columns of numbers, the first two of which `cell` may change.
fn csv(header: &str, cell: impl Fn(usize, usize) -> String) -> String {
    let rows = (0..60).map(|i| format!("{},{},{}.5\n", cell(i, 0), cell(i, 1), i * 7 % 11));
    std::iter::once(format!("{header}\n")).chain(rows).collect()
}

fn number(i: usize, j: usize) -> String {
    format!("{}.25", (i * 13 + j * 5) % 17)
}

/// One of 25 words: too many to become columns unasked.
fn text(i: usize) -> String {
    format!("w{}", i % 25)
}

#[test]
fn missing_values_are_filled_or_left_out_as_the_message_says() {
    let scratch = Scratch::new();
    let holes = |i, j| if i == 7 && j == 1 { String::new() } else { number(i, j) };
    fs::write(scratch.path("holes.csv"), csv("a,b,c", holes)).unwrap();
    let mut rows = blobs().0;
    rows[100] = f32::NAN;
    write_npy(&scratch.path("nan.npy"), &[180, 8], &rows);
    for file in ["holes.csv", "nan.npy"] {
        let found = settings(&refusal(&scratch, &[file]), "data.missing=");
        assert_eq!(found.len(), 2, "{found:?}");
        found.iter().for_each(|setting| taken(&scratch, &[file, "--set", setting]));
    }
    // A cell with text where numbers belong may be left empty, and is missing then.
    let slip = |empty: bool| move |i, j| if i == 7 && j == 1 && !empty { "oops".to_owned() } else { holes(i, j) };
    fs::write(scratch.path("slip.csv"), csv("a,b,c", slip(false))).unwrap();
    let message = refusal(&scratch, &["slip.csv"]);
    assert!(message.contains("write a number there, leave the cell empty, or choose other columns with --columns"));
    taken(&scratch, &["slip.csv", "--columns=a,c"]);
    fs::write(scratch.path("slip.csv"), csv("a,b,c", slip(true))).unwrap();
    let again = settings(&refusal(&scratch, &["slip.csv"]), "data.missing=");
    taken(&scratch, &["slip.csv", "--set", &again[0]]);
    fs::write(scratch.path("slip.csv"), csv("a,b,c", number)).unwrap();
    taken(&scratch, &["slip.csv"]);
}

#[test]
fn settings_that_a_message_names_help() {
    let scratch = Scratch::blobs();
    let scaled = ["rows.npy", "--set=data.scale=counts"];
    let found = settings(&refusal(&scratch, &scaled), "data.scale=");
    let last = found.last().unwrap(); // behind the one that was asked for
    let ran = scratch.dec(["inspect", "rows.npy", "--set", last]).ok();
    assert!(ran.stdout.contains("centred"), "{ran:#?}");

    // Text cannot be read a batch at a time.
    let line = format!("{}\n", ["0.5"; 100].join(","));
    let large: String = (0..3_000).map(|i| line.replacen("0.5", &format!("{i}.5"), 1)).collect();
    fs::write(scratch.path("large.csv"), large).unwrap();
    let ran = scratch.dec(["inspect", "large.csv", "--set=data.max_memory=1"]);
    ran.failed(6, &["large.csv", "1 MB may be used"]);
    let key = word(&ran.stderr, "data.max_memory").trim_end_matches(')');
    taken(&scratch, &["large.csv", "--set", &format!("{key}=100")]);
}

#[test]
fn options_for_columns_that_a_message_names_help() {
    let scratch = Scratch::new();
    let words = |i, j| if j == 0 { text(i) } else { number(i, j) };
    fs::write(scratch.path("words.csv"), csv("colour,b,c", words)).unwrap();
    let only_words: String = (0..60).map(|i| format!("{},{}\n", text(i), text(i * 3))).collect();
    fs::write(scratch.path("only.csv"), format!("colour,shade\n{only_words}")).unwrap();

    let message = refusal(&scratch, &["only.csv"]);
    assert!(message.contains("name text columns to use in --categorical"), "{message}");
    taken(&scratch, &["only.csv", "--categorical", first_of(&message, "found ")]);

    let asked = ["words.csv", "--columns=colour,b"];
    let message = refusal(&scratch, &asked);
    let column = first_of(&message, "words.csv: column ");
    assert!(message.contains("name it in --categorical to make it 0/1 columns, or leave it out of --columns"));
    taken(&scratch, &["words.csv", "--columns=colour,b", "--categorical", column]);
    taken(&scratch, &["words.csv", "--columns=b"]);

    assert!(refusal(&scratch, &["words.csv", "--columns=b,b"]).contains("name it once in --columns"));
    taken(&scratch, &["words.csv", "--columns=b"]);

    let message = refusal(&scratch, &["words.csv", "--columns=b", "--categorical=colour"]);
    assert!(message.contains("add it to --columns"), "{message}");
    taken(&scratch, &["words.csv", "--columns=b,colour", "--categorical=colour"]);

    let message = refusal(&scratch, &["words.csv", "--label-column=colour", "--id-column=colour"]);
    assert!(message.contains("name it in one of --columns, --categorical, --label-column and --id-column"));
    taken(&scratch, &["words.csv", "--label-column=colour"]);
    taken(&scratch, &["words.csv", "--id-column=colour"]);

    let message = refusal(&scratch, &["words.csv", "--columns=none"]);
    let known = message.split("it has ").nth(1).expect(&message);
    assert!(known.contains('b') && known.contains('c'), "{message}");
    taken(&scratch, &["words.csv", "--columns=b,c"]);
    fs::write(scratch.path("bare.csv"), csv("1.5,2.5,3.5", number)).unwrap();
    assert!(refusal(&scratch, &["bare.csv", "--columns=none"]).contains("name columns by number, 1 to 3"));
    taken(&scratch, &["bare.csv", "--columns=1,3"]);
}

#[test]
fn options_for_labels_that_a_message_names_help() {
    let scratch = Scratch::blobs();
    let classes: Vec<i64> = blobs().1;
    let two: String = classes.iter().map(|class| format!("{class},{}\n", class * 2)).collect();
    fs::write(scratch.path("two.csv"), format!("species,other\n{two}")).unwrap();
    let message = refusal(&scratch, &["rows.npy", "--labels=two.csv"]);
    assert!(message.contains("say with --label-column which holds the labels"), "{message}");
    let name = first_of(&message, "several columns: ");
    taken(&scratch, &["rows.npy", "--labels=two.csv", "--label-column", name]);

    let one: String = classes.iter().map(|class| format!("{class}\n")).collect();
    fs::write(scratch.path("one.csv"), one).unwrap();
    let message = refusal(&scratch, &["rows.npy", "--labels=one.csv", "--label-column=species"]);
    assert!(message.contains("leave out --label-column"), "{message}");
    taken(&scratch, &["rows.npy", "--labels=one.csv"]);

    // Labels in place of rows.
    assert!(refusal(&scratch, &["y.npy"]).contains("Labels? give the file as --labels"));
    taken(&scratch, &["rows.npy", "--labels=y.npy"]);
}

#[test]
fn one_of_the_arrays_that_a_message_lists_can_be_named() {
    let scratch = Scratch::new();
    let tensors = br#"{"a":{"dtype":"U8","shape":[20,3],"data_offsets":[0,60]},"b":{"dtype":"U8","shape":[20,3],"data_offsets":[60,120]}}"#;
    let values: Vec<u8> = (0..120).map(|i: u8| i.wrapping_mul(41)).collect();
    fs::write(scratch.path("two.safetensors"), [&(tensors.len() as u64).to_le_bytes(), &tensors[..], &values].concat())
        .unwrap();
    let mut zip = zip::ZipWriter::new(fs::File::create(scratch.path("two.npz")).unwrap());
    write_npy(&scratch.path("rows.npy"), &[40, 3], &values);
    for name in ["p.npy", "q.npy"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &scratch.read("rows.npy")).unwrap();
    }
    zip.finish().unwrap();
    for file in ["two.safetensors", "two.npz"] {
        for args in [&[file][..], &[file, "--array=none"]] {
            let message = refusal(&scratch, args);
            taken(&scratch, &[file, word(&message, "--array"), first_of(&message, "--array: ")]);
        }
    }
    if cfg!(feature = "h5ad") {
        let file = format!("{}/tests/files/csr.h5ad", env!("CARGO_MANIFEST_DIR"));
        let message = refusal(&scratch, &[&file, "--array=layers/none"]);
        taken(&scratch, &[&file, word(&message, "--array"), first_of(&message, "--array: ")]);
    }
}

#[test]
fn images_of_several_sizes_are_read_at_the_size_that_a_message_shows() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("photos")).unwrap();
    for i in 0..12u32 {
        let image = image::GrayImage::from_fn(20 + i % 2, 20, |x, y| image::Luma([(x * y * (i + 3)) as u8]));
        image.save(scratch.path("photos").join(format!("{i}.png"))).unwrap();
    }
    let message = refusal(&scratch, &["photos"]);
    let option = option(&message, "--image-size");
    taken(&scratch, &[&["photos"][..], &option].concat());
}

#[test]
fn text_in_another_encoding_is_saved_as_the_message_says() {
    let scratch = Scratch::new();
    let right = csv("a,é,c", number);
    let utf_16: Vec<u8> = [0xfeff].into_iter().chain(right.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let latin: Vec<u8> = right.chars().map(|c| c as u8).collect();
    for bytes in [utf_16, latin] {
        fs::write(scratch.path("rows.csv"), bytes).unwrap();
        assert!(refusal(&scratch, &["rows.csv"]).contains("save it as UTF-8"));
    }
    fs::write(scratch.path("rows.csv"), right).unwrap();
    taken(&scratch, &["rows.csv"]);
}

#[test]
fn other_digits_than_the_published_ones_are_read_from_a_directory_of_their_own() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("cache/mnist")).unwrap();
    let pixels: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(37)).collect();
    let files: [(&str, &[u32], &[u8]); 4] = [
        ("train-images-idx3-ubyte", &[8, 2, 2], &pixels[..32]),
        ("train-labels-idx1-ubyte", &[8], &[0, 1, 0, 1, 0, 1, 0, 1]),
        ("t10k-images-idx3-ubyte", &[8, 2, 2], &pixels[32..]),
        ("t10k-labels-idx1-ubyte", &[8], &[1, 0, 1, 0, 1, 0, 1, 0]),
    ];
    for (name, dims, body) in files {
        fs::write(scratch.path("cache/mnist").join(name), idx(0x08, dims, body)).unwrap();
    }
    let message = refusal(&scratch, &["mnist"]);
    fs::rename(scratch.path("cache/mnist"), scratch.path("mine")).unwrap();
    let [option, _] = option(&message, "--data-dir");
    taken(&scratch, &[option, "mine"]);
    // Nor is it there any more: that is said too, with the same option.
    taken(&scratch, &[word(&refusal(&scratch, &["mnist"]), "--data-dir"), "mine"]);
}

#[test]
fn a_run_that_is_there_is_written_over_or_goes_elsewhere_as_the_message_says() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let again = scratch.dec(crate::support::SMALL.iter().chain(&["--out=run"]));
    again.failed(2, &["--out", "--force"]);
    scratch.train("run", &[word(&again.stderr, "--force")]);
    scratch.train("elsewhere", &[]);
}

/// A Python with these modules; says that it skips where there is none.
fn python(modules: &str) -> Option<std::ffi::OsString> {
    let python = std::env::var_os("DEC_PYTHON").filter(|python| !python.is_empty());
    let has = |python: &std::ffi::OsString| {
        let output = Command::new(python).args(["-c", &format!("import {modules}")]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = python.filter(has);
    if found.is_none() {
        eprintln!("skipped: DEC_PYTHON does not name a Python with {modules}");
    }
    found
}

fn run_python(python: &std::ffi::OsStr, scratch: &Scratch, code: &str) {
    let output = Command::new(python).args(["-c", code]).current_dir(scratch.path("")).output().unwrap();
    assert!(output.status.success(), "{code}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The expression that begins with `start`, up to the bracket that closes it.
#[track_caller]
fn expressions<'a>(message: &'a str, start: &str) -> Vec<&'a str> {
    let found = message.match_indices(start).map(|(at, _)| {
        let mut depth = 0;
        let end = message[at..].find(|c| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            c == ')' && depth == 0
        });
        &message[at..=at + end.unwrap_or_else(|| panic!("no end of {start:?} in {message}"))]
    });
    let found: Vec<&str> = found.collect();
    assert!(!found.is_empty(), "no {start:?} in {message}");
    found
}

/// Arrays of types that are not read, each with what makes one: what the message says is run on it.
#[test]
fn numpy_saves_an_array_as_the_message_says() {
    let Some(python) = python("numpy") else { return };
    let scratch = Scratch::new();
    let rows = "(numpy.arange(60.) * 7 % 61).reshape(20, 3)";
    for (name, array, allow) in [
        ("complex", format!("({rows}).astype('complex128')"), false),
        ("objects", format!("({rows}).astype(object)"), true),
        ("times", format!("({rows}).astype('datetime64[s]')"), false),
        ("long", format!("({rows}).astype('longdouble')"), false),
        ("records", "numpy.rec.fromarrays([numpy.arange(20.), numpy.arange(20) % 3], names='a,b')".to_owned(), false),
    ] {
        let bad = format!("{name}.npy");
        run_python(
            &python,
            &scratch,
            &format!(
                "import numpy; numpy.save('{bad}', {array}, allow_pickle={})",
                if allow { "True" } else { "False" }
            ),
        );
        let message = refusal(&scratch, &[&bad]);
        let save = expressions(&message, "numpy.save(")[0];
        let code = format!(
            "import numpy, numpy.lib.recfunctions; path = 'right.npy'; a = numpy.load('{bad}', allow_pickle=True); {save}"
        );
        run_python(&python, &scratch, &code);
        taken(&scratch, &["right.npy"]);
    }
}

#[test]
fn numpy_says_what_bytes_and_strings_are_as_the_message_says() {
    let Some(python) = python("numpy") else { return };
    let scratch = Scratch::blobs();
    run_python(
        &python,
        &scratch,
        "import numpy; numpy.save('raw.npy', numpy.load('rows.npy').view('V4')); \
         numpy.save('labels.npy', numpy.array(['ash', 'oak', 'fir'] * 60, dtype=object), allow_pickle=True)",
    );
    let message = refusal(&scratch, &["raw.npy"]);
    let view = expressions(&message, "a.view(")[0];
    run_python(&python, &scratch, &format!("import numpy; a = numpy.load('raw.npy'); numpy.save('right.npy', {view})"));
    taken(&scratch, &["right.npy"]);

    let message = refusal(&scratch, &["rows.npy", "--labels=labels.npy"]);
    let save = expressions(&message, "numpy.save(")[1];
    let load = "import numpy; path = 'right_labels.npy'; a = numpy.load('labels.npy', allow_pickle=True)";
    run_python(&python, &scratch, &format!("{load}; {save}"));
    taken(&scratch, &["rows.npy", "--labels=right_labels.npy"]);

    // Strings as rows are told to be labels.
    run_python(
        &python,
        &scratch,
        "import numpy; numpy.save('strings.npy', numpy.array(['ash', 'oak', 'fir'] * 60)[:, None])",
    );
    assert!(refusal(&scratch, &["strings.npy"]).contains("strings can be labels (--labels), not rows"));
    taken(&scratch, &["rows.npy", "--labels=strings.npy"]);
}

#[test]
fn numpy_makes_rows_that_can_be_clustered_as_the_message_says() {
    let Some(python) = python("numpy") else { return };
    let scratch = Scratch::new();
    let mut rows = blobs().0;
    rows[50] = f32::INFINITY;
    write_npy(&scratch.path("bad.npy"), &[180, 8], &rows);
    let message = refusal(&scratch, &["bad.npy"]);
    let fill = expressions(&message, "numpy.nan_to_num(")[0];
    run_python(&python, &scratch, &format!("import numpy; a = numpy.load('bad.npy'); numpy.save('right.npy', {fill})"));
    taken(&scratch, &["right.npy"]);

    write_npy(&scratch.path("flat.npy"), &[180], &blobs().0[..180]);
    let message = refusal(&scratch, &["flat.npy"]);
    let at = message.find("reshape to ").expect(&message) + "reshape to ".len();
    let shape = &message[at..=at + message[at..].find(']').expect(&message)];
    run_python(
        &python,
        &scratch,
        &format!("import numpy; numpy.save('right.npy', numpy.load('flat.npy').reshape({shape}))"),
    );
    taken(&scratch, &["right.npy"]);

    let tiny: Vec<f64> = blobs().0.iter().map(|&value| f64::from(value) * 1e-40).collect();
    write_npy(&scratch.path("tiny.npy"), &[180, 8], &tiny);
    assert!(refusal(&scratch, &["tiny.npy"]).contains("multiply all values by a constant"));
    run_python(&python, &scratch, "import numpy; numpy.save('right.npy', numpy.load('tiny.npy') * 1e40)");
    taken(&scratch, &["right.npy"]);
}

#[test]
fn scipy_saves_a_sparse_matrix_as_the_message_says() {
    let Some(python) = python("numpy, scipy.sparse, scipy.io") else { return };
    let scratch = Scratch::new();
    let made =
        "import numpy, scipy.sparse, scipy.io; a = (numpy.arange(400).reshape(20, 20) * 7 % 11).astype('float32'); \
                a[a < 6] = 0; matrix = scipy.sparse.csr_matrix(a); ";
    run_python(&python, &scratch, &format!("{made} scipy.sparse.save_npz('bsr.npz', matrix.tobsr())"));
    let message = refusal(&scratch, &["bsr.npz"]);
    let right = expressions(&message, "matrix.to")[0];
    run_python(&python, &scratch, &format!("{made} scipy.sparse.save_npz('right.npz', {right})"));
    taken(&scratch, &["right.npz"]);

    let half = "matrix = matrix + matrix.T; scipy.io.mmwrite('half.mtx', matrix)";
    run_python(&python, &scratch, &format!("{made} {half}"));
    let message = refusal(&scratch, &["half.mtx"]);
    let write = expressions(&message, "scipy.io.mmwrite(")[0].replace('…', "'right.mtx', matrix");
    run_python(&python, &scratch, &format!("{made} {half}; {write}"));
    taken(&scratch, &["right.mtx"]);
}

#[test]
fn numpy_writes_an_archive_anew_as_the_message_says() {
    let Some(python) = python("numpy, zipfile") else { return };
    let scratch = Scratch::blobs();
    run_python(
        &python,
        &scratch,
        "import zipfile; z = zipfile.ZipFile('bad.npz', 'w', zipfile.ZIP_BZIP2); z.write('rows.npy'); z.close()",
    );
    let function = word(&refusal(&scratch, &["bad.npz"]), "numpy.savez").to_owned();
    let code = format!("import numpy; {function}('right.npz', **numpy.load('bad.npz'))");
    run_python(&python, &scratch, &code);
    taken(&scratch, &["right.npz"]);
    fs::write(scratch.path("bad.npz"), "PK\x03\x04 and nothing more").unwrap();
    let function = word(&refusal(&scratch, &["bad.npz"]), "numpy.savez").to_owned();
    run_python(&python, &scratch, &format!("import numpy; {function}('right.npz', numpy.load('rows.npy'))"));
    taken(&scratch, &["right.npz"]);
}
