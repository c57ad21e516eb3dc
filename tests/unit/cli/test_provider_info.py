"""What Airflow learns of the provider at the start of each process."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

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


def test_each_connection_type_has_a_form_and_a_hook_of_that_type() -> None:
    from airflow._shared.module_loading import import_string
    from airflow.providers_manager import ProvidersManager
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    manager = ProvidersManager()
    widgets = manager.connection_form_widgets
    for declared in tallyclerk.get_provider_info()["connection-types"]:
        name = declared["connection-type"]
        hook = import_string(declared["hook-class-name"])
        assert (hook.conn_type, hook.hook_name) == (name, declared["hook-name"])
        # Airflow has taken it from us: no other provider owns the type
        info = ProvidersManagerTaskRuntime().hooks[name]
        assert info is not None
        assert info.hook_class_name == declared["hook-class-name"]
        assert manager.field_behaviours[name]["relabeling"] == declared["ui-field-behaviour"]["relabeling"]
        assert {f"extra__{name}__{field}" for field in declared["conn-fields"]} <= set(widgets)


def test_airflows_plugin_scanner_runs_no_file_of_the_package() -> None:
    """Under their bare names, as it would, a module of ours could take a library's place."""
    from airflow._shared.module_loading import find_path_from_directory

    plugins = Path(tallyclerk.__file__).parents[1]
    assert [
        path for path in find_path_from_directory(str(plugins), ".airflowignore", "glob") if path.endswith(".py")
    ] == []


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
