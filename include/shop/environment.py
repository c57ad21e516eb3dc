"""Folders, addresses and passwords, from the environment or, where it is silent, from the checkout's ``.env``.

================================ ===============================================================================
``TALLYCLERK_HOME``              what the local stack writes; default ``<checkout>/.tallyclerk``
``TALLYCLERK_LANDING``           where the nightly CSV files land; default ``<TALLYCLERK_HOME>/shop/landing``
``TALLYCLERK_SHOP_DB_URI``       the shop's database as a libpq URI or key=value string; the next two are then unused
``TALLYCLERK_POSTGRES_HOST``     where the stack's PostgreSQL is; default 127.0.0.1
``TALLYCLERK_POSTGRES_PORT``     and its port; default 5433
``RETAIL_DB_PASSWORD``           the password of its user ``retail`` for its database ``retail``; also read as
                                 ``TALLYCLERK_RETAIL_DB_PASSWORD``, the name under which the stack makes it
``TALLYCLERK_SHOP_PORT``         the port of the shop's API on 127.0.0.1; default 8070
``TALLYCLERK_SHOP_API_KEY``      the key that a caller of the API must show; the stack makes one
``TALLYCLERK_ENV_FILE``          another file in place of ``.env``
``SHOP_TODAY``                   the shop's today as an ISO date; default is the clock's date in UTC
================================ ===============================================================================

An empty value counts as unset. Values are never printed.
"""

import os
from pathlib import Path

from include.shop.exceptions import ShopError

CHECKOUT = Path(__file__).resolve().parents[2]


def read_env_file(path: Path) -> dict[str, str]:
    """The ``KEY=VALUE`` lines of a file; comments, blank lines, ``export`` and one pair of quotes are understood."""
    if not path.is_file():
        return {}
    values: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key.startswith("#"):
            continue
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[key] = value
    return values


def setting(name: str) -> str | None:
    """A setting's value, or None where neither the environment nor ``.env`` gives one."""
    env_file = Path(os.environ.get("TALLYCLERK_ENV_FILE") or CHECKOUT / ".env")
    return os.environ.get(name) or read_env_file(env_file).get(name) or None


def home() -> Path:
    """The folder of everything the local stack writes."""
    return Path(setting("TALLYCLERK_HOME") or CHECKOUT / ".tallyclerk")


def landing_folder() -> Path:
    """The folder in which the shop leaves its nightly files."""
    return Path(setting("TALLYCLERK_LANDING") or home() / "shop" / "landing")


def database_conninfo() -> str:
    """The libpq connection string of the shop's database. It holds a password: do not log it.

    :raises ShopError: no password is known, or the URI cannot be read.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    uri = setting("TALLYCLERK_SHOP_DB_URI")
    if uri is not None:
        try:
            conninfo_to_dict(uri)
        except psycopg.ProgrammingError:
            # libpq's message repeats the text, password included: not chained
            raise ShopError(
                "TALLYCLERK_SHOP_DB_URI cannot be read: write it as postgresql://user:password@host:port/database."
            ) from None
        return uri
    password = setting("RETAIL_DB_PASSWORD") or setting("TALLYCLERK_RETAIL_DB_PASSWORD")
    if password is None:
        raise ShopError(
            "The shop's database has no password: RETAIL_DB_PASSWORD is neither in the environment nor in .env. "
            "`make up` makes one; or set TALLYCLERK_SHOP_DB_URI."
        )
    host, port = setting("TALLYCLERK_POSTGRES_HOST") or "127.0.0.1", setting("TALLYCLERK_POSTGRES_PORT") or "5433"
    return make_conninfo(host=host, port=port, user="retail", dbname="retail", password=password)
