"""A paged API into Kafka: ours against the usual loop and against the bare download (the limit).

    python -m bench.rest_to_kafka --rows 92331

Each way runs in a process of its own, reads the shop's products from an instance of its own and sends them to a topic of its
own. The usual loop is that of most tutorials: one request a page, ``json.dumps`` and ``produce`` for each record, ``flush``
for each page; it checks nothing, loses what fails and keeps no position. CPU is the client's; the API's and the broker's
are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.measure import ROOT, Measurement, measure

DOWNLOAD = "download, dropped"
LOOP = "requests + json.dumps + flush"
ALL_PRODUCTS = 92_331
PAGE_ROWS = 1000
_KEY = "bench"


def run_download(url: str, rows: int, **_: Any) -> dict[str, Any]:
    """Each page's bytes, and no more."""
    import httpx

    found = 0
    with httpx.Client(headers={"Authorization": f"Bearer {_KEY}"}, trust_env=False) as client:
        for page in range(1, -(-rows // PAGE_ROWS) + 1):
            found += len(client.get(f"{url}/products", params={"page": page, "limit": PAGE_ROWS}).content) > 0
    return {"rows": rows if found else 0}


def run_loop(url: str, rows: int, bootstrap: str, topic: str) -> dict[str, Any]:
    """The usual way."""
    import requests
    from confluent_kafka import Producer

    producer, page, sent = Producer({"bootstrap.servers": bootstrap}), 1, 0
    while sent < rows:
        answer = requests.get(
            f"{url}/products",
            params={"page": page, "limit": PAGE_ROWS},
            headers={"Authorization": f"Bearer {_KEY}"},
            timeout=60,
        )
        for record in answer.json()["data"]:
            producer.produce(topic, key=record["product_id"], value=json.dumps(record).encode())
            sent += 1
        producer.flush()
        page += 1
    return {"rows": sent}


def run_ours(
    url: str, rows: int, bootstrap: str, topic: str, value_format: str, pages_per_transaction: int
) -> dict[str, Any]:
    """Checked, deduplicated, committed with ledger and position."""
    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.avro_projection import avro_schema
    from tallyclerk.contracts.projections import arrow_schema
    from tallyclerk.core.window import Window
    from tallyclerk.sinks.kafka_encoding import AvroEncoder, JsonEncoder
    from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
    from tallyclerk.sinks.schema_registry import SchemaRegistry
    from tallyclerk.sources.rest_client import RestClient
    from tallyclerk.sources.rest_pages import RestPages
    from tallyclerk.transfers.rest_stream import RestLoad

    contract = load_contract(ROOT / "include" / "contracts" / "products.odcs.yaml")
    # under the real name it would take the pipeline's own loads over
    contract = replace(contract, dataset=topic.replace("-", "_"))
    schema, client = arrow_schema(contract), {"bootstrap.servers": bootstrap}
    if value_format == "avro":
        registry = SchemaRegistry(_registry_url())
        encoder: Any = AvroEncoder(
            schema, contract.primary_key, registry=registry, topic=topic, avro=avro_schema(contract),
            register="if_compatible",
        )  # fmt: skip
    else:
        encoder = JsonEncoder(schema, contract.primary_key)
    sink = KafkaTransactionSink(
        client=client, topic=topic, dataset=contract.dataset, encoder=encoder, commits_topic=f"{topic}.commits"
    )
    with sink, RestClient(base_url=url, key=_KEY) as api:
        source = RestPages(client=api, endpoint="/products", contract=contract, page_size=PAGE_ROWS)
        load = RestLoad(
            source=source, sink=sink, client=client, contract=contract, window=Window.of_day("2026-03-10"),
            pages_per_transaction=pages_per_transaction,
        )  # fmt: skip
        receipt = load.run()
    return {"rows": receipt.ledger.written}


def _registry_url() -> str:
    return f"http://127.0.0.1:{os.environ.get('TALLYCLERK_REGISTRY_PORT', '8181')}/apis/ccompat/v7"


@contextmanager
def serving(rows: int) -> Iterator[str]:
    """A shop with so many products; its URL."""
    import httpx

    from stack.settings import LOOPBACK
    from tests.integration.stack.conftest import free_ports

    (port,) = free_ports(1)
    environment = {**os.environ, "TALLYCLERK_SHOP_API_KEY": _KEY, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "include.shop", "serve", "--port", str(port), "--faults"]
    process = subprocess.Popen(command, env=environment, cwd=ROOT)
    url, deadline = f"http://{LOOPBACK}:{port}", time.monotonic() + 180
    try:
        while True:
            try:
                httpx.get(f"{url}/health", trust_env=False)
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        httpx.post(
            f"{url}/_faults",
            json={"first_products": rows},
            headers={"Authorization": f"Bearer {_KEY}"},
            trust_env=False,
        ).raise_for_status()
        yield url
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def topics(bootstrap: str) -> Iterator[str]:
    """A topic with all that a sink needs, gone afterwards."""
    import httpx
    from confluent_kafka.admin import AdminClient, NewTopic

    admin, name = AdminClient({"bootstrap.servers": bootstrap}), f"bench-{uuid4().hex[:8]}"
    new = [
        NewTopic(name, 3, 1),
        NewTopic(f"{name}.rejected", 1, 1),
        NewTopic(f"{name}.commits", 1, 1, config={"cleanup.policy": "compact"}),
    ]
    for future in admin.create_topics(new, operation_timeout=120).values():
        future.result(120)
    try:
        yield name
    finally:
        for future in admin.delete_topics([each.topic for each in new]).values():
            future.result(120)
        # a subject that was never registered answers 404
        httpx.delete(f"{_registry_url()}/subjects/{name}-value", trust_env=False)


def run(rows: int, bootstrap: str) -> dict[str, Any]:
    """All ways, one after the other; way → measurement."""
    ours = ("json", 1), ("json", 10), ("avro", 1), ("avro", 10)
    ways: dict[str, tuple[str, dict[str, Any]]] = {DOWNLOAD: ("run_download", {}), LOOP: ("run_loop", {})}
    for value_format, pages in ours:
        name = f"ours, {value_format}, {pages} page{'s' if pages > 1 else ''} a transaction"
        ways[name] = ("run_ours", {"value_format": value_format, "pages_per_transaction": pages})
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        # some machines keep no bytecode: compiling the imports anew would be most of what is measured
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = cache
        for served in (min(rows, PAGE_ROWS), rows):  # the first time only to fill that cache
            with serving(served) as url:
                for way, (function, arguments) in ways.items():
                    found[way] = _cost(function, url=url, rows=served, bootstrap=bootstrap, **arguments)
    return {"bench": "rest_to_kafka", "rows": rows, "ways": found}


def _cost(function: str, *, rows: int, bootstrap: str, **arguments: Any) -> dict[str, Any]:
    with topics(bootstrap) as topic:
        cost: Measurement = measure(
            f"bench.rest_to_kafka:{function}", rows=rows, bootstrap=bootstrap, topic=topic, **arguments
        )
    assert cost.result["rows"] == rows, (function, cost.result)
    return cost.as_dict()


def table_text(results: dict[str, Any]) -> str:
    """The measurements, and how much less CPU than the loop each takes."""
    ways = results["ways"]
    lines = [
        f"{results['rows']:,} rows in pages of {PAGE_ROWS:,}",
        f"{'':<38}{'CPU s':>8}{'wall s':>8}{'MiB':>8}{'loop/it':>9}",
    ]
    for way, cost in ways.items():
        ratio = ways[LOOP]["cpu_seconds"] / cost["cpu_seconds"]
        lines.append(
            f"{way:<38}{cost['cpu_seconds']:>8.2f}{cost['wall_seconds']:>8.1f}{cost['peak_rss_mib']:>8.0f}{ratio:>8.2f}x"
        )
    return "\n".join(lines)


def main() -> None:
    from stack.settings import LOOPBACK, load_settings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ALL_PRODUCTS, help=f"at most {ALL_PRODUCTS:,}, the shop's products")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    settings = load_settings()
    os.environ.update(settings.variables())
    results = run(min(options.rows, ALL_PRODUCTS), f"{LOOPBACK}:{settings.port('KAFKA')}")
    print(table_text(results))
    text = json.dumps(results, indent=1)
    if options.json:
        options.json.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
