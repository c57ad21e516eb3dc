"""The lake's address from the connection ``hdfs_default``."""

from __future__ import annotations

import os
import socket
from functools import cached_property
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from tallyclerk.exceptions import ServiceUnavailableError, SpecError
from tallyclerk.hooks.connections import connections

_PATIENCE_SECONDS = 5


class LakeHook(BaseHook):
    """HDFS for Delta tables.

    The connection is the HDFS provider's own (``host``, and ``port`` for WebHDFS); the extra ``rpc_port`` is the
    NameNode's RPC port, which the readers and writers of Delta tables need.

    :param hdfs_conn_id: the connection.
    """

    conn_name_attr = "hdfs_conn_id"
    default_conn_name = "hdfs_default"
    conn_type = "hdfs"
    hook_name = "HDFS (Tallyclerk)"

    def __init__(self, hdfs_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.hdfs_conn_id = hdfs_conn_id

    @cached_property
    def root(self) -> str:
        """``hdfs://host:rpc_port``.

        :raises SpecError: the connection has no host.
        """
        connection = self.get_connection(self.hdfs_conn_id)
        if not connection.host:
            raise SpecError(f"The connection {self.hdfs_conn_id!r} has no host; set the NameNode's.")
        extra = connection.extra_dejson
        # the native client takes its user from the environment only
        os.environ.setdefault("HADOOP_USER_NAME", extra.get("user") or connection.login or "hdfs")
        return f"hdfs://{connection.host}:{extra.get('rpc_port', 8020)}"

    def uri(self, path: str) -> str:
        """A path of the lake as a URI; what already is a URI stays as it is."""
        return path if "://" in path else f"{self.root}/{path.lstrip('/')}"


def lake_root() -> str:
    """The URI of the lake, once it has answered; for people who wait, outside a task.

    :raises ServiceUnavailableError: nobody listens there. Its client would try again for minutes.
    """
    with connections():
        root = LakeHook().root
    address = urlsplit(root)
    try:
        socket.create_connection((address.hostname or "", address.port or 8020), timeout=_PATIENCE_SECONDS).close()
    except OSError as error:
        raise ServiceUnavailableError(service="HDFS", address=root, cause=error) from error
    return root
