"""How the shop's API misbehaves, on request: the switches that tests throw.

A plan is posted to ``/_faults`` and replaces the former one. Its steps name the data requests they strike, counted from 1
since the plan was posted; a request may be struck by several. ``GET /_faults`` tells what was asked since then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from include.shop.rows import Rows


class _Step(BaseModel):
    """:param request: the first request that is struck. :param times: how many are, one after the other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: int = Field(ge=1)
    times: int = Field(default=1, ge=1)

    def strikes(self, request: int) -> bool:
        return self.request <= request < self.request + self.times


class Status(_Step):
    """An error answer.

    :param retry_after: seconds; None leaves the header out.
    :param as_date: the header says when instead of how long.
    """

    fault: Literal["status"]
    status: int = Field(ge=300, le=599)
    retry_after: int | None = None
    as_date: bool = False

    def headers(self) -> dict[str, str]:
        if self.retry_after is None:
            return {}
        moment = datetime.now(UTC) + timedelta(seconds=self.retry_after)
        return {"Retry-After": format_datetime(moment, usegmt=True) if self.as_date else str(self.retry_after)}


class Slow(_Step):
    """An answer that comes late."""

    fault: Literal["slow"]
    seconds: float = Field(gt=0, le=600)


class Truncated(_Step):
    """Half an answer.

    :param closes: the connection breaks in mid-body; otherwise the header claims that the half is all.
    """

    fault: Literal["truncated"]
    closes: bool = True


class Repeated(_Step):
    """The answer of the request before, over again."""

    fault: Literal["repeated"]


class Inserted(_Step):
    """New rows appear before the request is answered.

    :param index: in front of which row they come.
    """

    fault: Literal["inserted"]
    index: int = Field(ge=0)
    rows: list[dict[str, object]] = Field(min_length=1)


class Deleted(_Step):
    """Rows vanish before the request is answered.

    :param index: the first of them.
    """

    fault: Literal["deleted"]
    index: int = Field(ge=0)
    count: int = Field(default=1, ge=1)


Step = Annotated[Status | Slow | Truncated | Repeated | Inserted | Deleted, Field(discriminator="fault")]


class Plan(BaseModel):
    """What is to go wrong.

    :param now: the shop's clock, which then stands still; the shop's today follows it.
    :param first_products: the catalogue is only its first so many products.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: list[Step] = Field(default_factory=list)
    now: datetime | None = None
    first_products: int | None = Field(default=None, ge=0)


@dataclass(slots=True)
class Faults:
    """The plan at work, and the requests since it was posted."""

    plan: Plan = field(default_factory=Plan)
    requests: list[str] = field(default_factory=list)
    last_body: bytes = b""

    def strike(self, target: str, rows: Rows | None) -> Iterator[Status | Slow | Truncated | Repeated]:
        """Count one data request, move the rows as the plan says, and yield what else strikes it.

        :param rows: the catalogue that inserts and deletes change.
        """
        self.requests.append(target)
        for step in self.plan.steps:
            if not step.strikes(len(self.requests)):
                continue
            if isinstance(step, Inserted):
                if rows is not None:
                    rows.insert(step.index, [json.dumps(row, separators=(",", ":")).encode() for row in step.rows])
            elif isinstance(step, Deleted):
                if rows is not None:
                    rows.delete(step.index, step.count)
            else:
                yield step
