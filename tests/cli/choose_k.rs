//! `dec choose-k` and `--clusters auto`: the number of clusters, found in one pretrained autoencoder.

use serde_json::Value;

use crate::support::{each, events, uniform, without_times, write_npy, Ran, Running, Scratch, RUN_FILES, SMALL};

/// A scratch directory with 240 rows of 5 features in 4 clouds of normal numbers (sums of twelve uniform ones).
fn four_clouds() -> Scratch {
    let scratch = Scratch::new();
    let mut uniform = uniform(1);
    let mut rows = Vec::new();
    for row in 0..240 {
        for column in 0..5 {
            let noise = (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
            rows.push(noise + if column == row % 4 { 12.0 } else { 0.0 });
        }
    }
    write_npy(&scratch.path("rows.npy"), &[240, 5], &rows);
    write_npy(&scratch.path("y.npy"), &[240], &(0..240).map(|row| row % 4).collect::<Vec<i64>>());
    write_npy(&scratch.path("wrong.npy"), &[240], &(0..240).map(|row| row * 7 % 11).collect::<Vec<i64>>());
    scratch
}

/// [`SMALL`] without its number of clusters.
fn small() -> impl Iterator<Item = &'static str> {
    SMALL.into_iter().filter(|option| !option.starts_with("--clusters"))
}

fn choose(scratch: &Scratch, out: &str, more: &[&str]) -> Ran {
    let small: Vec<&str> = small().collect();
    scratch.dec([&["choose-k"], &small[..], &["--range=2..8", "--out", out], more].concat())
}

/// What a directory says of the choice, without times.
fn choice(scratch: &Scratch, out: &str) -> Value {
    let mut choice = scratch.json(&format!("{out}/choose-k.json"));
    without_times(&mut choice);
    choice
}

#[test]
fn the_number_of_clouds_is_found_and_told_in_every_form() {
    let scratch = four_clouds();
    let ran = choose(&scratch, "run", &[]).ok();
    assert_eq!(scratch.names("run"), ["choose-k.csv", "choose-k.json", "choose-k.svg", "config.toml", "events.jsonl"]);

    let found = choice(&scratch, "run");
    assert_eq!(found["recommended"], 4, "{ran:#?}");
    assert!(found["margin"].as_f64().unwrap() > 0.2, "{found}");
    let ks: Vec<u64> = found["trials"].as_array().unwrap().iter().map(|trial| trial["k"].as_u64().unwrap()).collect();
    assert_eq!(ks, [2, 3, 4, 5, 6, 7, 8]);

    let marked: Vec<&str> = ran.stdout.lines().filter(|line| line.contains("<--")).collect();
    assert!(marked.len() == 1 && marked[0].starts_with("4 "), "{ran:#?}");
    assert!(ran.stdout.contains("recommended: 4 clusters"), "{ran:#?}");
    let csv = scratch.text("run/choose-k.csv");
    let chosen: Vec<&str> = csv.lines().filter(|line| line.ends_with(",1")).collect();
    assert!(csv.lines().count() == 8 && chosen.len() == 1 && chosen[0].starts_with("4,"), "{csv}");
    let svg = scratch.text("run/choose-k.svg");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    assert!(scratch.text("run/config.toml").contains("n_clusters = 4"));
}

#[test]
fn the_same_seed_gives_the_same_answer_whatever_the_labels() {
    let scratch = four_clouds();
    for (out, more) in [("a", &[][..]), ("b", &[]), ("c", &["--labels=y.npy"]), ("d", &["--labels=wrong.npy"])] {
        choose(&scratch, out, more).ok();
        assert_eq!(choice(&scratch, out), choice(&scratch, "a"), "{out}");
    }
    choose(&scratch, "a", &[]).failed(2, &["holds", "--force"]);
    choose(&scratch, "a", &["--force", "--seed=1"]).ok();
    assert_eq!(choice(&scratch, "a")["seed"], 1);
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let scratch = four_clouds();
    choose(&scratch, "run", &["--clusters=3"]).failed(2, &["--range", "--clusters"]);
    for (range, words) in [("--range=8..2", "as in 5..20"), ("--range=1..4", "as in 5..20")] {
        let ran = scratch.dec(["choose-k"].into_iter().chain(small()).chain([range]));
        assert!(ran.code == Some(2) && ran.stderr.contains(words), "{ran:#?}");
    }
    let beyond = scratch.dec(["choose-k"].into_iter().chain(small()).chain(["--range=2..25", "--out=run"]));
    beyond.failed(2, &["24 clusters at most"]);
    scratch.dec(["config", "-k", "auto"]).failed(2, &["dec choose-k"]);
    let ran = scratch.dec(["rows.npy", "-k", "some"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("or auto"), "{ran:#?}");
    assert!(!scratch.path("run").exists(), "refused before a directory is made");
}

#[test]
fn ctrl_c_ends_it_and_leaves_no_answer() {
    let scratch = four_clouds();
    let args = ["choose-k"].into_iter().chain(small()).chain(["--set=pretrain.epochs=10000000", "--out=run"]);
    let mut running = Running::start(scratch.command(args));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["pretrain_1", "epoch"]);
    running.signal("INT");
    running.end().failed(130, &["interrupted before the number of clusters was found"]);
    assert_eq!(scratch.names("run"), ["events.jsonl"]);
    choose(&scratch, "run", &[]).ok(); // into the same directory
}

/// Training with `auto` pretrains once, and is the same run as one that was given the number.
#[test]
fn auto_trains_as_if_the_number_had_been_given() {
    let scratch = four_clouds();
    for (out, clusters) in [("auto", "--clusters=auto"), ("given", "--clusters=4")] {
        scratch.dec(small().chain([clusters, "--out", out])).ok();
    }
    let mut files = Vec::from(RUN_FILES);
    files.extend(["choose-k.csv", "choose-k.json", "choose-k.svg"]);
    files.sort_unstable();
    assert_eq!(scratch.names("auto"), files);
    for name in ["assignments.csv", "weights.safetensors", "model.pt", "config.toml"] {
        assert!(scratch.read(&format!("auto/{name}")) == scratch.read(&format!("given/{name}")), "{name}");
    }
    let summary = scratch.json("auto/summary.json");
    let stages = each(&summary["stages"], "name");
    assert_eq!(stages.iter().filter(|stage| **stage == "pretrain_1").count(), 1, "{stages:?}");
    assert!(stages.iter().position(|stage| *stage == "choose_k") < stages.iter().position(|stage| *stage == "cluster"));
    assert_eq!(summary["n_clusters"], 4);
}

#[test]
fn auto_goes_on_after_a_stop_with_the_number_that_was_found() {
    let scratch = four_clouds();
    let endless = ["--set=cluster.max_rounds=10000000", "--set=cluster.patience=0", "--clusters=auto", "--out=run"];
    let mut running = Running::start(scratch.command(small().chain(endless)));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["cluster", "\"round\":3"]);
    running.signal("INT");
    running.end().failed(130, &["dec resume run"]);
    let rounds = |lines: &[Value]| lines.iter().filter(|line| line["event"] == "round").count();
    let before = rounds(&events(&scratch.text("run/events.jsonl")));
    scratch.dec(["resume", "run", "--set=cluster.patience=1"]).failed(2, &["cluster.patience"]);
    let mut resumed = Running::start(scratch.command(["resume", "run"]));
    resumed.wait_for_line(&scratch.path("run/events.jsonl"), &["cluster", &format!("\"round\":{}", before + 50)]);
    resumed.signal("INT");
    resumed.end().failed(130, &["dec resume run"]);
    let lines = events(&scratch.text("run/events.jsonl"));
    assert!(rounds(&lines) >= before + 50);
    assert_eq!(lines.iter().filter(|line| line["event"] == "stage" && line["stage"] == "pretrain_1").count(), 1);
    assert!(scratch.text("run/config.toml").contains("n_clusters = 4"));
}
