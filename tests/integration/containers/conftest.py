"""The services of production, with certificates and logins: one instance for all tests of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack.settings import LOOPBACK
from tests.containers import Containers, containers

# in the order of compose: who logs in to Kafka does so after its topics and grants were made
ENCRYPTED = (
    "kafka", "postgres", "cassandra", "hdfs-namenode", "hdfs-datanode", "init topics", "init databases", "registry", "connect",
    "flink-jobmanager", "flink-taskmanager", "init folders", "init registry", "init keyspace",
)  # fmt: skip


@pytest.fixture(scope="package")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    home, certificates = tmp_path_factory.mktemp("encrypted"), tmp_path_factory.mktemp("certificates")
    # delta-rs goes to the address from which the DataNode has registered, which on this machine is the first of loopback
    options = {"TLS": str(certificates), "CASSANDRA_HEAP": "512m", "HDFS_DATANODE_HOST": LOOPBACK}
    with containers(home, *ENCRYPTED, **options) as started:
        yield started
