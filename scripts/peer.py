"""The peer that scripts/bench measures dec against: the notebook's schedule in eager PyTorch and scikit-learn.

It is written as one writes it who knows PyTorch: rows resident as one float32 tensor, batches taken from it by a
shuffled index, torch.optim.SGD, no data loader, no autograd where nothing is trained. What it trains is what
`dec --config notebook` trains (configs/notebook.toml). `python scripts/peer.py run --help` lists the options.

Every subcommand writes JSON into the directory --out, in dec's own form: `events.jsonl`, a line an epoch and refresh
with the seconds since its stage began, and `summary.json`.
"""

import argparse
import contextlib
import gzip
import json
import pathlib
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HIDDEN = (500, 500, 2000)
N_LATENT = 10
N_CLUSTERS = 10
SCALE = 0.02
BATCH_SIZE = 256
DROPOUT = 0.2
LR = 0.1
MOMENTUM = 0.9
BLOCK_ROWS = 8192  # a block of a pass over all rows
WARM_UP = 3  # untimed repeats of the floor

DIGITS = pathlib.Path(__file__).parent.parent / "src/data/builtin/t10k-images-idx3-ubyte.gz"


def read_idx(path: pathlib.Path) -> np.ndarray:
    """The images of an IDX file, gzipped or not: uint8 [n, pixels]."""
    opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
    with opened as file:
        content = file.read()
    n = int.from_bytes(content[4:8], "big")
    return np.frombuffer(content, np.uint8, offset=16).reshape(n, -1)


def load_rows(data: str) -> torch.Tensor:
    """Scaled float32 rows [n, d]: `builtin`, an NPY file, or the directory with MNIST's images."""
    path = pathlib.Path(data)
    if data == "builtin":
        rows = read_idx(DIGITS)
    elif path.suffix == ".npy":
        return torch.from_numpy(np.load(path).astype(np.float32))
    else:
        names = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
        found = [next(p for p in (path / f"{name}.gz", path / name) if p.is_file()) for name in names]
        rows = np.concatenate([read_idx(p) for p in found])
    return torch.from_numpy(rows.astype(np.float32)).mul_(SCALE)


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident: VmHWM, as dec reads it; ru_maxrss where there is no /proc."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Log:
    """Writes what happens in dec's form; a stage's seconds count from `stage`."""

    def __init__(self, out: pathlib.Path, device: torch.device) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.device = out, device
        self.file = (out / "events.jsonl").open("w")
        self.stages: list[dict] = []
        self.results: list[dict] = []
        self.first_started = time.perf_counter()

    def seconds(self) -> float:
        synchronise(self.device)
        return time.perf_counter() - self.started

    def event(self, event: str, **values) -> None:
        self.file.write(json.dumps({"event": event, "stage": self.name, **values, "seconds": self.seconds()}) + "\n")
        self.file.flush()

    @contextlib.contextmanager
    def stage(self, name: str):
        synchronise(self.device)
        self.name, self.started = name, time.perf_counter()
        yield
        self.stages.append({"name": name, "seconds": self.seconds()})
        print(f"peer: {name} {self.stages[-1]['seconds']:.1f} s", file=sys.stderr)

    def finish(self, **values) -> None:
        summary = {
            "results": self.results,
            "stages": self.stages,
            "seconds": time.perf_counter() - self.first_started,
            "peak_memory_bytes": peak_memory_bytes(),
            "threads": torch.get_num_threads(),
            **values,
        }
        (self.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def stack(widths: list[int]) -> nn.Sequential:
    """Linear layers with a ReLU between each two, weights N(0, 0.01²), biases 0."""
    modules: list[nn.Module] = []
    for n_in, n_out in zip(widths, widths[1:]):
        linear = nn.Linear(n_in, n_out)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def soft_assignment(z: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """q [n, k], Student-t with one degree of freedom."""
    squared_distances = (z.unsqueeze(1) - centroids).square().sum(2)
    q = 1.0 / (1.0 + squared_distances)
    return q / q.sum(1, keepdim=True)


def target_distribution(q: torch.Tensor) -> torch.Tensor:
    """p [n, k]."""
    p = q.square() / q.sum(0)
    return p / p.sum(1, keepdim=True)


@torch.no_grad()
def map_blocks(rows: torch.Tensor, width: int, f) -> torch.Tensor:
    """`f` of all rows, without a graph, a block at a time into one tensor [n, width]."""
    out = rows.new_empty(len(rows), width)
    for block, target in zip(rows.split(BLOCK_ROWS), out.split(BLOCK_ROWS)):
        target.copy_(f(block))
    return out


def layer(encode: nn.Linear, decode: nn.Linear, relu_code: bool, relu_output: bool):
    """The code of x, and the loss of the denoising autoencoder of one layer."""

    def code_of(x):
        return F.relu(encode(x)) if relu_code else encode(x)

    def loss_of(x):
        reconstruction = decode(F.dropout(code_of(F.dropout(x, DROPOUT)), DROPOUT))
        return F.mse_loss(F.relu(reconstruction) if relu_output else reconstruction, x)

    return code_of, loss_of


class Peer:
    def __init__(self, args: argparse.Namespace, rows: torch.Tensor, log: Log) -> None:
        self.args, self.rows, self.log = args, rows, log
        widths = [rows.shape[1], *HIDDEN, N_LATENT]
        self.encoder = stack(widths).to(rows.device)
        self.decoder = stack(widths[::-1]).to(rows.device)

    def optimiser(self, parameters) -> torch.optim.SGD:
        # Eager: PyTorch's own default, on the CPU a loop over the parameters, on CUDA its foreach kernels.
        return torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM, fused=True if self.args.compile else None)

    def compiled(self, f):
        if self.args.bf16:
            exact = f

            def f(*tensors):
                with torch.autocast(self.rows.device.type, torch.bfloat16):
                    return exact(*tensors)
        if not self.args.compile:
            return f
        torch._dynamo.reset()  # each phase has graphs of its own
        return torch.compile(f, dynamic=False)  # a second graph for the last, smaller batch

    def epoch(self, number: int, optimiser, loss_of) -> None:
        """One epoch on `loss_of(indices)`."""
        n = len(self.rows)
        total = torch.zeros((), device=self.rows.device)
        steps = 0
        for indices in torch.randperm(n, device=self.rows.device).split(BATCH_SIZE):
            loss = loss_of(indices)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.detach()
            steps += 1
        self.log.event("epoch", epoch=number, loss=total.item() / steps)

    def kmeans(self, stage: str, method: str, rows: torch.Tensor):
        values = rows.numpy(force=True)
        with self.log.stage(stage):
            fitted = fit_kmeans(values, self.args.n_init, self.args.seed)
        self.log.results.append({"method": method, "inertia": float(fitted.inertia_)})
        return fitted

    def pretrain(self) -> None:
        encoders = [m for m in self.encoder if isinstance(m, nn.Linear)]
        decoders = [m for m in self.decoder if isinstance(m, nn.Linear)][::-1]
        rows = self.rows
        for i, (encode, decode) in enumerate(zip(encoders, decoders)):
            last = i == len(encoders) - 1
            code_of, denoising_loss = layer(encode, decode, relu_code=not last, relu_output=i > 0)
            with self.log.stage(f"pretrain_{i + 1}"):
                optimiser = self.optimiser([*encode.parameters(), *decode.parameters()])
                loss_of = self.compiled(denoising_loss)
                for epoch in range(1, self.args.epochs + 1):
                    self.epoch(epoch, optimiser, lambda indices: loss_of(rows[indices]))
                if not last:
                    rows = map_blocks(rows, encode.out_features, code_of)

    def finetune(self) -> None:
        with self.log.stage("finetune"):
            optimiser = self.optimiser([*self.encoder.parameters(), *self.decoder.parameters()])
            loss_of = self.compiled(lambda x: F.mse_loss(self.decoder(self.encoder(x)), x))
            for epoch in range(1, self.args.epochs + 1):
                self.epoch(epoch, optimiser, lambda indices: loss_of(self.rows[indices]))

    def encode_all(self) -> torch.Tensor:
        return map_blocks(self.rows, N_LATENT, self.encoder)

    def cluster(self, fitted) -> None:
        """Rounds of a refresh of q and p over all rows and some epochs on KL(P‖Q)."""
        with self.log.stage("cluster"):
            centroids = nn.Parameter(torch.from_numpy(fitted.cluster_centers_).to(self.rows))
            labels = torch.from_numpy(fitted.labels_).to(self.rows.device)
            optimiser = self.optimiser([*self.encoder.parameters(), centroids])

            def divergence(x, p):
                return F.kl_div(soft_assignment(self.encoder(x), centroids).log(), p, reduction="batchmean")

            divergence = self.compiled(divergence)
            epoch = 0
            for number in range(1, self.args.rounds + 1):
                with torch.no_grad():
                    q = map_blocks(self.encode_all(), N_CLUSTERS, lambda z: soft_assignment(z, centroids))
                    p = target_distribution(q)
                    now = q.argmax(1)
                    changed = (now != labels).float().mean().item()
                    loss = F.kl_div(q.log(), p, reduction="batchmean").item()
                    labels = now
                self.log.event("round", round=number, changed=changed, loss=loss)
                for _ in range(self.args.epochs_per_round):
                    epoch += 1
                    self.epoch(epoch, optimiser, lambda indices: divergence(self.rows[indices], p[indices]))
        with torch.no_grad():
            z = self.encode_all()
            soft_assignment(z, centroids).argmax(1).tolist()


def fit_kmeans(values: np.ndarray, n_init: int, seed: int):
    from sklearn.cluster import KMeans  # here: `run --skip-kmeans` and `floor` do without

    return KMeans(N_CLUSTERS, n_init=n_init, random_state=seed).fit(values)


def run(args: argparse.Namespace) -> None:
    """The whole schedule."""
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    baseline = peak_memory_bytes()
    rows = load_rows(args.data).to(device)
    log = Log(args.out, device)
    peer = Peer(args, rows, log)
    if not args.skip_raw:
        peer.kmeans("kmeans_raw", "kmeans", rows)
    peer.pretrain()
    peer.finetune()
    z = peer.encode_all()
    if args.save_latent:
        np.save(args.save_latent, z.numpy(force=True))
    peer.cluster(peer.kmeans("kmeans", "autoencoder_kmeans", z))
    log.finish(n_rows=len(rows), imported_memory_bytes=baseline, versions=versions())


def kmeans(args: argparse.Namespace) -> None:
    """scikit-learn's k-means on the rows of an NPY file."""
    rows = load_rows(args.data)
    log = Log(args.out, torch.device("cpu"))
    with log.stage("kmeans_raw"):
        fitted = fit_kmeans(rows.numpy(), args.n_init, args.seed)
    log.results.append({"method": "kmeans", "inertia": float(fitted.inertia_)})
    log.finish(n_rows=len(rows), versions=versions())


def products(phase: str, d: int) -> list[tuple[str, int, int, int]]:
    """The matrix products of one step as (kind, rows, in, out): `forward` x·Wᵀ, `input` g·W, `weight` gᵀ·x."""
    widths = [d, *HIDDEN, N_LATENT]
    layers = list(zip(widths, widths[1:]))
    if phase == "refresh":
        return [("forward", BLOCK_ROWS, *layer) for layer in layers]
    if phase.startswith("pretrain"):
        n_in, n_out = layers[int(phase[-1]) - 1]
        layers = [(n_in, n_out), (n_out, n_in)]
    elif phase == "finetune":
        layers += [(n_out, n_in) for n_in, n_out in layers[::-1]]
    listed = [("forward", BATCH_SIZE, *layer) for layer in layers]
    for i, layer in reversed(list(enumerate(layers))):
        listed.append(("weight", BATCH_SIZE, *layer))
        if i > 0:  # nobody needs the gradient of the rows
            listed.append(("input", BATCH_SIZE, *layer))
    return listed


def floor(args: argparse.Namespace) -> None:
    """The products of one step of each phase, back to back: by torch.mm into existing buffers, and by oneDNN."""
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    phases = {}
    for phase in ["pretrain_1", "pretrain_2", "pretrain_3", "pretrain_4", "finetune", "cluster", "refresh"]:
        calls, flop = [], 0
        for kind, rows, n_in, n_out in products(phase, args.features):
            x, g = torch.randn(rows, n_in, device=device), torch.randn(rows, n_out, device=device)
            weight = torch.randn(n_out, n_in, device=device)
            a, b = {"forward": (x, weight.t()), "input": (g, weight), "weight": (g.t(), x)}[kind]
            calls.append((a, b, torch.empty(a.shape[0], b.shape[1], device=device)))
            flop += 2 * rows * n_in * n_out
        ways = {"mm": lambda a, b, out: torch.mm(a, b, out=out)}
        rounded = {}
        if args.bf16:
            rounded = {id(tensor): tensor.bfloat16() for call in calls for tensor in call}
            ways["mm_bf16"] = lambda a, b, out: torch.mm(rounded[id(a)], rounded[id(b)], out=rounded[id(out)])
        if device.type == "cpu" and torch.backends.mkldnn.is_available():
            # oneDNN's own product; the one way to it from Python, a private one that allocates its result.
            ways["onednn"] = lambda a, b, out: torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(args.repeats + WARM_UP):
            for way, product in ways.items():
                synchronise(device)
                started = time.perf_counter()
                for a, b, out in calls:
                    product(a, b, out)
                synchronise(device)
                if repeat >= WARM_UP:
                    seconds[way].append(time.perf_counter() - started)
        block = BLOCK_ROWS if phase == "refresh" else BATCH_SIZE
        phases[phase] = {"rows": block, "flop": flop, "products": len(calls), "seconds": seconds}
    args.out.mkdir(parents=True, exist_ok=True)
    summary = {"phases": phases, "threads": torch.get_num_threads(), "versions": versions()}
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def versions() -> dict:
    import sklearn

    python = ".".join(map(str, sys.version_info[:3]))
    found = {"python": python, "torch": torch.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (run, kmeans, floor):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(call=command)
        sub.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="where the JSON goes")
        sub.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random [default: 0]")
        sub.add_argument("--device", default="cpu", help="where to compute, cpu or cuda [default: cpu]")
        if command is not kmeans:
            sub.add_argument("--bf16", action="store_true", help="products in bf16: by autocast; beside float32's in floor")
        if command is floor:
            sub.add_argument("--features", type=int, default=784, metavar="D", help="d [default: 784]")
            sub.add_argument("--repeats", type=int, default=30, metavar="N", help="timings of each [default: 30]")
            continue
        sub.add_argument("--data", required=True, help="builtin, a directory with MNIST, or an NPY file")
        sub.add_argument("--n-init", type=int, default=20, metavar="N", help="restarts of k-means [default: 20]")
        if command is run:
            sub.add_argument("--epochs", type=int, default=50, metavar="N", help="a layer, and of fine-tuning")
            sub.add_argument("--rounds", type=int, default=1, metavar="N", help="refreshes of p [default: 1]")
            sub.add_argument("--epochs-per-round", type=int, default=50, metavar="N", help="[default: 50]")
            sub.add_argument("--compile", action="store_true", help="torch.compile, and the fused SGD")
            sub.add_argument("--skip-raw", action="store_true", help="no k-means on the raw rows")
            sub.add_argument("--save-latent", metavar="FILE", help="write the latent rows as NPY")
    return parser.parse_args()


if __name__ == "__main__":
    arguments_given = arguments()
    arguments_given.call(arguments_given)
