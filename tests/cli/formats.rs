//! The same rows in several formats, labels of any kind, and what `dec inspect` and `dec predict` make of them.

use std::fs;
use std::io::Write;
#[cfg(any(feature = "parquet", feature = "h5ad"))]
use std::path::PathBuf;
use std::process::Stdio;

use crate::support::{blobs, write_npy, Scratch, SMALL};

#[cfg(any(feature = "parquet", feature = "h5ad"))]
fn file(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name).display().to_string()
}

/// [`SMALL`] without its rows, and `more`.
fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SMALL.iter().filter(|arg| !arg.starts_with("--data=")).chain(more).copied().collect()
}

/// The rows of [`blobs`] as text, with a header, an id and a class.
fn csv(separator: char) -> String {
    let (rows, labels) = blobs();
    let mut lines = vec!["name,a,b,c,d,e,f,g,h,species".to_owned()];
    for (i, (row, label)) in rows.chunks(8).zip(&labels).enumerate() {
        let cells: Vec<String> = row.iter().map(f32::to_string).collect();
        lines.push(format!("r{i},{},{}", cells.join(","), ["ash", "oak", "fir"][*label as usize]));
    }
    lines.join("\n").replace(',', &separator.to_string()) + "\n"
}

#[test]
fn every_format_gives_the_same_weights() {
    let scratch = Scratch::blobs();
    let (rows, _) = blobs();
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let wide: Vec<f64> = rows.iter().map(|&value| value.into()).collect();
    write_npy(&scratch.path("wide.npy"), &[180, 8], &wide);
    fs::write(scratch.path("rows.csv"), csv(',')).unwrap();
    fs::write(scratch.path("rows.tsv.gz"), gzip(&csv('\t'))).unwrap();
    let sparse = |row: &[f32]| row.iter().enumerate().map(|(j, v)| format!(" {}:{v}", j + 1)).collect::<String>();
    let text: String = rows.chunks(8).map(|row| format!("0{}\n", sparse(row))).collect();
    fs::write(scratch.path("rows.svm"), text).unwrap();
    let mut matrix = "%%MatrixMarket matrix array real general\n180 8\n".to_owned();
    for column in 0..8 {
        rows.chunks(8).for_each(|row| matrix += &format!("{}\n", row[column]));
    }
    fs::write(scratch.path("rows.mtx"), matrix).unwrap();
    let mut header = br#"{"x":{"dtype":"F32","shape":[180,8],"data_offsets":[0,5760]}}"#.to_vec();
    let mut tensors = (header.len() as u64).to_le_bytes().to_vec();
    tensors.append(&mut header);
    tensors.extend(rows.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(scratch.path("rows.safetensors"), tensors).unwrap();

    scratch.train("npy", &[]);
    let expected = scratch.read("npy/weights.safetensors");
    for name in ["wide.npy", "rows.csv", "rows.tsv.gz", "rows.svm", "rows.mtx", "rows.safetensors"] {
        let data = format!("--data={name}");
        let args = small(&[data.as_str(), "--out=other", "--force"]);
        scratch.dec(args).ok();
        assert_eq!(scratch.read("other/weights.safetensors"), expected, "{name}");
    }
    // And through a pipe.
    let args = small(&["-", "--out=piped"]);
    let mut child = scratch.command(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(csv(',').as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(scratch.read("piped/weights.safetensors"), expected);
}

#[test]
fn rows_that_stay_in_their_file_give_the_same_weights() {
    let scratch = Scratch::new();
    // A file of more than a quarter, and rows of more than a third, of the megabyte that is allowed.
    let rows: Vec<f32> =
        (0..4_000 * 24).map(|i| (i % 24 * (i / 24 % 3)) as f32 + (i * 7919 % 101) as f32 / 50.0).collect();
    let wide: Vec<f64> = rows.iter().map(|&value| f64::from(value) + 1e7).collect();
    let pixels: Vec<u8> = rows.iter().flat_map(|&value| [value as u8; 4]).collect();
    write_npy(&scratch.path("single.npy"), &[4_000, 24], &rows);
    write_npy(&scratch.path("wide.npy"), &[4_000, 24], &wide);
    write_npy(&scratch.path("pixels.npy"), &[4_000, 8, 12], &pixels);
    write_npy(&scratch.path("first.npy"), &[1_000, 24], &rows[..24_000]);
    write_npy(&scratch.path("second.npy"), &[3_000, 24], &rows[24_000..]);
    let mut header = br#"{"x":{"dtype":"F32","shape":[4000,24],"data_offsets":[0,384000]}}"#.to_vec();
    let mut tensors = (header.len() as u64).to_le_bytes().to_vec();
    tensors.append(&mut header);
    tensors.extend(rows.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(scratch.path("single.safetensors"), tensors).unwrap();
    let train = |files: &[&str], more: &[&str]| {
        let mut args = small(files);
        args.extend(["--out=run", "--force", "--set=start.max_rows=1500", "--set=pretrain.steps=40"]);
        args.extend(more);
        let ran = scratch.dec(args).ok();
        (scratch.read("run/weights.safetensors"), scratch.read("run/assignments.csv"), ran.stderr)
    };
    let mut singles = Vec::new();
    for file in ["single.npy", "wide.npy", "pixels.npy", "single.safetensors"] {
        let (resident, streamed) = (train(&[file], &[]), train(&[file], &["--max-memory=1"]));
        assert!(
            streamed.2.contains("read a batch at a time") && !resident.2.contains("at a time"),
            "{file}: {streamed:?}"
        );
        assert!((&resident.0, &resident.1) == (&streamed.0, &streamed.1), "{file}");
        if file.starts_with("single") {
            singles.push(resident.0);
        }
    }
    // Several files are one data set, in memory or not.
    singles.push(train(&["first.npy", "second.npy"], &[]).0);
    singles.push(train(&["first.npy", "second.npy"], &["--max-memory=1"]).0);
    assert!(singles.iter().all(|weights| *weights == singles[0]));
    scratch.dec(small(&["first.npy", "pixels.npy", "--out=no"])).failed(3, &["pixels.npy", "96 columns", "24"]);
    assert!(!scratch.path("no").exists());
    scratch.dec(small(&["first.npy", "builtin", "--out=no"])).failed(2, &["builtin is no file"]);
    // predict and inspect take such rows too.
    let predicted = |more: &[&str]| {
        let args = ["predict", "run", "single.npy", "--device=cpu"].into_iter().chain(more.iter().copied());
        scratch.dec(args.collect::<Vec<_>>()).ok().stdout
    };
    assert_eq!(predicted(&["--set=data.max_memory=1"]), predicted(&[]));
    let page = scratch.dec(["inspect", "single.npy", "--max-memory=1"]).ok().stdout;
    assert!(page.contains("read a batch at a time"), "{page}");
}

#[test]
fn names_of_rows_columns_and_classes_go_through() {
    let scratch = Scratch::new();
    fs::write(scratch.path("rows.csv"), csv(',')).unwrap();
    let args = small(&["rows.csv", "--label-column=species", "--out=run"]);
    let ran = scratch.dec(args.into_iter().filter(|arg| !arg.starts_with("--clusters"))).ok();
    assert!(ran.stderr.contains("3 clusters, as many as the labels have classes"), "{ran:#?}");
    let assignments = scratch.text("run/assignments.csv");
    assert!(assignments.starts_with("row,id,cluster,confidence,second,entropy,outlier\n0,r0,"), "{assignments}");
    let summary = scratch.json("run/summary.json");
    assert_eq!((&summary["n_clusters"], &summary["columns"][7]), (&3.into(), &"h".into()));
    assert!(summary["results"][0]["acc"].as_f64().unwrap() > 0.9);

    // Columns are found by their names, in any order; the labels do not have to be there.
    let shuffled: String = csv(',').lines().fold(String::new(), |text, line| {
        let cells: Vec<&str> = line.split(',').collect();
        let backwards: Vec<&str> = cells[1..9].iter().rev().copied().chain([cells[0]]).collect();
        text + &backwards.join(",") + "\n"
    });
    fs::write(scratch.path("new.csv"), &shuffled).unwrap();
    let predicted = scratch.dec(["predict", "run", "new.csv"]).ok().stdout;
    assert_eq!(predicted, assignments);
    fs::write(scratch.path("less.csv"), shuffled.replace("h,g,f,", "h,g,x,")).unwrap();
    scratch.dec(["predict", "run", "less.csv"]).failed(3, &["no column \"f\"", "it has \"h\", \"g\", \"x\""]);
    scratch.dec(["predict", "run", "new.csv", "-o", "new.csv"]).failed(2, &["new.csv", "is what is read here"]);
    assert_eq!(scratch.text("new.csv"), shuffled);
    scratch.dec(["predict", "run"]).failed(2, &["dec predict RUN ROWS"]);
}

#[test]
fn values_far_from_zero_keep_what_tells_them_apart() {
    let scratch = Scratch::blobs();
    let (rows, _) = blobs();
    let far: Vec<f64> = rows.iter().map(|&value| f64::from(value) + 1e9).collect();
    write_npy(&scratch.path("far.npy"), &[180, 8], &far);
    scratch.dec(small(&["far.npy", "--labels=y.npy", "--out=run"])).ok();
    assert!(scratch.json("run/summary.json")["results"][2]["acc"].as_f64().unwrap() > 0.9);
    let clusters = |text: &str| -> Vec<String> {
        text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect()
    };
    let expected = clusters(&scratch.text("run/assignments.csv"));
    for model in ["run", "run/model.pt"] {
        assert_eq!(clusters(&scratch.dec(["predict", model, "far.npy"]).ok().stdout), expected, "{model}");
    }
}

#[test]
fn images_of_another_order_of_channels_are_refused() {
    let scratch = Scratch::new();
    let pixels: Vec<u8> = (0..60 * 8 * 8 * 3).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write_npy(&scratch.path("last.npy"), &[60, 8, 8, 3], &pixels);
    write_npy(&scratch.path("first.npy"), &[60, 3, 8, 8], &pixels);
    let args = small(&["last.npy", "--out=run"]).into_iter().filter(|arg| !arg.contains("augment.kind"));
    scratch.dec(args);
    assert_eq!(scratch.json("run/summary.json")["rows"]["kind"], "colour");
    scratch.dec(["predict", "run", "last.npy"]).ok();
    scratch
        .dec(["predict", "run", "first.npy"])
        .failed(3, &["3 x 8 x 8 (channels first)", "8 x 8 x 3 (channels last)"]);
}

#[test]
fn inspect_says_what_a_file_holds_and_its_recipe_trains() {
    let scratch = Scratch::new();
    fs::write(scratch.path("rows.csv"), csv(';')).unwrap();
    let page = scratch.dec(["inspect", "rows.csv"]).ok();
    for words in ["180 of 8 values", "a, b, c, d, e, f, ... (8 in all)", "r0, r1", "a table", "0 constant columns"] {
        assert!(page.stdout.contains(words), "{words}: {page:#?}");
    }
    assert!(page.stderr.contains("--label-column species"), "{page:#?}");
    let time = page.stdout.lines().find_map(|line| line.strip_prefix("time")).unwrap_or_default().trim();
    assert!(time.starts_with("about ") && time.contains(" on the CPU with "), "{page:#?}");
    let recipe = scratch.dec(["inspect", "rows.csv", "--label-column=species", "--recipe"]).ok().stdout;
    fs::write(scratch.path("mine.toml"), &recipe).unwrap();
    let config = scratch.dec(["config", "--config=mine.toml"]).ok().stdout;
    assert!(config.contains("n_clusters = 3") && config.contains("label_column = \"species\""), "{recipe}");
    #[cfg(feature = "h5ad")]
    {
        let page = scratch.dec(["inspect", &file("csr.h5ad")]).ok();
        assert!(page.stdout.contains("names") && page.stdout.contains("ids"), "{page:#?}");
    }
    #[cfg(feature = "parquet")]
    {
        let page = scratch.dec(["inspect", &file("plain.parquet"), "--missing=mean"]).ok();
        assert!(page.stdout.contains("24 of "), "{page:#?}");
        scratch.dec(["inspect", &file("plain.parquet")]).failed(3, &["missing", "\"a\"", "row 3"]);
    }
}

#[test]
fn labels_may_be_text_and_may_be_missing() {
    let scratch = Scratch::blobs();
    let (_, labels) = blobs();
    let names: String = labels.iter().map(|&label| ["ash\n", "oak\n", "\"fir, red\"\n"][label as usize]).collect();
    fs::write(scratch.path("y.csv"), format!("tree\n{names}")).unwrap();
    let some: Vec<i64> = labels.iter().enumerate().map(|(i, &label)| if i < 20 { -1 } else { label }).collect();
    write_npy(&scratch.path("some.npy"), &[180], &some);
    let acc = |file: &str| {
        let ran = scratch.train("run", &["--labels", file, "--force"]);
        (scratch.json("run/summary.json")["results"][0]["acc"].as_f64().unwrap(), ran.stderr)
    };
    let (plain, _) = acc("y.npy");
    assert_eq!(acc("y.csv").0, plain);
    let (partly, said) = acc("some.npy");
    assert!(said.contains("20 of 180 rows have no label (20 of them -1"), "{said}");
    assert!(partly > 0.9);
}

#[test]
fn evaluate_scores_what_is_there() {
    let scratch = Scratch::blobs();
    scratch.train("run", &["--labels=y.npy"]);
    let acc = scratch.json("run/summary.json")["results"][2]["acc"].as_f64().unwrap();
    let page = scratch.dec(["evaluate", "run", "--labels=y.npy"]).ok().stdout;
    assert!(
        page.contains("180 of 180 rows have a label") && page.contains(&format!("ACC          {acc:.4}")),
        "{page}"
    );
    assert!(page.contains("homogeneity") && page.contains("matched"), "{page}");
    // What predict writes, and labels by name.
    scratch.dec(["predict", "run", "rows.npy", "-o", "p.csv"]).ok();
    let (_, labels) = blobs();
    let names: String = labels.iter().map(|&label| ["ash\n", "oak\n", "fir\n"][label as usize]).collect();
    fs::write(scratch.path("y.txt"), names).unwrap();
    let page = scratch.dec(["evaluate", "p.csv", "--labels=y.txt"]).ok().stdout;
    assert!(page.contains("\nash ") && page.contains(&format!("ACC          {acc:.4}")), "{page}");
    write_npy(&scratch.path("few.npy"), &[3], &[0i64, 1, 2]);
    scratch.dec(["evaluate", "run", "--labels=few.npy"]).failed(3, &["few.npy", "has 3 labels", "row 3"]);
    scratch.dec(["evaluate", "rows.npy", "--labels=y.npy"]).failed(3, &["rows.npy"]);
}
