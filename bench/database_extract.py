"""A table of sales out of PostgreSQL: ours against the usual ways and against bare COPY (the limit).

    python -m bench.database_extract --rows 1000000

Each way runs in a process of its own. The table is ours to make and to drop. ``connectorx`` is no dependency; name an
interpreter that has it (with pyarrow) with ``--connectorx-python``. Peers are not told to be exact: pandas makes floats of
numeric, connectorx decimals of ten places whatever was declared; the last column shows what became of ``amount``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.measure import Measurement, measure

COPY = "COPY, text, dropped"
PANDAS_LIMIT_ROWS = 2_000_000  # it holds every cell as a Python object: about 1 kB a row

_SALES = """
CREATE UNLOGGED TABLE {table} AS SELECT
  i AS sale_id, i % 2500 AS household_id, i * 7919 % 92331 AS product_id, 31000000000 + i / 10 AS basket_id,
  'Product ' || i % 5000 || ' · Käse' AS label, (i % 12 + 1)::int AS quantity,
  (i * 13 % 99999 / 100.0)::numeric(12,2) AS amount, (i * 7 % 999 / -100.0)::numeric(12,2) AS retail_discount,
  (i % 50 / 100.0)::numeric(12,2) AS coupon_discount, (i * 1000003 % 9999999999 / 100.0)::numeric(12,2) AS coupon_match,
  timestamptz '2026-01-01 00:00+00' + i * interval '3.111 seconds' AS sold_at, md5(i::text)::uuid AS transaction_id
FROM generate_series(1, {rows}::bigint) i
"""


def run_ours(uri: str, table: str) -> dict[str, Any]:
    """Exact, counted, zstd Parquet."""
    from tallyclerk.core.window import Window
    from tallyclerk.sources.database_table import DatabaseTable

    with tempfile.TemporaryDirectory() as folder:
        source = DatabaseTable(uri=uri, table=table, mode="full")
        extract = source.extract(Window.of_day("2026-01-01"), Path(folder))
        return {"rows": extract.ledger.written, "amount": str(extract.schema.field("amount").type)}


def run_copy(uri: str, table: str, form: str) -> dict[str, Any]:
    """Read and dropped."""
    import psycopg

    with psycopg.connect(uri) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY (SELECT * FROM {table}) TO STDOUT (FORMAT {form})") as copy:
            for _ in copy:
                pass
        return {"rows": cursor.rowcount}


def run_pandas(uri: str, table: str) -> dict[str, Any]:
    """The way of most DAGs: the whole table as objects, then Parquet."""
    import pandas
    import psycopg
    import sqlalchemy

    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(uri))
    frame = pandas.read_sql(f"SELECT * FROM {table}", engine)
    frame["transaction_id"] = frame["transaction_id"].astype(str)
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        frame.to_parquet(file.name, compression="zstd")
    return {"rows": len(frame), "amount": str(frame["amount"].dtype)}


def run_connectorx(uri: str, table: str) -> dict[str, Any]:
    """Rust, one connection; Arrow, then Parquet."""
    import connectorx
    import pyarrow.parquet as pq

    rows = connectorx.read_sql(uri, f"SELECT * FROM {table}", return_type="arrow", protocol="binary")
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        pq.write_table(rows, file.name, compression="zstd", compression_level=1)
    return {"rows": rows.num_rows, "amount": str(rows.schema.field("amount").type)}


@contextmanager
def sales_table(uri: str, rows: int) -> Iterator[str]:
    """A table of `rows` sales in a schema of its own, warm in the cache as far as it fits."""
    import psycopg

    schema = f"bench_{uuid4().hex[:8]}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            connection.execute(_SALES.format(table=f"{schema}.sales", rows=rows))
            connection.execute(f"VACUUM ANALYZE {schema}.sales")
            yield f"{schema}.sales"
        finally:
            connection.execute("SET client_min_messages = warning")
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


def server_cpu_seconds(pid: int | None) -> float:
    """CPU of a PostgreSQL server and of all its sessions that have ended."""
    if pid is None:
        return 0.0
    fields = Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def run(uri: str, rows: int, *, server_pid: int | None = None, connectorx_python: str | None = None) -> dict[str, Any]:
    """All ways, one after the other; way → measurement, with the server's CPU beside it."""
    from psycopg.conninfo import conninfo_to_dict

    facts = conninfo_to_dict(uri)
    address = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**facts)
    ways: dict[str, tuple[str, str, dict[str, Any]]] = {
        COPY: ("run_copy", sys.executable, {"uri": uri, "form": "text"}),
        "COPY, binary, dropped": ("run_copy", sys.executable, {"uri": uri, "form": "binary"}),
        "DatabaseTable → Parquet": ("run_ours", sys.executable, {"uri": uri}),
    }
    if connectorx_python:
        ways["connectorx → Parquet"] = ("run_connectorx", connectorx_python, {"uri": address})
    if rows <= PANDAS_LIMIT_ROWS:
        ways["pandas.read_sql → to_parquet"] = ("run_pandas", sys.executable, {"uri": uri})
    found: dict[str, Any] = {}
    with sales_table(uri, rows) as table:
        for way, (function, python, arguments) in ways.items():
            before = server_cpu_seconds(server_pid)
            cost: Measurement = measure(f"bench.database_extract:{function}", python=python, table=table, **arguments)
            assert cost.result["rows"] == rows
            found[way] = {**cost.as_dict(), "server_cpu_seconds": round(server_cpu_seconds(server_pid) - before, 2)}
    return {"bench": "database_extract", "rows": rows, "ways": found}


def table_text(results: dict[str, Any]) -> str:
    """The measurements and their ratios to COPY, for people."""
    ways, base = results["ways"], results["ways"][COPY]
    lines = [
        f"{results['rows']:,} rows",
        f"{'':<30}{'CPU s':>8}{'server':>8}{'wall s':>8}{'MiB':>8}{'rate':>7}  amount",
    ]
    for way, cost in ways.items():
        rate = base["wall_seconds"] / cost["wall_seconds"]
        lines.append(
            f"{way:<30}{cost['cpu_seconds']:>8.1f}{cost['server_cpu_seconds']:>8.1f}{cost['wall_seconds']:>8.1f}"
            f"{cost['peak_rss_mib']:>8.0f}{rate:>6.2f}x  {cost['result'].get('amount', '')}"
        )
    return "\n".join(lines)


def main() -> None:
    from psycopg.conninfo import make_conninfo

    from stack.services import SERVICES
    from stack.settings import LOOPBACK, load_settings
    from stack.supervisor import Supervisor

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--connectorx-python", help="an interpreter with connectorx and pyarrow")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    settings = load_settings()
    uri = make_conninfo(
        host=LOOPBACK,
        port=settings.port("POSTGRES"),
        user="retail",
        password=settings.secret("RETAIL_DB_PASSWORD"),
        dbname="retail",
    )
    service = next(service for service in SERVICES if service.name == "postgres")
    server = Supervisor(settings).identity(service)
    results = run(
        uri, options.rows, server_pid=server.pid if server else None, connectorx_python=options.connectorx_python
    )
    print(table_text(results))
    text = json.dumps(results, indent=1)
    if options.json:
        options.json.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
