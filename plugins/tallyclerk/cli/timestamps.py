"""Dates as they are typed on a command line."""

from __future__ import annotations

import argparse
from datetime import datetime


def parse_date(text: str) -> datetime:
    """Read a date or a time in ISO 8601; without an offset it is in Airflow's default time zone.

    Raises ``argparse.ArgumentTypeError``, so that the message names the option. Airflow's own reader is not
    enough here: it also takes a bare time or a duration and turns it into today.
    """
    from airflow.settings import TIMEZONE

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date: write YYYY-MM-DD or YYYY-MM-DDTHH:MM[:SS][+HH:MM]"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=TIMEZONE)
