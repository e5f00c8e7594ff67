"""Where the time of an image goes: the stages of inference, and the gradients of a training step, one by one.

Each comes with the multiplications and additions that it needs, so that its seconds can be held against those of a
plain matrix product, which nothing beats by much.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import detector, extractor, sample
from benchmarks.measure import Setting, Work
from datasets.sample import Sample
from models.extractors import point_mae
from models.extractors.dino_pointmae import DinoPointMAE
from models.point_ops import group_points
from models.token_store import extract_batch
from models.tokens import group_clouds
from utils.devices import DTYPES, pick_device

ROWS, WIDTH = 2048, 960
"""Of the plain matrix product: a block of pixels and a layer of the mappers."""


def stage(setting: Setting, name: str, precision: str) -> Work:
    """One stage, for one image."""
    device = pick_device(setting.device)
    step = torch.no_grad()(stages(precision, device)[name])
    return Work(step, 1, device.type, lambda: {"gflop": gigaflops(step)})


def stages(
    precision: str, device: torch.device, item: Sample | None = None, frozen: DinoPointMAE | None = None
) -> dict[str, Callable[[], Any]]:
    """Name → the work, on inputs that are ready; a sample and an extractor may be given."""
    item, frozen = item or sample(), frozen or extractor(precision, device)
    mappers = detector(frozen, precision, device).eval()
    rgb, xyz, valid = (t[None].to(device) for t in (item.rgb, item.xyz, item.valid))
    groups = group_clouds(xyz, valid, point_mae.N_GROUPS)[0]
    offsets = group_points(groups.points, groups.centres, point_mae.GROUP_SIZE)
    described = frozen.cloud.describe_groups(offsets, current_statistics=False)
    tokens = extract_batch([item], frozen, device)[0]
    left, right = (torch.randn(rows, WIDTH, dtype=DTYPES[precision], device=device) for rows in (ROWS, WIDTH))

    def train() -> None:
        mappers.zero_grad(set_to_none=True)
        with torch.enable_grad():
            mappers.backward([tokens])

    return {
        "matrix product": lambda: [left @ right for _ in range(10)],
        "ViT-B/8": lambda: frozen.image(rgb),
        "sampling and operators": lambda: group_clouds(xyz, valid, point_mae.N_GROUPS),
        "neighbours": lambda: group_points(groups.points, groups.centres, point_mae.GROUP_SIZE),
        "mini-PointNet": lambda: frozen.cloud.describe_groups(offsets, current_statistics=False),
        "point blocks": lambda: frozen.cloud(described[None], groups.centres[None]),
        "mappers and maps": lambda: mappers.predict(tokens),
        "gradients of a training step": train,
    }


def gigaflops(step: Callable[[], Any]) -> float:
    """Billions of multiplications and additions in the matrix products, convolutions and attention of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return round(counter.get_total_flops() / 1e9, 1)
