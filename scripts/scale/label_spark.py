#!/usr/bin/env python3
"""Labels Parquet files with Spark and a run's predictor; the model goes to the executors with the job.

    spark-submit scripts/scale/label_spark.py RUN rows/ labelled/
    python scripts/scale/label_spark.py RUN rows/ labelled/                # on this machine

The executors' Python needs pyarrow and torch 2.11.
"""

import argparse
import os
import sys

from pyspark.sql import SparkSession
from pyspark.sql.types import FloatType, LongType, StructField, StructType

import predictor


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a finished run's directory, where this program runs")
    parser.add_argument("rows", help="Parquet, wherever Spark reads it from")
    parser.add_argument("output", help="the folder to write to: every column of the rows, cluster, confidence")
    options = parser.parse_args()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # executors on this machine
    spark = SparkSession.builder.appName("dec").getOrCreate()
    spark.sparkContext.addPyFile(predictor.__file__)  # executors need not have it
    model = spark.sparkContext.broadcast(predictor.Predictor(options.run))

    def label(batches):
        for batch in batches:
            yield model.value(batch)

    rows = spark.read.parquet(options.rows)
    more = [StructField("cluster", LongType()), StructField("confidence", FloatType())]
    rows.mapInArrow(label, StructType([*rows.schema.fields, *more])).write.parquet(options.output)
    spark.stop()


if __name__ == "__main__":
    main()
