#!/usr/bin/env bash
# Train and evaluate the baselines on every class of MVTec 3D-AD, then print their tables. Works without downloads;
# settings.sh says which variables take the papers' networks, or fewer sets of features or modes, or another place of the
# results. Arguments are passed on to train.py and evaluate.py of all three. Published means, preprocessed data:
# M3DM  I-AUROC 0.945, P-AUROC 0.992, AUPRO@30% 0.964
# BTF   I-AUROC 0.878, P-AUROC 0.992, AUPRO@30% 0.959 (FPFH alone: 0.779, 0.978, 0.924)
# AST   I-AUROC 0.937, AUPRO@30% 0.944
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

for_each_class "$MVTEC_PATH" train.py --method m3dm --extractor "$M3DM_EXTRACTOR" \
  --checkpoint_savepath "$M3DM_CHECKPOINTS" "$@"
for_each_class "$MVTEC_PATH" evaluate.py --method m3dm --checkpoint_folder "$M3DM_CHECKPOINTS" \
  --quantitative_folder "$RESULTS/quantitatives_m3dm_mvtec" \
  --qualitative_folder "$RESULTS/qualitatives_m3dm_mvtec" --produce_qualitatives "$@"
folders=("$RESULTS/quantitatives_m3dm_mvtec")
for features in $BTF_FEATURES; do
  for_each_class "$MVTEC_PATH" train.py --method btf --features "$features" --backbone "$BTF_BACKBONE" \
    --checkpoint_savepath "$BTF_CHECKPOINTS/$features" "$@"
  for_each_class "$MVTEC_PATH" evaluate.py --method btf --checkpoint_folder "$BTF_CHECKPOINTS/$features" \
    --quantitative_folder "$RESULTS/quantitatives_btf_mvtec/$features" \
    --qualitative_folder "$RESULTS/qualitatives_btf_mvtec/$features" --produce_qualitatives "$@"
  folders+=("$RESULTS/quantitatives_btf_mvtec/$features")
done
for mode in $AST_MODES; do
  for_each_class "$MVTEC_PATH" train.py --method ast --mode "$mode" --width "$AST_WIDTH" --backbone "$AST_BACKBONE" \
    --checkpoint_savepath "$AST_CHECKPOINTS/$mode" "$@"
  for_each_class "$MVTEC_PATH" evaluate.py --method ast --checkpoint_folder "$AST_CHECKPOINTS/$mode" \
    --quantitative_folder "$RESULTS/quantitatives_ast_mvtec/$mode" \
    --qualitative_folder "$RESULTS/qualitatives_ast_mvtec/$mode" --produce_qualitatives "$@"
  folders+=("$RESULTS/quantitatives_ast_mvtec/$mode")
done
tables_of "$RESULTS/quantitatives_baselines_mvtec" "${folders[@]}"
