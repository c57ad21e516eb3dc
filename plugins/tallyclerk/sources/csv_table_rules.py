"""Rules of a contract about all rows of a window together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tallyclerk.contracts import Contract
from tallyclerk.core.extract import SpooledFile
from tallyclerk.exceptions import RecordError
from tallyclerk.sources.csv_engine import paths_list

if TYPE_CHECKING:
    import duckdb


def table_warnings(
    connection: duckdb.DuckDBPyConnection, contract: Contract, spools: Sequence[SpooledFile], *, keys_are_unique: bool
) -> list[str]:
    """What a `warn` rule says is told in the receipt.

    :param keys_are_unique: repeated keys were taken out already.
    :raises RecordError: any other rule is broken.
    """
    warnings: list[str] = []
    if not spools:
        return warnings
    source = f"read_parquet({paths_list([spool.path for spool in spools])})"
    for rule in contract.table_rules:
        if rule.check == "duplicateValues" and keys_are_unique:
            continue
        broken, measured = connection.execute(
            f"SELECT {rule.violation}, {rule.measure or 'NULL'} FROM {source}"
        ).fetchone() or (False, None)
        if broken and rule.on_violation == "warn":
            warnings.append(f"{rule.id}: {rule.message} (measured {measured})")
        elif broken:
            raise RecordError(f"{rule.id}: {rule.message} (measured {measured}). Nothing was committed.")
    return warnings
