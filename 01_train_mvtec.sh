#!/usr/bin/env bash
# Train CFM on every class of MVTec 3D-AD. Arguments are passed on: bash 01_train_mvtec.sh --precision bf16 --resume
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash setup.sh
source settings.sh

classes=$(classes_of "$MVTEC_PATH")
for class_name in $classes; do
  "$VENV_PYTHON" cfm_training.py --dataset_path "$MVTEC_PATH" --class_name "$class_name" \
    --checkpoint_savepath "$MVTEC_CHECKPOINTS" --epochs_no "$EPOCHS" --batch_size "$MVTEC_BATCH_SIZE" "$@"
done
