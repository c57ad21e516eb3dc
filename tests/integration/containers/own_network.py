"""What `test_own_network.py` runs inside a network namespace: services that bind everything, asked at an address that is not loopback."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx

from stack import security
from stack.services import flink
from stack.settings import HOSTS
from tests.containers import containers
from tests.listening import listeners

ADDRESS = "10.77.0.2"
SERVICES = ("hdfs-namenode", "kafka", "flink-jobmanager")


def main(home: Path) -> None:
    from confluent_kafka.admin import AdminClient

    hosts = {name.removeprefix("TALLYCLERK_"): ADDRESS for name in HOSTS}
    with containers(home, *SERVICES, LISTEN="0.0.0.0", **hosts) as running, httpx.Client(trust_env=False) as client:
        settings = running.settings
        names = f"http://{settings.host('HDFS')}:{settings.port('HDFS_HTTP')}/webhdfs/v1/"
        brokers = AdminClient(security.kafka_client(settings)).list_topics(timeout=60).brokers.values()
        found = {
            "listeners": sorted({(each.service, each.address) for each in listeners(settings)}),
            "root": client.get(names, params={"op": "GETFILESTATUS"}).json()["FileStatus"]["type"],
            "brokers": [each.host for each in brokers],
            "taskmanagers": client.get(f"{flink.url(settings)}/overview").json()["taskmanagers"],
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
