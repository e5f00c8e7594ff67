"""Inspect parts with a file that export.py made. It, this script and four packages are all that a line takes:

    pip install numpy onnxruntime tifffile pillow
    python infer_onnx.py part.onnx part.png part.tiff      (a folder: python infer_onnx.py part.onnx parts --maps maps)

Image and cloud of a part, in metres, have the same path but for `rgb`, `xyz` and suffix. Prints lines as predict.py.
"""

import argparse
import json
import os
import re
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

IMAGES, CLOUDS = (".png", ".jpg", ".jpeg", ".bmp"), (".tiff", ".tif", ".npy")


def find_pairs(folder: Path) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in IMAGES + CLOUDS):
        words = re.findall(r"([^/_.-]*)([/_.-]?)", path.relative_to(folder).with_suffix("").as_posix())
        if not any(word in ("gt", "mask", "ground_truth") for word, _ in words):
            name = "".join(word + mark for word, mark in words if word not in ("rgb", "xyz")).rstrip("/_.-")
            found.setdefault(name or "sample", {})["rgb" if path.suffix.lower() in IMAGES else "xyz"] = path
    return found


def read(rgb: Path, xyz: Path, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    with Image.open(rgb) as image:
        if image.mode not in ("RGB", "RGBA", "P", "L"):
            raise ValueError(f"{rgb}: expected 8 bits a channel, found mode {image.mode}")
        colours = np.array(image.convert("RGB"))
    cloud = np.load(xyz) if xyz.suffix.lower() == ".npy" else tifffile.imread(xyz)  # np.load unpickles nothing
    for path, array in ((rgb, colours), (xyz, cloud)):
        if array.shape != (*shape, 3):
            raise ValueError(f"{path}: expected {shape[0]} rows, {shape[1]} columns, found {array.shape}")
    if cloud.dtype.kind != "f" or not np.isfinite(cloud).all() or np.abs(cloud).max() > 20:
        raise ValueError(f"{xyz}: expected finite float coordinates in metres")
    return {"rgb": colours[None], "xyz": cloud[None].astype(np.float32)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="file of export.py")
    parser.add_argument("rgb", type=Path, help="image of a part, or a folder of parts")
    parser.add_argument("xyz", type=Path, nargs="?", help="its cloud")
    parser.add_argument("--maps", type=Path, help="folder for anomaly maps, float32 TIFF")
    args = parser.parse_args(argv)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at the import
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(args.model), providers=onnxruntime.get_available_providers())
        about = json.loads(session.get_modelmeta().custom_metadata_map["part"])
    except Exception as error:  # of the runtime, which has many
        parser.error(f"{args.model}: expected a file of export.py, found none ({type(error).__name__}: {error})")
    failed, low, high = False, about["points"][0] or 0, about["points"][1] or 1
    for name, pair in ({args.rgb.stem: vars(args)} if args.xyz else find_pairs(args.rgb)).items():
        line: dict[str, object] = {"sample": name, **{kind: str(pair[kind]) for kind in ("rgb", "xyz") if kind in pair}}
        try:
            found = session.run(None, read(pair["rgb"], pair["xyz"], (about["height"], about["width"])))
            score, anomalous, points = (one[0].item() for one in found[1:4])
            reason = f"measured points: {points:.2%} of the frame, good parts have {low:.2%} to {high:.2%}. Is the "
            reasons = [] if low <= points <= high else [reason + "part there, alone, and its background removed?"]
            line |= {"score": score, "threshold": about["threshold"], "anomalous": anomalous, "reasons": reasons}
            if args.maps:
                (target := args.maps / f"{name}.tiff").parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(target, found[0][0])
        except Exception as error:  # files are broken in many ways
            failed, line["error"] = True, f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
