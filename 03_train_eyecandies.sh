#!/usr/bin/env bash
# Train CFM with the big mapper on every class of Eyecandies. Arguments are passed on to cfm_training.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

for_each_class "$EYECANDIES_PATH" cfm_training.py --mapper mlp_big \
  --checkpoint_savepath "$EYECANDIES_CHECKPOINTS" --epochs_no "$EPOCHS" --batch_size "$EYECANDIES_BATCH_SIZE" "$@"
