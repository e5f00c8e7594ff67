#!/usr/bin/env bash
# Sets the environment up where that is still to be done and runs the whole test suite; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash setup.sh --browser
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" # idle threads soon sleep: other programs do not stall the tests
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-10000}"
exec .venv/bin/python -m pytest "$@"
