"""Memory is bounded by its limits, not by the range."""

from uuid import uuid4

import pytest
from hdfs_native import Client

from bench.kafka_to_hdfs import sales_topic
from bench.measure import measure
from tests.integration.kafka import lake_case

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_memory_does_not_grow_with_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_USER_NAME", "hdfs")
    bootstrap, registry, root = lake_case.bootstrap_servers(), lake_case.registry_url(), lake_case.lake_root()
    folder, peaks = f"/tmp/tests/kafka-memory/{uuid4().hex}", []
    try:
        for rows in (250_000, 750_000):
            with sales_topic(bootstrap, registry, rows) as (topic, *_):
                cost = measure(
                    "bench.kafka_to_hdfs:run_ours",
                    bootstrap=bootstrap, registry=registry, topic=topic, uri=f"{root}{folder}/{rows}",
                )  # fmt: skip
            assert cost.result["rows"] == rows
            peaks.append(cost.peak_rss_mib)
    finally:
        Client(root).delete(folder, recursive=True)
    assert max(peaks) < 600
    assert peaks[1] < peaks[0] + 80
