"""`.env`: the one file that holds secrets. Made at the first start, readable by its owner only, never committed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from stack.errors import SettingError


def _password() -> str:
    # letters and digits only: safe in a URL, a shell and a properties file
    return secrets.token_hex(16)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


_GENERATORS: Mapping[str, Callable[[], str]] = {
    "TALLYCLERK_POSTGRES_PASSWORD": _password,
    "TALLYCLERK_AIRFLOW_DB_PASSWORD": _password,
    "TALLYCLERK_RETAIL_DB_PASSWORD": _password,
    "TALLYCLERK_REGISTRY_DB_PASSWORD": _password,
    "TALLYCLERK_KAFKA_PASSWORD": _password,
    "TALLYCLERK_KAFKA_BROKER_PASSWORD": _password,
    "TALLYCLERK_CASSANDRA_PASSWORD": _password,
    "TALLYCLERK_AIRFLOW_ADMIN_PASSWORD": _password,
    "TALLYCLERK_AIRFLOW_VIEWER_PASSWORD": _password,
    "TALLYCLERK_FERNET_KEY": _fernet_key,
    "TALLYCLERK_JWT_SECRET": _password,
    "TALLYCLERK_API_SECRET_KEY": _password,
    "TALLYCLERK_SHOP_API_KEY": _password,
    "TALLYCLERK_METRICS_TOKEN": _password,
}
SECRET_NAMES = tuple(_GENERATORS)


def ensure_dotenv(path: Path) -> None:
    """Creates `path` (mode 600) or adds the secrets it lacks; what is in it stays as it is.

    :raises SettingError: other users can read the file.
    """
    if path.exists() and path.stat().st_mode & 0o077:
        raise SettingError(f"{path} can be read by other users: chmod 600 {path}")
    if not _missing(path):
        return
    with _only_one(path.parent):
        _add(path, _missing(path))


def _missing(path: Path) -> list[str]:
    present = read_dotenv(path)
    return [name for name in SECRET_NAMES if not present.get(name)]


def _add(path: Path, names: Sequence[str]) -> None:
    if not names:
        return
    text = (
        path.read_text()
        if path.exists()
        else "# Made by the first start. Secrets of this machine's stack: keep it, do not commit it.\n"
    )
    if text and not text.endswith("\n"):
        text += "\n"
    text += "".join(f"{name}={_GENERATORS[name]()}\n" for name in names)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(path)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two commands that add secrets at once must end with the same ones; the lock is the folder's own, it leaves no file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of `path`, none when it does not exist. Lines are `NAME=value` or comments.

    :raises SettingError: a line is neither.
    """
    if not path.exists():
        return {}
    values = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise SettingError(f"{path}, line {number}: expected NAME=value")
        values[name.strip()] = value.strip().strip("'\"")
    return values


def write_secret_files(folder: Path, values: Mapping[str, str]) -> None:
    """A file for each secret, as containers in production are given them: of a folder that only its owner may enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in SECRET_NAMES:
        if not (folder / name).exists():
            # the containers' users are others than the owner of the folder: they are given the files, not the folder
            with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "w") as stream:
                stream.write(values.get(name) or _GENERATORS[name]())


def main(arguments: Sequence[str] | None = None) -> None:
    """`python3 -m stack.dotenv_file [FOLDER]`: makes `.env`, or files in a folder, without anything installed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments:
        write_secret_files(Path(arguments[0]), {})
        print(f"{arguments[0]}: a file for each secret; keep a copy where you keep secrets")
    else:
        ensure_dotenv(Path(".env"))
        print(".env has every secret; keep it, do not commit it")


if __name__ == "__main__":
    main()
