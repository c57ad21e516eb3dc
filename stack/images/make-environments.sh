#!/usr/bin/env bash
# .venv (Airflow and what the provider needs) and .venv-spark in the current folder, from the hashed locks; uv itself in ./tools.
set -euo pipefail
PYTHON=${PYTHON:-python3}
export UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-system UV_NO_CACHE=1 PYTHONPATH=$PWD/tools
uv() { "$PYTHON" -m uv "$@"; }
"$PYTHON" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --require-hashes --target tools -r requirements-bootstrap.lock
for environment in .venv:requirements.lock .venv-spark:requirements-spark.lock; do
  folder=${environment%%:*} lock=${environment#*:}
  uv venv --quiet --python "$(command -v "$PYTHON")" "$folder"
  # what has only a source distribution is built with the locked setuptools
  uv pip sync --quiet --python "$folder/bin/python" --require-hashes --build-constraints requirements-dev.lock "$lock"
done
