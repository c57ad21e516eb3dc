"""``airflow tallyclerk …`` and ``airflow dags backfill``."""
