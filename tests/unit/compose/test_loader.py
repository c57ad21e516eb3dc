"""All variants by compose's own loader, with nothing in the environment but what production asks for.

The other tests here read the files by rules of our own (`variants.py`), which could be wrong where the loader is right: an anchor that
is merged otherwise, a variable that is required without our seeing it. The loader is a Go module and is built where the tests run: a
few seconds once Go has it in its cache, one to three minutes the first time. A machine without Go is not let off: what was not
checked is not passed, so the test fails there and says what to do. It is the one thing in `make test` that needs Go.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stack.dotenv_file import SECRET_NAMES
from stack.settings import ROOT


def load(root: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(root / "scripts" / "compose-config.sh")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_composes_own_loader_takes_every_variant_and_refuses_production_without_its_variables() -> None:
    done = load(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["base", "dev", "test", "prod", "secrets", "prod"]
    assert f"none of {len(SECRET_NAMES)} is in the output" in lines[-2]
    assert lines[-1] == "prod: refused without any of 5 required variables"


@pytest.mark.parametrize(
    ("file", "former", "broken", "finding"),
    [
        ("docker-compose.yaml", "KAFKA_LOG4J_OPTS: ", "LEAK: ${TALLYCLERK_KAFKA_PASSWORD}\n      KAFKA_LOG4J_OPTS: ", "a secret stands"),
        ("docker-compose.prod.yaml", "TALLYCLERK_SHOP_URL:?", "TALLYCLERK_SHOP_URL:-", "starts without TALLYCLERK_SHOP_URL"),
        ("docker-compose.dev.yaml", "services:", "servces:", "servces"),
    ],
)  # fmt: skip
def test_a_broken_copy_is_refused(tmp_path: Path, file: str, former: str, broken: str, finding: str) -> None:
    for name in ("docker-compose*.yaml", "scripts/compose-config.sh", "stack/dotenv_file.py"):
        for source in ROOT.glob(name):
            (tmp_path / source.relative_to(ROOT).parent).mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / source.relative_to(ROOT))
    text = (tmp_path / file).read_text()
    assert former in text
    (tmp_path / file).write_text(text.replace(former, broken, 1))
    done = load(tmp_path)
    assert done.returncode != 0
    assert finding in done.stderr
