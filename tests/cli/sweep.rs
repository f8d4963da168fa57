//! `dec sweep`: every combination, one table.

use crate::support::{Ran, Scratch, SMALL};

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
