"""Rejected records of a day, mended: those of files are loaded with their day, and its ledger closes anew; messages are sent again.

A correction is the record as it ought to have been delivered. Of a file it is kept in `/data/corrections/<dataset>` and applied at each
later load of the day, so that whoever runs the day again gets the same rows. `retail_daily` does the loading, KPIs, Cassandra and
reconciliation included, with its own settings. Then as many records were read as before, fewer are rejected, more are written.

A message is sent to its topic again, once, encoded as all others there. The topic's next load takes it, and
`/data/corrections/<dataset>.stream` says where it stands now.

The run's conf:

```json
{
  "dataset": "transactions",
  "date": "2026-01-31",
  "corrections": [
    {"source": "transactions_2026-01-31.csv", "record_number": 7, "text": "1,2,2026-01-31,9.99"},
    {"source": "transactions_2026-01-31.csv", "record_number": 9, "text": null}
  ],
  "note": "the till wrote a comma"
}
```

| | |
|---|---|
| `dataset`, `date` | the contract's name (of a stream that of its quarantine), the day (UTC) |
| `source` | the file, by URI or by name, or `topic/partition`, as in quarantine; may be left out where the number says enough |
| `record_number` | as in quarantine; a message's offset |
| `text` | the whole record, in the file's dialect, or the message as JSON; `null` gives it up: a file's record is counted as filtered from then on |
| `corrections` | none at all: the day is only loaded again, after its contract or its source was mended |
| `note` | why, for those who ask later |

The task `ledger_closes` returns `{"window", "before", "after", "open", "corrections"}`; it fails where a corrected record is still wrong.
`send_messages` returns `{"sent", "given_up"}`; it sends nothing where one of the messages is still wrong. What a run is not about is skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param

from tallyclerk.operators.replay import CheckReplayOperator, RecordCorrectionsOperator
from tallyclerk.operators.replay_messages import ReplayMessagesOperator
from tallyclerk.retries import DEFAULT_RETRY_POLICY

CORRECTION = {
    "type": "object",
    "properties": {
        "source": {"type": "string"},
        "record_number": {"type": "integer", "minimum": 0},
        "text": {"type": ["string", "null"]},
    },
    "required": ["record_number", "text"],
    "additionalProperties": False,
}

with DAG(
    dag_id="quarantine_replay",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=False,
    # each run waits for a run of retail_daily, of which two go on at once
    max_active_runs=2,
    params={
        "dataset": Param("transactions", type="string", pattern="^[A-Za-z0-9_]+$", description="the contract's name"),
        "date": Param(type="string", format="date", description="the day (UTC)"),
        "corrections": Param([], type="array", items=CORRECTION, description="see the DAG's documentation"),
        "note": Param("", type="string", description="why, for those who ask later"),
    },
    tags=["retail", "batch"],
    default_args={
        "owner": "tallyclerk",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_policy": DEFAULT_RETRY_POLICY,
    },
):
    record = RecordCorrectionsOperator(
        task_id="record_corrections",
        dataset="{{ params.dataset }}",
        corrections="{{ params.corrections | tojson }}",
        note="{{ params.note }}",
    )
    load = TriggerDagRunOperator(
        task_id="load_the_day",
        trigger_dag_id="retail_daily",
        conf={"date": "{{ params.date }}"},
        wait_for_completion=True,
        poke_interval=5,
        deferrable=True,
    )
    check = CheckReplayOperator(
        task_id="ledger_closes",
        dataset="{{ params.dataset }}",
        before="{{ ti.xcom_pull(task_ids='record_corrections')['before'] | tojson }}",
    )

    ReplayMessagesOperator(
        task_id="send_messages",
        dataset="{{ params.dataset }}",
        corrections="{{ params.corrections | tojson }}",
        note="{{ params.note }}",
    )

    record >> load >> check
