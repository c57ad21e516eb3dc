"""Kafka ranges in the lake on the real broker, registry and HDFS: each message once, whatever happens on the way."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from stack.settings import ROOT
from tallyclerk.contracts import load_contract
from tallyclerk.contracts.avro_projection import avro_schema
from tallyclerk.contracts.projections import arrow_schema
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import NotProducedError, OffsetsDeletedError, ReconcileError, SpecError, TooManyRejectsError
from tallyclerk.sinks.kafka_encoding import AvroEncoder
from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
from tallyclerk.sinks.quarantine import quarantine_schema
from tallyclerk.sinks.schema_registry import SchemaRegistry
from tests.integration.kafka import lake_case
from tests.integration.kafka.lake_case import AVRO, DAY, LakeCase, arguments, connections, framed, row, rows_framed
from tests.running import RunTask

pytestmark = pytest.mark.integration


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LakeCase]:
    """A topic, a folder on HDFS and the connections that lead to both."""
    from hdfs_native import Client

    for name, value in connections().items():
        monkeypatch.setenv(name, value)
    made = LakeCase(folder=str(tmp_path), lake=f"/tmp/tests/kafka-to-hdfs/{uuid4().hex}")
    made.create()
    yield made
    made.delete()
    Client(lake_case.lake_root()).delete(made.lake, recursive=True)


def ledger(receipt: dict[str, Any]) -> tuple[int, int, int, int]:
    counts = receipt["ledger"]
    assert counts["read"] == sum(counts[name] for name in ("written", "rejected", "filtered", "deduplicated"))
    return counts["read"], counts["written"], counts["rejected"], counts["filtered"]


def process(case: LakeCase, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, lake_case.__file__, arguments(case, **options)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
    )  # fmt: skip


# --- a stream -------------------------------------------------------------------------------------------------------


def test_only_what_is_committed_lands_once_when_a_stream_is_loaded_again_and_again(
    case: LakeCase, run_task: RunTask
) -> None:
    schema_id = case.register()
    producer = case.send(rows_framed(schema_id, range(100)))
    case.send(rows_framed(schema_id, range(1000, 1050)), commit=False, producer=producer)
    case.send([None, None], at=DAY + timedelta(days=1), producer=producer)
    first = run_task(case.task()).value
    assert ledger(first) == (102, 100, 0, 2)
    assert case.ids() == list(range(100))
    assert run_task(case.task()).value == {**first, "repeated": True}

    case.send(rows_framed(schema_id, range(100, 110)), at=DAY + timedelta(days=1), producer=producer)
    case.send(rows_framed(schema_id, range(1000, 1010)), commit=None, producer=producer)
    second = run_task(case.task()).value
    assert ledger(second) == (10, 10, 0, 0)
    assert {path.split("/rows/")[1].rpartition("/")[0] for path in second["paths"]} == {"year=2026/month=03/day=11"}
    producer.commit_transaction(120)
    third = run_task(case.task()).value
    assert ledger(third) == (10, 10, 0, 0)
    assert case.ids() == [*range(110), *range(1000, 1010)]
    assert all(
        {name: found[name] for name in ("id", "amount", "note", "happened_at")} == row(found["id"])
        for found in case.rows()
    )
    assert {found["event_day"] for found in case.rows()} == {DAY.date()}
    # the ranges join each other without gap or overlap
    for partition in "012":
        ranges = [receipt["cursor"]["offsets"][case.name][partition] for receipt in (first, second, third)]
        assert ranges[0][0] == 0
        assert [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]


def test_a_stream_goes_on_where_it_was_capped(case: LakeCase, run_task: RunTask) -> None:
    schema_id = case.register()
    for first in range(0, 60, 20):
        case.send(rows_framed(schema_id, range(first, first + 20)))
    receipts = []
    for _ in range(6):
        receipts.append(run_task(case.task(max_messages=25)).value)
        if receipts[-1]["repeated"]:
            break
    assert receipts[-1]["repeated"]
    assert sum(ledger(receipt)[1] for receipt in receipts[:-1]) == 60
    assert case.ids() == list(range(60))
    assert [receipt["details"]["behind"] for receipt in receipts[:-1]][-1] == 0


def test_each_kind_of_bad_message_is_in_quarantine_and_all_others_land(
    case: LakeCase, run_task: RunTask, capsys: pytest.CaptureFixture[str]
) -> None:
    schema_id = case.register()
    unfit = {**AVRO, "fields": [*AVRO["fields"], {"name": "list", "type": ["null", {"type": "array", "items": "int"}], "default": None}]}  # fmt: skip
    unfit_id = case.register(unfit)
    bad = {
        ("", "frame"): b"plainly no Avro",
        ("", "schema_id"): framed(4_000_000, row(1)),
        ("", "schema"): framed(unfit_id, {**row(1), "list": [1]}, unfit),
        ("note", "truncated"): framed(schema_id, row(1))[:-12],
        ("", "length"): framed(schema_id, row(1)) + b"x",
        ("amount", "rule:"): framed(schema_id, row(1, amount=Decimal("-1000.01"))),
    }
    case.send([*rows_framed(schema_id, range(20)), *bad.values()], partition=1)
    receipt = run_task(case.task(max_rejected_ratio=0.5)).value
    assert ledger(receipt) == (26, 20, 6, 0)
    assert case.ids() == list(range(20))
    found = sorted(case.rows("quarantine.stream"), key=lambda each: each["record_number"])
    for number, ((column, reason), value) in enumerate(bad.items(), start=20):
        each = found[number - 20]
        assert (each["record_number"], each["column"]) == (number, column)
        assert each["reason"].startswith(reason)
        assert each["source"] == f"kafka://{lake_case.bootstrap_servers()}/{case.name}/1"
        assert base64.b64decode(each["raw_text"].removeprefix("base64:")) == value
        assert (each["dataset"], each["window"], each["day"]) == (case.name, receipt["window"], DAY.day)
    assert len(found) == len(bad)
    with pytest.raises(TooManyRejectsError, match="6 of 26"):
        run_task(case.task(target=f"{case.lake}/other", max_rejected_ratio=0.1))


def test_json_lands_exactly_and_bad_json_in_quarantine(case: LakeCase, run_task: RunTask) -> None:
    good = {"id": 1, "amount": "12345678.90", "note": "käse", "happened_at": "2026-03-10T12:00:00.000001Z"}
    case.send([json.dumps(good).encode(), b"{", json.dumps({**good, "id": None}).encode()], partition=0)
    receipt = run_task(case.task(value_format="json", max_rejected_ratio=1)).value
    assert ledger(receipt) == (3, 1, 2, 0)
    (found,) = case.rows()
    assert (found["amount"], found["note"], found["happened_at"]) == (
        Decimal("12345678.90"), "käse", datetime(2026, 3, 10, 12, 0, 0, 1, tzinfo=UTC),
    )  # fmt: skip
    assert {(each["record_number"], each["reason"]) for each in case.rows("quarantine.stream")} == {
        (1, "json"), (2, "required"),
    }  # fmt: skip


def test_messages_of_two_schema_versions_land_when_they_are_in_one_range(case: LakeCase, run_task: RunTask) -> None:
    older = {**AVRO, "fields": [field for field in AVRO["fields"] if field["name"] != "note"]}
    note = {"name": "note", "type": ["null", "string"], "default": None}
    newer = {**AVRO, "fields": [*older["fields"], note]}
    first, second = case.register(older), case.register(newer)
    values = [
        framed(first, row(number), older) if number % 2 else framed(second, row(number), newer) for number in range(30)
    ]
    case.send(values)
    assert ledger(run_task(case.task()).value) == (30, 30, 0, 0)
    assert {found["id"]: found["note"] for found in case.rows()} == {
        number: None if number % 2 else f"note {number}" for number in range(30)
    }


def test_the_load_fails_when_retention_has_deleted_what_it_has_to_read(case: LakeCase, run_task: RunTask) -> None:
    schema_id = case.register()
    case.send(rows_framed(schema_id, range(10)), partition=0)
    run_task(case.task())
    case.send(rows_framed(schema_id, range(10, 30)), partition=0)
    for future in case.admin.delete_records([TopicPartition(case.name, 0, 16)]).values():
        future.result(120)
    with pytest.raises(OffsetsDeletedError, match="from offset 11, but retention has deleted it"):
        run_task(case.task())
    assert case.ids() == list(range(10))
    receipt = run_task(case.task(on_deleted="record")).value
    assert receipt["details"]["deleted"] == {"0": [11, 16]}
    assert case.ids() == [*range(10), *range(15, 30)]  # offset 10 is the first transaction's marker
    with pytest.raises(OffsetsDeletedError):
        run_task(case.task(target=f"{case.lake}/other", start={"0": 5}))


def test_a_range_is_loaded_again_in_place_of_the_loads_in_it(case: LakeCase, run_task: RunTask) -> None:
    schema_id = case.register()
    for first in (0, 10, 20):
        case.send([*rows_framed(schema_id, range(first, first + 10)), b"bad"], partition=0)
        receipt = run_task(case.task(max_rejected_ratio=1)).value
    assert receipt["cursor"]["offsets"][case.name]["0"] == [24, 36]
    two = run_task(case.task(max_rejected_ratio=1, offsets={"0": [0, 24]})).value
    assert ledger(two) == (22, 20, 2, 0)
    assert run_task(case.task(max_rejected_ratio=1, offsets='{"0": [0, 24]}')).value == {**two, "repeated": True}
    assert case.ids() == list(range(30))
    quarantined = [each["record_number"] for each in case.rows("quarantine.stream")]
    assert sorted(quarantined) == [10, 22, 34]
    with pytest.raises(SpecError, match="cuts through"):
        run_task(case.task(offsets={"0": [5, 24]}))
    with pytest.raises(SpecError, match="gap"):
        run_task(case.task(offsets={"0": [40, 50]}))
    # the position did not go back
    assert run_task(case.task()).value["repeated"]
    assert case.ids() == list(range(30))


# --- change events --------------------------------------------------------------------------------------------------


def test_all_changes_land_with_their_offsets_when_a_topic_carries_changes(case: LakeCase, run_task: RunTask) -> None:
    from tallyclerk.contracts.avro_projection import avro_schema_of
    from tallyclerk.contracts.changes import change_schema

    schema = avro_schema_of(change_schema(load_contract(case.contract)), name="change", namespace=None)
    schema_id = case.register(schema)
    told = {"__lsn": 5, "__ts_ms": 1_700_000_000_000}
    changes = [
        {**row(1), "__op": "r", "__deleted": False, "__lsn": None, "__ts_ms": None},
        {**row(1, note="new"), "__op": "u", "__deleted": False, **told},
        {"id": 1, "amount": None, "note": None, "happened_at": None, "__op": "d", "__deleted": True, **told},
    ]
    case.send([*(framed(schema_id, change, schema) for change in changes), None], partition=2)
    receipt = run_task(case.task(change_events=True)).value
    assert ledger(receipt) == (4, 3, 0, 1)
    found = sorted(case.rows(), key=lambda each: each["_offset"])
    assert [{name: each[name] for name in changes[0]} for each in found] == changes
    assert [(each["_topic"], each["_partition"], each["_offset"]) for each in found] == [
        (case.name, 2, offset) for offset in range(3)
    ]
    assert {each["_timestamp"] for each in found} == {DAY}


# --- kill -9, and two at once ---------------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize("stop", ["while reading", "after quarantine", "after staging", "after commit"])
def test_each_row_and_reject_is_there_once_when_the_task_is_killed(
    case: LakeCase, run_task: RunTask, stop: str
) -> None:
    schema_id = case.register()
    case.send([*rows_framed(schema_id, range(50)), b"bad"], partition=0)
    run_task(case.task())
    case.send([*rows_framed(schema_id, range(50, 100)), b"worse"], partition=0)
    killed = process(case, stop=stop)
    _, errors = killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, errors
    assert case.ids() == list(range(100 if stop == "after commit" else 50))
    case.send([*rows_framed(schema_id, range(100, 110)), b"worst"], partition=0)
    run_task(case.task())
    assert case.ids() == list(range(110))
    raw = [base64.b64decode(each["raw_text"].removeprefix("base64:")) for each in case.rows("quarantine.stream")]
    assert sorted(raw) == [b"bad", b"worse", b"worst"]


@pytest.mark.faults
def test_each_row_is_there_once_when_two_tasks_run_at_once(case: LakeCase) -> None:
    schema_id = case.register()
    case.send([*rows_framed(schema_id, range(3000)), b"bad"])
    both = [process(case) for _ in range(2)]
    answers = [(*each.communicate(timeout=300), each.returncode) for each in both]
    assert [code for *_, code in answers] == [0, 0], [errors for _, errors, _ in answers]
    assert case.ids() == list(range(3000))
    assert len(case.rows("quarantine.stream")) == 1


# --- a window -------------------------------------------------------------------------------------------------------


def test_a_table_of_a_stream_is_refused_when_a_window_is_loaded(case: LakeCase, run_task: RunTask) -> None:
    case.send(rows_framed(case.register(), range(3)))
    run_task(case.task())
    with pytest.raises(SpecError, match="has grown as a stream"):
        run_task(case.task(bounded_by="window", offsets={"0": [0, 1]}), conf={"date": "2026-03-10"})


def test_a_windows_day_holds_a_stated_range_when_loaded_again(case: LakeCase, run_task: RunTask) -> None:
    case.send(rows_framed(case.register(), range(30)), partition=0)
    task = {"bounded_by": "window", "offsets": {"0": [5, 15]}}
    receipts = [run_task(case.task(**task, reload=again), conf={"date": "2026-03-10"}).value for again in (False, False, True)]  # fmt: skip
    assert [receipt["repeated"] for receipt in receipts] == [False, True, False]
    assert {ledger(receipt) for receipt in receipts} == {(10, 10, 0, 0)}
    assert len({receipt["fingerprint"] for receipt in receipts}) == 1
    assert case.ids() == list(range(5, 15))
    assert {(found["year"], found["month"], found["day"]) for found in case.rows()} == {(2026, 3, 10)}


class Writer:
    """Writes windows of the case's contract as our own loads to Kafka do."""

    def __init__(self, case: LakeCase) -> None:
        case.create(f"{case.name}.rejected", f"{case.name}.commits")
        (future,) = case.admin.incremental_alter_configs(
            [
                ConfigResource(
                    ResourceType.TOPIC, f"{case.name}.commits",
                    incremental_configs=[
                        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
                    ],
                )
            ]
        ).values()  # fmt: skip
        future.result(120)
        self.case, self.contract = case, load_contract(case.contract)

    def write(self, numbers: range, *, window: str = "2026-03-10", complete: bool = True, rejected: int = 0) -> None:
        schema = arrow_schema(self.contract)
        rows = pa.Table.from_pylist([{**row(number), "event_day": DAY.date()} for number in numbers], schema=schema)
        told = {"dataset": self.case.name, "window": window, "source": "https://shop/products?page=1", "reason": "type"}
        rejects = [{**told, "record_number": number, "rejected_at": DAY} for number in range(rejected)]
        registry = SchemaRegistry(lake_case.registry_url())
        encoder = AvroEncoder(
            schema, ["id"], registry=registry, topic=self.case.name, avro=avro_schema(self.contract), register="if_compatible",
        )  # fmt: skip
        with KafkaTransactionSink(
            client={"bootstrap.servers": lake_case.bootstrap_servers()}, topic=self.case.name, dataset=self.case.name,
            encoder=encoder, commits_topic=f"{self.case.name}.commits",
        ) as sink:  # fmt: skip
            former = sink.progress(f"{self.case.name}@{window}")
            counts = Ledger(read=len(numbers) + rejected, written=len(numbers), rejected=rejected)
            receipt = Receipt(
                dataset=self.case.name,
                window=window,
                location="",
                ledger=counts + (former.ledger if former else Ledger()),
            )
            sink.commit(
                rows, receipt, complete=complete,
                rejects=pa.Table.from_pylist(rejects, schema=quarantine_schema()) if rejects else None,
            )  # fmt: skip
        registry.close()
        self.case.settle(f"{self.case.name}.rejected")


def test_a_window_holds_what_its_writer_recorded_once_that_is_complete(case: LakeCase, run_task: RunTask) -> None:
    writer, window = Writer(case), {"conf": {"date": "2026-03-10"}}
    task = {"bounded_by": "window"}
    with pytest.raises(NotProducedError, match="has committed nothing"):
        run_task(case.task(**task), **window)
    writer.write(range(50), window="2026-03-09")
    writer.write(range(100, 120), complete=False)
    with pytest.raises(NotProducedError, match="20 rows and is not at the end"):
        run_task(case.task(**task), **window)
    writer.write(range(120, 200))
    writer.write(range(500, 510), window="2026-03-11")
    first = run_task(case.task(**task), **window).value
    assert ledger(first) == (100, 100, 0, 0)
    assert run_task(case.task(**task), **window).value == {**first, "repeated": True}
    again = run_task(case.task(**task, reload=True), **window).value
    assert (again["fingerprint"], again["version"]) == (first["fingerprint"], first["version"] + 1)
    assert case.ids() == list(range(100, 200))


def test_a_window_is_refused_when_other_messages_lie_in_its_range(case: LakeCase, run_task: RunTask) -> None:
    writer = Writer(case)
    writer.write(range(20), complete=False)
    case.send([b"somebody else's"] * 3)
    writer.write(range(20, 40))
    with pytest.raises(ReconcileError, match=r"counted 40 messages, and the range .* holds 43"):
        run_task(case.task(bounded_by="window"), conf={"date": "2026-03-10"})


def test_what_the_writer_rejected_is_in_quarantine_once_whoever_drains_it(case: LakeCase, run_task: RunTask) -> None:
    writer = Writer(case)
    writer.write(range(10), rejected=3)
    for _ in range(2):
        run_task(case.task(bounded_by="window"), conf={"date": "2026-03-10"})
    writer.write(range(10, 20), window="2026-03-11", rejected=1)
    case.send([b"no reject"], topic=f"{case.name}.rejected", partition=0)
    run_task(case.task(target=f"{case.lake}/stream"))
    found = case.rows("quarantine.stream")
    told = [each for each in found if each["source"] == "https://shop/products?page=1"]
    assert sorted((each["window"], each["record_number"], each["dataset"]) for each in told) == [
        *(("2026-03-10", number, case.name) for number in range(3)),
        ("2026-03-11", 0, case.name),
    ]
    (bad,) = [each for each in found if each not in told]
    assert (bad["reason"], base64.b64decode(bad["raw_text"].removeprefix("base64:"))) == ("json", b"no reject")
