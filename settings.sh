# Settings that training and evaluation scripts share, so that both always mean the same run. Each can be set in the
# environment instead: EPOCHS=250 bash 01_train_mvtec.sh && EPOCHS=250 bash 02_eval_mvtec.sh
VENV_PYTHON=.venv/bin/python

MVTEC_PATH="${MVTEC_PATH:-./datasets/mvtec3d_preprocessed}"
MVTEC_CHECKPOINTS="${MVTEC_CHECKPOINTS:-./checkpoints/checkpoints_CFM_mvtec}"
MVTEC_BATCH_SIZE="${MVTEC_BATCH_SIZE:-4}"

EYECANDIES_PATH="${EYECANDIES_PATH:-./datasets/eyecandies_preprocessed}"
EYECANDIES_CHECKPOINTS="${EYECANDIES_CHECKPOINTS:-./checkpoints/checkpoints_CFM_eyecandies}"
EYECANDIES_BATCH_SIZE="${EYECANDIES_BATCH_SIZE:-2}"

EPOCHS="${EPOCHS:-50}"
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
