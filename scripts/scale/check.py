"""What scripts/scale/check runs: `dec predict` and the engines on the same Parquet files, in a temporary directory."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy
import pyarrow
import pyarrow.parquet

HERE = pathlib.Path(__file__).resolve().parent
PARTS = 4
TRAINED = 1000
SMALL = ["model.hidden=[32]", "pretrain.epochs=5", "start.networks=1", "start.over_clustering=[]", "cluster.max_rounds=2",
         "output.report=false"]


def rows_of(n_rows):
    """Tables of the same rows: named columns in an order that is not the model's later on, and one column of lists."""
    rng = numpy.random.default_rng(0)
    values = rng.normal(size=(4, 8))[rng.integers(0, 4, n_rows)] * 3.0 + rng.normal(size=(n_rows, 8))
    ids = pyarrow.array(numpy.arange(n_rows))
    columns = {f'value "{i}"': pyarrow.array(values[:, i]) for i in range(8)}
    turned = pyarrow.table({"id": ids, **dict(reversed(columns.items()))})
    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.astype(numpy.float32).ravel()), 8)
    return {"columns": (pyarrow.table(columns), turned), "lists": (pyarrow.table({"x": lists}), pyarrow.table({"id": ids, "x": lists}))}


def main():
    dec, n_rows = sys.argv[1], int(sys.argv[2])
    engines = ["duckdb", "ray", "spark"]
    if shutil.which("java") is None:
        print("no Java: Spark is left out")
        engines.remove("spark")
    bad = False
    for kind, (plain, given) in rows_of(n_rows).items():
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            pyarrow.parquet.write_table(plain.slice(0, TRAINED), scratch / "train.parquet")
            pyarrow.parquet.write_table(plain, scratch / "plain.parquet")
            (scratch / "rows").mkdir()
            for part in range(PARTS):
                size = n_rows // PARTS + 1
                pyarrow.parquet.write_table(given.slice(part * size, size), scratch / "rows" / f"part-{part}.parquet", row_group_size=1000)
            settings = [word for setting in SMALL for word in ("--set", setting)]
            subprocess.run([dec, "train.parquet", "-k", "4", "--out", "run", "-q", *settings], cwd=scratch, check=True,
                           stdout=subprocess.DEVNULL)
            began = time.monotonic()
            subprocess.run([dec, "predict", "run", "plain.parquet", "-o", "predicted.parquet", "-q"], cwd=scratch, check=True,
                           stdout=subprocess.DEVNULL)
            expected = pyarrow.parquet.read_table(scratch / "predicted.parquet")
            print(f"{kind}: {n_rows:,} rows; dec predict {time.monotonic() - began:.1f} s", flush=True)
            for engine in engines:
                rows = "rows/*.parquet" if engine == "duckdb" else "rows"
                began = time.monotonic()
                command = [sys.executable, HERE / f"label_{engine}.py", "run", rows, f"{engine}.parquet"]
                ended = subprocess.run(command, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                if ended.returncode:
                    sys.exit(ended.stderr)
                took = time.monotonic() - began
                found = pyarrow.parquet.read_table(scratch / f"{engine}.parquet").sort_by("id")
                same = found.column("cluster").to_numpy() == expected.column("cluster").to_numpy()
                apart = numpy.abs(found.column("confidence").to_numpy() - expected.column("confidence").to_numpy()).max()
                whole = set(given.schema.names) < set(found.schema.names)
                good = same.all() and apart < 1e-5 and whole and len(found) == n_rows
                print(f"  {engine:<8}{took:>6.1f} s  {same.sum():,} clusters the same, confidence within {apart:.1e}"
                      f"{'' if good else '  NOT AS IT SHOULD BE'}", flush=True)
                bad |= not good
    sys.exit(bad)


if __name__ == "__main__":
    main()
