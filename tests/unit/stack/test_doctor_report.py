"""`python -m stack.doctor` where something is really missing: it says what, how to mend it, and ends with 1."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stack.settings import LOOPBACK, PORTS, ROOT
from tests.second_stack import free_ports

# folders that a test cannot empty or limit are named by it: where distributions put Java, where the kernel keeps limits of memory
PROGRAM = """
import sys
from pathlib import Path
from stack import doctor, java, machine
java.INSTALLED, machine.CGROUPS, machine.OUR_CGROUPS = map(Path, sys.argv[1:])
sys.exit(doctor.report(doctor.load_settings(make_secrets=False)))
"""


class Doctor:
    """A machine whose ports are free, whose memory has no limit, and which has every program, until a test changes that."""

    def __init__(self, folder: Path) -> None:
        self.installed, self.cgroups, self.bin = folder / "jvm", folder / "cgroup", folder / "bin"
        self.ours = folder / "ours"
        self.ours.write_text("")
        for each in (self.installed, self.cgroups, self.bin):
            each.mkdir()
        self.environ = {
            **{name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)},
            **{name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ},
            "TALLYCLERK_HOME": str(folder / "home"), "TALLYCLERK_ENV_FILE": str(folder / "none"),
        }  # fmt: skip

    def report(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, str(self.installed), str(self.cgroups), str(self.ours)]
        return subprocess.run(command, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False)

    def lacks(self) -> dict[str, str]:
        """Remedy by what is missing; disk and memory that this machine itself may lack are left out, unless limited here."""
        done = self.report()
        assert not done.stderr
        found = dict(re.findall(r"^LACK  (.+)\n      → (.+)$", done.stdout, re.MULTILINE))
        assert done.returncode == (1 if found else 0)
        return {what: remedy for what, remedy in found.items() if "of disk" not in what}


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


def test_a_machine_without_java_is_told_which_to_install(doctor: Doctor) -> None:
    # every program of PATH but Java's
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in ("mvn", "make", "bash", "setpriv"):
            if (Path(folder) / program).exists() and not (doctor.bin / program).exists():
                (doctor.bin / program).symlink_to(Path(folder) / program)
    doctor.environ |= {"PATH": str(doctor.bin)}
    doctor.environ.pop("JAVA_HOME", None)
    (lack,) = [(what, remedy) for what, remedy in doctor.lacks().items() if "Java" in what]
    assert lack[0].startswith("no Java 17 (found: none)")
    assert "apt install openjdk-17-jre-headless" in lack[1]


def test_a_taken_port_is_named_with_who_has_it_and_the_variable_to_change(doctor: Doctor) -> None:
    assert not [what for what in doctor.lacks() if "port" in what]
    with socket.socket() as taken:
        taken.bind((LOOPBACK, int(doctor.environ["TALLYCLERK_SHOP_PORT"])))
        taken.listen()
        (lack,) = [(what, remedy) for what, remedy in doctor.lacks().items() if "port" in what]
    assert f"port {doctor.environ['TALLYCLERK_SHOP_PORT']} is taken by pid {os.getpid()} (" in lack[0]
    assert "set TALLYCLERK_SHOP_PORT to a free port in .env" in lack[1]


GIB = 1 << 30


@pytest.mark.parametrize(
    ("ours", "folder", "limit", "usage", "cache"),
    [
        ("0::/a/b", "a", "memory.max", "memory.current", "inactive_file"),
        (
            "4:cpu,memory:/of/the/host",
            "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_little_memory_below_a_containers_limit_is_told_with_what_to_lower(
    doctor: Doctor, ours: str, folder: str, limit: str, usage: str, cache: str
) -> None:
    doctor.ours.write_text(f"7:pids:/\n{ours}\n")
    group = doctor.cgroups / folder
    group.mkdir(exist_ok=True)
    (group / limit).write_text(f"{4 * GIB}\n")
    (group / usage).write_text(f"{3 * GIB}\n")
    (group / "memory.stat").write_text(f"anon 1\n{cache} {GIB // 2}\n")
    (lack,) = [(what, remedy) for what, remedy in doctor.lacks().items() if "memory" in what]
    assert lack[0].startswith("1536 MiB of memory are available, ")
    assert "TALLYCLERK_CASSANDRA_HEAP" in lack[1]


def test_a_group_without_a_limit_takes_nothing_away(doctor: Doctor) -> None:
    doctor.ours.write_text("0::/\n")
    (doctor.cgroups / "memory.current").write_text(f"{3 * GIB}\n")
    (doctor.cgroups / "memory.max").write_text(f"{3 * GIB}\n")
    (doctor.cgroups / "memory.stat").write_text("anon 1\n")
    assert any(what.startswith("0 MiB of memory") for what in doctor.lacks())
    (doctor.cgroups / "memory.max").write_text("max\n")
    assert not any(what.startswith("0 MiB of memory") for what in doctor.lacks())
