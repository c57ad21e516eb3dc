"""A load of several transactions in a process of its own that ends at a chosen step, as ``kill -9`` ends it.

Run as a program: ``dying_kafka_load.py '{"bootstrap": "...", "name": "...", "stop": "..."}'``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tallyclerk.core.receipt import Receipt
from tallyclerk.sinks import kafka_transaction
from tallyclerk.sinks.kafka_delivery import Delivery
from tallyclerk.sinks.kafka_producer import TransactionalProducer
from tests.faults.dying_task import die_in
from tests.integration.kafka.topic_case import TopicCase, rows

PAGES, PAGE_ROWS, CHUNK_ROWS = 3, 500, 200
_SENDS = 4  # of a page: three chunks of rows and the commit record
_CHECKS = 3  # of a page: rows and rejects, then the commit record

STOPS: dict[str, Any] = {
    "after the others are fenced": (TransactionalProducer, "fence_others", {"call": 1}),
    "before the second page is sent": (Delivery, "send", {"call": _SENDS + 1, "after": False}),
    "in mid page": (Delivery, "send", {"call": _SENDS + 2}),
    "after the page is acknowledged": (Delivery, "require_all", {"call": _CHECKS + 2}),
    "right before its commit": (TransactionalProducer, "_commit", {"call": 2, "after": False}),
    "right after its commit": (TransactionalProducer, "_commit", {"call": 2}),
}
COMMITTED_PAGES = dict(zip(STOPS, (0, 1, 1, 1, 1, 2), strict=True))


def load(case: TopicCase, **options: Any) -> tuple[Receipt, int]:
    """Load the pages that are missing; the receipt, and how many pages were sent."""
    with case.sink(**options) as sink:
        receipt = sink.progress(case.load)
        first = receipt.cursor["page"] if receipt else 0
        for page in range(first, PAGES):
            made = case.receipt((page + 1) * PAGE_ROWS, cursor={"page": page + 1})
            part = rows(PAGE_ROWS, first=page * PAGE_ROWS)
            receipt = sink.commit(part, made, complete=page + 1 == PAGES)
        assert receipt is not None
        return receipt, PAGES - first


def main(asked: dict[str, str]) -> None:
    kafka_transaction._ENCODED_AT_ONCE = CHUNK_ROWS
    owner, method, when = STOPS[asked["stop"]]
    die_in(owner, method, **when)
    load(TopicCase(asked["bootstrap"], asked["name"]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
