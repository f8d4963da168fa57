#!/usr/bin/env python3
"""Labels Parquet files with DuckDB and a run's predictor: a function `dec` for SQL, which gives the cluster and its confidence.

    python scripts/scale/label_duckdb.py RUN 'rows/*.parquet' labelled.parquet
    python scripts/scale/label_duckdb.py RUN 'rows/*.parquet' --sql 'SELECT dec.cluster, count(*) FROM labelled GROUP BY ALL'

Rows are read and written in parts: there may be more of them than memory. Needs duckdb, pyarrow and torch 2.11.
"""

import argparse

import duckdb
import pyarrow
from predictor import Predictor

RESULT = "STRUCT(cluster BIGINT, confidence FLOAT)"


def register(connection, predictor):
    """Makes `dec_predict(feature, ...)` known to the connection."""

    def dec_predict(*columns):
        cluster, confidence = predictor.predict(columns)
        return pyarrow.StructArray.from_arrays([cluster, confidence], ["cluster", "confidence"])

    connection.create_function("dec_predict", dec_predict, None, RESULT, type="arrow")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a finished run's directory")
    parser.add_argument("rows", help="a Parquet file, or a pattern of several")
    parser.add_argument("output", nargs="?", help="the Parquet file to write: every column of the rows, cluster, confidence")
    parser.add_argument("--sql", help="show what this query gives instead; the rows are the table `labelled`, with a column `dec`")
    options = parser.parse_args()
    if (options.output is None) == (options.sql is None):
        parser.error("give either a file to write or --sql")
    connection = duckdb.connect()
    predictor = Predictor(options.run)
    register(connection, predictor)
    rows = connection.read_parquet(options.rows)
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in predictor.names_in(rows.limit(0).to_arrow_table().schema))
    labelled = rows.project(f"*, dec_predict({quoted}) AS dec")
    labelled.create_view("labelled")
    if options.sql:
        connection.sql(options.sql).show()
    else:
        connection.sql("SELECT * EXCLUDE dec, dec.cluster, dec.confidence FROM labelled").write_parquet(options.output)


if __name__ == "__main__":
    main()
