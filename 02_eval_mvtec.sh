#!/usr/bin/env bash
# Evaluate CFM on every class of MVTec 3D-AD, then print the tables. Arguments are passed on to cfm_inference.py; for
# another place of the results set RESULTS.
# Published means: I-AUROC 0.954, P-AUROC 0.993, AUPRO@30% 0.971.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash setup.sh
source settings.sh

classes=$(classes_of "$MVTEC_PATH")
for class_name in $classes; do
  "$VENV_PYTHON" cfm_inference.py --dataset_path "$MVTEC_PATH" --class_name "$class_name" \
    --checkpoint_folder "$MVTEC_CHECKPOINTS" --epochs_no "$EPOCHS" --batch_size "$MVTEC_BATCH_SIZE" \
    --quantitative_folder "$RESULTS/quantitatives_mvtec" --qualitative_folder "$RESULTS/qualitatives_mvtec" \
    --produce_qualitatives "$@"
done
"$VENV_PYTHON" processing/aggregate_results.py --quantitative_folder "$RESULTS/quantitatives_mvtec" \
  --output "$RESULTS/quantitatives_mvtec/table.md"
