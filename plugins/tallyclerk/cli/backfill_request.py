"""What ``airflow dags backfill`` was asked for, checked as far as that goes without Airflow's database."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from tallyclerk.exceptions import SpecError


class Reprocess(StrEnum):
    """Which existing runs of the range run again; the values are Airflow's ``ReprocessBehavior``."""

    NONE = "none"
    FAILED = "failed"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """The arguments, with their defaults filled in; both dates are inclusive logical dates."""

    dag_id: str
    start: datetime
    end: datetime
    conf: dict[str, Any] | None = None
    newest_first: bool = False
    reprocess: Reprocess = Reprocess.NONE
    max_active_runs: int | None = None

    @classmethod
    def from_arguments(cls, args: Namespace) -> BackfillRequest:
        """Read parsed arguments.

        :raises SpecError: no date, the end before the start, or a conf that is not a JSON object.
        """
        start, end = args.start_date or args.end_date, args.end_date or args.start_date
        if start is None or end is None:
            raise SpecError("backfill needs a range of dates: give --start-date, --end-date or both")
        if end < start:
            raise SpecError(f"the end date {end.isoformat()} is before the start date {start.isoformat()}: swap them")
        reprocess = Reprocess.FAILED if args.rerun_failed_tasks else Reprocess.NONE
        return cls(
            dag_id=args.dag_id,
            start=start,
            end=end,
            conf=_parse_conf(args.conf),
            newest_first=args.run_backwards,
            reprocess=Reprocess.COMPLETED if args.reset_dagruns else reprocess,
            max_active_runs=args.max_active_runs,
        )

    def command_line(self, *options: str) -> str:
        """Return the command that asks for the same range with other options, for messages."""
        dates = f"-s {self.start.isoformat()} -e {self.end.isoformat()}"
        return " ".join(("airflow dags backfill", self.dag_id, dates, *options))


def _parse_conf(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        conf = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(
            f"--conf is not JSON ({error.msg}, column {error.colno}): quote it as '{{\"key\": 1}}'"
        ) from None
    if not isinstance(conf, dict):
        raise SpecError("--conf must be a JSON object, as '{\"key\": 1}'")
    return conf
