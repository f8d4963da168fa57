//! Signals, and a terminal that goes away: what was reached is saved, and the exit code says why the run ended.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::support::{assignments, each, send, Running, Scratch, RUN_FILES, SMALL};

/// A run that does not end by itself, into `run`.
fn endless(scratch: &Scratch, more: &[&str]) -> Command {
    scratch.command(
        SMALL
            .iter()
            .chain(&["--set", "cluster.max_rounds=10000000", "--set", "cluster.patience=0", "--out=run"])
            .chain(more),
    )
}

/// Waits until self-training has done some rounds.
fn wait_for_rounds(running: &mut Running, scratch: &Scratch) {
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["cluster", "\"round\":3"]);
}

/// What an interrupted self-training leaves.
fn assert_saved(scratch: &Scratch) {
    let mut files = vec!["checkpoints"];
    files.extend(RUN_FILES);
    files.sort_unstable();
    let mut found = scratch.names("run");
    found.retain(|name| name != ".lock"); // of a run that left at once
    assert_eq!(found, files);
    assert_eq!(scratch.json("run/summary.json")["status"], "interrupted");
}

fn pid(running: &Running) -> Pid {
    Pid::from_raw(running.id() as i32)
}

/// `command` as a shell starts it that ignores a signal.
fn ignoring(signal: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' {signal}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    shell
}

/// A pipe with a name.
fn make_fifo(scratch: &Scratch, name: &str) {
    assert!(Command::new("mkfifo").arg(scratch.path(name)).status().unwrap().success());
}

#[test]
fn ctrl_c_in_pretraining_saves_the_weights() {
    let scratch = Scratch::blobs();
    let args = SMALL.iter().chain(&["--set", "pretrain.epochs=10000000", "--out=run"]);
    let mut running = Running::start(scratch.command(args));
    running.wait_for_line(&scratch.path("run/events.jsonl"), &["pretrain_1", "epoch"]);
    running.signal("INT");
    let ran = running.end();

    ran.failed(130, &["interrupted", "saved in run"]);
    assert!(ran.stdout.contains("k-means on the scaled rows") && !ran.stdout.contains("DEC"), "{ran:#?}");
    assert_eq!(
        scratch.names("run"),
        ["checkpoints", "config.toml", "events.jsonl", "summary.json", "weights.safetensors"]
    );
    assert_eq!(scratch.json("run/summary.json")["stopped_in"], "pretrain_1");
    // The predictor is not there yet, and says how it comes.
    let predict = scratch.dec(["predict", "-m", "run/model.pt", "rows.npy"]);
    predict.failed(3, &["stopped in pretrain_1", "dec resume run"]);
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

/// SIGTERM, which is what a cluster's scheduler sends, and SIGHUP, of a terminal that is closed, do the same as Ctrl-C.
#[test]
fn an_interrupted_self_training_saves_clusters_and_model() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let scratch = Scratch::blobs();
        let mut running = Running::start(endless(&scratch, &[]));
        wait_for_rounds(&mut running, &scratch);
        running.signal(signal);
        let ran = running.end();

        ran.failed(code, &["stopping", "interrupted", "saved in run"]);
        assert!(ran.stdout.contains("DEC"), "{ran:#?}");
        assert_saved(&scratch);
        let summary = scratch.json("run/summary.json");
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

    assert_eq!(ran.code, Some(143), "{ran:#?}");
    assert!(ran.stderr.contains("pretrain.epochs=10000000: interrupted"), "{ran:#?}");
    assert!(ran.stdout.contains("finished") && ran.stdout.contains("interrupted"), "{ran:#?}");
    assert_eq!(scratch.json("sweep/pretrain.epochs=2/summary.json")["status"], "finished");
    assert_eq!(scratch.json("sweep/pretrain.epochs=10000000/summary.json")["status"], "interrupted");
    assert!(scratch.text("sweep/sweep.csv").contains("interrupted"));

    let shorter = sweep.replace("10000000", "3");
    std::fs::write(scratch.path("s.toml"), format!("{recipe}\n{shorter}")).unwrap();
    let again = scratch.dec(["sweep", "--config=s.toml", "--out=sweep"]).ok();
    assert!(again.stderr.contains("pretrain.epochs=2: finished before"), "{again:#?}");
}

/// A handler would run on a computing thread's stack, where oneDNN keeps data below the stack pointer.
#[cfg(target_os = "linux")]
#[test]
fn no_thread_takes_a_signal_while_it_computes() {
    let scratch = Scratch::blobs();
    let mut running = Running::start(endless(&scratch, &["--threads=2"]));
    wait_for_rounds(&mut running, &scratch);
    let bit = |signal: Signal| 1u64 << (signal as i32 - 1);
    let ours: u64 = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1].into_iter().map(bit).sum();
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", running.id())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let mask = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap() & ours
        };
        // The thread that waits for them has them unblocked while it does, and so still no handler.
        assert_eq!(mask("SigCgt:"), 0, "a handler: {status}");
        assert!(mask("SigBlk:") == ours || status.starts_with("Name:\tsignals\n"), "{status}");
        threads += 1;
    }
    assert!(threads >= 2, "the main thread and the one that waits");
    running.signal("TERM");
    running.end().failed(143, &["saved in run"]);
}

#[test]
fn signals_ignored_at_the_start_stay_ignored() {
    for ignored in ["HUP", "INT"] {
        let scratch = Scratch::blobs();
        let mut running = Running::start(ignoring(ignored, &endless(&scratch, &[])));
        wait_for_rounds(&mut running, &scratch);
        running.signal(ignored);
        running.signal(ignored);
        let so_far = scratch.text("run/events.jsonl").lines().count();
        let deadline = Instant::now() + Duration::from_secs(60);
        while scratch.text("run/events.jsonl").lines().count() < so_far + 20 {
            assert!(running.goes_on() && Instant::now() < deadline, "{ignored}: {:#?}", running.end());
            std::thread::sleep(Duration::from_millis(10));
        }
        running.signal("TERM");
        running.end().failed(143, &["saved in run"]);
    }
}

/// There is nothing to save yet, and reading may take as long as a pipe does.
#[test]
fn a_signal_while_the_rows_are_read_ends_at_once() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let scratch = Scratch::blobs();
        let head = &scratch.read("rows.npy")[..200];
        fs::remove_file(scratch.path("rows.npy")).unwrap();
        make_fifo(&scratch, "rows.npy");
        let mut running = Running::start(endless(&scratch, &[]));
        let deadline = Instant::now() + Duration::from_secs(60);
        // Opens only once the reader has opened it.
        let mut rows = loop {
            match open_nonblocking(&scratch.path("rows.npy")) {
                Ok(pipe) => break pipe,
                Err(e) => assert!(running.goes_on() && Instant::now() < deadline, "{e}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        rows.write_all(head).unwrap();
        running.signal("USR1"); // nothing to save: no effect
        std::thread::sleep(Duration::from_millis(100));
        assert!(running.goes_on());
        let sent = Instant::now();
        running.signal(signal);
        let ran = running.end();
        assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), "interrupted\n"), "{ran:#?}");
        assert!(!scratch.path("run").exists());
    }
}

/// `timeout` sends its signal twice, to the process and to its group; so does a shell whose terminal is closed, and the kernel
/// when the shell has ended, which may be later.
#[test]
fn the_same_signal_twice_at_once_is_one_request() {
    for (signal, pause_ms, code) in [(Signal::SIGTERM, 0, 143), (Signal::SIGINT, 0, 130), (Signal::SIGHUP, 60, 129)] {
        let scratch = Scratch::blobs();
        let mut running = Running::start(endless(&scratch, &[]));
        wait_for_rounds(&mut running, &scratch);
        kill(pid(&running), signal).unwrap();
        std::thread::sleep(Duration::from_millis(pause_ms));
        let _ = kill(pid(&running), signal);
        running.end().failed(code, &["saved in run"]);
        assert_saved(&scratch);
    }
}

/// Even when all else is stuck, here in writing the last line to a pipe that nobody reads.
#[test]
fn a_second_signal_quits_at_once() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let scratch = Scratch::blobs();
        make_fifo(&scratch, "full");
        let full = OpenOptions::new().read(true).write(true).open(scratch.path("full")).unwrap();
        fill(&scratch.path("full"));
        let mut command = endless(&scratch, &["--quiet"]);
        command.stderr(OpenOptions::new().write(true).open(scratch.path("full")).unwrap()).stdout(Stdio::null());
        let mut running = Running::start_as_is(&mut command);
        wait_for_rounds(&mut running, &scratch);
        running.signal("HUP");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !scratch.path("run/summary.json").exists() {
            assert!(running.goes_on() && Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(running.goes_on(), "it waits for its last line to be read");
        let sent = Instant::now();
        running.signal(signal);
        assert_eq!(running.end().code, Some(code));
        assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
        assert_saved(&scratch);
        drop(full);
    }
}

fn open_nonblocking(pipe: &Path) -> std::io::Result<File> {
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    OpenOptions::new().write(true).custom_flags(nonblocking).open(pipe)
}

/// Writes to a pipe until it takes no more.
fn fill(pipe: &Path) {
    let mut pipe = open_nonblocking(pipe).unwrap();
    for block in [4096, 1] {
        while pipe.write(&vec![b'.'; block]).is_ok() {}
    }
}

/// Two signals at once at any moment end the run, whatever it is doing, and never by a crash.
#[test]
fn two_signals_never_crash_it() {
    for attempt in 0..30u64 {
        let scratch = Scratch::blobs();
        let mut running = Running::start(endless(&scratch, &[]));
        running.wait_for_line(&scratch.path("run/config.toml"), &["seed"]);
        std::thread::sleep(Duration::from_millis(attempt * 17));
        let (first, code) = [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)][attempt as usize % 2];
        kill(pid(&running), first).unwrap();
        std::thread::sleep(Duration::from_micros(attempt * 337)); // up to 10 ms
        let _ = kill(pid(&running), first);
        let ran = running.end();
        assert_eq!(ran.code, Some(code), "attempt {attempt}: {ran:#?}");
    }
}

/// Progress, logs and warnings that nobody can read are no reason to stop, let alone to lose what was reached.
#[test]
fn a_stderr_that_cannot_be_written_harms_nothing() {
    let scratch = Scratch::blobs();
    let command = |more: &[&str]| scratch.command(SMALL.iter().chain(&["--out=run", "--force"]).chain(more));
    // `--tf32` on a CPU warns.
    for more in [&[][..], &["--verbose", "--tf32"], &["--quiet", "--tf32"]] {
        for broken in ["a full disk", "a pipe whose reader has gone"] {
            let mut command = command(more);
            command.stdout(Stdio::piped());
            if broken == "a full disk" {
                command.stderr(OpenOptions::new().write(true).open("/dev/full").unwrap());
            } else {
                command.stderr(Stdio::piped());
            }
            let mut child = command.spawn().unwrap();
            drop(child.stderr.take());
            let ran = child.wait_with_output().unwrap();
            assert_eq!(ran.status.code(), Some(0), "{broken}, {more:?}: {ran:?}");
            assert!(String::from_utf8(ran.stdout).unwrap().contains("DEC"));
            assert_eq!(scratch.names("run"), RUN_FILES);
            assert_eq!(scratch.json("run/summary.json")["status"], "finished");
            fs::remove_dir_all(scratch.path("run")).unwrap();
        }
    }
    // Errors, too, keep their exit codes.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let refused = scratch.command(["--data=missing.npy"]).stderr(full).status().unwrap();
    assert_eq!(refused.code(), Some(3));
}

#[test]
fn a_stdout_that_cannot_be_written_loses_no_file() {
    let scratch = Scratch::blobs();
    let mut command = scratch.command(SMALL.iter().chain(&["--out=run"]));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = command.stdout(full).output().unwrap();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert_eq!(scratch.names("run"), RUN_FILES);
    assert_eq!(scratch.json("run/summary.json")["status"], "finished");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_closed_while_bars_are_drawn_costs_nothing() {
    for more in [&[][..], &["--quiet"], &["--verbose"]] {
        let scratch = Scratch::blobs();
        let terminal = crate::support::Terminal::open();
        let mut running = Running::start_as_is(&mut terminal.with(&endless(&scratch, more)));
        wait_for_rounds(&mut running, &scratch);
        let bars = terminal.shown().contains("\x1b[2K");
        assert_eq!(bars, more != ["--quiet"], "{}", terminal.shown());
        terminal.close();
        assert_eq!(running.end().code, Some(129), "{more:?}");
        assert_saved(&scratch);
    }
}

/// The closing table has nowhere to go, and everything is saved.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_ends_after_its_terminal_is_gone_succeeds() {
    let scratch = Scratch::blobs();
    let terminal = crate::support::Terminal::open();
    let finite = scratch.command(SMALL.iter().chain(&["--out=run"]));
    let mut running = Running::start_as_is(&mut terminal.with(&ignoring("HUP", &finite)));
    // The signal is ignored by now.
    while !scratch.path("run/config.toml").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    terminal.close();
    assert_eq!(running.end().code, Some(0));
    assert_eq!(scratch.json("run/summary.json")["status"], "finished");
    assert!(scratch.path("run/assignments.csv").exists());
}

/// As of a program that was left in the background of a terminal that is gone.
#[cfg(target_os = "linux")]
#[test]
fn a_run_outlives_its_terminal_where_sighup_is_ignored() {
    let scratch = Scratch::blobs();
    let terminal = crate::support::Terminal::open();
    let mut running = Running::start_as_is(&mut terminal.with(&ignoring("HUP", &endless(&scratch, &[]))));
    wait_for_rounds(&mut running, &scratch);
    terminal.close();
    std::thread::sleep(Duration::from_millis(700)); // longer than bars stand still
    assert!(running.goes_on());
    running.signal("TERM");
    assert_eq!(running.end().code, Some(143));
    assert_saved(&scratch);
}
