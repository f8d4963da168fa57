#!/usr/bin/env python3
"""Measures training in 1, 2 and 4 processes, and fits and checks the cost model of docs/SCALING.md."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EPILOG = """\
A step of end-to-end pretraining of the 784-500-500-2000-10 network on the built-in digits (recipe fast), each process with one
thread, all settings by turns. The model, for N processes on C processors and a batch of b rows:

    t(N, b) = N / min(N, C) * (t(1, b / N) + 2 (N - 1) / N * 4 P / w)

t(1, b / N) is measured; w, the bytes a second that a process passes on and adds, is fitted to two processes; what it then says of
four is a prediction. P is the number of parameters. Strong scaling: the same batch; weak: as many rows a process.

Needs an mpirun (Debian: apt install openmpi-bin) and a release build with the feature mpi."""
WIDTHS = [784, 500, 500, 2000, 10]
PARAMETERS = 2 * sum(a * b for a, b in zip(WIDTHS, WIDTHS[1:])) + sum(WIDTHS[1:]) + sum(WIDTHS[:-1])
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


def measure(dec, processes, batch, steps, scratch):
    """Milliseconds a step."""
    run = pathlib.Path(scratch) / f"run-{processes}-{batch}"
    settings = [f"pretrain.steps={steps}", f"pretrain.batch_size={batch}", "kmeans.n_init=1", "start.method=kmeans",
                "start.over_clustering=[]", "cluster.handover_epochs=0", "cluster.max_rounds=1", "cluster.lr=1e-9",
                "output.report=false"]
    command = [dec, "--quiet", "--config=fast", "--device=cpu", "--threads=1", "--out", run, "--force",
               *(f"--set={setting}" for setting in settings)]
    launcher = [*MPIRUN, "-n", processes] if processes > 1 else []
    done = subprocess.run([str(word) for word in launcher + command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"ranks: error: {' '.join(map(str, launcher + command))}:\n{done.stderr[-2000:]}")
    stages = {stage["name"]: stage for stage in json.loads((run / "summary.json").read_text())["stages"]}
    return 1e3 * stages["pretrain"]["seconds"] / stages["pretrain"]["steps"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dec", type=pathlib.Path, default=ROOT / "target/release/dec", help="the program to measure")
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 512, 1024, 2048], help="[default: 256 512 1024 2048]")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="[default: 1 2 4]")
    parser.add_argument("--rows", type=int, default=20480, help="rows that a timing goes through [default: 20480]")
    parser.add_argument("--repeats", type=int, default=3, help="turns [default: 3]")
    args = parser.parse_args()
    if not {1, 2} <= set(args.processes):
        parser.error("the model wants 1 and 2 processes")
    cores = len(os.sched_getaffinity(0))
    settings = {(n, b) for b in args.batches for n in args.processes} | {(1, b // n) for b in args.batches for n in args.processes}
    times = {setting: [] for setting in sorted(settings)}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(args.repeats):
            for (n, b), found in times.items():
                found.append(measure(args.dec, n, b, max(8, args.rows // b), scratch))
    found = {key: statistics.median(all_) for key, all_ in times.items()}

    at_once = lambda n: n / min(n, cores)
    moved = lambda n: 2 * (n - 1) / n * 4 * PARAMETERS
    left = statistics.median(found[2, b] / at_once(2) - found[1, b // 2] for b in args.batches)
    w = moved(2) / left * 1e3 if left > 0 else float("inf")
    model = lambda n, b: at_once(n) * (found[1, b // n] + moved(n) / w * 1e3)

    print(f"{PARAMETERS:,} parameters; {cores} processors; {args.repeats} turns, medians; load average {os.getloadavg()[0]:.1f}")
    print(f"w = {w / 1e9:.2f} GB/s: a sum over two processes takes {left:.1f} ms\n")
    several = [n for n in args.processes if n > 1]
    print("| batch | 1 process, ms | " + " | ".join(f"{n} processes, ms (model)" for n in several) + " | strong: 1 ÷ 2 | weak: 1 ÷ 2 |")
    print("| ---: |" + " ---: |" * (len(several) + 3))
    for b in args.batches:
        cells = [f"{found[1, b]:.1f}", *(f"{found[n, b]:.1f} ({model(n, b):.1f})" for n in several)]
        print(f"| {b:,} | " + " | ".join(cells) + f" | {found[1, b] / found[2, b]:.2f} | {found[1, b // 2] / found[2, b]:.2f} |")


if __name__ == "__main__":
    main()
