"""The wheel, as its users use it: `python -m unittest discover python/tests`, with the wheel on the path."""

import doctest
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings

import numpy as np
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import dec
from dec import DEC

SMALL = {
    "model.hidden": [16],
    "pretrain.steps": 60,
    "start.networks": 1,
    "start.over_clustering": [],
    "cluster.max_rounds": 2,
    "kmeans.n_init": 2,
}


def small(k=3, **parameters):
    settings = {**SMALL, **parameters.pop("settings", {})}
    parameters = {"n_latent": 3, "random_state": 0, "device": "cpu", "n_jobs": 1, "row_kind": "noise", **parameters}
    return DEC(k, settings=settings, **parameters)


def groups(dtype=np.float32):
    i, j = np.indices((60, 4))
    return ((i % 3) * 5 + (7 * i + j) % 5 * 0.1).astype(dtype)


def optional(name):
    try:
        return __import__(name)
    except ImportError:
        raise unittest.SkipTest(f"{name} is not installed")


class Estimator(unittest.TestCase):
    def assert_groups(self, labels):
        self.assertEqual(labels.shape, (60,))
        np.testing.assert_array_equal(labels, np.tile(labels[:3], 20))
        self.assertEqual(len(set(labels[:3])), 3)

    def test_a_fit_and_what_it_can_do(self):
        X = groups()
        model = small().fit(X)
        self.assert_groups(model.labels_)
        self.assertEqual(model.labels_.dtype, np.int64)
        np.testing.assert_array_equal(model.predict(X), model.labels_)
        q = model.predict_proba(X)
        np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(q.argmax(1), model.labels_)
        z = model.transform(X)
        self.assertEqual((z.shape, model.cluster_centers_.shape), ((60, 3), (3, 3)))
        np.testing.assert_allclose(model.inverse_transform(z), model.reconstruct(X), rtol=1e-6)
        self.assertEqual((model.n_features_in_, model.n_iter_ >= 1), (4, True))
        self.assertEqual(list(model.get_feature_names_out()), ["dec0", "dec1", "dec2"])
        self.assertEqual([r["method"] for r in model.summary_["results"]][-1], "dec")
        np.testing.assert_array_equal(small().fit_predict(X), model.labels_)
        np.testing.assert_array_equal(small().fit_transform(X), z)

    def test_every_kind_of_rows(self):
        X = groups()
        expected = small().fit(X)
        z = expected.transform(X)
        wide = np.zeros((60, 8), np.float32)
        wide[:, ::2] = X
        others = {
            "strided": wide[:, ::2],
            "columns first": np.asfortranarray(X),
            "float64": X.astype(np.float64),
            "bytes swapped": X.astype(">f4"),
            "list": X.tolist(),
            "csr": scipy.sparse.csr_matrix(X),
            "coo": scipy.sparse.coo_matrix(X),
            "csr array": scipy.sparse.csr_array(X),
            "torch": torch.tensor(X, requires_grad=True),
        }
        for name, rows in others.items():
            with self.subTest(name):
                np.testing.assert_allclose(expected.transform(rows), z, rtol=1e-4, atol=1e-5)
                np.testing.assert_array_equal(small().fit(rows).labels_, expected.labels_)
        for dtype in (np.uint8, np.int16, np.int64, np.float16, bool):
            with self.subTest(dtype):
                rows = (groups() * 10).astype(dtype) if dtype is not bool else groups()[:, [0, 0, 0]] > [2, 7, 20]
                self.assert_groups(small().fit(rows).labels_)

    def test_values_far_from_zero(self):
        X = groups(np.float64) + 1e12
        model = small().fit(X)
        self.assert_groups(model.labels_)
        np.testing.assert_array_equal(model.predict(X), model.labels_)
        np.testing.assert_allclose(model.reconstruct(X).mean(), X.mean(), rtol=1e-9)

    def test_bad_values_are_refused_by_name(self):
        X = groups()
        holes = X.copy()
        holes[3, 1] = np.nan
        for parameters, rows, expected in [
            ({"k": 0}, X, "n_clusters=0"),
            ({"k": 61}, X, "fewer than the 61 clusters"),
            ({"recipe": "none"}, X, "built-in names"),
            ({"device": "gpu"}, X, "device \"gpu\" is unknown"),
            ({"n_jobs": 0}, X, "n_jobs=0"),
            ({"settings": {"cluster.tolerance": 1}}, X, "unknown field `tolerance`"),
            ({"settings": {"cluster.tol": object()}}, X, "a setting is a number"),
            ({"settings": {"data.missing": "drop"}}, X, "without a label"),
            ({"n_latent": 0}, X, "model.n_latent = 0"),
            ({"image_shape": (0, 3)}, X, "augment.image = 0"),
            ({}, holes, "NaN"),
            ({}, np.ones((9, 4)), "are the same"),
        ]:
            with self.subTest(expected), self.assertRaisesRegex(ValueError, expected):
                small(**parameters).fit(rows)
        self.assert_groups(small(settings={"data.missing": "mean"}).fit(holes).labels_)
        with self.assertRaisesRegex(ValueError, "2 features, but DEC is expecting 4"):
            small().fit(X).predict(X[:, :2])
        with self.assertRaisesRegex(ValueError, r"\[2, 7\].*\[2, 3\]"):
            small().fit(X).inverse_transform(np.zeros((2, 7)))

    def test_pickles_clones_pipelines_and_files(self):
        X = groups()
        model = small().fit(X)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.transform(X), model.transform(X))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).labels_, model.labels_)
        pickle.loads(pickle.dumps(DEC()))
        copy = clone(model)
        self.assertEqual(copy.get_params(), model.get_params())
        self.assertFalse(hasattr(copy, "labels_"))
        self.assertEqual(DEC().set_params(n_clusters=4).n_clusters, 4)
        self.assert_groups(make_pipeline(StandardScaler(), small()).fit_predict(X))
        with tempfile.TemporaryDirectory() as directory:
            run = os.path.join(directory, "run")
            model.save(run)
            loaded = DEC.load(run, device="cpu")
            np.testing.assert_array_equal(loaded.predict(X), model.labels_)
            self.assertEqual((loaded.n_clusters, loaded.n_features_in_), (3, 4))
            script = torch.jit.load(os.path.join(run, "model.pt"))
            np.testing.assert_array_equal(script.predict(torch.tensor(X)).numpy(), model.labels_)
            with self.assertRaises(OSError):
                model.save(run)
            with self.assertRaisesRegex(ValueError, "config.toml"):
                DEC.load(directory)

    def test_a_fit_reports_on_its_rows(self):
        X = groups()
        classes = ["ash", "birch", "cedar"] * 20
        classes[3] = None
        model = small().fit(X)
        with tempfile.TemporaryDirectory() as directory:
            page = os.path.join(directory, "report.html")
            model.report(page, X, classes, names=[f"plant {i}" for i in range(60)])
            with open(page, encoding="utf-8") as file:
                text = file.read()
            for part in ("cedar", "Training"):
                self.assertIn(part, text)
            model.report(page, X)
            with open(page, encoding="utf-8") as file:
                self.assertNotIn("cedar", file.read())
            with self.assertRaisesRegex(ValueError, "these are others"):
                model.report(page, X[:50])
            with self.assertRaisesRegex(ValueError, "y has 59 values"):
                model.report(page, X, classes[1:])

    def test_torch_is_left_as_it_was(self):
        torch.manual_seed(5)
        before, threads = torch.get_rng_state(), torch.get_num_threads()
        small(n_jobs=3).fit(groups())
        self.assertTrue(torch.equal(torch.get_rng_state(), before))
        self.assertEqual(torch.get_num_threads(), threads)

    def test_random_states(self):
        X = groups()
        fit = lambda state: small(random_state=state).fit(X).transform(X)
        np.testing.assert_array_equal(fit(3), fit(3))
        np.testing.assert_array_equal(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))
        self.assertFalse(np.array_equal(fit(3), fit(4)))

    def test_others_run_while_it_fits(self):
        ticks, done = [], threading.Event()

        def tick():
            while not done.wait(0.01):
                ticks.append(time.monotonic())

        thread = threading.Thread(target=tick)
        thread.start()
        small(settings={"pretrain.steps": 2000}).fit(groups())
        done.set()
        thread.join()
        self.assertGreater(len(ticks), 5)
        self.assertLess(max(np.diff(ticks)), 2)

    def test_ctrl_c_stops_a_fit(self):
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        started = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            small(settings={"pretrain.steps": 10_000_000}).fit(groups())
        self.assertLess(time.monotonic() - started, 5)
        self.assert_groups(small().fit(groups()).labels_)

    def test_the_docstrings_example(self):
        self.assertGreater(doctest.testmod(dec._estimator).attempted, 3)
        self.assertEqual(doctest.testmod(dec._estimator).failed, 0)

    def test_progress(self):
        program = "import dec, numpy as np; X = np.random.default_rng(0).normal(size=(40, 3));" + (
            f"dec.DEC(2, device='cpu', n_jobs=1, verbose=True, random_state=0, settings={SMALL!r}).fit(X)"
        )
        shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertIn("pretrain", shown.stderr)
        self.assertEqual(shown.stdout, "")

    def test_another_pytorch_is_refused(self):
        program = "import torch; torch.__version__ = '2.10.1'\nimport dec"
        shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        self.assertIn("PyTorch 2.10.1 is installed", shown.stderr)

    def test_pandas(self):
        pandas = optional("pandas")
        frame = pandas.DataFrame(groups(), columns=["a", "b", "c", "d"])
        model = small().fit(frame)
        self.assertEqual(list(model.feature_names_in_), ["a", "b", "c", "d"])
        self.assertEqual(model.summary_["columns"], ["a", "b", "c", "d"])
        self.assert_groups(model.predict(frame))
        with self.assertRaises(ValueError):
            model.predict(frame[["b", "a", "c", "d"]])
        out = small().set_output(transform="pandas").fit_transform(frame)
        self.assertEqual(list(out.columns), ["dec0", "dec1", "dec2"])

    def test_anndata(self):
        anndata = optional("anndata")
        parameters = {"settings": SMALL, "device": "cpu", "n_jobs": 1, "row_kind": "noise", "n_latent": 3}
        for X in (groups(), scipy.sparse.csr_matrix(groups())):
            adata = anndata.AnnData(X, obsm={"X_pca": groups()[:, :2]})
            self.assertIsNone(dec.tl.dec(adata, n_clusters=3, **parameters))
            self.assertEqual(str(adata.obs["dec"].dtype), "category")
            self.assert_groups(adata.obs["dec"].cat.codes.to_numpy())
            self.assertEqual(adata.obsm["X_dec"].shape, (60, 3))
            self.assertTrue((adata.obs["dec_confidence"] > 1 / 3).all())
            self.assertEqual(adata.uns["dec"]["params"]["n_clusters"], 3)
        np.testing.assert_array_equal(small().fit(adata).labels_, adata.obs["dec"].cat.codes)
        other = dec.tl.dec(adata, 3, use_rep="X_pca", key_added="pca", copy=True, **parameters)
        self.assertTrue("pca" in other.obs and "pca" not in adata.obs)
        with tempfile.TemporaryDirectory() as directory:
            other.write_h5ad(os.path.join(directory, "out.h5ad"))


class Checks(unittest.TestCase):
    # scikit-learn 1.7 asks whatever has predict_proba for its classifier tags on sparse rows; a clusterer has none.
    EXPECTED_FAILURES = dict.fromkeys(
        ("check_estimator_sparse_array", "check_estimator_sparse_matrix"),
        "the check reads classifier_tags.multi_class, and classifier_tags of a clusterer is None",
    )

    def test_scikit_learns_checks(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = check_estimator(
                small(), expected_failed_checks=self.EXPECTED_FAILURES, on_skip=None, on_fail=None
            )
        failed = {r["check_name"]: repr(r["exception"]) for r in results if r["status"] == "failed"}
        self.assertEqual(failed, {})
        expected = {r["check_name"] for r in results if r["status"] == "xfail"}
        self.assertEqual(expected, set(self.EXPECTED_FAILURES), "exceptions that are needed")
        self.assertGreater(sum(r["status"] == "passed" for r in results), 40)


class Notebook(unittest.TestCase):
    """The notebook's cells run, quickly, and its outputs were saved."""

    def test_it_runs(self):
        path = os.path.join(os.path.dirname(__file__), "..", "examples", "digits.ipynb")
        with open(path, encoding="utf-8") as file:
            cells = [cell for cell in json.load(file)["cells"] if cell["cell_type"] == "code"]
        self.assertTrue(all(cell["outputs"] for cell in cells if "print" in "".join(cell["source"])))
        scope = {"__name__": "__main__", "SETTINGS": SMALL}
        for cell in cells:
            source = "".join(cell["source"])
            exec(compile(source.replace("DEC(n_clusters=10,", "DEC(n_clusters=10, settings=SETTINGS,"), path, "exec"), scope)
        self.assertEqual(len(scope["labels"]), len(load_digits().target))


if __name__ == "__main__":
    unittest.main()
