#!/usr/bin/env python3
"""How the time of each stage, and the memory, of the default recipe grow with the rows: generated mixtures of ten clusters, 64 values a row.

Needs numpy, and a built dec (`cargo build --release`). A run of 1,000,000 rows takes some ten minutes on two cores.
"""

import argparse
import json
import math
import os
import pathlib
import sys
import tempfile

import numpy
from machine import processor

ROOT = pathlib.Path(__file__).resolve().parent.parent


def mixture(n_rows, width=64, clusters=10):
    """Rows of overlapping Gaussians that lie in a plane of 16 dimensions but for some noise, and their clusters."""
    rng = numpy.random.default_rng(n_rows)
    plane = numpy.linalg.qr(rng.normal(size=(width, 16)))[0]
    centres = rng.normal(size=(clusters, 16)) * 2.0
    labels = rng.integers(0, clusters, n_rows)
    rows = centres[labels] + rng.normal(size=(n_rows, 16))
    return (rows @ plane.T + 0.1 * rng.normal(size=(n_rows, width))).astype(numpy.float32), labels


def run(dec, n_rows, scratch, rest):
    """Seconds of each stage, seconds of the whole process, its peak in GB, and the accuracy."""
    rows, labels = mixture(n_rows)
    numpy.save(scratch / "rows.npy", rows)
    numpy.save(scratch / "labels.npy", labels)
    del rows
    out = scratch / f"run-{n_rows}"
    command = [dec, str(scratch / "rows.npy"), "--labels", str(scratch / "labels.npy"), "--out", str(out), "-q", *rest]
    child = os.posix_spawnp(dec, command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"growth: error: {' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    summary = json.loads((out / "summary.json").read_text())
    stages = {}
    for stage in summary["stages"]:
        stages[stage["name"]] = stages.get(stage["name"], 0.0) + stage["seconds"]
    return stages, summary["seconds"], usage.ru_maxrss / 1e6, summary["results"][-1]["acc"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Further options go to dec.")
    parser.add_argument("--dec", default=str(ROOT / "target" / "release" / "dec"), help="the program (target/release/dec)")
    parser.add_argument("--rows", default="62500,250000,1000000", help="numbers of rows, ascending (62500,250000,1000000)")
    options, rest = parser.parse_known_args()
    sizes = [int(size) for size in options.rows.split(",")]
    name, extensions = processor()
    print(f"{name} ({', '.join(extensions)}), {len(os.sched_getaffinity(0))} processors; seconds, as the power of the rows behind")
    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            stages, seconds, peak, acc = run(options.dec, size, pathlib.Path(scratch), rest)
            measured.append({**stages, "whole run": seconds, "peak memory, GB": peak, "ACC": acc})
            print(f"{size:,} rows: {seconds:.0f} s, {peak:.2f} GB, ACC {acc:.4f}", file=sys.stderr, flush=True)
    print(f"{'':<22}" + "".join(f"{size:>14,}" for size in sizes) + f"{'power':>8}")
    for what in dict.fromkeys(name for row in measured for name in row):
        values = [row.get(what, math.nan) for row in measured]
        first, last = values[0], values[-1]
        power = math.log(last / first) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 and first > 0.0 else math.nan
        print(f"{what:<22}" + "".join(f"{value:>14.2f}" for value in values) + (f"{power:>8.2f}" if what != "ACC" else ""))


if __name__ == "__main__":
    main()
