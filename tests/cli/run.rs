//! `dec`: from rows to a run directory.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{assignments, each, events, without_times, write_npy, Scratch, RUN_FILES};

/// A few hundred of the built-in digits and a network that is quick on them; libtorch's threads as they are by default.
const DIGITS: [&str; 17] = [
    "--set=output.report=false",
    "--config=notebook",
    "--data=builtin",
    "--set=data.scale=auto",
    "--set=cluster.epochs_per_round=1",
    "--set=cluster.train_after_tol=false",
    "--device=cpu",
    "--set=data.limit=300",
    "--set=model.hidden=[60, 60, 120]",
    "--set=model.init_std=0.05",
    "--set=pretrain.epochs=3",
    "--set=finetune.epochs=3",
    "--set=kmeans.n_init=2",
    "--set=kmeans.max_iter=20",
    "--set=cluster.max_rounds=3",
    "--set=cluster.tol=0",
    "--set=pretrain.batch_size=128",
];

/// The default recipe on as little, every stage of it.
const DEFAULT: [&str; 9] = [
    "--device=cpu",
    "--set=data.limit=400",
    "--set=model.hidden=[60, 60, 120]",
    "--set=pretrain.epochs=4",
    "--set=kmeans.n_init=2",
    "--set=start.networks=2",
    "--set=start.over_clustering_epochs=2",
    "--set=cluster.handover_epochs=2",
    "--set=cluster.max_rounds=3",
];

#[test]
fn labels_touch_no_bit_of_the_default_recipe() {
    let scratch = Scratch::new();
    let shuffled: Vec<i64> = (0..10_000).map(|row| row * 7 % 10).collect();
    write_npy(&scratch.path("shuffled.npy"), &[10_000], &shuffled);
    let train = |out: &str, more: &[&str]| scratch.dec(DEFAULT.iter().chain(&["--out", out]).chain(more)).ok();
    let own = train("own", &[]).stdout;
    let other = train("other", &["--labels=shuffled.npy"]).stdout;
    assert_ne!(own, other, "the scores are of the labels");
    for file in ["assignments.csv", "model.pt", "weights.safetensors"] {
        assert!(scratch.read(&format!("own/{file}")) == scratch.read(&format!("other/{file}")), "{file} differs");
    }
    let summary = scratch.json("own/summary.json");
    let stages = each(&summary["stages"], "name");
    let network = ["pretrain", "start", "over_40", "start"];
    assert_eq!(stages, [&["kmeans_raw", "pretrain", "kmeans"], &network[1..], &network[..], &["cluster"]].concat());
    assert_eq!(each(&summary["results"], "method"), ["kmeans", "autoencoder_kmeans", "start", "dec"]);
}

/// Each is trained like the first, from other weights, and all have a say.
#[test]
fn several_networks_vote_on_the_start() {
    let scratch = Scratch::new();
    let train = |networks: &str| {
        let setting = format!("start.networks={networks}");
        scratch.dec(DEFAULT.iter().copied().chain(["--out", networks, "--set", &setting])).ok()
    };
    assert!(!train("1").stderr.contains("network "));
    assert!(train("auto").stderr.contains("network 3 of 3"));
    let two = train("2").stderr;
    assert!(two.contains("network 2 of 2") && !two.contains("network 1 of"), "{two}");
    let [one, two] = ["1", "2"].map(|out| scratch.json(&format!("{out}/summary.json"))["results"].clone());
    let acc = |results: &Value, place: usize| results[place]["acc"].as_f64().unwrap();
    assert_eq!(acc(&one, 1), acc(&two, 1), "a second network changes nothing about the first");
    assert_ne!(acc(&one, 2), acc(&two, 2), "the second has no say");
    let losses = |out: &str| -> Vec<f64> {
        let all = events(&scratch.text(&format!("{out}/events.jsonl")));
        let pretraining = all.iter().filter(|event| event["event"] == "epoch" && event["stage"] == "pretrain");
        pretraining.map(|event| event["loss"].as_f64().unwrap()).collect()
    };
    let (one, two) = (losses("1"), losses("2"));
    assert_eq!(one, two[..one.len()]);
    assert!(two.len() == 2 * one.len() && two[one.len()] != one[0], "{two:?}");
}

/// What no augmentation of images connects is not over-clustered.
#[test]
fn rows_that_are_no_augmented_images_start_without_over_clustering() {
    let scratch = Scratch::new();
    for (out, setting) in [("noise", "augment.kind=noise"), ("still", "cluster.augment=false")] {
        scratch.dec(DEFAULT.iter().copied().chain(["--out", out, "--set", setting])).ok();
        let summary = scratch.json(&format!("{out}/summary.json"));
        let stages = each(&summary["stages"], "name");
        assert!(!stages.iter().any(|stage| stage.starts_with("over")), "{stages:?}");
    }
}

/// `run/model.pt` gives `rows.npy`, raw, the clusters of `run/assignments.csv`.
fn assert_predicts_its_assignments(scratch: &Scratch) {
    let predicted = scratch.dec(["predict", "--model=run/model.pt", "rows.npy"]).ok().stdout;
    let labels = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(',').nth(1).unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(labels(&predicted), labels(&String::from_utf8(scratch.read("run/assignments.csv")).unwrap()));
}

/// Features in units of their own count alike, and the predictor knows of it.
#[test]
fn a_table_of_many_units_is_standardised() {
    let scratch = Scratch::blobs();
    let (rows, _) = crate::support::blobs();
    let unit = |place: usize| [1.0f32, 2e5, 1e-4, 30.0, 1.0, 7.0, 1e3, 0.01][place % 8];
    let rows: Vec<f32> =
        rows.iter().enumerate().map(|(place, value)| value * unit(place) + 3.0 * unit(place)).collect();
    write_npy(&scratch.path("rows.npy"), &[180, 8], &rows);
    let small = crate::support::SMALL;
    let run = scratch.dec(small.iter().copied().chain(["--labels=y.npy", "--out=run", "-v"])).ok();
    assert!(run.stderr.contains("standardised"), "{}", run.stderr);
    let summary = scratch.json("run/summary.json");
    assert!(summary["results"].as_array().unwrap().iter().all(|result| result["acc"].as_f64().unwrap() > 0.9));
    assert_eq!(summary["scale"], Value::Null);
    let weights = tch::Tensor::read_safetensors(scratch.path("run/weights.safetensors")).unwrap();
    let shape = |name: &str| weights.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor.size());
    assert_eq!((shape("input.mean"), shape("input.deviation")), (Some(vec![8]), Some(vec![8])));
    assert_predicts_its_assignments(&scratch);
}

/// Counts are found, whatever the rows' totals, and the predictor takes them raw.
#[test]
fn counts_are_brought_to_one_total() {
    let scratch = Scratch::blobs();
    let (n, d) = (180usize, 60usize);
    // Feature j of a row of kind c counts in proportion to 1/(1 + x), x its rank for this kind; totals of 1 to 5 times.
    let count = |i: usize, j: usize| {
        let rank = (j * 7 + i % 3 * 20) % d;
        let noise = 1.0 + 0.3 * ((i * 37 + j * 61) as f32).sin();
        (noise * 12.0 * (1 + i % 5) as f32 / (1 + rank) as f32).round()
    };
    let rows: Vec<f32> = (0..n * d).map(|place| count(place / d, place % d)).collect();
    write_npy(&scratch.path("rows.npy"), &[n as u64, d as u64], &rows);
    let labels: Vec<i64> = (0..n as i64).map(|i| i % 3).collect();
    write_npy(&scratch.path("y.npy"), &[n as u64], &labels);
    let small = crate::support::SMALL;
    let run = scratch.dec(small.iter().copied().chain(["--labels=y.npy", "--out=run", "-v"])).ok();
    assert!(run.stderr.contains("look like counts"), "{}", run.stderr);
    let summary = scratch.json("run/summary.json");
    assert!(summary["results"].as_array().unwrap().iter().all(|result| result["acc"].as_f64().unwrap() > 0.9));
    assert_predicts_its_assignments(&scratch);
}

/// Every objective and every start, on rows that are no images.
#[test]
fn objectives_and_starts_run_on_rows_of_any_kind() {
    let scratch = Scratch::blobs();
    let small = crate::support::SMALL;
    let cases: [&[&str]; 7] = [
        &["cluster.objective=idec", "augment.kind=noise", "cluster.optimiser=adamw", "cluster.lr=1e-3"],
        &["cluster.objective=aspc", "augment.kind=time_shift", "cluster.optimiser=adam", "cluster.lr=1e-3"],
        &["start.method=gmm", "start.networks=2", "cluster.handover_epochs=1", "cluster.reset_momentum=true"],
        &["start.method=kmeans", "start.networks=3"],
        &["start.method=spectral", "start.over_clustering=[3.0]", "start.over_clustering_epochs=1"],
        &["start.method=spectral", "start.n_vectors=3", "cluster.update_interval_steps=2", "cluster.max_rounds=auto"],
        &["pretrain.method=end_to_end", "pretrain.dropout=0", "finetune.epochs=0", "augment.image=[2, 4]"],
    ];
    for (place, settings) in cases.iter().enumerate() {
        let out = format!("run-{place}");
        let sets = settings.iter().flat_map(|setting| ["--set", setting]);
        let more = ["--out", &out, "--labels=y.npy"];
        scratch.dec(small.iter().copied().chain(sets).chain(more)).ok();
        let summary = scratch.json(&format!("{out}/summary.json"));
        let results = summary["results"].as_array().unwrap();
        let acc = results.last().unwrap()["acc"].as_f64().unwrap();
        assert!(acc > 0.9, "{settings:?}: {acc}");
    }
}

fn digits(scratch: &Scratch, out: &str, seed: &str) -> String {
    let mut command = scratch.command(DIGITS.iter().chain(&["--out", out, "--seed", seed]));
    let output = command.env_remove("OMP_NUM_THREADS").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
    let scratch = Scratch::new();
    let table = digits(&scratch, "a", "5");
    digits(&scratch, "b", "5");
    digits(&scratch, "c", "6");

    assert_eq!(scratch.names("a"), RUN_FILES);
    for file in ["assignments.csv", "config.toml", "model.pt", "weights.safetensors"] {
        let read = |run: &str| scratch.read(&format!("{run}/{file}"));
        assert!(read("a") == read("b"), "{file} differs");
        assert!(read("a") != read("c"), "{file} knows nothing of the seed");
    }
    let timeless = |run: &str| {
        let mut all = events(&scratch.text(&format!("{run}/events.jsonl")));
        all.push(scratch.json(&format!("{run}/summary.json")));
        all.iter_mut().for_each(without_times);
        all
    };
    assert_eq!(timeless("a"), timeless("b"));

    check_table(&table);
    check_summary(&scratch.json("a/summary.json"));
    check_events(&events(&scratch.text("a/events.jsonl")));
    check_assignments(&scratch.text("a/assignments.csv"));
    check_weights(&scratch.read("a/weights.safetensors"));

    // The saved labels are those of the saved weights.
    let predicted = scratch.dec(["predict", "--model", "a/model.pt", "builtin", "--device=cpu"]).ok();
    let predicted = assignments(&predicted.stdout);
    assert_eq!(predicted.len(), 10_000);
    for (row, cluster, confidence) in assignments(&scratch.text("a/assignments.csv")) {
        assert_eq!((predicted[row].0, predicted[row].1), (row, cluster));
        assert!((predicted[row].2 - confidence).abs() < 1e-4, "row {row}");
    }
}

fn check_table(stdout: &str) {
    let lines: Vec<&str> = stdout.lines().collect();
    let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["method", "ACC", "NMI", "ARI", "inertia", "seconds"], "{stdout}");
    for (line, method) in [(2, "k-means on the scaled rows"), (3, "autoencoder + k-means"), (4, "DEC")] {
        assert!(lines[line].starts_with(method), "{stdout}");
        let cells = &words(line)[method.split(' ').count()..];
        assert_eq!(cells.len(), 5, "{stdout}");
        assert!(cells.iter().all(|cell| cell.parse::<f64>().is_ok()), "{stdout}");
        let acc: f64 = cells[0].parse().unwrap();
        assert!((0.1..=1.0).contains(&acc), "{stdout}");
    }
    assert_eq!(lines[6], "run directory: a", "{stdout}");
}

fn check_summary(summary: &Value) {
    assert_eq!(summary["status"], "finished");
    assert_eq!(each(&summary["results"], "method"), ["kmeans", "autoencoder_kmeans", "dec"]);
    for result in summary["results"].as_array().unwrap() {
        for score in ["acc", "nmi", "ari"] {
            let score = result[score].as_f64().unwrap();
            assert!((-0.5..=1.0).contains(&score), "{result}");
        }
        assert!(result["inertia"].as_f64().unwrap() > 0.0 && result["seconds"].as_f64().unwrap() > 0.0, "{result}");
    }

    let names = ["kmeans_raw", "pretrain_1", "pretrain_2", "pretrain_3", "pretrain_4", "finetune", "kmeans", "cluster"];
    assert_eq!(each(&summary["stages"], "name"), names);
    // 300 rows: 3 steps an epoch at 128 a batch, 2 at 256.
    let steps: Vec<u64> = summary["stages"].as_array().unwrap().iter().map(|s| s["steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 9, 9, 9, 9, 6, 2, 6]);
    let times: f64 = summary["stages"].as_array().unwrap().iter().map(|s| s["seconds"].as_f64().unwrap()).sum();
    assert!(times > 0.0 && times <= summary["seconds"].as_f64().unwrap(), "{summary}");

    for (key, expected) in
        [("n_rows", 300), ("n_features", 784), ("n_latent", 10), ("n_clusters", 10), ("seed", 5), ("rounds", 3)]
    {
        assert_eq!(summary[key], expected, "{key}");
    }
    assert_eq!(summary["device"], "cpu");
    assert_eq!(summary["converged"], false);
    assert_eq!(summary["versions"]["libtorch"], "2.11.0");
    assert_eq!(summary["versions"]["dec"], env!("CARGO_PKG_VERSION"));
    assert!(summary["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
}

fn check_events(events: &[Value]) {
    let of = |event: &str, stage: &str| -> Vec<&Value> {
        events.iter().filter(|e| e["event"] == event && e["stage"] == stage).collect()
    };
    for stage in ["pretrain_1", "pretrain_2", "pretrain_3", "pretrain_4", "finetune"] {
        let epochs = of("epoch", stage);
        let numbers: Vec<_> = epochs.iter().map(|e| e["epoch"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3], "{stage}");
        assert!(epochs.iter().all(|e| e["loss"].as_f64().unwrap() > 0.0 && e["seconds"].is_number()), "{stage}");
    }
    let rounds = of("round", "cluster");
    let numbers: Vec<_> = rounds.iter().map(|e| e["round"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(rounds.iter().all(|e| (0.0..=1.0).contains(&e["changed"].as_f64().unwrap())));
}

fn check_assignments(csv: &str) {
    let all = assignments(csv);
    assert_eq!(all.len(), 300);
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "the rows ascend");
    assert!(all.iter().any(|&(row, ..)| row >= 300), "the 300 are drawn from all 10,000");
    assert!(all.iter().all(|&(row, cluster, q)| row < 10_000 && (0..10).contains(&cluster) && q > 0.0 && q <= 1.0));
}

/// The header of a safetensors file: a length, then JSON with names and shapes.
fn check_weights(bytes: &[u8]) {
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&rest[..length]).unwrap();
    let shapes: BTreeMap<&str, Vec<u64>> = header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, tensor)| {
            assert_eq!(tensor["dtype"], "F32");
            (name.as_str(), tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect())
        })
        .collect();
    let widths = [784, 60, 60, 120, 10];
    let of_training = [("medians", 10), ("quantiles", 512), ("shares", 10), ("confidence", 1)];
    let mut expected: BTreeMap<String, Vec<u64>> =
        of_training.into_iter().map(|(name, length)| (format!("training.{name}"), vec![length])).collect();
    expected.insert("centroids".to_owned(), vec![10, 10]);
    for (i, pair) in widths.windows(2).enumerate() {
        let (encoder, decoder) = (2 * i, 2 * (3 - i)); // a ReLU has the odd number; the decoder mirrors the encoder
        expected.insert(format!("encoder.{encoder}.weight"), vec![pair[1], pair[0]]);
        expected.insert(format!("encoder.{encoder}.bias"), vec![pair[1]]);
        expected.insert(format!("decoder.{decoder}.weight"), vec![pair[0], pair[1]]);
        expected.insert(format!("decoder.{decoder}.bias"), vec![pair[0]]);
    }
    let expected: BTreeMap<&str, Vec<u64>> = expected.iter().map(|(name, s)| (name.as_str(), s.clone())).collect();
    assert_eq!(shapes, expected);
}

#[test]
fn labels_score_and_change_nothing_else() {
    let scratch = Scratch::blobs();
    write_npy(&scratch.path("wrong.npy"), &[180], &(0..180).map(|row| i64::from(row < 90)).collect::<Vec<_>>());
    let none = scratch.train("none", &[]);
    let right = scratch.train("right", &["--labels=y.npy"]);
    let wrong = scratch.train("wrong", &["--labels=wrong.npy"]);

    for file in ["assignments.csv", "model.pt", "weights.safetensors"] {
        let expected = scratch.read(&format!("none/{file}"));
        assert!(expected == scratch.read(&format!("right/{file}")), "{file}");
        assert!(expected == scratch.read(&format!("wrong/{file}")), "{file}");
    }
    let rows: Vec<_> = assignments(&scratch.text("none/assignments.csv")).iter().map(|a| a.0).collect();
    assert_eq!(rows, (0..180).collect::<Vec<_>>());

    let header = |stdout: &str| stdout.lines().next().unwrap().to_owned();
    assert!(header(&none.stdout).contains("silhouette") && !none.stdout.contains("ACC"), "{}", none.stdout);
    assert!(header(&right.stdout).contains("ACC") && !right.stdout.contains("silhouette"), "{}", right.stdout);

    let scores = |run: &str, score: &str| -> Vec<Option<f64>> {
        let summary = scratch.json(&format!("{run}/summary.json"));
        summary["results"].as_array().unwrap().iter().map(|result| result[score].as_f64()).collect()
    };
    assert_eq!(scores("none", "acc"), [None; 3]);
    assert!(scores("none", "silhouette").iter().all(|s| s.is_some_and(|s| s > 0.3)), "clouds apart");
    assert_eq!(scores("none", "inertia"), scores("right", "inertia"));
    assert_eq!(scores("right", "acc")[0], Some(1.0), "k-means finds three clouds that are apart");
    assert!(scores("wrong", "acc").iter().all(|acc| acc.is_some_and(|acc| acc < 0.7)), "{}", wrong.stdout);
}

#[test]
fn the_saved_recipe_repeats_the_run() {
    let scratch = Scratch::blobs();
    scratch.train("first", &["--labels=y.npy", "--seed=3"]);
    scratch.dec(["--config=first/config.toml", "--out=second"]).ok();
    for file in ["assignments.csv", "config.toml", "model.pt", "weights.safetensors"] {
        assert!(scratch.read(&format!("first/{file}")) == scratch.read(&format!("second/{file}")), "{file}");
    }
}

#[test]
fn the_run_directory_is_named_for_the_recipe_unless_told_otherwise() {
    let scratch = Scratch::blobs();
    let small = crate::support::SMALL;
    let recipe = scratch.dec(["config"].iter().chain(&small)).ok().stdout;
    std::fs::write(scratch.path("mine.toml"), recipe).unwrap();
    let ran = scratch.dec(["--config", "mine.toml"]).ok();
    let [name] = &scratch.names("runs")[..] else { panic!("one run: {ran:#?}") };
    let time = name.strip_prefix("mine-").unwrap();
    assert!(time.len() == 15 && time.bytes().all(|b| b.is_ascii_digit() || b == b'-'), "{name}");
    assert!(ran.stdout.ends_with(&format!("\nrun directory: runs/{name}\n")), "{}", ran.stdout);
    assert_eq!(scratch.names(&format!("runs/{name}")), RUN_FILES);

    // --force writes over a run, and touches nothing else in its directory.
    let out = format!("runs/{name}");
    std::fs::write(scratch.path(&out).join("notes.txt"), "mine").unwrap();
    let before = scratch.read(&format!("{out}/assignments.csv"));
    scratch.train(&out, &["--force", "--seed=9"]);
    assert_ne!(scratch.read(&format!("{out}/assignments.csv")), before);
    assert_eq!(scratch.text(&format!("{out}/notes.txt")), "mine");
    assert_eq!(scratch.names(&out).len(), RUN_FILES.len() + 1, "no temporary file is left");
}

#[test]
fn progress_goes_to_stderr_as_lines_and_quiet_is_quiet() {
    let scratch = Scratch::blobs();
    let plain = scratch.train("plain", &[]);
    for stage in ["kmeans_raw", "pretrain_1", "pretrain_4", "finetune", "kmeans", "cluster"] {
        let of_stage = plain.stderr.lines().filter(|line| line.split_whitespace().next() == Some(stage)).count();
        assert!(of_stage >= 2, "a line as {stage} begins and one as it ends: {}", plain.stderr);
    }
    assert!(!plain.stderr.contains(['\u{1b}', '\r']), "no control codes off a terminal: {:?}", plain.stderr);
    assert!(plain.stderr.contains("180 rows of 8 features, 3 clusters"), "{}", plain.stderr);

    let quiet = scratch.train("quiet", &["--quiet"]);
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.contains("DEC"), "the results still come: {}", quiet.stdout);

    let verbose = scratch.train("verbose", &["-v"]);
    assert!(verbose.stderr.lines().count() > plain.stderr.lines().count(), "{}", verbose.stderr);
}

#[test]
fn training_that_diverges_says_where_and_what_to_lower() {
    let scratch = Scratch::blobs();
    for (key, stage, saved) in [
        ("pretrain.lr=1e30", "pretrain_1", vec!["kmeans"]),
        ("finetune.lr=1e30", "finetune", vec!["kmeans"]),
        ("cluster.lr=1e30", "cluster", vec!["kmeans", "autoencoder_kmeans"]),
    ] {
        let (out, section) = (stage, key.split('=').next().unwrap());
        let more = ["--set", key, "--set=guard.max_rollbacks=0", "--out", out];
        let ran = scratch.dec(crate::support::SMALL.iter().chain(&more));
        ran.failed(4, &[stage, &format!("--set {section}=")]);
        assert!(ran.stdout.contains("k-means on the scaled rows") && !ran.stdout.contains("DEC"), "{ran:#?}");
        let summary = scratch.json(&format!("{out}/summary.json"));
        assert_eq!(summary["status"], "failed");
        assert!(summary["error"].as_str().unwrap().contains(stage), "{summary}");
        assert_eq!(each(&summary["results"], "method"), saved, "{key}");
        assert!(!scratch.names(out).contains(&"assignments.csv".to_owned()), "no clusters of weights that are NaN");
    }
}

#[test]
fn an_autoencoder_that_collapses_is_named() {
    let scratch = Scratch::blobs();
    let ran = scratch.dec(crate::support::SMALL.iter().chain(&["--set", "model.init_std=1e-30", "--out=run"]));
    ran.failed(4, &["collapsed", "latent rows", "--set "]);
    assert_eq!(scratch.json("run/summary.json")["status"], "failed");
}
