#!/usr/bin/env python3
"""Labels Parquet files with Ray Data and a run's predictor, on the cluster that RAY_ADDRESS names, or on this machine.

    python scripts/scale/label_ray.py RUN rows/ labelled/ --workers 8

Each worker is a process with the model, and takes part after part. Needs ray[data], pyarrow and torch 2.11.
"""

import argparse
import os

import predictor
import ray


class Labels:
    """What a worker has: the model that it was sent."""

    def __init__(self, model):
        self.model = model

    def __call__(self, batch):
        return self.model(batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a finished run's directory")
    parser.add_argument("rows", help="a Parquet file, or a folder of several")
    parser.add_argument("output", help="the folder to write to: every column of the rows, cluster, confidence")
    parser.add_argument("--workers", type=int, default=1, help="processes that label (1)")
    parser.add_argument("--batch", type=int, default=4096, help="rows at once (4096)")
    options = parser.parse_args()
    ray.cloudpickle.register_pickle_by_value(predictor)  # workers need not have the file
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    where = {"compute": ray.data.ActorPoolStrategy(size=options.workers), "num_cpus": 1}
    given = {"fn_constructor_args": [predictor.Predictor(options.run)]}
    rows = ray.data.read_parquet(os.path.abspath(options.rows) if "://" not in options.rows else options.rows)
    labelled = rows.map_batches(Labels, batch_format="pyarrow", batch_size=options.batch, **given, **where)
    labelled.write_parquet(os.path.abspath(options.output) if "://" not in options.output else options.output)


if __name__ == "__main__":
    main()
