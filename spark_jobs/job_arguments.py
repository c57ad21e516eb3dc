"""Arguments that every job of a day takes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from spark_jobs.days import DayRange, add_day_arguments, day_range
from spark_jobs.receipts import Receipt


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a job is asked to do, and under which names it signs."""

    window: DayRange
    lake: str = "/data"
    load_id: str = field(default_factory=lambda: str(uuid4()))
    contract_version: str = ""

    def signed(
        self,
        receipt: Receipt,
        *,
        sources: tuple[dict[str, Any], ...],
        fingerprint: str,
        cursor: dict[str, Any] | None = None,
    ) -> Receipt:
        return replace(
            receipt,
            load_id=self.load_id,
            contract_version=self.contract_version,
            sources=sources,
            fingerprint=fingerprint,
            cursor=cursor or {},
        )


def day_job_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_day_arguments(parser)
    parser.add_argument("--lake", default="/data", help="the folder of raw/, processed/ and enriched/ (default: /data)")
    parser.add_argument("--load-id", default=None, help="the attempt's id in receipts (default: a new one)")
    parser.add_argument("--contract-version", default="", help="stands in the receipts")
    return parser


def day_job_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> JobOptions:
    return JobOptions(
        window=day_range(parser, arguments),
        lake=arguments.lake,
        load_id=arguments.load_id or str(uuid4()),
        contract_version=arguments.contract_version,
    )
