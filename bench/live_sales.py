"""The shop's real sales as the live extractor sends them, with all that goes wrong on the way: for the speed layer's
benchmark and for the test that its sums are exact.

A sale is of today or of the day before, at random, so that neither days nor times come in order. Of a hundred, one is sent
again later, and one of two hundred is of a day long gone. An aborted transaction holds sales that never were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

CONTRACT = Path(__file__).resolve().parent.parent / "include" / "contracts" / "transactions.odcs.yaml"
PARTITIONS = 3
ACCEPTED_DAYS = 2
"""One more than the dates made here need: midnight may pass while a job runs."""
LATE_DAYS = 9
_TRANSACTION_MESSAGES = 50_000


class LiveSales:
    """``rows`` sales, each once, in a DuckDB table ``sales``; ``is_late`` tells those of a day long gone.

    :param late: one of so many is late; 0 for none.
    """

    def __init__(self, rows: int, *, late: int = 200) -> None:
        from datetime import timedelta

        from bench.csv_load import CYCLE, DAY, SALES_PER_CYCLE
        from include.shop.source import SALES_COLUMNS, connect_to_sales

        days = (DAY + timedelta(days=number) for number in range(CYCLE * -(-rows // SALES_PER_CYCLE)))
        columns = ", ".join(name for name in SALES_COLUMNS if name != "transaction_timestamp")
        is_late = f"position % {late} = 0" if late else "false"
        self.connection: duckdb.DuckDBPyConnection = connect_to_sales(days)
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute(
            f"CREATE TABLE sales AS SELECT {columns}, {is_late} AS is_late, "
            f"  CAST(timezone('UTC', now()) AS DATE) - CASE WHEN {is_late} THEN {LATE_DAYS} ELSE hash(transaction_id) % 2 END::INTEGER"
            "  + CAST(transaction_timestamp AS TIME) AS transaction_timestamp "
            f"FROM sales LIMIT {rows}".replace("CREATE TABLE sales", "CREATE TABLE made")  # the view has that name
        )
        self.connection.execute("DROP VIEW sales; ALTER TABLE made RENAME TO sales")

    def customer_days(self) -> dict[tuple[str, str], tuple[str, int, str]]:
        """(customer, date) → total, count and average, of the sales that count and are not late."""
        found = self.connection.execute(
            "SELECT CAST(household_id AS VARCHAR), CAST(CAST(transaction_timestamp AS DATE) AS VARCHAR), "
            "CAST(CAST(sum(sales_value) AS DECIMAL(18,2)) AS VARCHAR), count(*), "
            # in whole cents: DuckDB's quotient of decimals is a double
            "CAST(CAST((2 * CAST(sum(sales_value) * 100 AS HUGEINT) + count(*)) // (2 * count(*)) * 0.01 AS DECIMAL(18,2)) AS VARCHAR) "
            "FROM sales WHERE sales_value > 0 AND NOT is_late GROUP BY ALL"
        ).fetchall()
        return {(customer, date): (total, count, average) for customer, date, total, count, average in found}

    def department_minutes(self) -> dict[tuple[str, str], tuple[str, int]]:
        """(department, minute) → total and count, of the same sales; the departments are the source's."""
        from include.shop.source import parquet_file, quoted

        found = self.connection.execute(
            "SELECT coalesce(department, 'UNKNOWN'), strftime(transaction_timestamp, '%Y-%m-%dT%H:%M:00Z'), "
            "CAST(CAST(sum(sales_value) AS DECIMAL(18,2)) AS VARCHAR), count(*) "
            f"FROM sales LEFT JOIN read_parquet({quoted(parquet_file('products'))}) AS products "
            "ON sales.product_id = CAST(products.product_id AS VARCHAR) "
            "WHERE sales_value > 0 AND NOT is_late GROUP BY ALL"
        ).fetchall()
        return {(department, minute): (total, count) for department, minute, total, count in found}

    def late_ids(self) -> list[str]:
        """The ids of the late sales that would have counted, sorted."""
        query = "SELECT transaction_id FROM sales WHERE is_late AND sales_value > 0 ORDER BY ALL"
        return [name for (name,) in self.connection.execute(query).fetchall()]

    def batches(self, condition: str = "true") -> Iterator[pa.Table]:
        """The sales in the contract's types, in parts of one Kafka transaction each."""
        import pyarrow as pa

        from tallyclerk.contracts import load_contract
        from tallyclerk.contracts.projections import arrow_schema

        schema = arrow_schema(load_contract(CONTRACT), derived=False)
        columns = ", ".join(schema.names).replace(
            "transaction_timestamp", "transaction_timestamp AT TIME ZONE 'UTC' AS transaction_timestamp"
        )
        found = self.connection.execute(f"SELECT {columns} FROM sales WHERE {condition}")
        for batch in found.to_arrow_reader(_TRANSACTION_MESSAGES):
            yield pa.Table.from_batches([batch]).cast(schema)


def send(bootstrap: str, topic: str, sales: LiveSales, *, repeated: int = 100) -> int:
    """Everything into ``topic``; how many messages it shows.

    :param repeated: one of so many is sent again in a later transaction; 0 for none.
    """
    from confluent_kafka import Producer

    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.projections import arrow_schema
    from tallyclerk.sinks.kafka_encoding import JsonEncoder

    encoder = JsonEncoder(arrow_schema(load_contract(CONTRACT), derived=False), ["transaction_id"])
    settings = {"bootstrap.servers": bootstrap, "transactional.id": topic, "compression.type": "lz4", "linger.ms": 20}
    producer = Producer(settings)
    producer.init_transactions(120)
    sent, again = 0, []
    for number, rows in enumerate(sales.batches()):
        encoded = encoder.encode(rows)
        messages = list(zip(encoded.keys.to_pylist(), encoded.values.to_pylist(), strict=True))
        if number == 0:
            producer.begin_transaction()
            for key, value in messages[:1000]:
                produce(producer, topic, b"never-" + key, value.replace(key, b"never-" + key))
            # they stand in the log, and nobody may count them
            assert producer.flush(120) == 0
            producer.abort_transaction(120)
        producer.begin_transaction()
        for key, value in [*messages, *again]:
            produce(producer, topic, key, value)
        assert producer.flush(300) == 0
        producer.commit_transaction(120)
        sent += len(messages) + len(again)
        again = messages[::repeated] if repeated else []
    if again:
        producer.begin_transaction()
        for key, value in again:
            produce(producer, topic, key, value)
        assert producer.flush(300) == 0
        producer.commit_transaction(120)
    return sent + len(again)


def produce(producer: Any, topic: str, key: bytes, value: bytes) -> None:
    """One message, waiting while the client's queue is full."""
    while True:
        try:
            producer.produce(topic, key=key, value=value)
            return
        except BufferError:
            producer.poll(0.5)


@contextmanager
def topics(bootstrap: str, *names: str) -> Iterator[None]:
    """Topics of one's own, dropped at the end."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names], operation_timeout=120).values():
        made.result(120)
    try:
        yield
    finally:
        for gone in admin.delete_topics(list(names), operation_timeout=120).values():
            gone.result(120)
