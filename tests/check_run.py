"""Checks a run directory against itself, in PyTorch: model.pt, weights.safetensors, assignments.csv, summary.json.

Usage: python tests/check_run.py RUN_DIR     (a run on the built-in digits; scripts/test calls it)
"""

import csv
import gzip
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import load_file

DIGITS = pathlib.Path(__file__).parent.parent / "src/data/builtin/t10k-images-idx3-ubyte.gz"


def sequential(weights: dict, part: str) -> torch.nn.Sequential:
    """The torch.nn.Sequential that the weights' names describe: Linear, ReLU, Linear, ..."""
    state = {name.removeprefix(part + "."): value for name, value in weights.items() if name.startswith(part + ".")}
    modules = []
    for index in range(1 + max(int(name.split(".")[0]) for name in state)):
        weight = state.get(f"{index}.weight")
        modules.append(torch.nn.ReLU() if weight is None else torch.nn.Linear(weight.shape[1], weight.shape[0]))
    network = torch.nn.Sequential(*modules)
    network.load_state_dict(state)
    return network


def main() -> None:
    run = pathlib.Path(sys.argv[1])
    summary = json.loads((run / "summary.json").read_text())
    methods = [result["method"] for result in summary["results"]]
    assert methods in (["kmeans", "autoencoder_kmeans", "dec"], ["kmeans", "autoencoder_kmeans", "start", "dec"]), methods

    with (run / "assignments.csv").open() as file:
        assigned = list(csv.DictReader(file))
    digits = np.frombuffer(gzip.decompress(DIGITS.read_bytes()), np.uint8, offset=16).reshape(10_000, 784)
    rows = torch.tensor(digits[[int(line["row"]) for line in assigned]])

    model = torch.jit.load(str(run / "model.pt"))
    weights = {name: torch.tensor(value) for name, value in load_file(run / "weights.safetensors").items()}
    with torch.no_grad():
        z = sequential(weights, "encoder")(rows.float() * summary["scale"])
        back = sequential(weights, "decoder")(z) / summary["scale"]
        kernel = 1 / (1 + (z[:, None] - weights["centroids"][None]).square().sum(2))
        q = kernel / kernel.sum(1, keepdim=True)
        for name, expected in [("encode", z), ("forward", q), ("reconstruct", back)]:
            found = getattr(model, name)(rows)
            worst = ((found - expected).abs() / expected.abs().clamp(min=1)).max().item()
            assert worst < 1e-5, (name, worst)
        labels = torch.tensor([int(line["cluster"]) for line in assigned])
        confidence = torch.tensor([float(line["confidence"]) for line in assigned])
        best, second = q.topk(2).values.T
        clear = best - second > 1e-5  # between equals, rounding decides
        assert clear.any(), "no row is clearly in one cluster: this run tells nothing"
        assert torch.equal(model.predict(rows)[clear], labels[clear])
        assert torch.allclose(model(rows).gather(1, labels[:, None])[:, 0], confidence, atol=1e-5)
    print(f"{len(assigned)} rows ({int(clear.sum())} of clear assignment): model.pt, weights.safetensors and assignments.csv agree in PyTorch")


if __name__ == "__main__":
    main()
