//! Ctrl-C: what was reached is saved, and the exit code says so.

use crate::support::{assignments, each, send, Running, Scratch, RUN_FILES, SMALL};

#[test]
fn ctrl_c_in_pretraining_saves_the_weights() {
    let scratch = Scratch::blobs();
    let args = SMALL.iter().chain(&["--set", "pretrain.epochs=10000000", "--out=run"]);
    let mut running = Running::start(scratch.command(args));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["pretrain_1", "epoch"]);
    running.signal("INT");
    let ran = running.end();

    ran.failed(130, &["interrupted", "saved in run"]);
    assert!(ran.stdout.contains("k-means on the raw rows") && !ran.stdout.contains("DEC"), "{ran:#?}");
    assert_eq!(scratch.names("run"), ["config.toml", "events.jsonl", "summary.json", "weights.safetensors"]);
    let summary = scratch.json("run/summary.json");
    assert_eq!(summary["status"], "interrupted");
    assert_eq!(each(&summary["results"], "method"), ["kmeans"]);
    assert_eq!(each(&summary["stages"], "name"), ["kmeans_raw"]);
}

/// A further network that is not done is of no use: the first is what the scores so far are of.
#[test]
fn ctrl_c_in_a_second_network_saves_the_first() {
    let scratch = Scratch::blobs();
    let setting = |epochs: &str| format!("--set=pretrain.epochs={epochs}");
    let run = |out: &str, more: &[&str]| {
        let start = ["--set=start.method=spectral", "--set=start.networks=2", "--out", out];
        scratch.command(SMALL.iter().chain(&start).chain(more))
    };
    let mut running = Running::start(run("run", &[&setting("1000")]));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["\"network\":2"]);
    running.signal("INT");
    running.end().failed(130, &["interrupted", "saved in run"]);
    let summary = scratch.json("run/summary.json");
    assert_eq!(each(&summary["results"], "method"), ["kmeans", "autoencoder_kmeans"]);

    // Self-training leaves the decoder as it is.
    let first = run("first", &[&setting("1000"), "--set=start.networks=1"]).output().unwrap();
    assert!(first.status.success(), "{first:?}");
    let decoder = |out: &str| {
        let weights = tch::Tensor::read_safetensors(scratch.path(&format!("{out}/weights.safetensors"))).unwrap();
        weights.into_iter().find(|(name, _)| name == "decoder.0.weight").unwrap().1
    };
    assert_eq!(decoder("run"), decoder("first"));
}

/// SIGTERM, which is what a cluster's scheduler sends, does the same as Ctrl-C.
#[test]
fn an_interrupted_self_training_saves_clusters_and_model() {
    for signal in ["INT", "TERM"] {
        let scratch = Scratch::blobs();
        let args = SMALL.iter().chain(&["--set", "cluster.max_rounds=10000000", "--out=run"]);
        let mut running = Running::start(scratch.command(args));
        running.wait_for_line(&scratch.path("run/events.jsonl"), &["cluster", "\"round\":3"]);
        running.signal(signal);
        let ran = running.end();

        ran.failed(130, &["interrupted", "saved in run"]);
        assert!(ran.stdout.contains("DEC"), "{ran:#?}");
        assert_eq!(scratch.names("run"), RUN_FILES);
        let summary = scratch.json("run/summary.json");
        assert_eq!(summary["status"], "interrupted");
        assert_eq!(each(&summary["results"], "method"), ["kmeans", "autoencoder_kmeans", "dec"]);
        assert!(summary["rounds"].as_u64().unwrap() >= 3);

        // What was saved belongs together.
        let predicted = scratch.dec(["predict", "-m", "run/model.pt", "rows.npy"]).ok();
        let clusters = |csv: &str| assignments(csv).iter().map(|a| (a.0, a.1)).collect::<Vec<_>>();
        assert_eq!(clusters(&predicted.stdout), clusters(&scratch.text("run/assignments.csv")));
    }
}

/// A `kill` or a container's stop reaches the sweep alone; it passes it on to the member that it runs.
#[test]
fn an_interrupted_sweep_ends_with_its_table_and_is_taken_up_again() {
    let scratch = Scratch::blobs();
    let recipe = scratch.dec(["config"].iter().chain(&SMALL)).ok().stdout;
    let sweep = "[sweep]\n\"pretrain.epochs\" = [2, 10000000]\n";
    std::fs::write(scratch.path("s.toml"), format!("{recipe}\n{sweep}")).unwrap();
    let command = scratch.command(["sweep", "--config=s.toml", "--out=sweep"]);
    let mut running = Running::start(command);
    running.wait_for_line(&scratch.path("sweep/pretrain.epochs=10000000/events.jsonl"), &["pretrain_1", "epoch"]);
    send("TERM", &running.id().to_string());
    let ran = running.end();

    assert_eq!(ran.code, Some(130), "{ran:#?}");
    assert!(ran.stdout.contains("finished") && ran.stdout.contains("interrupted"), "{ran:#?}");
    assert_eq!(scratch.json("sweep/pretrain.epochs=2/summary.json")["status"], "finished");
    assert_eq!(scratch.json("sweep/pretrain.epochs=10000000/summary.json")["status"], "interrupted");
    assert!(scratch.text("sweep/sweep.csv").contains("interrupted"));

    let shorter = sweep.replace("10000000", "3");
    std::fs::write(scratch.path("s.toml"), format!("{recipe}\n{shorter}")).unwrap();
    let again = scratch.dec(["sweep", "--config=s.toml", "--out=sweep"]).ok();
    assert!(again.stderr.contains("pretrain.epochs=2: finished before"), "{again:#?}");
}
