"""Ledger, receipt and progress."""

from __future__ import annotations

import json
import logging

import pytest

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.progress import Progress
from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import LedgerError


def test_ledger_passes_when_every_row_is_accounted_for():
    ledger = Ledger(read=10, written=4, rejected=3, filtered=2, deduplicated=1)
    assert ledger.check(load="sales@2026-03-01") is ledger
    assert Ledger().check(load="sales@2026-03-01") == Ledger()


@pytest.mark.parametrize(
    "ledger",
    [
        Ledger(read=1),
        Ledger(written=1),
        Ledger(read=10, written=4, rejected=3, filtered=2),
        Ledger(read=1, written=2, rejected=-1),
    ],
)
def test_ledger_raises_when_it_does_not_close(ledger: Ledger):
    with pytest.raises(LedgerError, match=f"The ledger of sales@2026-03-01 does not close .*read={ledger.read}"):
        ledger.check(load="sales@2026-03-01")


def test_ledgers_add_up_when_files_are_summed():
    assert Ledger(1, 1, 0, 0, 0) + Ledger(9, 3, 3, 2, 1) == Ledger(10, 4, 3, 2, 1)
    assert Ledger.from_dict(Ledger(10, 4, 3, 2, 1).as_dict()) == Ledger(10, 4, 3, 2, 1)


def test_receipt_is_the_same_when_read_from_its_json():
    receipt = Receipt(
        dataset="sales",
        window="2026-03-01",
        ledger=Ledger(read=2, written=1, rejected=1),
        location="hdfs://lake/sales",
        paths=("hdfs://lake/sales/a", "hdfs://lake/sales/b"),
        version=3,
        load_id="attempt",
        contract_version="1.0.0",
        fingerprint="f",
        sources=({"uri": "file:///käse.csv", "bytes": 2**40},),
        cursor={"watermark": "2026-03-01T00:00:00+00:00"},
        quarantine="hdfs://lake/quarantine",
        details={"seconds": 1.5},
    )
    assert Receipt.from_json(receipt.as_json()) == receipt
    assert Receipt.from_dict(receipt.as_dict()) == receipt
    assert Receipt.from_dict({**receipt.as_dict(), "of a later version": 1}) == receipt
    assert json.loads(json.dumps(receipt.as_dict())) == receipt.as_dict()
    assert receipt.as_repeated().repeated
    assert receipt.load == load_name("sales", Window.of_day("2026-03-01")) == "sales@2026-03-01"


def test_progress_logs_at_most_one_line_an_interval_when_rows_arrive(caplog: pytest.LogCaptureFixture):
    now = 0.0
    progress = Progress(logging.getLogger("load"), "sales", total=1000, every_seconds=5, clock=lambda: now)
    with caplog.at_level(logging.INFO, "load"):
        for now in (1.0, 4.9, 5.0, 6.0, 9.9, 10.0):  # noqa: B007 - the clock reads it
            progress.add(100)
        now = 20.0
        progress.done()
    assert caplog.messages == [
        "sales: 300 rows in 5.0 s, 60 rows/s, 30 %, about 12 s left",
        "sales: 600 rows in 10.0 s, 60 rows/s, 60 %, about 7 s left",
        "sales: done, 600 rows in 20.0 s, 30 rows/s",
    ]


def test_progress_names_no_end_when_the_total_is_unknown(caplog: pytest.LogCaptureFixture):
    now = 0.0
    progress = Progress(logging.getLogger("load"), "sales", clock=lambda: now)
    with caplog.at_level(logging.INFO, "load"):
        now = 5.0
        progress.add(10)
    assert caplog.messages == ["sales: 10 rows in 5.0 s, 2 rows/s"]
