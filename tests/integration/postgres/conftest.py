"""The stack's PostgreSQL, in a schema of each test module's own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from stack.services import postgres
from stack.settings import Settings, load_settings
from tallyclerk.core.extract import Extract
from tallyclerk.core.window import Window
from tallyclerk.sources.database_table import DatabaseTable
from tests.integration.postgres.reading import conninfo


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="session")
def uri(settings: Settings) -> str:
    """The retail database, as its owner."""
    return conninfo(settings)


@pytest.fixture(scope="module")
def schema(uri: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        yield name
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def db(uri: str, schema: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection whose search path is the schema."""
    with psycopg.connect(uri, autocommit=True, options=f"-c search_path={schema}") as connection:
        yield connection


@pytest.fixture
def superuser(settings: Settings) -> Iterator[psycopg.Connection]:
    with postgres.connect(settings, "retail") as connection:
        yield connection


@pytest.fixture
def full(uri: str, schema: str, tmp_path: Path) -> Callable[..., Extract]:
    """Extract a whole table of the schema, or ``query=``."""

    def extract(name: str | None = None, **options: object) -> Extract:
        stated: dict[str, object] = {"uri": uri, "mode": "full", **options}
        if name:
            stated["table"] = f"{schema}.{name}"
        directory = tmp_path / uuid4().hex
        directory.mkdir()
        return DatabaseTable(**stated).extract(Window.of_day("2026-03-01"), directory)

    return extract
