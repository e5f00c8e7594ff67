#!/usr/bin/env bash
# All that a GPU is to answer, in one command of at most six minutes, on a machine without network:
#
#   bash benchmarks/on_gpu.sh WHEELS                        WHEELS: folder that `python benchmarks/wheels.py fetch` filled
#   bash benchmarks/on_gpu.sh WHEELS --device cpu --small   a trial with the CPU in the GPU's place
#
# The other options are those of benchmarks/on_gpu.py. PYTHON names another interpreter than .venv's, else python3.
set -euo pipefail
if [ ! -d "${1:-}" ]; then
    echo "usage: bash benchmarks/on_gpu.sh WHEELS [options of benchmarks/on_gpu.py]; no such folder: ${1:-}" >&2
    exit 2
fi
wheels="$(realpath "$1")"
shift
root="$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")"
python="${PYTHON:-$([ -x "$root/.venv/bin/python" ] && echo "$root/.venv/bin/python" || echo python3)}"
packages="$(mktemp -d)"
trap 'rm -rf "$packages"' EXIT
"$python" "$root/benchmarks/wheels.py" install "$wheels" "$packages"
PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}" "$python" "$root/benchmarks/on_gpu.py" "$@"
