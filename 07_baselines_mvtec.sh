#!/usr/bin/env bash
# Train and evaluate BTF with each of its sets of features on every class of MVTec 3D-AD, then print the tables. Without
# downloads; BTF_BACKBONE=wide_resnet50_2 takes the paper's network for depth, rgb and btf. Arguments are passed on to
# train.py and evaluate.py; for fewer sets of features set BTF_FEATURES, for another place of the results RESULTS.
# Published means on preprocessed data: I-AUROC 0.878, P-AUROC 0.992, AUPRO@30% 0.959 (FPFH alone: 0.779, 0.978, 0.924).
# Then the same with AST in each of its modes, AST_MODES; its student is 256 channels wide, the paper's AST_WIDTH=1024.
# Published means: I-AUROC 0.937, AUPRO@30% 0.944 (depth alone: I-AUROC 0.833, not looked up).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source settings.sh

folders=()
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
tables_of "$RESULTS/quantitatives_btf_mvtec" "${folders[@]}"
