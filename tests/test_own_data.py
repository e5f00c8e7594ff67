"""The chapter on people's own data: its commands, run as they stand there, on scenes as a camera stores them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.documents import ROOT, commands, run_here
from tests.scans import write_scans

PARTS = {"train/good": (8, None), "val/good": (2, None), "test/good": (3, None), "test/broken": (3, "hole")}


# Slow: the commands as they stand, and a training long enough to find defects.
@pytest.mark.slow
def test_chapter_leads_from_scans_to_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scans(tmp_path / "scans", PARTS)
    monkeypatch.chdir(tmp_path)
    convert, train, evaluate = commands(ROOT / "docs/own_data.md")[:3]
    convert += ["--workers", "1"]
    train += ["--device", "cpu", "--extractor", "handcrafted", "--epochs_no", "20", "--pixel_fraction", "0.1"]
    evaluate += ["--device", "cpu", "--epochs_no", "20", "--save_maps", "maps", "--map_size", "native"]
    for words in (convert, train, evaluate):
        assert words[0] == "python"
        assert run_here(words[1:]) == 0
    output = capsys.readouterr().out
    size = re.search(r"Size of what is left: ([\d.]+) × ([\d.]+) × ([\d.]+) cm", output)
    assert size is not None
    assert 5 < float(size[1]) < 15
    result = json.loads((tmp_path / "results/quantitatives_mvtec/bolt_20ep_4bs.json").read_text())
    assert result["i_auroc"] >= 0.75
    assert result["p_auroc"] >= 0.95
    assert result["aupro_exact"]["0.3"] >= 0.85
    pictures = {path.name for path in (tmp_path / "results/qualitatives_mvtec/bolt").iterdir()}
    assert pictures == {f"{part}_{index:04d}.png" for part in ("good", "broken") for index in range(3)}
    for index in range(3):  # the maps lie over the images, at their size, and peak on the defects
        values = tifffile.imread(tmp_path / f"maps/bolt/test/broken/{index:04d}.tiff")
        mask = np.asarray(Image.open(tmp_path / f"scans/test/broken/{index:04d}_mask.png")) > 0
        assert values.shape == mask.shape
        assert np.median(values[mask]) > np.quantile(values, 0.95)
