"""Packages for a machine without network: fetch their wheels here, install there those that are missing.

    python benchmarks/wheels.py fetch FOLDER            # for Python 3.12 on Linux x86-64, about 43 MB
    python benchmarks/wheels.py install FOLDER TARGET   # what cannot be imported goes to TARGET, for PYTHONPATH

Such a machine has torch, torchvision, Triton, a C compiler and the usual packages (numpy, scipy, scikit-learn, timm,
pillow, matplotlib, pandas); those below are often missing.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "fpsample": "fpsample",
    "pytest": "pytest",
    "iniconfig": "iniconfig",
    "pluggy": "pluggy",
    "packaging": "packaging",
    "pygments": "pygments",
    "plotly": "plotly",
    "narwhals": "narwhals",
    "tqdm": "tqdm",
    "pyyaml": "yaml",
    "filelock": "filelock",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "safetensors": "safetensors",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
}
"""Name of each package → the module that it is imported as. All that a package needs stands here, too."""

PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LARGEST = 45_000_000  # bytes of all wheels


def fetch(folder: Path) -> int:
    """Download the wheels, and no other kind of package. Returns pip's exit status, or 1 where they are too large."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp", *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(folder), *PACKAGES]
    status = subprocess.run(command, check=False).returncode
    size = sum(path.stat().st_size for path in folder.glob("*.whl"))
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size / 1e6:.1f} MB")
    if size > LARGEST:
        print(f"error: expected at most {LARGEST / 1e6:.0f} MB. Empty the folder first.", file=sys.stderr)
        return 1
    return status


def install(folder: Path, target: Path) -> int:
    """Install the packages that cannot be imported, one by one: what fails is told and left out."""
    for package, module in PACKAGES.items():
        if importlib.util.find_spec(module) is not None:
            continue
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--find-links", str(folder)]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), package]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = "" if ran.returncode == 0 else f": {(ran.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        print(f"{package}: {'left out' if reason else 'installed'}{reason}", flush=True)
    return 0


def main() -> int:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function, folders in (("fetch", fetch, ("folder",)), ("install", install, ("folder", "target"))):
        command = commands.add_parser(name, help=function.__doc__)
        command.set_defaults(function=function)
        for folder in folders:
            command.add_argument(folder, type=Path)
    arguments = vars(parser.parse_args())
    function = arguments.pop("function")
    return int(function(**arguments))


if __name__ == "__main__":
    raise SystemExit(main())
