"""Where the data comes from and goes to: servers and the schema's own properties, with every column name checked."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tallyclerk.contracts.documents import Findings, Place, suggestion
from tallyclerk.contracts.extensions import extension_place, read_extensions
from tallyclerk.contracts.model import CassandraMapping, Column, CsvDialect, Incremental, KafkaMapping, RestDialect
from tallyclerk.contracts.physical_types import UNREADABLE, lookup

_PLACEHOLDER = re.compile(r"\{([^}]*)\}")
_ORDERED_KINDS = ("timestamp", "timestamptz", "date", "smallint", "int", "bigint")


@dataclass(frozen=True, slots=True)
class Mappings:
    """What the schema says about other systems."""

    namespace: str | None = None
    kafka: KafkaMapping | None = None
    cassandra: CassandraMapping | None = None
    incremental: Incremental | None = None


def read_servers(content: Mapping[str, Any], findings: Findings) -> tuple[CsvDialect | None, RestDialect | None]:
    """Return the dialects of the one CSV server and the one API, where there are such."""
    dialects: list[CsvDialect] = []
    apis: list[RestDialect] = []
    servers = content.get("servers")
    first: set[str] = set()
    for index, server in enumerate(servers if isinstance(servers, list) else ()):
        if not isinstance(server, dict):
            continue  # reported by the standard's own check
        here: Place = ("servers", index)
        name = str(server.get("server"))
        if name in first:
            findings.add((*here, "server"), f"{name!r} stands twice; rename or remove one")
        first.add(name)
        is_csv, is_api = server.get("format") == "csv", server.get("type") == "api"
        level = "a server of format csv" if is_csv else "a server of type api" if is_api else "a server"
        stated = read_extensions(server, here, level, findings)
        if is_csv:
            if dialects:
                findings.add(here, "is a second server of format csv; keep one")
            dialects.append(_csv_dialect(server, here, stated.get("csv"), findings))
        elif "rest" in stated:
            apis.append(RestDialect(location=str(server.get("location", "")), **stated["rest"].model_dump()))
    return next(iter(dialects), None), next(iter(apis), None)


def _csv_dialect(server: Mapping[str, Any], place: Place, stated: Any, findings: Findings) -> CsvDialect:
    path, delimiter, encoding = server.get("path", ""), server.get("delimiter", ","), server.get("encoding", "UTF-8")
    if not path:
        findings.add(place, "lacks the key 'path'; add the files' pattern, as in sales_{date}.csv")
    for name in _PLACEHOLDER.findall(str(path)):
        if name != "date":
            findings.add((*place, "path"), f"{{{name}}} is not known; the one placeholder is {{date}}")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        findings.add((*place, "delimiter"), f"{delimiter!r} is not one character; write one")
    try:
        codecs.lookup(str(encoding))
    except LookupError:
        findings.add((*place, "encoding"), f"{encoding!r} is not known; write UTF-8, UTF-16, ISO-8859-1, ...")
    dialect = CsvDialect(
        path=str(path), delimiter=str(delimiter), encoding=str(encoding), **(stated.model_dump() if stated else {})
    )
    if dialect.quote == dialect.delimiter:
        findings.add(place, "quote and delimiter are the same sign; choose another quote")
    return dialect


def read_mappings(schema: Mapping[str, Any], place: Place, columns: Iterable[Column], findings: Findings) -> Mappings:
    """Return what the schema's customProperties say; each column that does not exist becomes a finding."""
    stated = read_extensions(schema, place, "the schema", findings)
    known = {column.name: column for column in columns}

    def check(name: str, *steps: str | int) -> Column | None:
        if name not in known:
            spot = (*extension_place(schema, place, str(steps[0])), *steps[1:])
            findings.add(spot, f"no column {name!r}; {suggestion(name, known)}")
        return known.get(name)

    kafka = incremental = cassandra = None
    if model := stated.get("kafka"):
        for index, name in enumerate(model.key):
            check(name, "kafka", "key", index)
        kafka = KafkaMapping(model.topic, tuple(model.key))
    if model := stated.get("incremental"):
        column = check(model.column, "incremental", "column")
        if column and column.type != UNREADABLE and (column.kind not in _ORDERED_KINDS or column.derived):
            spot = (*extension_place(schema, place, "incremental"), "column")
            findings.add(spot, f"{column.name} is {column.type}; name a source column of {', '.join(_ORDERED_KINDS)}")
        incremental = Incremental(model.column, model.lookback)
    if model := stated.get("cassandra"):
        cassandra = _cassandra(model, extension_place(schema, place, "cassandra"), known, findings)
        for name, source in model.columns.items():
            check(source, "cassandra", "columns", name)
    namespace = stated["namespace"].root if "namespace" in stated else None
    return Mappings(namespace, kafka, cassandra, incremental)


def _cassandra(model: Any, place: Place, known: Mapping[str, Column], findings: Findings) -> CassandraMapping:
    lists: dict[str, Iterable[str]] = {
        "partitionKey": model.partition_key,
        "clusteringKey": model.clustering_key,
        "clusteringOrder": model.clustering_order,
        "types": model.types,
        "indexes": model.indexes,
    }
    for key, names in lists.items():
        allowed = model.clustering_key if key == "clusteringOrder" else model.columns
        for index, name in enumerate(names):
            step = index if key.endswith(("Key", "indexes")) else name
            if name not in allowed:
                whose = "clusteringKey" if key == "clusteringOrder" else "`columns` of this table"
                findings.add((*place, key, step), f"{name!r} is not in {whose}; {suggestion(name, allowed)}")
    keys = [*model.partition_key, *model.clustering_key]
    for name in keys:
        source = known.get(model.columns.get(name, ""))
        if source and not source.required:
            findings.add((*place, "columns", name), f"is in the key, and {source.name} may be empty; make it required")
        if keys.count(name) > 1:
            findings.add((*place, "partitionKey"), f"{name!r} stands twice in the key; keep one")
    for index, name in enumerate(model.indexes):
        if [name] == model.partition_key:
            findings.add(
                (*place, "indexes", index), f"{name!r} is the whole partition key, which needs none; remove it"
            )
        if model.indexes.count(name) > 1:
            findings.add((*place, "indexes", index), f"{name!r} stands twice; keep one")
    for name, cql_type in model.types.items():
        source = known.get(model.columns.get(name, ""))
        if source is None or source.type == UNREADABLE:
            continue
        allowed_types = (lookup(source.type).cql, *lookup(source.type).wider_cql)
        if cql_type not in allowed_types:
            remedy = suggestion(cql_type, allowed_types)
            findings.add((*place, "types", name), f"{cql_type!r} does not hold every {source.type}; {remedy}")
    return CassandraMapping(
        keyspace=model.keyspace,
        table=model.table,
        partition_key=tuple(model.partition_key),
        clustering_key=tuple(model.clustering_key),
        columns=dict(model.columns),
        types=dict(model.types),
        clustering_order={name: order.upper() for name, order in model.clustering_order.items()},
        indexes=tuple(model.indexes),
    )
