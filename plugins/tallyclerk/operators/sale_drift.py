"""The single sales behind a drift: what the lake has of some customers' day against what the topic has of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tallyclerk.core.window import Window

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts import Contract
    from tallyclerk.sources.kafka_range import KafkaRange

KINDS = ("only_in_batch", "only_in_stream", "different")

_COLUMNS = ("transaction_id", "household_id", "sales_value", "transaction_timestamp")
_EARLY_MS = 86_400_000
"""How far before a day its first messages are looked for: the speed layer counts sales of the day to come, as clocks differ."""


def compare_sales(loaded: pa.Table, streamed: pa.Table) -> pa.Table:
    """A row for each sale that the layers do not both have with one amount, by :func:`schema`.

    Sales of 0.00 are left out by both layers and are no drift; of a sale that was sent twice the first message counts, as in
    Flink. A sale that the layers give to different customers is in one only, for each of them.

    :param loaded: ``transaction_id``, ``household_id`` and ``sales_value`` of the cleaned sales. :param streamed: the same of
        the topic, in its order.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.register("loaded_rows", loaded)
        connection.register("streamed_rows", streamed.append_column("place", _numbers(len(streamed))))
        found = connection.execute(
            """
            WITH loaded AS (
                SELECT lower(transaction_id) AS id, CAST(household_id AS VARCHAR) AS customer, sales_value AS amount
                FROM loaded_rows WHERE sales_value > 0
            ), streamed AS (
                SELECT lower(transaction_id) AS id, CAST(arg_min(household_id, place) AS VARCHAR) AS customer,
                    arg_min(sales_value, place) AS amount
                FROM streamed_rows GROUP BY 1
            )
            SELECT id AS transaction_id, customer AS customer_id,
                CASE WHEN streamed.amount IS NULL THEN 'only_in_batch' WHEN loaded.amount IS NULL THEN 'only_in_stream'
                    ELSE 'different' END AS drift,
                loaded.amount AS batch_amount, streamed.amount AS stream_amount,
                coalesce(streamed.amount, 0) - coalesce(loaded.amount, 0) AS amount_difference
            FROM loaded FULL JOIN streamed USING (id, customer)
            WHERE loaded.amount IS DISTINCT FROM streamed.amount AND (loaded.amount IS NOT NULL OR streamed.amount > 0)
            ORDER BY customer_id, transaction_id
            """
        ).to_arrow_table()
    return found.cast(schema())


def streamed_sales(reader: KafkaRange, contract: Contract, window: Window, customers: Sequence[str]) -> pa.Table:
    """What a topic of JSON sales has of some customers' day, in the order of its messages.

    Read once, from the day before by the messages' timestamps to the read_committed end of now; only what is
    asked for is kept in memory. A message that is no row of the contract is none of the speed layer's either.

    :param reader: open.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from tallyclerk.contracts.projections import arrow_schema
    from tallyclerk.sources.kafka_decoding import JsonObjects

    own = arrow_schema(contract, derived=False)
    target = pa.schema([own.field(name) for name in _COLUMNS])
    decoder = JsonObjects(target, [name for name in _COLUMNS if contract.column(name).kind == "uuid"])
    wanted = pa.array(customers, pa.string())
    begin, end = (
        pa.scalar(instant, target.field("transaction_timestamp").type) for instant in (window.start, window.end)
    )

    def pieces() -> Iterator[pa.RecordBatch]:
        offsets, _ = reader.plan(reader.since(int(window.start.timestamp() * 1000) - _EARLY_MS))
        for batch in reader.read(offsets):
            rows = decoder.decode([value for value in batch.values if value is not None]).rows
            at = rows["transaction_timestamp"]
            is_asked = pc.and_(pc.greater_equal(at, begin), pc.less(at, end))
            yield rows.filter(pc.and_(is_asked, pc.is_in(rows["household_id"].cast(pa.string()), wanted)))

    return pa.Table.from_batches(pieces(), schema=target)


def schema() -> pa.Schema:
    """The columns of the lake's table of differing sales; differences are the stream's dollars minus the batch's."""
    import pyarrow as pa

    money = pa.decimal128(18, 2)
    return pa.schema(
        [
            ("transaction_id", pa.string()),
            ("customer_id", pa.string()),
            ("drift", pa.string()),
            ("batch_amount", money),
            ("stream_amount", money),
            ("amount_difference", money),
        ]
    )


def _numbers(count: int) -> Any:
    import numpy as np
    import pyarrow as pa

    return pa.array(np.arange(count, dtype=np.int64))


def of_customers(sales: pa.Table, customers: Sequence[str]) -> pa.Table:
    """The rows of these customers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return sales.filter(pc.is_in(sales["household_id"].cast(pa.string()), pa.array(customers, pa.string())))
