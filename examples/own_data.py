"""From your own RGB-D scans to a trained class with a report: python examples/own_data.py scans bolt

The folder holds SPLIT/DEFECT/NAME_color.png and NAME_depth.png, NAME_mask.png for defects, and the camera's own file,
camera.json. SPLIT is train, val or test; DEFECT is good or a name of yours. See docs/own_data.md for other layouts.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("scans", type=Path)
parser.add_argument("class_name")
parser.add_argument("--extractor", default="cnn_normals")
parser.add_argument("--epochs_no", default="50")
args = parser.parse_args()


def run(script: str, **options: object) -> None:
    """One command of the project; the first that fails ends this one."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    subprocess.run([sys.executable, str(ROOT / script), *words], check=True)


files = {name: args.scans / f"{{split}}/{{defect}}/{{stem}}_{name}.png" for name in ("color", "depth", "mask")}
dataset = Path("datasets/own")
patterns = {"rgb": files["color"], "depth": files["depth"], "gt": files["mask"]}
camera = args.scans / "camera.json"
run("processing/convert_rgbd.py", class_name=args.class_name, target_dir=dataset, intrinsics=camera, **patterns)

class_options = {"dataset_path": dataset, "class_name": args.class_name, "epochs_no": args.epochs_no}
run("cfm_training.py", extractor=args.extractor, **class_options)
run("cfm_inference.py", **class_options)
print("Look at results/quantitatives_mvtec, and inspect single parts with examples/part_in_memory.py.")
