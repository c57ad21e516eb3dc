"""Every variable of the stack: ports, addresses, options and secrets, from ``stack/settings.py`` and ``.env.example``."""

from __future__ import annotations

from docs.generate.tables import table
from stack.dotenv_file import SECRET_NAMES
from stack.settings import HOSTS, LOOPBACK, OPTIONS, PORTS, ROOT


def markdown() -> str:
    """Four tables; an option's meaning is the comment above it in ``.env.example``."""
    notes = _comments()
    per_machine = {"TALLYCLERK_SPARK_WORKER_CORES": "one per core"}
    return "\n\n".join(
        (
            "### Ports",
            table(("variable", "default"), ((f"`{name}`", str(port)) for name, port in PORTS.items())),
            "### Addresses",
            f"Under which name the others reach a service; `{LOOPBACK}` unless set.",
            ", ".join(f"`{name}`" for name in HOSTS) + ".",
            "### Options",
            table(
                ("variable", "default", "is"),
                (
                    (f"`{name}`", per_machine.get(name, value) or "none", notes.get(name, ""))
                    for name, value in OPTIONS.items()
                ),
            ),
            "### Secrets",
            "Made by the first start, in `.env`; `TALLYCLERK_SECRETS` names a folder with a file of each instead.",
            ", ".join(f"`{name}`" for name in SECRET_NAMES) + ".",
        )
    )


def _comments() -> dict[str, str]:
    """The comment that stands right above each variable, or above the one before it."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in (ROOT / ".env.example").read_text().splitlines():
        if line.startswith("#TALLYCLERK_"):
            found[line[1:].split("=", 1)[0]] = " ".join(comment)
        elif line.startswith("# ") and not line.startswith("# ---"):
            comment = [line[2:]]
        else:
            comment = []
    return found
