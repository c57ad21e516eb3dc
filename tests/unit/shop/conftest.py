"""The shop's tests stand on one fixed today, and see nothing of the machine's settings."""

from datetime import date
from pathlib import Path

import pytest

from include.shop.trading_days import TradingDays

SETTINGS = (
    "SHOP_TODAY",
    "TALLYCLERK_HOME",
    "TALLYCLERK_LANDING",
    "TALLYCLERK_SHOP_DB_URI",
    "TALLYCLERK_POSTGRES_PORT",
    "RETAIL_DB_PASSWORD",
    "TALLYCLERK_RETAIL_DB_PASSWORD",
)


@pytest.fixture(autouse=True)
def env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file read in place of ``.env``; absent until a test writes it."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "settings.env"
    monkeypatch.setenv("TALLYCLERK_ENV_FILE", str(path))
    return path


@pytest.fixture
def days() -> TradingDays:
    """A Thursday."""
    return TradingDays(date(2026, 6, 11))
