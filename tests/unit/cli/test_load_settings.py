"""Writing settings into Airflow's tables (SQLite here; the models are Airflow's)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.models import Connection, Pool, Variable
from airflow.models.team import Team
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from tallyclerk.cli.load_settings import apply_settings
from tallyclerk.cli.settings_file import ConnectionSetting, PoolSetting, Settings, VariableSetting
from tallyclerk.exceptions import SpecErrors

SETTINGS = Settings(
    connections=(
        ConnectionSetting("db", "postgres", host="h", login="0123", password="secret", port=1, extra={"a": 1, "b": 2}),
        ConnectionSetting("web", uri="http://u:p%40x@h:80/?a=1", extra={"z": True}),
    ),
    pools=(PoolSetting("pool", 2, "d"),),
    variables=(VariableSetting("v", "007"),),
)


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    tables = [model.__table__ for model in (Team, Connection, Pool, Variable)]
    Connection.metadata.create_all(engine, tables=tables)
    with Session(engine) as session:
        yield session


def actions(settings: Settings, session: Session) -> list[str]:
    done = [outcome.action for outcome in apply_settings(settings, session)]
    session.commit()
    return done


def test_entries_are_created_with_every_field(session: Session) -> None:
    assert actions(SETTINGS, session) == ["created"] * 4
    db, web = session.scalars(select(Connection).order_by(Connection.conn_id))
    assert (db.conn_type, db.host, db.login, db.password, db.port) == ("postgres", "h", "0123", "secret", 1)
    assert db.extra_dejson == {"a": 1, "b": 2}
    assert (web.conn_type, web.password, web.extra_dejson) == ("http", "p@x", {"a": 1, "z": True})
    assert session.scalar(select(Variable)).val == "007"


def test_nothing_changes_when_it_is_written_again(session: Session) -> None:
    actions(SETTINGS, session)
    assert actions(SETTINGS, session) == ["unchanged"] * 4
    assert not session.dirty


def test_only_what_differs_is_updated(session: Session) -> None:
    actions(SETTINGS, session)
    session.scalar(select(Connection).where(Connection.conn_id == "db")).description = "by hand"
    changed = Settings(
        connections=(ConnectionSetting("db", "postgres", host="h2", extra={"b": 2, "a": 1}), SETTINGS.connections[1]),
        pools=(PoolSetting("pool", 3, "d"),),
        variables=(VariableSetting("v", "7"),),
    )
    assert actions(changed, session) == ["updated", "unchanged", "updated", "updated"]
    db = session.scalar(select(Connection).where(Connection.conn_id == "db"))
    assert (db.host, db.login, db.password, db.description) == ("h2", None, None, "by hand")


def test_nothing_is_written_and_no_uri_shown_when_airflow_refuses_one(session: Session) -> None:
    bad = ConnectionSetting("bad", uri="http://u:hunter2@h:port/")
    worse = ConnectionSetting("worse", uri="http://u:hunter2@a://b://c")
    with pytest.raises(SpecErrors) as caught:
        list(apply_settings(Settings(connections=(*SETTINGS.connections, bad, worse)), session))
    assert len(caught.value.findings) == 2
    assert "hunter2" not in str(caught.value)
    assert session.scalar(select(Connection)) is None
