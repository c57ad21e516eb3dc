"""Rejected messages on the real broker, registry and HDFS: corrected, sent again once, and loaded as any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tallyclerk.contracts import load_contract
from tallyclerk.contracts.avro_projection import avro_schema
from tallyclerk.core.window import Window
from tallyclerk.exceptions import ServiceUnavailableError, SpecError, SpecErrors
from tallyclerk.sinks.message_corrections import MessageCorrections
from tallyclerk.sinks.quarantined_messages import QuarantinedMessage, messages_of_day
from tallyclerk.transfers.message_replay import MessageTexts
from tallyclerk.ui.mending import ShownRecord, shown_records
from tallyclerk.ui.quarantine import findings
from tests.integration.kafka.lake_case import DAY, framed, lake_root, row
from tests.integration.kafka.replay_case import DATE, ReplayCase, ledger, replay_case
from tests.running import RunTask

pytestmark = pytest.mark.integration
JSON = {"value_format": "json"}


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplayCase]:
    with replay_case(tmp_path, monkeypatch) as made:
        yield made


def told(number: int, **values: Any) -> dict[str, Any]:
    return {"id": number, "amount": f"{number}.00", "note": "käse", "happened_at": "2026-03-10T12:00:00Z", **values}


def sent(*messages: dict[str, Any]) -> list[bytes]:
    return [json.dumps(message).encode() for message in messages]


def quarantined(case: ReplayCase) -> list[QuarantinedMessage]:
    return messages_of_day(f"{lake_root()}/data/quarantine/{case.name}.stream", Window.of_day(DATE))


def test_the_row_is_there_once_when_a_message_is_replayed_twice(case: ReplayCase, run_task: RunTask) -> None:
    case.send(sent(told(1), told(2, amount="many"), told(3)), partition=0)
    assert ledger(case.load(run_task, **JSON)) == (3, 2, 1)
    (message,) = quarantined(case)
    text = MessageTexts().text_of(message)
    assert json.loads(text or "") == told(2, amount="many")
    correction = case.correction(1, json.dumps(told(2, amount="2.00")))
    first = case.replay(run_task, correction).value
    assert first["sent"].keys() == {f"{case.name}/0:1"}
    ((value, headers),) = case.replays()
    assert headers == {"tallyclerk.replay.of": f"{case.name}/0:1".encode()}
    assert json.loads(value) == told(2, amount="2.00", happened_at="2026-03-10T12:00:00.000000Z", event_day=DATE)
    assert ledger(case.load(run_task, **JSON)) == (1, 1, 0)

    assert case.replay(run_task, correction).value == first
    assert case.load(run_task, **JSON)["repeated"]
    assert case.ids() == [1, 2, 3]
    assert [(each["sent_as"], each["note"], each["record_number"]) for each in case.outcomes()] == [
        (first["sent"][f"{case.name}/0:1"], "test", 1)
    ]


def test_a_message_in_avro_is_shown_as_json_and_sent_in_avro_when_it_is_replayed(
    case: ReplayCase, run_task: RunTask
) -> None:
    schema = avro_schema(load_contract(case.contract))
    schema_id = case.register(schema)
    bad = framed(schema_id, row(5, amount=Decimal("-1000.01"), event_day=DAY.date()), schema)
    case.send([bad, b"\xff\xfe no message"], partition=2)
    assert ledger(case.load(run_task)) == (2, 0, 2)
    shown = [MessageTexts().text_of(message) or "" for message in quarantined(case)]
    assert json.loads(shown[0]) == {
        "id": 5, "amount": "-1000.01", "note": "note 5", "happened_at": "2026-03-10T12:00:00.000000Z",
    }  # fmt: skip
    assert shown[1].startswith("base64:")
    case.replay(run_task, case.correction(0, shown[0].replace("-1000.01", "-1000.00"), partition=2))
    ((value, _),) = case.replays()
    assert value == framed(schema_id, row(5, amount=Decimal("-1000.00"), event_day=DAY.date()), schema)
    assert ledger(case.load(run_task)) == (1, 1, 0)
    (found,) = case.rows()
    assert (found["id"], found["amount"], found["note"]) == (5, Decimal("-1000.00"), "note 5")


def test_the_page_offers_what_can_be_sent_again_and_says_what_was(case: ReplayCase, run_task: RunTask) -> None:
    schema = avro_schema(load_contract(case.contract))
    bad = framed(case.register(schema), row(5, amount=Decimal("-1000.01"), event_day=DAY.date()), schema)
    case.send([bad, b"\xff\xfe no message", bad], partition=2)
    case.load(run_task)
    name = f"{case.name}.stream"

    def shown() -> dict[int, ShownRecord]:
        return {each.finding["record_number"]: each for each in shown_records(name, findings(name).rows)}

    before = shown()
    assert [(each.source, each.day, each.decided, each.can_be_mended) for each in before.values()] == [
        (f"{case.name}/2", DATE, "", True)
    ] * 3
    assert json.loads(before[0].draft)["amount"] == "-1000.01"
    assert (before[1].text[:7], before[1].draft) == ("base64:", "")

    sent_as = case.replay(
        run_task, case.correction(0, before[0].draft.replace("-1000.01", "-1000.00"), partition=2)
    ).value["sent"]
    case.replay(run_task, case.correction(1, None, partition=2))
    after = shown()
    assert {offset: (each.decided, each.can_be_mended) for offset, each in after.items()} == {
        0: (f"replayed as {sent_as[f'{case.name}/2:0']}", False), 1: ("given up", False), 2: ("", True),
    }  # fmt: skip


def test_a_change_event_is_sent_as_one_when_it_is_replayed(case: ReplayCase, run_task: RunTask) -> None:
    change = {**told(4), "__op": "u", "__lsn": 7, "__ts_ms": 1_700_000_000_000, "__deleted": False}
    case.send(sent({**change, "__op": None}), partition=0)
    assert ledger(case.load(run_task, change_events=True, **JSON)) == (1, 0, 1)
    case.replay(run_task, case.correction(0, json.dumps(change)))
    assert ledger(case.load(run_task, change_events=True, **JSON)) == (1, 1, 0)
    (found,) = case.rows()
    assert (found["id"], found["__op"], found["__lsn"], found["_topic"]) == (4, "u", 7, case.name)


def test_nothing_is_sent_when_one_of_the_corrections_does_not_fit(case: ReplayCase, run_task: RunTask) -> None:
    case.send(sent(told(1, amount="x"), told(2, amount="y"), told(3, amount="z")), partition=0)
    case.load(run_task, **JSON)
    good = case.correction(0, json.dumps(told(1)))
    for text, mistake in (
        (json.dumps(told(2, amount="-1000.01")), "amount rule:"),
        (json.dumps(told(2, amuont="1.00")), "'amuont' is no column of the contract"),
        ("two", "is no JSON"),
    ):
        with pytest.raises(SpecErrors, match=f"{case.name}/0:1: .*{mistake}"):
            case.replay(run_task, good, case.correction(1, text))
    with pytest.raises(SpecErrors, match=r"offset 7 is not in the day's quarantine"):
        case.replay(run_task, good, {**good, "source": quarantined(case)[0].source, "record_number": 7})
    assert case.replays() == []
    assert case.load(run_task, **JSON)["repeated"]


def test_a_message_is_sent_once_when_an_attempt_dies_before_it_has_told(
    case: ReplayCase, run_task: RunTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.send(sent(told(1, amount="x"), told(2, amount="y")), partition=0)
    case.load(run_task, **JSON)
    corrections = [case.correction(offset, json.dumps(told(offset + 1))) for offset in (0, 1)]

    def away(_: MessageCorrections, window: Window, outcomes: list[Any], **__: Any) -> None:
        if outcomes:
            raise ServiceUnavailableError(service="the lake", address="here", cause="the test's")

    with monkeypatch.context() as patched:
        patched.setattr(MessageCorrections, "record", away)
        with pytest.raises(ServiceUnavailableError):
            case.replay(run_task, *corrections)
    assert len(case.replays()) == 2
    with pytest.raises(SpecError, match=r"was replayed already, as .* and with another text"):
        case.replay(run_task, case.correction(0, json.dumps(told(1, note="other"))))
    case.replay(run_task, *corrections)
    assert len(case.replays()) == 2
    assert len(case.outcomes()) == 2
    assert ledger(case.load(run_task, **JSON)) == (2, 2, 0)
    assert case.ids() == [1, 2]


def test_a_given_up_message_is_kept_as_such_until_it_is_replayed(case: ReplayCase, run_task: RunTask) -> None:
    case.send(sent(told(1, amount="x")), partition=1)
    case.load(run_task, **JSON)
    told_up = case.replay(run_task, case.correction(0, None, partition=1)).value
    assert told_up == {"sent": {}, "given_up": 1}
    assert case.replays() == []
    case.replay(run_task, case.correction(0, json.dumps(told(1)), partition=1))
    assert [(each["text"] is None, bool(each["sent_as"])) for each in case.outcomes()] == [(True, False), (False, True)]
    with pytest.raises(SpecErrors, match="cannot be taken back"):
        case.replay(run_task, case.correction(0, None, partition=1))


def test_another_message_is_sent_when_its_topic_was_made_anew(case: ReplayCase, run_task: RunTask) -> None:
    case.send(sent(told(1, amount="x")), partition=0)
    case.load(run_task, **JSON)
    case.replay(run_task, case.correction(0, json.dumps(told(1))))
    for future in case.admin.delete_topics([case.name]).values():
        future.result(120)
    case.create()
    case.send(sent(told(9, amount="x")), partition=0)
    anew = {"target": f"{case.lake}/anew", **JSON}
    case.load(run_task, **anew)
    assert case.replay(run_task, case.correction(0, json.dumps(told(9)))).value["sent"].keys() == {f"{case.name}/0:0"}
    assert ledger(case.load(run_task, **anew)) == (1, 1, 0)
    assert [found["id"] for found in case.rows("anew")] == [9]


def test_the_task_is_skipped_when_no_correction_is_of_a_message(case: ReplayCase, run_task: RunTask) -> None:
    assert case.replay(run_task).state == "skipped"
    assert case.replay(run_task, {"source": "sales.csv", "record_number": 1, "text": "1,2"}).state == "skipped"
