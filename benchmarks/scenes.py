"""Generated scenes on disk, for the benchmarks that train and evaluate."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def make_scenes(folder: Path, *options: str) -> Path:
    """Generate and preprocess scenes below a folder; what the two programs print is dropped, their bars are shown.

    Args:
        folder: writable. options: words of the command line of `processing/make_scenes.py`.

    Returns:
        The root of the preprocessed dataset.
    """
    raw, scenes = folder / "raw", folder / "scenes"
    programs = (("make_scenes.py", str(raw), *options), ("preprocess_mvtec.py", str(raw), "--target_dir", str(scenes)))
    for script, *words in programs:
        command = [sys.executable, str(ROOT / "processing" / script), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return scenes
