"""``airflow tallyclerk quarantine replay`` and ``export``: mend what was rejected, and have it loaded or sent again."""

from __future__ import annotations

import csv
import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from tallyclerk.cli.console import EXIT_FAILED, EXIT_OK, command
from tallyclerk.cli.lake import print_table
from tallyclerk.core.correction import AskedCorrection
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.connections import connections
from tallyclerk.hooks.lake import lake_root
from tallyclerk.operators.replay import REPLAY_DAG
from tallyclerk.sinks.message_corrections import MessageCorrections, record_of
from tallyclerk.sinks.quarantine import Quarantine, finding_of
from tallyclerk.sinks.quarantined_messages import QuarantinedMessage, messages_of_day
from tallyclerk.transfers.message_replay import MessageTexts

_POLL_INTERVAL_SECONDS = 2.0
_FIELDS = ("source", "record_number", "text", "reason")


@command
def replay(args: Namespace) -> int:
    """Start the DAG that keeps corrections of files and loads their day again, and sends messages; its outcome is the exit code."""
    window = Window.of_day(args.date)
    records = _records(args.dataset, window, readable=bool(args.corrections))
    stated = _stated(args, {(record["source"], record["record_number"]): record["text"] for record in records})
    asked = AskedCorrection.read_all(stated)
    unknown = [
        each for each in asked if not any(each.is_of(record["source"], record["record_number"]) for record in records)
    ]
    if unknown and args.dry_run:
        listed = ", ".join(str(each.record_number) for each in unknown)
        raise SpecError(f"Not in the day's quarantine: record {listed}. See `airflow tallyclerk quarantine list`.")
    print(f"{args.dataset}@{window.key}: {len(records)} records in quarantine, {len(asked)} corrections")
    if args.dry_run:
        print_table(["record_number", "text"], ([str(each.record_number), each.text or "given up"] for each in asked))
        return EXIT_OK
    run_id = _trigger({"dataset": args.dataset, "date": window.key, "corrections": stated, "note": args.note or ""})
    print(f"{REPLAY_DAG} {run_id} is queued")
    return EXIT_OK if args.no_wait else _wait(run_id)


@command
def export(args: Namespace) -> int:
    """Write a day's rejected records to a file to edit, one a record; what is left as it is is no correction.

    Messages that were replayed or given up are left out.
    """
    records = _records(args.dataset, Window.of_day(args.date), readable=True)
    path = Path(args.file)
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, _FIELDS)
            writer.writeheader()
            writer.writerows(records)
        else:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    print(f"{len(records)} records in {path}; edit their text and pass it to `quarantine replay --corrections`")
    return EXIT_OK


def read_corrections(path: Path, rejected: dict[tuple[str, int], str]) -> list[dict[str, Any]]:
    """The corrections of a ``.csv`` (an empty text gives the record up) or ``.jsonl`` file.

    :param rejected: the text of each record by source and number; a record that still has it is left out.
    :raises SpecError: the file cannot be read as one of the two.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                rows: list[dict[str, Any]] = [
                    {**row, "record_number": int(row["record_number"]), "text": row["text"] or None}
                    for row in csv.DictReader(file)
                ]
            else:
                rows = [json.loads(line) for line in file if line.strip()]
        if other := [row for row in rows if not isinstance(row, dict)]:
            raise TypeError(f"{other[0]!r} is no JSON object")
        read = [{name: row[name] for name in _FIELDS[:3] if name in row} for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"{path} cannot be read as corrections ({error}); write .csv with the columns source, record_number and text, or .jsonl "
            "with these keys, as `airflow tallyclerk quarantine export` does."
        ) from error
    return [
        row for row in read if rejected.get((row.get("source", ""), row.get("record_number", 0))) != row.get("text")
    ]


def _stated(args: Namespace, rejected: dict[tuple[str, int], str]) -> list[dict[str, Any]]:
    if args.corrections:
        if args.record is not None:
            raise SpecError("Give --record with --text or --give-up, or --corrections; not both.")
        return read_corrections(Path(args.corrections), rejected)
    if args.record is None:
        return []
    if (args.text is None) != args.give_up:
        raise SpecError("--record needs --text, the whole record as it ought to be, or --give-up.")
    return [{"record_number": args.record, "text": args.text, **({"source": args.source} if args.source else {})}]


def _records(dataset: str, window: Window, *, readable: bool) -> list[dict[str, Any]]:
    """The day's quarantined records, one entry each with all its reasons: those of files, then messages.

    :param readable: messages as text that can be edited, for which the registry is asked.
    """
    root = lake_root()
    rows, _ = Quarantine(f"{root}/data/quarantine/{dataset}", dataset=dataset).of_window(window)
    records: dict[tuple[str, int], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["source"], row["record_number"])):
        reason = finding_of(row)
        record = records.setdefault(
            (row["source"], row["record_number"]),
            dict(zip(_FIELDS, (row["source"], row["record_number"], row["raw_text"], ""), strict=True)),
        )
        record["reason"] = "; ".join(filter(None, (record["reason"], reason)))
    messages, texts = _open_messages(root, dataset, window), MessageTexts()
    with connections():
        told = [
            (each.source, each.offset, texts.text_of(each) if readable else each.raw_text, each.reason)
            for each in messages
        ]
    return [*records.values(), *(dict(zip(_FIELDS, each, strict=True)) for each in told)]


def _open_messages(root: str, dataset: str, window: Window) -> list[QuarantinedMessage]:
    """The day's messages that are neither replayed nor given up."""
    name = f"{dataset}.stream"
    messages = messages_of_day(f"{root}/data/quarantine/{name}", window)
    if not messages:
        return []
    done = MessageCorrections(f"{root}/data/corrections/{name}", dataset=name).of_day(window)
    return [message for message in messages if record_of(message) not in done]


def _trigger(conf: dict[str, Any]) -> str:
    """:raises SpecError: Airflow does not know the DAG, or it is paused: a run would never begin."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagNotFound
    from airflow.models import DagModel
    from airflow.utils.platform import getuser
    from airflow.utils.types import DagRunTriggeredByType

    model = DagModel.get_current(REPLAY_DAG)
    if model is not None and model.is_paused:
        raise SpecError(f"The DAG {REPLAY_DAG} is paused; run `airflow dags unpause {REPLAY_DAG}`.")
    try:
        run = trigger_dag(REPLAY_DAG, triggered_by=DagRunTriggeredByType.CLI, triggering_user_name=getuser(), conf=conf)
    except DagNotFound:
        raise SpecError(f"Airflow does not know the DAG {REPLAY_DAG}; see `airflow dags list-import-errors`.") from None
    if run is None:
        raise SpecError(f"Airflow made no run of {REPLAY_DAG}.")
    return str(run.run_id)


def _wait(run_id: str) -> int:
    """Until the run is over; what its tasks have raised stands in their logs."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    while True:
        with create_session() as session:
            run = session.scalar(select(DagRun).where(DagRun.dag_id == REPLAY_DAG, DagRun.run_id == run_id))
            state = None if run is None else str(run.state)
            failed = [] if run is None else [ti.task_id for ti in run.task_instances if str(ti.state) == "failed"]
        if state == "success":
            print(
                "replayed; `airflow tallyclerk ledger` shows a day's new receipt; messages come with their topic's next load"
            )
            return EXIT_OK
        if state not in ("queued", "running"):
            print(
                f"the run {run_id} is {state or 'deleted'}"
                + (f": see the log of {', '.join(failed)}" if failed else "")
            )
            return EXIT_FAILED
        time.sleep(_POLL_INTERVAL_SECONDS)
