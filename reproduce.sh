#!/usr/bin/env bash
# Makes a table from nothing but data: bash reproduce.sh few_shot does all jobs of grids/few_shot.yaml that are not done
# yet and prints the table. Without an argument it lists the tables. Arguments are passed on to sweep.py:
# bash reproduce.sh seeds --set class_name=[bagel,rope] --jobs 4
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

table=${1:-}
if [ ! -f "grids/$table.yaml" ]; then
  echo "expected the name of a table:" >&2
  for grid in grids/*.yaml; do echo "  $(basename "$grid" .yaml)" >&2; done
  exit 2
fi
shift
bash setup.sh
SWEEPS="$RESULTS/sweeps"
scenes="$SWEEPS/scenes"
if [ "$table" = demo ]; then
  if [ ! -d "${scenes}_preprocessed" ]; then # it gets this name when it is complete
    rm -rf "$scenes" "${scenes}_begun"
    "$VENV_PYTHON" processing/make_scenes.py "$scenes" --classes gear --train 20 --validation 8 --test 2 --seed 0
    "$VENV_PYTHON" processing/preprocess_mvtec.py "$scenes" --target_dir "${scenes}_begun"
    mv "${scenes}_begun" "${scenes}_preprocessed"
  fi
  set -- --set "dataset_path=${scenes}_preprocessed" "$@"
fi
exec "$VENV_PYTHON" sweep.py "grids/$table.yaml" --output "$SWEEPS" --resume "$@"
