//! `dec config`, recipes and the help.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::support::Scratch;

#[test]
fn a_resolved_recipe_resolves_to_itself() {
    let scratch = Scratch::new();
    for name in ["default", "notebook", "dec-paper", "seeds"] {
        let first = scratch.dec(["config", "--config", name]).ok().stdout;
        std::fs::write(scratch.path("again.toml"), &first).unwrap();
        let second = scratch.dec(["config", "--config", "again.toml"]).ok().stdout;
        assert_eq!(first, second, "{name}");
    }
}

#[test]
fn settings_come_from_the_file_then_set_then_the_options() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("mine.toml"), "seed = 1\nn_clusters = 4\n[cluster]\ntol = 0.5\nlr = 0.25\n").unwrap();
    let args = ["config", "-c", "mine.toml", "--set", "seed=2", "-s", "cluster.tol=0.125", "--seed", "3"];
    let resolved = scratch.dec(args).ok().stdout;
    let table: toml::Table = toml::from_str(&resolved).unwrap();
    assert_eq!(table["seed"].as_integer(), Some(3), "the option is the strongest");
    assert_eq!(table["cluster"]["tol"].as_float(), Some(0.125), "--set is stronger than the file");
    assert_eq!(table["cluster"]["lr"].as_float(), Some(0.25), "the file is stronger than the default");
    assert_eq!(table["n_clusters"].as_integer(), Some(4));
    assert_eq!(table["pretrain"]["momentum"].as_float(), Some(0.9), "the default is there in full");
    assert_eq!(table["data"]["source"].as_str(), Some("builtin"));

    let keys = [
        "seed=7",
        "data.scale=0.02",
        "pretrain.epochs=2",
        "finetune.epochs=3",
        "kmeans.n_init=4",
        "cluster.tol=0.25",
        "cluster.max_rounds=5",
        "cluster.epochs_per_round=6",
    ];
    let sets = keys.iter().flat_map(|key| ["--set", key]);
    let table: toml::Table = toml::from_str(&scratch.dec(std::iter::once("config").chain(sets)).ok().stdout).unwrap();
    for assignment in keys {
        let (key, expected) = assignment.split_once('=').unwrap();
        let found = key.split('.').try_fold(&toml::Value::Table(table.clone()), |at, part| at.get(part)).cloned();
        assert_eq!(found.unwrap().to_string(), expected, "{key}");
    }
}

#[test]
fn notebook_is_the_notebooks_system() {
    let table: toml::Table = toml::from_str(&Scratch::new().dec(["config", "-c", "notebook"]).ok().stdout).unwrap();
    let float = |section: &str, key: &str| table[section][key].as_float().unwrap();
    let integer = |section: &str, key: &str| table[section][key].as_integer().unwrap();
    assert_eq!(table["data"]["source"].as_str(), Some("mnist"));
    assert_eq!(float("data", "scale"), 0.02);
    for stage in ["pretrain", "finetune"] {
        assert_eq!((integer(stage, "epochs"), integer(stage, "batch_size")), (50, 256), "{stage}");
        assert_eq!((float(stage, "lr"), float(stage, "momentum")), (0.1, 0.9), "{stage}");
    }
    assert_eq!(float("pretrain", "dropout"), 0.2);
    assert_eq!(integer("kmeans", "n_init"), 20);
    assert_eq!((float("cluster", "tol"), float("cluster", "lr"), float("cluster", "alpha")), (0.1, 0.1, 1.0));
    assert_eq!((integer("cluster", "max_rounds"), integer("cluster", "epochs_per_round")), (100, 50));
    assert_eq!(table["cluster"]["train_after_tol"].as_bool(), Some(true));
}

#[test]
fn checkpoint_and_guard_are_there_without_being_asked_for() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("old.toml"), "seed = 1\n[checkpoint]\nkeep = 5\n").unwrap();
    let table: toml::Table = toml::from_str(&scratch.dec(["config", "-c", "old.toml"]).ok().stdout).unwrap();
    let written = |section: &str| table[section].to_string();
    assert_eq!(written("checkpoint"), "{ every_secs = 60, keep = 5 }");
    assert_eq!(written("guard"), "{ max_rollbacks = 2, min_fraction = 0.1, rate_factor = 10.0 }");
    for (assignment, message) in [
        ("checkpoint.keep=0", "checkpoint.keep = 0: must be at least 1"),
        ("guard.rate_factor=1", "guard.rate_factor = 1: must be a number above 1"),
        ("guard.min_fraction=1", "guard.min_fraction = 1: must be a number from 0 to below 1"),
        ("guard.rate=1", "expected one of `max_rollbacks`, `rate_factor`, `min_fraction`"),
    ] {
        scratch.dec(["config", "--set", assignment]).failed(2, &[message]);
    }
}

/// Reading it would take all memory.
#[cfg(unix)]
#[test]
fn a_recipe_without_an_end_is_refused() {
    Scratch::new().dec(["config", "--config=/dev/zero"]).failed(2, &["/dev/zero: larger than 1 MiB", "dec-paper"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let scratch = Scratch::new();
    for args in [vec!["config"], vec!["config", "--config=dec-paper"]] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours); // nobody will ever read
        let output = scratch.command(&args).stdout(OwnedFd::from(theirs)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    }
}

#[test]
fn help_is_enough_to_work_from() {
    let scratch = Scratch::new();
    let help = scratch.dec(["--help"]).ok();
    assert_eq!(help.stderr, "");
    for word in [
        "predict",
        "sweep",
        "config",
        "fetch",
        "--set",
        "--data",
        "--labels",
        "--clusters",
        "--seed",
        "--device",
        "--out",
        "--force",
        "--quiet",
        "--verbose",
        "Examples:",
        "Exit codes:",
        "130",
        "notebook",
        "dec-paper",
        "summary.json",
        "model.pt",
    ] {
        assert!(help.stdout.contains(word), "{word}:\n{}", help.stdout);
    }
    for (command, word) in [("predict", "--model"), ("sweep", "[sweep]"), ("config", "resolved"), ("fetch", "--mirror")]
    {
        let help = scratch.dec([command, "--help"]).ok().stdout;
        assert!(help.contains(word), "{help}");
    }
    assert_eq!(scratch.dec(["--version"]).ok().stdout, format!("dec {}\n", env!("CARGO_PKG_VERSION")));
}

/// `--data` takes the recipe's labels away with the recipe's rows, but not those that the command line names.
#[test]
fn options_and_settings_go_together() {
    let scratch = Scratch::blobs();
    let named = scratch.dec(["config", "--data=rows.npy", "--set=data.labels=y.npy"]).ok().stdout;
    assert!(named.contains("y.npy"), "{named}");
    std::fs::write(scratch.path("r.toml"), "[data]\nsource = \"a.npy\"\nlabels = \"b.npy\"\n").unwrap();
    let other = scratch.dec(["config", "--config=r.toml", "--data=rows.npy"]).ok().stdout;
    assert!(other.contains("rows.npy") && !other.contains("b.npy"), "{other}");
    scratch.dec(["config", "--config=r.toml", "--data-dir=x"]).failed(2, &["--data-dir x", "--data mnist"]);
    let implied = scratch.dec(["config", "--data-dir=x"]).ok().stdout;
    assert!(implied.contains("source = \"mnist\""), "{implied}");
}

/// TOML is UTF-8, and a run's config.toml must be able to name its files.
#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    let args = [OsStr::new("config"), OsStr::new("--labels"), OsStr::from_bytes(b"\xff.npy")];
    scratch.dec(args).failed(2, &["UTF-8"]);
}

/// `-q` and `-v` belong to every command, before or behind it; the options of training do not.
#[test]
fn options_before_a_subcommand() {
    let scratch = Scratch::new();
    scratch.dec(["-q", "config"]).ok();
    scratch.dec(["config", "-q"]).ok();
    scratch.dec(["--seed=3", "config"]).failed(2, &["before a subcommand"]);
}

#[test]
fn the_recipes_are_listed() {
    let listed = Scratch::new().dec(["config", "--list"]).ok().stdout;
    for name in ["default", "fast", "best", "notebook", "dec-paper", "idec", "dec-da", "idec-da", "aspc-da", "seeds"] {
        let line = listed.lines().find(|line| line.split(' ').next() == Some(name));
        assert!(line.is_some_and(|line| line.len() > name.len() + 10), "{name}: {listed}");
    }
}
