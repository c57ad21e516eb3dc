"""The view over both layers, while days close and without: a day is answered by one layer, whole."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cassandra.cluster import Session

from stack.processes import wait_until
from stack.settings import LOOPBACK, load_settings
from tallyclerk.core.window import Window
from tallyclerk.exceptions import NotSignedError
from tallyclerk.operators.close_days import CloseDaysOperator
from tallyclerk.serving.kpi_view import KpiView
from tallyclerk.sinks.cassandra_client import Backoff
from tallyclerk.sinks.cassandra_loads import LakeVersion, LoadsTable
from tallyclerk.sinks.closed_days import ClosedDays
from tests.integration.cassandra.kpi_layers import SPEED, Kpi, Layers, by_customer, kpi, sold_on
from tests.integration.cassandra.upsert_case import connect
from tests.running import RunTask

pytestmark = pytest.mark.integration
DAY = date(2026, 3, 10)
READS = 10_000
CUSTOMERS = 30
_LIMIT_SECONDS = 600


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect(load_settings().port("CASSANDRA")) as cluster:
        yield cluster.connect()


@pytest.fixture
def layers(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layers]:
    settings = load_settings()
    for name, facts in {
        "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
        "cassandra_default": {"conn_type": "cassandra", "host": LOOPBACK, "port": settings.port("CASSANDRA")},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(facts))
    with Layers(session, f"hdfs://{LOOPBACK}:{settings.port('HDFS')}").made() as made:
        yield made


def streamed(kpis: dict[str, Kpi]) -> dict[str, Kpi]:
    """Another answer for each customer, without the first one, and with one whom the batch layer does not have."""
    other = {customer: kpi(values.total + 1, values.count + 1) for customer, values in list(kpis.items())[1:]}
    return other | {"only-streamed": kpi(Decimal("0.05"), 1)}


def test_a_day_is_the_speed_layers_until_it_is_closed(layers: Layers, session: Session, run_task: RunTask) -> None:
    view = KpiView(session, layers.keyspace)
    batch = sold_on(DAY, CUSTOMERS)
    assert view.day(DAY) == []

    layers.stream(DAY, streamed(batch))
    layers.compute(DAY, batch)
    run_task(layers.load(DAY))
    rows = view.day(DAY)
    assert by_customer(rows) == streamed(batch)
    assert {(row.layer, row.closed_at) for row in rows} == {("speed", None)}

    began = datetime.now(UTC).replace(microsecond=0)
    run_task(layers.close(DAY))
    rows = view.day(DAY)
    assert by_customer(rows) == batch
    assert {row.layer for row in rows} == {"batch"}
    ((_, closed_at),) = {(row.layer, row.closed_at) for row in rows}
    assert began <= closed_at <= datetime.now(UTC)


def test_a_days_best_customers_come_first_when_some_are_asked_for(layers: Layers, session: Session) -> None:
    kpis = sold_on(DAY, CUSTOMERS)
    layers.stream(DAY, kpis)
    best = sorted(kpis, key=lambda customer: (-kpis[customer].total, customer))[:7]
    assert [row.customer_id for row in KpiView(session, layers.keyspace).day(DAY, limit=7)] == best


def test_each_day_of_a_customer_has_one_row_when_some_are_closed(
    layers: Layers, session: Session, run_task: RunTask
) -> None:
    days = [DAY + timedelta(days=number) for number in range(4)]
    for day in days:
        layers.stream(day, {"7": kpi(Decimal("1.00"), 1), "8": kpi(Decimal("3.00"), 1)})
    for day in days[:3]:
        layers.compute(day, {"7": kpi(Decimal("2.00"), 2)})
        run_task(layers.load(day))
    run_task(layers.close(days[0], days[2]))
    view = KpiView(session, layers.keyspace)

    def shown(customer: str, since: date | None = None, until: date | None = None) -> list[tuple[date, str, str]]:
        return [(row.date, row.layer, str(row.total_amount)) for row in view.customer(customer, since, until)]

    expected = [
        (days[3], "speed", "1.00"), (days[2], "batch", "2.00"), (days[1], "speed", "1.00"), (days[0], "batch", "2.00"),
    ]  # fmt: skip
    assert shown("7") == expected
    assert shown("7", days[1], days[2]) == expected[1:3]
    assert shown("7", since=days[2]) == expected[:2]
    assert shown("8") == [(days[3], "speed", "3.00"), (days[1], "speed", "3.00")]  # the batch layer knows better
    assert shown("9") == []


def test_a_day_is_closed_once_when_it_is_closed_again(layers: Layers, session: Session, run_task: RunTask) -> None:
    layers.compute(DAY, sold_on(DAY, 5))
    loaded = run_task(layers.load(DAY)).value[0]
    first, second = (run_task(layers.close(DAY)).value["2026-03-10"] for _ in range(2))
    assert (first["generation"], first["repeated"]) == (loaded["version"], False)
    assert second["repeated"]
    assert second["closed_at"][:23] == first["closed_at"][:23]  # Cassandra keeps milliseconds

    corrected = {customer: kpi(values.total + 1, values.count) for customer, values in sold_on(DAY, 4).items()}
    layers.compute(DAY, corrected)
    loaded = run_task(layers.load(DAY)).value[0]
    third = run_task(layers.close(DAY)).value["2026-03-10"]
    assert (third["generation"], third["repeated"]) == (loaded["version"], False)
    assert third["generation"] > first["generation"]
    rows = KpiView(session, layers.keyspace).day(DAY)
    assert by_customer(rows) == corrected
    assert {row.closed_at.isoformat()[:23] for row in rows if row.closed_at} == {third["closed_at"][:23]}


def test_the_higher_generation_stays_when_the_lower_one_is_written_later(layers: Layers, session: Session) -> None:
    table = ClosedDays(session, keyspace=layers.keyspace, dataset="customer_kpis", backoff=Backoff(), address="test")
    table.create()
    window = Window.of_day(DAY)
    table.close(window, 9)
    assert not table.close(window, 8)[1]
    late = f"INSERT INTO {layers.keyspace}.closed_days (dataset, date, generation, closed_at) VALUES (%s, %s, %s, %s)"
    session.execute(
        f"{late} USING TIMESTAMP {window.end_microseconds + 8}", ("customer_kpis", DAY, 8, datetime.now(UTC))
    )  # as one who looked before the other wrote
    assert table.between()[DAY].generation == 9


@pytest.mark.parametrize("required", [False, True])
def test_no_day_is_closed_when_a_load_is_not_signed(
    layers: Layers, session: Session, run_task: RunTask, required: bool
) -> None:
    other = DAY + timedelta(days=1)
    for day in (DAY, other):
        layers.compute(day, sold_on(day, 5))
    run_task(layers.load(DAY, other))
    loads = LoadsTable(
        session, keyspace=layers.keyspace, dataset="customer_kpis_speed" if required else "customer_kpis",
        target="customer_kpis_speed" if required else "customer_kpis", backoff=Backoff(), address="test",
    )  # fmt: skip
    # an attempt that died, or is at work, after the first day was signed
    generation, _ = loads.begin(Window.of_day(other), LakeVersion("hdfs://x", "table", 99, "f"), reload=True)
    task: CloseDaysOperator = layers.close(DAY, other, requires=[SPEED] if required else [])
    message = "never begun" if required else rf"customer_kpis@2026-03-11 .* generation {generation} is begun and open"
    with pytest.raises(NotSignedError, match=message):
        run_task(task)
    assert KpiView(session, layers.keyspace).day(DAY) == []


class Interrupted:
    """A session that lets something happen right before one of the view's statements."""

    def __init__(self, session: Session, before: int, happen: Callable[[], object]) -> None:
        self._session, self._before, self._happen = session, before, happen
        self.executed = 0

    def prepare(self, cql: str) -> Any:
        return self._session.prepare(cql)

    def execute(self, *arguments: Any) -> Any:
        self.executed += 1
        if self.executed == self._before:
            self._happen()
        return self._session.execute(*arguments)


@pytest.mark.parametrize(
    ("asked", "before"), [("day", 1), ("day", 2), ("customer", 1), ("customer", 2), ("customer", 3)]
)
def test_a_read_is_whole_when_the_day_is_loaded_and_closed_between_its_statements(
    layers: Layers, session: Session, run_task: RunTask, asked: str, before: int
) -> None:
    earlier = DAY - timedelta(days=1)
    batch = {"7": kpi(Decimal("2.00"), 2), "8": kpi(Decimal("5.00"), 1)}
    speed = {"7": kpi(Decimal("1.00"), 1), "9": kpi(Decimal("3.00"), 1)}
    for day in (earlier, DAY):
        layers.stream(day, speed)
        layers.compute(day, batch)
    run_task(layers.load(earlier))
    run_task(layers.close(earlier))

    def close() -> None:
        run_task(layers.load(DAY))
        run_task(layers.close(DAY))

    interrupted = Interrupted(session, before, close)
    view = KpiView(interrupted, layers.keyspace)  # type: ignore[arg-type]
    if asked == "day":
        assert by_customer(view.day(DAY)) == (batch if before == 1 else speed)
    else:
        rows = view.customer("7", since=earlier)
        latest = ("batch", Decimal("2.00")) if before == 1 else ("speed", Decimal("1.00"))
        assert [(row.date, row.layer, row.total_amount) for row in rows] == [
            (DAY, *latest), (earlier, "batch", Decimal("2.00"))
        ]  # fmt: skip
    assert interrupted.executed == (2 if asked == "day" else 3)


@pytest.mark.slow
def test_no_read_is_doubled_half_or_empty_when_days_close_meanwhile(
    layers: Layers, session: Session, run_task: RunTask
) -> None:
    days = [DAY + timedelta(days=number) for number in range(5)]
    sold = sold_on(DAY, CUSTOMERS)
    batch = {
        day: {customer: kpi(values.total + number, values.count + number) for customer, values in sold.items()}
        for number, day in enumerate(days)
    }
    speed = {day: streamed(batch[day]) for day in days}
    for day in days:
        layers.stream(day, speed[day])
        layers.compute(day, batch[day])
    both = sorted(set(batch[DAY]) & set(speed[DAY]))
    seen: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    reads = iter(range(READS))
    done = threading.Event()

    def read(seed: int) -> None:
        chance = random.Random(seed)
        view = KpiView(session, layers.keyspace)
        closed: set[date] = set()
        # reading goes on until the last day is closed, however slow that is here
        while next(reads, None) is not None or not done.is_set():
            if chance.random() < 0.5:
                day = chance.choice(days)
                rows = view.day(day)
                answers = {day: {row.layer for row in rows}}
                expected = batch[day] if answers[day] == {"batch"} else speed[day]
                if by_customer(rows) != expected:
                    wrong.append(f"{day}: {len(rows)} rows by {answers[day]}")
                seen["day", "/".join(answers[day])] += 1
            else:
                customer = chance.choice(both)
                rows = view.customer(customer, days[0], days[-1])
                answers = {row.date: {row.layer} for row in rows}
                expected_rows = [
                    (day, (batch if answers.get(day) == {"batch"} else speed)[day][customer]) for day in reversed(days)
                ]
                found_rows = [
                    (row.date, Kpi(row.total_amount, row.transaction_count, row.avg_transaction_value)) for row in rows
                ]
                if found_rows != expected_rows:
                    wrong.append(f"{customer}: {found_rows}")
                seen["customer", "/".join(sorted({row.layer for row in rows}))] += 1
            if reopened := {day for day, by in answers.items() if day in closed and by != {"batch"}}:
                wrong.append(f"{reopened} went back to the speed layer")
            closed |= {day for day, by in answers.items() if by == {"batch"}}

    def failing(seed: int) -> None:
        try:
            read(seed)
        except BaseException as error:
            wrong.append(repr(error))
            raise

    readers = [threading.Thread(target=failing, args=(seed,)) for seed in range(4)]
    for reader in readers:
        reader.start()
    try:
        for number, day in enumerate(days):
            # each day is loaded and closed in the midst of reads
            assert wait_until(lambda wanted=READS * number // 6: seen.total() >= wanted or bool(wrong), _LIMIT_SECONDS)
            run_task(layers.load(day))
            run_task(layers.close(day))
    finally:
        done.set()
        for reader in readers:
            reader.join(_LIMIT_SECONDS)
    print(f"reads: {dict(seen)}")
    assert wrong[:5] == []
    assert seen.total() >= READS
    assert min(seen["day", "speed"], seen["day", "batch"], seen["customer", "batch/speed"]) > READS // 100
