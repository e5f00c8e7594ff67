#!/usr/bin/env bash
# Evaluate DBMRNet on every class of MVTec 3D-AD, then print the tables. Arguments are passed on to dbmrnet_inference.py;
# for another place of the results set RESULTS.
# Published means: I-AUROC 0.951, AUPRO@30% 0.973 (3D only: 0.923, 0.945), with the product of both maps: --fusion product.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

for_each_class "$MVTEC_PATH" dbmrnet_inference.py \
  --checkpoint_folder "$DBMRNET_CHECKPOINTS" --epochs_no "$DBMRNET_EPOCHS" --batch_size "$DBMRNET_BATCH_SIZE" \
  --quantitative_folder "$RESULTS/quantitatives_dbmrnet_mvtec" \
  --qualitative_folder "$RESULTS/qualitatives_dbmrnet_mvtec" --produce_qualitatives "$@"
tables_of "$RESULTS/quantitatives_dbmrnet_mvtec"
