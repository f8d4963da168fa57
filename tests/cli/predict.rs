//! `dec predict`: new rows, old model.

use crate::support::{assignments, write_npy, Scratch};

#[test]
fn predict_repeats_the_clusters_of_the_run_to_stdout_and_to_a_file() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let saved = assignments(&scratch.text("run/assignments.csv"));

    let shown = scratch.dec(["predict", "--model", "run/model.pt", "rows.npy"]).ok();
    let says = "INFO 180 rows, in brackets those of training: outliers ";
    assert!(shown.stderr.lines().count() == 1 && shown.stderr.contains(says), "nothing to warn about: {shown:?}");
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
fn the_answer_has_second_choices_entropies_and_outlier_scores() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let cells = |text: &str| -> Vec<Vec<f64>> {
        text.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect()
    };
    let saved = scratch.text("run/assignments.csv");
    let all = cells(&saved);
    for row in &all {
        let [_, cluster, confidence, second, entropy, outlier] = row[..] else { panic!("{row:?}") };
        assert!(cluster != second && (0.0..3.0).contains(&second), "{row:?}");
        assert!((0.0..=3f64.ln() + 1e-6).contains(&entropy) && (0.0..=1.0).contains(&outlier), "{row:?}");
        // Of three clusters with this q of one, the entropy lies between that of two and of three parts.
        let part = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
        let (least, most) =
            (part(confidence) + part(1.0 - confidence), part(confidence) + 2.0 * part((1.0 - confidence) / 2.0));
        assert!(entropy > least - 1e-4 && entropy < most + 1e-4, "{row:?}");
    }
    // By construction the scores of the training rows are spread evenly.
    let mean = all.iter().map(|row| row[5]).sum::<f64>() / all.len() as f64;
    assert!((0.45..0.55).contains(&mean), "{mean}");
    // The run and its module say the same; the latent rows and memberships come along where they are asked for.
    assert_eq!(scratch.dec(["predict", "run", "rows.npy"]).ok().stdout, saved);
    let module = scratch.dec(["predict", "run/model.pt", "rows.npy"]).ok().stdout;
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-2);
    assert!(cells(&module).iter().zip(&all).all(|(a, b)| a[1] == b[1] && close(a, b)));
    scratch.dec(["predict", "run", "rows.npy", "-o", "wide.csv", "--embedding", "--memberships"]).ok();
    let wide = scratch.text("wide.csv");
    assert!(wide.starts_with("row,cluster,confidence,second,entropy,outlier,z_0,z_1,"), "{wide}");
    for row in cells(&wide) {
        let q = &row[row.len() - 3..];
        assert!((q.iter().sum::<f64>() - 1.0).abs() < 1e-5 && (q[row[1] as usize] - row[2]).abs() < 1e-6, "{row:?}");
    }
    // Unsure rows are marked, and rows from elsewhere are told.
    let unsure = cells(&scratch.dec(["predict", "run", "rows.npy", "--min-confidence=0.999999"]).ok().stdout);
    assert!(unsure.iter().all(|row| (row[1] == -1.0) == (row[2] < 0.999999)));
    let far: Vec<f32> = crate::support::blobs().0.iter().map(|value| value * 40.0 + 300.0).collect();
    write_npy(&scratch.path("far.npy"), &[180, 8], &far);
    scratch.dec(["predict", "run", "rows.npy", "-o", "ok.csv", "--max-outliers=0.05"]).ok();
    let refused = ["predict", "run", "far.npy", "-o", "far.csv", "--max-outliers=0.05"];
    scratch.dec(refused).failed(7, &["farther out", "--max-outliers"]);
    assert_eq!(scratch.text("far.csv").lines().count(), 181, "the answer is there all the same");
    scratch.dec(["predict", "run", "rows.npy", "-o", "out.xlsx"]).failed(2, &["out.xlsx", ".parquet"]);
}

#[test]
fn a_run_writes_what_its_recipe_asks_for_and_exports() {
    let scratch = Scratch::blobs();
    scratch.train("run", &["--set=output.onnx=true", "--set=output.format=tsv", "--set=output.embedding=true"]);
    let table = scratch.text("run/assignments.tsv");
    assert!(
        table.starts_with("row\tcluster\tconfidence\tsecond\tentropy\toutlier\tz_0\t") && table.lines().count() == 181
    );
    let onnx = scratch.read("run/model.onnx");
    scratch.dec(["export", "run", "--to", "onnx", "-o", "again.onnx"]).ok();
    assert_eq!(scratch.read("again.onnx"), onnx);
    scratch.dec(["export", "run", "--to", "torchscript", "-o", "again.pt"]).ok();
    assert_eq!(scratch.read("again.pt"), scratch.read("run/model.pt"));
    scratch.dec(["export", ".", "--to", "onnx"]).failed(3, &["is no run directory"]);
    scratch.dec(["predict", "run", "rows.npy", "-o", "out.tsv", "--embedding"]).ok();
    assert_eq!(scratch.text("out.tsv"), table);
    scratch.dec(["predict", "run", "rows.npy", "-o", "out.npy", "--embedding"]).ok();
    assert!(scratch.path("out.embedding.npy").exists());
    #[cfg(all(feature = "parquet", feature = "h5ad"))]
    for name in ["out.parquet", "out.arrow", "out.h5ad"] {
        scratch.dec(["predict", "run", "rows.npy", "-o", name, "--embedding", "--memberships"]).ok();
        assert!(scratch.path(name).exists(), "{name}");
    }
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

/// libtorch would run it for ever.
#[test]
fn a_model_that_may_not_come_to_an_end_is_refused() {
    let scratch = Scratch::blobs();
    let mut module = dec::backend::ScriptModule::new("DEC").unwrap();
    module.define("def n_features(self) -> int:\n  n = 1\n  while n > 0:\n    n += 1\n  return n\n").unwrap();
    std::fs::write(scratch.path("endless.pt"), module.to_bytes().unwrap()).unwrap();
    scratch.dec(["predict", "endless.pt", "rows.npy"]).failed(3, &["endless.pt", "has a loop", "model.pt"]);
}
