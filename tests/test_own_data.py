"""The README on people's own data: its commands, run as they stand there, on scenes as a camera stores them."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.scenes import render_scene

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"train/good": (14, None), "val/good": (2, None), "test/good": (4, None), "test/broken": (4, "hole")}


def readme_commands(chapter: str) -> list[list[str]]:
    """The words of each command in the first block of a chapter."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n## {chapter}\n")[1]
    block = re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)[0]
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]


def write_scans(folder: Path) -> None:
    """RGB and 16-bit depth in tenths of a millimetre, aligned; masks of defects; the camera's own file."""
    seed = 0
    for part, (count, defect) in PARTS.items():
        (folder / part).mkdir(parents=True)
        for index in range(count):
            scene = render_scene("gear", defect, 240, seed := seed + 1)
            Image.fromarray(scene.rgb).save(folder / part / f"{index:04d}_color.png")
            depth = np.rint(scene.xyz[..., 2] * 10_000).astype(np.uint16)
            Image.fromarray(depth).save(folder / part / f"{index:04d}_depth.png")
            if defect:
                Image.fromarray(scene.gt).save(folder / part / f"{index:04d}_mask.png")
    camera = scene.camera
    content = {"fx": camera.focal, "fy": camera.focal, "ppx": camera.cx, "ppy": camera.cy, "depth_scale": 0.0001}
    (folder / "camera.json").write_text(json.dumps(content))


# Slow: the commands as they stand, each a process with all its imports.
@pytest.mark.slow
def test_readme_leads_from_scans_to_maps(tmp_path: Path) -> None:
    write_scans(tmp_path / "scans")
    convert, train, evaluate = readme_commands("Your own data")
    train += ["--extractor", "handcrafted", "--epochs_no", "20", "--pixel_fraction", "0.1"]
    evaluate += ["--epochs_no", "20", "--save_maps", "maps", "--map_size", "native"]
    output = ""
    for command in (convert, train, evaluate):
        assert command[0] == "python"
        words = [sys.executable, str(ROOT / command[1]), *command[2:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        output += done.stdout
    size = re.search(r"Size of what is left: ([\d.]+) × ([\d.]+) × ([\d.]+) cm", output)
    assert size is not None
    assert 5 < float(size[1]) < 15
    result = json.loads((tmp_path / "results/quantitatives_mvtec/bolt_20ep_4bs.json").read_text())
    assert result["i_auroc"] >= 0.75
    assert result["p_auroc"] >= 0.95
    assert result["aupro_exact"]["0.3"] >= 0.85
    pictures = {path.name for path in (tmp_path / "results/qualitatives_mvtec/bolt").iterdir()}
    assert pictures == {f"{part}_{index:04d}.png" for part in ("good", "broken") for index in range(4)}
    for index in range(4):  # the maps lie over the images, at their size, and peak on the defects
        values = tifffile.imread(tmp_path / f"maps/bolt/test/broken/{index:04d}.tiff")
        mask = np.asarray(Image.open(tmp_path / f"scans/test/broken/{index:04d}_mask.png")) > 0
        assert values.shape == mask.shape
        assert np.median(values[mask]) > np.quantile(values, 0.95)
