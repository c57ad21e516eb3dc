import json
from pathlib import Path

import pytest

from include.shop.__main__ import main


@pytest.fixture(autouse=True)
def fixed_today(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOP_TODAY", "2026-06-11")
    monkeypatch.setenv("TALLYCLERK_LANDING", str(tmp_path / "landing"))


def test_seed_writes_the_sales_alone_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seed", "--days", "2", "--only", "sales"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["written"], answer["kept"], answer["yesterday"]) == (2, 0, "2026-06-10")
    assert len(list((tmp_path / "landing").glob("*.csv"))) == 2


def test_totals_are_json_with_money_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["totals", "--date", "2026-06-10"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["day"], answer["source_day"], answer["rows"]) == ("2026-06-10", "2017-06-07", 4061)
    assert answer["sales_value"] == answer["positive_sales_value"] == f"{float(answer['sales_value']):.2f}"


def test_days_tell_what_today_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["days"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "today": "2026-06-11",
        "yesterday": "2026-06-10",
        "first_day": "2025-06-12",
        "today_shows": {"cycle": 0, "source_day": "2017-06-08"},
    }


def test_failure_is_a_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["totals", "--date", "2026-06-12"]) == 1
    assert "Choose a day" in capsys.readouterr().err


def test_days_and_all_exclude_each_other() -> None:
    with pytest.raises(SystemExit):
        main(["seed", "--days", "2", "--all"])
