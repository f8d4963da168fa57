"""The estimator."""

import json
import numbers

import numpy as np
import scipy.sparse
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from . import _dec
from ._progress import progress_for

_TYPES = [np.float64, np.float32, np.uint8]


class DEC(ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, BaseEstimator):
    """Deep Embedded Clustering: an autoencoder, first clusters in its latent space, and self-training that sharpens both.

    Rows may be a NumPy array of any real type, a SciPy sparse matrix, a pandas DataFrame, a torch tensor on the CPU, or an AnnData
    (its ``X``). Values need no scaling.

    Parameters
    ----------
    n_clusters : int, default=10
        k, the number of clusters.
    recipe : str, default="default"
        A recipe that is built in (``dec.recipes()``: default, fast, best, notebook, ...) or the path of a TOML file.
    n_latent : int, default=None
        m, the width of the latent. None: the recipe's, 10.
    image_shape : (int, int), default=None
        Height and width of rows that are images. None: told from the values.
    row_kind : {"auto", "image", "noise", "time_shift", "none"}, default="auto"
        How rows may be varied at random in training: images are turned and moved, others get noise.
    random_state : int, RandomState or None, default=None
        An int is the seed itself, as the command line's ``--seed``; None draws one from NumPy's.
    device : str, default="auto"
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N".
    n_jobs : int, default=None
        Threads on the CPU. None: as many as torch uses; -1: as many as the process may use.
    settings : dict, default=None
        Any other setting of a recipe by its dotted key: ``{"cluster.max_rounds": 40, "model.hidden": [128, 128, 512]}``.
    verbose : bool, default=False
        Show progress on stderr, by tqdm if it is there.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        The cluster of each row of ``fit``, 0 to k - 1.
    cluster_centers_ : ndarray of shape (n_clusters, n_latent)
        The centroids, in the latent space. Of a loaded run whose clusters ``dec merge`` has joined there are as many as before.
    n_features_in_ : int
        Features of the rows of ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where they had some.
    n_iter_ : int
        Rounds of self-training.
    summary_ : dict
        Stages, times, results, what the rows were taken for.

    Examples
    --------
    >>> import numpy as np
    >>> from dec import DEC
    >>> X = np.repeat(np.eye(3), 20, axis=0) * 5 + np.random.default_rng(0).normal(size=(60, 3)) * 0.1
    >>> model = DEC(3, random_state=0, settings={"model.hidden": [16], "start.networks": 1}).fit(X)
    >>> model.predict(X[:1]) == model.labels_[:1]
    array([ True])
    """

    def __init__(
        self,
        n_clusters=10,
        *,
        recipe="default",
        n_latent=None,
        image_shape=None,
        row_kind="auto",
        random_state=None,
        device="auto",
        n_jobs=None,
        settings=None,
        verbose=False,
    ):
        self.n_clusters = n_clusters
        self.recipe = recipe
        self.n_latent = n_latent
        self.image_shape = image_shape
        self.row_kind = row_kind
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.settings = settings
        self.verbose = verbose

    def fit(self, X, y=None):
        """Clusters the rows of ``X``; ``y`` is not looked at."""
        settings = self._settings()
        if settings.get("data.missing") == "drop":
            raise ValueError("data.missing='drop' would leave rows without a label: leave them out of X, or use 'mean'")
        X = self._validated(X, reset=True, allow_nan=settings.get("data.missing") == "mean")
        if not isinstance(self.n_clusters, numbers.Integral) or self.n_clusters < 1:
            raise ValueError(f"n_clusters={self.n_clusters!r}: must be a whole number of at least 1")
        names = getattr(self, "feature_names_in_", None)
        with progress_for(self.verbose) as progress, _generators():
            self._model = _dec.Model.fit(
                _rows(X),
                int(self.n_clusters),
                recipe=self.recipe,
                settings=settings,
                seed=self._seed(),
                device=str(self.device),
                threads=self._threads(),
                feature_names=[] if names is None else [str(name) for name in names],
                progress=progress,
            )
        self._take()
        return self

    def fit_predict(self, X, y=None):
        """Clusters the rows of ``X`` and returns ``labels_``."""
        return self.fit(X).labels_

    def predict(self, X):
        """The cluster of each row, int64 of shape (n_samples,)."""
        return self._model_of().predict(_rows(self._validated(X)))

    def predict_proba(self, X):
        """q, how much each row belongs to each cluster: float32 of shape (n_samples, n_clusters), rows sum to 1."""
        return self._model_of().soft_assignments(_rows(self._validated(X)))

    def transform(self, X):
        """z, the rows in the latent space: float32 of shape (n_samples, n_latent)."""
        return self._model_of().transform(_rows(self._validated(X)))

    def inverse_transform(self, Z):
        """Latent rows as rows of the input's units: float64 of shape (n_samples, n_features).

        Where rows were brought to one total or to length 1 (``data.scale`` "counts" and "unit") that is what they have here too:
        ``reconstruct`` gives back their own.
        """
        model = self._model_of()
        return model.decode(check_array(Z, dtype=np.float32))

    def reconstruct(self, X):
        """The rows as the autoencoder knows them: float64 of shape (n_samples, n_features)."""
        return self._model_of().reconstruct(_rows(self._validated(X)))

    def save(self, directory):
        """Saves a run directory, which ``DEC.load`` and the command ``dec predict`` read, with a TorchScript predictor."""
        self._model_of().save(directory)

    def report(self, path, X, y=None, *, names=None):
        """Writes a page of HTML about what was found in ``X``, the rows of ``fit``, to ``path``; it needs nothing else.

        ``y`` may be the class of each row, to be held against its cluster, None or NaN where it is not known; ``names`` are the
        rows' names, of a DataFrame its index.
        """
        model = self._model_of()
        if names is None and hasattr(X, "index") and hasattr(X, "iloc"):
            names = X.index
        rows = self._validated(X, allow_nan=self._settings().get("data.missing") == "mean")
        labels, classes = _classes(y)
        for what, given in (("y", labels), ("names", names)):
            if given is not None and len(given) != rows.shape[0]:
                raise ValueError(f"{what} has {len(given)} values, and X {rows.shape[0]} rows")
        names = [] if names is None else [str(name) for name in names]
        model.report(_rows(rows), path, labels=labels, classes=classes, ids=names)

    @classmethod
    def load(cls, directory, *, device="auto"):
        """Loads what ``save`` or the command ``dec`` left."""
        self = cls(device=device)
        self._model = _dec.Model.load(directory, device)
        self.n_features_in_ = self._model.n_features()
        self._take()
        self.set_params(n_clusters=self.summary_["n_clusters"], n_latent=self.cluster_centers_.shape[1])
        return self

    @property
    def _n_features_out(self):
        return self.cluster_centers_.shape[1]

    def _take(self):
        self.labels_ = self._model.labels()
        self.cluster_centers_ = self._model.centroids()
        self.n_iter_ = self._model.rounds()
        self.summary_ = json.loads(self._model.summary())

    def _model_of(self):
        check_is_fitted(self, "cluster_centers_")
        return self._model

    def _settings(self):
        settings = dict(self.settings or {})
        if self.n_latent is not None:
            settings["model.n_latent"] = self.n_latent
        if self.image_shape is not None:
            settings["augment.image"] = [int(side) for side in self.image_shape]
        if self.row_kind != "auto":
            settings["augment.kind"] = self.row_kind
        return settings

    def _seed(self):
        if isinstance(self.random_state, numbers.Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _threads(self):
        if self.n_jobs is None:
            return torch.get_num_threads()
        if self.n_jobs == -1:
            return None
        if not isinstance(self.n_jobs, numbers.Integral) or self.n_jobs < 1:
            raise ValueError(f"n_jobs={self.n_jobs!r}: must be None, -1 or a number of threads")
        return int(self.n_jobs)

    def _validated(self, X, reset=False, allow_nan=False):
        if not reset:
            check_is_fitted(self, "cluster_centers_")
        return validate_data(
            self,
            _plain(X),
            reset=reset,
            accept_sparse="csr",
            dtype=_TYPES,
            ensure_all_finite="allow-nan" if allow_nan else True,
            ensure_min_samples=2 if reset else 1,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self):
        state = dict(super().__getstate__())
        model = state.pop("_model", None)
        if model is not None:
            state["_files"] = model.to_files()
        return state

    def __setstate__(self, state):
        state = dict(state)
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            self._model = _dec.Model.from_files(files, str(self.device))


def _plain(X):
    """AnnData and torch tensors as what scikit-learn knows."""
    if isinstance(X, torch.Tensor):
        return X.detach().cpu().numpy()
    if hasattr(X, "obsm") and hasattr(X, "var_names"):
        return X.X
    return X


def _rows(X):
    """Rows as the extension takes them: uint8, float32 or float64, dense, or the parts of a sparse matrix."""
    if not scipy.sparse.issparse(X):
        return X
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    parts = ((X.indptr, np.uint64), (X.indices, np.uint32), (X.data, np.float32))
    return (X.shape, *(part.astype(kind) for part, kind in parts))


def _classes(y):
    """The classes of rows as numbers, -1 where there is none, with the classes' names."""
    if y is None:
        return None, []
    known = [None if value is None or value != value else value for value in np.asarray(y, dtype=object).ravel()]
    classes = sorted({value for value in known if value is not None}, key=lambda value: (isinstance(value, str), value))
    numbers_of = {value: number for number, value in enumerate(classes)}
    return [numbers_of.get(value, -1) for value in known], [str(value) for value in classes]


def _generators():
    """torch's generators as they were afterwards: first weights are drawn from them."""
    used = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    return torch.random.fork_rng(devices=list(used))
