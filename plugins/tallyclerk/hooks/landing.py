"""The landing folder from a connection of type ``fs``."""

from __future__ import annotations

from functools import cached_property

from airflow.sdk import BaseHook

from tallyclerk.exceptions import SpecError


class LandingHook(BaseHook):
    """Where deliveries land: the extra ``path`` of the connection.

    :param fs_conn_id: the connection.
    """

    conn_name_attr = "fs_conn_id"
    default_conn_name = "fs_landing"
    conn_type = "fs"
    hook_name = "File (path)"

    def __init__(self, fs_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.fs_conn_id = fs_conn_id

    @cached_property
    def path(self) -> str:
        """The folder.

        :raises SpecError: the connection names none.
        """
        path = self.get_connection(self.fs_conn_id).extra_dejson.get("path")
        if not path:
            raise SpecError(f"The connection {self.fs_conn_id!r} has no extra `path`; set the landing folder.")
        return str(path)
