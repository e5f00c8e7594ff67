#!/usr/bin/env bash
# Sets the environment up where that is still to be done and runs the whole test suite, in one process a core with one
# thread each. Arguments go to pytest: bash tests/run.sh tests/models -k aupro -x; -n 0 runs without other processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash setup.sh --dev
unset PYTHONDONTWRITEBYTECODE # or each process compiles all tests anew
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 # torch takes the first
exec .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
