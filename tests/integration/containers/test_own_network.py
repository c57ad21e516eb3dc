"""With TALLYCLERK_LISTEN=0.0.0.0, as in containers, services bind every interface, and are reached at the address by which others know them.

They run in a network namespace of their own, as a container does: nobody else on this machine can reach them meanwhile.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from stack.settings import ROOT
from tests.integration.containers import own_network

pytestmark = [pytest.mark.integration, pytest.mark.long]


def test_services_of_a_container_answer_at_its_own_address(tmp_path: Path) -> None:
    program = shlex.join([sys.executable, "-m", own_network.__name__, str(tmp_path / "home")])
    (tmp_path / "home").mkdir()
    setup = f"ip link set lo up && ip address add {own_network.ADDRESS}/32 dev lo && exec {program}"
    # without root: as one in a namespace of its own, too
    as_root = [] if os.getuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        ["unshare", "--net", *as_root, "sh", "-ec", setup], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    everywhere = {service for service, address in found["listeners"] if address in ("0.0.0.0", "::")}
    assert everywhere == set(own_network.SERVICES)
    # the controller talks to itself only
    others = {(service, address.removeprefix("::ffff:")) for service, address in found["listeners"]}
    assert {each for each in others if each[1] not in ("0.0.0.0", "::")} == {("kafka", own_network.ADDRESS)}
    assert (found["root"], found["brokers"], found["taskmanagers"]) == ("DIRECTORY", [own_network.ADDRESS], 0)
