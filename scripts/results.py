"""Recipe x data x seeds: trains what is not there yet, then writes the table. Called by scripts/results."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Accuracy of the method that the recipe is named for, on MNIST's 70,000 digits, and where it was published.
PUBLISHED = {
    ("notebook", "mnist"): (0.8278, "the Keras notebook's own output"),
    ("dec-paper", "mnist"): (0.8430, "Xie et al., ICML 2016"),
    ("idec", "mnist"): (0.8806, "Guo et al., IJCAI 2017"),
    ("dec-da", "mnist"): (0.985, "README of the authors' code (best of its variants), ACML 2018"),
    ("idec-da", "mnist"): (0.985, "README of the authors' code (best of its variants), ACML 2018"),
    ("dec-da", "builtin"): (0.983, "README of the authors' code (best of its variants), ACML 2018"),
    ("idec-da", "builtin"): (0.983, "README of the authors' code (best of its variants), ACML 2018"),
}
NAMES = {"mnist": "MNIST (70,000)", "builtin": "MNIST-test (10,000, built in)", "digits": "scikit-learn digits (1,797)"}
METHODS = {"kmeans": "k-means", "autoencoder_kmeans": "autoencoder + k-means", "start": "start", "dec": "recipe"}


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/results", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trains every recipe on every data set with every seed, one after the other, and tabulates accuracy,\n"
                    "NMI and ARI. What finished before is kept: call it again to go on, or with more seeds.",
        epilog="examples:\n  scripts/results --recipes default --data builtin,digits --seeds 0-9\n"
               "  scripts/results --recipes fast,best --data mnist --data-dir mnist/ --seeds 0-2 --write\n"
               "  scripts/results --recipes default --data rows.npy --labels y.npy --clusters 7 --seeds 0-4")
    parser.add_argument("--recipes", default="default", help="names or files, comma-separated [default: default]")
    parser.add_argument("--data", default="builtin",
                        help="builtin, mnist, digits (scikit-learn's), or files, comma-separated [default: builtin]")
    parser.add_argument("--data-dir", help="directory of MNIST's four files")
    parser.add_argument("--labels", help="labels of the one file that --data names")
    parser.add_argument("--clusters", type=int, help="clusters of the one file that --data names")
    parser.add_argument("--seeds", default="0-2", help="numbers and ranges, comma-separated [default: 0-2]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed on to dec")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs/results", help="where the runs are kept")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md from every run that is there")
    return parser.parse_args()


def seeds(text):
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def digits(out):
    """scikit-learn's digits as files, each row an image of 8 x 8."""
    import numpy
    from sklearn.datasets import load_digits
    found = load_digits()
    out.mkdir(parents=True, exist_ok=True)
    numpy.save(out / "digits.npy", found.images.astype("uint8"))
    numpy.save(out / "digits-labels.npy", found.target.astype("int64"))
    return ["--data", str(out / "digits.npy"), "--labels", str(out / "digits-labels.npy")]


def rows(name, args):
    if name == "builtin":
        return ["--data", "builtin"]
    if name == "mnist":
        return ["--data-dir", args.data_dir] if args.data_dir else ["--data", "mnist"]
    if name == "digits":
        return digits(args.out)
    options = ["--data", name]
    options += ["--labels", args.labels] if args.labels else []
    return options + (["--clusters", str(args.clusters)] if args.clusters else [])


def train(recipe, name, seed, args):
    data = name if name in NAMES else pathlib.Path(name).stem
    run = args.out / "+".join([pathlib.Path(recipe).stem, *sorted(args.set)]).replace("/", "_") / data / f"seed-{seed}"
    summary = run / "summary.json"
    if summary.is_file() and json.loads(summary.read_text())["status"] == "finished":
        return
    command = [ROOT / "target/release/dec", "--quiet", "--config", recipe, *rows(name, args), "--seed", str(seed), "--out",
               run, "--force"]
    for setting in args.set:
        command += ["--set", setting]
    print(f"{recipe} on {data}, seed {seed}", flush=True)
    ended = subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL)
    if ended.returncode == 130 or ended.returncode < 0:
        sys.exit(130)
    if ended.returncode:
        print(f"  failed with exit code {ended.returncode}", file=sys.stderr)


def collect(out):
    """{(recipe, data): [summary, ...]}, in the order of the folders' names."""
    table = {}
    for summary in sorted(out.glob("*/*/seed-*/summary.json")):
        found = json.loads(summary.read_text())
        if found["status"] == "finished":
            table.setdefault((summary.parents[2].name, summary.parents[1].name), []).append(found)
    return table


def spread(values):
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.median(values):.4f} [{min(values):.4f}, {max(values):.4f}]"


def lines(table):
    yield "| data | recipe | seeds | method | ACC | NMI | ARI | minutes | published |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (recipe, data), runs in sorted(table.items(), key=lambda item: (item[0][1], item[0][0])):
        minutes = statistics.median(run["seconds"] for run in runs) / 60
        published, source = PUBLISHED.get((recipe, data), (None, ""))
        for method, label in METHODS.items():
            results = [result for run in runs for result in run["results"] if result["method"] == method]
            if not results:
                continue
            scores = [spread([result[score] for result in results]) for score in ("acc", "nmi", "ari")]
            last = method == "dec"
            cells = [NAMES.get(data, data), f"`{recipe}`", str(len(results)), label, *scores,
                     f"{minutes:.1f}" if last else "", f"{published} ({source})" if last and published else ""]
            yield "| " + " | ".join(cells) + " |"


def processor():
    try:
        found = [line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]
        return f"{len(os.sched_getaffinity(0))} processors, {found[0]}"
    except (OSError, IndexError):
        return f"{os.cpu_count()} processors, {platform.machine()}"


def main():
    args = arguments()
    for name in args.data.split(","):
        for recipe in args.recipes.split(","):
            for seed in seeds(args.seeds):
                train(recipe, name, seed, args)
    table = "\n".join(lines(collect(args.out)))
    print(table)
    if args.write:
        today = datetime.date.today().isoformat()
        (ROOT / "RESULTS.md").write_text(
            "# Results\n\n"
            f"Written by `scripts/results` on {today}; {processor()}. Median [worst, best] over the seeds; minutes are the "
            "median of\nwhole runs on a machine that may have had other work. ACC is by the Hungarian method, NMI normalised "
            "by the arithmetic mean.\nLabels score, and touch nothing else.\n\n"
            f"{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
