"""Options of command lines that build an extractor."""

import argparse
from pathlib import Path

from models.extractors import EXTRACTORS
from utils.view import VIEWS


def add_extractor_options(parser: argparse.ArgumentParser) -> None:
    """--extractor and what belongs to it, up to the files of its weights; None where the user says nothing."""
    group = parser.add_argument_group(
        "extractors",
        "Inference reads these from the JSON beside the checkpoint; options that contradict it are refused.",
    )
    group.add_argument(
        "--extractor",
        choices=tuple(EXTRACTORS),
        help="dino_pointmae: the paper's frozen transformers; cnn_normals: one small CNN, whose weights come with pip, "
        "on colours and surface normals; handcrafted: no weights needed (default: dino_pointmae)",
    )
    group.add_argument(
        "--extractor_mode",
        choices=("eval", "batchnorm"),
        help="statistics of Point-MAE's batch normalisation: eval = those of the release, batchnorm = those of the "
        "current cloud, for checkpoints of the original authors (default: eval; batchnorm for a checkpoint without "
        "a JSON)",
    )
    group.add_argument(
        "--keep_blocks",
        type=int,
        choices=(12, 8, 4, 1),
        help="transformer blocks kept of both extractors (default: 12)",
    )
    group.add_argument(
        "--backbone",
        metavar="NAME",
        help="of cnn_normals: efficientnet_lite0, _lite1 or _lite2 with the weights of pip's packages, or a model of "
        "timm, for example resnet18 or vit_small_patch8_224.dino, with weights from its hub or of --rgb_weights "
        "(default: efficientnet_lite0)",
    )
    group.add_argument(
        "--view",
        choices=VIEWS,
        help="what the extractor looks at: the square around the valid points, or the frame (default: frame; object "
        "with cnn_normals)",
    )
    add_weights_options(group)


def add_network_weights_option(parser: argparse.ArgumentParser) -> None:
    """--rgb_weights, of a method whose only network for images is that of `--backbone`."""
    parser.add_argument(
        "--rgb_weights", type=Path, metavar="FILE", help="the network's weights, to use instead of the download"
    )


def add_weights_options(group: argparse._ActionsContainer) -> None:
    """--rgb_weights, --xyz_weights: of all that loads an extractor."""
    for name, model in (
        ("rgb", "DINO ViT-B/8 weights (.pth or .safetensors)"),
        ("xyz", "Point-MAE weights (pretrain.pth of its release)"),
    ):
        group.add_argument(
            f"--{name}_weights", type=Path, metavar="FILE", help=f"{model} to use instead of the download"
        )
