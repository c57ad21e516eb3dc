"""Each lack is named with its remedy, and nothing else is."""

from pathlib import Path

import pytest

from stack import doctor
from stack.doctor import Finding
from stack.machine import Listener
from stack.services import SERVICES

HOME = Path("/srv/tallyclerk")
PROGRAMS = {"mvn": "/usr/bin/mvn", "make": "/usr/bin/make", "bash": "/bin/bash", "setpriv": "/usr/bin/setpriv"}


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    assert finding.remedy
    return finding


@pytest.mark.parametrize("version", [(3, 10), (3, 13)])
def test_python_outside_the_range_is_a_lack(version: tuple[int, int]) -> None:
    assert f"{version[0]}.{version[1]}" in only(list(doctor.check_python(version))).what


def test_a_missing_browser_is_only_noted_with_its_package() -> None:
    finding = only(list(doctor.check_browser(None)))
    assert not finding.is_lack
    assert "chromium" in finding.remedy
    assert not list(doctor.check_browser("/usr/bin/chromium"))


def test_fitting_python_is_fine() -> None:
    assert not list(doctor.check_python((3, 12)))


def test_missing_java_names_the_package() -> None:
    assert "openjdk-17-jre-headless" in only(list(doctor.check_java({}))).remedy


def test_java_21_alone_is_not_enough_and_is_named() -> None:
    assert "/opt/21/bin/java is 21" in only(list(doctor.check_java({"/opt/21/bin/java": 21}))).what


def test_java_17_beside_others_is_fine() -> None:
    assert not list(doctor.check_java({"/opt/21/bin/java": 21, "/opt/17/bin/java": 17}))


@pytest.mark.parametrize("program", ["mvn", "make"])
def test_missing_program_is_named(program: str) -> None:
    finding = only(list(doctor.check_programs({**PROGRAMS, program: None}, uid=1000)))
    assert program in finding.what
    assert "apt install" in finding.remedy


def test_setpriv_is_needed_by_root_only() -> None:
    without = {**PROGRAMS, "setpriv": None}
    assert not list(doctor.check_programs(without, uid=1000))
    assert "setpriv" in only(list(doctor.check_programs(without, uid=0))).what


def test_a_stranger_on_a_port_is_named_with_the_variable_to_change() -> None:
    listeners = {8020: Listener(4711, "nc -l 8020")}
    finding = only(list(doctor.check_ports({"TALLYCLERK_HDFS_PORT": 8020}, listeners, home=HOME)))
    assert "4711" in finding.what
    assert "nc -l 8020" in finding.what
    assert "TALLYCLERK_HDFS_PORT" in finding.remedy


def test_another_users_process_on_a_port_is_a_lack_too() -> None:
    finding = only(list(doctor.check_ports({"TALLYCLERK_HDFS_PORT": 8020}, {8020: Listener(None)}, home=HOME)))
    assert "another user" in finding.what


def test_our_own_service_on_its_port_is_fine() -> None:
    listeners = {8020: Listener(4711, "java", f"{HOME}:hdfs-namenode")}
    assert not list(doctor.check_ports({"TALLYCLERK_HDFS_PORT": 8020}, listeners, home=HOME))


def test_another_instances_service_is_a_stranger() -> None:
    listeners = {8020: Listener(4711, "java", "/home/else/.tallyclerk:hdfs-namenode")}
    assert list(doctor.check_ports({"TALLYCLERK_HDFS_PORT": 8020}, listeners, home=HOME))


def test_memory_below_need_is_a_lack_unless_our_services_hold_it() -> None:
    assert "1000 MiB" in only(list(doctor.check_memory(1000, 0))).what
    assert not list(doctor.check_memory(1000, doctor.NEEDED_MEMORY_MIB - 1000))


def test_disk_below_need_is_a_lack() -> None:
    assert "TALLYCLERK_HOME" in only(list(doctor.check_disk(10, 0, home=HOME))).remedy
    assert not list(doctor.check_disk(doctor.NEEDED_DISK_MIB, 0, home=HOME))


def test_a_stale_pid_file_is_a_note_not_a_lack() -> None:
    finding = only(list(doctor.check_pid_files([HOME / "run" / "cassandra.pid"])))
    assert "cassandra" in finding.what
    assert not finding.is_lack


def test_the_memory_asked_for_covers_the_services() -> None:
    assert sum(service.memory_mb for service in SERVICES) < doctor.NEEDED_MEMORY_MIB
