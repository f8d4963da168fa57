"""Reads back tables that tests/read_back.rs has written, with the packages that users read them with.

read_back.py make FOLDER            makes AnnData files to add answers to; lists them
read_back.py check PATH             compares a table with what was written
read_back.py copies FOLDER FOLDER   compares AnnData files with what was written, and with the files they are copies of

Ends with 77 where a package is missing.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

K, M = 5, 3
OURS = {
    "obs/dec", "obs/dec_confidence", "obs/dec_second", "obs/dec_entropy", "obs/dec_outlier",
    "obsm/X_dec", "obsm/dec_memberships", "uns/dec_categories", "uns/dec_second_categories",
}  # fmt: skip


def expected(n):
    """The rows that src/output/testing.rs makes up."""
    import numpy as np

    i = np.arange(n)
    j, k = np.arange(M), np.arange(K)
    ids = [f"c{number}" for number in i]
    ids[3:6] = ['a, "b"', "=1+1", "é\tü"]
    return {
        "row": i,
        "id": ids,
        "cluster": np.where(i % 50 == 7, -1, i % K),
        "confidence": (i % 1024 / 1024).astype("f4"),
        "second": (i + 1) % K,
        "entropy": (i % 13 / 8).astype("f4"),
        "outlier": (i % 97 / 128).astype("f4"),
        "z": (i[:, None] % 512 / 2 - j).astype("f4"),
        "q": ((i[:, None] + k) % 8 / 8).astype("f4"),
    }


def check_frame(frame, want, wide):
    """A table of pandas: every column, in its order."""
    import numpy as np

    plain = ["row", "id", "cluster", "confidence", "second", "entropy", "outlier"]
    ends = [f"z_{j}" for j in range(M)] + [f"q_{k}" for k in range(K)] if wide else ["embedding", "memberships"]
    assert list(frame.columns) == plain + ends, frame.columns
    for name in plain:
        assert list(frame[name]) == list(want[name]), name
    assert str(frame["cluster"].dtype) == "int64"
    z, q = (frame[ends[:M]], frame[ends[M:]]) if wide else (np.stack(frame[ends[0]]), np.stack(frame[ends[1]]))
    assert np.array_equal(np.asarray(z, "f4"), want["z"]) and np.array_equal(np.asarray(q, "f4"), want["q"])


def check_text(path):
    import pandas as pd

    frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    check_frame(frame, expected(len(frame)), True)


def check_parquet(path):
    import pandas as pd
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list<item: float"), table.schema
    check_frame(table.to_pandas(), expected(len(table)), False)
    check_frame(pd.read_parquet(path), expected(len(table)), False)


def check_feather(path):
    import pandas as pd
    from pyarrow import feather

    table = feather.read_table(path)
    check_frame(table.to_pandas(), expected(len(table)), False)
    check_frame(pd.read_feather(path), expected(len(table)), False)


def check_npy(path):
    import numpy as np

    cluster = np.load(path, mmap_mode="r")
    want = expected(len(cluster))
    for name, array, dtype in (("cluster", cluster, "<i8"), ("z", np.load(path.with_suffix(".embedding.npy")), "<f4"),
                               ("q", np.load(path.with_suffix(".memberships.npy")), "<f4")):  # fmt: skip
        assert array.dtype == dtype and np.array_equal(array, want[name]), name


def check_h5ad(path, source=None):
    import anndata as ad
    import h5py
    import matplotlib
    import numpy as np
    import scanpy as sc

    matplotlib.use("Agg")
    a = ad.read_h5ad(path)
    want = expected(a.n_obs)
    sure = want["cluster"] >= 0
    assert list(a.obs["dec"].cat.categories) == [str(k) for k in range(K)] and not a.obs["dec"].cat.ordered
    assert np.array_equal(a.obs["dec"].cat.codes, want["cluster"]) and np.array_equal(a.obs["dec"].notna(), sure)
    assert np.array_equal(a.obs["dec_second"].cat.codes, want["second"])
    for name in ("confidence", "entropy", "outlier"):
        assert np.array_equal(a.obs[f"dec_{name}"], want[name]), name
    assert np.array_equal(a.obsm["X_dec"], want["z"]) and np.array_equal(a.obsm["dec_memberships"], want["q"])
    if source is None:
        assert a.X is None and list(a.obs_names) == want["id"] and a.n_vars == 0
    else:
        check_kept(source, path)
        b = ad.read_h5ad(source)
        assert (b.obs_names == a.obs_names).all() and (b.var_names == a.var_names).all()
        added = {name.split("/")[1] for name in OURS}
        assert [c for c in b.obs if c not in added] == [c for c in a.obs if c not in added]
    sc.pl.embedding(a, "X_dec", color="dec", show=False)
    again = path.with_suffix(".again.h5ad")
    a.write_h5ad(again)
    assert ad.read_h5ad(again).obs["dec"].equals(a.obs["dec"])
    again.unlink()
    with h5py.File(path, "r+") as file:  # it can be written to
        if isinstance(file["obsm"], h5py.Dataset):
            return  # a table of records
        for i in range(12):
            file[f"more_{i}"] = i
            file["obsm"].create_dataset(f"more_{i}", data=np.full((a.n_obs, 1), i))
    with h5py.File(path, "r+") as file:
        for i in range(12):
            del file[f"more_{i}"]
    assert np.array_equal(ad.read_h5ad(path).obsm["more_11"][:, 0], np.full(a.n_obs, 11))


def check_kept(source, path):
    """Each object and attribute of `source`, in `path` with the same type, bytes and storage."""
    import h5py

    bad = []
    with h5py.File(source) as a, h5py.File(path) as b:
        compare(a, b, "", bad)
    assert not bad, bad


def compare(a, b, path, bad):
    import h5py

    compare_attributes(a, b, path, bad)
    for name in {*a, *b}:
        inner = f"{path}/{name}".strip("/")
        if inner in OURS:
            continue
        if name not in a or name not in b:
            if inner != "obsm":
                bad.append(f"{inner} is in one alone")
        elif isinstance(a[name], h5py.Group):
            compare(a[name], b[name], inner, bad)
        else:
            compare_attributes(a[name], b[name], inner, bad)
            compare_values(a[name], b[name], inner, bad)


def compare_attributes(a, b, path, bad):
    import numpy as np

    for name in {*a.attrs, *b.attrs}:
        if (path, name) == ("obs", "column-order"):
            continue
        if name not in a.attrs or name not in b.attrs or type(a.attrs[name]) is not type(b.attrs[name]):
            bad.append(f"{path}@{name}")
        elif a.attrs.get_id(name).dtype.kind == "O" and not isinstance(a.attrs[name], (str, np.ndarray)):
            if a.file[a.attrs[name]].name != b.file[b.attrs[name]].name:
                bad.append(f"{path}@{name} leads elsewhere")
        elif not np.array_equal(a.attrs[name], b.attrs[name]) or a.attrs.get_id(name).dtype != b.attrs.get_id(name).dtype:
            bad.append(f"{path}@{name} differs")


def compare_values(a, b, path, bad):
    import numpy as np

    if path in ("obs", "obsm"):  # tables of records, which have got fields
        bad.extend(f"{path}.{n}" for n in a.dtype.names if f"{path}/{n}" not in OURS and a[n].tobytes() != b[n].tobytes())
        return
    if a.dtype != b.dtype or a.shape != b.shape or (a.compression, a.chunks) != (b.compression, b.chunks):
        bad.append(f"{path} has another type, shape or storage")
    elif a.shape is not None:
        x, y = np.asarray(a[()]), np.asarray(b[()])
        if not (np.array_equal(x, y) if a.dtype.kind == "O" else x.tobytes() == y.tobytes()):
            bad.append(f"{path} differs")


def make(folder):
    """AnnData files of many kinds, and the legacy file that comes with scanpy."""
    import shutil

    import anndata as ad
    import h5py
    import numpy as np
    import scanpy
    import scipy.sparse as sp

    legacy = Path(scanpy.__file__).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    if legacy.exists():
        shutil.copy(legacy, folder / "legacy.h5ad")
    counts = np.random.default_rng(0).poisson(1.0, (300, 20)).astype("f4")
    whole = full(counts)
    whole.raw = whole
    whole.write_h5ad(folder / "dense.h5ad")
    full(sp.csr_matrix(counts)).write_h5ad(folder / "csr_gzip.h5ad", compression="gzip")
    full(sp.csc_matrix(counts)).write_h5ad(folder / "csc_lzf.h5ad", compression="lzf")
    ad.AnnData(counts).write_h5ad(folder / "bare.h5ad")
    many = full(counts)
    for i in range(300):
        many.obs[f"column_{i}"] = float(i)
    many.obs.index.name = "barcode"
    many.write_h5ad(folder / "wide.h5ad")
    old = full(counts)
    old.obs.insert(1, "dec", old.obs["kind"])
    old.obs["dec_confidence"], old.obs["dec_second"] = 1, "text"
    old.obsm["X_dec"] = np.zeros((300, 9))
    old.write_h5ad(folder / "earlier.h5ad")
    with h5py.File(folder / "userblock.h5ad", "w", userblock_size=512) as file:
        ad.io.write_elem(file, "/", full(counts))
    with h5py.File(folder / "trees.h5ad", "w") as file:
        ad.io.write_elem(file, "/", full(counts))
        del file["obsm"]
    make_0_7(folder / "categories_by_reference.h5ad", counts)


def full(X):
    import anndata as ad
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng(1)
    n, v = X.shape
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(rng.choice(["a", "b", "é"], n)),
            "whole": np.arange(n),
            "float": rng.normal(size=n).astype("f4"),
            "text": [f"s{i % 7}" for i in range(n)],
            "bool": rng.random(n) > 0.5,
            "whole_or_none": pd.array([None if i % 5 == 0 else i for i in range(n)], dtype="Int64"),
            "bool_or_none": pd.array([None if i % 5 == 0 else i % 2 == 0 for i in range(n)], dtype="boolean"),
            "ordered": pd.Categorical(rng.choice(["lo", "hi"], n), categories=["lo", "hi"], ordered=True),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    a = ad.AnnData(X, obs=obs, var=pd.DataFrame({"g": rng.normal(size=v)}, index=[f"g{i}" for i in range(v)]))
    nested = {"s": "text", "t": True, "array": np.arange(6).reshape(2, 3), "texts": np.array(["x", "yy"])}
    a.uns = {
        "dict": {"a": 1, "b": [1.5, 2.5], "nested": nested},
        "records": np.rec.fromarrays([np.arange(3), np.arange(3.0)], names="p,q"),
        "frame": pd.DataFrame({"z": [1, 2]}, index=["a", "b"]),
        "sparse": sp.random(5, 5, 0.5, format="csr", random_state=2),
    }
    a.layers["sparse"] = sp.random(n, v, 0.2, format="csc", random_state=3)
    a.layers["dense"] = rng.normal(size=(n, v))
    a.obsm["X_pca"], a.obsm["frame"] = rng.normal(size=(n, 4)), pd.DataFrame({"u": np.arange(n)}, index=a.obs_names)
    a.varm["PCs"], a.varp["p"] = rng.normal(size=(v, 4)), np.eye(v)
    a.obsp["near"] = sp.random(n, n, 0.05, format="csr", random_state=4)
    return a


def make_0_7(path, X):
    """The layout of anndata 0.7: codes refer to their categories by an object reference."""
    import h5py
    import numpy as np

    with h5py.File(path, "w") as file:
        file["X"] = X
        for name, n in (("obs", X.shape[0]), ("var", X.shape[1])):
            group = file.create_group(name)
            group["index"] = np.array([f"{name}{i}" for i in range(n)], dtype=h5py.string_dtype())
            group["kind"] = np.arange(n).astype("i1") % 2
            group["__categories/kind"] = np.array(["a", "b"], dtype=h5py.string_dtype())
            group["kind"].attrs["categories"] = group["__categories/kind"].ref
            group["__categories/kind"].attrs["ordered"] = False
            group.attrs["_index"] = "index"
            group.attrs["column-order"] = np.array(["kind"], dtype=h5py.string_dtype())
            group.attrs["encoding-type"], group.attrs["encoding-version"] = "dataframe", "0.1.0"


def main():
    what, path = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        make(path)
        return
    if what == "copies":
        for source in sorted(Path(sys.argv[3]).iterdir()):
            check_h5ad(path / source.name, source)
        return
    checks = {".csv": check_text, ".tsv": check_text, ".parquet": check_parquet, ".feather": check_feather,
              ".npy": check_npy, ".h5ad": check_h5ad}  # fmt: skip
    checks[path.suffix](path)


if __name__ == "__main__":
    try:
        main()
    except ModuleNotFoundError as missing:
        print(missing)
        sys.exit(77)
    sys.stdout.flush()
    os._exit(0)  # threads of the packages may still end, which is not what is tested
