"""Driver errors sorted by what recovers from them. The only place that reads SQLSTATE.

Codes: PostgreSQL 17, appendix A. Both drivers are known here, psycopg (catalogue, count) and ADBC (rows). No message
carries a password: what libpq says is searched for the connection's secrets before it is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

from tallyclerk.exceptions import RecordError, ServiceUnavailableError, SpecError, TallyclerkError, TerminalError

SERVICE = "PostgreSQL"
_TRANSIENT_CLASSES = ("08", "53", "58", "57P")
_TRANSIENT_CODES = ("40001", "40P01", "57014", "55P03", "25P03", "25P04")
_REMEDIES = {
    "42501": "Grant it: GRANT USAGE ON SCHEMA ... and GRANT SELECT ON ... TO the connection's login.",
    "25006": "An extract only reads; take what writes out of the query.",
}
_REFUSED_LOGIN = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",  # database or role
    "is not permitted to log in",
    "permission denied for database",
    "invalid connection option",
    "invalid sslmode value",
    "does not support SSL",
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, without how to get in.

    :param uri: ``postgresql://host:port/database``.
    :param secrets: texts that must not be repeated.
    """

    uri: str
    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, conninfo: str) -> Address:
        """:raises SpecError: libpq cannot read the connection URI (which is not repeated: it may hold a password)."""
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        try:
            facts = {key: str(value) for key, value in conninfo_to_dict(conninfo).items() if value is not None}
        except psycopg.ProgrammingError:
            raise SpecError(
                "The database's connection URI cannot be read; write it as postgresql://login:password@host:port/database, "
                "with special signs of the password percent-encoded."
            ) from None
        host, port = facts.get("host") or facts.get("hostaddr") or "localhost", facts.get("port") or "5432"
        secrets = tuple(text for key in ("password", "sslpassword") if (text := facts.get(key)))
        return cls(f"postgresql://{host}:{port}/{facts.get('dbname', '')}", (conninfo, *secrets))

    def clean(self, text: object) -> str:
        """A driver's message on one line, without secrets."""
        line = " ".join(str(text).split())
        for secret in self.secrets:
            line = line.replace(secret, "***")
        return line


@contextmanager
def database_errors(address: Address, *, relation: str) -> Iterator[None]:
    """Turn the errors of either driver into the provider's own.

    :param relation: what was read, for the message.
    """
    import adbc_driver_manager as adbc
    import psycopg

    try:
        yield
    except (psycopg.Error, adbc.Error) as error:
        raise classify(error, address=address, relation=relation) from error


def classify(error: Exception, *, address: Address, relation: str) -> TallyclerkError:
    """The provider's error for a driver's."""
    code = sqlstate(error)
    message = address.clean(_primary(error))
    if code is None and is_login_refused(message):
        return SpecError(
            f"{address.uri} refuses the connection: {message}. Mend the connection's login, password or schema."
        )
    if code is None and _is_connection_lost(error):
        return ServiceUnavailableError(service=SERVICE, address=address.uri, cause=message)
    if code is None:
        return TerminalError(f"Reading {relation} from {address.uri} failed: {message}.")
    if code.startswith(_TRANSIENT_CLASSES) or code in _TRANSIENT_CODES:
        return ServiceUnavailableError(service=SERVICE, address=address.uri, cause=f"{message} (SQLSTATE {code})")
    if code.startswith("28") or code == "3D000":
        return SpecError(
            f"{address.uri} refuses the connection: {message}. Mend the connection's login, password or schema."
        )
    if code.startswith(("22", "21")) and code != "22023":
        return RecordError(
            f"Reading {relation} from {address.uri} failed on its data: {message} (SQLSTATE {code}). Nothing was committed."
        )
    if code.startswith(("42", "25", "3F", "0A", "22")):
        remedy = _REMEDIES.get(code, "Mend the table, the columns or the query.")
        return SpecError(f"{address.uri} cannot read {relation}: {message} (SQLSTATE {code}). {remedy}")
    return TerminalError(f"Reading {relation} from {address.uri} failed: {message} (SQLSTATE {code}).")


def sqlstate(error: Exception) -> str | None:
    """The five characters of a driver's error, None when the server said none."""
    code = getattr(error, "sqlstate", None)
    return code if code and code.strip("\0 ") else None


def is_login_refused(message: str) -> bool:
    return any(sign in message for sign in _REFUSED_LOGIN)


def near(name: str, existing: list[str]) -> str:
    """A sentence with the names a user may have meant."""
    folded = {candidate.lower(): candidate for candidate in existing}
    close = [folded[found] for found in get_close_matches(name.lower(), list(folded), n=3, cutoff=0.6)]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"There are: {', '.join(existing[:30])}." if existing else "There are none that this login may see."


def _primary(error: Exception) -> str:
    diag = getattr(error, "diag", None)
    if diag is not None and diag.message_primary:
        return f"{diag.message_primary}{f' ({diag.message_hint})' if diag.message_hint else ''}"
    return str(error).removesuffix(".")


def _is_connection_lost(error: Exception) -> bool:
    import adbc_driver_manager as adbc
    import psycopg

    if isinstance(error, adbc.Error):
        text = str(error)
        return error.status_code in (adbc.AdbcStatusCode.IO, adbc.AdbcStatusCode.TIMEOUT) or "server closed" in text
    return isinstance(error, psycopg.OperationalError)
