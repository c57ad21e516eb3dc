"""The documentation's site: it builds without a warning, fetches nothing from elsewhere, and names only tests that exist."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from stack import processes
from stack.settings import ROOT

_FETCHED = re.compile(
    r"""(?:<(?:script|img|iframe|source)\b[^>]*\bsrc|<link\b[^>]*\bhref)=["']?(?:https?:)?//[^"'> ]+"""
)
_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; mkdocs.yml makes every warning an error."""
    subprocess.run([ROOT / "scripts/install.sh", "docs"], check=True, cwd=ROOT)
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [ROOT / ".venv-docs/bin/mkdocs", "build", "--site-dir", folder],
        cwd=ROOT,
        env={**processes.base_environment(), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    # mkdocs forgets to be strict when it is told to be quiet: the words count, too
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    return folder


def test_nothing_is_fetched_from_another_host_when_a_page_is_read(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").rglob("*.md"))) - 1
    assert {str(page): found for page in pages if (found := _FETCHED.findall(page.read_text()))} == {}


def test_every_operator_command_and_variable_is_in_the_reference_when_the_site_is_built(site: Path) -> None:
    pages = {path.stem: path.read_text() for path in (site / "reference").glob("*.html")}
    assert [name for name in _operators() if f">{name}<" not in pages["operators"]] == []
    assert "airflow tallyclerk quarantine list" in pages["command-line"]
    variables = re.findall(r"^#(TALLYCLERK_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    absent = [name for name in variables if name not in pages["settings"] and name != "TALLYCLERK_HOME"]
    assert absent == []


def test_named_tests_exist_when_the_documents_name_them() -> None:
    there = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = {name for page in _PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert len(named) > 30
    assert named - there == set()


def _operators() -> list[str]:
    """Classes that a DAG of the project uses, by what the DAGs import: not by what the reference looks for."""
    imported = re.findall(
        r"^from tallyclerk\.\S+ import (.+)$",
        "\n".join(path.read_text() for path in (ROOT / "dags").glob("*.py")),
        re.MULTILINE,
    )
    return sorted({name for names in imported for name in names.split(", ") if name.endswith(("Operator", "Sensor"))})
