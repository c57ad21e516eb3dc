"""The shop's commands; see ``python -m include.shop --help``. Answers are JSON on standard output."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from time import perf_counter
from typing import Any

from include.shop import environment, trading_days
from include.shop.exceptions import ShopError

API_KEY = "TALLYCLERK_SHOP_API_KEY"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 1 where the shop cannot do it."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ShopError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.shop", description="The demo's shop.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    seed = commands.add_parser("seed", help="write the nightly CSV files and fill the customers' table; safe to repeat")
    extent = seed.add_mutually_exclusive_group()
    extent.add_argument("--days", type=int, metavar="N", help="the last N complete days, beside those already there")
    extent.add_argument("--all", action="store_true", help="the 364 days up to yesterday (the default)")
    seed.add_argument("--only", choices=("sales", "customers"), help="one half of it")
    seed.set_defaults(run=_seed)

    totals = commands.add_parser("totals", help="what a day must come to, computed from the source")
    totals.add_argument("--date", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD")
    totals.set_defaults(run=_totals)

    sold = commands.add_parser("sold", help="what today has come to by now, computed from the source")
    sold.set_defaults(run=_sold)

    change = commands.add_parser(
        "change-customers", help="let customers change, sign up and leave, for readers of changes"
    )
    change.add_argument("--count", type=int, default=20, metavar="N", help="how many changes (default: %(default)s)")
    change.set_defaults(run=_change_customers)

    serve = commands.add_parser("serve", help="the API of products and live sales, until stopped")
    serve.add_argument("--host", default="127.0.0.1", help="the address to bind (default: %(default)s)")
    serve.add_argument("--port", type=int, default=int(environment.setting("TALLYCLERK_SHOP_PORT") or 8070))
    serve.add_argument("--faults", action="store_true", help="open the switches by which tests make it misbehave")
    serve.set_defaults(run=_serve)

    days = commands.add_parser("days", help="the shop's today, yesterday and oldest complete day, and what today shows")
    days.set_defaults(run=_days)
    return parser


def _seed(options: argparse.Namespace) -> None:
    days = trading_days.current()
    if options.only != "customers":
        from include.shop import landing

        start = perf_counter()
        export = landing.export_days(days, environment.landing_folder(), options.days)
        _answer(
            landing=str(export.folder),
            yesterday=days.yesterday,
            written=len(export.written),
            kept=len(export.kept),
            removed=len(export.removed),
            rows_written=export.rows,
            seconds=round(perf_counter() - start, 1),
        )
    if options.only != "sales":
        from include.shop import change_capture, customers

        start = perf_counter()
        seeded = customers.seed_customers(environment.database_conninfo(), days)
        published = change_capture.publish_changes(environment.database_conninfo())
        _answer(
            table="public.customers",
            **asdict(seeded),
            publication="made" if published else "kept",
            seconds=round(perf_counter() - start, 1),
        )


def _change_customers(options: argparse.Namespace) -> None:
    from include.shop.customer_changes import change_customers

    _answer(**asdict(change_customers(environment.database_conninfo(), options.count)))


def _totals(options: argparse.Namespace) -> None:
    from include.shop.totals import day_totals

    _answer(**asdict(day_totals(options.date)))


def _sold(_: argparse.Namespace) -> None:
    from include.shop.totals import sold_until

    now = datetime.combine(trading_days.current().today, datetime.now(UTC).time())
    totals = sold_until(now).values()
    amount = sum((spent.total for spent in totals), Decimal("0.00"))
    _answer(
        date=now.date(),
        until=now.time().isoformat("seconds"),
        sales=sum(spent.count for spent in totals),
        amount=amount,
    )


def _days(_: argparse.Namespace) -> None:
    days = trading_days.current()
    shows = asdict(trading_days.showing(days.today))
    _answer(today=days.today, yesterday=days.yesterday, first_day=days.first_day, today_shows=shows)


def _serve(options: argparse.Namespace) -> None:
    from include.shop import api

    api.serve(
        host=options.host, port=options.port, api_key=environment.setting(API_KEY) or "", with_faults=options.faults
    )


def _answer(**facts: Any) -> None:
    print(json.dumps(facts, default=str), flush=True)


if __name__ == "__main__":
    sys.exit(main())
