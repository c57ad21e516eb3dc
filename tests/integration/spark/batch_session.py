"""One warm Spark session that runs the batch jobs as a test asks: JSON lines in, one JSON line a run out.

Started with Spark's own Python, because a spark-submit for each step of a history would cost minutes.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import Any

from spark_jobs import load_csv, retail_batch
from spark_jobs.clean_transactions import ArrivalBounds, clean
from spark_jobs.csv_spec import read_spec
from spark_jobs.days import DayRange
from spark_jobs.failures import ContentionError, JobError
from spark_jobs.job_arguments import JobOptions
from spark_jobs.lake import Lake, open_session
from spark_jobs.sales_columns import CUSTOMER_KPIS
from tests.integration.spark.creation_race import make_folder, race


def _do(lake: Lake, asked: dict[str, Any]) -> dict[str, Any]:
    if asked["only"] == "race":
        return {"versions": race(lake, rounds=asked["rounds"], threads=asked["threads"])}
    if asked["only"] == "create":
        make_folder(lake, asked["folder"])
        lake.table(asked["table"]).create(CUSTOMER_KPIS)
        return {}
    if asked["only"] == "csv":
        return {"receipts": [_load_csv(lake, asked["spec"])]}
    window = DayRange(date.fromisoformat(asked["first"]), date.fromisoformat(asked["last"]))
    options = JobOptions(window, asked["lake"])
    only_clean = asked["only"] == "clean"
    receipts = (
        [clean(lake, options, ArrivalBounds())] if only_clean else retail_batch.run(lake, options, ArrivalBounds())
    )
    return {"receipts": [receipt.as_dict() for receipt in receipts]}


def _load_csv(lake: Lake, spec: dict[str, Any]) -> dict[str, Any]:
    for key, value in load_csv.SESSION.items():
        lake.spark.conf.set(key, value)
    try:
        return load_csv.load(lake.spark, read_spec(json.dumps(spec))).as_dict()
    finally:
        for key in load_csv.SESSION:
            lake.spark.conf.unset(key)


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr
    spark = open_session("integration tests")
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _do(Lake(spark, asked["lake"]), asked)
        except (JobError, ContentionError) as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    spark.stop()


if __name__ == "__main__":
    main()
