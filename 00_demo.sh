#!/usr/bin/env bash
# From nothing to tables and pictures, without a download: generated scenes are cleaned, CFM and DBMRNet are trained on
# good ones and find the defects in others. Everything is written to results/demo/ (first removed when it is there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash setup.sh
source settings.sh

OUT="$RESULTS/demo"
DEMO_EPOCHS="${DEMO_EPOCHS:-12}"                  # of CFM, on 30 images a class
DEMO_DBMRNET_EPOCHS="${DEMO_DBMRNET_EPOCHS:-30}" # of DBMRNet, which has no pretrained or fixed features: on 100
rm -rf "$OUT"

"$VENV_PYTHON" processing/make_scenes.py "$OUT/scenes" --train 100 --validation 20 --test 6 --seed 0
"$VENV_PYTHON" processing/preprocess_mvtec.py "$OUT/scenes" --target_dir "$OUT/scenes_preprocessed"
classes=$(classes_of "$OUT/scenes_preprocessed")
for class_name in $classes; do
  "$VENV_PYTHON" cfm_training.py --dataset_path "$OUT/scenes_preprocessed" --class_name "$class_name" \
    --extractor handcrafted --shots 30 --checkpoint_savepath "$OUT/checkpoints" --epochs_no "$DEMO_EPOCHS"
  "$VENV_PYTHON" cfm_inference.py --dataset_path "$OUT/scenes_preprocessed" --class_name "$class_name" \
    --checkpoint_folder "$OUT/checkpoints" --epochs_no "$DEMO_EPOCHS" \
    --quantitative_folder "$OUT/quantitatives_cfm" --qualitative_folder "$OUT/qualitatives_cfm" --produce_qualitatives
done
for class_name in $classes; do
  "$VENV_PYTHON" dbmrnet_training.py --dataset_path "$OUT/scenes_preprocessed" --class_name "$class_name" \
    --preset small --checkpoint_savepath "$OUT/checkpoints" --epochs_no "$DEMO_DBMRNET_EPOCHS" --batch_size 8
  "$VENV_PYTHON" dbmrnet_inference.py --dataset_path "$OUT/scenes_preprocessed" --class_name "$class_name" \
    --checkpoint_folder "$OUT/checkpoints" --epochs_no "$DEMO_DBMRNET_EPOCHS" --batch_size 8 \
    --quantitative_folder "$OUT/quantitatives_dbmrnet" --qualitative_folder "$OUT/qualitatives_dbmrnet" \
    --produce_qualitatives
done
"$VENV_PYTHON" processing/aggregate_results.py --output "$OUT/table.md" \
  --quantitative_folder "$OUT/quantitatives_cfm" "$OUT/quantitatives_dbmrnet"
"$VENV_PYTHON" processing/aggregate_results.py --format html --output "$OUT/comparison.html" \
  --quantitative_folder "$OUT/quantitatives_cfm" "$OUT/quantitatives_dbmrnet" > /dev/null
echo "pictures: $OUT/qualitatives_cfm, $OUT/qualitatives_dbmrnet; tables: $OUT/table.md"
echo "pages to look at: $OUT/comparison.html, $OUT/quantitatives_*/*/report.html"
