"""Measures dec beside its peers in one run, alternating, and writes a table (Markdown and JSON).

Both sides go through the notebook's schedule (configs/notebook.toml) with fewer epochs, as processes of their own and
in turn: dec's release binary, scripts/peer.py (eager PyTorch, scikit-learn), the bare matrix products by torch.mm and
by oneDNN (the floor), and the peer once more with torch.compile and fused SGD. Where the machine multiplies bf16, dec, the
bare products and the compiled peer (under torch.autocast) do so too. All run on the same rows, the same number of
threads and the same processors. The times are those of every epoch, from the run's own event log; the first
epoch of a phase warms up and is not counted. The table says the median of all counted epochs and, in brackets, the
least and the most.

The rows are MNIST's 70,000 digits, from --data-dir or from the cache that `dec fetch mnist` fills. Where they are not
there, and with --quick, they are the 10,000 digits that are built in.
"""

import argparse
import json
import os
import pathlib
import resource
import shlex
import shutil
import subprocess
import sys
import time

import bench_report as report
from machine import processor

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUICK_SECONDS = 285  # what --quick may take


class Failed(Exception):
    """Something that the user is told in a line."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog="About half an hour on two cores, under 5 minutes with --quick, an hour and a half with --full.\n"
        "--device cuda goes to both sides; scripts/check-cuda is the shorter way to a GPU's figures.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_true", help="the built-in digits and no torch.compile: under 5 minutes")
    scale.add_argument("--full", action="store_true", help="the notebook's whole run on each side, all 50 epochs, once")
    parser.add_argument("--data-dir", type=pathlib.Path, metavar="DIR", help="directory with MNIST's four files")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns of each side [default: 3]")
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="epochs of a phase, 2 or more [default: 3]")
    parser.add_argument("--threads", type=int, metavar="N", help="threads, and processors [default: all there are]")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for both sides [default: cpu]")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--write", action="store_true", help="also write the table to BENCHMARKS.md")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/bench", metavar="DIR",
                        help="where table.md, bench.json and the runs go [default: target/bench]")
    args = parser.parse_args()
    if args.repeats < 1 or args.epochs < 2 or (args.threads or 1) < 1:
        parser.error("--repeats and --threads are at least 1, --epochs at least 2")
    if args.full:
        args.repeats = 1
    args.out = args.out.resolve()
    return args


def find_data(args: argparse.Namespace) -> tuple[str, str]:
    """What scripts/peer.py's --data takes, and what the table calls it."""
    if args.quick:
        return "builtin", "the 10,000 built-in digits"
    if args.data_dir:
        directory = args.data_dir
    else:
        home = pathlib.Path(os.environ.get("HOME", "/"))
        cache = os.environ.get("DEC_CACHE") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "dec"
        directory = pathlib.Path(cache) / "mnist"
    names = ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"]
    if all((directory / f"{name}.gz").is_file() or (directory / name).is_file() for name in names):
        return str(directory.resolve()), "MNIST, 70,000 digits"
    if args.data_dir:
        raise Failed(f"{directory} has not MNIST's images ({', '.join(names)}, .gz or raw)")
    say("MNIST is not here (`dec fetch mnist` brings it): the 10,000 built-in digits take its place, not tiled")
    return "builtin", "the 10,000 built-in digits (MNIST was not here)"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Bench:
    """Runs both sides and keeps what they say: `samples[side][phase]` has a list of seconds for each turn."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.data, self.data_name = find_data(args)
        self.runs = args.out / "bench-runs"
        shutil.rmtree(self.runs, ignore_errors=True)
        self.runs.mkdir(parents=True)
        available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        self.threads = args.threads or len(available)
        if self.threads < len(available):
            os.sched_setaffinity(0, available[: self.threads])
        names = ("OMP", "MKL", "OPENBLAS", "RAYON")
        self.environment = {**os.environ, **{f"{name}_NUM_THREADS": str(self.threads) for name in names}}
        self.samples: dict[str, dict[str, list[list[float]]]] = {}
        self.runs_of: dict[str, list[dict]] = {}
        self.load = os.getloadavg()[0]
        native = {"avx512_bf16", "amx_tile"} & set(processor()[1]) or args.device != "cpu"
        self.bf16 = bool(native or os.environ.get("DEC_BF16_EVERYWHERE"))

    def process(self, name: str, command: list) -> dict:
        """Runs a process to its end; returns its summary.json with the wall-clock seconds and the load before."""
        out = self.runs / name
        load, before = os.getloadavg()[0], processor_seconds()
        started = time.perf_counter()
        done = subprocess.run([*map(str, command), "--out", str(out)], cwd=ROOT, env=self.environment, text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wall = time.perf_counter() - started
        if done.returncode != 0:
            raise Failed(f"{shlex.join(map(str, command))} failed:\n{done.stderr[-3000:]}")
        others = others_share(before, processor_seconds(), wall)
        say(f"{name} took {wall:.1f} s" + (f"; other programs took {others:.0%} of the machine" if others else ""))
        summary = json.loads((out / "summary.json").read_text())
        events = out / "events.jsonl"
        lines = events.read_text().splitlines() if events.is_file() else []
        return {**summary, "events": [json.loads(line) for line in lines], "wall": wall, "load": load, "others": others}

    def dec(self, name: str, data: list, **settings) -> dict:
        command = [ROOT / "target/release/dec", "-q", "--config", "notebook", *data, "--device", self.args.device]
        for key, value in settings.items():
            command += ["--set", f"{key.replace('__', '.')}={value}"]
        return self.process(name, command)

    def peer(self, name: str, subcommand: str, *options) -> dict:
        return self.process(name, [sys.executable, ROOT / "scripts/peer.py", subcommand, *options])

    def keep(self, side: str, run: dict) -> None:
        self.runs_of.setdefault(side, []).append(run)
        run["phases"] = durations(run["events"])
        for phase, seconds in run["phases"].items():
            self.samples.setdefault(side, {}).setdefault(phase, []).append(seconds[1:] or seconds)

    def turn(self, turn: int) -> None:
        args = self.args
        latent = (self.runs / "latent.npy").resolve()
        data = ["--data", "builtin"] if self.data == "builtin" else ["--data-dir", self.data]
        short = dict(pretrain__epochs=args.epochs, finetune__epochs=args.epochs, cluster__tol=0,
                     cluster__max_rounds=args.epochs, cluster__epochs_per_round=1, seed=turn)
        schedule = dict(seed=turn) if args.full else short
        peer = ["--data", self.data, "--seed", turn, "--device", args.device]
        peer_schedule = ["--epochs", args.epochs, "--rounds", args.epochs, "--epochs-per-round", 1]

        run = self.dec(f"dec-{turn}", data, **schedule)
        self.keep("dec", run)
        if self.bf16:
            self.keep("dec_bf16", self.dec(f"dec-bf16-{turn}", data, **schedule, precision="bf16"))
        eager = peer if args.full else [*peer, *peer_schedule]
        self.keep("eager", self.peer(f"eager-{turn}", "run", *eager, "--save-latent", latent))
        repeats = 10 if args.quick else 40
        options = ["--bf16"] if self.bf16 else []
        floor = self.peer(f"floor-{turn}", "floor", "--device", args.device, "--repeats", repeats, *options)
        self.runs_of.setdefault("floor", []).append(floor)
        for phase, timed in floor["phases"].items():
            for way, seconds in timed["seconds"].items():
                self.samples.setdefault(way, {}).setdefault(phase, []).append(seconds)

        # Half the rows, for the time a row.
        self.keep("half", self.dec(f"half-{turn}", data, **short, data__limit=run["n_rows"] // 2, kmeans__n_init=1))

        # The same latent rows for both: dec's k-means on raw rows, with a network of no matter.
        still = {f"{stage}__lr": 1e-12 for stage in ("pretrain", "finetune", "cluster")}
        ours = self.dec(f"latent-dec-{turn}", ["--data", latent], seed=turn, data__scale=1.0, model__hidden="[16]",
                        model__init_std=0.3, pretrain__steps=1, finetune__steps=1, cluster__update_interval_steps=1,
                        **still)
        self.runs_of.setdefault("latent_dec", []).append(ours)
        theirs = self.peer(f"latent-eager-{turn}", "kmeans", "--data", latent, "--seed", turn)
        self.runs_of.setdefault("latent_eager", []).append(theirs)

        if not (args.no_compile or args.quick):
            options = [*peer, *peer_schedule, "--compile", "--skip-raw"]
            try:
                self.keep("compiled", self.peer(f"compiled-{turn}", "run", *options))
                if self.bf16:
                    self.keep("compiled_bf16", self.peer(f"compiled-bf16-{turn}", "run", *options, "--bf16"))
            except Failed as failure:  # it needs a compiler and Python's headers
                say(f"torch.compile is left out: {failure}")
                args.no_compile = True


def processor_seconds() -> tuple[float, float] | None:
    """Seconds of processor time that everything has used since the start, and that this program's children have."""
    try:
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    idle = fields[3] + fields[4]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK"), children.ru_utime + children.ru_stime


def others_share(before: tuple | None, after: tuple | None, wall: float) -> float:
    """The share of the machine's processor time that other programs used meanwhile; 0 where that cannot be told."""
    if before is None or after is None:
        return 0.0
    used, own = after[0] - before[0], after[1] - before[1]
    return round(max(0.0, (used - own) / (wall * (os.cpu_count() or 1))), 4)


def durations(events: list[dict]) -> dict[str, list[float]]:
    """The seconds of every epoch of each stage, and of every refresh, from seconds since the stage began."""
    found: dict[str, list[float]] = {}
    before: dict[str, float] = {}
    for event in events:
        if event["event"] not in ("epoch", "round"):
            continue
        stage = event["stage"]
        phase = stage if event["event"] == "epoch" else "refresh"
        found.setdefault(phase, []).append(event["seconds"] - before.get(stage, 0.0))
        before[stage] = event["seconds"]
    return found


def main() -> int:
    args = arguments()
    started = time.perf_counter()
    try:
        bench = Bench(args)
        if bench.load > 0.3:
            say(f"the load average is {bench.load:.2f}: other programs' work will show in the figures")
        for turn in range(args.repeats):
            elapsed = time.perf_counter() - started
            if args.quick and turn > 0 and elapsed * (turn + 1) / turn > QUICK_SECONDS:
                say(f"{turn} of {args.repeats} turns took {elapsed:.0f} s: the rest is left out")
                args.repeats = turn
                break
            say(f"turn {turn + 1} of {args.repeats}")
            bench.turn(turn)
    except Failed as failure:
        say(f"error: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    text, content = report.of(bench)
    (args.out / "bench.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    (args.out / "table.md").write_text(text)
    if args.write:
        (ROOT / "BENCHMARKS.md").write_text(text)
    print(text)
    say(f"{args.out}: table.md, bench.json, runs/; {time.perf_counter() - started:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
