"""Time anomalib's CFM on samples that benchmarks/run.py wrote; runs in anomalib's own environment, not the project's.

    PYTHON_OF_ANOMALIB benchmarks/peer_anomalib.py --what inference samples.npz

samples.npz holds `rgb`, (B, 3, 224, 224) ImageNet-normalised, and `xyz`, (B, 3, 224, 224) metres. Weights are random,
nothing is downloaded. Prints one JSON object: seconds an image (median, fastest), memory.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch


def build() -> Any:
    """anomalib's model: DINO's weights are not asked for, and a Point-MAE checkpoint without entries changes none."""
    import timm

    create_model: Any = timm.create_model
    timm.create_model = lambda *arguments, **options: create_model(*arguments, **{**options, "pretrained": False})
    from anomalib.models.image.cfm.torch_model import CFMModel

    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.pth"
        torch.save({"base_model": {}}, empty)
        return CFMModel(pointmae_weights=empty)


def make_step(what: str, model: Any, rgb: torch.Tensor, xyz: torch.Tensor) -> Callable[[], object]:
    """What is timed: maps and scores of a batch, or an optimiser step on it, features extracted anew in both."""
    model.train(what == "training")
    optimizer = torch.optim.Adam(model.mapper_parameters(), lr=1e-3)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(rgb, xyz)["loss"].backward()
        optimizer.step()

    def infer() -> object:
        with torch.no_grad():
            return model(rgb, xyz).anomaly_map.cpu()

    return train if what == "training" else infer


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path, help="the .npz file")
    parser.add_argument("--what", choices=("inference", "training"), required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    with np.load(args.samples) as arrays:
        rgb, xyz = (torch.from_numpy(arrays[name]).to(args.device) for name in ("rgb", "xyz"))
    step = make_step(args.what, build().to(args.device), rgb, xyz)
    seconds = []
    for _ in range(1 + args.repetitions):  # the first warms up
        start = time.perf_counter()
        step()
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / len(rgb))
    gpu = round(torch.cuda.max_memory_allocated() / 2**30, 2) if args.device == "cuda" else None
    figures = {
        "seconds": statistics.median(seconds[1:]),
        "fastest": min(seconds[1:]),
        "images": len(rgb),
        "repetitions": args.repetitions,
        "device": args.device,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "gpu_gib": gpu,
        "figures": {"anomalib": metadata.version("anomalib"), "torch": torch.__version__},
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
