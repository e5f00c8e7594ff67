#!/usr/bin/env bash
# Evaluate CFM on every class of MVTec 3D-AD, then print the tables. Arguments are passed on to cfm_inference.py; for
# another place of the results set RESULTS.
# Published means: I-AUROC 0.954, P-AUROC 0.993, AUPRO@30% 0.971.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

for_each_class "$MVTEC_PATH" cfm_inference.py \
  --checkpoint_folder "$MVTEC_CHECKPOINTS" --epochs_no "$EPOCHS" --batch_size "$MVTEC_BATCH_SIZE" \
  --quantitative_folder "$RESULTS/quantitatives_mvtec" --qualitative_folder "$RESULTS/qualitatives_mvtec" \
  --produce_qualitatives "$@"
tables_of "$RESULTS/quantitatives_mvtec"
