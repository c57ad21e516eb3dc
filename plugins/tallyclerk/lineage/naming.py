"""How OpenLineage names what a receipt names by its URI."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class DatasetName:
    """A data set in OpenLineage: both together are unique."""

    namespace: str
    name: str


def dataset_name(uri: str) -> DatasetName | None:
    """What OpenLineage's naming conventions (its ``spec/Naming.md``) make of a URI, so that all programs' events meet in one graph.

    Files: ``file`` and the path. HDFS: ``hdfs://host:port`` and the path. Kafka: ``kafka://host:port`` of the first server, and the topic.
    PostgreSQL: ``postgres://host:port`` and ``database.schema.table``. Cassandra: ``cassandra://host:port`` of the first node, and
    ``keyspace.table``. All others, as an API: scheme and address, and the path. No login and no parameter is told.

    :return: None for a query, which names no table.
    """
    parts = urlsplit(uri)
    address, path = parts.netloc.rpartition("@")[2], unquote(parts.path)
    steps = [unquote(step) for step in parts.path.split("/") if step]
    match parts.scheme:
        case "" | "file":
            return DatasetName(f"file://{address}" if address else "file", path)
        case "kafka":
            return DatasetName(f"kafka://{address.partition(',')[0]}", "/".join(steps))
        case "postgresql" | "postgres":
            return DatasetName(f"postgres://{address}", ".".join(steps)) if len(steps) == 3 else None
        case "cassandra":
            nodes, _, port = address.rpartition(":")
            return DatasetName(f"cassandra://{nodes.partition(',')[0]}:{port}", ".".join(steps))
        case scheme:
            return DatasetName(f"{scheme}://{address}", path.rstrip("/") or "/")
