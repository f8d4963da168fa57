"""A step of the default recipe by dec and by eager PyTorch, in turn on the same machine. Called by scripts/steps."""

import argparse
import gzip
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIGITS = ROOT / "src/data/builtin/t10k-images-idx3-ubyte.gz"
WIDTHS = [784, 500, 500, 2000, 10]
BATCH = 256


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/steps", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Times the steps of the default recipe: pretraining (augment, forward, backward, Adam) and clustering\n"
                    "(the same with KL(P||Q) on the latent), each side in a process of its own, by turns, on the built-in\n"
                    "digits. Prints medians and PyTorch's time as a multiple of dec's. PyTorch's Adam is its fused one.\n"
                    "dec's steps leave out what a ReLU made 0, the more the longer it trained: its time is the mean over the\n"
                    "recipe's whole stages, from k-means instead of the spectral start. PyTorch's steps are all alike.")
    parser.add_argument("--steps", type=int, default=160, help="PyTorch's steps a phase and turn [default: 160]")
    parser.add_argument("--repeats", type=int, default=3, help="turns [default: 3]")
    parser.add_argument("--eager", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def ours():
    """Seconds a step, from the stages' times; evaluation between stages is no part of them."""
    settings = ["start.method=kmeans", "start.over_clustering=[]", "kmeans.n_init=1"]
    with tempfile.TemporaryDirectory() as scratch:
        run = pathlib.Path(scratch) / "run"
        command = [ROOT / "target/release/dec", "--quiet", "--device=cpu", "--out", run,
                   *(f"--set={setting}" for setting in settings)]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        stages = {stage["name"]: stage for stage in json.loads((run / "summary.json").read_text())["stages"]}
    return {name: stages[name]["seconds"] / stages[name]["steps"] for name in ("pretrain", "cluster")}


def eager(steps):
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    torch.manual_seed(0)
    x = torch.frombuffer(bytearray(gzip.decompress(DIGITS.read_bytes())[16:]), dtype=torch.uint8).view(-1, 784)

    def stack(widths):
        layers = []
        for width, following in zip(widths, widths[1:]):
            layers += [nn.Linear(width, following), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def augmented(rows):
        images = rows.view(-1, 1, 28, 28).float() / 255
        draw = lambda most: (torch.rand(len(rows)) * 2 - 1) * most
        angle, zoom, shear = draw(math.pi / 18), 1 + draw(0.1), draw(0.1)
        cosine, sine = angle.cos() / zoom, angle.sin() / zoom
        theta = torch.stack([torch.stack([cosine + shear * sine, -sine + shear * cosine, draw(0.2)], 1),
                             torch.stack([sine, cosine, draw(0.2)], 1)], 1)
        grid = F.affine_grid(theta, images.shape, align_corners=False)
        return F.grid_sample(images, grid, align_corners=False).flatten(1)

    encoder, decoder = stack(WIDTHS), stack(WIDTHS[::-1])
    centroids = torch.randn(10, 10).requires_grad_()
    p = torch.softmax(torch.randn(len(x), 10), 1)

    def pretrain(indices):
        rows = augmented(x[indices])
        return F.mse_loss(decoder(encoder(rows)), rows)

    def cluster(indices):
        z = encoder(augmented(x[indices]))
        log_q = F.log_softmax(-torch.log1p((z[:, None] - centroids[None]).square().sum(-1)), 1)
        return F.kl_div(log_q, p[indices], reduction="batchmean")

    found = {}
    phases = {"pretrain": (pretrain, [*encoder.parameters(), *decoder.parameters()]),
              "cluster": (cluster, [*encoder.parameters(), centroids])}
    for name, (loss, parameters) in phases.items():
        optimiser = torch.optim.Adam(parameters, lr=1e-4, fused=True)
        order = torch.randperm(len(x))
        batches = [order[start:start + BATCH] for start in range(0, len(x) - BATCH, BATCH)]
        started = time.perf_counter()
        for step in range(steps):
            optimiser.zero_grad(set_to_none=True)
            loss(batches[step % len(batches)]).backward()
            optimiser.step()
        found[name] = (time.perf_counter() - started) / steps
    return found


def main():
    args = arguments()
    if args.eager:
        print(json.dumps(eager(args.steps)))
        return 0
    times = {"dec": [], "eager": []}
    for _ in range(args.repeats):
        times["dec"].append(ours())
        command = [sys.executable, __file__, "--eager", "--steps", str(args.steps)]
        times["eager"].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    print(f"ms a step of {BATCH} rows; {args.repeats} turns; load average "
          f"{os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} processors\n")
    print(f"{'':10} {'dec':>8} {'eager':>8} {'ratio':>7}   ratios of the turns")
    for phase in ("pretrain", "cluster"):
        sides = {side: [1e3 * turn[phase] for turn in turns] for side, turns in times.items()}
        ratios = [theirs / mine for mine, theirs in zip(sides["dec"], sides["eager"])]
        print(f"{phase:10} {statistics.median(sides['dec']):8.1f} {statistics.median(sides['eager']):8.1f} "
              f"{statistics.median(ratios):7.2f}   {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
