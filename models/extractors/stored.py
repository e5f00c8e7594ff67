"""The extractor of a run: as the options of its training ask for it, and as its settings tell of it afterwards."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.extractors import Extractor, ExtractorOptions, build_extractor
from utils.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DEFAULT = "dino_pointmae"  # the papers'
GIVEN = {"extractor": "extractor", "extractor_mode": "mode", "keep_blocks": "keep_blocks"} | {
    name: name for name in ("backbone", "view")
}
"""Option that inference may repeat → what a fingerprint calls it."""


def asked_for(options: argparse.Namespace, device: "torch.device") -> Extractor:
    """The extractor that options of training mean, see `options.add_extractor_options`; not fitted yet."""
    modes = options.extractor_mode or "eval", options.keep_blocks or 12, options.precision or "fp32"
    files = options.rgb_weights, options.xyz_weights
    chosen = ExtractorOptions(*modes, *files, options.backbone, options.view)
    return build_extractor(options.extractor or DEFAULT, device, chosen)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """What options of inference say of the extractor, by the names of fingerprints."""
    return {name: options[option] for option, name in GIVEN.items() if options.get(option) is not None}


def check_given(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse options that contradict a run.

    Args:
        stored: its extractor's fingerprint.
        asked: of `given`.

    Raises:
        UserError: they do.
    """
    trained = {**stored, "view": chosen_view(stored)}
    for name, value in asked.items():
        if value != trained.get(name):
            option = "--extractor_mode" if name == "mode" else f"--{name}"
            raise UserError(
                f"{option} {value}: the checkpoint was trained with {trained.get(name, 'no such setting')} "
                f"({stored['extractor']}). Leave the option out."
            )


def rebuild(
    stored: Mapping[str, Any],
    device: "torch.device",
    precision: str,
    rgb_weights: Path | None,
    xyz_weights: Path | None,
    state: "Mapping[str, Tensor]",
) -> Extractor:
    """The extractor of a fingerprint.

    Args:
        stored: the fingerprint, or the part of it that says what to build.
        device: where it runs.
        precision: `fp32` or `bf16`.
        rgb_weights, xyz_weights: files to use instead of the public ones.
        state: its statistics, perhaps empty.

    Raises:
        UserError: see `build_extractor`.
    """
    modes = stored.get("mode", "eval"), stored.get("keep_blocks", 12), precision
    look = stored.get("backbone"), chosen_view(stored)
    options = ExtractorOptions(*modes, rgb_weights, xyz_weights, *look)
    return build_extractor(stored["extractor"], device, options, state)


def check_fingerprint(extractor: Extractor, stored: Mapping[str, Any]) -> None:
    """Refuse an extractor other than a run's; only the precision may differ.

    Older runs have a hash of its statistics among its settings; the file that holds them has one of its own in all.

    Raises:
        UserError: a setting, or the hash of weights differs.
    """
    found = extractor.fingerprint()
    for name in sorted(stored.keys() - {"precision", "statistics"}):
        if stored[name] != found.get(name):
            raise UserError(
                f"extractor's {name}: the checkpoint was trained with {stored[name]}, found {found.get(name)}. "
                "Use the same weight files (--rgb_weights, --xyz_weights) or train again."
            )


def described(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """What result files say of an extractor."""
    return {
        "extractor": fingerprint["extractor"],
        "extractor_mode": fingerprint.get("mode"),
        "keep_blocks": fingerprint.get("keep_blocks"),
        "backbone": fingerprint.get("backbone"),
        "view": chosen_view(fingerprint),
    }


def chosen_view(fingerprint: Mapping[str, Any]) -> str:
    """`object` or `frame`: what the extractor looks at."""
    view = fingerprint.get("view")
    return str(view["kind"]) if isinstance(view, Mapping) else "frame"
