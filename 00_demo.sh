#!/usr/bin/env bash
# From nothing to tables and pictures, without a download: generated scenes are cleaned, CFM and DBMRNet are trained on
# good ones and find the defects in others. Everything is written to results/demo/ (first removed when it is there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash setup.sh
source settings.sh

OUT="$RESULTS/demo"
DEMO_CLASSES="${DEMO_CLASSES:-gear biscuit cap}"
DEMO_EPOCHS="${DEMO_EPOCHS:-12}"                 # of CFM, on 30 images a class; a narrow mapper, which trains faster
DEMO_DBMRNET_EPOCHS="${DEMO_DBMRNET_EPOCHS:-16}" # of DBMRNet, on 40
rm -rf "$OUT"

# A dataset of its own for each class, so that the first pictures are soon there. Both methods learn at once, each with half
# of the cores: starting a program and small steps keep one core busy, not all.
cores=$(getconf _NPROCESSORS_ONLN)
half=$((cores > 1 ? cores / 2 : 1))
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
for class_name in $DEMO_CLASSES; do
  scenes="$OUT/scenes_$class_name"
  "$VENV_PYTHON" processing/make_scenes.py "$scenes" --classes "$class_name" --train 40 --validation 10 --test 3 --seed 0
  "$VENV_PYTHON" processing/preprocess_mvtec.py "$scenes" --target_dir "${scenes}_preprocessed"
  OMP_NUM_THREADS=$half "$VENV_PYTHON" dbmrnet_training.py --dataset_path "${scenes}_preprocessed" --class_name "$class_name" \
    --preset small --checkpoint_savepath "$OUT/checkpoints" --epochs_no "$DEMO_DBMRNET_EPOCHS" --batch_size 8 \
    > "$OUT/dbmrnet_training_$class_name.log" 2>&1 &
  OMP_NUM_THREADS=$half "$VENV_PYTHON" cfm_training.py --dataset_path "${scenes}_preprocessed" --class_name "$class_name" \
    --extractor cnn_normals --mapper mlp --shots 30 --checkpoint_savepath "$OUT/checkpoints" --epochs_no "$DEMO_EPOCHS"
  "$VENV_PYTHON" cfm_inference.py --dataset_path "${scenes}_preprocessed" --class_name "$class_name" \
    --checkpoint_folder "$OUT/checkpoints" --epochs_no "$DEMO_EPOCHS" \
    --quantitative_folder "$OUT/quantitatives_cfm" --qualitative_folder "$OUT/qualitatives_cfm" --produce_qualitatives
  wait $! || { cat "$OUT/dbmrnet_training_$class_name.log"; exit 1; }
  "$VENV_PYTHON" dbmrnet_inference.py --dataset_path "${scenes}_preprocessed" --class_name "$class_name" \
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
