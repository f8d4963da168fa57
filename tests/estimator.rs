//! `dec::Dec`, as somebody who depends on the crate uses it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use dec::config::{AugmentKind, Config};
use dec::control::{Event, Observer};
use dec::data::{self, Dataset, Reading};
use dec::export::LoadedPredictor;
use dec::linfa::traits::{Fit, Predict};
use dec::linfa::DatasetBase;
use dec::run::Trainer;
use dec::{Dec, DecParams, Error, ParamGuard};
use ndarray::{array, s, Array1, Array2, Axis};

/// Small enough for a debug build.
fn params(k: usize) -> DecParams {
    Dec::params(k)
        .device("cpu")
        .threads(1)
        .set("model.hidden", vec![16])
        .set("pretrain.steps", 60)
        .set("start.networks", 1)
        .set("cluster.max_rounds", 2)
        .latent(3)
}

fn groups() -> Array2<f32> {
    Array2::from_shape_fn((60, 4), |(i, j)| (i % 3) as f32 * 5.0 + ((7 * i + j) % 5) as f32 * 0.1)
}

fn assert_are_the_groups(labels: &Array1<usize>) {
    assert_eq!(labels.len(), 60);
    assert!((0..60).all(|i| labels[i] == labels[i % 3]), "{labels}");
    assert!(labels[0] != labels[1] && labels[1] != labels[2] && labels[0] != labels[2], "{labels}");
}

#[test]
fn each_parameter_that_cannot_be_run_is_refused_by_name() {
    for (spoil, expected) in [
        (Dec::params(0), "n_clusters = 0: must be at least 1"),
        (Dec::params(3).seed(u64::MAX), "seed = 18446744073709551615"),
        (Dec::params(3).latent(0), "model.n_latent = 0"),
        (Dec::params(3).device("gpu"), "device \"gpu\" is unknown"),
        (Dec::params(3).threads(0), "threads = 0"),
        (Dec::params(3).image([0, 3]), "augment.image = 0"),
        (Dec::params(3).row_kind(AugmentKind::TimeShift).set("augment.time_shift", 2.0), "augment.time_shift = 2"),
        (Dec::params(3).recipe("no-such-recipe"), "no-such-recipe"),
        (Dec::params(3).recipe("seeds"), "has a [sweep] table"),
        (Dec::params(3).config(Config { seed: u64::MAX, ..Config::default() }), "seed = 18446744073709551615"),
        (Dec::params(3).set("cluster.tol", -1.0), "cluster.tol = -1"),
        (Dec::params(3).set("cluster.tol", "small"), "cluster.tol"),
        (Dec::params(3).set("cluster.tolerance", 1.0), "unknown field `tolerance`"),
        (Dec::params(3).set("", 1), "unknown field"),
    ] {
        let by_reference = spoil.check_ref().unwrap_err().to_string();
        assert!(by_reference.contains(expected), "{by_reference}");
        assert_eq!(spoil.clone().check().unwrap_err().to_string(), by_reference);
        assert_eq!(spoil.fit(&groups()).unwrap_err().to_string(), by_reference);
    }
}

#[test]
fn what_is_said_by_name_comes_after_settings_and_those_after_the_recipe() {
    let valid = Dec::params(3).set("seed", 4).seed(5).set("model.n_latent", 7).recipe("notebook").check().unwrap();
    let notebook = dec::config::Recipe::load("notebook").unwrap().config;
    assert_eq!((valid.config().n_clusters, valid.config().seed, valid.config().model.n_latent), (3, 5, 7));
    assert_eq!(valid.config().pretrain, notebook.pretrain);
    // Checked once, and again after a change.
    let params = Dec::params(3);
    assert_eq!(params.check_ref().unwrap().config().seed, 0);
    assert_eq!(params.seed(9).check_ref().unwrap().config().seed, 9);
}

#[test]
fn arrays_views_datasets_and_other_types_give_the_same_clusters() {
    let x = groups();
    let dec = params(3).fit(&x).unwrap();
    assert_are_the_groups(dec.labels());
    assert_eq!((dec.n_features(), dec.n_latent(), dec.n_clusters()), (4, 3, 3));
    assert_eq!(dec.centroids().dim(), (3, 3));
    assert!(dec.rounds() >= 1 && dec.results().iter().all(|result| result.acc.is_none()));

    let valid = params(3).check().unwrap();
    let of_linfa = Fit::fit(&valid, &DatasetBase::from(x.view())).unwrap();
    let guarded = Fit::fit(&params(3), &DatasetBase::new(x.mapv(f64::from), Array1::<usize>::zeros(60))).unwrap();
    let turned = x.t().as_standard_layout().into_owned();
    let strided = params(3).fit(&turned.t()).unwrap();
    for other in [of_linfa, guarded, strided] {
        assert_eq!(other.labels(), dec.labels());
        assert_eq!(other.transform(&x).unwrap(), dec.transform(&x).unwrap());
    }

    let bytes = x.mapv(|value| (value * 10.0) as u8);
    assert_are_the_groups(params(3).fit(&bytes).unwrap().labels());

    let labels: Array1<usize> = dec.predict(&x);
    assert_eq!(labels, dec.labels());
    assert_eq!(dec.try_predict(&x).unwrap(), labels);
    let q = dec.soft_assignments(&x).unwrap();
    assert!(q.sum_axis(Axis(1)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    let largest = |row: ndarray::ArrayView1<f32>| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    assert!(q.rows().into_iter().zip(&labels).all(|(row, &label)| largest(row) == label));
}

#[test]
fn rows_that_do_not_fit_are_told_with_both_shapes() {
    let dec = params(3).fit(&groups()).unwrap();
    let wide = Array2::<f32>::zeros((2, 5));
    for refused in [
        dec.try_predict(&wide).map(|_| ()),
        dec.transform(&wide).map(|_| ()),
        dec.soft_assignments(&wide).map(|_| ()),
        dec.reconstruct(&wide).map(|_| ()),
    ] {
        let Err(Error::Shape { found, expected }) = refused else { panic!("{refused:?}") };
        assert_eq!((found, expected), ([2, 5], [2, 4]));
    }
    assert!(matches!(dec.decode(&wide), Err(Error::Shape { found: [2, 5], expected: [2, 3] })));
    assert!(matches!(dec.try_predict(&array![[1.0, f64::NAN, 2.0, 3.0]]), Err(Error::Rows(_))));
    let none = Array2::<f32>::zeros((0, 4));
    assert_eq!(dec.try_predict(&none).unwrap().len(), 0);
    assert_eq!((dec.transform(&none).unwrap().dim(), dec.reconstruct(&none).unwrap().dim()), ((0, 3), (0, 4)));
    assert!(std::panic::catch_unwind(|| -> Array1<usize> { params(3).fit(&groups()).unwrap().predict(&wide) }).is_err());
}

#[test]
fn rows_that_cannot_be_clustered_are_refused() {
    let same = Array2::<f32>::ones((9, 4));
    for (x, k, expected) in [
        (same, 3, "are the same"),
        (groups().slice(s![..2, ..]).to_owned(), 3, "fewer than the 3 clusters"),
        (Array2::zeros((0, 4)), 3, "has no rows"),
        (array![[1.0, f32::NAN], [2.0, 3.0], [4.0, 5.0]], 2, "missing or NaN"),
    ] {
        let refused = params(k).fit(&x).unwrap_err();
        assert!(matches!(refused, Error::Rows(_)) && refused.to_string().contains(expected), "{refused}");
    }
    let mut holes = groups();
    holes[[7, 1]] = f32::NAN;
    let refused = params(3).set("data.missing", "drop").fit(&holes).unwrap_err().to_string();
    assert!(refused.contains("1 of 60 rows"), "{refused}");
    assert_eq!(params(3).set("data.missing", "mean").fit(&holes).unwrap().labels().len(), 60);
}

#[test]
fn the_library_leaves_threads_as_they_were() {
    let before = tch::get_num_threads();
    params(3).threads(3).fit(&groups()).unwrap();
    assert_eq!(tch::get_num_threads(), before);
}

#[test]
fn a_fit_is_the_trainers_and_a_limit_leaves_no_row_without_a_label() {
    let digits = data::load(&data::Source { source: "builtin", ..data::Source::default() }).unwrap();
    let some = digits.select(&(0..300).collect::<Vec<_>>());
    let valid = params(10).set("data.limit", 200).set("start.method", "kmeans").check().unwrap();
    let dec = valid.fit(&some).unwrap();
    assert!(dec.results().iter().all(|result| result.acc.is_some()), "labels score");
    assert_eq!((dec.labels().len(), dec.assignment().rows.len()), (300, 200));
    assert_eq!(dec.labels(), dec.try_predict(&some).unwrap());

    dec::backend::threads::set(Some(1)).unwrap();
    let fitted = Trainer::new(valid.config(), &some, tch::Device::Cpu).unwrap().run(&mut ()).unwrap();
    assert_eq!(fitted.assignment, *dec.assignment());
}

#[test]
fn a_watcher_sees_the_stages_and_may_stop_them() {
    struct Watcher(Vec<String>, Option<usize>);
    impl Observer for Watcher {
        fn on_event(&mut self, event: &Event) {
            if let Event::StageFinished { stage, .. } = event {
                self.0.push(stage.to_string());
            }
        }
        fn should_stop(&self) -> bool {
            self.1.is_some_and(|stages| self.0.len() >= stages)
        }
    }
    let mut all = Watcher(Vec::new(), None);
    params(3).fit_with(&groups(), &mut all).unwrap();
    assert_eq!(all.0, ["kmeans_raw", "pretrain", "kmeans", "start", "cluster"]);
    let mut few = Watcher(Vec::new(), Some(2));
    assert!(matches!(params(3).fit_with(&groups(), &mut few), Err(Error::Interrupted)));
    assert_eq!(few.0, all.0[..2]);
}

/// Rows of each scaling, with what `model.pt` makes of them.
#[test]
fn rows_are_reconstructed_as_the_predictor_does_it() {
    let dir = tempfile::tempdir().unwrap();
    let far = groups().mapv(|value| f64::from(value) + 1e6);
    let counts = Array2::from_shape_fn((60, 60), |(i, j)| ((i * 13 + j * (i % 3 + 1) * 7) % 23).pow(2) as f64);
    let cases: [(&str, Array2<f64>, &str); 5] = [
        ("centred", groups().mapv(f64::from), "centre"),
        ("far", far, "auto"),
        ("counts", counts, "counts"),
        ("unit", groups().mapv(f64::from), "unit"),
        ("standardised", groups().mapv(f64::from), "standardise"),
    ];
    for (name, x, scale) in cases {
        let dec = params(3).set("data.scale", scale).set("augment.kind", "noise").fit(&x).unwrap();
        let run = dir.path().join(name);
        dec.save(&run).unwrap();
        let found = dec.reconstruct(&x).unwrap();
        let predictor = LoadedPredictor::load(run.join("model.pt"), tch::Device::Cpu).unwrap();
        let rows = predictor.reconstruct(&data::tensor_of(x.view()).unwrap()).unwrap();
        let expected: Vec<f64> = data::values_of(&rows.to_kind(tch::Kind::Double)).unwrap();
        // The predictor's float32 steps by 1/16 at a million.
        let tolerance = if name == "far" { 0.04 } else { 1e-4 * x.std(0.0) };
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= tolerance, "{name}: {found} and {expected}");
        }
        let z = dec.transform(&x).unwrap();
        if matches!(name, "centred" | "far" | "standardised") {
            assert_eq!(dec.decode(&z).unwrap(), found, "{name}");
        }
    }
}

fn dec_binary(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dec")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn clusters(csv: &str) -> Vec<usize> {
    csv.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect()
}

#[test]
fn the_binary_predicts_with_what_was_saved_and_its_runs_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("rows.csv");
    let lines: Vec<String> =
        groups().rows().into_iter().map(|r| r.iter().map(f32::to_string).collect::<Vec<_>>().join(",")).collect();
    std::fs::write(&csv, format!("a,b,c,d\n{}\n", lines.join("\n"))).unwrap();

    let saved = dir.path().join("saved");
    let dec = params(3).fit(&groups()).unwrap();
    dec.save(&saved).unwrap();
    let refused = dec.save(&saved).unwrap_err().to_string();
    assert!(refused.contains("holds the results of a run"), "{refused}");
    let predicted = dec_binary(&["predict", text(&saved), text(&csv), "--threads", "1", "--device", "cpu"]);
    assert_eq!(clusters(&predicted), dec.labels().to_vec());
    let by_module = dec_binary(&["predict", text(&saved.join("model.pt")), text(&csv), "--device", "cpu"]);
    assert_eq!(clusters(&by_module), dec.labels().to_vec());

    // What was loaded saves the same files.
    let loaded = Dec::load(&saved).unwrap();
    assert_eq!((loaded.labels(), loaded.results()), (dec.labels(), dec.results()));
    let again = dir.path().join("again");
    loaded.save(&again).unwrap();
    for name in ["config.toml", "weights.safetensors", "model.pt", "assignments.csv"] {
        assert_eq!(std::fs::read(saved.join(name)).unwrap(), std::fs::read(again.join(name)).unwrap(), "{name}");
    }

    // The binary's run of the same rows and settings is the same fit.
    let run = dir.path().join("run");
    let settings =
        ["model.hidden=[16]", "pretrain.steps=60", "start.networks=1", "cluster.max_rounds=2", "model.n_latent=3"];
    let mut arguments = vec![text(&csv), "-k", "3", "--device", "cpu", "--threads", "1", "--out", text(&run)];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    dec_binary(&arguments);
    let of_run = Dec::load(&run).unwrap();
    assert_eq!(of_run.labels(), dec.labels());
    assert_eq!(of_run.try_predict(&groups()).unwrap(), dec.labels());
    assert_eq!(of_run.centroids(), dec.centroids());
}

#[test]
fn what_is_no_run_is_refused_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| Dec::load(path).unwrap_err();
    assert!(matches!(refused(&dir.path().join("none")), Error::Data { path, .. } if path.ends_with("config.toml")));
    let run = dir.path().join("run");
    params(3).fit(&groups()).unwrap().save(&run).unwrap();
    for (name, content) in [("assignments.csv", "row\n1\n"), ("summary.json", "{"), ("weights.safetensors", "x")] {
        let before = std::fs::read(run.join(name)).unwrap();
        std::fs::write(run.join(name), content).unwrap();
        assert!(matches!(refused(&run), Error::Data { path, .. } if path.ends_with(name)), "{name}");
        std::fs::write(run.join(name), before).unwrap();
    }
    // Tensors that are there and are not what they should be.
    let weights = run.join("weights.safetensors");
    let whole = tch::Tensor::read_safetensors(&weights).unwrap();
    for (name, damaged, why) in [
        ("training.quantiles", tch::Tensor::from_slice(&[2.0f32, 1.0]), "the table of distances is damaged"),
        ("centroids", tch::Tensor::from_slice(&[1.0f32]), "[clusters, 3]"),
        ("encoder.0.bias", tch::Tensor::from_slice(&[1.0f32]), ""),
    ] {
        let named = |(found, tensor): &(String, tch::Tensor)| {
            (found.clone(), if found == name { damaged.shallow_clone() } else { tensor.shallow_clone() })
        };
        let tensors: Vec<_> = whole.iter().map(named).collect();
        assert!(tensors.iter().any(|(found, _)| found == name), "{name}");
        tch::Tensor::write_safetensors(&tensors, &weights).unwrap();
        let error = refused(&run);
        assert!(matches!(&error, Error::Data { path, .. } if *path == weights), "{name}: {error:?}");
        assert!(error.to_string().contains(why), "{name}: {error}");
    }
    tch::Tensor::write_safetensors(&whole, &weights).unwrap();
    std::fs::remove_file(run.join("assignments.csv")).unwrap();
    assert_eq!(Dec::load(&run).unwrap().labels().len(), 0);
    assert!(Dec::load_on(&run, "gpu").unwrap_err().to_string().contains("is unknown"));
}

#[test]
fn a_fit_reports_on_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (page, saved) = (dir.path().join("report.html"), dir.path().join("saved"));
    let mut rows = Dataset::from_array(groups().view(), &Reading::default()).unwrap();
    rows.columns = ["alpha", "beta", "gamma", "delta"].map(str::to_owned).to_vec();
    rows.labels = Some((0..60).map(|i| i % 3).collect());
    rows.classes = ["ash", "birch", "cedar"].map(str::to_owned).to_vec();
    let dec = params(3).fit(&rows).unwrap();
    dec.report(&rows, &page).unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    for part in ["beta", "cedar", "Clusters and classes", "<h2 id=\"training-title\">"] {
        assert!(text.to_lowercase().contains(&part.to_lowercase()), "{part}");
    }
    // The columns' names are the model's; the log of the fit is kept where it is saved and loaded.
    dec.save(&saved).unwrap();
    let events = std::fs::read_to_string(saved.join("events.jsonl")).unwrap();
    assert!(events.starts_with("{\"data\"") && events.contains("\"round\""), "{events}");
    Dec::load(&saved).unwrap().report(&groups(), &page).unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("beta") && !text.contains("cedar"));

    let none = dir.path().join("none.html");
    let fewer = groups().slice(ndarray::s![..50, ..]).to_owned();
    for others in [fewer, groups() + 1.0, Array2::zeros((0, 4))] {
        let refused = dec.report(&others, &none).unwrap_err();
        assert!(matches!(&refused, Error::Rows(text) if text.contains("these are others")), "{refused:?}");
    }
    assert!(!none.exists());
}

#[test]
fn sparse_rows_and_rows_with_labels_are_data_sets() {
    let x = groups();
    let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in x.rows() {
        for (j, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            columns.push(j as u32);
            values.push(value);
        }
        starts.push(values.len() as u64);
    }
    let mut sparse = Dataset::from_csr([60, 4], starts, columns, values, &Reading::default()).unwrap();
    sparse.labels = Some((0..60).map(|i| i % 3).collect());
    let dec = params(3).fit(&sparse).unwrap();
    assert_eq!(dec.results().last().unwrap().acc, Some(1.0));
    assert_eq!(dec.try_predict(&x).unwrap(), dec.labels());
}

/// `cargo test` has built the examples; where a test is run by name, cargo does so here.
fn example(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    command.args(["run", "--quiet", "--manifest-path", manifest, "--example", name, "--"]).args(arguments);
    command.env("OMP_NUM_THREADS", "1");
    command
}

#[test]
fn the_examples_run() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("here");
    let run = |name: &str, arguments: &[&str]| {
        let output = example(name, arguments).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run("digits", &["120", "20"]).contains("Dec: accuracy "));
    assert!(run("table", &[]).contains("the centroids are (3, 10) values"));
    assert!(run("save_and_load", &[text(&here)]).contains("new rows are in the clusters"));
    assert!(here.join("model.pt").exists());
}
