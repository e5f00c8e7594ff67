#!/usr/bin/env bash
# Evaluate CFM on every class of Eyecandies, then print the tables. Arguments are passed on to cfm_inference.py; for
# another place of the results set RESULTS.
# The mapper is the one of the checkpoints (the big one). Published means: I-AUROC 0.881, P-AUROC 0.974, AUPRO@30% 0.887.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash setup.sh
source settings.sh

classes=$(classes_of "$EYECANDIES_PATH")
for class_name in $classes; do
  "$VENV_PYTHON" cfm_inference.py --dataset_path "$EYECANDIES_PATH" --class_name "$class_name" \
    --checkpoint_folder "$EYECANDIES_CHECKPOINTS" --epochs_no "$EPOCHS" --batch_size "$EYECANDIES_BATCH_SIZE" \
    --quantitative_folder "$RESULTS/quantitatives_eyecandies" --qualitative_folder "$RESULTS/qualitatives_eyecandies" \
    --produce_qualitatives "$@"
done
"$VENV_PYTHON" processing/aggregate_results.py --quantitative_folder "$RESULTS/quantitatives_eyecandies" \
  --output "$RESULTS/quantitatives_eyecandies/table.md"
