"""Tallyclerk's page in Airflow's user interface: a FastAPI application that the API server mounts at ``/tallyclerk``."""
