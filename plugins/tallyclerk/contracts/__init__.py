"""What data must look like: an ODCS document becomes a :class:`Contract`, and everything else follows from it.

Importing this package loads neither pyarrow, duckdb nor pydantic, so that a DAG file may import it.
"""

from __future__ import annotations

from tallyclerk.contracts.loader import load_contract
from tallyclerk.contracts.model import (
    CassandraMapping,
    Column,
    Contract,
    CsvDialect,
    Incremental,
    KafkaMapping,
    Late,
    RestDialect,
    Rule,
    Threshold,
)

__all__ = [
    "CassandraMapping",
    "Column",
    "Contract",
    "CsvDialect",
    "Incremental",
    "KafkaMapping",
    "Late",
    "RestDialect",
    "Rule",
    "Threshold",
    "load_contract",
]
