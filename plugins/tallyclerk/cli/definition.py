"""The commands this provider adds to the ``airflow`` command line.

Airflow calls :func:`get_cli_commands` at the start of every ``airflow`` process, so this module only describes:
each command's code is loaded when it is run. A new subcommand is one entry in ``SUBCOMMANDS``.
"""

from __future__ import annotations

import logging

from airflow.cli.cli_config import (
    ARG_VERBOSE,
    ARG_YES,
    ActionCommand,
    Arg,
    CLICommand,
    GroupCommand,
    lazy_load_command,
    positive_int,
)

from tallyclerk.cli.grafting import graft
from tallyclerk.cli.timestamps import parse_date

log = logging.getLogger(__name__)

ARG_DATE = Arg(("--date",), metavar="YYYY-MM-DD", help="one day (UTC)")
ARG_DATE_REQUIRED = Arg(("--date",), metavar="YYYY-MM-DD", required=True, help="the day (UTC)")
ARG_DATASET = Arg(("--dataset",), metavar="NAME", help="one data set")
ARG_DATASET_NAMED = Arg(("dataset",), metavar="DATASET", help="the contract's name")
ARG_LIMIT = Arg(("--limit",), type=positive_int(allow_zero=False), default=20, metavar="N", help="default: %(default)s")
ARG_FORMAT = Arg(("-o", "--output"), choices=("table", "json"), default="table", help="default: %(default)s")

SUBCOMMANDS: tuple[CLICommand, ...] = (
    ActionCommand(
        name="load-settings",
        help="Write the connections, pools and variables of airflow_settings.yaml into Airflow",
        description=(
            "Write the connections, pools and variables of a settings file (Astro's schema) into Airflow's database.\n"
            "${VAR} and ${VAR:-default} are taken from the environment. Running it again changes nothing."
        ),
        func=lazy_load_command("tallyclerk.cli.load_settings.load_settings"),
        args=(
            Arg(("file",), nargs="?", default="airflow_settings.yaml", metavar="FILE", help="default: %(default)s"),
            ARG_VERBOSE,
        ),
    ),
    ActionCommand(
        name="validate",
        help="Check data contracts offline: every problem at once, with file, line and remedy",
        description=(
            "Check data contracts (ODCS v3.1 documents) offline, and say everything that is wrong at once.\n"
            "Exit codes: 0 all are good, 1 there are findings, 2 a path holds no contract."
        ),
        func=lazy_load_command("tallyclerk.cli.validate.validate"),
        args=(
            Arg(
                ("paths",),
                nargs="*",
                default=["include/contracts"],
                metavar="PATH",
                help="files or folders (default: include/contracts)",
            ),
        ),
    ),
    ActionCommand(
        name="plan",
        help="Show which files a day's loads would read, and what they would do",
        func=lazy_load_command("tallyclerk.cli.plan.plan"),
        args=(
            ARG_DATE_REQUIRED,
            Arg(("--contracts",), default="include/contracts", metavar="DIR", help="default: %(default)s"),
            ARG_VERBOSE,
        ),
    ),
    ActionCommand(
        name="ledger",
        help="Show the newest receipt of each window: every row read is written, rejected, filtered or deduplicated",
        func=lazy_load_command("tallyclerk.cli.ledger.ledger"),
        args=(ARG_DATASET, ARG_DATE, ARG_LIMIT, ARG_FORMAT, ARG_VERBOSE),
    ),
    GroupCommand(
        name="quarantine",
        help="Rejected records",
        subcommands=(
            ActionCommand(
                name="list",
                help="Show rejected records with file, record, column, reason, what was decided, and text",
                func=lazy_load_command("tallyclerk.cli.quarantine.quarantine_list"),
                args=(ARG_DATASET, ARG_DATE, ARG_LIMIT, ARG_FORMAT, ARG_VERBOSE),
            ),
            ActionCommand(
                name="export",
                help="Write a day's rejected records to a file, to be corrected there",
                func=lazy_load_command("tallyclerk.cli.replay.export"),
                args=(
                    ARG_DATASET_NAMED,
                    ARG_DATE_REQUIRED,
                    Arg(("file",), metavar="FILE", help=".csv, or else JSON lines"),
                    ARG_VERBOSE,
                ),
            ),
            ActionCommand(
                name="replay",
                help="Keep corrections of a day's rejected records and load the day again with them; send corrected messages again",
                description=(
                    "Keep corrections of a day's rejected records, load the day again with them, and wait until its ledger closes.\n"
                    "Messages that a stream rejected are sent to their topic again, corrected, each once; its next load takes them.\n"
                    "Without a correction the day is only loaded again, after its contract or its source was mended.\n"
                    "Exit codes: 0 replayed, 1 the run failed or a corrected record is still wrong, 2 refused."
                ),
                func=lazy_load_command("tallyclerk.cli.replay.replay"),
                args=(
                    ARG_DATASET_NAMED,
                    ARG_DATE_REQUIRED,
                    Arg(
                        ("--record",),
                        type=positive_int(allow_zero=True),
                        metavar="N",
                        help="a record, by its number; a message, by its offset",
                    ),
                    Arg(
                        ("--source",),
                        metavar="NAME",
                        help="its file or topic/partition, where several have a record N in quarantine",
                    ),
                    Arg(
                        ("--text",),
                        metavar="TEXT",
                        help="the whole record as it ought to have been delivered; a message as JSON",
                    ),
                    Arg(
                        ("--give-up",),
                        action="store_true",
                        help="Leave the record out; one of a file counts as filtered from now on",
                    ),
                    Arg(
                        ("--corrections",),
                        metavar="FILE",
                        help="many corrections: .csv or .jsonl, as `export` writes them",
                    ),
                    Arg(("--note",), metavar="TEXT", help="why, for those who ask later"),
                    Arg(("-n", "--dry-run"), action="store_true", help="Show what would be corrected, change nothing"),
                    Arg(("--no-wait",), action="store_true", help="Return once the run is queued"),
                    ARG_VERBOSE,
                ),
            ),
        ),
    ),
    ActionCommand(
        name="kpis",
        help="Show the KPIs of both layers (batch where the day is closed): a day's best customers, or a customer's days",
        func=lazy_load_command("tallyclerk.cli.kpis.kpis"),
        args=(ARG_DATE, Arg(("--customer",), metavar="ID", help="one customer"), ARG_LIMIT, ARG_FORMAT, ARG_VERBOSE),
    ),
)

BACKFILL = ActionCommand(
    name="backfill",
    help="Run a DAG for each schedule interval of a range of dates, and wait for the result",
    description=(
        "Run a DAG for each schedule interval of a range of dates, and wait for the result.\n"
        "The scheduler does the work, through Airflow's own backfill. Exit codes: 0 every run of the range succeeded,\n"
        "1 a run failed, 2 refused before anything was started, 130 interrupted (Ctrl-C cancels what has not started)."
    ),
    epilog=(
        "As in Airflow 2, but for: --rerun-failed-tasks reruns all tasks of a failed run; options that chose tasks,\n"
        "a pool or a local executor are gone with the backfill job that Airflow 3 removed."
    ),
    func=lazy_load_command("tallyclerk.cli.backfill.backfill"),
    args=(
        Arg(("dag_id",), metavar="DAG_ID", help="The DAG to run"),
        Arg(("-s", "--start-date"), type=parse_date, metavar="DATE", help="First logical date (default: the end date)"),
        Arg(
            ("-e", "--end-date"),
            type=parse_date,
            metavar="DATE",
            help="Last logical date, inclusive; a bare date is its midnight (default: the start date)",
        ),
        Arg(("-c", "--conf"), metavar="JSON", help="JSON object, the conf of every run"),
        Arg(("-n", "--dry-run"), action="store_true", help="Show what would run, change nothing"),
        Arg(("-B", "--run-backwards"), action="store_true", help="Newest first (not with depends_on_past)"),
        Arg(("--reset-dagruns",), action="store_true", help="Run finished runs of the range again, good or bad (asks)"),
        Arg(("--rerun-failed-tasks",), action="store_true", help="Run failed runs of the range again"),
        Arg(
            ("--max-active-runs",),
            type=positive_int(allow_zero=False),
            metavar="N",
            help="Runs at once (default: the DAG's max_active_runs)",
        ),
        Arg(("--no-wait",), action="store_true", help="Return once the runs are queued"),
        ARG_YES,
        ARG_VERBOSE,
    ),
)


def get_cli_commands() -> list[CLICommand]:
    """Return the group ``airflow tallyclerk`` and, on the way, add ``backfill`` to ``airflow dags``."""
    if refusal := graft("dags", BACKFILL):
        log.warning("`airflow dags backfill` is not available (%s); use `airflow backfill create`.", refusal)
    return [
        GroupCommand(
            name="tallyclerk",
            help="Settings, contracts, ledger and quarantine of Tallyclerk's loads",
            subcommands=SUBCOMMANDS,
        )
    ]
