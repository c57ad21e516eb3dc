"""PostgreSQL: Airflow's metadata and the shop's customers, with logical decoding on.

PostgreSQL refuses to run as root. Started by root, it runs as the unprivileged user NOBODY, who must be able to reach its
files: when the stack's folder lies under one that only root may enter, they are put under /var/lib instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from stack import security
from stack.errors import StackError, ToolMissingError
from stack.render import render
from stack.service import Service
from stack.settings import LOOPBACK, Settings

NOBODY = 65534
DATABASES = {"airflow": "AIRFLOW_DB_PASSWORD", "retail": "RETAIL_DB_PASSWORD"}
"""Each database, owned by a role of its name, with the secret that is the role's password."""


def home(settings: Settings) -> Path:
    """The folder of PostgreSQL's binaries and data."""
    usual = settings.data / "postgres"
    if os.getuid() != 0 or enterable_by_others(usual):
        return usual
    return Path("/var/lib") / f"tallyclerk-{hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]}"


def enterable_by_others(path: Path) -> bool:
    """Whether any user may walk down to `path`, as far as it exists."""
    return all(not folder.exists() or folder.stat().st_mode & stat.S_IXOTH for folder in path.absolute().parents)


def as_server_user(command: list[str]) -> list[str]:
    """`command` as it must be run so that PostgreSQL does not run as root."""
    if os.getuid() != 0:
        return command
    if shutil.which("setpriv") is None:
        raise ToolMissingError(
            "setpriv is needed to run PostgreSQL from root: install it (Debian: apt install util-linux) or use another user"
        )
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *command]


def connect(settings: Settings, database: str = "postgres") -> psycopg.Connection:
    """An autocommit connection of the superuser. :raises psycopg.OperationalError: the server is away."""
    address = make_conninfo(
        host=settings.host("POSTGRES"),
        port=settings.port("POSTGRES"),
        user="postgres",
        password=settings.secret("POSTGRES_PASSWORD"),
        dbname=database,
        **security.postgres_parameters(settings),
    )
    return psycopg.connect(address, connect_timeout=5, autocommit=True)


def _configure(settings: Settings) -> None:
    # only an image's entrypoint, which makes its databases before it listens, needs a socket
    in_container = bool(settings.option("LISTEN"))
    values = {
        "LISTEN": settings.listen("POSTGRES"),
        **security.postgres_server(settings),
        "SOCKETS": "/var/run/postgresql" if in_container else "",
        "NETWORK": "samenet" if in_container else f"{LOOPBACK}/32",
        "LOCAL": "local   all          all                  scram-sha-256\n" if in_container else "",
    }
    for name in ("postgresql.conf", "pg_hba.conf"):
        render(settings.conf / "postgres" / f"{name}.in", settings.rendered_conf / "postgres" / name, values)


def _prepare(settings: Settings) -> None:
    _unpack(settings)
    data = home(settings) / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(settings, data)
    rendered = settings.rendered_conf / "postgres"
    _write_owned(data / "tallyclerk.conf", (rendered / "postgresql.conf").read_text())
    if certificates := security.tls_folder(settings):
        _write_owned(data / "postgres.pem", (certificates / "postgres.pem").read_text())
    _write_owned(data / "pg_hba.conf", (rendered / "pg_hba.conf").read_text())


def _unpack(settings: Settings) -> None:
    target = home(settings) / "dist"
    stamp = target / ".pom"
    wanted = (settings.jars("postgres") / ".pom").read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (jar,) = settings.jars("postgres").glob("embedded-postgres-binaries-*.jar")
    with zipfile.ZipFile(jar) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".txz")]
        with archive.open(member) as stream, tarfile.open(fileobj=stream, mode="r|xz") as tar:
            tar.extractall(target, filter="data")
    for folder in (home(settings), target):
        folder.chmod(0o755)
    stamp.write_text(wanted)


def _initialise(settings: Settings, data: Path) -> None:
    # a draft, renamed when complete: an interrupted initdb is not taken for a database
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    _give(draft)
    with _password_file(settings) as password_file:
        command = [str(home(settings) / "dist" / "bin" / "initdb"), "-D", str(draft), "-U", "postgres", "-E", "UTF8"]
        command += ["--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={password_file}"]
        done = subprocess.run(as_server_user(command), capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        raise StackError(f"initdb failed: {done.stderr.strip()}")
    with (draft / "postgresql.conf").open("a") as stream:
        stream.write("include 'tallyclerk.conf'\n")
    draft.rename(data)


@contextlib.contextmanager
def _password_file(settings: Settings) -> Iterator[Path]:
    path = home(settings) / "superuser"
    path.unlink(missing_ok=True)
    _write_owned(path, settings.secret("POSTGRES_PASSWORD") + "\n")
    try:
        yield path
    finally:
        path.unlink()


def _write_owned(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    _give(path)


def _give(path: Path) -> None:
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def _command(settings: Settings) -> list[str]:
    server = str(home(settings) / "dist" / "bin" / "postgres")
    return as_server_user([server, "-D", str(home(settings) / "data"), "-p", str(settings.port("POSTGRES"))])


def _answers(settings: Settings, since: float) -> bool:
    try:
        with connect(settings) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise StackError(
                f"PostgreSQL refuses the password of .env: it does not belong to the data in {home(settings)}; "
                "bring back the former .env, or delete the data with make reset"
            ) from error
        return False
    return True


def ensure_database(settings: Settings, name: str, secret: str) -> None:
    """A database `name`, owned by a role of its name whose password is the secret's value now; idempotent."""
    with connect(settings) as connection:
        role, password = sql.Identifier(name), sql.Literal(settings.secret(secret))
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))


def make_databases(settings: Settings) -> None:
    """Airflow's and the shop's database, with their roles; idempotent."""
    for name, secret in DATABASES.items():
        ensure_database(settings, name, secret)
    with connect(settings) as connection:
        # reads its own changes through a slot
        connection.execute("ALTER ROLE retail REPLICATION")


POSTGRES = Service(
    name="postgres",
    group="postgres",
    maven=("postgres",),
    ports=("POSTGRES",),
    configure=_configure,
    prepare=_prepare,
    command=_command,
    healthy=_answers,
    complete=make_databases,
    # fast shutdown: open transactions are rolled back, clients are sent away
    stop_signal=signal.SIGINT,
    memory_mb=120,
)
