"""Checks and measures dec on a GPU, in one command and the order of worth: a run that is cut short still tells most.

It needs no Rust: the machine needs PyTorch 2.11.0 with CUDA (and scikit-learn, for the peer), and three files that were
built elsewhere: `cargo build --release` makes target/release/dec and, where scripts/setup --cuda was run before,
libdec_cuda.so (copy it beside dec); `cargo test --release --lib --no-run` names the tests' binary.

Every step's figures are in --out/check-cuda.json as soon as the step is done; the table at the end is table.md. A step that
fails does not stop the others; the exit code is 1 then.
"""

import argparse
import csv
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

from bench import durations

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEER = ROOT / "scripts/peer.py"
PHASES = ("pretrain_1", "pretrain_2", "pretrain_3", "pretrain_4", "finetune", "cluster")

SHORT_DEFAULT = ["--set", "pretrain.epochs=2", "--set", "cluster.max_rounds=3", "--set", "start.networks=1",
                 "--set", "output.report=false"]


class Failed(Exception):
    """What a step found wrong."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/check-cuda", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dec", type=pathlib.Path, default=ROOT / "target/release/dec", metavar="FILE",
                        help="the program [default: target/release/dec]")
    parser.add_argument("--tests", type=pathlib.Path, metavar="FILE", help="the library's test binary")
    parser.add_argument("--data-dir", type=pathlib.Path, metavar="DIR",
                        help="MNIST's four files; without them the built-in digits take their place")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/check-cuda", metavar="DIR",
                        help="where everything goes [default: target/check-cuda]")
    parser.add_argument("--seconds", type=float, default=450, metavar="S",
                        help="no step begins that is expected to end later than this [default: 450]")
    parser.add_argument("--only", metavar="STEPS", help="these steps alone, separated by commas")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with little data: does the script itself work?")
    return parser.parse_args()


class Check:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.started = args, time.perf_counter()
        self.device = "cpu" if args.rehearse else "cuda"
        self.out = args.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        found = importlib.util.find_spec("torch")
        libraries = pathlib.Path(found.submodule_search_locations[0]) / "lib" if found else None
        self.environment = dict(os.environ)
        if libraries and not args.rehearse:
            paths = [str(libraries), self.environment.get("LD_LIBRARY_PATH", "")]
            self.environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
        self.steps: dict[str, dict] = {}
        self.rows: list[list[str]] = []
        limit = ["--set", "data.limit=1000"] if args.rehearse else []
        self.small = ["--data", "builtin", *limit]
        self.full = ["--data-dir", str(args.data_dir)] if args.data_dir else self.small
        self.full_peer = str(args.data_dir) if args.data_dir else "builtin"

    def spend(self) -> float:
        return time.perf_counter() - self.started

    def say(self, text: str) -> None:
        print(f"check-cuda: {self.spend():6.1f} s  {text}", flush=True)

    def run(self, name: str, command: list, timeout: float = 400) -> subprocess.CompletedProcess:
        began = time.perf_counter()
        try:
            done = subprocess.run([*map(str, command)], cwd=ROOT, env=self.environment, text=True, capture_output=True,
                                  timeout=timeout)
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{name}: not done after {late.timeout:.0f} s") from late
        (self.out / f"{name}.log").write_text(done.stdout + done.stderr)
        done.seconds = time.perf_counter() - began
        return done

    def dec(self, name: str, *options, recipe: str = "notebook", device: str | None = None) -> dict:
        out = self.out / "runs" / name
        done = self.run(name, [self.args.dec, "--config", recipe, "--device", device or self.device, "--seed", 1,
                               "--out", out, "--force", *options])
        if done.returncode != 0:
            raise Failed(f"{name}: exit code {done.returncode}: {done.stderr.strip()[-1500:]}")
        events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        return {**json.loads((out / "summary.json").read_text()), "events": events, "out": out, "wall": done.seconds}

    def peer(self, name: str, *options) -> dict:
        out = self.out / "runs" / name
        done = self.run(name, [sys.executable, PEER, "run", "--device", self.device, "--out", out, *options])
        if done.returncode != 0:
            raise Failed(f"{name}: {done.stderr.strip()[-1500:]}")
        events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        return {**json.loads((out / "summary.json").read_text()), "events": events, "wall": done.seconds}

    def short(self, epochs: int) -> list:
        return sum((["--set", f"{key}={value}"] for key, value in {
            "pretrain.epochs": epochs, "finetune.epochs": epochs, "cluster.tol": 0, "cluster.max_rounds": epochs,
            "cluster.epochs_per_round": 1, "kmeans.n_init": 3, "output.report": "false"}.items()), [])

    def step(self, name: str, expected: float, what) -> None:
        """Does a step unless it is not wanted or is expected to take longer than there is time."""
        if self.args.only and name not in self.args.only.split(","):
            return
        if self.spend() + expected > self.args.seconds:
            self.steps[name] = {"skipped": f"expected to take {expected} s, with {self.spend():.0f} s gone"}
            self.say(f"{name}: left out, no time")
        else:
            began = time.perf_counter()
            try:
                self.steps[name] = {"ok": True, **what()}
            except Failed as failure:
                self.steps[name] = {"ok": False, "failure": str(failure)}
            except Exception as fault:  # the next step may tell all the same
                self.steps[name] = {"ok": False, "failure": f"{type(fault).__name__}: {fault}"}
            self.steps[name]["seconds"] = round(time.perf_counter() - began, 2)
            result = self.steps[name]
            self.say(f"{name}: {'ok' if result['ok'] else 'FAILED: ' + result['failure']}")
            self.say("    " + json.dumps({k: v for k, v in result.items() if k not in ("ok", "failure")}))
        (self.out / "check-cuda.json").write_text(json.dumps(self.steps, indent=1) + "\n")


def digests(run: dict) -> list[str]:
    return [hashlib.sha256((run["out"] / name).read_bytes()).hexdigest()[:16]
            for name in ("assignments.csv", "weights.safetensors")]


def epochs(run: dict) -> dict[str, float]:
    """Median seconds of an epoch of each phase but the first, and of a refresh."""
    found = durations(run["events"])
    return {phase: round(statistics.median(seconds[1:] or seconds), 5) for phase, seconds in found.items()}


def stages(run: dict) -> dict[str, float]:
    return {stage["name"]: round(stage["seconds"], 3) for stage in run["stages"]}


def losses(run: dict) -> dict[str, float]:
    return {event["stage"]: event["loss"] for event in run["events"] if event["event"] == "epoch"}


def scores(run: dict) -> dict:
    return {r["method"]: {key: r[key] for key in ("acc", "inertia") if r.get(key) is not None} for r in run["results"]}


def tests(check: Check) -> dict:
    if not check.args.tests:
        raise Failed("--tests does not name the library's test binary")
    done = check.run("tests", [check.args.tests, "on_a_gpu", "--nocapture", "--test-threads", "1"], 200)
    said = done.stdout + done.stderr
    result = re.search(r"(\d+) passed; (\d+) failed", said)
    skipped = said.count("skipped: ")
    if done.returncode or not result:
        faults = re.findall(r"panicked at [^\n]*\n([^\n]*)", said)
        raise Failed(f"{result.group(0) if result else 'no result'}: " + "; ".join(faults or [said[-800:]]))
    if skipped and not check.args.rehearse:
        raise Failed(f"{skipped} tests skipped themselves: {said[-600:]}")
    return {"passed": int(result.group(1)), "skipped_themselves": skipped}


def smoke(check: Check) -> dict:
    run = check.dec("smoke", *check.small, *check.short(2))
    loads = f"import torch; m = torch.jit.load({str(run['out'] / 'model.pt')!r}).to({check.device!r}); " \
            f"print(float(sum(o.float().sum() for o in m(torch.zeros(3, 784, device={check.device!r})))))"
    done = check.run("model", [sys.executable, "-c", loads])
    if done.returncode:
        raise Failed(f"Python does not load model.pt: {done.stderr[-600:]}")
    return {"stages": stages(run), "wall": round(run["wall"], 2), "scores": scores(run)}


def bits(check: Check) -> dict:
    found = {}
    bf16 = [*check.short(2), "--set", "precision=bf16"]
    for name, recipe, options in [("notebook", "notebook", check.short(2)), ("default", "default", SHORT_DEFAULT),
                                  ("bf16", "notebook", bf16)]:
        first = check.dec(f"bits-{name}-1", *check.small, *options, recipe=recipe)
        second = check.dec(f"bits-{name}-2", *check.small, *options, recipe=recipe)
        found[name] = {"same": digests(first) == digests(second), "scores": scores(first)}
        if not found[name]["same"]:
            found[name]["first_difference"] = first_difference(first["events"], second["events"])
    if not all(entry["same"] for entry in found.values()):
        raise Failed(f"other bits the second time: {found}")
    return found


def first_difference(first: list[dict], second: list[dict]) -> str:
    """The first event that is another, times apart."""
    for a, b in zip(first, second):
        a, b = ({k: v for k, v in e.items() if "seconds" not in k} for e in (a, b))
        if a != b:
            return f"{json.dumps(a)[:200]} and {json.dumps(b)[:200]}"
    return "none in the events"


def resumed(check: Check) -> dict:
    """A run that is stopped after its first epoch and resumed, against one that is not."""
    options = [*check.small, *SHORT_DEFAULT]
    whole = check.dec("resume-whole", *options, recipe="default")
    out = check.out / "runs/resume-stopped"
    command = [check.args.dec, "--config", "default", "--device", check.device, "--seed", 1, "--out", out, "--force",
               *options]
    with (check.out / "resume-stopped.log").open("w") as log:
        process = subprocess.Popen([*map(str, command)], cwd=ROOT, env=check.environment, stdout=log, stderr=log)
        events, waited = out / "events.jsonl", time.perf_counter() + 60
        while not (events.is_file() and '"event":"epoch"' in events.read_text()) and time.perf_counter() < waited:
            time.sleep(0.02)
        process.terminate()
        code = process.wait(60)
    if code != 143:
        raise Failed(f"exit code {code}, not 143, after SIGTERM")
    done = check.run("resume", [check.args.dec, "resume", out])
    if done.returncode not in (0, 4):
        raise Failed(f"resume: exit code {done.returncode}: {done.stderr[-600:]}")
    again = {"out": out, "events": [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]}
    if digests(whole) != digests(again):
        raise Failed(f"other bits: {first_difference(whole['events'], again['events'])}")
    return {"same": True}


def beside_cpu(check: Check) -> dict:
    options = [*check.small, *check.short(3)]
    here, there = check.dec("cpu", *options, device="cpu"), check.dec("gpu", *options)
    a, b = losses(here), losses(there)
    apart = {stage: round(abs(a[stage] - b[stage]) / abs(a[stage]), 6) for stage in a}
    if max(apart[stage] for stage in a if stage != "cluster") > 0.02:
        raise Failed(f"losses differ: {apart}")
    return {"loss_difference": apart, "cpu": scores(here), "gpu": scores(there), "cpu_epochs": epochs(here),
            "gpu_epochs": epochs(there)}


def speeds(check: Check) -> dict:
    """Seconds of an epoch: dec as it is, without graphs, with TF32, in bf16; PyTorch eager."""
    found = {}
    for name, options in {"graphs": [], "plain": ["--set", "cuda_graphs=false"], "graphs_tf32": ["--set", "tf32=true"],
                          "graphs_bf16": ["--set", "precision=bf16"]}.items():
        run = check.dec(f"speed-{name}", *check.full, *check.short(3), *options)
        found[name] = {"epochs": epochs(run), "stages": stages(run), "losses": losses(run)}
        said = (check.out / f"speed-{name}.log").read_text()
        if "no CUDA graphs" in said or "at random takes longer" in said:
            raise Failed(f"not all of it was used: {said[:600]}")
    peer = check.peer("speed-eager", "--data", check.full_peer, "--epochs", 3, "--rounds", 3, "--epochs-per-round", 1,
                      "--n-init", 3, "--skip-raw")
    found["eager"] = {"epochs": epochs(peer), "losses": losses(peer)}
    return found


def compiled(check: Check) -> dict:
    """The same by torch.compile, also under autocast to bf16, and by eager PyTorch under it."""
    found = {}
    for name, options in {"compiled": ["--compile"], "compiled_bf16": ["--compile", "--bf16"], "eager_bf16": ["--bf16"]}.items():
        peer = check.peer(name, "--data", check.full_peer, "--epochs", 3, "--rounds", 3, "--epochs-per-round", 1,
                          "--n-init", 3, "--skip-raw", *options)
        found[name] = {"epochs": epochs(peer)}
    return found


def notebook(check: Check) -> dict:
    run = check.dec("notebook", *check.full, *(check.short(2) if check.args.rehearse else []))
    timed = stages(run)
    return {**outcome(run), "without_kmeans_raw": round(sum(timed.values()) - timed["kmeans_raw"], 2)}


def in_both(check: Check, recipe: str, options: list) -> dict:
    found = {}
    for precision in ("float32", "bf16"):
        run = check.dec(f"{recipe}-{precision}", *check.full, *options, "--set", f"precision={precision}", recipe=recipe)
        found[precision] = outcome(run)
    return found


def outcome(run: dict) -> dict:
    """What a whole run took, and what it came to."""
    return {"stages": stages(run), "seconds": round(run["seconds"], 2), "wall": round(run["wall"], 2), "scores": scores(run),
            "peak_memory": run.get("peak_memory_bytes")}


def notebook_peer(check: Check) -> dict:
    # Without k-means on the rows, which scikit-learn does not do on a GPU.
    extra = ["--epochs", 2, "--epochs-per-round", 2, "--n-init", 2] if check.args.rehearse else []
    peer = check.peer("notebook-eager", "--data", check.full_peer, "--skip-raw", *extra)
    timed = stages(peer)
    return {"stages": timed, "seconds": round(peer["seconds"], 2), "without_kmeans_raw": round(sum(timed.values()), 2)}


def best(check: Check) -> dict:
    extra = ["--set", "pretrain.epochs=2", "--set", "cluster.max_rounds=2"] if check.args.rehearse else []
    run = check.dec("best", *check.full, *extra, recipe="best")
    rounds = [(e["seconds"], e.get("acc") or 0) for e in run["events"] if e["event"] == "round"]
    before = sum(seconds for name, seconds in stages(run).items() if name != "cluster")
    there = next((before + seconds for seconds, acc in rounds if acc >= 0.98), None)
    return {**outcome(run), "seconds_to_0.98": there and round(there, 1), "rounds": [round(acc, 4) for _, acc in rounds[::10]]}


def default(check: Check) -> dict:
    rehearsal = ["--set", "pretrain.epochs=2", "--set", "cluster.max_rounds=2"]
    return in_both(check, "default", rehearsal if check.args.rehearse else [])


def predict(check: Check) -> dict:
    model = check.out / "runs/smoke/model.pt"
    rows = ["mnist", "--data-dir", check.args.data_dir] if check.args.data_dir else ["builtin"]
    done = check.run("predict", [check.args.dec, "predict", "--model", model, *rows, "--device", check.device,
                                 "--output", check.out / "predicted.csv"])
    if done.returncode:
        raise Failed(done.stderr[-600:])
    with (check.out / "predicted.csv").open() as file:
        count = sum(1 for _ in csv.reader(file)) - 1
    return {"rows": count, "wall": round(done.seconds, 2), "rows_a_second_with_start": round(count / done.seconds)}


def table(check: Check) -> str:
    lines = ["| step | result | seconds | figures |", "|---|---|---|---|"]
    for name, result in check.steps.items():
        state = "left out" if "skipped" in result else ("ok" if result["ok"] else "**failed**")
        rest = {k: v for k, v in result.items() if k not in ("ok", "seconds", "skipped")}
        lines.append(f"| {name} | {state} | {result.get('seconds', '')} | `{json.dumps(rest)[:700]}` |")
    speed = {**check.steps.get("speeds", {}), **check.steps.get("compiled", {})}
    ways = [way for way, found in speed.items() if isinstance(found, dict) and "epochs" in found]
    if ways:
        lines += ["", "Milliseconds of an epoch:", "", "| phase | " + " | ".join(ways) + " |", "|---" * (len(ways) + 1) + "|"]
        for phase in (*PHASES, "refresh"):
            cells = [f"{1000 * speed[way]['epochs'].get(phase, float('nan')):.1f}" for way in ways]
            lines.append(f"| {phase} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    args = arguments()
    check = Check(args)
    for name, expected, what in [
        ("tests", 15, tests), ("smoke", 10, smoke), ("bits", 25, bits), ("beside_cpu", 10, beside_cpu),
        ("resumed", 20, resumed), ("notebook", 30, notebook), ("best", 60, best), ("notebook_peer", 140, notebook_peer),
        ("predict", 8, predict), ("speeds", 50, speeds), ("default", 40, default), ("compiled", 90, compiled),
    ]:
        check.step(name, expected, lambda what=what: what(check))
    text = table(check)
    (check.out / "table.md").write_text(text)
    print(text)
    failed = [name for name, result in check.steps.items() if result.get("ok") is False]
    if failed:
        print(f"check-cuda: failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
