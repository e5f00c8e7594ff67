#!/usr/bin/env bash
# Evaluate CFM on every class of Eyecandies, then print the tables. Arguments are passed on to cfm_inference.py; for
# another place of the results set RESULTS.
# The mapper is the one of the checkpoints (the big one). Published means: I-AUROC 0.881, P-AUROC 0.974, AUPRO@30% 0.887.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

for_each_class "$EYECANDIES_PATH" cfm_inference.py \
  --checkpoint_folder "$EYECANDIES_CHECKPOINTS" --epochs_no "$EPOCHS" --batch_size "$EYECANDIES_BATCH_SIZE" \
  --quantitative_folder "$RESULTS/quantitatives_eyecandies" --qualitative_folder "$RESULTS/qualitatives_eyecandies" \
  --produce_qualitatives "$@"
tables_of "$RESULTS/quantitatives_eyecandies"
