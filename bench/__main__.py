"""All measurements, side by side in one run, printed and written to docs/benchmarks.md.

python -m bench                                  # what `make bench` does
python -m bench --rows 10000000 --only csv
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import ROOT

REPORT = ROOT / "docs" / "benchmarks.md"
_FENCE = "```"
_HEAD = """# Benchmarks

Written by `make bench`; one alone: `python -m bench --only csv --rows 1000000` in `make shell`.

Every way runs in a process of its own. CPU seconds are user and system time of it and its children, imports included; MiB is
the peak resident memory of the largest of them. The services run on the same machine. Compare within one table only, and
ratios of CPU rather than wall seconds: other work on the machine slows the clock more than it costs CPU.
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """One measurement: a module of ``bench`` that takes ``--rows`` and ``--json`` and prints its table.

    :param share: of the rows asked for; a bench that pays for each row by the network takes fewer, a large one more.
    :param says: how to read its table, for the report.
    :param options: further words of its command line.
    """

    module: str
    title: str
    says: str
    share: float = 1.0
    options: tuple[str, ...] = ()

    def command(self, rows: int) -> list[str]:
        return ["-m", f"bench.{self.module}", "--rows", str(max(1, int(rows * self.share))), *self.options]


BENCHES = {
    "csv": Bench(
        "csv_load",
        "CSV to HDFS",
        "`x limit` is CPU over bare DuckDB's, which checks nothing and sends nothing; `Spark/it` is how many times less CPU "
        "than the usual spark-submit. Ours counts every line, checks every value and key, and commits with a receipt; "
        "`rows filtered` has a row filter. The last line says how much of both does not grow with the file.",
    ),
    "csv_large": Bench(
        "csv_load",
        "CSV to HDFS, ten times the rows",
        "As above: the larger the file, the less of it is imports, contract and commit. Memory is bounded.",
        share=10,
    ),
    "database": Bench(
        "database_extract",
        "PostgreSQL to Parquet",
        "The rate is against `COPY`, text, thrown away. `server` is PostgreSQL's own CPU. The last column is what became "
        "of a `numeric(12,2)`. Ours keeps the server, a thread that fetches and one that decodes and writes busy at once: where "
        "they share two cores, the rate is about that of all CPU, COPY's client and server against ours.",
    ),
    "database_large": Bench(
        "database_extract",
        "PostgreSQL to Parquet, ten times the rows",
        "As above; pandas, which holds every cell as an object, is left out.",
        share=10,
    ),
    "cassandra": Bench(
        "cassandra_load",
        "Lake to Cassandra",
        "CPU per row of the load alone, a tenth of the rows. Ours reads back every key and signs; `write only` does not.",
        share=0.1,
    ),
    "cassandra_large": Bench(
        "cassandra_load",
        "Lake to Cassandra, all rows",
        "As above, with all rows for ours and a sample of them for per-row `execute`.",
        options=("--only", "per row", "--only", "verified"),
    ),
    "kafka": Bench(
        "kafka_encode",
        "Rows to Kafka messages",
        "CPU of that step alone. The serializers get rows that are Python dicts already; `with dicts` makes them of Arrow "
        "batches, as ours starts from these. `times less` is against the serializer without that. The last way is encoding, "
        "fencing, sending, counting every report and committing together.",
    ),
    "rest": Bench(
        "rest_to_kafka",
        "REST API to Kafka",
        "At most the shop's 92,331 products. `loop/it` is how many times less CPU than the usual loop, which checks nothing and "
        "keeps no position; the bare download is the limit. Ours checks every value, overlaps its pages and commits each "
        "transaction with ledger and position; with one page a transaction, a crash costs one page.",
    ),
    "kafka_lake": Bench(
        "kafka_to_hdfs",
        "Kafka to HDFS",
        "`x limit` is CPU over a bare consumer's, which decodes and writes nothing; `Spark/it` is how many times less CPU than "
        "Structured Streaming's. `KafkaRange` takes messages out of the client with their offsets and times; ours decodes them, "
        "checks every value and rule, and commits rows and offsets with a receipt.",
    ),
    "flink": Bench(
        "flink_kpis",
        "Live sales to KPIs",
        "Each sale once, summed by customer and day, right to the cent. Flink's is the pipeline's own script on one slot, with its "
        "checkpoints and its state on disk or on the heap. `Spark/it` is how many times less CPU than Structured Streaming's "
        "availableNow with its state in memory, and `RocksDB/it` than with its state on disk, both with one partition of state a core; "
        "planning counted. `as it comes` has Spark's 200 partitions. The bare "
        "consumer keeps nothing: when it dies, it begins again. At few rows a third of Flink's CPU is the compiler's. With the stack's "
        "heap of 512 MB the hashmap backend is left out above 500,000 rows: `TALLYCLERK_FLINK_HEAP=2g make up`.",
        share=2,
    ),
    "kafka_cassandra": Bench(
        "kafka_to_cassandra",
        "Kafka to Cassandra, the newest value of each key",
        "A tenth of the messages. `loop/it` is how many times less CPU a message than the loop's, which writes each message at once and "
        "keeps no account. Ours writes a key once a poll, and moves its cursor when all is acknowledged; with `every key once` there is "
        "nothing to leave out.",
        share=0.1,
    ),
    "changes": Bench(
        "change_capture",
        "Database changes to Kafka",
        "`peer/it` is how many times less CPU than Debezium's (of the Connect worker, less what it uses idle) or the loop's; `server` is "
        "PostgreSQL's meanwhile, other work included. Log: five inserts, four updates and a deletion of ten changes, in transactions of 100. "
        "Query: every row has changed. Ours commits events, ledger and position together.",
        share=0.4,
    ),
}


def run(bench: Bench, rows: int) -> str:
    """The table of one measurement.

    :raises RuntimeError: it failed; its error output has been shown.
    """
    with subprocess.Popen(
        [sys.executable, *bench.command(rows), "--json", os.devnull],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as child:
        printed, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"python {' '.join(bench.command(rows))} ended with exit code {child.returncode}")
    return printed.strip()


def section(bench: Bench, rows: int, table: str) -> str:
    """A measurement's part of the report; tables of plain columns stand in a fence."""
    table = "\n".join(line.rstrip() for line in table.splitlines())
    shown = table if table.startswith("|") else f"{_FENCE}text\n{table}\n{_FENCE}"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"## {bench.title}\n\n`python {' '.join(bench.command(rows))}`, {now}, {_machine()}\n\n{shown}\n\n{bench.says}\n"


def report(former: str, measured: Mapping[str, str]) -> str:
    """The whole document: what was measured now, and the former sections of what was not.

    :param measured: sections by title.
    """
    parts = [f"## {part}".rstrip() + "\n" for part in former.split("\n## ")[1:]]
    sections = {part.splitlines()[0].removeprefix("## "): part for part in parts} | dict(measured)
    known = [bench.title for bench in BENCHES.values() if bench.title in sections]
    return "\n".join([_HEAD, *(sections[title] for title in known)])


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}"


def main() -> int:
    """0 when every measurement succeeded; a failed one keeps the report as it was."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--only", action="append", choices=BENCHES, help="one of them; may be repeated")
    parser.add_argument("--output", type=Path, default=REPORT, help="the report (default: docs/benchmarks.md)")
    options = parser.parse_args()
    if options.rows < 1:
        parser.error("--rows must be at least 1")
    sections: dict[str, str] = {}
    for name in options.only or BENCHES:
        bench = BENCHES[name]
        print(f"{bench.title}: python {' '.join(bench.command(options.rows))}", flush=True)
        try:
            table = run(bench, options.rows)
        except RuntimeError as failure:
            print(f"error: {failure}; {options.output} is as it was", file=sys.stderr)
            return 1
        print(f"{table}\n", flush=True)
        sections[bench.title] = section(bench, options.rows, table)
    former = options.output.read_text(encoding="utf-8") if options.output.exists() else ""
    options.output.write_text(report(former, sections), encoding="utf-8")
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
