"""The contract's own rules over decoded rows, and its derived columns, by DuckDB over Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tallyclerk.contracts.projections import arrow_schema, duckdb_output, duckdb_types, quoted
from tallyclerk.core.extract import SpooledFile
from tallyclerk.sources.csv_table_rules import table_warnings
from tallyclerk.sources.message_findings import Finding

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from tallyclerk.contracts.model import Column, Contract
    from tallyclerk.sources.kafka_decoding import MessageDecoder
    from tallyclerk.sources.message_findings import Indices


class RowRules:
    """Judges rows of a contract's source columns. A context manager.

    :ivar schema: of the judged rows, derived columns included.

    What only says ``required`` of a source column is the decoder's matter and not asked again; a rule that warns is not asked.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._derived = [column for column in contract.columns if column.derived is not None]
        stored = {column.name for column in contract.source_columns}
        self._rules = [
            rule
            for rule in contract.row_rules
            if rule.on_violation != "warn" and not (rule.check == "required" and rule.column in stored)
        ]
        self.schema = arrow_schema(contract)
        self._connection: duckdb.DuckDBPyConnection | None = None

    @property
    def failing(self) -> frozenset[str]:
        """Reasons of findings that the contract lets no load pass with."""
        return frozenset(f"rule:{rule.id}" for rule in self._rules if rule.on_violation == "fail")

    def __enter__(self) -> Self:
        import duckdb

        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1")
        self._connection.execute("SET TimeZone = 'UTC'")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def judge(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[Finding, ...]]:
        """The rows with derived columns, all of them, and the findings over them.

        :param rows: in the schema of ``arrow_schema(contract, derived=False)``.
        """
        import numpy as np
        import pyarrow as pa

        if not rows.num_rows or not (self._derived or self._rules):
            return rows if not self._derived else self._empty(), ()
        assert self._connection is not None
        answer = (
            self._connection.from_arrow(pa.Table.from_batches([rows])).query("delivered", self._query).to_arrow_table()
        )
        findings = []
        for number, rule in enumerate(self._rules):
            broken = answer.column(f"rule {number}").to_numpy()
            if broken.any():
                reason = "required" if rule.check == "required" else f"rule:{rule.id}"
                findings.append(Finding(rule.column or "", reason, rule.message, np.flatnonzero(broken)))
        columns = [
            (answer if column.derived is not None else rows).column(column.name) for column in self._contract.columns
        ]
        nullable = pa.schema([field.with_nullable(True) for field in self.schema])
        flat = [
            (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).cast(field.type)
            for column, field in zip(columns, nullable, strict=True)
        ]
        return pa.RecordBatch.from_arrays(flat, schema=nullable), tuple(findings)

    def warnings(self, files: Sequence[SpooledFile]) -> list[str]:
        """What the rules about all rows together say of a window.

        :raises RecordError: such a rule is broken that does not only warn.
        """
        assert self._connection is not None
        return table_warnings(self._connection, self._contract, files, keys_are_unique=False)

    def _empty(self) -> pa.RecordBatch:
        import pyarrow as pa

        return pa.RecordBatch.from_pylist([], schema=self.schema)

    @property
    def _query(self) -> str:
        types, forms = duckdb_types(self._contract), duckdb_output(self._contract)
        typed = ", ".join(
            f"{_typed(column, types)} AS {quoted(column.name)}" for column in self._contract.source_columns
        )
        derived = "".join(f", {column.derived} AS {quoted(column.name)}" for column in self._derived)
        outputs = [f"{forms[column.name]} AS {quoted(column.name)}" for column in self._derived]
        outputs += [f'coalesce({rule.violation}, false) AS "rule {number}"' for number, rule in enumerate(self._rules)]
        return f"SELECT {', '.join(outputs)} FROM (SELECT *{derived} FROM (SELECT {typed} FROM delivered))"  # noqa: S608 - a checked contract's


def _typed(column: Column, types: dict[str, str]) -> str:
    """A stored value as the rules see it: a UUID is one again, and an instant of a ``timestamp`` column plain UTC."""
    if column.kind == "timestamp":
        return f"{quoted(column.name)} AT TIME ZONE 'UTC'"
    return f"CAST({quoted(column.name)} AS {types[column.name]})"


def judged(
    decoder: MessageDecoder, rules: RowRules | None, values: Sequence[bytes], places: Indices
) -> tuple[pa.RecordBatch, Indices, tuple[Finding, ...]]:
    """Rows of the good ones among some messages of a batch, where these stand in it, and the findings over the batch.

    :param places: where the messages stand in the batch.
    """
    import numpy as np
    import pyarrow as pa

    decoded = decoder.decode(values)
    findings = renumbered(decoded.findings, places)
    kept, good = places[decoded.kept], decoded.rows
    if rules is not None:
        good, broken = rules.judge(good)
        if broken:
            findings += renumbered(broken, kept)
            fits = np.ones(len(kept), np.bool_)
            fits[np.concatenate([finding.rows for finding in broken])] = False
            kept, good = kept[fits], good.filter(pa.array(fits))
    return good, kept, findings


def renumbered(findings: Sequence[Finding], rows: Indices) -> tuple[Finding, ...]:
    """Findings over some rows of a batch, as findings over the batch; ``rows`` says where these stand in it."""
    return tuple(Finding(each.column, each.reason, each.detail, rows[each.rows]) for each in findings)
