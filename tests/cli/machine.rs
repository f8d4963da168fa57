//! What is said about the machine: threads, and settings that are for GPUs.

use std::fs;
use std::process::Command;

use crate::support::{Ran, Scratch, SMALL};

/// Trains with `more`, `OMP_NUM_THREADS` as given, and returns the number of threads that the summary names.
fn threads_of(scratch: &Scratch, out: &str, omp: Option<&str>, more: &[&str]) -> usize {
    let mut command = scratch.command(SMALL.iter().chain(&["--out", out]).chain(more));
    match omp {
        Some(value) => command.env("OMP_NUM_THREADS", value),
        None => command.env_remove("OMP_NUM_THREADS"),
    };
    Ran::from(command.output().unwrap()).ok();
    summary_threads(scratch, out)
}

fn summary_threads(scratch: &Scratch, out: &str) -> usize {
    scratch.json(&format!("{out}/summary.json"))["threads"].as_u64().unwrap() as usize
}

#[test]
fn the_option_is_stronger_than_the_recipe_and_that_than_the_environment() {
    let scratch = Scratch::blobs();
    let all = std::thread::available_parallelism().unwrap().get();
    assert_eq!(threads_of(&scratch, "option", Some("1"), &["--threads=2", "--set=threads=3"]), 2);
    assert_eq!(threads_of(&scratch, "recipe", Some("1"), &["--set=threads=2"]), 2);
    assert_eq!(threads_of(&scratch, "variable", Some("3"), &[]), 3);
    assert_eq!(threads_of(&scratch, "auto", None, &["--set=threads=1", "--threads=auto"]), all);
    assert!(scratch.text("option/config.toml").contains("\nthreads = 2\n"));
    assert!(scratch.text("variable/config.toml").contains("\nthreads = \"auto\"\n"), "as for the device");
}

#[test]
fn only_processors_that_the_process_may_use_are_counted() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("").trim();
    let first = allowed.split([',', '-']).next().unwrap();
    let scratch = Scratch::blobs();
    let dec = scratch.command(SMALL.iter().chain(&["--out=run"]));
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", first]).arg(dec.get_program()).args(dec.get_args());
    command.current_dir(scratch.path("")).env_remove("OMP_NUM_THREADS");
    match command.output() {
        Ok(output) => Ran::from(output).ok(),
        Err(problem) => return eprintln!("skipped: taskset does not run ({problem})"),
    };
    assert_eq!(summary_threads(&scratch, "run"), 1);
}

/// A run whose network is large enough for a product to be shared between threads: what it leaves, and what it says.
fn run_with(scratch: &Scratch, out: &str, threads: usize, variables: &[(&str, &str)]) -> ([Vec<u8>; 2], Ran) {
    let more = [format!("--threads={threads}"), format!("--out={out}"), "--set=model.hidden=[300, 700]".to_owned()];
    let mut command = scratch.command(SMALL.iter().map(|&arg| arg.to_owned()).chain(more));
    command.envs(variables.iter().copied());
    let ran = Ran::from(command.output().unwrap()).ok();
    (["weights.safetensors", "assignments.csv"].map(|name| scratch.read(&format!("{out}/{name}"))), ran)
}

/// oneDNN leaves out the share of the threads that it does not get: weights became NaN.
#[test]
fn fewer_threads_than_asked_for_are_one_thread_less_and_no_wrong_product() {
    let scratch = Scratch::blobs();
    let (alone, ran) = run_with(&scratch, "alone", 1, &[]);
    assert!(!ran.stderr.contains("OMP_THREAD_LIMIT"), "{ran:#?}");
    for (out, variable, value) in [("limit", "OMP_THREAD_LIMIT", "1"), ("levels", "OMP_MAX_ACTIVE_LEVELS", "0")] {
        let (limited, ran) = run_with(&scratch, out, 2, &[(variable, value)]);
        assert!(limited == alone, "{variable}={value}");
        assert_eq!(summary_threads(&scratch, out), 1);
        assert!(ran.stderr.contains("1 of the 2 threads") && ran.stderr.contains(variable), "{ran:#?}");
    }
}

#[test]
fn the_load_of_the_machine_does_not_change_a_bit() {
    let scratch = Scratch::blobs();
    // With OMP_DYNAMIC there are never more threads than processors, however many are asked for.
    let threads = std::thread::available_parallelism().unwrap().get() + 1;
    let (plain, _) = run_with(&scratch, "plain", threads, &[]);
    let (dynamic, _) = run_with(&scratch, "dynamic", threads, &[("OMP_DYNAMIC", "true")]);
    assert!(plain == dynamic);
    assert_eq!(summary_threads(&scratch, "dynamic"), threads);
}

#[test]
fn members_of_a_sweep_use_as_many_as_the_sweep_was_told() {
    let scratch = Scratch::blobs();
    fs::write(scratch.path("s.toml"), "[sweep]\nseed = [0]\n").unwrap();
    scratch.dec(["sweep", "--config=s.toml", "--threads=2", "--out=s"].iter().chain(&SMALL)).ok();
    assert_eq!(summary_threads(&scratch, "s/seed=0"), 2);
}

#[test]
fn what_is_no_number_of_threads_is_refused_before_anything_is_read() {
    let scratch = Scratch::new();
    for wrong in ["0", "-1", "+2", "1.5", "two", "", "1025", "99999999999999999999999"] {
        let words = [&*format!("threads = {wrong}: "), "1 to 1024", "\"auto\""];
        scratch.dec(["--threads", wrong, "--data=none.npy"]).failed(2, &words);
        scratch.dec(["predict", "--threads", wrong, "--model=none.pt", "none.npy"]).failed(2, &words);
    }
    scratch.dec(["config", "--set=threads=0"]).failed(2, &["threads = 0: ", "1 to 1024"]);
    scratch.dec(["config", "--set=threads=many"]).failed(2, &["threads", "a number of threads, or \"auto\""]);
    scratch.dec(["config", "--set=threads=-1"]).failed(2, &["threads", "a number of threads, or \"auto\""]);
    assert!(scratch.names("").is_empty());
}

#[test]
fn predict_gives_the_same_clusters_with_any_number() {
    let scratch = Scratch::blobs();
    scratch.train("run", &[]);
    let predict = |threads| scratch.dec(["predict", "--model=run/model.pt", "rows.npy", "--threads", threads]).ok();
    assert_eq!(predict("1").stdout, predict("3").stdout);
}

#[test]
fn a_setting_for_gpus_is_said_to_do_nothing_on_the_cpu() {
    let scratch = Scratch::blobs();
    let plain = scratch.train("plain", &[]);
    assert!(!plain.stderr.contains("does nothing"), "{plain:#?}");
    let ran = scratch.train("gpu", &["--tf32"]);
    assert!(ran.stderr.contains("tf32 is for GPUs and does nothing on this device, cpu"), "{ran:#?}");
    assert!(scratch.text("gpu/config.toml").contains("\ntf32 = true\n"));
    assert_eq!(scratch.read("gpu/weights.safetensors"), scratch.read("plain/weights.safetensors"), "it is true");
}

#[test]
fn bf16_is_used_where_the_processor_has_it_and_said_to_be_missing_elsewhere() {
    let scratch = Scratch::blobs();
    let run = |out: &str, precision: &str, variables: &[(&str, &str)]| {
        let more =
            ["--threads=2", &format!("--out={out}"), "--set=model.hidden=[300, 700]", precision].map(str::to_owned);
        let mut command = scratch.command(SMALL.iter().map(|&arg| arg.to_owned()).chain(more));
        let ran = Ran::from(command.envs(variables.iter().copied()).output().unwrap()).ok();
        (scratch.read(&format!("{out}/weights.safetensors")), ran.stderr)
    };
    let (plain, said) = run("plain", "--set=precision=auto", &[]);
    assert!(!said.contains("bf16"), "{said}");
    let (asked, said) = run("asked", "--set=precision=bf16", &[]);
    let native = dec::backend::precision::bf16_is_native();
    assert_eq!((said.contains("does not multiply bf16"), asked == plain), (!native, !native), "{said}");
    // Rounded factors multiplied as float32: to see what it does to a result.
    let (emulated, said) = run("emulated", "--set=precision=bf16", &[("DEC_BF16_EVERYWHERE", "1")]);
    assert!(emulated != plain && !said.contains("bf16"), "{said}");
    scratch.dec(["config", "--set=precision=half"]).failed(2, &["precision", "half", "bf16"]);
}
