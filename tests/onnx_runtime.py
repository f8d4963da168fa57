"""Checks ONNX models against a float64 reference: python onnx_runtime.py DIR.

DIR holds, for each case, NAME.onnx, NAME.json (shapes and numbers), NAME.rows (float64) and NAME.weights (float32), as
tests/onnx_runtime.rs writes them. Exits with 1 where a difference exceeds 1e-5.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-5
OUTPUTS = ["soft_assignment", "embedding", "reconstruction", "cluster"]


class Reference:
    """The same mathematics as the model's, in float64, out of the weights that the model was made of."""

    def __init__(self, case, weights):
        self.case = case
        self.at = 0
        self.weights = weights.astype(np.float64)
        self.encoder = [(self.take(o, i), self.take(o)) for o, i in case["encoder"]]
        self.decoder = [(self.take(o, i), self.take(o)) for o, i in case["decoder"]]
        self.centroids = self.take(case["clusters"], case["latent"])
        self.mean, self.deviation = self.take(case["features"]), self.take(case["features"])
        assert self.at == len(weights)

    def take(self, *shape):
        count = int(np.prod(shape))
        self.at += count
        return self.weights[self.at - count : self.at].reshape(shape)

    def __call__(self, rows):
        case = self.case
        if case["columns"] is not None:
            rows = rows[:, case["columns"]]
        if case["offset"] is not None:
            rows = rows - np.array(case["offset"])
        back = np.ones((len(rows), 1))
        kind = case["kind"]
        if kind == "factor":
            back = back / case["factor"]
            scaled = rows * case["factor"]
        else:
            if kind == "unit":
                back = np.linalg.norm(rows, axis=1, keepdims=True)
                back[back == 0] = 1
                rows = rows / back
            elif kind == "counts":
                back = np.maximum(rows.sum(1, keepdims=True), 1) / case["total"]
                rows = np.log1p(rows / back)
            scaled = (rows - self.mean) / self.deviation
        z = stack(self.encoder, scaled)
        squared = ((z[:, None] - self.centroids) ** 2).sum(2)
        kernel = (1 + squared / case["alpha"]) ** (-(case["alpha"] + 1) / 2)
        q = kernel / kernel.sum(1, keepdims=True)
        if case["groups"] is not None:
            q = np.stack([q[:, np.equal(case["groups"], c)].sum(1) for c in range(max(case["groups"]) + 1)], axis=1)
        h = stack(self.decoder, z)
        if kind != "factor":
            h = h * self.deviation + self.mean
            h = np.expm1(h) if kind == "counts" else h
        # In units of the scaling or the row, so that tiny and huge values count alike; without the offset, which would hide all
        # else. A raw row is what comes of it times `back`.
        return {"soft_assignment": q, "embedding": z, "reconstruction": h}, back


def stack(layers, h):
    for index, (weight, bias) in enumerate(layers):
        h = (np.maximum(h, 0) if index else h) @ weight.T + bias
    return h


def difference(found, expected):
    if not found.size:
        return 0.0
    return float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))


def check(path):
    case = json.loads(path.with_suffix(".json").read_text())
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert len(inferred.graph.value_info) >= len(model.graph.node) - 4, "not all shapes can be inferred"
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    clusters = case["clusters"] if case["groups"] is None else max(case["groups"]) + 1
    assert metadata["n_clusters"] == str(clusters) and len(json.loads(metadata["columns"])) == case["features"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == OUTPUTS
    kind = np.float32 if case["offset"] is None else np.float64
    reference = Reference(case, np.fromfile(path.with_suffix(".weights"), "<f4"))
    rows = np.fromfile(path.with_suffix(".rows"), "<f8").reshape(case["n_rows"], case["width"])
    worst = dict.fromkeys(OUTPUTS[:3], 0.0)
    for n in (0, 1, len(rows)):
        found = dict(zip(OUTPUTS, session.run(None, {"rows": rows[:n].astype(kind)})))
        expected, back = reference(rows[:n])
        assert found["reconstruction"].dtype == kind and found["cluster"].dtype == np.int64
        assert found["cluster"].shape == (n,)
        if case["offset"] is not None:
            found["reconstruction"] = found["reconstruction"] - np.array(case["offset"])
        found["reconstruction"] = found["reconstruction"] / back
        for name in OUTPUTS[:3]:
            assert found[name].shape == expected[name].shape, (name, found[name].shape)
            assert np.isfinite(found[name]).all(), name
            worst[name] = max(worst[name], difference(found[name], expected[name]))
        # The same where just one output is wanted, and the clusters but for ties.
        for name in OUTPUTS:
            alone = session.run([name], {"rows": rows[:n].astype(kind)})[0]
            assert name == "reconstruction" or np.array_equal(alone, found[name]), name
        q = expected["soft_assignment"]
        chosen = np.take_along_axis(q, found["cluster"][:, None], 1)[:, 0]
        assert np.all(chosen >= q.max(axis=1, initial=0) - TOLERANCE), "cluster"
    if case["kind"] == "counts":
        below = session.run(OUTPUTS, {"rows": np.where(np.arange(case["width"]) % 2, 3, -1)[None].astype(kind)})
        assert all(np.isnan(value).all() for value in below[:3]), "counts below 0"
    print(f"{path.stem:24}", *(f"{name} {value:.1e}" for name, value in worst.items()), sep="  ")
    return max(worst.values()) <= TOLERANCE


def main():
    results = [check(path) for path in sorted(Path(sys.argv[1]).glob("*.onnx"))]
    assert results
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
