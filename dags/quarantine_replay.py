"""Rejected records of a day, mended: corrections are kept, the day is loaded again with them, and its ledger closes anew.

A correction is the record as it ought to have been delivered. It is kept in `/data/corrections/<dataset>` and applied at each
later load of the day, so that whoever runs the day again gets the same rows. `retail_daily` does the loading, KPIs, Cassandra and
reconciliation included, with its own settings. Then as many records were read as before, fewer are rejected, more are written.

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
| `dataset`, `date` | the contract's name, the day (UTC) |
| `source` | the file, by URI or by name, as in quarantine; may be left out where one file of the day has such a rejected record |
| `record_number` | as in quarantine |
| `text` | the whole record, in the file's dialect; `null` gives the record up: it is counted as filtered from then on |
| `corrections` | none at all: the day is only loaded again, after its contract or its source was mended |
| `note` | why, for those who ask later |

The task `ledger_closes` returns `{"window", "before", "after", "open", "corrections"}`; it fails where a corrected record is still wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param

from tallyclerk.operators.replay import CheckReplayOperator, RecordCorrectionsOperator
from tallyclerk.retries import DEFAULT_RETRY_POLICY

CORRECTION = {
    "type": "object",
    "properties": {
        "source": {"type": "string"},
        "record_number": {"type": "integer", "minimum": 1},
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

    record >> load >> check
