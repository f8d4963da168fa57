#!/usr/bin/env python3
"""Checks a model.pt, as a user of PyTorch would call it, against numbers computed elsewhere.

usage: torchscript.py MODEL.pt CASE.json

tests/torchscript.rs writes both files and runs this with the interpreter that DEC_PYTHON names.
Exits with 0 and "all agree", or with the first difference.
"""

import json
import sys

import torch

TOLERANCE = 1e-5


def close(what, found, expected, tolerance=TOLERANCE):
    if found.shape != expected.shape:
        sys.exit(f"{what}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    if found.numel() == 0:
        return
    worst = (found.double().cpu() - expected.double()).abs().max().item()
    if not worst <= tolerance:
        sys.exit(f"{what}: off by {worst}")


def same(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r}, expected {expected!r}")


def check_results(what, model, rows, case, part=slice(None)):
    """All four methods on `rows`, the `part` of the case's rows in whatever shape, type and place."""
    q = torch.tensor(case["q"], dtype=torch.float64)[part]
    z = torch.tensor(case["z"], dtype=torch.float64)[part]
    reconstruction = torch.tensor(case["reconstruction"], dtype=torch.float64)[part]
    labels = torch.tensor(case["labels"])[part]
    close(f"{what}: q", model(rows), q)
    close(f"{what}: forward", model.forward(rows), q)
    close(f"{what}: z", model.encode(rows), z)
    # In raw units, which are 1/scale times the network's.
    close(f"{what}: reconstruction", model.reconstruct(rows), reconstruction, TOLERANCE / case["scale"])
    found = model.predict(rows)
    same(f"{what}: type of the labels", found.dtype, torch.int64)
    same(f"{what}: labels", found.tolist(), labels.tolist())


def check_width(model, features):
    narrow = torch.zeros(3, features - 1)
    for name in ("__call__", "forward", "encode", "predict", "reconstruct"):
        for rows, message in (
            (narrow, f"expected rows of {features} features, got {features - 1}"),
            (torch.zeros(features), f"expected rows of {features} features as"),
        ):
            try:
                getattr(model, name)(rows)
            except Exception as error:  # torch.jit.Error; its message has the interpreter's trace around ours
                if message not in str(error):
                    sys.exit(f"{name}: the error does not say '{message}': {error}")
            else:
                sys.exit(f"{name}: took a tensor of shape {tuple(rows.shape)}")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    path = sys.argv[1]
    with open(sys.argv[2], encoding="utf-8") as file:
        case = json.load(file)
    rows = torch.tensor(case["rows"], dtype=torch.float32)
    n, features = rows.shape

    model = torch.jit.load(path, map_location="cpu")
    same("training", model.training, False)
    model.eval()
    same("n_features", model.n_features(), features)
    same("n_latent", model.n_latent(), case["n_latent"])
    same("n_clusters", model.n_clusters(), case["n_clusters"])

    parameters = dict(model.named_parameters())
    same("parameters", sorted(parameters), sorted(case["parameters"]))
    same("state_dict", sorted(model.state_dict()), sorted(case["parameters"]))
    same("parameters that ask for a gradient", [k for k, v in parameters.items() if v.requires_grad], [])
    model(rows).numpy()  # works because of that

    for dtype in (torch.float32, torch.float64, torch.uint8, torch.int64):
        check_results(str(dtype), model, rows.to(dtype), case)
    check_results("images", model, rows.to(torch.uint8).reshape(n, *case["image_shape"]), case)
    check_results("a transposed view", model, rows.t().contiguous().t(), case)
    check_results("one row", model, rows[:1], case, slice(0, 1))
    check_results("no rows", model, rows[:0], case, slice(0, 0))
    for start in range(3):  # the JIT compiles anew after its first calls
        check_results("again", model, rows[start:], case, slice(start, None))
    check_width(model, features)

    # The gradient of the rows and, once asked for, of the weights goes through.
    leaf = rows.clone().requires_grad_()
    parameters["centroids"].requires_grad_()
    model(leaf).square().sum().backward()
    for what, gradient in (("rows", leaf.grad), ("centroids", parameters["centroids"].grad)):
        if gradient is None or not gradient.isfinite().all() or not gradient.abs().max() > 0:
            sys.exit(f"no usable gradient reaches the {what}")

    moved = torch.jit.load(path).to(torch.float64)
    same("types after .to", {p.dtype for p in moved.parameters()}, {torch.float64})
    same("type of q after .to", moved(rows).dtype, torch.float64)
    check_results("float64 weights", moved, rows.to(torch.uint8), case)
    devices = ["cpu"]
    if torch.cuda.is_available():
        moved = torch.jit.load(path).to("cuda")
        same("devices after .to", {p.device.type for p in moved.parameters()}, {"cuda"})
        for _ in range(3):
            check_results("cuda", moved, rows.to("cuda"), case)
        devices.append("cuda")
    print(f"torch {torch.__version__} on {' and '.join(devices)}: all agree")


if __name__ == "__main__":
    main()
