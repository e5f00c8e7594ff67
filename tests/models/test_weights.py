"""models/extractors/weights.py on small stand-in files in the formats of the public releases."""

import hashlib
import json
import os
import pickle
import socket
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.extractors import weights
from models.extractors.weights import (
    PublicFile,
    dino_state,
    find_or_download,
    load_state,
    load_strict,
    point_mae_encoder_state,
    weight_sha256,
)
from utils.errors import UserError

CONTENT = b"released weights" * 1000


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PublicFile:
    """Both kinds stand for one small file at a `file:` address; `tmp_path`/source is what the server has."""
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    file = PublicFile("weights.pth", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), source.as_uri())
    monkeypatch.setattr(weights, "PUBLIC_FILES", {"dino": (file,), "point_mae": (file,)})
    return file


def test_manifest_names_complete_hashes_and_the_releases() -> None:
    files = [file for kind in weights.PUBLIC_FILES.values() for file in kind]
    assert [(file.name, file.size, file.sha256[:8]) for file in files] == [
        ("vit_base_patch8_224.dino.safetensors", 343_245_410, "01be14b9"),
        ("dino_vitbase8_pretrain.pth", 343_279_349, "575f0efc"),
        ("pointmae_pretrain.pth", 348_288_755, "27ded932"),
    ]
    assert all(len(bytes.fromhex(file.sha256)) == 32 for file in files)
    assert weights._url(files[0]).endswith("/timm/vit_base_patch8_224.dino/resolve/main/model.safetensors")
    assert weights._url(files[2]) == "https://github.com/Pang-Yatian/Point-MAE/releases/download/main/pretrain.pth"


def test_file_given_by_the_user_is_taken_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own.pth"
    own.write_bytes(b"anything")
    assert find_or_download("point_mae", own, tmp_path / "folder") == own
    with pytest.raises(UserError, match=r"none\.pth: no such weight file \(given with --rgb_weights\)"):
        find_or_download("dino", tmp_path / "none.pth", tmp_path / "folder")


def test_missing_file_is_downloaded_once(released: PublicFile, tmp_path: Path) -> None:
    path = find_or_download("point_mae", None, tmp_path / "folder")
    assert path == tmp_path / "folder" / "weights.pth"
    assert path.read_bytes() == CONTENT
    (tmp_path / "source").unlink()  # a second download would fail
    assert find_or_download("point_mae", None, tmp_path / "folder") == path


def test_existing_file_that_is_not_the_released_one_is_refused(released: PublicFile, tmp_path: Path) -> None:
    own = tmp_path / "weights.pth"
    for content in (CONTENT[:-1], CONTENT[::-1]):
        own.write_bytes(content)
        with pytest.raises(UserError, match=r"weights\.pth: not the released file: expected 16,000 bytes"):
            find_or_download("point_mae", None, tmp_path)
        assert own.read_bytes() == content


def test_second_public_file_is_accepted_in_place_of_the_first(
    monkeypatch: pytest.MonkeyPatch, released: PublicFile, tmp_path: Path
) -> None:
    other = PublicFile("other.safetensors", 1, "0" * 64, "http://127.0.0.1:9/none")
    monkeypatch.setattr(weights, "PUBLIC_FILES", {"dino": (other, released)})
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    assert find_or_download("dino", None, tmp_path) == tmp_path / "weights.pth"


def test_without_network_the_error_says_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, released: PublicFile, tmp_path: Path
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/weights.pth"  # nobody listens there any more
    unreachable = PublicFile("weights.pth", 16_000, released.sha256, url)
    monkeypatch.setattr(weights, "PUBLIC_FILES", {"point_mae": (unreachable,)})
    with pytest.raises(UserError) as caught:
        find_or_download("point_mae", None, tmp_path / "folder")
    message = str(caught.value)
    for part in (
        str(tmp_path / "folder" / "weights.pth"),
        url,
        f"16,000 bytes, sha256 {released.sha256}",
        "--xyz_weights",
        "refused",
    ):
        assert part in message


def test_file_in_the_cache_of_the_hub_is_used_when_it_is_the_released_one(
    monkeypatch: pytest.MonkeyPatch, released: PublicFile, tmp_path: Path
) -> None:
    import huggingface_hub

    commit = "c" * 40
    repository = tmp_path / "hub" / "models--somebody--model"
    cached = repository / "snapshots" / commit / "source"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    file = PublicFile("weights.pth", len(CONTENT), released.sha256, released.url, hub_repository="somebody/model")
    monkeypatch.setattr(weights, "PUBLIC_FILES", {"dino": (file,)})
    assert find_or_download("dino", None, tmp_path / "folder") == cached
    assert not (tmp_path / "folder" / "weights.pth").exists()

    cached.write_bytes(CONTENT[::-1])
    monkeypatch.setattr(weights, "_url", lambda file: file.url)
    assert find_or_download("dino", None, tmp_path / "folder") == tmp_path / "folder" / "weights.pth"


def test_hash_is_remembered_until_the_file_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(CONTENT)
    expected = hashlib.sha256(CONTENT).hexdigest()
    assert weight_sha256(path, tmp_path) == expected
    assert json.loads((tmp_path / "sha256.json").read_text())["weights.pth"]["sha256"] == expected

    monkeypatch.setattr(weights, "sha256_file", lambda path: "computed again")
    assert weight_sha256(path, tmp_path) == expected
    later = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(later, later))
    assert weight_sha256(path, tmp_path) == "computed again"

    (tmp_path / "sha256.json").write_text("{ half a fi")
    assert weight_sha256(path, tmp_path) == "computed again"


def test_hash_of_a_file_elsewhere_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    for content in (CONTENT, CONTENT[::-1]):
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        assert weight_sha256(path, tmp_path / "folder") == hashlib.sha256(content).hexdigest()
    assert not (tmp_path / "folder").exists()


def tensors(*names: str) -> "OrderedDict[str, Tensor]":
    generator = torch.Generator().manual_seed(0)
    return OrderedDict((name, torch.randn(2, 3, generator=generator)) for name in names)


def release_of_point_mae(prefix: str) -> dict[str, Any]:
    """The structure of Point-MAE's `pretrain.pth`: network, optimiser, epoch, metrics."""
    model = tensors(
        f"{prefix}MAE_encoder.encoder.first_conv.0.weight",
        f"{prefix}MAE_encoder.blocks.blocks.0.norm1.weight",
        f"{prefix}MAE_encoder.norm.bias",
        f"{prefix}MAE_decoder.blocks.0.norm1.weight",
        f"{prefix}mask_token",
    )
    optimiser = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    return {
        "base_model": model,
        "optimizer": optimiser,
        "epoch": 300,
        "metrics": {"acc": np.float64(91.5)},
        "best_metrics": {},
    }


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("numpy_module", ["numpy.core", "numpy._core"])
def test_point_mae_encoder_is_taken_out_of_the_release(tmp_path: Path, prefix: str, numpy_module: str) -> None:
    content = release_of_point_mae(prefix)
    torch.save(content, tmp_path / "new.pth")
    path = tmp_path / "pretrain.pth"
    with zipfile.ZipFile(tmp_path / "new.pth") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():  # numpy 1 wrote another module name into its pickles than numpy 2 does
            data = old.read(name)
            if name.endswith("data.pkl"):
                assert b".multiarray\nscalar" in data
                data = data.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", numpy_module.encode())
            new.writestr(name, data)

    state = point_mae_encoder_state(path)
    assert list(state) == ["encoder.first_conv.0.weight", "blocks.blocks.0.norm1.weight", "norm.bias"]
    for name, value in state.items():
        assert torch.equal(value, content["base_model"][f"{prefix}MAE_encoder.{name}"])


def test_checkpoint_without_a_point_mae_encoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "modelnet.pth"
    torch.save({"base_model": tensors("module.cls_token", "module.norm.bias")}, path)
    with pytest.raises(UserError, match=r"modelnet\.pth.*`module\.MAE_encoder\.…`.*found `module\.cls_token`"):
        point_mae_encoder_state(path)


@pytest.mark.parametrize("name", ["model.safetensors", "dino_vitbase8_pretrain.pth"])
def test_dino_state_reads_both_public_formats(tmp_path: Path, name: str) -> None:
    expected = tensors("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "norm.bias")
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(expected, path)
    else:
        save_file(expected, path)
    state = dino_state(path)
    assert sorted(state) == sorted(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_dino_state_refuses_another_model(tmp_path: Path) -> None:
    torch.save(tensors("conv1.weight", "fc.bias"), tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"resnet\.pth.*vision transformer.*found `conv1\.weight`, `fc\.bias`"):
        dino_state(tmp_path / "resnet.pth")


class Command:
    """Its pickle creates a folder when it is loaded without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_pickled_code_is_not_executed(tmp_path: Path, plain_pickle: bool) -> None:
    path, proof = tmp_path / "evil.pth", tmp_path / "executed"
    content = {**tensors("cls_token"), "extra": Command(proof)}
    if plain_pickle:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"evil\.pth: cannot be read as weights \(expected tensors only"):
        load_state(path)
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_damaged_file_is_an_error_that_names_it(tmp_path: Path, suffix: str, share: float) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"
    state = tensors("a", "b", "c")
    if suffix == ".pth":
        torch.save(state, whole)
    else:
        save_file(state, whole)
    assert list(load_state(whole)) == ["a", "b", "c"]
    content = whole.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"broken\{suffix}"):
        load_state(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [([torch.ones(2)], "list"), ({}, "dict"), ({"student": {"a": torch.ones(2)}, "epoch": 3}, "`student`, `epoch`")],
)
def test_content_that_is_no_flat_state_is_refused(tmp_path: Path, content: Any, found: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=rf"other\.pth: expected a dictionary of tensors, found .*{found}"):
        load_state(tmp_path / "other.pth")


def test_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(UserError, match=f"{name}: no such weight file"):
            load_state(tmp_path / name)


def test_load_strict_sets_every_value() -> None:
    source, module = (
        nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)),
        nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)),
    )
    state = {name: torch.full_like(value, 3) for name, value in source.state_dict().items()}
    load_strict(module, state, Path("weights.pth"))
    assert all(bool((value == 3).all()) for value in module.state_dict().values())


def test_load_strict_lists_what_does_not_fit_and_changes_nothing() -> None:
    module = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {"weight": torch.zeros(2, 4), "head": torch.zeros(1), **{f"extra.{i}": torch.zeros(1) for i in range(6)}}
    with pytest.raises(UserError) as caught:
        load_strict(module, state, Path("folder/weights.pth"))
    assert str(caught.value) == (
        "folder/weights.pth: does not fit Linear; missing: `bias`; unexpected: `head`, `extra.0`, `extra.1`, "
        "`extra.2`, `extra.3` and 2 more; wrong shape: `weight (2, 4) instead of (2, 3)`."
    )
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_numpy_array_of_objects_is_refused(tmp_path: Path) -> None:
    """Allowing numpy numbers must not allow numpy arrays of pickled objects."""
    torch.save({"a": np.array([Command(tmp_path / "executed")], dtype=object)}, tmp_path / "array.pth")
    with pytest.raises(UserError, match=r"array\.pth: cannot be read as weights \(expected tensors only"):
        load_state(tmp_path / "array.pth")
    assert not (tmp_path / "executed").exists()
