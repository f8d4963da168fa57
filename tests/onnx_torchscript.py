"""Checks that model.onnx and model.pt of a run give the same: python onnx_torchscript.py RUN ROWS.npy...

For each run and its rows. Exits with 1 where a difference exceeds 1e-5, in units of 1 or of a column's range.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch

TOLERANCE = 1e-5


def difference(a, b, rows):
    """In units of 1 or of the range of a column (of the rows, where it is one of theirs), whichever is larger."""
    ranges = np.ptp(rows if rows.shape == b.shape else b, axis=0)
    return float(np.max(np.abs(a - b) / np.maximum(1, ranges), initial=0))


def check(run, path):
    rows = np.load(path)
    rows = rows.reshape(len(rows), -1)
    module = torch.jit.load(str(run / "model.pt")).eval()
    session = onnxruntime.InferenceSession(str(run / "model.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    kind = np.float64 if "double" in given.type else np.float32
    names = ["soft_assignment", "embedding", "reconstruction", "cluster"]
    found = dict(zip(names, session.run(names, {given.name: rows.astype(kind)})))
    with torch.no_grad():
        given = torch.from_numpy(rows.astype(np.float64))
        expected = {
            "soft_assignment": module(given).numpy(),
            "embedding": module.encode(given).numpy(),
            "reconstruction": module.reconstruct(given).numpy(),
        }
        cluster = module.predict(given).numpy()
    worst = {name: difference(found[name].astype(np.float64), value.astype(np.float64), rows) for name, value in expected.items()}
    print(f"{run.name:14}", *(f"{name} {value:.1e}" for name, value in worst.items()), sep="  ")
    q = expected["soft_assignment"]
    chosen = np.take_along_axis(q, found["cluster"][:, None], 1)[:, 0]
    assert np.all(chosen >= q.max(axis=1) - TOLERANCE) and np.mean(cluster == found["cluster"]) > 0.99
    return max(worst.values()) <= TOLERANCE


def main():
    pairs = list(zip(sys.argv[1::2], sys.argv[2::2]))
    assert pairs
    sys.exit(not all([check(Path(run), rows) for run, rows in pairs]))


if __name__ == "__main__":
    main()
