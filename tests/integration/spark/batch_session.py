"""One warm Spark session that runs the batch jobs as a test asks: JSON lines in, one JSON line a run out.

Started with Spark's own Python, because a spark-submit for each step of a history would cost minutes.
"""

from __future__ import annotations

import json
import sys
from datetime import date

from spark_jobs import retail_batch
from spark_jobs.clean_transactions import ArrivalBounds, clean
from spark_jobs.days import DayRange
from spark_jobs.failures import ContentionError, JobError
from spark_jobs.job_arguments import JobOptions
from spark_jobs.lake import Lake, open_session


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr
    spark = open_session("integration tests")
    for line in sys.stdin:
        asked = json.loads(line)
        window = DayRange(date.fromisoformat(asked["first"]), date.fromisoformat(asked["last"]))
        try:
            lake = Lake(spark, asked["lake"])
            job = (lambda *asked: [clean(*asked)]) if asked["only"] == "clean" else retail_batch.run
            receipts = job(lake, JobOptions(window, asked["lake"]), ArrivalBounds())
            answer = {"receipts": [receipt.as_dict() for receipt in receipts]}
        except (JobError, ContentionError) as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    spark.stop()


if __name__ == "__main__":
    main()
