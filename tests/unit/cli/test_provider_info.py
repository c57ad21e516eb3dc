"""What Airflow learns of the provider at the start of each process."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

import jsonschema

import tallyclerk


def test_provider_info_fits_airflows_schema() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text(encoding="utf-8"))
    info = tallyclerk.get_provider_info()
    jsonschema.validate(info, schema)
    assert set(info) <= set(schema["properties"]), "Airflow would ignore the rest without a word"


def test_provider_info_names_functions_that_exist() -> None:
    from airflow._shared.module_loading import import_string

    for path in tallyclerk.get_provider_info()["cli"]:
        assert callable(import_string(path))


def test_importing_the_package_loads_neither_airflow_nor_a_driver() -> None:
    code = (
        "import sys, tallyclerk; print([m for m in ('airflow', 'pydantic', 'pyarrow', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_describing_the_commands_loads_no_command() -> None:
    code = (
        "import sys; from tallyclerk.cli.definition import get_cli_commands; get_cli_commands(); "
        "print([m for m in sys.modules if m.startswith('tallyclerk.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tallyclerk.cli.definition" in done.stdout
    assert "backfill" not in done.stdout
    assert "load_settings" not in done.stdout
