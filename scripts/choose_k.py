#!/usr/bin/env python3
"""How often `dec choose-k` finds the number of clusters: real sets with classes, and generated mixtures of 2 to 30 clusters.

Needs numpy and scikit-learn, and a built dec (`cargo build --release`). Labels are never given to dec.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Each mixture: clusters, dimensions, mean rows a cluster, how far apart the nearest clusters are (in deviations), unequal sizes.
# Overlap: 6 deviations apart 0.1 % of two such clusters' rows are on the wrong side, 5: 0.6 %, 4: 2.3 %.
MIXTURES = [
    (2, 2, 200, 5.0, False), (3, 5, 150, 4.5, True), (4, 10, 150, 6.0, False), (5, 20, 120, 5.0, True),
    (6, 3, 200, 6.0, True), (7, 50, 120, 6.0, False), (8, 2, 150, 6.0, False), (9, 10, 120, 4.5, True),
    (10, 30, 150, 5.0, False), (11, 5, 150, 6.0, True), (12, 100, 100, 8.0, False), (13, 8, 120, 5.0, True),
    (15, 3, 120, 6.0, False), (16, 20, 120, 6.0, True), (18, 10, 100, 6.0, False), (20, 50, 100, 7.0, True),
    (22, 6, 100, 6.0, True), (24, 15, 100, 5.0, False), (27, 4, 100, 6.0, False), (30, 25, 80, 6.0, True),
]


def mixture(number):
    """Rows and classes of a mixture of Gaussians with axes of different lengths, turned at random."""
    k, d, mean_size, apart, unequal = MIXTURES[number]
    rng = numpy.random.default_rng(1000 + number)
    sizes = numpy.full(k, mean_size)
    if unequal:  # by a factor of eight at most
        shares = numpy.exp(rng.uniform(0, numpy.log(8), k))
        sizes = numpy.maximum(30, (shares / shares.sum() * k * mean_size)).astype(int)
    # Centres in a box of few dimensions that is widened until they fit: most have neighbours at about the least distance.
    inner = min(d, 2 + number % 5)
    side, centres = apart, numpy.zeros((0, inner))
    while len(centres) < k:
        for _ in range(300):
            place = rng.uniform(-side / 2, side / 2, inner)
            if len(centres) == 0 or numpy.linalg.norm(centres - place, axis=1).min() >= apart:
                centres = numpy.vstack([centres, place])
                break
        else:
            side *= 1.1
    turn = numpy.linalg.qr(rng.normal(size=(d, d)))[0][:, :inner]
    rows = []
    for centre, size in zip(centres, sizes):
        axes = numpy.linalg.qr(rng.normal(size=(d, d)))[0] * rng.uniform(0.6, 1.0, d)  # a deviation of 1 at most
        rows.append(turn @ centre + rng.normal(size=(size, d)) @ axes.T)
    classes = numpy.repeat(numpy.arange(k), sizes)
    order = rng.permutation(len(classes))
    return numpy.concatenate(rows)[order].astype(numpy.float32), classes[order]


def sets(which):
    """Names, what dec is given as rows, and the number of classes."""
    found = []
    if which in ("real", "all"):
        import sklearn.datasets
        digits, wine = sklearn.datasets.load_digits(), sklearn.datasets.load_wine()
        found += [("built-in digits", "builtin", 10), ("sklearn digits", digits.data.astype(numpy.float32), 10),
                  ("wine", wine.data.astype(numpy.float32), 3)]
    half = {"tuned": [0], "judged": [1], "all": [0, 1], "real": []}[which]
    for number in range(len(MIXTURES)):
        if number % 2 in half:
            k, d, _, apart, unequal = MIXTURES[number]
            sizes = "unequal" if unequal else "equal"
            found.append((f"mixture {number:2}: {d}-d, {apart} apart, {sizes}", mixture(number)[0], k))
    return found


def main():
    parser = argparse.ArgumentParser(prog="scripts/choose_k.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", choices=["real", "tuned", "judged", "all"], default="all",
                        help="real ones, the mixtures that the rule was tuned on, those it was judged on, or all [default: all]")
    parser.add_argument("--dec", type=pathlib.Path, default=ROOT / "target/release/dec", help="the program")
    parser.add_argument("--seed", default="0", help="of dec [default: 0]")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="where rows and runs are left")
    parser.add_argument("options", nargs="*", help="more options for dec choose-k, behind --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        right = total = 0
        print(f"{'set':44} {'true':>4} {'found':>5} {'margin':>6} {'within 1':>8} {'choice, s':>9} {'all, s':>6}", flush=True)
        for name, rows, k in sets(args.sets):
            stem = name.split(":")[0].replace(" ", "-")
            if not isinstance(rows, str):
                numpy.save(folder / f"{stem}.npy", rows)
                rows = str(folder / f"{stem}.npy")
            out = folder / f"{stem}.run"
            began = time.time()
            ran = subprocess.run([args.dec, "choose-k", rows, "--seed", args.seed, "--out", out, "--force", "--quiet", *args.options],
                                 capture_output=True, text=True)
            if ran.returncode != 0:
                print(f"{name:44} {ran.stderr.strip()}")
                total += 1
                continue
            choice = json.loads((out / "choose-k.json").read_text())
            within = abs(choice["recommended"] - k) <= 1
            right, total = right + within, total + 1
            print(f"{name:44} {k:4} {choice['recommended']:5} {choice['margin']:6.2f} {'yes' if within else 'NO':>8} "
                  f"{choice['seconds']:9.1f} {time.time() - began:6.1f}", flush=True)
        print(f"within 1 of the true number: {right} of {total}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
