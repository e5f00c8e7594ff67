# Settings and functions that training and evaluation scripts share, so that both always mean the same run. Each setting
# can be given in the environment instead: EPOCHS=250 bash 01_train_mvtec.sh && EPOCHS=250 bash 02_eval_mvtec.sh
VENV_PYTHON=.venv/bin/python

MVTEC_PATH="${MVTEC_PATH:-./datasets/mvtec3d_preprocessed}"
MVTEC_CHECKPOINTS="${MVTEC_CHECKPOINTS:-./checkpoints/checkpoints_CFM_mvtec}"
MVTEC_BATCH_SIZE="${MVTEC_BATCH_SIZE:-4}"

EYECANDIES_PATH="${EYECANDIES_PATH:-./datasets/eyecandies_preprocessed}"
EYECANDIES_CHECKPOINTS="${EYECANDIES_CHECKPOINTS:-./checkpoints/checkpoints_CFM_eyecandies}"
EYECANDIES_BATCH_SIZE="${EYECANDIES_BATCH_SIZE:-2}"

EPOCHS="${EPOCHS:-50}" # of CFM

DBMRNET_CHECKPOINTS="${DBMRNET_CHECKPOINTS:-./checkpoints/checkpoints_DBMRNet_mvtec}"
DBMRNET_EPOCHS="${DBMRNET_EPOCHS:-300}"
DBMRNET_BATCH_SIZE="${DBMRNET_BATCH_SIZE:-16}"

M3DM_CHECKPOINTS="${M3DM_CHECKPOINTS:-./checkpoints/checkpoints_M3DM_mvtec}"
M3DM_EXTRACTOR="${M3DM_EXTRACTOR:-cnn_normals}" # with the weights of a pip package; the paper's is dino_pointmae

BTF_CHECKPOINTS="${BTF_CHECKPOINTS:-./checkpoints/checkpoints_BTF_mvtec}" # a folder in it for each set of features
BTF_FEATURES="${BTF_FEATURES:-raw hog sift fpfh depth rgb btf}"
BTF_BACKBONE="${BTF_BACKBONE:-efficientnet_lite0}" # with the weights of a pip package; the paper's is wide_resnet50_2

AST_CHECKPOINTS="${AST_CHECKPOINTS:-./checkpoints/checkpoints_AST_mvtec}" # a folder in it for each mode
AST_MODES="${AST_MODES:-depth rgb both}"
AST_WIDTH="${AST_WIDTH:-256}" # of the student; the paper's is 1024, for GPUs
AST_BACKBONE="${AST_BACKBONE:-efficientnet_lite0}" # as BTF's; the paper's is tf_efficientnet_b5.aa_in1k

RESULTS="${RESULTS:-./results}"

# Class folders of a dataset: those that hold train/, or the words of $CLASSES.
classes_of() {
  if [ -n "${CLASSES:-}" ]; then
    echo "$CLASSES"
  elif compgen -G "$1/*/train" > /dev/null; then
    for folder in "$1"/*/train; do basename "$(dirname "$folder")"; done
  else
    echo "error: $1: expected class folders that hold train/; download and preprocess the dataset first (README)" >&2
    return 1
  fi
}

# Sets the environment up, then runs a script on every class of a dataset: for_each_class DATASET SCRIPT OPTION...
for_each_class() {
  local dataset=$1 script=$2 classes class_name
  shift 2
  bash setup.sh
  classes=$(classes_of "$dataset")
  for class_name in $classes; do
    "$VENV_PYTHON" "$script" --dataset_path "$dataset" --class_name "$class_name" "$@"
  done
}

# Prints the tables of folders of results, all methods beside each other, and writes them to table.md in a folder, and
# the page comparison.html: tables_of FOLDER [FOLDER_OF_RESULTS...]; without the latter, of the results in that folder.
tables_of() {
  local target=$1
  shift
  set -- processing/aggregate_results.py --quantitative_folder "${@:-$target}"
  "$VENV_PYTHON" "$@" --format html --output "$target/comparison.html"
  "$VENV_PYTHON" "$@" --output "$target/table.md"
}
