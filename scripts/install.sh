#!/usr/bin/env bash
# Makes .venv (Airflow, the provider, the tools) and .venv-spark (pyspark) from the hashed locks; does nothing when they are current.
#   scripts/install.sh            both environments
#   scripts/install.sh docs       only .venv-docs, which builds the documentation
#   scripts/install.sh uv         only the pinned uv; prints its path
#   scripts/install.sh python     prints the Python that would be used
# PYTHON=... names an interpreter; otherwise the one .venv was made with, then the first of python3.12, python3.11, python3 that fits.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TOOLS=.tallyclerk/tools

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; }

find_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    fits "$PYTHON" || { echo "PYTHON=$PYTHON does not run or is not Python 3.11 or 3.12: set PYTHON to one that is" >&2; return 1; }
    echo "$PYTHON"; return
  fi
  # an environment that exists keeps its Python: services may be running from it
  if [[ -x .venv/bin/python ]] && fits .venv/bin/python; then .venv/bin/python -c 'import sys; print(sys._base_executable)'; return; fi
  # run each one: a version manager's shim may be on PATH without an interpreter behind it
  for candidate in python3.12 python3.11 python3; do
    if fits "$candidate"; then "$candidate" -c 'import sys; print(sys.executable)'; return; fi
  done
  echo "no Python 3.11 or 3.12 found: install one (Debian: apt install python3.11 python3.11-venv) or set PYTHON=/path/to/python" >&2
  return 1
}

# stamp_of FILE...: what an environment was made from
stamp_of() { { cat "$@"; "$PY" -VV; pwd; } | sha256sum | cut -d' ' -f1; }
current() { [[ -x $1/bin/python && -f $1/.stamp && $(cat "$1/.stamp") == "$2" ]]; }

install_uv() {
  local stamp; stamp=$(stamp_of requirements-bootstrap.lock)
  current "$TOOLS" "$stamp" && return
  rm -rf "$TOOLS"
  "$PY" -m venv "$TOOLS" || { echo "python -m venv failed: install the venv module (Debian: apt install python3-venv)" >&2; return 1; }
  "$TOOLS/bin/python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-bootstrap.lock
  echo "$stamp" >"$TOOLS/.stamp"
}

# make_venv DIRECTORY LOCK [PROJECT]: an environment that holds the lock's packages and no others
make_venv() {
  local venv=$1 lock=$2 project=${3:-} stamp
  stamp=$(stamp_of "$lock" pyproject.toml scripts/install.sh)
  current "$venv" "$stamp" && return
  echo "installing $venv from $lock"
  [[ -x $venv/bin/python ]] && "$venv/bin/python" -c "import sys; sys.exit(sys.version_info[:2] != $("$PY" -c 'import sys; print(sys.version_info[:2])'))" ||
    uv venv -q --clear --python "$PY" "$venv"
  # what has only a source distribution is built with the locked setuptools
  uv pip sync -q --python "$venv/bin/python" --require-hashes --build-constraints requirements-dev.lock "$lock"
  [[ -z $project ]] || uv pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e "$project"
  echo "$stamp" >"$venv/.stamp"
}

PY=$(find_python)
[[ ${1:-} != python ]] || { echo "$PY"; exit; }
install_uv
export PATH="$PWD/$TOOLS/bin:$PATH" UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-system
[[ ${1:-} != uv ]] || { echo "$PWD/$TOOLS/bin/uv"; exit; }
if [[ ${1:-} == docs ]]; then make_venv .venv-docs requirements-docs.lock; exit; fi
make_venv .venv-spark requirements-spark.lock &
spark=$!
make_venv .venv requirements-dev.lock . || { wait $spark || true; exit 1; }
wait $spark
