"""Templates: everything is escaped, and a name that a page does not know is an error."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape
from starlette.templating import Jinja2Templates

from tallyclerk import __version__
from tallyclerk.core.shown_text import one_line

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.responses import Response

_LONGEST_CELL = 300


@cache
def _templates() -> Jinja2Templates:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, moment=moment, age=age, cut=cut, size=size, breakable=breakable)
    environment.globals["version"] = __version__
    return Jinja2Templates(env=environment)


def render(request: Request, template: str, *, status_code: int = 200, **values: Any) -> Response:
    """A page or a part of one."""
    values |= {"base": request.scope["root_path"], "airflow": airflow_base(request), "now": datetime.now(UTC)}
    return _templates().TemplateResponse(request, template, values, status_code=status_code)


def airflow_base(request: Request) -> str:
    """The path below which Airflow is served, "" at a host's root."""
    return str(request.scope["root_path"]).rpartition("/")[0]


def number(value: float) -> str:
    return f"{value:,}"


def moment(value: datetime | None) -> str:
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def age(value: datetime | None, now: datetime) -> str:
    """How long ago, in the largest fitting unit: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    if value is None:
        return ""
    seconds = max((now - value).total_seconds(), 0)
    for limit, unit, length in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:,.0f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def cut(value: object, longest: int = _LONGEST_CELL) -> str:
    return one_line(value, longest)


def breakable(value: object) -> Markup:
    """With places after its commas and slashes where a line may end: a range of offsets is one long word."""
    text = str(escape(str(value)))
    return Markup(text.replace(",", ",<wbr>").replace("/", "/<wbr>"))  # noqa: S704 - escaped
