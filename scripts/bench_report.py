"""What scripts/bench measured, as figures and as a table; scripts/bench.py is what measures."""

import datetime
import os
import pathlib
import platform
import shutil
import statistics
import subprocess

from machine import processor

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["pretrain_1", "pretrain_2", "pretrain_3", "pretrain_4"]
PHASES = [*LAYERS, "finetune", "cluster", "refresh"]
WHOLE_EPOCHS = 50  # of every phase, in the notebook; its self-training is one refresh and one round of as many
BATCH = 256
SIDES = {"dec": "dec", "dec_bf16": "dec, bf16", "eager": "PyTorch", "compiled": "compiled", "compiled_bf16": "compiled, bf16",
         "mm": "`torch.mm`", "onednn": "oneDNN", "mm_bf16": "`torch.mm`, bf16"}
FLOORS = ("mm", "onednn", "mm_bf16")
MAX_OTHERS = 0.05  # of the machine that other programs may use


def stage_seconds(run: dict, stage: str) -> float:
    return next(entry["seconds"] for entry in run["stages"] if entry["name"] == stage)


def inertia(run: dict, method: str) -> float:
    return next(result["inertia"] for result in run["results"] if result["method"] == method)


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


class Figures:
    """What the measurements come to."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.n_rows = bench.runs_of["dec"][0]["n_rows"]
        self.steps = {side: self.steps_of(side) for side in SIDES if side in bench.samples}
        self.kmeans = {
            "raw": self.kmeans_of("dec", "eager"),
            "latent": self.kmeans_of("latent_dec", "latent_eager"),
        }
        self.whole = {side: self.whole_of(side) for side in ("dec", "dec_bf16", "eager") if side in bench.samples}
        self.losses = {side: self.losses_of(side) for side in ("dec", "eager")}
        self.per_row_change = self.scaling()
        self.targets = self.targets_of()

    def milliseconds(self, side: str, phase: str) -> list[list[float]]:
        """For each turn, milliseconds per 256 rows."""
        runs = self.bench.runs_of
        rows = runs["floor"][0]["phases"][phase]["rows"] if side in FLOORS else runs[side][0]["n_rows"]
        samples = self.bench.samples[side][phase]
        return [[1e3 * seconds / rows * BATCH for seconds in turn] for turn in samples]

    def steps_of(self, side: str) -> dict[str, dict]:
        each = {phase: self.milliseconds(side, phase) for phase in PHASES}
        found = {phase: spread(sum(turns, [])) for phase, turns in each.items()}
        medians = {phase: [statistics.median(turn) for turn in turns] for phase, turns in each.items()}
        found["layerwise"] = spread([sum(layers) for layers in zip(*(medians[layer] for layer in LAYERS))])
        together = list(zip(medians["cluster"], medians["refresh"]))
        found["cluster_each"] = spread([step + refresh for step, refresh in together])
        found["cluster_round"] = spread([step + refresh / WHOLE_EPOCHS for step, refresh in together])
        return found

    def kmeans_of(self, ours: str, theirs: str) -> dict:
        runs = self.bench.runs_of
        found = {}
        for name, side in (("dec", ours), ("peer", theirs)):
            found[name] = {
                "seconds": spread([stage_seconds(run, "kmeans_raw") for run in runs[side]]),
                "inertia": spread([inertia(run, "kmeans") for run in runs[side]]),
            }
        found["excess"] = found["dec"]["inertia"]["median"] / found["peer"]["inertia"]["median"] - 1.0
        return found

    def whole_of(self, side: str) -> dict:
        runs = self.bench.runs_of[side]
        computed = []
        for i, run in enumerate(runs):
            others = run["seconds"] - sum(sum(seconds) for seconds in run["phases"].values())
            medians = {phase: statistics.median(self.bench.samples[side][phase][i]) for phase in PHASES}
            refresh = medians.pop("refresh")
            computed.append(others + WHOLE_EPOCHS * sum(medians.values()) + refresh)
        return {
            "seconds": spread([run["seconds"] for run in runs]),
            "wall": spread([run["wall"] for run in runs]),
            "computed": spread(computed),
            "peak_memory_bytes": spread([run["peak_memory_bytes"] or float("nan") for run in runs]),
            "imported_memory_bytes": spread([run.get("imported_memory_bytes", 0) for run in runs]),
        }

    def losses_of(self, side: str) -> dict[str, float]:
        """The loss of the last epoch of each phase, in the first turn: both sides do the same work."""
        return {e["stage"]: e["loss"] for e in self.bench.runs_of[side][0]["events"] if e["event"] == "epoch"}

    def scaling(self) -> float:
        """By what fraction the time a row of an epoch of every phase grows when the rows double."""
        phases = [phase for phase in PHASES if phase != "refresh"]
        half, all_rows = ([statistics.median(sum(self.milliseconds(side, phase), [])) for phase in phases]
                          for side in ("half", "dec"))
        return sum(all_rows) / sum(half) - 1.0

    def ratio(self, phase: str, side: str = "eager", ours: str = "dec") -> float:
        return self.steps[side][phase]["median"] / self.steps[ours][phase]["median"]

    def best(self, phase: str) -> float:
        """The faster of the two peers over dec."""
        return min(self.ratio(phase, side) for side in ("eager", "compiled") if side in self.steps)

    def targets_of(self) -> list[dict]:
        whole = "seconds" if self.bench.args.full else "computed"
        ratio = {}
        for name, found in self.kmeans.items():
            ratio[name] = found["peer"]["seconds"]["median"] / found["dec"]["seconds"]["median"]
        memory = self.whole["dec"]["peak_memory_bytes"]["median"] / self.whole["eager"]["peak_memory_bytes"]["median"]
        total = self.whole["eager"][whole]["median"] / self.whole["dec"][whole]["median"]
        at_least = [
            ("Layer-wise pretraining, eager ÷ dec", 1.8, self.ratio("layerwise")),
            ("Fine-tuning, eager ÷ dec", 1.2, self.ratio("finetune")),
            ("Self-training with its refreshes, eager ÷ dec", 1.35, self.ratio("cluster_round")),
            ("Fine-tuning, torch.mm ÷ dec", 0.92, self.ratio("finetune", "mm")),
            ("Layer 3, torch.mm ÷ dec", 0.85, self.ratio("pretrain_3", "mm")),
            ("k-means on the raw rows, scikit-learn ÷ dec", 5.0, ratio["raw"]),
            ("k-means on the latent rows, scikit-learn ÷ dec", 2.0, ratio["latent"]),
            ("The notebook's run, eager ÷ dec", 1.6, total),
        ]
        if "dec_bf16" in self.steps:
            total = self.whole["eager"][whole]["median"] / self.whole["dec_bf16"][whole]["median"]
            at_least.append(("bf16, the notebook's run, eager in float32 ÷ dec", 3.0, total))
            at_least += [(f"bf16, {name}, torch.mm in bf16 ÷ dec", 0.85, self.ratio(phase, "mm_bf16", "dec_bf16"))
                         for name, phase in (("layer-wise", "layerwise"), ("fine-tuning", "finetune"))]
        if "compiled_bf16" in self.steps:
            names = {"layerwise": "layer-wise", "finetune": "fine-tuning", "cluster": "self-training"}
            at_least += [(f"bf16, {name}, compiled autocast ÷ dec", 1.3, self.ratio(phase, "compiled_bf16", "dec_bf16"))
                         for phase, name in names.items()]
            # Of each as many epochs.
            theirs, ours = (sum(self.steps[side][phase]["median"] for phase in names) for side in ("compiled_bf16", "dec_bf16"))
            at_least.append(("bf16, all the notebook's steps, compiled autocast ÷ dec", 1.3, theirs / ours))
        at_most = [
            ("k-means on the raw rows, inertia over scikit-learn's", 0.001, self.kmeans["raw"]["excess"]),
            ("Peak memory, dec ÷ eager", 0.6, memory),
            ("Time a row when the rows double, change", 0.05, abs(self.per_row_change)),
        ]
        return [
            {"what": what, "target": f"{sign} {target:g}", "found": found, "met": met(found, target)}
            for sign, listed, met in (("≥", at_least, float.__ge__), ("≤", at_most, float.__le__))
            for what, target, found in listed
        ]


def machine(bench) -> dict:
    cpu, extensions = processor()
    commit = ""
    if shutil.which("git"):
        git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        commit = git.stdout.strip()
    ours, theirs = bench.runs_of["dec"][0], bench.runs_of["eager"][0]
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "extensions": extensions,
        "processors": os.cpu_count(),
        "threads": {"dec": ours["threads"], "peer": theirs["threads"]},
        "device": ours["device"],
        "gpu": theirs["versions"].get("gpu"),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": bench.load,
        "others_share": max(run["others"] for runs in bench.runs_of.values() for run in runs),
        "commit": commit or "not a git checkout",
        "versions": {**ours["versions"], **theirs["versions"]},
    }


def shown_command(args) -> str:
    """The command line, without the paths of this machine."""
    parts = ["scripts/bench"]
    for name in ("quick", "full", "no_compile"):
        if getattr(args, name):
            parts.append("--" + name.replace("_", "-"))
    if args.data_dir:
        parts.append("--data-dir MNIST")
    if not args.full:
        parts.append(f"--repeats {args.repeats}")
    parts.append(f"--epochs {args.epochs}")
    if args.threads:
        parts.append(f"--threads {args.threads}")
    if args.device != "cpu":
        parts.append(f"--device {args.device}")
    return " ".join(parts)


def number(value: float) -> str:
    """Three significant digits, more where the number is longer."""
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def with_spread(values: dict) -> str:
    if values["n"] == 1:
        return number(values["median"])
    return f"{number(values['median'])} ({number(values['min'])}–{number(values['max'])})"


def table(header: list[str], rows: list[list[str]]) -> str:
    aligned = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, aligned, *rows]) + "\n"


def markdown(bench, figures: Figures, where: dict) -> str:
    written = f"Written by `{shown_command(bench.args)} --write`; `scripts/bench --help` says how it is measured."
    sections = [machine_section(bench, where), step_section(figures), kmeans_section(figures),
                run_section(bench, figures), target_section(figures)]
    warning = []
    if where["others_share"] > MAX_OTHERS:
        warning = ["**Other programs used much of the machine meanwhile: these figures say little.**", ""]
    return "\n".join(["# Benchmarks", "", written, "", *warning, *sections])


def machine_section(bench, where: dict) -> str:
    args, versions, threads = bench.args, where["versions"], where["threads"]
    turns = f"{args.repeats} turns of each side" if args.repeats > 1 else "one turn of each side"
    named = {
        "machine": f"{where['cpu']} ({', '.join(where['extensions'])}), {where['processors']} processors",
        "threads": f"{threads['dec']} for dec, {threads['peer']} for its peers",
        "device": where["device"] + (f" ({where['gpu']})" if where["gpu"] else ""),
        "versions": f"dec {versions['dec']} ({where['commit']}), libtorch {versions['libtorch']}; PyTorch "
        f"{versions['torch']}, scikit-learn {versions['scikit-learn']}, NumPy {versions['numpy']}, Python "
        f"{versions['python']}",
        "rows": bench.data_name,
        "measured": f"{where['date']}; {turns}, {epochs_of(args)} epochs a phase, the first not counted",
        "other programs": f"load average {where['load_before']:.2f} before; at most {where['others_share']:.0%} of the "
        "machine during any one process",
    }
    return table(["", ""], [[key, value] for key, value in named.items()]).replace("---:", "---")


def step_section(figures: Figures) -> str:
    steps = figures.steps
    floors = [side for side in FLOORS if side in steps]
    names = {
        **{layer: f"layer {layer[-1]}" for layer in LAYERS},
        "layerwise": "**layer-wise, all four**",
        "finetune": "**fine-tuning**",
        "cluster": "self-training, without refreshes",
        "refresh": "refresh of q and p",
        "cluster_round": f"**self-training**, a refresh in {WHOLE_EPOCHS} epochs (the notebook)",
        "cluster_each": "self-training, a refresh an epoch (the default recipe)",
    }
    times = table(["ms", *(SIDES[side] for side in steps)],
                  [[name, *(with_spread(found[phase]) for found in steps.values())] for phase, name in names.items()])
    rows = []
    for phase, name in names.items():
        ratios = [figures.ratio(phase), figures.best(phase), *(figures.ratio(phase, floor) for floor in floors)]
        rows.append([name, *(f"{ratio:.2f}" for ratio in ratios)])
    ratios = table(["ratio to dec", "PyTorch", "faster peer", *(SIDES[floor] for floor in floors)], rows)
    compiled = "; *compiled* is `torch.compile` with `fused=True`" if "compiled" in steps else ""
    if "dec_bf16" in steps:
        compiled += "; *bf16* is `precision = \"bf16\"` in dec, `torch.autocast` in PyTorch"
    speed = {side: BATCH * 1e3 / steps[side]["refresh"]["median"] for side in ("dec", "eager")}
    return f"""## A step

Milliseconds for a batch of 256 rows: the median over the counted epochs (least–most); sums and self-training with its
refreshes have the spread of the turns. *PyTorch* is eager, with `torch.optim.SGD` as it is by default{compiled}.

{times}
`torch.mm` is the step's matrix products alone, into existing buffers, in the same run: the floor for whoever multiplies
as PyTorch does. A faster product can go below it: *oneDNN* is the same products by that library, the way Python reaches
it, which allocates each result.

{ratios}
A refresh is inference: every row through the encoder, then q, p and the labels, without a graph. dec infers
{speed['dec']:,.0f} rows/s, PyTorch {speed['eager']:,.0f}.
"""


def kmeans_section(figures: Figures) -> str:
    rows = []
    for name, found in figures.kmeans.items():
        ours, theirs = found["dec"], found["peer"]
        rows.append([
            f"{name}, {figures.n_rows:,} × {784 if name == 'raw' else 10}",
            with_spread(ours["seconds"]), with_spread(theirs["seconds"]),
            f"{theirs['seconds']['median'] / ours['seconds']['median']:.2f}",
            *(f"{side['inertia']['median']:,.0f}" for side in (ours, theirs)),
            f"{100 * found['excess']:+.3f} %",
        ])
    header = ["rows", "dec, s", "scikit-learn, s", "ratio", "inertia, dec", "inertia, scikit-learn", "difference"]
    return f"""## k-means

20 restarts of k-means++, 10 clusters, `tol` 1e-4, at most 300 iterations: medians over the turns, each with a seed of
its own (least–most). Both cluster the same rows; the latent ones are those of PyTorch's network.

{table(header, rows)}"""


def run_section(bench, figures: Figures) -> str:
    args = bench.args
    ours, theirs = figures.whole["dec"], figures.whole["eager"]
    listed = [(f"{WHOLE_EPOCHS} epochs a phase, {'measured' if args.full else 'computed'}, s", "computed", 1.0)]
    if args.full:
        listed = [(listed[0][0], "seconds", 1.0)]
    else:
        listed.insert(0, (f"{args.epochs} epochs a phase, measured, s", "seconds", 1.0))
    listed.append(("peak memory, MB", "peak_memory_bytes", 1e-6))
    rows = []
    for name, key, unit in listed:
        sides = [{k: v if k == "n" else v * unit for k, v in side[key].items()} for side in (ours, theirs)]
        rows.append([name, *map(with_spread, sides), f"{sides[1]['median'] / sides[0]['median']:.2f}"])
    computed = "" if args.full else (
        " The computed one has 50 medians of each phase and\n"
        "one refresh in place of the epochs and refreshes that were run, as the notebook has it."
    )
    losses = [[stage, *(f"{figures.losses[side][stage]:.4f}" for side in ("dec", "eager"))]
              for stage in PHASES if stage != "refresh"]
    return f"""## The run

{table(["", "dec", "PyTorch", "ratio"], rows)}
The time is from the rows being in memory to the last assignment.{computed}
Of PyTorch's memory, {theirs['imported_memory_bytes']['median'] / 1e6:,.0f} MB are there once it is imported.

With twice the rows ({figures.n_rows // 2:,} to {figures.n_rows:,}) dec's time for a row of an epoch changes by
{100 * figures.per_row_change:+.1f} %.

That both do the same work, the loss of each phase's last epoch in the first turn:

{table(["phase", "dec", "PyTorch"], losses)}"""


def target_section(figures: Figures) -> str:
    rows = []
    for target in figures.targets:
        found = target["found"]
        shown = f"{found:.5f}" if abs(found) < 0.01 else f"{found:.2f}"
        rows.append([target["what"], target["target"], shown, "yes" if target["met"] else "no"])
    return "## Targets\n\n" + table(["", "target", "measured", "met"], rows)


def epochs_of(args) -> int:
    return WHOLE_EPOCHS if args.full else args.epochs


def of(bench) -> tuple[str, dict]:
    """The table as Markdown, and everything as what JSON holds."""
    figures, where = Figures(bench), machine(bench)
    content = {
        "command": shown_command(bench.args), "machine": where, "data": bench.data_name, "n_rows": figures.n_rows,
        "batch": BATCH, "milliseconds_a_batch": figures.steps, "kmeans": figures.kmeans, "run": figures.whole,
        "time_a_row_change": figures.per_row_change, "losses": figures.losses, "targets": figures.targets,
        "samples_seconds": bench.samples,
        "loads": {side: [run["load"] for run in runs] for side, runs in bench.runs_of.items()},
        "others_share": {side: [run["others"] for run in runs] for side, runs in bench.runs_of.items()},
    }
    return markdown(bench, figures, where), content
