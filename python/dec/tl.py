"""Tools for AnnData, in scanpy's manner."""

import numpy as np

from ._estimator import DEC


def dec(adata, n_clusters=10, *, layer=None, use_rep=None, key_added="dec", random_state=0, copy=False, **parameters):
    """Clusters the observations of ``adata``.

    Parameters
    ----------
    adata : AnnData
    n_clusters : int, default=10
    layer, use_rep : str, default=None
        Cluster ``adata.layers[layer]`` or ``adata.obsm[use_rep]`` in place of ``adata.X``.
    key_added : str, default="dec"
    copy : bool, default=False
        Return a copy with the results; else they are written to ``adata``.
    **parameters
        Of ``dec.DEC``.

    Writes ``adata.obs[key]`` (categorical), ``adata.obs[key + "_confidence"]``, ``adata.obsm["X_" + key]`` (the latent) and
    ``adata.uns[key]`` (parameters, rounds, version).
    """
    import pandas as pd

    from . import __version__

    if layer is not None and use_rep is not None:
        raise ValueError("layer and use_rep exclude each other")
    adata = adata.copy() if copy else adata
    if use_rep is not None:
        X = adata.obsm[use_rep]
    else:
        X = adata.X if layer is None else adata.layers[layer]
    model = DEC(n_clusters, random_state=random_state, **parameters).fit(X)
    names = [str(cluster) for cluster in range(len(model.cluster_centers_))]
    confidence = model.predict_proba(X)[np.arange(len(model.labels_)), model.labels_]
    adata.obs[key_added] = pd.Categorical([names[label] for label in model.labels_], categories=names)
    adata.obs[key_added + "_confidence"] = confidence
    adata.obsm["X_" + key_added] = model.transform(X)
    given = {"n_clusters": n_clusters, "random_state": random_state, "layer": layer, "use_rep": use_rep, **parameters}
    plain = {name: value if isinstance(value, (int, float, str, bool)) else str(value) for name, value in given.items()}
    adata.uns[key_added] = {"params": plain, "rounds": model.n_iter_, "version": __version__}
    return adata if copy else None
