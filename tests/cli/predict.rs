//! `dec predict`: new rows, old model.

use crate::support::{assignments, write_npy, Scratch};

#[test]
fn predict_repeats_the_clusters_of_the_run_to_stdout_and_to_a_file() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let saved = assignments(&scratch.text("run/assignments.csv"));

    let shown = scratch.dec(["predict", "--model", "run/model.pt", "rows.npy"]).ok();
    assert_eq!(shown.stderr, "", "nothing to warn about");
    let predicted = assignments(&shown.stdout);
    let clusters = |all: &[(usize, i64, f64)]| all.iter().map(|a| (a.0, a.1)).collect::<Vec<_>>();
    assert_eq!(clusters(&predicted), clusters(&saved), "the saved labels are those of the saved weights");
    assert!(predicted.iter().zip(&saved).all(|(a, b)| (a.2 - b.2).abs() < 1e-5));
    let mut found: Vec<_> = saved.iter().map(|a| a.1).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [0, 1, 2], "it is a real clustering that is compared");

    let written = scratch.dec(["predict", "-m", "run/model.pt", "rows.npy", "-o", "out.csv"]).ok();
    assert_eq!(written.stdout, "");
    assert_eq!(scratch.text("out.csv"), shown.stdout);

    // Rows one at a time and in another order get the clusters that they had.
    let (rows, _) = crate::support::blobs();
    let reversed: Vec<f32> = rows.chunks(8).rev().flatten().copied().collect();
    write_npy(&scratch.path("reversed.npy"), &[180, 8], &reversed);
    let again = scratch.dec(["predict", "-m", "run/model.pt", "reversed.npy"]).ok();
    let again: Vec<_> = assignments(&again.stdout).iter().rev().map(|a| a.1).collect();
    assert_eq!(again, saved.iter().map(|a| a.1).collect::<Vec<_>>());
}

#[test]
fn a_model_that_cannot_be_used_is_refused() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let model = scratch.read("run/model.pt");
    std::fs::write(scratch.path("cut.pt"), &model[..model.len() / 2]).unwrap();
    std::fs::write(scratch.path("notes.pt"), "not a model").unwrap();
    std::fs::write(scratch.path("empty.pt"), "").unwrap();
    write_npy(&scratch.path("wide.npy"), &[2, 9], &[0.5f32; 18]);
    write_npy(&scratch.path("nan.npy"), &[1, 8], &[f32::NAN; 8]);
    std::fs::write(scratch.path("file.txt"), "").unwrap();

    let cases: [(&str, &str, &str, i32, &[&str]); 10] = [
        ("cut.pt", "rows.npy", "o.csv", 3, &["cut.pt", "not a whole TorchScript file", "model.pt"]),
        ("notes.pt", "rows.npy", "o.csv", 3, &["notes.pt", "not a TorchScript file", "model.pt"]),
        ("empty.pt", "rows.npy", "o.csv", 3, &["empty.pt", "not a TorchScript file"]),
        ("run/weights.safetensors", "rows.npy", "o.csv", 3, &["weights.safetensors", "not a TorchScript file"]),
        ("none.pt", "rows.npy", "o.csv", 3, &["none.pt", "No such file"]),
        ("run/model.pt", "wide.npy", "o.csv", 3, &["wide.npy", "9 features", "run/model.pt", "8"]),
        ("run/model.pt", "none.npy", "o.csv", 3, &["none.npy", "no such file"]),
        ("run/model.pt", "nan.npy", "o.csv", 3, &["nan.npy", "8 of its values are missing", "row 0, column 0"]),
        ("run/model.pt", "rows.npy", "file.txt/o.csv", 2, &["file.txt", "Not a directory"]),
        ("run/model.pt", "rows.npy", "none/o.csv", 2, &["none", "No such file or directory"]),
    ];
    let before = scratch.tree();
    for (model, rows, output, code, words) in cases {
        let ran = scratch.dec(["predict", "--model", model, rows, "-o", output]);
        ran.failed(code, words);
        assert_eq!(ran.stdout, "");
        assert!(scratch.tree() == before, "{model} on {rows} to {output} leaves something behind");
    }
    let usage = scratch.dec(["predict", "rows.npy"]);
    usage.failed(2, &["dec predict RUN ROWS"]);
}
