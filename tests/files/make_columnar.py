"""Writes the small Parquet, Arrow and AnnData files of the tests. Run it in its own folder.

Made with pyarrow 26, anndata 0.12, h5py 3.16. The numbers follow formulas, which the tests repeat.
"""

import os
import struct
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq
import scipy.sparse as sp

warnings.filterwarnings("ignore")
N = 24


def plain():
    """a: i/2, null in row 3; b: i, int64; truth; kind: u, v, w; species: p, q; name: all different; when: a date."""
    return pa.table({
        "a": pa.array([None if i == 3 else i / 2 for i in range(N)], pa.float32()),
        "b": pa.array(range(N), pa.int64()),
        "truth": pa.array([i % 2 == 0 for i in range(N)]),
        "kind": pa.array(["wuv"[i % 3] for i in range(N)]).dictionary_encode(),
        "species": pa.array([None if i == 1 else "pq"[i % 2] for i in range(N)]),
        "name": pa.array([f"row {i}" for i in range(N)], pa.large_string()),
        "when": pa.array([0] * N, pa.date32()),
    })


def columnar():
    table = plain()
    pq.write_table(table, "plain.parquet", compression="zstd", row_group_size=10)
    for name, codec in [("plain.feather", "lz4"), ("zstd.feather", "zstd"), ("raw.feather", "uncompressed")]:
        pf.write_feather(table, name, compression=codec, chunksize=10)
    with pa.ipc.new_stream("plain.arrows", table.schema) as out:
        out.write_table(table, max_chunksize=10)
    pq.write_table(table.slice(0, 0), "empty.parquet")
    pf.write_feather(table.slice(0, 0), "empty.feather")
    lists = [[float(4 * i + j) for j in range(4)] for i in range(N)]
    text = [f"text {i // 2}" for i in range(N)]
    fixed = pa.table({"text": text, "emb": pa.array(lists, pa.list_(pa.float32(), 4))})
    pq.write_table(fixed, "lists.parquet", compression="snappy")
    beside = pa.table({"x": pa.array(range(N), pa.int16()), "emb": pa.array(lists, pa.list_(pa.float64()))})
    pq.write_table(beside, "lists_beside.parquet", compression="gzip")
    lists[5] = lists[5][:3]
    pq.write_table(pa.table({"emb": lists}), "ragged.parquet", compression="lz4")
    pq.write_table(pa.table({"p": pa.array(range(N), pa.uint8()), "q": pa.array([255] * N, pa.uint8())}), "bytes.parquet")
    pq.write_table(pa.table({"big": [1e9 + 0.25 * i for i in range(N)]}), "big.parquet")
    for folder, last in [("parts", pa.int32()), ("parts_differ", pa.float64())]:
        os.makedirs(folder, exist_ok=True)
        pq.write_table(pa.table({"x": pa.array([0, 1], pa.int32())}), f"{folder}/part-0.parquet")
        pq.write_table(pa.table({"x": pa.array([2, 3], last)}), f"{folder}/part-1.parquet")
        with open(f"{folder}/_metadata.parquet", "w") as out:
            out.write("not read")
    # The first compressed buffer claims to be 2^60 bytes long.
    with pa.OSFile("huge.feather", "w") as out:
        pf.write_feather(pa.table({"x": np.zeros(1000)}), out, compression="zstd")
    with open("huge.feather", "r+b") as out:
        data = out.read()
        place = data.index(struct.pack("<q", 8000) + b"\x28\xb5\x2f\xfd")
        out.seek(place)
        out.write(struct.pack("<q", 1 << 60))


def counts():
    """[6, 4]: i * j, but 0 where i + j is odd."""
    i, j = np.indices((6, 4))
    return np.where((i + j) % 2 == 0, i * j, 0)


def frames():
    obs = pd.DataFrame({
        "louvain": pd.Categorical(["T", "B", None, "T", "B", "T"], categories=["B", "T"]),
        "batch": [1, 1, 2, 2, 3, 3],
        "donor": ["d0", "d1", "d0", "d1", "d0", "d1"],
        "good": pd.array([True, None, False, True, True, False], dtype="boolean"),
    }, index=[f"cell{i}" for i in range(6)])
    return obs, pd.DataFrame(index=[f"gene{i}" for i in range(4)])


def thin(path, *keep):
    """Drops the empty groups, and what the tests do not read, to keep the files small."""
    with h5py.File(path, "r") as old, h5py.File(path + ".new", "w", libver="latest") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in keep:
            old.copy(name, new)
    os.replace(path + ".new", path)


def anndata_files():
    obs, var = frames()
    a = ad.AnnData(X=sp.csr_matrix(counts().astype("float32")), obs=obs, var=var)
    a.layers["raw"] = counts().astype("int64")
    a.obsm["X_pca"] = np.arange(12.0).reshape(6, 2)
    a.write_h5ad("csr.h5ad", compression="gzip")
    thin("csr.h5ad", "X", "obs", "var", "layers", "obsm")
    a = ad.AnnData(X=sp.csc_matrix(counts().astype("float64")), obs=obs[["batch"]], var=var)
    a.write_h5ad("csc.h5ad", compression="lzf")
    thin("csc.h5ad", "X", "obs", "var")
    # The layout that h5py writes by default, with groups of version 1.
    with h5py.File("old_sparse.h5ad", "w") as f:
        x = f.create_group("X")
        x.attrs["h5sparse_format"] = "csr"
        x.attrs["h5sparse_shape"] = np.array([2, 3])
        # Row 0: column 2 before 0, and a zero. Row 1: column 1 twice.
        x["data"] = np.array([5.0, 1.0, 0.0, 2.0, 3.0])
        x["indices"] = np.array([2, 0, 1, 1, 1], "int32")
        x["indptr"] = np.array([0, 3, 5], "int32")
        f["obs"] = np.array([(b"c0", 1), (b"c1", -1)], [("index", "S4"), ("louvain", "i1")])
        f["var"] = np.array([(b"g0",), (b"g1",), (b"g2",)], [("index", "S2")])
        f["uns/louvain_categories"] = np.array([b"B", b"T"])
        f["obsm"] = np.array([((1.0, 2.0),), ((3.0, 4.0),)], [("X_pca", ">f4", (2,))])
    with h5py.File("categories.h5ad", "w", libver="latest") as f:
        f["X"] = np.arange(6, dtype="uint8").reshape(3, 2)
        f["obs/_index"] = np.array([b"a", b"b", b"c"])
        f["obs/louvain"] = np.array([1, -1, 0], "int8")
        f["obs/__categories/louvain"] = np.array([b"B", b"T"])
    with h5py.File("huge.h5ad", "w", libver="latest") as f:
        f.create_dataset("X", (10**8, 10**7), "float32", chunks=(100, 100))
        g = f.create_group("layers/s")
        g.attrs["encoding-type"] = "csr_matrix"
        g.attrs["shape"] = np.array([10**9, 10**9])
        for name in ["data", "indices"]:
            g.create_dataset(name, (10**12,), "int32", chunks=(1000,))
        g.create_dataset("indptr", (10**9 + 1,), "int32", chunks=(1000,))
    # Groups with links to themselves.
    with h5py.File("loop.h5ad", "w", libver="latest") as f:
        f["X"] = np.zeros((2, 2), "float32")
        for name, kind in [("values", "nullable-integer"), ("categories", "categorical")]:
            g = f.create_group(f"obs/{name}")
            g.attrs["encoding-type"] = kind
            g[name] = g
    with h5py.File("empty.h5ad", "w", libver="latest") as f:
        f["X"] = np.zeros((0, 3), "float32")
    with h5py.File("other.h5ad", "w", libver="latest") as f:
        f["images"] = np.zeros((2, 2))


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    columnar()
    anndata_files()
