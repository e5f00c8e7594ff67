"""Pretrained weights: which files are meant, where they come from, and how they are checked and loaded."""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from utils.checkpoint import read_tensors
from utils.download import download
from utils.errors import UserError
from utils.files import read_text, sha256_file, write_json

Kind = Literal["dino", "point_mae"]
FOLDER = Path("checkpoints/feature_extractors")
OPTIONS: dict[Kind, str] = {"dino": "--rgb_weights", "point_mae": "--xyz_weights"}


@dataclass(frozen=True)
class PublicFile:
    """A released weight file.

    name: under which it is kept in FOLDER.
    size: bytes.
    sha256: hexadecimal.
    url: where it is published.
    hub_repository: the model repository of huggingface_hub that holds it under the last part of `url`, if one does; its
        cache and its mirror setting (HF_ENDPOINT) are then used.
    """

    name: str
    size: int
    sha256: str
    url: str
    hub_repository: str | None = None


# The first file of a kind is the one that is downloaded; the others are accepted where they lie in FOLDER.
PUBLIC_FILES: dict[Kind, tuple[PublicFile, ...]] = {
    "dino": (
        PublicFile(
            name="vit_base_patch8_224.dino.safetensors",
            size=343_245_410,
            sha256="01be14b99784a4c0970a5703214513588daf27014e908ac7ea08967b7bd80f5f",
            url="https://huggingface.co/timm/vit_base_patch8_224.dino/resolve/main/model.safetensors",
            hub_repository="timm/vit_base_patch8_224.dino",
        ),
        PublicFile(
            name="dino_vitbase8_pretrain.pth",
            size=343_279_349,
            sha256="575f0efc4838938314afa09897a62ed2b87919928b5edcd133abb907328995eb",
            url="https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth",
        ),
    ),
    "point_mae": (
        PublicFile(
            name="pointmae_pretrain.pth",
            size=348_288_755,
            sha256="27ded932bb0a2625d5a8eb006df199b2578598c774aee6d86b985300b6a5fd20",
            url="https://github.com/Pang-Yatian/Point-MAE/releases/download/main/pretrain.pth",
        ),
    ),
}


def find_or_download(kind: Kind, given: Path | None, folder: Path = FOLDER) -> Path:
    """Path of the weights of one extractor.

    A file that the user names is taken as it is. Otherwise a public file that lies in `folder` (or in the cache of
    huggingface_hub) is taken after a check of its size and hash; otherwise the public file is downloaded into `folder`.

    Raises:
        UserError: the named file does not exist; the file in `folder` is not the released one; or the download fails:
            the message then says which file to put where.
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"{given}: no such weight file (given with {OPTIONS[kind]}).")
        return given
    for file in PUBLIC_FILES[kind]:
        path = folder / file.name
        if path.is_file():
            _check_released(path, file, kind, folder)
            return path
    file = PUBLIC_FILES[kind][0]
    cached = _hub_cached(file)
    if cached is not None and _is_released(cached, file, folder):
        return cached
    target = folder / file.name
    try:
        download(_url(file), target, file.size, file.sha256)
    except OSError as error:
        raise UserError(_how_to_get(kind, folder, str(error))) from error
    return target


def weight_sha256(path: Path, folder: Path = FOLDER) -> str:
    """SHA-256 of a weight file.

    For a file in `folder` it is remembered in `folder`/sha256.json until the file's size or time of change differs.
    """
    if path.parent.resolve() != folder.resolve():
        return sha256_file(path)
    memory_path, stat = folder / "sha256.json", path.stat()
    try:
        memory = dict(json.loads(read_text(memory_path)))
        known = memory.get(path.name, {"size": None, "mtime_ns": None})
        if (known["size"], known["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns):
            return str(known["sha256"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # none yet, or damaged
        memory = {}
    sha256 = sha256_file(path)
    memory[path.name] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
    with contextlib.suppress(OSError):  # a folder that cannot be written costs only the time to compute it again
        write_json(memory_path, memory)
    return sha256


def _is_released(path: Path, file: PublicFile, folder: Path) -> bool:
    return path.stat().st_size == file.size and weight_sha256(path, folder) == file.sha256


def _check_released(path: Path, file: PublicFile, kind: Kind, folder: Path) -> None:
    if not _is_released(path, file, folder):
        raise UserError(
            f"{path}: not the released file: expected {file.size:,} bytes with sha256 {file.sha256}, found "
            f"{path.stat().st_size:,} bytes with sha256 {weight_sha256(path, folder)}. Remove it to have it downloaded "
            f"again, or name it with {OPTIONS[kind]} to use it all the same."
        )


def _url(file: PublicFile) -> str:
    if file.hub_repository is None:
        return file.url
    from huggingface_hub import hf_hub_url

    return hf_hub_url(file.hub_repository, file.url.rpartition("/")[2])


def _hub_cached(file: PublicFile) -> Path | None:
    """The file in the local cache of huggingface_hub, where timm keeps what it has loaded, or None."""
    if file.hub_repository is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(file.hub_repository, file.url.rpartition("/")[2])
    return Path(cached) if isinstance(cached, str) else None


def _how_to_get(kind: Kind, folder: Path, reason: str) -> str:
    choices = "\n or\n".join(
        f"  {folder / file.name}\n    from {_url(file)}\n    ({file.size:,} bytes, sha256 {file.sha256})"
        for file in PUBLIC_FILES[kind]
    )
    return (
        f"the {kind} weights are not here and could not be downloaded ({reason}). On a machine without network, put\n"
        f"{choices}\nthere by hand, or name a file with {OPTIONS[kind]}. `--extractor handcrafted` needs no weights."
    )


def load_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, of a state dict in a `.safetensors` file or a file of `torch.save`.

    Raises:
        UserError: the file is missing or damaged, holds pickled objects (these are never executed), or is no flat
            dictionary of tensors.
    """
    return _as_state(_read(path), path)


def dino_state(path: Path) -> dict[str, Tensor]:
    """Weights of DINO ViT-B/8 from timm's or Facebook's file, which use the same names.

    Raises:
        UserError: the file cannot be read, or holds another model.
    """
    state = load_state(path)
    if "patch_embed.proj.weight" not in state:
        raise UserError(
            f"{path}: expected the weights of a vision transformer (`patch_embed.proj.weight`, `blocks.0.…`), "
            f"found {_some(state)}. Give DINO ViT-B/8 with {OPTIONS['dino']}, or leave the option out."
        )
    return state


def point_mae_encoder_state(path: Path) -> dict[str, Tensor]:
    """Weights of the encoder of a Point-MAE pre-training checkpoint, named as in the encoder (`blocks.blocks.0.…`).

    The release keeps the whole network in the entry `base_model`; the encoder's names begin with
    `module.MAE_encoder.`, or `MAE_encoder.` when it was trained on one GPU. Decoder and mask token are left out.

    Raises:
        UserError: the file cannot be read, or holds no Point-MAE encoder.
    """
    content = _read(path)
    if isinstance(content, Mapping) and "base_model" in content:
        content = content["base_model"]
    state = _as_state(content, path)
    prefix = re.compile(r"^(module\.)?MAE_encoder\.")
    encoder = {prefix.sub("", name): value for name, value in state.items() if prefix.match(name)}
    if not encoder:
        raise UserError(
            f"{path}: expected a Point-MAE pre-training checkpoint (names `module.MAE_encoder.…`), found "
            f"{_some(state)}. Give the release's `pretrain.pth` with {OPTIONS['point_mae']}, or leave the option out."
        )
    return encoder


def load_strict(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state`, which was read from `path`, into `module`; every name and shape must agree.

    Raises:
        UserError: names what is missing, what is unexpected, and what has another shape.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    faults = [
        f"{title}: {_some(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", reshaped))
        if names
    ]
    if faults:
        raise UserError(f"{path}: does not fit {type(module).__name__}; {'; '.join(faults)}.")
    module.load_state_dict(state, strict=True)


def _read(path: Path) -> Any:
    """Content of a weight file; nothing in it is executed."""
    try:
        return read_tensors(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such weight file.") from error
    except Exception as error:  # a damaged file makes the readers fail in many ways
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read as weights ({reason}). Remove it and get it again.") from error


def _as_state(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}.")
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise UserError(f"{path}: expected a dictionary of tensors, found other entries: {_some(others)}.")
    return dict(content)


def _some(names: Any, limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    names = [str(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"`{name}`" for name in names[:limit]) + more
