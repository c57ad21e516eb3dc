"""A directory of each test's own on the real HDFS."""

import os
from collections.abc import Iterator
from uuid import uuid4

import hdfs_native
import pytest

from stack.settings import load_settings


@pytest.fixture
def lake() -> Iterator[str]:
    """URI of a directory that is removed afterwards."""
    os.environ.setdefault("HADOOP_USER_NAME", "hdfs")
    address = f"hdfs://127.0.0.1:{load_settings().port('HDFS')}"
    path = f"/tmp/tallyclerk-test-{uuid4().hex}"
    yield address + path
    hdfs_native.Client(address).delete(path, recursive=True)
