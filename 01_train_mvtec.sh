#!/usr/bin/env bash
# Train CFM on every class of MVTec 3D-AD. Arguments are passed on: bash 01_train_mvtec.sh --precision bf16 --resume
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

for_each_class "$MVTEC_PATH" cfm_training.py \
  --checkpoint_savepath "$MVTEC_CHECKPOINTS" --epochs_no "$EPOCHS" --batch_size "$MVTEC_BATCH_SIZE" "$@"
