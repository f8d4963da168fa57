#!/usr/bin/env python3
"""Writes small valid files of every format, from which fuzzing starts: seeds.py FOLDER [TARGET...]

Needs NumPy; pyarrow, pandas, SciPy, AnnData and Pillow each where they are there, whose formats are left out where they are not.
"""
import gzip
import io
import json
import pathlib
import struct
import sys
import tempfile
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).resolve().parent
X = np.arange(12, dtype="<f4").reshape(4, 3) / 2


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def seeds_npy():
    yield npy(X)
    yield npy(np.asfortranarray(X.astype("<f8") * 1e9))
    yield npy(np.arange(48, dtype="u1").reshape(3, 4, 4))
    yield npy(np.arange(2 * 8 * 8 * 3, dtype=">i2").reshape(2, 8, 8, 3))
    yield npy(np.zeros((0, 3), "<i8"))
    yield gzip.compress(npy(X.astype("<f2")))
    big = npy(np.zeros((2000, 300), "<f4"))
    yield gzip.compress(big)


def idx(code, array):
    head = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return head + array.tobytes()


def seeds_idx():
    yield idx(8, np.arange(48, dtype="u1").reshape(3, 4, 4))
    yield idx(13, X.astype(">f4"))
    yield idx(14, X.astype(">f8"))
    yield gzip.compress(idx(12, X.astype(">i4")))


def seeds_npz():
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, a=X, b=np.arange(6, dtype="u1").reshape(2, 3))
        yield out.getvalue()
    import scipy.sparse as sp
    for make in (sp.csr_matrix, sp.csc_matrix, sp.coo_matrix):
        out = io.BytesIO()
        sp.save_npz(out, make(np.eye(4, 3, dtype="<f4")))
        yield out.getvalue()


TABLE = "name,x,y,kind\nr1,1,0.5,u\nr2,NA,1e3,v\nr3,3,-2,u\nr4,4,7,w\n"


def seeds_delimited():
    yield TABLE.encode()
    yield TABLE.replace(",", "\t").encode()
    yield b"1,5;2,5;3\n4,25;5;6\n7;8;9\n"
    yield b"1 2  3\n4 5 6\n7 8 9.5\n"
    yield b'# a comment\n\n"a ""b""","c\nd",e\n1,2,true\n3,4,no\n'
    yield b",0,1,2\n0,1,2,3\n1,4,5,6\n"
    yield b"\xef\xbb\xbfa|b\r1|2\r3|4\r\n"
    yield gzip.compress(TABLE.encode())
    yield b"x\n1\n2\n3\n"


def seeds_svmlight():
    yield b"1 1:0.5 3:2\n-1 2:1e3 # a comment\n0 qid:3 1:1 2:2\n"
    yield b"# comment\n2,3 0:1 4:5\n 1:1\n"
    yield gzip.compress(b"1 1:0.5 3:2\n")


COORDINATES = "%%MatrixMarket matrix coordinate real general\n% a comment\n3 2 3\n1 1 5\n3 2 1.5\n1 1 2\n"


def seeds_mtx():
    yield COORDINATES.encode()
    yield b"%%MatrixMarket matrix coordinate pattern general\n2 2 2\n1 1\n2 2\n"
    yield b"%%MatrixMarket matrix array real general\n2 3\n1\n2\n3\n4\n5\n6e2\n"
    yield gzip.compress(COORDINATES.encode())


def seeds_tenx():
    genes = "G1\tone\tGene Expression\nG2\tone\tGene Expression\nG3\ttwo\tAntibody Capture\n"
    yield "\0".join([COORDINATES, "AAAC-1\nAAAG-1\n", genes]).encode()
    yield "\0".join([COORDINATES, "AAAC-1\nAAAG-1\n", "G1\nG2\nG3\n"]).encode()


def safetensors(tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def seeds_safetensors():
    yield safetensors({"a": ("F32", X), "b": ("U8", np.arange(4, dtype="u1"))})
    yield safetensors({"b": ("I64", np.arange(6, dtype="<i8").reshape(2, 3))})
    yield safetensors({"a": ("F64", X.astype("<f8")), "b": ("BF16", np.arange(2 * 8 * 8 * 3, dtype="<u2").reshape(2, 3, 8, 8))})


def table():
    import pyarrow as pa
    return pa.table({
        "a": pa.array([None, 0.5, 1.0, 1.5], pa.float32()),
        "b": pa.array(range(4), pa.int64()),
        "truth": pa.array([True, False, None, True]),
        "kind": pa.array(["u", "v", "u", "w"]).dictionary_encode(),
        "name": pa.array(["r0", "r1", "r2", "r3"], pa.large_string()),
        "price": pa.array([1, 2, 3, None], pa.decimal128(9, 2)),
        "when": pa.array([0] * 4, pa.date32()),
    })


def lists():
    import pyarrow as pa
    rows = [[float(4 * i + j) for j in range(4)] for i in range(4)]
    return [pa.table({"emb": pa.array(rows, kind)}) for kind in (pa.list_(pa.float32()), pa.list_(pa.uint8(), 4), pa.large_list(pa.float64()))]


def seeds_parquet():
    import pyarrow.parquet as pq
    tables = [(table(), codec, version) for codec in ("NONE", "snappy", "gzip", "zstd", "lz4") for version in ("1.0", "2.0")]
    for made, codec, version in tables + [(made, "snappy", "1.0") for made in lists()]:
        out = io.BytesIO()
        pq.write_table(made, out, compression=codec, data_page_version=version, row_group_size=3, store_schema=version == "2.0")
        yield out.getvalue()
    out = io.BytesIO()
    pq.write_table(table(), out, use_dictionary=False, column_encoding={"b": "DELTA_BINARY_PACKED", "name": "DELTA_BYTE_ARRAY"})
    yield out.getvalue()


def seeds_arrow():
    import pyarrow as pa
    import pyarrow.feather as pf
    for codec in ("uncompressed", "lz4", "zstd"):
        out = io.BytesIO()
        pf.write_feather(table(), out, compression=codec, chunksize=3)
        yield out.getvalue()
    for made in [table(), *lists()]:
        out = io.BytesIO()
        with pa.ipc.new_stream(out, made.schema) as stream:
            stream.write_table(made)
        yield out.getvalue()


def h5ad(**options):
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp
    obs = pd.DataFrame({"kind": pd.Categorical(["u", "v", "u", "w"]), "batch": ["x", "x", "y", "y"],
                        "score": [0.5, 1.0, np.nan, 2.0]}, index=[f"c{i}" for i in range(4)])
    made = ad.AnnData(options.get("X", X), obs=obs, var=pd.DataFrame(index=["g0", "g1", "g2"]))
    made.layers["counts"] = sp.csr_matrix(np.eye(4, 3, dtype="<f4"))
    made.obsm["X_pca"] = X[:, :2].astype("<f8")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a.h5ad"
        made.write_h5ad(path, compression=options.get("compression"))
        return path.read_bytes()


def seeds_h5ad():
    import scipy.sparse as sp
    yield h5ad()
    yield h5ad(compression="gzip")
    yield h5ad(X=sp.csr_matrix(X))
    yield h5ad(X=sp.csc_matrix(X), compression="lzf")
    for path in sorted((HERE.parent / "tests/files").glob("*.h5ad")):
        yield path.read_bytes()
    import h5py
    for version in ("earliest", "latest"):
        out = io.BytesIO()
        with h5py.File(out, "w", libver=version) as file:
            file.create_dataset("X", data=X, chunks=(2, 2), compression="gzip", shuffle=True, fletcher32=True)
            file["obs"] = np.array([(b"c%d" % i, i) for i in range(4)], dtype=[("index", "S4"), ("kind", "<i4")])
        yield out.getvalue()


def seeds_images():
    from PIL import Image
    grey = Image.fromarray(np.arange(48, dtype="u1").reshape(6, 8) * 5)
    for image, kind, options in [
        (grey, "PNG", {}), (grey.convert("RGBA"), "PNG", {}), (grey.convert("P"), "PNG", {}), (grey.convert("1"), "PNG", {}),
        (grey.convert("I;16"), "PNG", {}), (grey, "JPEG", {}), (grey.convert("RGB"), "JPEG", {"progressive": True}),
        (grey.convert("CMYK"), "JPEG", {}),
    ]:
        out = io.BytesIO()
        image.save(out, kind, **options)
        yield out.getvalue()


def seeds_labels():
    yield b"0\n1\n\n1\n"
    yield b"label\nred\nblue\nred\n"
    yield b"id,label\na,1\nb,2\nc,NA\n"
    yield npy(np.array([1, 2, 3]))
    yield npy(np.array(["red", "blue", "red"]))
    yield npy(np.array([b"a", b"b", b"c"]))
    yield idx(8, np.array([1, 2, 3], "u1"))
    yield gzip.compress(b"1\n2\n3\n")


def seeds_recipe():
    for path in sorted((HERE.parent / "configs").glob("*.toml")):
        yield path.read_bytes()
    yield b'seed=7\ndata.scale=0.02\nmodel.hidden=[3, 4]\n'
    yield b'[sweep]\nseed = [0, 1]\n"cluster.lr" = [0.01, 0.1]\n'


def seeds_assignments():
    yield b"row,cluster,confidence,second,entropy,outlier\n0,1,0.5,0,0.6,0.1\n1,0,0.75,1,0.2,0.9\n"
    yield b'row,id,cluster,confidence\n0,"a, b",1,0.5\n'


def seeds_any():
    for name, make in MAKERS.items():
        if name not in ("any", "recipe", "assignments", "tenx", "images"):
            yield next(iter(make()))


MAKERS = {name[len("seeds_"):]: make for name, make in list(globals().items()) if name.startswith("seeds_")}


def main(folder, *targets):
    for name in targets or MAKERS:
        if name not in MAKERS:
            continue
        place = pathlib.Path(folder) / name
        place.mkdir(parents=True, exist_ok=True)
        made = MAKERS[name]()
        for number in range(1000):
            try:
                data = next(made)
            except StopIteration:
                break
            except ImportError as missing:
                print(f"{name}: {missing}: the rest of its seeds is left out", file=sys.stderr)
                break
            (place / f"seed-{number:02}").write_bytes(data)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
