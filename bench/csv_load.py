"""CSV files into the lake: ours against the usual ways, and against bare DuckDB (the limit).

    python -m bench.csv_load --rows 1000000

The file holds the shop's real sales, as many cycles of them as it takes. Each way runs in a process of its own and writes
into a folder of its own on HDFS, removed afterwards; its rows are counted again from what stands there. The peers do less:
they check no line, key or value, and keep no account. "limit" is DuckDB told every type, into a local file.
What a load costs before its first row (imports, contract, commit) is measured too, with a file of one row.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.measure import ROOT, measure
from bench.spark_peer import submit

LIMIT = "DuckDB → local Parquet (limit)"
OURS = "CsvFiles → LakeTable"
SPARK = "spark-submit local[2], inferSchema"
CONTRACT = ROOT / "include" / "contracts" / "transactions.odcs.yaml"
DAY = date(2026, 1, 5)  # the first of a cycle of the shop's year
CYCLE = 364  # days
SALES_PER_CYCLE = 1_465_675
PANDAS_LIMIT_ROWS = 10_000_000


def run_ours(folder: str, uri: str, filters: list[str]) -> dict[str, Any]:
    """What ``CsvToHdfsOperator`` does between finding its connections and publishing its receipt."""
    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.projections import arrow_schema
    from tallyclerk.core.receipt import Receipt, load_name
    from tallyclerk.core.window import Window
    from tallyclerk.sinks.lake_table import LakeTable
    from tallyclerk.sources.csv_files import CsvFiles

    contract, window, load_id = load_contract(CONTRACT), Window.of_day(DAY), uuid4().hex
    assert contract.csv is not None
    source = CsvFiles(
        contract=contract,
        dialect=contract.csv,
        folder=Path(folder),
        filters=tuple(filters),
        deduplicate_by=tuple(contract.primary_key),
        load_id=load_id,
    )
    table = LakeTable(uri, dataset=contract.dataset, schema=arrow_schema(contract))
    with tempfile.TemporaryDirectory(dir=folder) as spool:
        extract = source.extract(window, Path(spool))
        extract.ledger.check(load=load_name(contract.dataset, window))
        receipt = Receipt(
            dataset=contract.dataset,
            window=window.key,
            ledger=extract.ledger,
            location=uri,
            load_id=load_id,
            fingerprint=extract.fingerprint,
            sources=extract.sources,
        )
        return {"rows": table.replace_window(window, extract.files, receipt).ledger.written}


def run_duckdb(folder: str) -> dict[str, Any]:
    """The engine alone: types declared, nothing checked but them, nothing sent anywhere."""
    import duckdb

    types = {
        **dict.fromkeys(("transaction_id", "product_id"), "VARCHAR"),
        **dict.fromkeys(("household_id", "store_id", "basket_id"), "BIGINT"),
        **dict.fromkeys(("quantity", "week"), "INTEGER"),
        **dict.fromkeys(("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"), "DECIMAL(12,2)"),
        "transaction_timestamp": "TIMESTAMP",
    }
    columns = {name: types[name] for name in _csv_file(folder).open().readline().strip().split(",")}
    done = duckdb.execute(
        f"COPY (FROM read_csv('{_csv_file(folder)}', header = true, auto_detect = false, columns = {columns})) "
        f"TO '{folder}/bare.parquet' (FORMAT parquet, COMPRESSION zstd)"
    ).fetchone()
    return {"rows": done[0] if done else 0}


def run_pandas(folder: str, web: str, path: str) -> dict[str, Any]:
    """The way of most DAGs: a frame, a local file, and HdfsCLI."""
    import pandas
    import requests
    from hdfs import InsecureClient

    frame = pandas.read_csv(_csv_file(folder), parse_dates=["transaction_timestamp"])
    frame.to_parquet(f"{folder}/pandas.parquet", compression="zstd")
    session = requests.Session()
    session.trust_env = False
    InsecureClient(web, user="hdfs", session=session).upload(f"{path}/part.parquet", f"{folder}/pandas.parquet")
    return {"rows": len(frame)}


def run_spark(folder: str, uri: str) -> dict[str, Any]:
    """The tutorials' way: an application that guesses the types and overwrites a folder."""
    script = (
        "import sys\n"
        "from pyspark.sql import SparkSession\n"
        "spark = SparkSession.builder.getOrCreate()\n"
        "options = {'header': 'true', 'inferSchema': 'true', 'mode': 'PERMISSIVE'}\n"
        "frame = spark.read.options(**options).csv(f'file://{sys.argv[1]}')\n"
        "frame.write.mode('overwrite').parquet(sys.argv[2])\n"
        "spark.stop()\n"
    )
    submit(folder, script, str(_csv_file(folder)), uri)
    return {}


def _csv_file(folder: str | Path) -> Path:
    return Path(folder, f"transactions_{DAY}.csv")


@contextmanager
def sales_file(rows: int) -> Iterator[Path]:
    """A folder with one CSV file of ``rows`` sales of the shop, every id its own."""
    from include.shop.source import SALES_COLUMNS, connect_to_sales

    cycles = -(-rows // SALES_PER_CYCLE)
    with tempfile.TemporaryDirectory(prefix="bench-csv-") as folder:
        with connect_to_sales(DAY + timedelta(days=number) for number in range(CYCLE * cycles)) as connection:
            connection.execute(
                f"COPY (SELECT {', '.join(SALES_COLUMNS)} FROM sales LIMIT {rows}) TO '{_csv_file(folder)}' (HEADER)"
            )
        yield Path(folder)


def stored(address: str, path: str) -> dict[str, int]:
    """Rows and bytes of the Parquet files below a folder of HDFS, from their own footers."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from hdfs_native import Client

    client, rows, size = Client(address), 0, 0
    for status in client.list_status(path, recursive=True):
        if status.path.endswith(".parquet") and "/_" not in status.path.removeprefix(path):
            with client.read(status.path) as reader:
                rows += pq.read_metadata(pa.BufferReader(reader.read())).num_rows
            size += status.length
    return {"stored_rows": rows, "stored_bytes": size}


def run(address: str, web: str, rows: int) -> dict[str, Any]:
    """All ways, one after the other; way → measurement.

    :param address: the NameNode as ``hdfs://host:port``. :param web: its WebHDFS address.
    """
    from hdfs_native import Client

    base = f"/tmp/bench-csv-{uuid4().hex[:8]}"
    found: dict[str, Any] = {}
    with sales_file(rows) as folder:
        csv = str(folder)
        ways: dict[str, tuple[str, dict[str, Any]]] = {
            LIMIT: ("run_duckdb", {"folder": csv}),
            OURS: ("run_ours", {"folder": csv, "uri": f"{address}{base}/ours", "filters": []}),
            f"{OURS}, rows filtered": (
                "run_ours",
                {"folder": csv, "uri": f"{address}{base}/filtered", "filters": ["sales_value > 0"]},
            ),
            SPARK: ("run_spark", {"folder": csv, "uri": f"{address}{base}/spark"}),
        }
        if rows <= PANDAS_LIMIT_ROWS:
            ways["pandas → Parquet → HdfsCLI"] = ("run_pandas", {"folder": csv, "web": web, "path": f"{base}/pandas"})
        try:
            for way, (function, arguments) in ways.items():
                cost = measure(f"bench.csv_load:{function}", **arguments).as_dict()
                target = arguments.get("path") or arguments.get("uri", "").removeprefix(address)
                found[way] = {**cost, **(stored(address, target) if target else {})}
                if way != LIMIT and found[way]["stored_rows"] != cost["result"].get("rows", rows):
                    raise RuntimeError(f"{way}: {found[way]} does not hold what was told")
        finally:
            Client(address).delete(base, recursive=True)
        return {
            "bench": "csv_load",
            "rows": rows,
            "csv_bytes": _csv_file(folder).stat().st_size,
            "ways": found,
            "one_row": one_row(address, f"{base}-one"),
        }


def one_row(address: str, base: str) -> dict[str, Any]:
    """The limit and ours with one row: what does not grow with the file."""
    from hdfs_native import Client

    with sales_file(1) as folder:
        csv = str(folder)
        try:
            return {
                LIMIT: measure("bench.csv_load:run_duckdb", folder=csv).as_dict(),
                OURS: measure("bench.csv_load:run_ours", folder=csv, uri=f"{address}{base}", filters=[]).as_dict(),
            }
        finally:
            Client(address).delete(base, recursive=True)


def table_text(results: dict[str, Any]) -> str:
    """The measurements, with CPU as a ratio to the limit and to the Spark way, for people."""
    ways = results["ways"]
    limit, spark = ways[LIMIT]["cpu_seconds"], ways[SPARK]["cpu_seconds"]
    lines = [
        f"{results['rows']:,} rows, {results['csv_bytes'] / 1e6:,.0f} MB of CSV",
        f"{'':<38}{'CPU s':>8}{'x limit':>9}{'Spark/it':>10}{'wall s':>8}{'MiB':>7}{'stored MB':>11}",
    ]
    for way, cost in ways.items():
        size = f"{cost['stored_bytes'] / 1e6:.1f}" if "stored_bytes" in cost else ""
        lines.append(
            f"{way:<38}{cost['cpu_seconds']:>8.1f}{cost['cpu_seconds'] / limit:>9.2f}{spark / cost['cpu_seconds']:>10.1f}"
            f"{cost['wall_seconds']:>8.1f}{cost['peak_rss_mib']:>7.0f}{size:>11}"
        )
    fixed = {way: cost["cpu_seconds"] for way, cost in results["one_row"].items()}
    by_row = (ways[OURS]["cpu_seconds"] - fixed[OURS]) / (limit - fixed[LIMIT])
    lines.append(
        f"with one row: limit {fixed[LIMIT]:.2f} CPU s, ours {fixed[OURS]:.2f}; for the other rows ours is {by_row:.2f} x limit"
    )
    return "\n".join(lines)


def main() -> None:
    from stack.settings import LOOPBACK, load_settings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    os.environ.setdefault("HADOOP_USER_NAME", "hdfs")
    settings = load_settings()
    address, web = (
        f"{scheme}://{LOOPBACK}:{settings.port(port)}" for scheme, port in (("hdfs", "HDFS"), ("http", "HDFS_HTTP"))
    )
    results = run(address, web, options.rows)
    print(table_text(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
