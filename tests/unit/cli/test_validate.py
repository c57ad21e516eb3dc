"""``airflow tallyclerk validate``: one line for each good contract, every finding of the others, and an exit code."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from tallyclerk.cli.validate import validate

TRANSACTIONS = Path("include/contracts/transactions.odcs.yaml")


def run(*paths: object) -> object:
    with pytest.raises(SystemExit) as exit_info:
        validate(Namespace(paths=[str(path) for path in paths]))
    return exit_info.value.code


def test_good_contracts_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("include/contracts") == 0
    lines = capsys.readouterr().out.splitlines()
    contracts = sorted(path.name.partition(".")[0] for path in Path("include/contracts").glob("*.odcs.yaml"))
    assert [line.split()[0] for line in lines] == ["contract", *contracts]
    assert len(contracts) >= 7


def test_all_findings_of_all_files_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = TRANSACTIONS.read_text(encoding="utf-8")
    (tmp_path / "a.odcs.yaml").write_text(
        text.replace("delimiter", "delimter").replace("bigint", "bigit", 1), encoding="utf-8"
    )
    (tmp_path / "b.odcs.yaml").write_text("nothing", encoding="utf-8")
    shutil.copy("include/contracts/customers.odcs.yaml", tmp_path)
    assert run(tmp_path) == 1
    said = capsys.readouterr()
    assert "customers" in said.out
    assert "3 problems found" in said.err
    assert f"{tmp_path}/a.odcs.yaml:" in said.err
    assert "did you mean 'delimiter'?" in said.err
    assert "did you mean 'bigint'?" in said.err
    assert f"{tmp_path}/b.odcs.yaml:1:" in said.err


def test_two_contracts_of_one_data_set_are_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(TRANSACTIONS, tmp_path / "copy.odcs.yaml")
    assert run(TRANSACTIONS, tmp_path) == 1
    assert "'transactions' is also the data set of include/contracts/transactions.odcs.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_path_without_contracts_is_refused(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path if kind == "empty" else tmp_path / "none.odcs.yaml") == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_the_metadata_database_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run("include/contracts") == 0


def test_airflow_knows_the_command() -> None:
    from airflow.cli.cli_parser import get_parser

    args = get_parser().parse_args(["tallyclerk", "validate"])
    assert args.paths == ["include/contracts"]
    assert "tallyclerk.cli.definition" in sys.modules
