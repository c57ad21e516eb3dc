"""KafkaToCassandraOperator: the table is the newest value of each key, whatever is repeated, removed, broken or made anew."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Session
from hdfs_native import Client

from stack.processes import wait_until
from stack.settings import LOOPBACK, load_settings
from tallyclerk.core.ledger import Ledger
from tallyclerk.exceptions import (
    KafkaRefusedError,
    OffsetsDeletedError,
    RecordError,
    ServiceUnavailableError,
    SpecError,
    TooManyRejectsError,
)
from tallyclerk.sinks.cassandra_drains import base_timestamp
from tallyclerk.sources.kafka_range import KafkaRange
from tests.integration.cassandra.drain_case import BROKEN, DAY, DrainCase, connections, key_of, kpi
from tests.integration.cassandra.upsert_case import connect
from tests.running import RunTask

pytestmark = pytest.mark.integration
FOUR_DAYS_SECONDS = 4 * 86_400


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect(load_settings().port("CASSANDRA")) as cluster:
        yield cluster.connect()


@pytest.fixture
def case(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrainCase]:
    made = DrainCase(str(tmp_path), load_settings().port("CASSANDRA"))
    for name, value in connections(made.cassandra_port).items():
        monkeypatch.setenv(name, value)
    made.create()
    yield made
    made.delete()
    made.delete_group()
    session.execute(f"DROP KEYSPACE IF EXISTS {made.name}", timeout=120)
    Client(f"hdfs://{LOOPBACK}:{load_settings().port('HDFS')}").delete(made.lake, recursive=True)


def ledger_of(value: Any) -> Ledger:
    return Ledger.from_dict(value["ledger"])


def test_each_keys_newest_value_stands_in_the_table_when_keys_repeat(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send(kpi(number % 50, number + 1) for number in range(400))
    case.send(kpi(number % 70, 10_000 + number) for number in range(70))
    receipt = run_task(case.task()).value
    assert case.rows(session) == case.newest()
    assert case.rows(session)["69", date.fromisoformat(DAY)] == (Decimal("100.69"), 2, Decimal("50.34"))
    assert ledger_of(receipt) == Ledger(read=470, written=70, deduplicated=400)
    assert (receipt["version"], receipt["details"]["lag_rows"], receipt["details"]["polls"]) == (1, 0, 1)
    assert 0 < receipt["details"]["freshness_seconds"]["p95"] <= receipt["details"]["freshness_seconds"]["max"] < 120


def test_nothing_is_read_again_when_the_topic_has_nothing_new(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send(kpi(number, 100) for number in range(20))
    first = run_task(case.task()).value
    again = run_task(case.task()).value
    assert (first["repeated"], again["repeated"], again["load_id"]) == (False, True, first["load_id"])
    case.send([kpi(3, 999)])
    assert ledger_of(run_task(case.task()).value) == Ledger(read=1, written=1)
    assert case.rows(session) == case.newest()


def test_the_position_is_mirrored_to_the_consumer_group_when_rows_are_written(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send(kpi(number, 100) for number in range(20))
    run_task(case.task())
    assert case.group_position() == case.ends() == dict(case.position(session).offsets)


def test_newer_values_stay_when_an_older_range_is_drained_again(
    case: DrainCase, session: Session, run_task: RunTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.send(kpi(number, 100) for number in range(30))
    run_task(case.task())
    early = dict(case.position(session).offsets)
    case.send([*(kpi(number, 200) for number in range(10)), *((key_of(number), None) for number in range(10, 15))])
    run_task(case.task())
    expected = case.newest()
    assert len(expected) == 25
    for offsets in (early, {}):  # a cursor from before, and none at all
        rewind(case, session, offsets)
        assert not run_task(case.task()).value["repeated"]
        assert case.rows(session) == expected
    # a drain that is only at the old values when the new ones are there already
    rewind(case, session, {})
    original = KafkaRange.bounds
    with monkeypatch.context() as patch:
        patch.setattr(
            KafkaRange, "bounds", lambda self: {each: (first, early[each]) for each, (first, _) in original(self).items()}
        )  # fmt: skip
        assert ledger_of(run_task(case.task()).value) == Ledger(read=30, written=30)
    assert case.rows(session) == expected


def rewind(case: DrainCase, session: Session, offsets: dict[int, int]) -> None:
    session.execute(
        f"UPDATE {case.name}.tallyclerk_drains SET offsets = %s WHERE dataset = %s AND target = %s IF EXISTS",
        (offsets, case.name, case.name),
    )


def test_the_row_is_gone_when_its_keys_newest_message_is_a_tombstone(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send(kpi(number, 100) for number in range(10))
    run_task(case.task())
    case.send([(key_of(1), None), kpi(2, 500), (key_of(2), None), (key_of(3), None), kpi(3, 700), (key_of(77), None)])
    receipt = run_task(case.task()).value
    assert ledger_of(receipt) == Ledger(read=6, written=4, deduplicated=2)
    assert receipt["details"]["removed_rows"] == 3
    assert case.rows(session) == case.newest()
    assert {customer for customer, _ in case.rows(session)} == {"0", *map(str, range(3, 10))}


def test_the_others_are_written_and_bad_messages_kept_when_some_do_not_fit(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    good = [kpi(number, 100) for number in range(20)]
    negative = (key_of(3), kpi(3, 100)[1].replace(b'"total_amount":1.00', b'"total_amount":-1.00'))
    misfit = (key_of(4), kpi(4, 100)[1].replace(b'"transaction_count":2', b'"transaction_count":"two"'))
    case.send([*good, (key_of(1), BROKEN), negative, misfit, (b'{"customer_id":"5"}', None)])
    receipt = run_task(case.task()).value
    assert ledger_of(receipt) == Ledger(read=24, written=20, rejected=4)
    assert len(case.rows(session)) == 20
    assert [(reason, column) for reason, column, _ in case.quarantined()] == [
        ("json", ""), ("key", ""), ("rule:total_amount.exclusiveMinimum", "total_amount"), ("type", "transaction_count"),
    ]  # fmt: skip
    assert receipt["quarantine"].endswith("/quarantine.stream")
    rewind(case, session, {})
    run_task(case.task())
    assert len(case.quarantined()) == 4  # once each, also when they are read again


def test_the_cursor_stays_when_too_many_messages_are_rejected(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send((key_of(number), BROKEN) for number in range(11))
    with pytest.raises(TooManyRejectsError, match="11 of 11 records were rejected"):
        run_task(case.task())
    assert case.position(session).offsets is None
    assert ledger_of(run_task(case.task(max_rejected_ratio=1.0)).value) == Ledger(read=11, rejected=11)


def test_the_table_is_the_newest_when_two_drains_run_at_once(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send(kpi(number % 900, number + 1) for number in range(3_000))
    run_task(case.task())
    case.send(kpi(number % 900, 5_000 + number) for number in range(3_000))
    errors: list[BaseException] = []

    def drain() -> None:
        try:
            with connect_drain(case) as one:
                one.poll()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert case.rows(session) == case.newest()
    assert dict(case.position(session).offsets) == case.ends()


def connect_drain(case: DrainCase) -> Any:
    from tallyclerk.contracts import load_contract

    task = case.task()
    return task._drain(load_contract(case.contract))


def test_the_new_topics_values_win_when_the_topic_is_made_anew(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send(kpi(number % 10, 100 + number) for number in range(100))
    run_task(case.task())
    case.delete()
    case.create()
    case.send(kpi(number, 7) for number in range(5))  # at offsets far below the old ones
    receipt = run_task(case.task()).value
    assert (receipt["version"], ledger_of(receipt)) == (2, Ledger(read=5, written=5))
    found = case.rows(session)
    assert len(found) == 10
    assert {key: found[key] for key in case.newest()} == case.newest()


def test_a_running_drain_begins_anew_when_the_topic_is_made_anew_under_it(case: DrainCase, session: Session) -> None:
    case.send(kpi(number, 100) for number in range(10))
    with connect_drain(case) as drain:
        drain.poll()
        case.delete()
        case.create()
        case.send(kpi(number, 7) for number in range(10))
        drain.poll()
    assert case.rows(session) == case.newest()
    assert case.position(session).generation == 2


def test_rows_expire_when_nothing_writes_them_again(case: DrainCase, session: Session, run_task: RunTask) -> None:
    case.send(kpi(number, 100) for number in range(5))
    run_task(case.task())
    table = f"{case.name}.{case.name}"
    lives = [row[0] for row in session.execute(f"SELECT ttl(total_amount) FROM {table}")]
    assert len(lives) == 5
    assert all(FOUR_DAYS_SECONDS - 300 < seconds <= FOUR_DAYS_SECONDS for seconds in lives)
    case.send([kpi(9, 100)])
    run_task(case.task(ttl_seconds=2))
    assert wait_until(lambda: ("9", date.fromisoformat(DAY)) not in case.rows(session), 60)
    assert len(case.rows(session)) == 5


def test_write_timestamps_are_offsets_within_the_topics_generation(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send((kpi(number, 100) for number in range(3)), partition=1)
    run_task(case.task())
    times = session.execute(f"SELECT writetime(total_amount) FROM {case.name}.{case.name}")
    assert sorted(row[0] - base_timestamp(1) for row in times) == [0, 1, 2]


def test_the_drain_polls_until_its_end_when_it_is_continuous(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send(kpi(number, 100) for number in range(5))
    with connect_drain(case):
        pass  # the table is there
    until = datetime.now(UTC) + timedelta(seconds=4)
    receipt = run_task(case.task(mode="continuous", until=until.isoformat(), poll_interval_seconds=0.2)).value
    assert datetime.now(UTC) >= until
    assert receipt["details"]["polls"] >= 2
    assert ledger_of(receipt) == Ledger(read=5, written=5)
    assert case.rows(session) == case.newest()


def test_a_continuous_drain_sees_what_is_new_and_stops_behind_it_when_it_is_killed(
    case: DrainCase, session: Session, run_task: RunTask
) -> None:
    case.send(kpi(number, 100) for number in range(5))
    with connect_drain(case):
        pass
    until = datetime.now(UTC) + timedelta(hours=2)
    task = case.task(mode="continuous", until=until.isoformat(), poll_interval_seconds=0.2)
    seen: list[bool] = []
    handler = signal.getsignal(signal.SIGTERM)

    def send_and_kill() -> None:
        try:
            seen.append(wait_until(lambda: len(case.rows(session)) == 5, 120))
            case.send([kpi(6, 1)])
            seen.append(wait_until(lambda: len(case.rows(session)) == 6, 120))
        finally:
            if (
                signal.getsignal(signal.SIGTERM) is not handler
            ):  # the task still runs, and a worker's way to end it is this
                os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=send_and_kill)
    killer.start()
    with pytest.raises(ServiceUnavailableError, match="it was stopped"):
        run_task(task)
    killer.join()
    assert seen == [True, True]
    assert case.rows(session) == case.newest()
    assert dict(case.position(session).offsets) == case.ends()


def test_the_drain_fails_when_a_key_is_in_two_partitions(case: DrainCase, run_task: RunTask) -> None:
    case.send([kpi(1, 100)], partition=0)
    case.send([kpi(1, 200)], partition=1)
    with pytest.raises(RecordError, match="messages in more than one partition"):
        run_task(case.task())


def test_the_drain_fails_when_retention_was_faster(case: DrainCase, session: Session, run_task: RunTask) -> None:
    from confluent_kafka import TopicPartition

    case.delete()
    case.create(**{"cleanup.policy": "delete"})
    case.send((kpi(number, 100) for number in range(5)), partition=0)
    run_task(case.task())
    case.send((kpi(number, 200) for number in range(5)), partition=0)
    for future in case.admin.delete_records([TopicPartition(case.name, 0, 9)]).values():
        future.result(60)
    with pytest.raises(OffsetsDeletedError, match="retention has deleted it"):
        run_task(case.task())
    receipt = run_task(case.task(on_deleted="record")).value
    assert receipt["details"]["deleted"] == {"0": [6, 9]}
    assert ledger_of(receipt) == Ledger(read=2, written=2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "forever"}, "mode='forever' is not one of once, continuous"),
        ({"ttl_seconds": -1}, "ttl_seconds=-1 is not between"),
        ({"mode": "continuous", "until": "noon"}, "until='noon' is not an instant"),
        ({"mode": "continuous", "until": "2026-03-10T12:00:00"}, "has no offset"),
    ],
)
def test_the_sentence_names_the_argument_when_it_is_wrong(
    case: DrainCase, run_task: RunTask, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence):
        run_task(case.task(**options))


def test_the_contract_is_refused_when_messages_and_rows_have_other_keys(
    case: DrainCase, tmp_path: Path, run_task: RunTask
) -> None:
    other = tmp_path / "other.odcs.yaml"
    other.write_text(Path(case.contract).read_text().replace("key: [customer_id, date]}", "key: [customer_id]}"))
    with pytest.raises(SpecError, match="are not the same columns"):
        run_task(case.task(contract=str(other)))


def test_the_sentence_says_what_to_do_when_there_is_no_topic(case: DrainCase, run_task: RunTask) -> None:
    with pytest.raises(KafkaRefusedError, match=r"declare it in include/kafka/topics\.yaml"):
        run_task(case.task(topic=f"{case.name}.none"))
