"""Statements of a target, and what is no target."""

from __future__ import annotations

import pytest

from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError, TerminalError
from tallyclerk.sinks.cassandra_loads import MAX_GENERATION, write_timestamp
from tallyclerk.sinks.cassandra_table import TargetColumn, TargetTable, create_keyspace_cql

COLUMNS = (TargetColumn("a", "x", "int"), TargetColumn("Order", "y", "date"), TargetColumn("v", "v", "decimal"))
TARGET = TargetTable("ks", "t", COLUMNS, ("a",), ("Order",), {"Order": "DESC"}, ("Order",))


def test_statements_quote_names_and_state_the_write_time() -> None:
    assert TARGET.insert_cql == 'INSERT INTO "ks"."t" ("a", "Order", "v") VALUES (?, ?, ?) USING TIMESTAMP ?'
    assert TARGET.delete_cql == 'DELETE FROM "ks"."t" USING TIMESTAMP ? WHERE "a" = ? AND "Order" = ?'
    assert 'PRIMARY KEY (("a"), "Order")\n) WITH CLUSTERING ORDER BY ("Order" DESC)' in TARGET.create_cql
    assert TARGET.index_cqls == ['CREATE INDEX IF NOT EXISTS "t_Order_idx" ON "ks"."t" ("Order") USING \'sai\'']


def test_a_target_is_refused_when_its_key_is_not_mapped() -> None:
    with pytest.raises(SpecError, match=r"the key \(id\) is not among the columns \(a, Order, v\)"):
        TargetTable("ks", "t", COLUMNS, ("id",))


def test_replication_is_refused_when_it_is_no_word() -> None:
    assert "'dc1': '3'" in create_keyspace_cql("k", {"class": "NetworkTopologyStrategy", "dc1": 3})
    with pytest.raises(SpecError):
        create_keyspace_cql("k", {"class": "x'} AND durable_writes = false"})


def test_generations_of_a_window_stay_below_the_next_days() -> None:
    day, next_day = Window.of_day("2017-01-01"), Window.of_day("2017-01-02")
    assert write_timestamp(day, MAX_GENERATION) < write_timestamp(next_day, 0)
    with pytest.raises(TerminalError):
        write_timestamp(day, MAX_GENERATION + 1)
