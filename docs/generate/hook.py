"""mkdocs' hook: what stands in the code is put into its pages while the site is built.

A line ``[[name]]`` in a page becomes what ``python -m docs.generate`` prints under that name. That program runs in Airflow's environment,
this hook in the site's, which has no Airflow.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_MARK = re.compile(r"^\[\[([a-z-]+)\]\]$", re.MULTILINE)
_tables: dict[str, str] = {}


def on_pre_build(config: Any) -> None:
    """Read every table once.

    :raises CalledProcessError: the code that they come from does not import; its reason is printed above.
    """
    command = [str(_ROOT / ".venv/bin/python"), "-m", "docs.generate"]
    _tables.update(json.loads(subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables in.

    :raises KeyError: a page names a table that is not made.
    """
    return _MARK.sub(lambda match: _tables[match[1]], markdown)
