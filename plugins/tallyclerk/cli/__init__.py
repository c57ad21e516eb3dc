# SPDX-License-Identifier: Apache-2.0
"""``airflow tallyclerk …`` and ``airflow dags backfill``."""
