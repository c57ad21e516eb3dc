"""Which tables the lake has."""

from __future__ import annotations

from tallyclerk.sinks.lake_files import reaching_hdfs

ZONES = ("raw", "processed", "enriched", "reconciliation")
"""Folders of tables that carry receipts. A reconciliation reads customers, writes those that differ and filters those that agree."""


def tables(root: str, zones: tuple[str, ...] = ZONES) -> list[str]:
    """URIs of the Delta tables ``/data/<zone>/<name>``.

    :param root: ``hdfs://host:port``.
    :raises ServiceUnavailableError: HDFS is away.
    """
    from hdfs_native import Client

    client = Client(root)
    found = []
    for zone in zones:
        with reaching_hdfs(root):
            try:
                entries = [entry for entry in client.list_status(f"/data/{zone}") if entry.isdir]
            except FileNotFoundError:
                continue
        found += [f"{root}/data/{zone}/{entry.path.rstrip('/').rpartition('/')[2]}" for entry in entries]
    return sorted(found)
