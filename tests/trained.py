"""Detectors of both methods, trained for a moment on a few generated scenes by the command lines."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import cfm_training
import dbmrnet_training
from datasets.scenes.writer import Counts, write_mvtec3d
from processing import preprocess_mvtec


@dataclass(frozen=True)
class Trained:
    """What `train_both` made in a folder: datasets, raw and preprocessed, and a checkpoint of each method."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def scenes(self) -> Path:
        return self.folder / "raw_preprocessed"

    @property
    def cfm(self) -> Path:
        return self.folder / "checkpoints/cfm/cap"

    @property
    def dbmrnet(self) -> Path:
        return self.folder / "checkpoints/dbmrnet/cap"


def train_both(folder: Path) -> None:
    """Both methods on the same scenes, cropped to 240×210 pixels: frames are not square. folder: where they go.

    Test parts are two good ones and one of each of four kinds of defects, in shape and colour.
    """
    made = Trained(folder)
    raw = made.raw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.scenes.writer.DEFECTS", ("cut", "dent", "hole", "paint"))
        write_mvtec3d(raw, ["cap"], 240, Counts(train=8, validation=6, test=1), seed=5, workers=1)
    for path in raw.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path))[15:-15]).save(path)
    for path in raw.rglob("*.tiff"):
        tifffile.imwrite(path, tifffile.imread(path)[15:-15], photometric="rgb")
    assert preprocess_mvtec.main([str(raw), "--workers", "1"]) == 0
    common = ["--dataset_path", str(made.scenes), "--class_name", "cap", "--device", "cpu"]
    cfm = ["--extractor", "handcrafted", "--epochs_no", "8", "--checkpoint_savepath", str(made.cfm.parent)]
    assert cfm_training.main([*common, *cfm]) == 0
    small = ["--preset", "small", "--epochs_no", "2", "--batch_size", "4"]
    assert dbmrnet_training.main([*common, *small, "--checkpoint_savepath", str(made.dbmrnet.parent)]) == 0
