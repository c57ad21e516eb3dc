"""Values and rules of a load. No Airflow, no driver."""
