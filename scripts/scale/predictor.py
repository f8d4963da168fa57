"""A run's exported predictor on Arrow data, as the programs beside it use it."""

import io
import json
import pathlib

import numpy
import pyarrow
import torch


class Predictor:
    """Labels record batches and tables with the clusters of the finished run in the directory `run`.

    Columns are found by the names of those that the run was trained on, in any order, or else are all numeric ones; embeddings may be
    one column of lists. It is pickled with the model's bytes, so that workers elsewhere need no access to the directory.
    """

    def __init__(self, run):
        run = pathlib.Path(run)
        summary = json.loads((run / "summary.json").read_text())
        self.columns = summary.get("columns", [])
        self.model = (run / "model.pt").read_bytes()
        self._module = None

    def __getstate__(self):
        return {**self.__dict__, "_module": None}

    @property
    def module(self):
        """The TorchScript module, loaded once in each process."""
        if self._module is None:
            self._module = torch.jit.load(io.BytesIO(self.model)).eval()
        return self._module

    def __call__(self, batch):
        """The batch with two more columns: `cluster` (int64) and `confidence` (float32), the largest of q."""
        cluster, confidence = self.predict([batch.column(name) for name in self.names_in(batch.schema)])
        if isinstance(batch, pyarrow.RecordBatch):
            names = [*batch.schema.names, "cluster", "confidence"]
            return pyarrow.RecordBatch.from_arrays([*batch.columns, cluster, confidence], names)
        return batch.append_column("cluster", cluster).append_column("confidence", confidence)

    def names_in(self, schema):
        """The columns that are features, in the model's order."""
        if self.columns and all(name in schema.names for name in self.columns):
            return self.columns
        lists = [field.name for field in schema if _is_list(field.type)]
        numbers = [field.name for field in schema if pyarrow.types.is_floating(field.type) or pyarrow.types.is_integer(field.type)]
        names = lists if len(lists) == 1 else numbers
        if self.columns and len(lists) != 1:
            missing = next(name for name in self.columns if name not in schema.names)
            raise ValueError(f"there is no column {missing!r}, which the run was trained on")
        return names

    def predict(self, columns):
        """Clusters (int64) and confidences (float32) of rows, whose features are these Arrow arrays."""
        rows = torch.from_numpy(numpy.ascontiguousarray(_rows(columns)))
        with torch.no_grad():
            confidence, cluster = self.module(rows).max(dim=1)
        return pyarrow.array(cluster.numpy()), pyarrow.array(confidence.float().numpy())


def _is_list(kind):
    return pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)


def _rows(columns):
    """A NumPy array [n, d], float32 where that holds all values."""
    columns = [column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column for column in columns]
    for place, column in enumerate(columns):
        if column.null_count:
            raise ValueError(f"feature {place} has {column.null_count} missing values; dec takes none")
    if len(columns) == 1 and _is_list(columns[0].type):
        values = columns[0].flatten()
        if values.null_count:
            raise ValueError(f"the lists have {values.null_count} missing values; dec takes none")
        rows = values.to_numpy(zero_copy_only=False).reshape(len(columns[0]), -1)
    else:
        rows = numpy.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)
    if rows.dtype not in (numpy.uint8, numpy.float32):
        rows = rows.astype(numpy.float64)
    if rows.dtype != numpy.uint8 and not numpy.isfinite(rows).all():
        raise ValueError("there are values that are NaN or infinite; dec takes none")
    return rows
