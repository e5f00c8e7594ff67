"""One part in memory to an answer, from colour and depth as a camera's software hands them over.

python examples/part_in_memory.py checkpoints/checkpoints_CFM_mvtec/bolt color.png depth.png 615 615 320 240 0.001
(fx, fy, cx, cy in pixels; the last number says how many metres one stored unit of depth is)
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inspection import load_detector
from processing.own_data.rgbd_depth import depth_to_points, measured, to_cloud

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("files", nargs=3, type=Path, metavar=("CHECKPOINT", "COLOR", "DEPTH"))
parser.add_argument("numbers", nargs=5, type=float, metavar=("FX", "FY", "CX", "CY", "UNIT"))
args = parser.parse_args()
checkpoint, color, depth_file = args.files
*intrinsics, unit = args.numbers

detector = load_detector(checkpoint)  # once; then any number of parts

rgb = np.asarray(Image.open(color).convert("RGB"))  # (height, width, 3) uint8: a frame of your camera
depth = np.asarray(Image.open(depth_file))  # (height, width), aligned to the colours, 0 = nothing measured
xyz = to_cloud(depth_to_points(depth * unit, *intrinsics), measured(depth))  # metres, invalid points (0, 0, 0)

answer = detector.predict(rgb, xyz)
print("no thresholds" if answer.anomalous is None else "anomalous" if answer.anomalous else "good", answer.score)
for reason in answer.reasons:
    print("input:", reason)
for region in answer.regions:
    print("region: box", region.box, "mm²", region.area_mm2, "at", region.centroid_m)
