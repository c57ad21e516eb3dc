"""Concurrent writers that do what makes change capture lose rows, and the independent account of what they committed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

WRITERS = 8
_KEYS = 400


class _RollBackError(Exception):
    """Raised by a writer on purpose."""


def make_table(db: psycopg.Connection, table: str) -> None:
    """The table, and a log of every change that its trigger writes in the change's own transaction: it is committed with it.

    ``body`` is a large value, kept out of line, that most updates leave unchanged.
    """
    db.execute(
        f"CREATE TABLE {table} (id bigint PRIMARY KEY, version bigint NOT NULL, label text, body text, "
        "changed_at timestamptz NOT NULL)"
    )
    db.execute(f"ALTER TABLE {table} ALTER COLUMN body SET STORAGE EXTERNAL")
    db.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    db.execute(f"CREATE TABLE {table}_log (op text, id bigint, version bigint, body_md5 text)")
    db.execute(f"CREATE SEQUENCE {table}_version")
    db.execute(
        f"CREATE FUNCTION {table}_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"INSERT INTO {table}_log SELECT CASE TG_OP WHEN 'INSERT' THEN 'c' WHEN 'UPDATE' THEN 'u' ELSE 'd' END, "
        "coalesce(NEW.id, OLD.id), coalesce(NEW.version, OLD.version), md5(coalesce(NEW.body, OLD.body)); "
        "RETURN NULL; END $$"
    )
    db.execute(
        f"CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_note()"
    )


@contextmanager
def writing(uri: str, table: str) -> Iterator[threading.Event]:
    """Eight writers; leaving the context ends them. The event says that they have ended.

    :raises psycopg.Error: a writer failed, other than by a deadlock.
    """
    stop, failures = threading.Event(), list[BaseException]()
    threads = [
        threading.Thread(target=_write, args=(uri, table, random.Random(number), stop, failures))
        for number in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _write(uri: str, table: str, dice: random.Random, stop: threading.Event, failures: list[BaseException]) -> None:
    try:
        with psycopg.connect(uri, autocommit=True) as connection:
            while not stop.is_set():
                try:
                    _transaction(connection, table, dice, stop)
                except (_RollBackError, psycopg.errors.DeadlockDetected):
                    continue
    except psycopg.Error as error:
        failures.append(error)


def _transaction(connection: psycopg.Connection, table: str, dice: random.Random, stop: threading.Event) -> None:
    """Short or long; with savepoints, of which some are rolled back; and rolled back itself now and then."""
    with connection.transaction():
        for _ in range(dice.randrange(1, 6)):
            _change(connection, table, dice)
            if dice.random() < 0.4:
                try:
                    with connection.transaction():
                        _change(connection, table, dice)
                        if dice.random() < 0.3:
                            raise _RollBackError
                except _RollBackError:
                    pass
        if dice.random() < 0.15:
            stop.wait(dice.random() * 1.5)  # others begin and commit meanwhile
        if dice.random() < 0.1:
            raise _RollBackError
    time.sleep(dice.random() * 0.02)


def _change(connection: psycopg.Connection, table: str, dice: random.Random) -> None:
    key, version = dice.randrange(_KEYS), f"nextval('{table}_version')"
    # the time is the transaction's begin, as an application's updated_at: late commits come with old times
    match dice.randrange(10):
        case 0:
            connection.execute(f"DELETE FROM {table} WHERE id = {key}")
        case 1 | 2 | 3:
            connection.execute(
                f"INSERT INTO {table} VALUES ({key}, {version}, 'made', repeat(md5(random()::text), 150), now()) "
                f"ON CONFLICT (id) DO UPDATE SET version = {version}, label = 'made again', changed_at = now()"
            )
        case 4:
            connection.execute(
                f"UPDATE {table} SET version = {version}, body = repeat(md5(random()::text), 120), changed_at = now() "
                f"WHERE id = {key}"
            )
        case _:
            connection.execute(
                f"UPDATE {table} SET version = {version}, label = 'touched', changed_at = now() WHERE id = {key}"
            )
