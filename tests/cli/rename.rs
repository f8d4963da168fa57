//! `dec rename`: names of clusters, kept in the run.

use crate::merge::six;
use crate::support::{Ran, Scratch};

fn rename(scratch: &Scratch, args: &[&str]) -> Ran {
    scratch.dec(["rename", "run"].iter().chain(args))
}

/// The cells of a CSV without quotes: header and rows.
fn cells(csv: &str) -> Vec<Vec<&str>> {
    csv.lines().map(|line| line.split(',').collect()).collect()
}

#[test]
fn names_come_with_the_clusters_wherever_these_are_told() {
    let scratch = six(&[]);
    let before = scratch.text("run/assignments.csv");
    let model = scratch.read("run/model.pt");
    let said = rename(&scratch, &["3=neurons", "5=T cells"]).ok();
    assert!(said.stdout.contains("\n3        neurons\n") || said.stdout.contains("neurons\n"), "{said:#?}");
    assert_eq!(scratch.json("run/summary.json")["names"], serde_json::json!({ "3": "neurons", "5": "T cells" }));

    // A column behind the number; all else is as before.
    let named = scratch.text("run/assignments.csv");
    let (named_cells, before_cells) = (cells(&named), cells(&before));
    assert_eq!(named_cells[0], ["row", "cluster", "name", "confidence", "second", "entropy", "outlier"]);
    for (row, old) in named_cells.iter().zip(&before_cells).skip(1) {
        let name = match row[1] {
            "3" => "neurons",
            "5" => "T cells",
            other => other,
        };
        assert_eq!(row[2], name);
        assert_eq!([&row[..2], &row[3..]].concat(), *old);
    }
    assert_eq!(scratch.read("run/model.pt"), model);

    let predicted = scratch.dec(["predict", "run", "rows.npy"]).ok();
    assert_eq!(predicted.stdout, named);
    assert!(predicted.stderr.contains(", neurons ") && predicted.stderr.contains(", T cells "), "{predicted:#?}");
    let unsure = scratch.dec(["predict", "run", "rows.npy", "--min-confidence=1"]).ok().stdout;
    assert!(cells(&unsure)[1..].iter().all(|row| row[1..3] == ["-1", ""]), "{unsure}");
    let evaluated = scratch.dec(["evaluate", "run", "--labels=y.npy"]).ok().stdout;
    assert!(evaluated.ends_with("\ncluster 3: neurons\ncluster 5: T cells\n"), "{evaluated}");

    // The library loads and saves them.
    let loaded = dec::Dec::load_on(scratch.path("run"), "cpu").unwrap();
    loaded.save(scratch.path("saved")).unwrap();
    assert_eq!(scratch.text("saved/assignments.csv"), named);
    assert_eq!(scratch.json("saved/summary.json")["names"], scratch.json("run/summary.json")["names"]);

    // Joined clusters have the names of their parts.
    let merged = scratch.dec(["merge", "run", "--join=1,5", "--join=3,4", "-o=merged"]).ok();
    let names = serde_json::json!({ "1": "T cells", "3": "neurons" });
    assert_eq!(scratch.json("merged/summary.json")["names"], names, "{merged:#?}");
    assert_eq!(scratch.dec(["predict", "merged", "rows.npy"]).ok().stdout, scratch.text("merged/assignments.csv"));
    assert!(merged.stdout.lines().next().unwrap().ends_with("name"), "{merged:#?}");

    // Changed, swapped, taken away: then it is all as it was.
    rename(&scratch, &["3=T cells", "5=neurons"]).ok();
    assert_eq!(scratch.json("run/summary.json")["names"], serde_json::json!({ "3": "T cells", "5": "neurons" }));
    rename(&scratch, &["3=", "5="]).ok();
    assert_eq!(scratch.text("run/assignments.csv"), before);
    assert!(scratch.json("run/summary.json")["names"].is_null());

    // A table of the first format has three columns, and gets no others.
    std::fs::write(scratch.path("run/assignments.csv"), "row,cluster,confidence\n0,3,0.5\n1,0,0.75\n").unwrap();
    rename(&scratch, &["3=neurons"]).ok();
    assert_eq!(scratch.text("run/assignments.csv"), "row,cluster,name,confidence\n0,3,neurons,0.5\n1,0,0,0.75\n");
}

/// What a terminal takes for a command is escaped wherever it is shown, and kept as it is in files.
#[test]
fn hostile_names_are_escaped_on_the_terminal() {
    let scratch = six(&[]);
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\n\"x\",=1+1";
    let escape = |ran: &Ran| assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{ran:#?}");
    let said = rename(&scratch, &[&format!("2={hostile}")]).ok();
    escape(&said);
    assert!(said.stdout.contains("\\u{1b}[2J"), "{said:#?}");
    assert_eq!(scratch.json("run/summary.json")["names"]["2"], hostile);
    escape(&rename(&scratch, &[]).ok());
    escape(&scratch.dec(["evaluate", "run", "--labels=y.npy"]).ok());
    escape(&scratch.dec(["merge", "run", "--join=1,2", "-o=merged"]).ok());
    assert_eq!(scratch.json("merged/summary.json")["names"]["1"], hostile);
    let predicted = scratch.dec(["predict", "run", "rows.npy", "-o=out.csv"]).ok();
    escape(&predicted);
    // In a CSV it is quoted, and read back as it was.
    let mut reader = csv::Reader::from_path(scratch.path("out.csv")).unwrap();
    let names: Vec<String> = reader.records().map(|record| record.unwrap()[2].to_owned()).collect();
    assert!(names.len() == 180 && names.iter().any(|name| name == hostile), "{names:?}");
    let refused = rename(&scratch, &[&format!("1={hostile}")]);
    escape(&refused);
    refused.failed(2, &["clusters 1 and 2 cannot both be called", "\\u{1b}"]);
    escape(&rename(&scratch, &["\u{1b}[2J"]));
}

/// On a terminal of its own, a prediction that goes there is escaped too.
#[cfg(target_os = "linux")]
#[test]
fn a_prediction_on_a_terminal_is_escaped() {
    use crate::support::{Running, Terminal};
    let scratch = six(&[]);
    rename(&scratch, &["2=\u{1b}[2J"]).ok();
    let terminal = Terminal::open();
    let mut running = Running::start_as_is(&mut terminal.with(&scratch.command(["predict", "run", "rows.npy"])));
    assert_eq!(running.end().code, Some(0));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let shown = terminal.shown();
    assert!(shown.contains("\\u{1b}[2J") && !shown.contains("\u{1b}[2J"), "{shown}");
    terminal.close();
}

#[test]
fn names_that_cannot_be_given_are_refused_and_change_nothing() {
    let scratch = six(&[]);
    rename(&scratch, &["0=a"]).ok();
    let before = scratch.tree();
    for (args, code, words) in [
        (&["6=b"][..], 2, "no cluster 6; there are 6, 0 to 5"),
        (&["1=a"], 2, "clusters 0 and 1 cannot both be called"),
        (&["1=b", "1=c"], 2, "cluster 1 is given two names"),
        (&["1=b", "2=b"], 2, "both be called"),
        (&["1=7"], 2, "a cluster's number"),
        (&["neurons"], 2, "as in 3=neurons"),
        (&["-1=b"], 2, "-1"),
    ] {
        let ran = rename(&scratch, args);
        assert!(ran.code == Some(code) && ran.stderr.contains(words), "{args:?}: {ran:#?}");
    }
    scratch.dec(["rename", "nowhere", "1=b"]).failed(3, &["no such directory"]);
    scratch.dec(["rename", ".", "1=b"]).failed(3, &["no directory of a finished run"]);
    assert_eq!(scratch.tree(), before);

    // Names that somebody has put there by hand are looked at too.
    let summary = scratch.text("run/summary.json").replace("\"0\": \"a\"", "\"9\": \"a\"");
    std::fs::write(scratch.path("run/summary.json"), summary).unwrap();
    rename(&scratch, &["1=b"]).failed(3, &["summary.json", "no cluster 9"]);
    scratch.dec(["predict", "run", "rows.npy"]).failed(3, &["summary.json", "no cluster 9"]);
}

#[cfg(all(feature = "parquet", feature = "h5ad"))]
#[test]
fn further_tables_have_the_names_and_old_ones_are_told() {
    let scratch = six(&["--set=output.format=parquet"]);
    let said = rename(&scratch, &["3=neurons"]).ok();
    assert!(said.stderr.contains("assignments.parquet has the names that it was written with"), "{said:#?}");
    for name in ["out.parquet", "out.arrow", "out.h5ad", "out.tsv", "out.npy"] {
        scratch.dec(["predict", "run", "rows.npy", "-o", name]).ok();
        let has = scratch.read(name).windows(7).any(|bytes| bytes == b"neurons");
        assert_eq!(has, !name.ends_with("npy"), "{name}");
    }
}
