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
    call("processing/make_scenes.py", str(raw), *options)
    call("processing/preprocess_mvtec.py", str(raw), "--target_dir", str(scenes))
    return scenes


def call(script: str, *words: str) -> None:
    """Run a command line of the project; what it prints is dropped, its bars are shown."""
    subprocess.run([sys.executable, str(ROOT / script), *words], check=True, stdout=subprocess.DEVNULL)
