#!/usr/bin/env bash
# Renews requirements*.lock from pyproject.toml. uv.lock is only a stage on the way: it records the index' address in every entry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=$(scripts/install.sh uv)
python=$(scripts/install.sh python)
export UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-system

"$uv" lock -q --python "$python" "$@"
export_lock() { "$uv" export -q --frozen --no-emit-project --no-header --no-annotate --format requirements-txt "$@" >/dev/null; }
export_lock --group build -o requirements.lock
export_lock --group build --group shop --group stack --group dev -o requirements-dev.lock
# on their own: what they hold lives in environments of its own
for group in spark docs bootstrap; do
  "$uv" pip compile -q --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
    --python-version 3.11 --group "$group" -o "requirements-$group.lock" >/dev/null
done
if grep -nE '(https?|file)://|^--' requirements*.lock; then
  echo "a lock names an address: do not commit it" >&2
  exit 1
fi
