"""Bytes in the lake: HDFS by its own protocol, or a folder of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tallyclerk.exceptions import ServiceUnavailableError, SpecError

PIECE_BYTES = 1 << 20
"""Files travel in pieces of this size: memory stays bounded, and HDFS takes it faster than one whole write."""


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Around what is asked of a table.

    :raises ServiceUnavailableError: the lake is away, or has lost a file; retry.
    """
    try:
        yield
    except OSError as error:
        raise ServiceUnavailableError(service="the lake", address=uri, cause=error) from error


@contextmanager
def reaching_hdfs(address: str) -> Iterator[None]:
    """Around what is asked of HDFS itself, whose client tells some of its failures by no more than RuntimeError.

    :raises ServiceUnavailableError: it is away, or refuses; retry.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise ServiceUnavailableError(service="HDFS", address=address, cause=error) from error


class LakeFiles:
    """Reads, writes and deletes files below one table's URI (``hdfs://host:port/...``, ``file:///...`` or a path).

    :raises SpecError: another scheme.
    """

    def __init__(self, table_uri: str) -> None:
        parts = urlsplit(table_uri)
        if parts.scheme not in ("", "file", "hdfs"):
            raise SpecError(f"{table_uri}: the lake is on hdfs:// or on a local path, not on {parts.scheme}://.")
        self._root = parts.path.rstrip("/")
        self._address = f"{parts.scheme}://{parts.netloc}" if parts.scheme == "hdfs" else ""

    def upload(self, source: Path, relative: str) -> int:
        """Copy a local file to ``relative``; returns its size in bytes once the store has confirmed that very size.

        :raises ServiceUnavailableError: the store did not take all of it (the partial file stays unreferenced).
        """
        size = source.stat().st_size
        if not self._address:
            target = Path(self._root, relative)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            return size
        from hdfs_native import WriteOptions

        client, path = self._client(), f"{self._root}/{relative}"
        with reaching_hdfs(self._address):
            with source.open("rb") as pieces, client.create(path, WriteOptions(create_parent=True)) as target_file:
                while piece := pieces.read(PIECE_BYTES):
                    target_file.write(piece)
            stored = client.get_file_info(path).length
        if stored != size:
            raise ServiceUnavailableError(
                service="HDFS", address=self._address, cause=f"{path} holds {stored:,} of {size:,} bytes"
            )
        return size

    def read_text(self, relative: str) -> str | None:
        """The text of a small file, or None when there is no such file."""
        if not self._address:
            local = Path(self._root, relative)
            return local.read_text(encoding="utf-8") if local.exists() else None
        with reaching_hdfs(self._address):
            try:
                with self._client().read(f"{self._root}/{relative}") as reader:
                    return reader.read().decode("utf-8")
            except FileNotFoundError:
                return None

    def written_at(self, relative: str) -> int | None:
        """When a file was written, in ms since 1970; None when there is no such file.

        :raises ServiceUnavailableError: the store is away.
        """
        if not self._address:
            local = Path(self._root, relative)
            return local.stat().st_mtime_ns // 1_000_000 if local.exists() else None
        with reaching_hdfs(self._address):
            try:
                return int(self._client().get_file_info(f"{self._root}/{relative}").modification_time)
            except FileNotFoundError:
                return None

    def delete(self, relative: str) -> None:
        """Remove a file that no commit refers to; a missing one is fine."""
        if not self._address:
            Path(self._root, relative).unlink(missing_ok=True)
            return
        with reaching_hdfs(self._address):
            self._client().delete(f"{self._root}/{relative}")

    def _client(self):
        from hdfs_native import Client

        return Client(self._address)
