"""The shop's API, as the demo's source of products and live sales."""

from __future__ import annotations

from stack.health import get_json
from stack.service import Service
from stack.settings import Settings


def url(settings: Settings) -> str:
    return f"http://{settings.address('SHOP')}"


def _command(settings: Settings) -> list[str]:
    python = str(settings.root / ".venv" / "bin" / "python")
    return [
        python,
        "-m",
        "include.shop",
        "serve",
        "--host",
        settings.listen("SHOP"),
        "--port",
        str(settings.port("SHOP")),
    ]


def _environment(settings: Settings) -> dict[str, str]:
    # the key goes by the environment: a command line is for everyone to read
    return {"PYTHONPATH": str(settings.root), "TALLYCLERK_SHOP_API_KEY": settings.secret("SHOP_API_KEY")}


def _serves(settings: Settings, since: float) -> bool:
    answer = get_json(f"{url(settings)}/health")
    return isinstance(answer, dict) and answer.get("status") == "ok"


SHOP = Service(
    name="shop",
    group="shop",
    ports=("SHOP",),
    command=_command,
    environment=_environment,
    healthy=_serves,
    memory_mb=130,
    url=lambda settings: f"{url(settings)}/health",
)
