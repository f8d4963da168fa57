//! Several processes that train together: the weights of one, whatever they are stopped by.
//!
//! Without the feature `mpi`, or without an mpirun, those tests skip themselves.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::{events, uniform, write_npy, Ran, Running, Scratch, SMALL};

/// What is told where processes were started together and cannot train so.
#[test]
fn a_launcher_is_noticed_where_it_cannot_be_obeyed() {
    let scratch = Scratch::blobs();
    let started = |args: &[&str], rank: &str| {
        let mut command = scratch.command(args);
        command.env("WORLD_SIZE", "4").env("RANK", rank).env("TORCHELASTIC_RUN_ID", "none");
        Ran::from(command.output().unwrap())
    };
    let small: Vec<&str> = SMALL.to_vec();
    let ran = started(&small, "0");
    let words: &[&str] =
        if cfg!(feature = "mpi") { &["4 processes", "mpirun"] } else { &["4 processes", "--features mpi"] };
    ran.failed(2, words);
    let other = started(&small, "2");
    assert!(other.stderr.starts_with("error: process 3 of 4: "), "{other:#?}");
    started(&["sweep", "--config=s.toml"], "0").failed(2, &["4 processes", "dec resume"]);
    let mut alone = scratch.command(["config"]);
    Ran::from(alone.env("WORLD_SIZE", "4").env("RANK", "0").output().unwrap()).ok();
    // set for some other program
}

/// Tests may run as root, and on machines of two processors, beside each other.
const OPTIONS: [&str; 7] =
    ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"];

/// `mpirun -n N dec …`; `None` where there is none, or dec is built without.
fn mpirun(scratch: &Scratch, n: usize, args: &[&str]) -> Option<Command> {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let works = || {
        let tried = Command::new("mpirun").args(OPTIONS).args(["-n", "2", "true"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    if !cfg!(feature = "mpi") || !*WORKS.get_or_init(works) {
        eprintln!(
            "skipped: wants `cargo test --features mpi` and an mpirun that works (Debian: apt install libopenmpi-dev \
             openmpi-bin)"
        );
        return None;
    }
    let mut command = Command::new("mpirun");
    command.args(OPTIONS).args(["-n", &n.to_string()]);
    Some(with_dec(command, scratch, args))
}

/// `command` and then `dec …`, in the scratch directory.
fn with_dec(mut command: Command, scratch: &Scratch, args: &[&str]) -> Command {
    let dec = scratch.command(args);
    command.arg(dec.get_program()).args(dec.get_args()).current_dir(scratch.path("")).stdin(Stdio::null());
    for (name, value) in dec.get_envs() {
        command.env(name, value.unwrap());
    }
    command
}

/// The tensors of a run by name.
fn tensors(run: &Path) -> BTreeMap<String, tch::Tensor> {
    tch::Tensor::read_safetensors(run.join("weights.safetensors")).unwrap().into_iter().collect()
}

/// The greatest difference between the weights of two runs.
fn apart(one: &Path, other: &Path) -> f64 {
    let (one, other) = (tensors(one), tensors(other));
    assert_eq!(one.len(), other.len());
    let double = |tensor: &tch::Tensor| tensor.to_kind(tch::Kind::Double);
    let difference = |(name, a): (&String, &tch::Tensor)| match (name.as_str(), double(a), double(&other[name])) {
        (name, ..) if name.starts_with("training.") => 0.0, // a table of ranks, which jumps
        // Which of equally large clusters has which number hangs on the last bits.
        ("centroids", a, b) => {
            let nearest = (a.unsqueeze(1) - b.unsqueeze(0)).abs().amax([2], false).amin([1], false);
            nearest.max().double_value(&[])
        }
        (_, a, b) => (a - b).abs().max().double_value(&[]),
    };
    one.iter().map(difference).fold(0.0, f64::max)
}

/// Recipes of which each stage takes some 50 steps, with every loss and thing that is drawn at random, and how far apart weights may be. Adam
/// divides by the size of gradients: in self-training, where clusters stand still, it makes steps of what is rounding.
fn recipes() -> Vec<(&'static str, Vec<&'static str>, f64)> {
    let layerwise = SMALL.iter().copied().chain(["--set=pretrain.steps=50", "--set=finetune.steps=50"]);
    let end_to_end = [
        "--data=rows.npy",
        "--device=cpu",
        "--clusters=3",
        "--set=model.hidden=[16, 32]",
        "--set=model.n_latent=4",
        "--set=pretrain.steps=50",
        "--set=pretrain.batch_size=50",
        "--set=start.networks=1",
        "--set=start.over_clustering=[2.0]",
        "--set=start.over_clustering_epochs=10",
        "--set=cluster.handover_epochs=5",
        "--set=cluster.batch_size=50",
        "--set=cluster.max_rounds=5",
        "--set=cluster.patience=0",
        "--set=output.report=false",
    ];
    let sgd = ["--set=cluster.optimiser=sgd", "--set=cluster.lr=0.01"];
    let end_to_end = || end_to_end.iter().copied();
    let noise = ["--set=augment.kind=noise"];
    let images = end_to_end().chain(sgd).chain([
        "--set=augment.image=[2,4]",
        "--set=augment.kind=image",
        "--set=cluster.cutmix=0.5",
    ]);
    let objective = |name: &'static str| end_to_end().chain(sgd).chain([name]);
    let of = |rows: &'static str| {
        let own = end_to_end().map(move |arg| if arg == "--data=rows.npy" { rows } else { arg });
        own.chain(sgd).chain(noise).collect::<Vec<_>>()
    };
    let scaled = end_to_end().chain(sgd).chain(["--set=data.scale=standardise", "--set=data.limit=170"]);
    vec![
        ("layerwise", layerwise.collect(), 1e-5),
        ("noise", end_to_end().chain(sgd).chain(noise).collect(), 1e-5),
        ("images", images.collect(), 1e-5),
        ("idec", objective("--set=cluster.objective=idec").collect(), 1e-5),
        ("aspc", objective("--set=cluster.objective=aspc").collect(), 1e-5),
        ("scaled", scaled.collect(), 1e-5),
        ("counts", of("--data=counts.npy"), 1e-5),
        ("sparse", of("--data=rows.svm"), 1e-5),
        ("adam", end_to_end().chain(noise).collect(), 1e-3),
    ]
}

/// Counts of three kinds of rows, and the same kinds as sparse rows.
fn write_counts(scratch: &Scratch) {
    const N_FEATURES: usize = 60;
    let mut random = uniform(7);
    let rows: Vec<Vec<f32>> = (0..180)
        .map(|i| {
            (0..N_FEATURES)
                .map(|j| (4.0 / (1 + (j + 20 * (i % 3)) % N_FEATURES) as f32 * 20.0 * random()).floor())
                .collect()
        })
        .collect();
    write_npy(&scratch.path("counts.npy"), &[180, N_FEATURES as u64], &rows.concat());
    let line = |row: &Vec<f32>| {
        let entries = row.iter().enumerate().filter(|(_, value)| **value > 0.0);
        entries.fold("0".to_owned(), |line, (j, value)| format!("{line} {}:{}", j + 1, value + 0.5))
    };
    fs::write(scratch.path("rows.svm"), rows.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

#[test]
fn processes_that_read_different_rows_are_refused() {
    let scratch = Scratch::blobs();
    write_counts(&scratch);
    let args = |data| [data, "--clusters=3", "--device=cpu", "--out=run"];
    let Some(mut command) = mpirun(&scratch, 1, &args("--data=rows.npy")) else { return };
    command.args([":", "-n", "1"]);
    let ran = Ran::from(with_dec(command, &scratch, &args("--data=counts.npy")).output().unwrap());
    assert!(ran.code != Some(0) && ran.stderr.contains("have read different rows"), "{ran:#?}");
    assert!(!scratch.path("run").exists(), "nothing is begun");
}

#[test]
fn several_processes_come_to_the_weights_of_one() {
    for (name, recipe, tolerance) in recipes() {
        let scratch = Scratch::blobs();
        write_counts(&scratch);
        scratch.dec(recipe.iter().copied().chain(["--out", "one"])).ok();
        for n in [2, 4] {
            let out = format!("of{n}");
            let args: Vec<&str> = recipe.iter().copied().chain(["--out", &out]).collect();
            let Some(mut command) = mpirun(&scratch, n, &args) else { return };
            let ran = Ran::from(command.output().unwrap()).ok();
            assert!(ran.stderr.contains(&format!("in {n} processes")), "{ran:#?}");
            assert_eq!(ran.stdout.matches("run directory").count(), 1, "one writes: {ran:#?}");
            let apart = apart(&scratch.path("one"), &scratch.path(&out));
            assert!(apart < tolerance, "{name}, {n} processes: {apart}");
            assert_eq!(scratch.names("one"), scratch.names(&out));
            assert!(apart > 0.0, "{name}: sums in another order give other bits; was it divided at all?");
        }
        // As many processes: the same bits.
        let args: Vec<&str> = recipe.iter().copied().chain(["--out", "again"]).collect();
        let Some(mut command) = mpirun(&scratch, 4, &args) else { return };
        Ran::from(command.output().unwrap()).ok();
        assert!(scratch.read("of4/weights.safetensors") == scratch.read("again/weights.safetensors"), "{name}");
    }
}

/// The processes that an mpirun has started, in their order.
fn ranks_of(mpirun: &Running) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", mpirun.id())).unwrap();
    children.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_four_processes_left_one_or_two_go_on_with() {
    let scratch = Scratch::blobs();
    let long = |out: &'static str| -> Vec<&str> {
        let slow = ["--set=finetune.epochs=1000", "--set=finetune.lr=0.001", "--threads=1", "--out", out];
        SMALL.iter().copied().chain(slow).collect()
    };
    scratch.dec(long("whole")).ok();
    let Some(command) = mpirun(&scratch, 4, &long("run")) else { return };
    let mut running = Running::start(command);
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["finetune", "epoch"]);
    // One is told, and all stop at the same step.
    crate::support::send("TERM", &ranks_of(&running)[0]);
    let ran = running.end();
    assert_eq!(scratch.json("run/summary.json")["status"], "interrupted", "{ran:#?}");
    for n in [1, 2] {
        let out = format!("by{n}");
        let copied = Command::new("cp").arg("-r").arg(scratch.path("run")).arg(scratch.path(&out)).status().unwrap();
        assert!(copied.success());
        let Some(mut command) = mpirun(&scratch, n, &["resume", &out]) else { return };
        Ran::from(command.output().unwrap()).ok();
        // Thousands of steps make much of the last bits of the weights, and little of those of the losses.
        let losses = |run: &str| -> Vec<f64> {
            let told = events(&scratch.text(&format!("{run}/events.jsonl")));
            told.iter().filter(|event| event["event"] == "epoch").map(|event| event["loss"].as_f64().unwrap()).collect()
        };
        let (here, whole) = (losses(&out), losses("whole"));
        assert_eq!(here.len(), whole.len(), "every epoch once");
        let apart = here.iter().zip(&whole).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-3, "{n} processes: {apart}");
    }
}

#[test]
fn a_process_that_dies_ends_the_job() {
    let scratch = Scratch::blobs();
    let endless: Vec<&str> = SMALL.iter().copied().chain(["--set=finetune.epochs=300000", "--out", "run"]).collect();
    let Some(command) = mpirun(&scratch, 2, &endless) else { return };
    let mut running = Running::start(command);
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["finetune", "epoch"]);
    let begun = Instant::now();
    crate::support::send("KILL", ranks_of(&running).last().unwrap());
    let ran = running.end();
    assert!(begun.elapsed() < Duration::from_secs(30), "{ran:#?}");
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    // mpirun names it, and leaves the first a second to say how to go on, which is little on a busy machine.
    assert!(ran.stderr.contains("dec resume") || ran.stderr.contains("signal 9"), "{ran:#?}");
    // What was kept is whole, and one process goes on with it.
    let mut resumed = Running::start(scratch.command(["resume", "run"]));
    resumed.wait_for_line(&scratch.path("run/events.jsonl"), &["resumed"]);
    resumed.signal("TERM");
    assert_eq!(resumed.end().code, Some(143));
}

/// A signal to one process, in the midst of work that processes divide (k-means) and of steps.
#[test]
fn what_one_is_told_all_do() {
    let scratch = Scratch::blobs();
    let cases = [
        ("kmeans", "--set=kmeans.n_init=3000000", None, 0),
        ("kmeans_last", "--set=kmeans.n_init=60000", None, 2),
        ("first", "--set=finetune.epochs=300000", Some("finetune"), 0),
        ("last", "--set=finetune.epochs=300000", Some("finetune"), 2),
    ];
    for (out, endless, seen, rank) in cases {
        let args: Vec<&str> = SMALL.iter().copied().chain([endless, "--threads=1", "--out", out]).collect();
        let Some(command) = mpirun(&scratch, 3, &args) else { return };
        let mut running = Running::start(command);
        let log = scratch.path(&format!("{out}/events.jsonl"));
        match seen {
            Some(word) => running.wait_for_line(&log, &[word]),
            // The first line of the log comes before k-means, the second behind it.
            None => {
                while fs::metadata(&log).map_or(0, |log| log.len()) == 0 && running.goes_on() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        crate::support::send("TERM", &ranks_of(&running)[rank]);
        let ran = running.end();
        assert!(begun.elapsed() < Duration::from_secs(30), "{out}: {ran:#?}");
        assert_eq!(scratch.json(&format!("{out}/summary.json"))["status"], "interrupted", "{out}: {ran:#?}");
        assert!(!ran.stderr.contains("error: "), "{out}: {ran:#?}");
        // Only where the first was told in the midst of long work does it leave without the others.
        assert!(out == "kmeans" || !ran.stderr.contains("finalize"), "{out}: {ran:#?}");
        let mut resumed = Running::start(scratch.command(["resume", out]));
        resumed.wait_for_line(&log, &["resumed"]);
        resumed.signal("TERM");
        assert_eq!(resumed.end().code, Some(143), "{out}");
    }
}

/// Two network namespaces with a cable between them, which go with this.
struct TwoHosts([String; 2]);

impl TwoHosts {
    /// `None` where they cannot be made: that wants root and iproute2.
    fn new() -> Option<Self> {
        let hosts = Self(["a", "b"].map(|end| format!("dec-{}-{end}", std::process::id())));
        let [a, b] = &hosts.0;
        let made = [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("link add name dec0 netns {a} type veth peer name dec0 netns {b}"),
            format!("-n {a} address add 10.77.0.1/24 dev dec0"),
            format!("-n {b} address add 10.77.0.2/24 dev dec0"),
        ]
        .into_iter()
        .chain(hosts.0.iter().flat_map(|host| ["lo", "dec0"].map(|name| format!("-n {host} link set {name} up"))))
        .all(|arguments| ip(&arguments));
        if !made {
            eprintln!("skipped: two hosts want root and network namespaces (Debian: apt install iproute2)");
        }
        made.then_some(hosts)
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        self.0.iter().for_each(|host| {
            ip(&format!("netns del {host}"));
        });
    }
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

#[test]
fn two_hosts_train_together() {
    let scratch = Scratch::blobs();
    let (_, recipe, tolerance) = recipes().swap_remove(1);
    let args = |out: &'static str| -> Vec<&'static str> { recipe.iter().copied().chain(["--out", out]).collect() };
    let Some(mut on_one_host) = mpirun(&scratch, 2, &args("one_host")) else { return };
    let Some(hosts) = TwoHosts::new() else { return };
    Ran::from(on_one_host.output().unwrap()).ok();
    scratch.dec(args("alone")).ok();

    // What mpirun starts on the other host, by ssh elsewhere.
    let agent = scratch.path("agent");
    fs::write(&agent, format!("#!/bin/sh\nshift\nexec ip netns exec {} sh -c \"$*\"\n", hosts.0[1])).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &hosts.0[0], "mpirun"]).args(OPTIONS).args(["--mca", "plm_rsh_agent"]).arg(&agent);
    for option in ["btl tcp,self", "btl_tcp_if_include 10.77.0.0/24", "oob_tcp_if_include 10.77.0.0/24"] {
        command.arg("--mca").args(option.split(' '));
    }
    command.args(["-H", "10.77.0.1:1,10.77.0.2:1", "-n", "2"]);
    let ran = Ran::from(with_dec(command, &scratch, &args("two_hosts")).output().unwrap()).ok();
    assert!(ran.stderr.contains("in 2 processes"), "{ran:#?}");
    assert!(scratch.read("two_hosts/weights.safetensors") == scratch.read("one_host/weights.safetensors"));
    let apart = apart(&scratch.path("alone"), &scratch.path("two_hosts"));
    assert!(apart > 0.0 && apart < tolerance, "{apart}");
}
