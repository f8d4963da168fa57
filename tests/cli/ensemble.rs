//! `dec ensemble`: several seeds, one consensus.

use crate::support::{Ran, Running, Scratch, RUN_FILES, SMALL};

fn options<'a>(out: &'a str, more: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    ["ensemble", "--seeds=3", "--out", out].into_iter().chain(SMALL).chain(more.iter().copied())
}

fn ensemble(scratch: &Scratch, out: &str, more: &[&str]) -> Ran {
    scratch.dec(options(out, more))
}

#[test]
fn seeds_are_trained_and_vote_and_one_of_them_predicts() {
    let scratch = Scratch::blobs();
    let ran = ensemble(&scratch, "ens", &["--labels=y.npy"]).ok();
    assert_eq!(scratch.names("ens"), ["assignments.csv", "ensemble.json", "recipes", "seed=0", "seed=1", "seed=2"]);
    for seed in ["seed=0", "seed=1", "seed=2"] {
        assert_eq!(scratch.names(&format!("ens/{seed}")), RUN_FILES);
    }
    let summary = scratch.json("ens/ensemble.json");
    let chosen = summary["chosen"].as_str().unwrap().to_owned();
    let best = summary["runs"].as_array().unwrap().iter().map(|run| run["ari_consensus"].as_f64().unwrap());
    let best = best.fold(0.0, f64::max);
    let of_chosen = summary["runs"].as_array().unwrap().iter().find(|run| run["run"] == *chosen).unwrap();
    assert_eq!(of_chosen["ari_consensus"].as_f64(), Some(best));

    // The consensus is in the chosen run's numbers, with each row's stability.
    let text = scratch.text("ens/assignments.csv");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("row,cluster,stability"));
    let votes: Vec<Vec<i64>> = (0..3)
        .map(|seed| {
            let text = scratch.text(&format!("ens/seed={seed}/assignments.csv"));
            crate::support::assignments(&text).iter().map(|row| row.1).collect()
        })
        .collect();
    let cells: Vec<Vec<f64>> = lines.map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect();
    let consensus: Vec<i64> = cells.iter().map(|row| row[1] as i64).collect();
    assert_eq!(cells.len(), 180);
    let mut sum = 0.0;
    for (row, cells) in cells.iter().enumerate() {
        let agree =
            votes.iter().filter(|votes| dec::ensemble::matched(votes, &consensus, 3).unwrap()[row] == consensus[row]);
        let share = agree.count() as f64 / 3.0;
        assert!((cells[2] - share).abs() < 1e-6, "row {row}");
        sum += share;
    }
    assert!((summary["mean_stability"].as_f64().unwrap() - sum / 180.0).abs() < 1e-6);
    let predicted = scratch.dec(["predict", "ens", "rows.npy"]).ok();
    assert_eq!(predicted.stdout, scratch.text(&format!("ens/{chosen}/assignments.csv")));
    let of_chosen: Vec<i64> = crate::support::assignments(&predicted.stdout).iter().map(|row| row.1).collect();
    let same = of_chosen.iter().zip(&consensus).filter(|(a, b)| a == b).count();
    assert!(same > 120, "the numbers are those of the run that predicts: {same} of 180");
    scratch.dec(["export", "ens", "--to=onnx", "-o=model.onnx"]).ok();
    let evaluated = scratch.dec(["evaluate", "ens", "--labels=y.npy"]).ok().stdout;
    assert!(evaluated.contains(&format!("ACC          {:.4}\n", summary["acc"].as_f64().unwrap())), "{evaluated}");

    for words in ["ARI with consensus", "ACC", "in the median of the runs", "mean stability", "`dec predict` uses it"] {
        assert!(ran.stdout.contains(words), "{words}: {ran:#?}");
    }
    // What wants one run is told which there are.
    for command in [&["merge", "ens", "--to=2"][..], &["rename", "ens", "1=a"]] {
        scratch.dec(command).failed(3, &["is an ensemble", "ens/seed="]);
    }

    // Again: nothing is trained, and the answer is the same. Labels are only shown: without them it is the same too.
    let again = ensemble(&scratch, "ens", &["--labels=y.npy"]).ok();
    assert_eq!(again.stderr.matches("finished before").count(), 3, "{again:#?}");
    assert_eq!((scratch.text("ens/assignments.csv"), scratch.json("ens/ensemble.json")), (text.clone(), summary));
    let unlabelled = ensemble(&scratch, "plain", &[]).ok();
    assert!(!unlabelled.stdout.contains("ACC"), "{unlabelled:#?}");
    assert_eq!(scratch.text("plain/assignments.csv"), text);
    assert_eq!(scratch.json("plain/ensemble.json")["chosen"], *chosen);
}

/// Stopped in its second run, it goes on there, and comes to what it would have come to.
#[test]
fn an_ensemble_that_is_stopped_goes_on() {
    let scratch = Scratch::blobs();
    let mut running = Running::start(scratch.command(options("ens", &[])));
    running.wait_for_line(&scratch.path("ens/seed=1/events.jsonl"), &["pretrain_1", "epoch"]);
    running.signal("TERM");
    let stopped = running.end();
    assert_eq!(stopped.code, Some(143), "{stopped:#?}");
    assert!(!scratch.path("ens/ensemble.json").exists() && stopped.stdout.is_empty());
    let ended = ensemble(&scratch, "ens", &[]).ok();
    assert_eq!(ended.stderr.matches("finished before").count(), 1, "{ended:#?}");
    ensemble(&scratch, "whole", &[]).ok();
    assert_eq!(scratch.text("ens/assignments.csv"), scratch.text("whole/assignments.csv"));
    assert_eq!(scratch.json("ens/ensemble.json"), scratch.json("whole/ensemble.json"));
}

#[test]
fn what_no_ensemble_can_be_made_of_is_refused() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let before = scratch.tree();
    let small = |more: &[&'static str]| scratch.dec(["ensemble"].into_iter().chain(SMALL).chain(more.iter().copied()));
    small(&["--seeds=1"]).failed(2, &["--seeds 1", "two runs or more"]);
    small(&["--seeds=2", "--seed=9223372036854775807"]).failed(2, &["not so many seeds"]);
    small(&["--seeds=2", "--set=data.limit=90"]).failed(2, &["data.limit", "other rows"]);
    small(&["--seeds=2", "--out=run"]).failed(2, &["run", "holds a run, and not an ensemble"]);
    scratch.dec(["ensemble", "-", "--seeds=2"]).failed(2, &["standard input", "name a file"]);
    scratch.dec(["ensemble", "none.npy", "--seeds=2"]).failed(3, &["none.npy"]);
    scratch.dec(["ensemble", "--config=seeds", "--seeds=2"]).failed(2, &["[sweep]"]);
    assert_eq!(scratch.tree(), before, "nothing is made");

    // A file of that name that leads elsewhere, or nowhere, leads nobody there.
    for (text, words) in [
        (r#"{"chosen": "../run"}"#, "names no run"),
        (r#"{"chosen": "/etc"}"#, "names no run"),
        (r#"{"chosen": 3}"#, "names no run"),
        ("{", "is none of an ensemble"),
    ] {
        std::fs::create_dir_all(scratch.path("odd")).unwrap();
        std::fs::write(scratch.path("odd/ensemble.json"), text).unwrap();
        scratch.dec(["predict", "odd", "rows.npy"]).failed(3, &["ensemble.json", words]);
    }
}
