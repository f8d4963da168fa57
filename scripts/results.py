"""Recipe x data x seeds: trains what is not recorded yet, records it, then writes the table. Called by scripts/results."""

import argparse
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy
import sklearn.cluster
import sklearn.datasets
import sklearn.metrics
import sklearn.preprocessing
from scipy.optimize import linear_sum_assignment

from machine import processor

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORDS = ROOT / "RESULTS.jsonl"
TABLE = ROOT / "RESULTS.md"
DEC = ROOT / "target/release/dec"

# Accuracy of the method that the recipe is named for, and where it was published.
PUBLISHED = {
    ("notebook", "mnist"): (0.8278, "the Keras notebook's own output"),
    ("dec-paper", "mnist"): (0.8430, "Xie et al., ICML 2016"),
    ("idec", "mnist"): (0.8806, "Guo et al., IJCAI 2017"),
    ("dec-da", "mnist"): (0.985, "README of the authors' code (best of its variants), ACML 2018"),
    ("idec-da", "mnist"): (0.985, "README of the authors' code (best of its variants), ACML 2018"),
    ("dec-da", "builtin"): (0.983, "README of the authors' code (best of its variants), ACML 2018"),
    ("idec-da", "builtin"): (0.983, "README of the authors' code (best of its variants), ACML 2018"),
}
NAMES = {"mnist": "MNIST (70,000)", "builtin": "MNIST-test (10,000, built in)", "digits": "scikit-learn digits (1,797)",
         "wine": "scikit-learn wine (178)", "cancer": "scikit-learn breast cancer (569)"}
METHODS = {"kmeans": "k-means", "autoencoder_kmeans": "autoencoder + k-means", "start": "start", "dec": "recipe"}
SCORES = ("acc", "nmi", "ari")
BUNDLED = {"digits": sklearn.datasets.load_digits, "wine": sklearn.datasets.load_wine,
           "cancer": sklearn.datasets.load_breast_cancer}  # that scikit-learn brings
PEER = "spectral clustering alone"  # scikit-learn's, in place of a recipe


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/results", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trains every recipe on every data set with every seed, one after the other, and tabulates accuracy,\n"
                    "NMI and ARI. Every run that finishes is recorded, a line in RESULTS.jsonl, and not made again unless the\n"
                    "recipe's settings change: call it again to go on, or with more seeds. RESULTS.md is written from the\n"
                    "records whose recipe has the settings that it has now. (What `auto` comes to is the program's: a record\n"
                    "names its commit, and --again makes it anew.)",
        epilog="examples:\n  scripts/results --recipes default --data builtin,digits,wine,cancer --seeds 0-9\n"
               "  scripts/results --recipes fast,best --data mnist --data-dir mnist/ --seeds 0-2\n"
               "  scripts/results --recipes spectral --data digits,wine,cancer --seeds 0-9\n"
               "  scripts/results --recipes default --data rows.npy --labels y.npy --clusters 7 --seeds 0-4")
    parser.add_argument("--recipes", default="default",
                        help="names or files, comma-separated; `spectral` is scikit-learn's SpectralClustering on the rows "
                             "[default: default]")
    parser.add_argument("--data", default="builtin",
                        help="builtin, mnist, digits, wine, cancer (scikit-learn's), or files, comma-separated [default: builtin]")
    parser.add_argument("--data-dir", help="directory of MNIST's four files")
    parser.add_argument("--labels", help="labels of the one file that --data names")
    parser.add_argument("--clusters", type=int, help="clusters of the one file that --data names")
    parser.add_argument("--seeds", default="0-2", help="numbers and ranges, comma-separated [default: 0-2]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="passed on to dec; recorded, and a line of its own in the table")
    parser.add_argument("--again", action="store_true", help="make and record those runs too that are recorded already")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs/results", help="where the runs are kept")
    parser.add_argument("--table", action="store_true", help="train nothing, only write RESULTS.md from the records")
    return parser.parse_args()


def seeds(text):
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def bundled(name):
    """Rows and labels of one of scikit-learn's data sets; digits are images of 8 x 8."""
    found = BUNDLED[name]()
    rows = found.images.astype("uint8") if name == "digits" else found.data.astype("float32")
    return rows, found.target.astype("int64")


def options(name, args):
    """What tells dec where the rows are and how many clusters to find."""
    if name == "builtin":
        return ["--data", "builtin"]
    if name == "mnist":
        return ["--data-dir", args.data_dir] if args.data_dir else ["--data", "mnist"]
    if name in BUNDLED:
        rows, labels = bundled(name)
        args.out.mkdir(parents=True, exist_ok=True)
        files = [args.out / f"{name}.npy", args.out / f"{name}-labels.npy"]
        for file, values in zip(files, (rows, labels)):
            partial = file.with_suffix(f".{os.getpid()}.npy")
            numpy.save(partial, values)
            partial.replace(file)  # another scripts/results may be reading it
        return ["--data", str(files[0]), "--labels", str(files[1]), "--clusters", str(len(set(labels.tolist())))]
    given = ["--data", name]
    given += ["--labels", args.labels] if args.labels else []
    return given + (["--clusters", str(args.clusters)] if args.clusters else [])


def passed_on(changes):
    """Settings as options of dec."""
    return [word for change in changes for word in ("--set", change)]


def digest(recipe, changes, stderr=None):
    """Of a recipe's resolved settings with these changes, but for those that a run is told from outside."""
    if recipe == "spectral":
        return "scikit-learn " + sklearn.__version__
    command = [DEC, "config", "--config", recipe, *passed_on(changes)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=stderr, text=True).stdout
    apart = ("[checkpoint]", "[guard]")  # sections that leave training as it is, unless it diverges
    text = "\n\n".join(section for section in text.split("\n\n") if not section.startswith(apart))
    told = ("seed", "device", "threads", "n_clusters", "source", "dir", "labels")
    settings = [line for line in text.splitlines() if line.partition(" =")[0] not in told]
    return hashlib.sha256("\n".join(settings).encode()).hexdigest()[:16]


def records():
    lines = RECORDS.read_text().splitlines() if RECORDS.is_file() else []
    return [json.loads(line) for line in lines]


def is_of(key, run):
    """Whether `run` is a record of the run that `key` names; one with settings of its own is of no run without."""
    return key.items() <= run.items() and key.get("set") == run.get("set")


def record(key, found):
    """In place of what was recorded of the same run."""
    with open(__file__) as lock:  # another scripts/results may be at work
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [run for run in records() if not is_of(key, run)]
        partial = RECORDS.with_suffix(".partial")
        partial.write_text("".join(json.dumps(run) + "\n" for run in [*others, {**key, **found}]))
        partial.replace(RECORDS)


def spectral(name, seed):
    """Scores of scikit-learn's spectral clustering on the rows, tables standardised."""
    if name not in BUNDLED:
        sys.exit(f"spectral clustering alone is for {', '.join(BUNDLED)}: scikit-learn's takes too long on more rows")
    rows, truth = bundled(name)
    k = len(set(truth.tolist()))
    started = time.perf_counter()
    model = sklearn.cluster.SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=15, random_state=seed)
    table = rows.ndim == 2
    rows = rows.reshape(len(rows), -1).astype("float64")
    if table:  # columns in units of their own, which dec standardises too
        rows = sklearn.preprocessing.StandardScaler().fit_transform(rows)
    labels = model.fit_predict(rows)
    seconds = time.perf_counter() - started
    counts = sklearn.metrics.cluster.contingency_matrix(truth, labels)
    accuracy = counts[linear_sum_assignment(-counts)].sum() / len(rows)
    scores = {"acc": accuracy, "nmi": sklearn.metrics.normalized_mutual_info_score(truth, labels),
              "ari": sklearn.metrics.adjusted_rand_score(truth, labels)}
    return {"dec": scores}, seconds


def train(recipe, changes, name, seed, args):
    """Scores by method, and seconds; None for a run that failed."""
    data = name if name in NAMES else pathlib.Path(name).stem
    run = args.out / "+".join([pathlib.Path(recipe).stem, *changes]).replace("/", "_") / data / f"seed-{seed}"
    command = [DEC, "--quiet", "--config", recipe, *options(name, args), *passed_on(changes), "--seed", str(seed)]
    command += ["--out", run, "--force"]
    ended = subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL)
    if ended.returncode == 130 or ended.returncode < 0:
        sys.exit(130)
    if ended.returncode:
        print(f"  failed with exit code {ended.returncode}", file=sys.stderr)
        return None
    summary = json.loads((run / "summary.json").read_text())
    scores = {result["method"]: {score: result[score] for score in SCORES} for result in summary["results"]}
    return scores, summary["seconds"]


def commit():
    """The commit, and whether what is built from it has been changed since."""
    git = ["git", "-C", str(ROOT)]
    try:
        found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        sources = ["src", "configs", "build.rs", "Cargo.toml", "Cargo.lock"]
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *sources]).returncode != 0
        return found + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def spread(values):
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.median(values):.4f} [{min(values):.4f}, {max(values):.4f}]"


def lines(table):
    yield "| data | recipe | seeds | method | ACC | NMI | ARI | minutes | machine | commit | published |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for (data, recipe, changes), runs in sorted(table.items()):
        minutes = [run["seconds"] / 60 for run in runs]
        published, source = PUBLISHED.get((recipe, data), (None, ""))
        source += "; with the recipe's own settings" if changes else ""
        for method, label in METHODS.items():
            scores = [run["scores"][method] for run in runs if method in run["scores"]]
            if not scores:
                continue
            last = method == "dec"
            tail = ["", "", "", ""]
            if last:
                time_taken = f"{statistics.median(minutes):.1f}" + (f" (longest {max(minutes):.1f})" if len(runs) > 1 else "")
                machines = ", ".join(sorted({run["machine"] for run in runs}))
                commits = ", ".join(dict.fromkeys(run["commit"] for run in runs))
                tail = [time_taken, machines, commits, f"{published} ({source})" if published else ""]
            name = PEER if recipe == "spectral" else " ".join([f"`{recipe}`", *changes])
            cells = [NAMES.get(data, data), name, str(len(scores)), "the rows" if recipe == "spectral" else label,
                     *(spread([one[score] for one in scores]) for score in SCORES), *tail]
            yield "| " + " | ".join(cells) + " |"


def machine():
    """Processors, and what decides how fast they multiply."""
    name, extensions = processor()
    simd = next((f" with {label}" for found, label in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if found in extensions), "")
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{count} x {name}{simd}"


def main():
    args = arguments()
    made_by = commit()
    if not args.table:
        for name in args.data.split(","):
            for recipe in args.recipes.split(","):
                changes = [] if recipe == "spectral" else sorted(args.set)
                try:
                    now = digest(recipe, changes)
                except subprocess.CalledProcessError as failed:  # dec has said why
                    sys.exit(failed.returncode)
                for seed in seeds(args.seeds):
                    key = {"recipe": recipe, "settings": now, "data": name, "seed": seed}
                    if changes:
                        key["set"] = changes
                    if name not in NAMES:
                        key |= {"clusters": args.clusters, "labels": args.labels}
                    if not args.again and any(is_of(key, run) for run in records()):
                        continue
                    print(f"{recipe} on {name}, seed {seed}", flush=True)
                    made = spectral(name, seed) if recipe == "spectral" else train(recipe, changes, name, seed, args)
                    if made is None:
                        continue
                    scores, seconds = made
                    print(f"  ACC {scores['dec']['acc']}, {seconds / 60:.1f} minutes", flush=True)
                    record(key, {"scores": scores, "seconds": round(seconds, 1), "machine": machine(), "commit": made_by,
                                 "date": datetime.date.today().isoformat()})
    table, current = {}, {}
    for run in records():
        variant = (run["recipe"], tuple(run.get("set", ())))
        if variant not in current:
            try:
                current[variant] = digest(*variant, stderr=subprocess.DEVNULL)
            except subprocess.CalledProcessError:
                current[variant] = None  # a file or a setting that is no longer there
        if run["settings"] == current[variant]:
            table.setdefault((run["data"], *variant), []).append(run)
    text = "\n".join(lines(table))
    print(text)
    TABLE.write_text(
        "# Results\n\n"
        "Written by `scripts/results` from RESULTS.jsonl, a line a run. Median [worst, best] over the seeds. Minutes are those of\n"
        "whole runs, on a machine that may have had other work. ACC is by the Hungarian method, NMI normalised by the arithmetic\n"
        "mean. Labels score, and touch nothing else. The commit is that of the program that ran.\n\n"
        f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
