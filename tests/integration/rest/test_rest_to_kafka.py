"""The operator as a worker runs it: the shop's real API, the real broker and registry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset
from confluent_kafka import OFFSET_END, TopicPartition

from stack.settings import ROOT
from tallyclerk.exceptions import (
    RepeatedPageError,
    SentRowsDeletedError,
    ServiceUnavailableError,
    SpecError,
    TooManyRejectsError,
)
from tallyclerk.sinks.kafka_commits import receipt_of
from tallyclerk.transfers.rest_to_kafka import RestToKafkaOperator
from tests.integration.kafka.topic_case import PARTITIONS, TopicCase
from tests.integration.rest.conftest import KEY, RunningShop, contract_of
from tests.running import RunTask

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("connections")]
DAY = "2026-03-10"
FEW = 2000
PAGES = 11
"""Requests for ``FEW`` products in pages of 200 that overlap."""
OUTLET = Asset(name="test_products", uri="tallyclerk://kafka/test/products")


def load(case: TopicCase, folder: Path, *, contract: str = "products", **arguments: Any) -> RestToKafkaOperator:
    return RestToKafkaOperator(
        **{
            "task_id": "load",
            "endpoint": f"/{contract}",
            "contract": str(contract_of(case, folder, contract)),
            "commits_topic": case.commits,
            "value_format": "json",
            "page_size": 200,
            "retry_limit_seconds": 60,
            "outlets": [OUTLET],
            **arguments,
        }
    )


def products_of(case: TopicCase) -> list[dict[str, Any]]:
    return [json.loads(message.value or b"") for message in case.messages()]


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["product_id"])


def test_every_product_is_in_the_topic_once_when_all_are_loaded(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    run = run_task(load(case, tmp_path, page_size=1000, pages_per_transaction=10), conf={"date": DAY})
    assert by_id(products_of(case)) == by_id(shop.all_products())
    assert run.value["ledger"] == {"read": 92_331, "written": 92_331, "rejected": 0, "filtered": 0, "deduplicated": 0}
    assert run.value["details"]["acked"] == 92_331
    assert run.value["details"]["complete"] is True
    assert run.value["sources"] == [{"uri": f"{shop.url}/products", "records": 92_331, "total": 92_331}]
    assert run.events == {OUTLET.uri: {"receipt": run.value}}
    assert KEY not in json.dumps(run.value)


def test_avro_messages_are_read_by_confluents_own_deserializer(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer

    from tests.integration.kafka.topic_case import registry_url

    shop.plan(first_products=300)
    operator = load(case, tmp_path, value_format="avro", register="if_compatible")
    run_task(operator, conf={"date": DAY})
    registry = SchemaRegistryClient({"url": registry_url()})
    try:
        deserialize = AvroDeserializer(registry)
        rows = [deserialize(message.value, None) for message in case.messages()]
    finally:
        registry.delete_subject(f"{case.name}-value")
    assert by_id(rows) == by_id(shop.all_products())


def test_nothing_is_sent_when_the_schema_is_not_registered(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    with pytest.raises(SpecError, match="not registered"):
        run_task(load(case, tmp_path, value_format="avro"), conf={"date": DAY})
    assert shop.requests() == []


def test_the_window_is_skipped_with_its_receipt_when_it_is_complete(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    shop.plan(first_products=FEW)
    first = run_task(load(case, tmp_path), conf={"date": DAY}).value
    asked = len(shop.requests())
    again = run_task(load(case, tmp_path), conf={"date": DAY}).value
    assert again == {**first, "repeated": True}
    assert len(shop.requests()) == asked
    assert len(case.messages()) == FEW
    sent = run_task(load(case, tmp_path, reload=True), conf={"date": DAY}).value
    assert (sent["repeated"], sent["ledger"]) == (False, first["ledger"])
    assert set(Counter(message.key for message in case.messages()).values()) == {2}


def test_a_retry_goes_on_at_the_page_that_failed(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    shop.plan({"request": 6, "fault": "status", "status": 429, "retry_after": 3600}, first_products=FEW)
    with pytest.raises(ServiceUnavailableError, match="429"):
        run_task(load(case, tmp_path, pages_per_transaction=4), conf={"date": DAY})
    # five pages came, and are committed although a transaction has four
    half = len(case.messages())
    assert 900 < half <= 1000
    value = run_task(load(case, tmp_path, pages_per_transaction=4), conf={"date": DAY}).value
    assert by_id(products_of(case)) == by_id(shop.all_products())
    asked = shop.requests()
    refused = asked[5]
    assert [request for request, times in Counter(asked).items() if times > 1] == [refused]
    assert value["ledger"]["read"] == value["ledger"]["written"] == FEW
    assert value["details"]["requests"] == len(asked)


def test_the_load_is_sent_anew_when_what_it_sent_is_deleted_and_a_reload_is_asked_for(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    shop.plan({"request": 4, "fault": "status", "status": 429, "retry_after": 3600}, first_products=FEW)
    with pytest.raises(ServiceUnavailableError):
        run_task(load(case, tmp_path), conf={"date": DAY})
    sent = [TopicPartition(case.name, partition, OFFSET_END) for partition in range(PARTITIONS)]
    for future in case.admin.delete_records(sent).values():
        future.result(60)
    with pytest.raises(SentRowsDeletedError, match="reload=True"):
        run_task(load(case, tmp_path), conf={"date": DAY})
    run_task(load(case, tmp_path, reload=True), conf={"date": DAY})
    assert by_id(products_of(case)) == by_id(shop.all_products())


def test_a_repeated_page_fails_the_task_and_the_retry_completes_it(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    shop.plan({"request": 5, "fault": "repeated"}, first_products=FEW)
    with pytest.raises(RepeatedPageError):
        run_task(load(case, tmp_path), conf={"date": DAY})
    run_task(load(case, tmp_path), conf={"date": DAY})
    assert by_id(products_of(case)) == by_id(shop.all_products())


def test_no_key_is_missing_or_doubled_when_the_api_moves_and_fails(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    new = {"manufacturer_id": "1", "department": "TOYS", "brand": "National"}
    shop.plan(
        {"request": 3, "fault": "inserted", "index": 0, "rows": [{"product_id": "new-1", **new}]},
        {"request": 4, "fault": "status", "status": 429, "retry_after": 0},
        {"request": 5, "fault": "deleted", "index": 50, "count": 230},
        {"request": 7, "fault": "truncated"},
        {"request": 8, "fault": "status", "status": 500, "times": 2},
        {"request": 10, "fault": "inserted", "index": 5, "rows": [{"product_id": "new-2", **new}]},
        {"request": 14, "fault": "status", "status": 429, "retry_after": 3600},
        first_products=FEW,
    )
    with pytest.raises(ServiceUnavailableError):
        run_task(load(case, tmp_path), conf={"date": DAY})
    receipt = run_task(load(case, tmp_path), conf={"date": DAY}).value
    keys = Counter(message.key.decode() for message in case.messages() if message.key)
    assert set(keys.values()) == {1}
    assert {row["product_id"] for row in shop.all_products()} <= set(keys)
    assert receipt["ledger"]["written"] == len(keys)
    assert receipt["details"]["readings"] > 1


def test_rejected_records_are_set_aside_with_their_reason(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    bad = [{"product_id": 5}, {"product_id": "new-1", "manufacturer_id": "1", "department": "TOYS", "brand": "Own"}]
    shop.plan({"request": 1, "fault": "inserted", "index": 2, "rows": bad}, first_products=FEW)
    value = run_task(load(case, tmp_path), conf={"date": DAY}).value
    assert (value["ledger"]["read"], value["ledger"]["rejected"]) == (FEW + 2, 2)
    rejects = [json.loads(message.value or b"") for message in case.messages(case.rejected)]
    assert {(r["record_number"], r["column"], r["reason"]) for r in rejects} == {
        (3, "product_id", "type"), (4, "brand", "rule:brand_known"),
    }  # fmt: skip
    assert {json.dumps(json.loads(reject["raw_text"])) for reject in rejects} == {json.dumps(row) for row in bad}
    assert {reject["source"] for reject in rejects} == {f"{shop.url}/products?page=1&limit=200"}


def test_nothing_is_committed_when_too_many_records_are_rejected(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    bad = [{"product_id": number} for number in range(60)]
    shop.plan({"request": 1, "fault": "inserted", "index": 0, "rows": bad}, first_products=100)
    with pytest.raises(TooManyRejectsError, match="60 of 160 records were rejected; max_rejected_ratio"):
        run_task(load(case, tmp_path), conf={"date": DAY})
    assert case.messages() == case.messages(case.rejected) == []


KILLED = """
import sys
sys.path[:0] = [{root!r}, {plugins!r}]
from pathlib import Path
from tests.running import run_task_in_process
from tallyclerk.transfers.rest_to_kafka import RestToKafkaOperator
run_task_in_process(RestToKafkaOperator(task_id="load", endpoint="/products", contract={contract!r},
    commits_topic={commits!r}, value_format="json", page_size=200), conf={{"date": {day!r}}})
"""


@pytest.mark.parametrize("page", [1, 4, 9])
def test_at_most_one_page_is_asked_for_twice_when_the_task_is_killed(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask, page: int
) -> None:
    shop.plan({"request": page, "fault": "slow", "seconds": 600}, first_products=FEW)
    script = KILLED.format(
        root=str(ROOT),
        plugins=str(ROOT / "plugins"),
        contract=str(contract_of(case, tmp_path)),
        commits=case.commits,
        day=DAY,
    )
    task = subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ), cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(shop.requests()) < page:
        assert task.poll() is None, "the task ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(task.pid, signal.SIGKILL)
    task.wait(60)
    value = run_task(load(case, tmp_path), conf={"date": DAY}).value
    asked = Counter(shop.requests())
    assert [times for times in asked.values() if times > 1] == [2]
    assert by_id(products_of(case)) == by_id(shop.all_products())
    assert value["ledger"]["written"] == FEW


@pytest.mark.parametrize(
    ("arguments", "message"), [({"mode": "twice"}, "mode='twice'"), ({"value_format": "xml"}, "value_format='xml'")]
)
def test_an_argument_is_refused_when_it_is_unknown(
    case: TopicCase, tmp_path: Path, run_task: RunTask, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        run_task(load(case, tmp_path, **arguments), conf={"date": DAY})


def test_a_window_that_is_not_over_is_refused_when_it_is_to_be_loaded_once(
    case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    tomorrow = datetime.now(UTC).date().isoformat()
    with pytest.raises(SpecError, match="is not over"):
        run_task(load(case, tmp_path, contract="transactions"), conf={"date": tomorrow})


def test_each_sale_is_sent_once_when_the_day_is_polled(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    """The shop's clock is moved by hand; each poll is a task of its own, as after a deferral."""
    today = datetime.now(UTC).date().isoformat()
    sent: list[int] = []
    for hour in ("00:30", "00:30", "00:45", "01:10"):
        shop.plan(now=f"{today}T{hour}:00+00:00")
        run = run_task(load(case, tmp_path, contract="transactions", mode="continuous"), conf={"date": today})
        assert run.state == "deferred"
        sent.append(len(case.messages()))
    # a poll asks from ten minutes before the newest sale on, not from the day's begin
    (asked, *_) = shop.requests()
    assert f"since={today}T00" in asked
    assert f"since={today}T00%3A00%3A00" not in asked
    assert sent[0] == sent[1] < sent[2] < sent[3]
    expected = shop.look("/transactions", limit=1)["total"]
    keys = Counter(message.key for message in case.messages())
    assert (len(keys), set(keys.values())) == (expected, {1})


def test_the_day_is_complete_when_it_is_polled_after_its_end(
    shop: RunningShop, case: TopicCase, tmp_path: Path, run_task: RunTask
) -> None:
    shop.plan(now="2026-03-11T00:00:10+00:00")
    conf = {"window_start": "2026-03-10T20:00:00+00:00", "window_end": "2026-03-11T00:00:00+00:00"}
    run = run_task(load(case, tmp_path, contract="transactions", mode="continuous"), conf=conf)
    total = shop.look("/transactions", since=conf["window_start"], until=conf["window_end"], limit=1)["total"]
    assert (run.state, run.value["ledger"]["written"]) == ("success", total)
    assert receipt_of(
        case.client, run.value["dataset"] + "@" + run.value["window"], commits_topic=case.commits
    ).details["complete"]
    again = run_task(load(case, tmp_path, contract="transactions", mode="continuous"), conf=conf)
    assert again.value["repeated"]
