#!/usr/bin/env bash
# Train CFM with the big mapper on every class of Eyecandies. Arguments are passed on to cfm_training.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash setup.sh
source settings.sh

classes=$(classes_of "$EYECANDIES_PATH")
for class_name in $classes; do
  "$VENV_PYTHON" cfm_training.py --dataset_path "$EYECANDIES_PATH" --class_name "$class_name" --mapper mlp_big \
    --checkpoint_savepath "$EYECANDIES_CHECKPOINTS" --epochs_no "$EPOCHS" --batch_size "$EYECANDIES_BATCH_SIZE" "$@"
done
