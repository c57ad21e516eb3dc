"""`.env`: made once, private, and never overwritten."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from stack.dotenv_file import SECRET_NAMES, ensure_dotenv, read_dotenv, write_secret_files
from stack.errors import SettingError
from stack.settings import ROOT


def test_first_start_makes_a_private_file_with_every_secret(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    ensure_dotenv(path)
    assert path.stat().st_mode & 0o777 == 0o600
    values = read_dotenv(path)
    assert set(SECRET_NAMES) == set(values)
    assert len(set(values.values())) == len(SECRET_NAMES)
    assert len(base64.urlsafe_b64decode(values["TALLYCLERK_FERNET_KEY"])) == 32


def test_second_start_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    ensure_dotenv(path)
    before = path.read_text()
    ensure_dotenv(path)
    assert path.read_text() == before


def test_missing_secrets_are_added_when_the_user_wrote_the_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nTALLYCLERK_HDFS_PORT=18020\nTALLYCLERK_JWT_SECRET='kept'")
    path.chmod(0o600)
    ensure_dotenv(path)
    values = read_dotenv(path)
    assert values["TALLYCLERK_HDFS_PORT"] == "18020"
    assert values["TALLYCLERK_JWT_SECRET"] == "kept"
    assert path.read_text().startswith("# mine\n")
    assert set(SECRET_NAMES) <= set(values)


def test_refuses_when_others_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("")
    path.chmod(0o644)
    with pytest.raises(SettingError, match="chmod 600"):
        ensure_dotenv(path)


def test_a_line_that_is_no_assignment_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\n\nnonsense\n")
    with pytest.raises(SettingError, match="line 3"):
        read_dotenv(path)


def test_values_may_hold_equals_signs(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("KEY=abc=\n")
    assert read_dotenv(path) == {"KEY": "abc="}


@pytest.mark.parametrize(
    "content", [None, "TALLYCLERK_JWT_SECRET=kept\n"], ids=["no file", "a file of an earlier version"]
)
def test_all_agree_when_many_start_at_once(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / ".env"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    program = "import sys; from pathlib import Path; from stack.dotenv_file import *; p = Path(sys.argv[1]); ensure_dotenv(p); print(read_dotenv(p))"
    starts = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    answers = {start.communicate()[0] for start in starts}
    assert len(answers) == 1
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


def test_a_file_for_each_secret_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    write_secret_files(folder, {"TALLYCLERK_JWT_SECRET": "known"})
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(first) == set(SECRET_NAMES)
    assert first["TALLYCLERK_JWT_SECRET"] == "known"
    assert folder.stat().st_mode & 0o077 == 0
    write_secret_files(folder, {})
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
