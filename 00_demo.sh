#!/usr/bin/env bash
# From nothing to tables and pictures, without a download: generated scenes are cleaned, CFM is trained on the good ones
# and finds the defects in the others. Everything is written to results/demo/ (first removed when it is there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash setup.sh
source settings.sh

OUT="$RESULTS/demo"
DEMO_EPOCHS="${DEMO_EPOCHS:-12}"
rm -rf "$OUT"

"$VENV_PYTHON" processing/make_scenes.py "$OUT/scenes" --train 30 --validation 4 --test 6 --seed 0
"$VENV_PYTHON" processing/preprocess_mvtec.py "$OUT/scenes" --target_dir "$OUT/scenes_preprocessed"
classes=$(classes_of "$OUT/scenes_preprocessed")
for class_name in $classes; do
  "$VENV_PYTHON" cfm_training.py --dataset_path "$OUT/scenes_preprocessed" --class_name "$class_name" \
    --extractor handcrafted --checkpoint_savepath "$OUT/checkpoints" --epochs_no "$DEMO_EPOCHS"
  "$VENV_PYTHON" cfm_inference.py --dataset_path "$OUT/scenes_preprocessed" --class_name "$class_name" \
    --checkpoint_folder "$OUT/checkpoints" --epochs_no "$DEMO_EPOCHS" \
    --quantitative_folder "$OUT/quantitatives" --qualitative_folder "$OUT/qualitatives" --produce_qualitatives
done
"$VENV_PYTHON" processing/aggregate_results.py --quantitative_folder "$OUT/quantitatives" --output "$OUT/table.md"
echo "pictures: $OUT/qualitatives, tables: $OUT/table.md"
