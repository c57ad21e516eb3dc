"""Tallyclerk: loads for Apache Airflow in which every row is accounted for."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Describe this provider to Airflow (entry point ``apache_airflow_provider``).

    Airflow calls this at the start of every process, so nothing heavier than a dictionary is built here.
    The document follows ``airflow/provider_info.schema.json``.
    """
    return {
        "package-name": "tallyclerk",
        "name": "Tallyclerk",
        "description": "A Lambda pipeline on Apache Airflow in which every row is accounted for.",
        "cli": ["tallyclerk.cli.definition.get_cli_commands"],
        # the others are the stock providers' own types (cassandra, fs, postgres, ...), which keep their forms
        "connection-types": [_HDFS, _FLINK],
    }


_HDFS = {
    "connection-type": "hdfs",
    "hook-class-name": "tallyclerk.hooks.lake.LakeHook",
    "hook-name": "HDFS (Tallyclerk)",
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "password"],
        "relabeling": {"host": "NameNode", "port": "NameNode's HTTP port", "login": "WebHDFS user"},
        "placeholders": {"host": "namenode.example.org", "port": "9870", "login": "hdfs"},
    },
    "conn-fields": {
        "rpc_port": {
            "label": "NameNode's RPC port",
            "description": "Delta tables are read and written through it.",
            "schema": {"type": ["integer", "null"], "default": 8020, "minimum": 1, "maximum": 65535},
        },
        "user": {
            "label": "HDFS user",
            "description": "As whom files are written; the WebHDFS user when empty.",
            "schema": {"type": ["string", "null"]},
        },
    },
}

_FLINK = {
    "connection-type": "flink",
    "hook-class-name": "tallyclerk.hooks.flink.FlinkHook",
    "hook-name": "Flink (Tallyclerk)",
    "ui-field-behaviour": {
        "hidden-fields": [],
        "relabeling": {"host": "JobManager", "port": "REST port", "schema": "http or https"},
        "placeholders": {"host": "jobmanager.example.org", "port": "8081", "schema": "http"},
    },
    "conn-fields": {
        "ca_file": {
            "label": "CA file",
            "description": "By which the JobManager's certificate is checked, on each worker.",
            "schema": {"type": ["string", "null"]},
        },
    },
}
