"""Eight concurrent writers with long transactions, savepoints and rollbacks: nothing lost, nothing doubled."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tallyclerk.sources.database_log import LogChanges
from tallyclerk.sources.database_xmin import QueryChanges
from tests.integration.postgres.capturing import Captured, capture, item_contract
from tests.integration.postgres.writers import make_table, writing

pytestmark = pytest.mark.integration
SECONDS = float(os.environ.get("TALLYCLERK_WRITER_SECONDS", "8"))
LONG_SECONDS = float(os.environ.get("TALLYCLERK_LONG_WRITER_SECONDS", "60"))
COLUMNS = """\
      - {name: version, logicalType: integer, physicalType: bigint, required: true}
      - {name: label, logicalType: string, physicalType: text}
      - {name: body, logicalType: string, physicalType: text}
      - {name: changed_at, logicalType: timestamp, physicalType: timestamptz, required: true}
"""


@pytest.mark.parametrize("seconds", [SECONDS, pytest.param(LONG_SECONDS, marks=pytest.mark.long)])
def test_every_final_version_and_every_change_is_told_once_when_eight_write(
    seconds: float, db: psycopg.Connection, uri: str, schema: str, tmp_path: Path
) -> None:
    name = f"busy_{uuid4().hex[:8]}"
    table, contract = f"{schema}.{name}", item_contract(tmp_path, COLUMNS)
    make_table(db, table)
    query = QueryChanges(uri=uri, table=table, contract=contract)
    log = LogChanges(uri=uri, table=table, contract=contract, slot=name, publication=name)
    try:
        logged, queried = capture(log, tmp_path), Captured()  # before the first change
        with writing(uri, table) as stopped:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                capture(query, tmp_path, queried)
                capture(log, tmp_path, logged)
            assert not stopped.is_set()
        capture(query, tmp_path, queried)
        capture(log, tmp_path, logged)
    finally:
        log.drop_slot()
    told = db.execute(f"SELECT op, id, version, body_md5 FROM {table}_log").fetchall()
    rows = {
        key: (version, body) for key, version, body in db.execute(f"SELECT id, version, body FROM {table}").fetchall()
    }
    assert len(told) > 50 * seconds
    assert {op for op, *_ in told} == {"c", "u", "d"}

    changes = Counter(
        (event["__op"], event["id"], event["version"], hashlib.md5(event["body"].encode()).hexdigest())
        for event in logged.events
    )
    assert changes == Counter(told), "every committed change, with its large value, once"
    assert {key: (row["version"], row["body"]) for key, row in logged.state().items()} == rows

    final: dict[int, tuple[int, str]] = {}
    for event in queried.events:
        final[event["id"]] = (event["version"], event["body"])
    lost = {key for key in rows if final.get(key) != rows[key]}
    assert not lost, "query capture has the final version of every row that is there"
    versions = Counter((event["id"], event["version"]) for event in queried.events)
    assert set(versions.values()) == {1}, "no version is sent twice"
    assert len(queried.pieces) > 2
    assert queried.ledger.deduplicated > 0, "runs did overlap"
