#!/usr/bin/env bash
# Train DBMRNet on every class of MVTec 3D-AD. Arguments are passed on to dbmrnet_training.py; for another length set
# DBMRNET_EPOCHS, here and for 06.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

for_each_class "$MVTEC_PATH" dbmrnet_training.py \
  --checkpoint_savepath "$DBMRNET_CHECKPOINTS" --epochs_no "$DBMRNET_EPOCHS" --batch_size "$DBMRNET_BATCH_SIZE" "$@"
