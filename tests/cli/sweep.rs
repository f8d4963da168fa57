//! `dec sweep`: every combination, one table.

use std::time::{Duration, Instant};

use crate::support::{events, without_times, write_npy, Ran, Running, Scratch, SMALL};

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
    assert_eq!(shown[0], ["cluster.lr", "seed", "status", "score", "acc", "nmi", "ari", "inertia", "seconds"]);
    assert_eq!(shown.len(), 5, "{ran:#?}");
    let mut grid: Vec<_> = shown[1..].iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let scores: Vec<f64> = shown[1..].iter().map(|row| row[3].parse().unwrap()).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "sorted by score: {ran:#?}");
    grid.sort();
    let expected = [("0.01", "0"), ("0.01", "1"), ("0.05", "0"), ("0.05", "1")];
    assert_eq!(grid, expected.map(|(lr, seed)| (lr.to_owned(), seed.to_owned())));

    // The CSV is the same table, and the scores are those of the members.
    let csv: Vec<Vec<String>> =
        scratch.text("sweep/sweep.csv").lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
    assert_eq!(csv, shown);
    for row in &shown[1..] {
        let summary = scratch.json(&format!("sweep/cluster.lr={},seed={}/summary.json", row[0], row[1]));
        assert_eq!(format!("{:.4}", summary["results"][2]["acc"].as_f64().unwrap()), row[4]);
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

/// Two settings: one that matters from self-training on, one that k-means before it reads.
const TWO_GROUPS: &str = "\"cluster.max_rounds\" = [2, 3]\n\"kmeans.n_init\" = [2, 3]";

/// What a run told, without times and without how its log came about.
fn told(scratch: &Scratch, run: &str) -> Vec<serde_json::Value> {
    let mut told = events(&scratch.text(&format!("{run}/events.jsonl")));
    told.retain(|event| !["resumed", "shared"].iter().any(|other| event["event"] == **other));
    told.iter_mut().for_each(without_times);
    told
}

/// The same files, summaries and events, but for times.
fn assert_same_run(scratch: &Scratch, a: &str, b: &str) {
    for file in ["assignments.csv", "weights.safetensors", "model.pt"] {
        assert!(scratch.read(&format!("{a}/{file}")) == scratch.read(&format!("{b}/{file}")), "{a} and {b}: {file}");
    }
    assert_eq!(told(scratch, a), told(scratch, b), "{a} and {b}");
    let summary = |run: &str| {
        let mut summary = scratch.json(&format!("{run}/summary.json"));
        without_times(&mut summary);
        summary
    };
    assert_eq!(summary(a), summary(b), "{a} and {b}");
}

fn members(scratch: &Scratch) -> Vec<String> {
    let recipes = scratch.names("sweep/recipes").into_iter();
    recipes.map(|name| name.strip_suffix(".toml").unwrap().to_owned()).collect()
}

/// Runs each member alone, from the recipe that the sweep gave it, in `alone/`; saving has no say in what comes of it.
fn alone(scratch: &Scratch) -> Vec<String> {
    let names = members(scratch);
    for name in &names {
        let (recipe, out) = (format!("--config=sweep/recipes/{name}.toml"), format!("--out=alone/{name}"));
        scratch.dec([recipe.as_str(), &out, "--set=checkpoint.every_secs=60"]).ok();
    }
    names
}

#[test]
fn what_members_have_in_common_is_trained_once_with_the_bits_of_each_alone() {
    let scratch = with_sweep(TWO_GROUPS);
    let ran = sweep(&scratch).ok();
    assert_eq!(ran.stderr.matches("the autoencoder from autoencoder-").count(), 1, "{ran:#?}");
    assert_eq!(ran.stderr.matches("all before self-training from start-").count(), 2, "{ran:#?}");
    let names = alone(&scratch);
    assert_eq!(names.len(), 4);
    names.iter().for_each(|name| assert_same_run(&scratch, &format!("sweep/{name}"), &format!("alone/{name}")));
    let page = scratch.text("sweep/sweep.html");
    assert!(page.contains("<b>3 parts</b>") && page.contains(">autoencoder-"), "{page}");

    // Damaged parts are trained again, with a word, and the result is the same.
    for part in scratch.names("sweep/shared") {
        let dir = format!("sweep/shared/{part}/checkpoints");
        for name in scratch.names(&dir).iter().filter(|name| name.ends_with(".safetensors")) {
            let path = scratch.path(&format!("{dir}/{name}"));
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let member = &names[0];
    std::fs::remove_dir_all(scratch.path(&format!("sweep/{member}"))).unwrap();
    let again = sweep(&scratch).ok();
    assert!(again.stderr.contains("is passed over: its tensors are damaged"), "{again:#?}");
    assert!(!again.stderr.contains("which another run has trained"), "{again:#?}");
    assert_same_run(&scratch, &format!("sweep/{member}"), &format!("alone/{member}"));
    std::fs::remove_dir_all(scratch.path(&format!("sweep/{member}"))).unwrap();
    let healed = sweep(&scratch).ok();
    assert!(healed.stderr.contains("all before self-training from start-"), "{healed:#?}");
}

#[test]
fn several_at_once_do_not_train_the_same_and_say_which_of_them_speaks() {
    let scratch = with_sweep(TWO_GROUPS);
    let ran = scratch.dec(["sweep", "--config=s.toml", "--out=sweep", "--jobs=4"]).ok();
    assert_eq!(ran.stderr.matches("which another run has trained").count(), 3, "{ran:#?}");
    for line in ran.stderr.lines().filter(|line| !line.is_empty()) {
        assert!(line.starts_with('[') && line.contains("/4] "), "{line}");
    }
    let names = alone(&scratch);
    names.iter().for_each(|name| assert_same_run(&scratch, &format!("sweep/{name}"), &format!("alone/{name}")));
    assert!(scratch.text(&format!("sweep/recipes/{}.toml", names[0])).contains("threads = 1"));
    scratch.dec(["sweep", "--config=s.toml", "--jobs=0"]).failed(2, &["--jobs", "0"]);
}

/// Killed in the middle of pretraining and again behind it: what was reached is not trained again.
#[cfg(target_os = "linux")]
#[test]
fn a_sweep_that_is_killed_goes_on_where_it_was() {
    let settings = "\"cluster.max_rounds\" = [2, 3]\n\"cluster.anchor\" = [0.0, 0.2]\n\"pretrain.epochs\" = [60]\n\"checkpoint.every_secs\" = [0]";
    let scratch = with_sweep(settings);
    let start = |jobs: &str| Running::start(scratch.command(["sweep", "--config=s.toml", "--out=sweep", jobs]));
    let first = scratch.path("sweep/cluster.anchor=0.0,cluster.max_rounds=2/events.jsonl");
    let mut killed = start("--jobs=2");
    killed.wait_for_line(&first, &["pretrain_2", "epoch"]);
    killed.signal("KILL");
    killed.end();
    let mut killed = start("--jobs=2"); // while what the first has left behind may still be saving
    killed.wait_for_line(&first, &["cluster", "round"]);
    killed.signal("KILL");
    killed.end();
    let ended = start("--jobs=2").end().ok();
    assert_eq!(table(&ended).len(), 5, "{ended:#?}");

    let names = alone(&scratch);
    for name in &names {
        assert_same_run(&scratch, &format!("sweep/{name}"), &format!("alone/{name}"));
        let log = scratch.text(&format!("sweep/{name}/events.jsonl"));
        let begun =
            events(&log).iter().filter(|event| event["event"] == "shared" || event["event"] == "resumed").count();
        assert!(begun > 0, "none but the first begins from nothing, and that one went on: {name}");
    }
}

#[test]
fn labels_do_not_choose() {
    let scratch = with_sweep(
        "\"cluster.lr\" = [0.01, 0.05, 2.0]\nseed = [0, 1]\n\"pretrain.epochs\" = [1]\n\"finetune.epochs\" = [1]",
    );
    let order = |ran: &Ran, width: usize| -> Vec<Vec<String>> {
        table(ran)[1..].iter().map(|row| row[..width].to_vec()).collect()
    };
    let labelled = scratch.dec(["sweep", "--config=s.toml", "--out=a"]);
    // Labels that are wrong, and none.
    let wrong: Vec<i64> = (0..180).map(|row| row / 60).collect();
    write_npy(&scratch.path("wrong.npy"), &[180], &wrong);
    let misled = scratch.dec(["sweep", "--config=s.toml", "--out=b", "--labels=wrong.npy"]);
    let recipe = scratch.text("s.toml");
    let without: String =
        recipe.lines().filter(|line| !line.starts_with("labels = ")).map(|line| format!("{line}\n")).collect();
    assert_ne!(without, recipe);
    std::fs::write(scratch.path("s.toml"), without).unwrap();
    let unlabelled = scratch.dec(["sweep", "--config=s.toml", "--out=c"]);
    let width = 6; // settings, status and score
    assert_eq!(order(&labelled, width), order(&misled, width));
    assert_eq!(order(&labelled, width), order(&unlabelled, width));
    assert_ne!(order(&labelled, width + 1), order(&misled, width + 1), "the accuracies differ");
    assert!(table(&unlabelled)[0].contains(&"silhouette".to_owned()));
}

#[test]
fn members_are_drawn_from_lists_and_ranges() {
    let scratch = with_sweep("\"cluster.lr\" = { min = 1e-3, max = 1e-1, log = true }\nseed = [0, 1, 2]");
    sweep(&scratch).failed(2, &["sweep.cluster.lr is a range", "--random N"]);
    let random = |n: &str| scratch.dec(["sweep", "--config=s.toml", "--out=sweep", n]);
    random("--random=2").ok();
    let more = random("--random=3").ok();
    assert_eq!(more.stderr.matches("finished before").count(), 2, "a larger search goes on: {more:#?}");
    assert_eq!(table(&more).len(), 4);
    random("--random=0").failed(2, &["--random 0"]);
}

#[test]
fn the_best_third_goes_on_to_more_rows() {
    let scratch = with_sweep(
        "\"cluster.lr\" = [0.01, 0.02, 0.05]\n\"cluster.tol\" = [0.0, 0.001, 0.002]\n\"pretrain.epochs\" = [2]",
    );
    let value = |i: usize| (i / 8 % 3) as f32 * 4.0 - 4.0 + (i as f32 * 12.9898).sin() + (i as f32 * 78.233).cos();
    write_npy(&scratch.path("rows.npy"), &[900, 8], &(0..900 * 8).map(value).collect::<Vec<f32>>());
    write_npy(&scratch.path("y.npy"), &[900], &(0..900).map(|row| row % 3).collect::<Vec<i64>>());
    let halving = || scratch.dec(["sweep", "--config=s.toml", "--out=sweep", "--halving", "--jobs=2"]).ok();
    let ran = halving();
    assert!(ran.stderr.contains("rung 1 of 2: 9 members on 300 rows"), "{ran:#?}");
    assert!(ran.stderr.contains("rung 2 of 2: 3 members on 900 rows"), "{ran:#?}");
    let shown = table(&ran);
    assert_eq!(shown[0][..5], ["cluster.lr", "cluster.tol", "pretrain.epochs", "rows", "status"]);
    let rows: Vec<&str> = shown[1..].iter().map(|row| row[3].as_str()).collect();
    assert_eq!(rows, ["900", "900", "900", "300", "300", "300", "300", "300", "300"]);
    assert_eq!(scratch.names("sweep/rungs/300").len(), 10, "nine, and their recipes");
    assert_eq!(scratch.names("sweep").iter().filter(|name| name.starts_with("cluster.lr=")).count(), 3);

    let before = scratch.tree();
    let again = halving();
    assert_eq!(again.stderr.matches("finished before").count(), 12, "{again:#?}");
    assert!(scratch.tree() == before, "nothing is trained twice");
    let recipe = scratch.text("s.toml");
    for (key, values) in [("data.limit", "[90, 180]"), ("seed", "[0, 1]")] {
        std::fs::write(scratch.path("s.toml"), format!("{recipe}{key:?} = {values}\n")).unwrap();
        scratch.dec(["sweep", "--config=s.toml", "--out=sweep", "--halving"]).failed(2, &[key, "[sweep]"]);
    }
}

/// A value may be anything, such as the name of a file.
#[test]
fn hostile_names_are_text_on_the_page() {
    let hostile = "<img src=x onerror=alert(1)>\u{202e}&\\\"'.npy";
    let scratch = with_sweep(&format!("\"data.source\" = [\"rows.npy\", {}]", toml_string(hostile)));
    std::fs::copy(scratch.path("rows.npy"), scratch.path(hostile)).unwrap();
    let ran = scratch.dec(["sweep", "--config=s.toml", "--out=sweep", "--set=output.report=true"]).ok();
    assert_eq!(table(&ran).len(), 3, "{ran:#?}");
    let page = scratch.text("sweep/sweep.html").replace("&#x2f;", "/");
    assert!(!page.contains("<img") && !page.contains('\u{202e}') && page.contains("&lt;img"), "{page}");
    assert_eq!(page.matches("<script>").count(), 1);
    let links: Vec<&str> = page.split("href=\"./").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 2, "{page}");
    let path = links[0].replace("%3D", "=");
    assert!(scratch.path(&format!("sweep/{path}")).is_file(), "{path}");
}

fn toml_string(text: &str) -> String {
    serde_json::to_string(text).unwrap() // a JSON string is a TOML string
}
