"""Ports, folders and knobs: environment over `.env` over defaults."""

from pathlib import Path

import pytest

from stack.errors import SettingError
from stack.settings import PORTS, ROOT, Settings, load_settings


def load(tmp_path: Path, **environ: str) -> Settings:
    return load_settings({"TALLYCLERK_ENV_FILE": str(tmp_path / ".env"), **environ}, root=tmp_path)


def test_defaults_when_nothing_is_set(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.port("HDFS") == 8020
    assert settings.port("AIRFLOW") == 8082
    assert settings.home == tmp_path / ".tallyclerk"
    assert settings.landing == tmp_path / ".tallyclerk" / "shop" / "landing"


def test_environment_wins_over_env_file(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("TALLYCLERK_HDFS_PORT=18020\nTALLYCLERK_POSTGRES_PORT=15433\n")
    env_file.chmod(0o600)
    settings = load(tmp_path, TALLYCLERK_HDFS_PORT="28020")
    assert settings.port("HDFS") == 28020
    assert settings.port("POSTGRES") == 15433


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "80.5"])
def test_refuses_what_is_no_port(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingError, match="TALLYCLERK_HDFS_PORT"):
        load(tmp_path, TALLYCLERK_HDFS_PORT=text)


def test_refuses_two_services_on_one_port(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"TALLYCLERK_SPARK_UI_PORT.*TALLYCLERK_HDFS_PORT|TALLYCLERK_HDFS_PORT.*8080"
    ):
        load(tmp_path, TALLYCLERK_HDFS_PORT="8080")


def test_variables_lead_a_child_to_the_same_instance(tmp_path: Path) -> None:
    settings = load(tmp_path, TALLYCLERK_CASSANDRA_PORT="19042", TALLYCLERK_HOME=str(tmp_path / "other"))
    child = load_settings({**settings.variables(), "TALLYCLERK_ENV_FILE": str(tmp_path / ".env")}, root=tmp_path)
    assert child == settings


def test_secrets_are_not_in_the_representation(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.secret("JWT_SECRET") not in repr(settings)


def test_asking_alone_makes_no_file(tmp_path: Path) -> None:
    load_settings({}, root=tmp_path, make_secrets=False)
    assert not list(tmp_path.iterdir())


def test_every_port_is_in_the_example_file() -> None:
    example = (ROOT / ".env.example").read_text()
    assert all(f"{name}={port}\n" in example for name, port in PORTS.items())


def test_a_service_listens_where_it_is_unless_told_otherwise(tmp_path: Path) -> None:
    settings = load(tmp_path, TALLYCLERK_KAFKA_HOST="kafka")
    assert (settings.address("KAFKA"), settings.listen("KAFKA")) == ("kafka:9092", "kafka")
    assert (settings.host("CASSANDRA"), settings.listen("CASSANDRA")) == ("127.0.0.1", "127.0.0.1")
    assert load(tmp_path, TALLYCLERK_KAFKA_HOST="kafka", TALLYCLERK_LISTEN="0.0.0.0").listen("KAFKA") == "0.0.0.0"


def test_secrets_come_from_a_folder_when_one_is_given(tmp_path: Path) -> None:
    (tmp_path / "TALLYCLERK_JWT_SECRET").write_text("from a file\n")
    settings = load(tmp_path, TALLYCLERK_SECRETS=str(tmp_path), TALLYCLERK_FERNET_KEY="from the environment")
    assert settings.secret("JWT_SECRET") == "from a file"
    assert settings.secret("FERNET_KEY") == "from the environment"
    assert not (tmp_path / ".env").exists()
    with pytest.raises(SettingError, match="TALLYCLERK_POSTGRES_PASSWORD has no value"):
        settings.secret("POSTGRES_PASSWORD")
