"""What a reader of the shop's database log needs: a publication of the customers, and a heartbeat.

A reader confirms a position only when something arrives that it may read. On a quiet day nothing would, while the rest of the
database goes on writing log, all of which its slot would keep. So the reader updates the heartbeat's one row now and then, and the
publication holds that table too (PostgreSQL 17, 47.2.2; Debezium's ``heartbeat.action.query``).

The customers log full rows (``REPLICA IDENTITY FULL``): a deletion then tells what was deleted, and an update also the large values that
it left unchanged, which the log would not have otherwise.
"""

import psycopg
from psycopg import sql

from include.shop.exceptions import ShopError

PUBLICATION = "shop_cdc"


def publish_changes(conninfo: str, *, schema: str = "public", publication: str = PUBLICATION) -> bool:
    """Make ``<schema>.heartbeat`` and a publication of it and ``<schema>.customers``, which logs full rows; safe to repeat.

    :return: whether anything was missing.
    :raises ShopError: the database cannot be reached, or its user may not make a publication.
    """
    try:
        with psycopg.connect(conninfo, connect_timeout=10, application_name="tallyclerk-shop") as connection:
            return _publish(connection, schema, publication)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ShopError(
            f"The shop's database refuses: {error}. Its user must own the schema {schema} and may create in the database."
        ) from error
    except psycopg.OperationalError as error:
        raise ShopError(f"The shop's database does not let us in: {' '.join(str(error).split())}") from error


def _publish(connection: psycopg.Connection, schema: str, publication: str) -> bool:
    # two seedings at once would otherwise collide in the catalogue
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"tallyclerk shop publication {publication}"])
    tables = ("customers", "heartbeat")
    held = connection.execute(
        "SELECT tablename FROM pg_publication_tables WHERE pubname = %s AND schemaname = %s ORDER BY tablename",
        [publication, schema],
    ).fetchall()
    customers = sql.Identifier(schema, "customers")
    full = connection.execute(
        "SELECT relreplident = 'f' FROM pg_class WHERE oid = %s::regclass", [customers.as_string(connection)]
    ).fetchone()
    if full != (True,):
        connection.execute(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(customers))
    if [name for (name,) in held] == list(tables):
        return full != (True,)
    names = {
        "heartbeat": sql.Identifier(schema, "heartbeat"),
        "publication": sql.Identifier(publication),
        "tables": sql.SQL(", ").join(sql.Identifier(schema, table) for table in tables),
    }
    connection.execute(
        sql.SQL("""
            CREATE TABLE IF NOT EXISTS {heartbeat} (id int PRIMARY KEY, beat_at timestamptz NOT NULL);
            INSERT INTO {heartbeat} VALUES (1, now()) ON CONFLICT DO NOTHING;
        """).format(**names)
    )
    known = connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication]).fetchone()
    statement = "ALTER PUBLICATION {publication} SET TABLE {tables}"
    if known is None:
        statement = "CREATE PUBLICATION {publication} FOR TABLE {tables}"
    connection.execute(sql.SQL(statement).format(**names))
    return True
