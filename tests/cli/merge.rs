//! `dec merge`: fewer clusters, without training again.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{Ran, Scratch, SMALL};

/// A run of six clusters on the three blobs, in `run`.
pub fn six(more: &[&str]) -> Scratch {
    let scratch = Scratch::blobs();
    let options = SMALL.iter().map(|option| if option.starts_with("--clusters") { "--clusters=6" } else { option });
    scratch.dec(options.chain(["--out=run", "--labels=y.npy"]).chain(more.iter().copied())).ok();
    scratch
}

fn merge(scratch: &Scratch, args: &[&str]) -> Ran {
    scratch.dec(["merge"].iter().chain(args))
}

/// The columns of a CSV of numbers, by name.
fn columns(csv: &str) -> BTreeMap<String, Vec<f64>> {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in lines {
        for (name, cell) in names.iter().zip(line.split(',')) {
            columns.entry((*name).to_owned()).or_default().push(cell.parse().unwrap());
        }
    }
    columns
}

/// The rows with everything that predict says of them.
fn wide(scratch: &Scratch, model: &str) -> BTreeMap<String, Vec<f64>> {
    scratch.dec(["predict", model, "rows.npy", "-o", "wide.csv", "--embedding", "--memberships"]).ok();
    columns(&scratch.text("wide.csv"))
}

/// The old clusters of each new one, as the summary has them.
fn members(scratch: &Scratch, run: &str) -> Vec<Vec<usize>> {
    serde_json::from_value(scratch.json(&format!("{run}/summary.json"))["merged"]["clusters"].clone()).unwrap()
}

/// Every q' is the sum of its members' q, and everything else that is said of a row follows from q'.
fn assert_sums(old: &BTreeMap<String, Vec<f64>>, new: &BTreeMap<String, Vec<f64>>, members: &[Vec<usize>]) {
    let n = old["row"].len();
    for row in 0..n {
        let q: Vec<f64> =
            members.iter().map(|all| all.iter().map(|j| old[&format!("q_{j}")][row]).sum::<f64>()).collect();
        for (cluster, sum) in q.iter().enumerate() {
            assert!((new[&format!("q_{cluster}")][row] - sum).abs() < 1e-6, "row {row}");
        }
        let own = new["cluster"][row] as usize;
        let most = q.iter().copied().fold(0.0, f64::max);
        assert!((q[own] - most).abs() < 1e-6 && (new["confidence"][row] - most).abs() < 1e-6, "row {row}: {q:?}");
        let entropy: f64 = q.iter().map(|&q| if q > 0.0 { -q * q.ln() } else { 0.0 }).sum();
        assert!((new["entropy"][row] - entropy).abs() < 1e-4, "row {row}");
        // A row that stays with its own is as far out as it was; the embedding is that of before.
        if members[own].contains(&(old["cluster"][row] as usize)) {
            assert_eq!(new["outlier"][row], old["outlier"][row], "row {row}");
        }
    }
    assert!(!new.contains_key(&format!("q_{}", members.len())));
    let latent = |all: &BTreeMap<String, Vec<f64>>| -> Vec<Vec<f64>> {
        all.iter().filter(|(name, _)| name.starts_with("z_")).map(|(_, values)| values.clone()).collect()
    };
    assert_eq!(latent(old), latent(new));
}

#[test]
fn joined_clusters_are_sums_wherever_the_run_is_read() {
    let scratch = six(&["--set=output.onnx=true", "--set=output.format=tsv"]);
    let before = scratch.tree();
    let ran = merge(&scratch, &["run", "--join", "5,1", "--join=4,2"]).ok();
    let members = members(&scratch, "run-merged-4");
    assert_eq!(members, [vec![0], vec![1, 5], vec![2, 4], vec![3]], "numbered by the smallest member: {ran:#?}");
    assert!(before.iter().all(|(path, content)| scratch.tree().get(path) == Some(content)), "the run stays as it is");
    let lines: Vec<Vec<&str>> = ran.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["cluster", "rows", "becomes", "rows"]);
    let becomes: Vec<&str> = lines[2..8].iter().map(|line| line[2]).collect();
    assert_eq!(becomes, ["0", "1", "2", "3", "2", "1"]);
    assert!(ran.stdout.contains("ACC") && ran.stdout.contains("run directory: "), "{ran:#?}");

    let (old, new) = (wide(&scratch, "run"), wide(&scratch, "run-merged-4"));
    assert_sums(&old, &new, &members);
    // The run, its module and its table say the same.
    let said = scratch.dec(["predict", "run-merged-4", "rows.npy"]).ok();
    assert_eq!(said.stdout, scratch.text("run-merged-4/assignments.csv"));
    assert!(said.stderr.contains("clusters ") && said.stderr.matches(" (").count() == 6, "four shares: {said:#?}");
    assert_eq!(said.stdout.replace(',', "\t"), scratch.text("run-merged-4/assignments.tsv"));
    let module = wide(&scratch, "run-merged-4/model.pt");
    assert_eq!(module["cluster"], new["cluster"]);
    for (name, values) in &module {
        let close = values.iter().zip(&new[name]).all(|(a, b)| (a - b).abs() < 1e-2);
        assert!(close, "{name}");
    }
    // Exports are those of the directory, and know of the sums.
    for (to, file) in [("onnx", "model.onnx"), ("torchscript", "model.pt")] {
        scratch.dec(["export", "run-merged-4", "--to", to, "-o", "again"]).ok();
        assert_eq!(scratch.read("again"), scratch.read(&format!("run-merged-4/{file}")), "{file}");
        assert!(scratch.read("again").windows(6).any(|bytes| bytes == b"groups"), "{file}");
        assert!(!scratch.read(&format!("run/{file}")).windows(6).any(|bytes| bytes == b"groups"), "{file}");
    }
    assert!(!scratch.path("run-merged-4/events.jsonl").exists());
    let summary = scratch.json("run-merged-4/summary.json");
    assert_eq!((&summary["n_clusters"], &summary["merged"]["n_clusters"]), (&4.into(), &6.into()));
    assert!(Path::new(summary["merged"]["from"].as_str().unwrap()).ends_with("run"));
    // The scores are those of the merged clusters.
    let evaluated = scratch.dec(["evaluate", "run-merged-4", "--labels=y.npy"]).ok().stdout;
    let results = summary["results"].as_array().unwrap();
    let dec = results.iter().find(|result| result["method"] == "dec").unwrap();
    assert!(evaluated.contains(&format!("ACC          {:.4}\n", dec["acc"].as_f64().unwrap())), "{evaluated} {dec}");
}

#[test]
fn a_merged_run_is_merged_again_and_loaded_by_the_library() {
    let scratch = six(&[]);
    merge(&scratch, &["run", "--join=0,3,4", "--out=once"]).ok();
    merge(&scratch, &["once", "--join=1,3", "--out=twice"]).ok();
    assert_eq!(members(&scratch, "once"), [vec![0, 3, 4], vec![1], vec![2], vec![5]]);
    assert_eq!(members(&scratch, "twice"), [vec![0], vec![1, 3], vec![2]]);
    assert_sums(&wide(&scratch, "run"), &wide(&scratch, "twice"), &[vec![0, 3, 4], vec![1, 5], vec![2]]);
    assert!(scratch.dec(["predict", "twice", "rows.npy"]).ok().stdout == scratch.text("twice/assignments.csv"));

    let twice = dec::Dec::load_on(scratch.path("twice"), "cpu").unwrap();
    assert_eq!((twice.n_clusters(), twice.centroids().nrows()), (3, 6));
    let rows = ndarray::Array2::from_shape_vec((180, 8), crate::support::blobs().0).unwrap();
    assert_eq!(twice.try_predict(&rows).unwrap(), twice.labels());
    let q = twice.soft_assignments(&rows).unwrap();
    assert_eq!(q.dim(), (180, 3));
    assert!(q.rows().into_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5));
    // Saved again, it is the same.
    twice.save(scratch.path("saved")).unwrap();
    assert_eq!(scratch.text("saved/assignments.csv"), scratch.text("twice/assignments.csv"));
    assert_eq!(scratch.read("saved/model.pt"), scratch.read("twice/model.pt"));
    assert_eq!(scratch.read("saved/weights.safetensors"), scratch.read("twice/weights.safetensors"));
}

/// Six clusters of three blobs: those that share a blob are the ones that the model tells apart least.
#[test]
fn a_number_of_clusters_joins_those_that_are_alike() {
    let scratch = six(&[]);
    let ran = merge(&scratch, &["run", "--to=3"]).ok();
    let of_blob = |csv: &str| -> Vec<(usize, i64)> {
        crate::support::assignments(csv).into_iter().map(|(row, cluster, _)| (row % 3, cluster)).collect()
    };
    let mut pairs = of_blob(&scratch.text("run-merged-3/assignments.csv"));
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), 3, "a cluster a blob: {ran:#?}");
    assert!(ran.stdout.lines().any(|line| line.starts_with("merged") && line.contains("1.0000")), "{ran:#?}");
    // The name that is taken gets a number.
    merge(&scratch, &["run", "--to=3"]).ok();
    assert!(scratch.path("run-merged-3-2/model.pt").exists());
    let to_one = merge(&scratch, &["run", "--to=1", "-o=one"]).ok();
    let table = scratch.text("one/assignments.csv");
    let cells: Vec<&str> = table.lines().nth(1).unwrap().split(',').collect();
    let confidence: f32 = cells[2].parse().unwrap();
    assert!((cells[1], cells[3]) == ("0", "-1") && (confidence - 1.0).abs() < 1e-6, "{table} {to_one:#?}");
}

#[test]
fn what_cannot_be_merged_is_refused_in_words() {
    let scratch = six(&[]);
    for (args, code, words) in [
        (&["run"][..], 2, &["--to", "--join"][..]),
        (&["run", "--to=3", "--join=1,2"], 2, &["cannot be used with"]),
        (&["run", "--to=6"], 2, &["--to 6: the run has 6 clusters; give 1 to 5"]),
        (&["run", "--to=0"], 2, &["give 1 to 5"]),
        (&["run", "--join=1"], 2, &["joins nothing"]),
        (&["run", "--join=1,x"], 2, &["--join \"1,x\"", "commas"]),
        (&["run", "--join=1,6"], 2, &["no cluster 6", "0 to 5"]),
        (&["run", "--join=1,2", "--join=2,3"], 2, &["cluster 2 is named twice"]),
        (&["nowhere", "--to=3"], 3, &["nowhere", "no such directory"]),
        (&[".", "--to=3"], 3, &["no directory of a finished run", "summary.json"]),
        (&["run", "--to=3", "--out=run"], 2, &["is the run itself"]),
    ] {
        let ran = merge(&scratch, args);
        assert!(ran.code == Some(code) && words.iter().all(|word| ran.stderr.contains(word)), "{args:?}: {ran:#?}");
        assert!(!ran.stderr.contains("panicked") && ran.stdout.is_empty(), "{ran:#?}");
    }
    assert_eq!(scratch.names("."), ["rows.npy", "run", "y.npy"], "nothing is made");

    // A directory that holds a run is left alone, unless asked.
    merge(&scratch, &["run", "--to=3", "--out=other"]).ok();
    merge(&scratch, &["run", "--to=4", "--out=other"]).failed(2, &["other", "holds a run", "--force"]);
    merge(&scratch, &["run", "--to=4", "--out=other", "--force"]).ok();
    assert_eq!(scratch.json("other/summary.json")["n_clusters"], 4);
    // Nobody trains on from it.
    scratch.dec(["resume", "other"]).failed(2, &["joined by `dec merge`", "the run that they are of is", "/run"]);
    let again = SMALL.iter().map(|option| if option.starts_with("--clusters") { "--clusters=6" } else { option });
    let again = scratch.dec(again.chain(["--labels=y.npy", "--out=other", "--resume-if-there"]));
    again.failed(2, &["other", "joined by `dec merge`", "--force"]);

    // Other rows, rows that are gone, a run of a later version or without its end.
    let (rows, _) = crate::support::blobs();
    let reversed: Vec<f32> = rows.chunks(8).rev().flatten().copied().collect();
    crate::support::write_npy(&scratch.path("other.npy"), &[180, 8], &reversed);
    crate::support::write_npy(&scratch.path("few.npy"), &[90, 8], &rows[..720]);
    crate::support::write_npy(&scratch.path("narrow.npy"), &[180, 4], &rows[..720]);
    merge(&scratch, &["run", "--to=3", "--data=other.npy"]).failed(3, &["another confidence", "--data"]);
    merge(&scratch, &["run", "--to=3", "--data=few.npy"]).failed(3, &["few.npy has 90"]);
    merge(&scratch, &["run", "--to=3", "--data=narrow.npy"]).failed(3, &["4 features", "8"]);
    std::fs::rename(scratch.path("rows.npy"), scratch.path("moved.npy")).unwrap();
    merge(&scratch, &["run", "--to=3"]).failed(3, &["rows.npy", "--data"]);
    merge(&scratch, &["run", "--to=3", "--data=moved.npy", "--out=moved"]).ok();
    assert_eq!(scratch.json("moved/summary.json")["n_clusters"], 3);
    std::fs::rename(scratch.path("y.npy"), scratch.path("z.npy")).unwrap();
    let unscored = merge(&scratch, &["run", "--to=3", "--data=moved.npy", "--out=unscored"]).ok();
    assert!(unscored.stderr.contains("y.npy is gone") && !unscored.stdout.contains("ACC"), "{unscored:#?}");

    let summary = scratch.text("run/summary.json");
    std::fs::write(scratch.path("run/summary.json"), summary.replace("\"format\": 3", "\"format\": 9")).unwrap();
    merge(&scratch, &["run", "--to=3"]).failed(3, &["format 9", "later"]);
    std::fs::write(scratch.path("run/summary.json"), "{").unwrap();
    merge(&scratch, &["run", "--to=3"]).failed(3, &["summary.json", "no summary of a run"]);
    std::fs::remove_file(scratch.path("run/summary.json")).unwrap();
    merge(&scratch, &["run", "--to=3"]).failed(3, &["no directory of a finished run"]);
}
