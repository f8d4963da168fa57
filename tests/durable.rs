//! Real runs, killed with SIGKILL at random moments and inside writes, on a disk that is full, by two at once: what is on disk is
//! whole, and a resumed run ends with the same bits.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "cli/support.rs"]
#[allow(dead_code)]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{events, without_times, Ran, Running, Scratch, RUN_FILES, SMALL};

/// A run through every kind of stage that takes a few seconds in a debug build.
const LONGER: [&str; 9] = [
    "--set=start.method=spectral",
    "--set=start.networks=2",
    "--set=start.over_clustering=[3.0]",
    "--set=start.over_clustering_epochs=40",
    "--set=pretrain.epochs=40",
    "--set=finetune.epochs=40",
    "--set=cluster.max_rounds=40",
    "--set=cluster.handover_epochs=10",
    "--seed=7",
];

/// Fault injection is in debug builds alone.
fn can_inject() -> bool {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: faults are injected in debug builds alone");
    }
    cfg!(debug_assertions)
}

fn run(scratch: &Scratch, out: &str, more: &[&str]) -> Command {
    scratch.command(SMALL.iter().chain(&LONGER).chain(&["--out", out]).chain(more))
}

fn ran(mut command: Command) -> Ran {
    Ran::from(command.output().unwrap())
}

/// Events and summary without times and without marks of resuming.
fn told(scratch: &Scratch, run: &str) -> Vec<Value> {
    let mut all: Vec<Value> =
        events(&scratch.text(&format!("{run}/events.jsonl"))).into_iter().filter(|e| e["event"] != "resumed").collect();
    all.push(scratch.json(&format!("{run}/summary.json")));
    all.iter_mut().for_each(without_times);
    all
}

fn assert_same(scratch: &Scratch, run: &str, reference: &str, what: &str) {
    for file in ["assignments.csv", "weights.safetensors", "model.pt"] {
        let read = |run: &str| scratch.read(&format!("{run}/{file}"));
        assert!(read(run) == read(reference), "{what}: {file} differs");
    }
    assert_eq!(told(scratch, run), told(scratch, reference), "{what}");
    assert_eq!(scratch.names(run), RUN_FILES, "{what}: no checkpoint, lock or temporary file is left");
}

fn has_checkpoint(scratch: &Scratch, out: &str) -> bool {
    let found = fs::read_dir(scratch.path(out).join("checkpoints"));
    found.is_ok_and(|found| found.flatten().any(|entry| entry.path().extension().is_some_and(|end| end == "json")))
}

/// Resumes until the run has finished; a run that was killed before its first checkpoint begins anew.
fn finish(scratch: &Scratch, out: &str, what: &str) {
    if has_checkpoint(scratch, out) {
        scratch.dec(["resume", out]).ok();
    } else if !scratch.path(out).join("summary.json").exists() {
        ran(run(scratch, out, &[])).ok();
    }
    assert_same(scratch, out, "reference", what);
}

#[test]
fn killed_at_random_moments_it_goes_on_with_the_same_bits() {
    let scratch = Scratch::blobs();
    let started = Instant::now();
    ran(run(&scratch, "reference", &[])).ok();
    let length = started.elapsed();
    for kill in 0..10u32 {
        let out = format!("killed-{kill}");
        // Checkpoints after every piece in half of the runs, after stages alone in the others.
        let every = if kill % 2 == 0 { "--set=checkpoint.every_secs=0" } else { "--set=checkpoint.every_secs=60" };
        let mut child = run(&scratch, &out, &[every]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Evenly over the run, with an offset that differs from test to test.
        let offset = f64::from(std::process::id() % 100) / 100.0;
        std::thread::sleep(length.mul_f64((f64::from(kill) + offset) / 10.0));
        let _ = child.kill();
        child.wait().unwrap();
        finish(&scratch, &out, &format!("kill {kill} of 10"));
    }
}

#[test]
fn killed_inside_a_write_it_goes_on_with_the_same_bits() {
    if !can_inject() {
        return;
    }
    let scratch = Scratch::blobs();
    ran(run(&scratch, "reference", &[])).ok();
    for (kill, operation) in [1, 2, 4, 6, 8, 11, 40, 77, 160, 300].into_iter().enumerate() {
        let out = format!("killed-{kill}");
        let mut command = run(&scratch, &out, &["--set=checkpoint.every_secs=0"]);
        let ended = command.env("DEC_TEST_FAULT", format!("kill:{operation}")).output().unwrap();
        assert_eq!(ended.status.code(), None, "operation {operation}: killed by a signal: {ended:?}");
        // A second time while it resumes.
        if has_checkpoint(&scratch, &out) {
            let mut again = scratch.command(["resume", &out]);
            let _ = again.env("DEC_TEST_FAULT", "kill:9").output().unwrap();
        }
        finish(&scratch, &out, &format!("killed at operation {operation}"));
    }
}

/// SIGTERM in each stage: saved, and the same bits after resuming.
#[test]
fn stopped_in_each_stage_it_is_resumed() {
    let scratch = Scratch::blobs();
    ran(run(&scratch, "reference", &[])).ok();
    for (number, (stage, signal, code)) in [
        ("kmeans_raw", "INT", 130),
        ("pretrain_2", "TERM", 143),
        ("finetune", "HUP", 129),
        ("\"network\":2", "INT", 130),
        ("over_9", "TERM", 143),
        ("\"round\":3", "HUP", 129),
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("stopped-{number}");
        let mut running = Running::start(run(&scratch, &out, &[]));
        running.wait_for_line(&scratch.path(&format!("{out}/events.jsonl")), &[stage]);
        running.signal(signal);
        let ended = running.end();
        if ended.code == Some(0) {
            continue; // it was faster than the signal
        }
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert!(ended.stderr.contains(&format!("dec resume {out}")), "{ended:#?}");
        assert_eq!(scratch.json(&format!("{out}/summary.json"))["status"], "interrupted");
        finish(&scratch, &out, stage);
    }
}

#[test]
fn a_changed_world_is_refused_by_name_and_later_settings_may_change() {
    let scratch = Scratch::blobs();
    let mut running = Running::start(run(&scratch, "run", &["--set=pretrain.epochs=100000", "--labels=y.npy"]));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["pretrain_1", "\"epoch\":3"]);
    running.signal("TERM");
    assert_eq!(running.end().code, Some(143));
    let before = scratch.tree();

    let refused = |args: &[&str], threads: &str, words: &[&str]| {
        let mut command = scratch.command(["resume", "run"].iter().chain(args));
        let ended = ran({
            command.env("OMP_NUM_THREADS", threads);
            command
        });
        ended.failed(2, words);
        assert!(scratch.tree() == before, "{words:?}: something was changed");
    };
    refused(&[], "2", &["1 threads", "2", "--threads 1"]);
    refused(&["--set=seed=9"], "1", &["seed", "new run"]);
    refused(&["--set=pretrain.lr=0.1"], "1", &["pretrain.lr"]);
    refused(&["--set=model.hidden=[3]"], "1", &["model.hidden"]);
    refused(&["--set=nothing=9"], "1", &["nothing"]);

    let rows = scratch.read("rows.npy");
    let mut other = rows.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(scratch.path("rows.npy"), other).unwrap();
    let ended = scratch.dec(["resume", "run"]);
    ended.failed(2, &["rows.npy", "SHA-256"]);
    fs::write(scratch.path("rows.npy"), rows).unwrap();

    // It trains on for a moment, with later settings changed, and stops again.
    let changes = ["resume", "run", "--set=cluster.max_rounds=2", "--set=checkpoint.keep=3"];
    let mut running = Running::start(scratch.command(changes));
    running.wait_for_line(&scratch.path("run/config.toml"), &["max_rounds = 2"]);
    running.signal("INT");
    assert_eq!(running.end().code, Some(130));
    assert!(scratch.text("run/config.toml").contains("max_rounds = 2"));
}

#[test]
fn a_scheduler_can_start_the_same_command_again() {
    let scratch = Scratch::blobs();
    let command = |more: &[&str]| run(&scratch, "run", &[&["--resume-if-there"], more].concat());
    let mut running = Running::start(command(&[]));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["pretrain_2"]);
    running.signal("TERM");
    running.end();
    ran(command(&["--set=finetune.epochs=3"])).failed(2, &["other settings", "--force"]);
    let second = ran(command(&[])).ok();
    assert!(second.stderr.contains("going on in run") || second.stderr.contains("finished before"), "{second:#?}");
    let before = scratch.tree();
    let third = ran(command(&[])).ok();
    assert!(third.stderr.contains("finished before"), "{third:#?}");
    assert!(scratch.tree() == before);
    ran(run(&scratch, "run", &[])).failed(2, &["results", "--force"]);
    scratch.dec(["resume", "run"]).failed(2, &["has finished"]);
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let scratch = Scratch::blobs();
    let mut running = Running::start(run(&scratch, "run", &["--set=pretrain.epochs=100000"]));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["pretrain_1", "\"epoch\":2"]);
    let pid = running.id().to_string();
    for args in [vec!["resume", "run"], SMALL.iter().copied().chain(["--out=run", "--force"]).collect()] {
        scratch.dec(args).failed(2, &["run", &pid]);
    }
    running.signal("TERM");
    assert_eq!(running.end().code, Some(143));
}

/// A disk that is full from some write on, and one that is full for a while.
#[test]
fn a_full_disk_costs_nothing_but_what_cannot_be_saved() {
    if !can_inject() {
        return;
    }
    let scratch = Scratch::blobs();
    ran(run(&scratch, "reference", &[])).ok();
    // For a while: checkpoints fail and come back, and the run ends as if nothing had been.
    let mut command = run(&scratch, "a-while", &["--set=checkpoint.every_secs=0"]);
    let ended = Ran::from(command.env("DEC_TEST_FAULT", "full:30:60").output().unwrap()).ok();
    assert!(ended.stderr.contains("No space left") && ended.stderr.contains("training goes on"), "{ended:#?}");
    assert!(ended.stderr.contains("again"), "{ended:#?}");
    assert_same(&scratch, "a-while", "reference", "a disk that was full");

    // For good: exit code 5, every file named, the older checkpoint still there and whole.
    let mut command = run(&scratch, "full", &["--set=checkpoint.every_secs=0"]);
    let ended = Ran::from(command.env("DEC_TEST_FAULT", "full:60").output().unwrap());
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    for file in ["assignments.csv", "weights.safetensors", "model.pt", "summary.json"] {
        assert!(ended.stderr.contains(file), "{file}: {ended:#?}");
        assert!(!scratch.path("full").join(file).exists());
    }
    assert!(!ended.stderr.contains(".dec-"), "{ended:#?}");
    finish(&scratch, "full", "resumed once there is room");
}

/// The same on a real file system of 200 kB, where one can be mounted.
#[test]
fn a_small_file_system_is_survived() {
    let scratch = Scratch::blobs();
    let disk = scratch.path("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let unmount = |_: &Path| Command::new("umount").arg("-l").arg(&disk).status().unwrap();
    let ended = ran(run(&scratch, "disk/run", &["--set=model.hidden=[64, 64, 128]", "--set=start.networks=1"]));
    let names = scratch.names("disk/run");
    let whole = names.iter().all(|name| !name.starts_with(".dec-"));
    unmount(&disk);
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    assert!(ended.stderr.contains("MB free") && ended.stderr.contains("training goes on"), "{ended:#?}");
    assert!(names.contains(&"assignments.csv".to_owned()) && names.contains(&"summary.json".to_owned()), "{names:?}");
    assert!(whole, "{names:?}");
}

/// The directory is deleted, or made read-only, while the run trains.
#[test]
fn a_directory_that_vanishes_is_told_and_made_again_for_the_results() {
    let scratch = Scratch::blobs();
    let mut running = Running::start(run(&scratch, "run", &[]));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["pretrain_1"]);
    fs::rename(scratch.path("run"), scratch.path("elsewhere")).unwrap();
    let ended = running.end();
    let ended = ended.ok();
    assert!(ended.stderr.contains("training goes on") && ended.stderr.contains("made again"), "{ended:#?}");
    let names = scratch.names("run");
    assert!(RUN_FILES.iter().all(|file| names.iter().any(|name| name == file) || *file == "events.jsonl"), "{names:?}");
}

/// SIGUSR1 saves and goes on.
#[test]
fn a_checkpoint_can_be_asked_for() {
    let scratch = Scratch::blobs();
    let mut running =
        Running::start(run(&scratch, "run", &["--set=checkpoint.every_secs=100000", "--set=pretrain.epochs=100000"]));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["pretrain_1", "\"epoch\":2"]);
    let before = scratch.names("run/checkpoints");
    running.signal("USR1");
    let deadline = Instant::now() + Duration::from_secs(20);
    while scratch.names("run/checkpoints") == before {
        assert!(Instant::now() < deadline, "no checkpoint came");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.signal("TERM");
    assert_eq!(running.end().code, Some(143));
}

/// `tests/golden/run-1` is what the first version of the program wrote (format 1, without checkpoints).
#[test]
fn a_run_of_the_first_format_is_read_or_refused_by_its_number() {
    let scratch = Scratch::blobs();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/run-1");
    fs::create_dir(scratch.path("run")).unwrap();
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, scratch.path("run").join(path.file_name().unwrap())).unwrap();
    }
    let here = scratch.path("rows.npy").display().to_string();
    let config = scratch.text("run/config.toml").replace("rows.npy", &here); // as absolute as it was
    fs::write(scratch.path("run/config.toml"), config).unwrap();
    // predict reads its model, and gives the clusters that it was saved with.
    let predicted = scratch.dec(["predict", "-m", "run/model.pt", "rows.npy", "--device=cpu"]).ok();
    let clusters = |csv: &str| support::assignments(csv).iter().map(|a| (a.0, a.1)).collect::<Vec<_>>();
    assert_eq!(clusters(&predicted.stdout), clusters(&scratch.text("run/assignments.csv")));
    // It has finished: there is nothing to resume, and the same recipe need not be run again.
    scratch.dec(["resume", "run"]).failed(2, &["has finished"]);
    let again = scratch.dec(["--config=run/config.toml", "--out=run", "--resume-if-there"]).ok();
    assert!(again.stderr.contains("finished before"), "{again:#?}");
    // One that was interrupted kept nothing to go on with.
    let summary = scratch.text("run/summary.json").replace("\"finished\"", "\"interrupted\"");
    fs::write(scratch.path("run/summary.json"), summary).unwrap();
    scratch.dec(["resume", "run"]).failed(2, &["format 1", "kept no checkpoints", "--config run/config.toml"]);
}

/// One row far from all others: self-training would put all rows into one cluster. The start is kept, and the exit code says it.
#[test]
fn a_collapse_keeps_the_start() {
    let scratch = Scratch::new();
    let noise = |i: usize| (i as f32 * 12.9898).sin() + (i as f32 * 78.233).cos();
    let centre = |row: usize, column: usize| [0.0, 7.0, if column % 2 == 1 { 7.0 } else { 0.0 }][row % 3];
    let mut rows: Vec<f32> = (0..600 * 8).map(|i| centre(i / 8, i % 8) + noise(i)).collect();
    rows[..8].fill(1e6);
    support::write_npy(&scratch.path("absurd.npy"), &[600, 8], &rows);
    let labels: Vec<i64> = (0..600).map(|row| row % 3).collect();
    support::write_npy(&scratch.path("y.npy"), &[600], &labels);
    let ended = scratch.dec([
        "--data=absurd.npy",
        "--labels=y.npy",
        "-k3",
        "--device=cpu",
        "--set=model.hidden=[50, 100]",
        "--set=start.networks=1",
        "--out=run",
    ]);
    let summary = scratch.json("run/summary.json");
    let csv = support::assignments(&scratch.text("run/assignments.csv"));
    let mut sizes = [0; 3];
    csv.iter().for_each(|assigned| sizes[assigned.1 as usize] += 1);
    if ended.code == Some(0) {
        // Self-training held: then its clusters are those of the rows.
        assert!(sizes.iter().all(|&size| size > 150), "{sizes:?}: {ended:#?}");
        return;
    }
    assert_eq!(ended.code, Some(4), "{ended:#?}");
    assert!(ended.stderr.contains("collapsed") && ended.stderr.contains("first assignment is kept"), "{ended:#?}");
    assert_eq!(summary["status"], "failed");
    assert!(sizes.iter().all(|&size| size > 150), "the start's clusters: {sizes:?}");
    assert!(!scratch.path("run/checkpoints").exists(), "there is nothing to go on with");
}
