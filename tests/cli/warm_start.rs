//! `--warm-start`: new rows, the old clusters under their numbers, new ones if there are any.

use crate::support::{blobs, each, uniform, write_npy, Running, Scratch};

/// A run on three clouds, and `new.npy`: 180 rows like those, moved a little, and `more` rows of a fourth cloud.
fn after_a_run(more: usize) -> Scratch {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let (mut rows, _) = blobs();
    let mut random = uniform(5);
    let mut uniform = || random() - 0.5;
    let spread = rows.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    rows.iter_mut().for_each(|value| *value += 0.001 * spread * uniform());
    for _ in 0..more {
        rows.extend((0..8).map(|column| spread * (if column % 2 == 0 { 1.2 } else { -1.2 } + 0.1 * uniform())));
    }
    write_npy(&scratch.path("new.npy"), &[180 + more as u64, 8], &rows);
    scratch
}

/// The second column of a table of assignments.
fn clusters(scratch: &Scratch, file: &str) -> Vec<String> {
    let text = scratch.text(file);
    text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn old_clusters_keep_their_numbers_and_names_and_new_ones_are_found() {
    let scratch = after_a_run(60);
    scratch.dec(["rename", "run", "1=middle"]).ok();
    scratch.dec(["predict", "run", "new.npy", "-o", "before.csv"]).ok();
    let ran = scratch.dec(["new.npy", "--warm-start", "run", "--out", "warm"]).ok();
    assert!(ran.stderr.contains("3 clusters, and 1 new"), "{ran:#?}");

    let summary = scratch.json("warm/summary.json");
    assert_eq!((&summary["n_clusters"], &summary["names"]["1"]), (&4.into(), &"middle".into()), "{summary}");
    let (before, after) = (clusters(&scratch, "before.csv"), clusters(&scratch, "warm/assignments.csv"));
    assert_eq!(before[..180], after[..180]);
    assert!(after[180..].iter().all(|cluster| cluster == "3"), "{after:?}");
    assert_eq!(each(&summary["stages"], "name"), ["kmeans_raw", "start", "cluster"], "nothing is pretrained");

    // The predictor is one of four clusters, and a start itself.
    scratch.dec(["predict", "warm", "new.npy", "-o", "predicted.csv"]).ok();
    assert_eq!(clusters(&scratch, "predicted.csv"), after);
    let again = scratch.dec(["rows.npy", "--warm-start", "warm", "--out", "again"]).ok();
    assert!(again.stderr.contains("4 clusters, and 0 new"), "{again:#?}");
    assert_eq!(clusters(&scratch, "again/assignments.csv"), after[..180]);
}

#[test]
fn a_run_that_started_from_another_is_repeated_and_resumed() {
    let scratch = after_a_run(60);
    let stopped = ["new.npy", "--warm-start", "run", "--set=checkpoint.every_secs=0"];
    scratch.dec(stopped.into_iter().chain(["--out", "warm"])).ok();
    scratch.dec(["--config", "warm/config.toml", "--out", "twice"]).ok();
    let again = scratch.dec(stopped.into_iter().chain(["--out", "warm", "--resume-if-there"])).ok();
    assert!(again.stderr.contains("finished before"), "{again:#?}");
    let weights = scratch.read("warm/weights.safetensors");
    assert_eq!(weights, scratch.read("twice/weights.safetensors"));

    let long = "--set=cluster.max_rounds=400";
    let mut running = Running::start(scratch.command(stopped.into_iter().chain(["--out", "killed", long])));
    running.wait_for_line(&scratch.path("killed/events.jsonl"), &["\"round\"", "\"round\":3"]);
    running.signal("KILL");
    running.end();
    scratch.dec(["resume", "killed"]).ok();
    scratch.dec(stopped.into_iter().chain(["--out", "whole", long])).ok();
    assert_eq!(scratch.read("killed/weights.safetensors"), scratch.read("whole/weights.safetensors"));

    let mut stopping = Running::start(scratch.command(stopped.into_iter().chain(["--out", "stopped", long])));
    stopping.wait_for_line(&scratch.path("stopped/events.jsonl"), &["\"round\":3"]);
    stopping.signal("KILL");
    stopping.end();
    scratch.train("run", &["--force", "--seed=5"]);
    scratch.dec(["resume", "stopped"]).failed(2, &["start.from", "other weights"]);
    // What has finished does not need the run that it started from.
    std::fs::remove_dir_all(scratch.path("run")).unwrap();
    let evaluated = scratch.dec(["evaluate", "warm", "--labels", "warm/assignments.csv"]);
    assert!(!evaluated.stderr.contains("run/"), "{evaluated:#?}");
    assert!(scratch.dec(["report", "warm"]).ok().stderr.is_empty());
}

#[test]
fn what_cannot_be_a_start_is_refused_in_words() {
    let scratch = after_a_run(0);
    let refused = |args: &[&str], code: i32, words: &str| {
        let ran = scratch.dec(args.iter().copied().chain(["--out", "warm"]));
        ran.failed(code, &[words]);
        assert!(!scratch.path("warm").exists(), "nothing is left");
    };
    refused(&["new.npy", "--warm-start", "nowhere"], 3, "nowhere");
    refused(&["new.npy", "--warm-start", "run", "-k", "4"], 2, "--clusters");
    write_npy(&scratch.path("narrow.npy"), &[60, 3], &(0..180).map(|i| (i * 7 % 11) as f32).collect::<Vec<_>>());
    refused(&["new.npy", "--warm-start", "run", "--set=n_clusters=4"], 2, "leave the number of clusters out");
    let same = scratch.dec(["new.npy", "--warm-start", "run", "--out", "run", "--force"]);
    same.failed(2, &["is the run to start from", "--out"]);
    refused(&["narrow.npy", "--warm-start", "run"], 3, "8");
    scratch.dec(["merge", "run", "--to", "2", "--out", "merged"]).ok();
    refused(&["new.npy", "--warm-start", "merged"], 2, "start from the run that they are of");
}
