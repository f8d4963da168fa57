//! `dec sweep`: every combination, one table.

use std::time::{Duration, Instant};

use crate::support::{Ran, Running, Scratch, SMALL};

/// A scratch directory with `s.toml`: [`SMALL`] on the labelled blobs, and this `[sweep]`.
fn with_sweep(sweep: &str) -> Scratch {
    let scratch = Scratch::blobs();
    let recipe = scratch.dec(["config", "--labels=y.npy"].iter().chain(&SMALL)).ok().stdout;
    std::fs::write(scratch.path("s.toml"), format!("{recipe}\n[sweep]\n{sweep}\n")).unwrap();
    scratch
}

fn sweep(scratch: &Scratch) -> Ran {
    scratch.dec(["sweep", "--config=s.toml", "--out=sweep"])
}

/// The table on stdout: header and rows, as cells.
fn table(ran: &Ran) -> Vec<Vec<String>> {
    let lines = ran.stdout.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with('─'));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn a_sweep_runs_the_grid_sorts_by_score_and_skips_what_is_finished() {
    let scratch = with_sweep("seed = [0, 1]\n\"cluster.lr\" = [0.01, 0.05]");
    let ran = sweep(&scratch).ok();
    let shown = table(&ran);
    assert_eq!(shown[0], ["cluster.lr", "seed", "status", "acc", "nmi", "ari", "inertia", "seconds"]);
    assert_eq!(shown.len(), 5, "{ran:#?}");
    let mut grid: Vec<_> = shown[1..].iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let scores: Vec<f64> = shown[1..].iter().map(|row| row[3].parse().unwrap()).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "sorted by ACC: {ran:#?}");
    grid.sort();
    let expected = [("0.01", "0"), ("0.01", "1"), ("0.05", "0"), ("0.05", "1")];
    assert_eq!(grid, expected.map(|(lr, seed)| (lr.to_owned(), seed.to_owned())));

    // The CSV is the same table, and the scores are those of the members.
    let csv: Vec<Vec<String>> =
        scratch.text("sweep/sweep.csv").lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
    assert_eq!(csv, shown);
    for row in &shown[1..] {
        let summary = scratch.json(&format!("sweep/cluster.lr={},seed={}/summary.json", row[0], row[1]));
        assert_eq!(format!("{:.4}", summary["results"][2]["acc"].as_f64().unwrap()), row[3]);
        assert_eq!((summary["status"].as_str().unwrap(), row[2].as_str()), ("finished", "finished"));
    }

    // The second time everything is there already.
    let before = scratch.tree();
    let again = sweep(&scratch).ok();
    assert_eq!(again.stderr.matches("finished before").count(), 4, "{again:#?}");
    assert_eq!(table(&again), shown);
    assert!(scratch.tree() == before, "nothing is written anew, times included");

    // A member that is gone is run again, and no other.
    std::fs::remove_dir_all(scratch.path("sweep/cluster.lr=0.01,seed=1")).unwrap();
    let again = sweep(&scratch).ok();
    assert_eq!(again.stderr.matches("finished before").count(), 3, "{again:#?}");
    let lost = scratch.path("sweep/cluster.lr=0.01,seed=1/assignments.csv");
    assert_eq!(Some(&Some(std::fs::read(&lost).unwrap())), before.get(&lost), "the same bits as before");
}

#[test]
fn a_member_that_fails_leaves_the_others_alone() {
    let scratch = with_sweep("\"pretrain.lr\" = [1e30, 0.05]");
    let ran = sweep(&scratch);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("1 of 2 members failed: pretrain.lr="), "{ran:#?}");
    assert!(ran.stderr.contains("pretrain_1 diverged"), "the member says why: {ran:#?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:#?}");

    let shown = table(&ran);
    assert_eq!(shown.len(), 3, "{ran:#?}");
    assert_eq!(shown[1][..2], ["0.05", "finished"], "the one with a score comes first: {ran:#?}");
    assert_eq!(shown[2][1], "failed");
    assert!(scratch.path("sweep/pretrain.lr=0.05/model.pt").exists());

    let again = sweep(&scratch);
    assert_eq!(again.code, Some(4), "{again:#?}");
    assert_eq!(again.stderr.matches("finished before").count(), 1, "only what failed is tried again: {again:#?}");
}

#[test]
fn a_changed_recipe_is_run_again() {
    let scratch = with_sweep("seed = [4]");
    sweep(&scratch).ok();
    let changed = scratch.dec(["sweep", "--config=s.toml", "--out=sweep", "--set=finetune.epochs=2"]).ok();
    assert!(!changed.stderr.contains("finished before"), "{changed:#?}");
    assert!(scratch.text("sweep/seed=4/config.toml").contains("[finetune]\nepochs = 2\n"));
}

/// A member whose settings changed and that now fails before it trains is not taken for the finished one it was.
#[test]
fn a_member_that_now_fails_is_not_reported_by_its_old_summary() {
    let scratch = with_sweep("seed = [0]");
    sweep(&scratch).ok();
    let recipe = scratch.text("s.toml").replace("n_clusters = 3", "n_clusters = 4");
    std::fs::write(scratch.path("s.toml"), recipe).unwrap();
    std::fs::remove_file(scratch.path("rows.npy")).unwrap();
    let ran = sweep(&scratch);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert_eq!(table(&ran)[1][..2], ["0", "failed"], "{ran:#?}");
    assert!(ran.stderr.contains("rows.npy"), "the member says why: {ran:#?}");
}

/// Two sweeps in one directory would train everything twice, into the same files.
#[test]
fn a_second_sweep_in_the_same_directory_is_refused_and_told_who_is_there() {
    let scratch = with_sweep("\"pretrain.epochs\" = [10000000]\nseed = [0, 1]");
    let mut first = Running::start(scratch.command(["sweep", "--config=s.toml", "--out=sweep"]));
    first.wait_for_line(&scratch.path("sweep/seed=0/events.jsonl"), &["pretrain_1", "epoch"]);
    assert!(scratch.text("sweep/.lock").starts_with(&format!("pid {}\n", first.id())));
    let lines = scratch.text("sweep/seed=0/events.jsonl").lines().count();
    sweep(&scratch)
        .failed(2, &["sweep: another dec", &format!("process {} on ", first.id()), "since 2", "another directory"]);
    assert!(scratch.text("sweep/seed=0/events.jsonl").lines().count() >= lines, "the first goes on");

    first.signal("TERM");
    assert_eq!(first.end().code, Some(143));
    assert!(!scratch.path("sweep/.lock").exists());
}

/// A sweep that is killed takes its member with it, which saves what it has; its lock blocks nobody.
#[cfg(target_os = "linux")]
#[test]
fn the_member_of_a_killed_sweep_ends_and_the_next_sweep_begins() {
    let scratch = with_sweep("\"pretrain.epochs\" = [10000000]\nseed = [0, 1]");
    let mut killed = Running::start(scratch.command(["sweep", "--config=s.toml", "--out=sweep"]));
    killed.wait_for_line(&scratch.path("sweep/seed=0/events.jsonl"), &["pretrain_1", "epoch"]);
    let member = child_of(killed.id());
    killed.signal("KILL");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !scratch.path("sweep/seed=0/summary.json").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    if !scratch.path("sweep/seed=0/summary.json").exists() {
        crate::support::send("KILL", &member);
        panic!("the member goes on without its sweep");
    }
    assert_eq!(scratch.json("sweep/seed=0/summary.json")["status"], "interrupted");
    assert!(!killed.end().stderr.contains("panicked"));

    assert!(scratch.path("sweep/.lock").exists());
    let recipe = scratch.text("s.toml").replace("10000000", "2");
    std::fs::write(scratch.path("s.toml"), recipe).unwrap();
    assert_eq!(table(&sweep(&scratch).ok()).len(), 3);
    assert!(!scratch.path("sweep/.lock").exists());
}

/// The one child of a process.
#[cfg(target_os = "linux")]
fn child_of(parent: u32) -> String {
    let is_child = |pid: &String| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    let pids = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    pids.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).find(is_child).expect("a child")
}

#[test]
fn a_grid_that_is_too_large_is_refused_at_once() {
    let list = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let scratch = with_sweep(&format!("seed = [{}]\n\"kmeans.n_init\" = [{}]", list(1000), list(1000)));
    let ran = sweep(&scratch);
    ran.failed(2, &["1000000 combinations (1000 × 1000)", "10000 at most"]);
    assert!(!scratch.path("sweep").exists());
}

/// Fifteen settings of one value each make a name of 300 bytes, which no file system takes.
#[test]
fn many_settings_of_one_value_make_no_long_names() {
    let keys = [
        "cluster.batch_size",
        "cluster.epochs_per_round",
        "cluster.gamma",
        "cluster.label_smoothing",
        "cluster.reset_momentum",
        "cluster.train_after_tol",
        "finetune.batch_size",
        "finetune.lr_decay_factor",
        "finetune.weight_decay",
        "kmeans.max_iter",
        "pretrain.batch_size",
        "pretrain.lr_decay_factor",
        "pretrain.weight_decay",
        "start.n_neighbours",
        "data.limit",
    ];
    let value = |key: &str| match key {
        key if key.contains("reset") || key.contains("after") => "false",
        key if key.contains("gamma") || key.contains("smoothing") || key.contains("weight_decay") => "0.1",
        key if key.contains("factor") => "10.0",
        _ => "64",
    };
    let single: String = keys.iter().map(|key| format!("\"{key}\" = [{}]\n", value(key))).collect();
    let ran = sweep(&with_sweep(&format!("{single}seed = [0, 1]"))).ok();
    assert!(ran.stderr.contains("[2/2] seed=1: finished"), "{ran:#?}");

    let scratch = with_sweep(&single);
    sweep(&scratch).ok();
    let names = scratch.names("sweep");
    let member = names.iter().find(|name| name.starts_with("cluster.batch_size=64,")).unwrap();
    assert_eq!(member.len(), 120);
    assert_eq!(scratch.json(&format!("sweep/{member}/summary.json"))["status"], "finished");
    assert!(sweep(&scratch).ok().stderr.contains("finished before"), "the next sweep finds it");
}
