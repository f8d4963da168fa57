//! `report.html`, `dec report`, `dec watch` and `--tensorboard`.

use std::fs;

use crate::support::*;

/// The last of an option counts.
const REPORT: &str = "--set=output.report=true";

#[test]
fn a_run_leaves_a_report_which_can_be_made_again() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[REPORT]);
    let page = scratch.path("run/report.html");
    let first = fs::read_to_string(&page).unwrap();
    assert!(first.contains("<h1") && first.contains("3 clusters") && !first.contains("src=\"http"), "a page");
    assert!(first.contains("UMAP") && first.contains("column 0"), "the map, and the columns that tell clusters apart");
    fs::remove_file(&page).unwrap();
    scratch.dec(["report", "run"]).ok();
    assert_eq!(fs::read_to_string(&page).unwrap(), first, "the same, from what the run left");

    // Without its rows the run still has something to tell.
    fs::rename(scratch.path("rows.npy"), scratch.path("gone.npy")).unwrap();
    let ran = scratch.dec(["report", "run", "-o", "without.html"]).ok();
    assert!(ran.stderr.contains("without what needs the rows"), "{}", ran.stderr);
    let without = fs::read_to_string(scratch.path("without.html")).unwrap();
    assert!(without.contains("3 clusters") && !without.contains("UMAP"));
}

#[test]
fn several_runs_stand_beside_each_other() {
    let scratch = Scratch::blobs();
    for seed in ["0", "1"] {
        scratch.train(&format!("run{seed}"), &["--seed", seed]);
    }
    scratch.dec(["report", "run0", "run1"]).failed(2, &["--output"]);
    scratch.dec(["report", "run0", "run1", "-o", "both.html"]).ok();
    let page = fs::read_to_string(scratch.path("both.html")).unwrap();
    assert!(page.contains("run0") && page.contains("run1") && page.contains("1.00"), "names and agreement");
    // Each cluster is found in the other run, under the name that it has there.
    let labels = |run: &str| {
        let text = fs::read_to_string(scratch.path(&format!("{run}/assignments.csv"))).unwrap();
        text.lines().nth(1).unwrap().split(',').nth(1).unwrap().to_owned()
    };
    let (here, there) = (labels("run0"), labels("run1"));
    scratch.dec(["rename", "run1", &format!("{there}=quarks & gluons")]).ok();
    fs::create_dir(scratch.path("elsewhere")).unwrap();
    scratch.dec(["report", "run0", "run1", "-o", "named.html"]).ok();
    let page = fs::read_to_string(scratch.path("named.html")).unwrap();
    let row = page.lines().find(|line| line.contains("quarks")).unwrap();
    assert!(row.contains(&format!("<bdi>{here}</bdi>")) && row.contains("quarks &amp; gluons</bdi> 100"), "{row}");
    fs::rename(scratch.path("run1"), scratch.path("elsewhere/run0")).unwrap();
    scratch.dec(["report", "run0", "elsewhere/run0", "-o", "same.html"]).ok();
    let page = fs::read_to_string(scratch.path("same.html")).unwrap();
    assert!(page.contains("<bdi>elsewhere&#x2f;run0</bdi>"), "runs of the same name go by their paths");
    scratch.dec(["report", "nowhere"]).failed(3, &["no run directory"]);
}

#[test]
fn a_finished_run_can_be_watched() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let screen = scratch.dec(["watch", "run"]).ok().stdout;
    assert_eq!(screen.lines().count(), 23, "{screen}");
    for part in ["rows.npy", "finished", "✓ finetune", "✓ cluster", "3 clusters of"] {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
    assert!(!screen.contains('\u{1b}'));
    scratch.dec(["watch", "nowhere"]).failed(3, &["no run directory"]);
}

#[test]
fn a_run_is_written_for_tensorboard() {
    let scratch = Scratch::blobs();
    scratch.train("run", &["--tensorboard"]);
    let dir = scratch.path("run/tensorboard");
    let names: Vec<String> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let events = names.iter().find(|name| name.starts_with("events.out.tfevents.")).unwrap();
    let bytes = fs::read(dir.join(events)).unwrap();
    for tag in ["pretrain_1/loss", "finetune/learning_rate", "rounds/changed", "q/confidence"] {
        assert!(bytes.windows(tag.len()).any(|part| part == tag.as_bytes()), "{tag}");
    }
    scratch.train("run", &["--force", "--tensorboard"]);
    let files = |names: Vec<String>| names.into_iter().filter(|name| name.starts_with("events.")).count();
    assert_eq!(files(scratch.names("run/tensorboard")), 1, "those of the run before are gone");
    let rows = fs::read_to_string(dir.join("tensors.tsv")).unwrap();
    assert_eq!(rows.lines().count(), fs::read_to_string(dir.join("metadata.tsv")).unwrap().lines().count() - 1);
}
