"""What was done to a preprocessed dataset: a stamp in every cloud's file and one manifest at the dataset's root."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from datasets.readers import read_stamp
from processing.background.removal import BackgroundSettings
from utils.errors import UserError
from utils.files import LOCK, atomic_path, leftovers, read_text, read_with, refuse_links, sha256_files, write_json

MANIFEST = "preprocessing.json"
VERSION = 1  # raise it when the same settings give other files


@dataclass(frozen=True)
class Preprocessing:
    """Everything that decides the preprocessed files.

    Attributes:
        family: "b" rewrites the clouds only; "a" also blackens the RGB's background and pads RGB and mask.
        seed: base seed; each file draws from its own generator.
        settings: of the background removal.
    """

    family: str = "b"
    seed: int = 0
    settings: BackgroundSettings = field(default_factory=BackgroundSettings)

    def as_json(self) -> dict[str, Any]:
        return {"family": self.family, "version": VERSION, "seed": self.seed, "settings": asdict(self.settings)}


def write_cloud(path: Path, xyz: np.ndarray, done: Preprocessing, share: float, sources: str) -> None:
    """Write an organised cloud as an uncompressed float32 TIFF with a stamp, atomically.

    Args:
        path: the file.
        xyz: (h, w, 3) float32 metres.
        done: what was done to it.
        share: share of valid points in [0, 1].
        sources: hash of the files that the cloud was made of.
    """
    stamp = json.dumps({"preprocessing": done.as_json(), "valid_share": share, "sources": sources})
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, xyz, photometric="rgb", metadata=None, description=stamp)


def stamped_share(path: Path, done: Preprocessing, sources: Sequence[Path]) -> float | None:
    """Share of valid points from the stamp of a cloud's file; None unless it was made in exactly this way.

    Args:
        path: of the cloud.
        done: what is to be done.
        sources: the files that it is to be made of; none where they were overwritten, so that they cannot be compared.
    """
    stamp = read_stamp(path)
    if stamp is None or stamp["preprocessing"] != done.as_json():
        return None
    if sources and stamp.get("sources") != sha256_files(sources):
        return None
    share = stamp.get("valid_share")
    return float(share) if isinstance(share, float | int) else None


def read_manifest(root: Path) -> dict[str, Any] | None:
    """The manifest of a dataset; None if there is none. Raises UserError if it is broken."""
    path = root / MANIFEST
    if not path.exists():
        return None
    return read_with(path, _parse_manifest, "Expected the manifest of a preprocessing run: remove it if it is not one.")


def _parse_manifest(path: Path) -> dict[str, Any]:
    manifest = dict(json.loads(read_text(path)))
    manifest |= {"settings": dict(manifest["settings"]), "files": dict(manifest["files"])}
    return {key: manifest[key] for key in ("family", "version", "seed", "settings", "complete", "files")}


def write_manifest(root: Path, done: Preprocessing, complete: bool, shares: Mapping[str, float | None]) -> None:
    """Write the manifest unless it already says the same.

    Args:
        root: root of the preprocessed dataset.
        done: what was done.
        complete: whether every sample of the source is finished.
        shares: share of valid points in [0, 1] by the cloud's path relative to `root`; None where it is not finished.
    """
    manifest = done.as_json() | {"complete": complete, "files": dict(sorted(shares.items()))}
    if manifest != read_manifest(root):
        write_json(root / MANIFEST, manifest)


def check_folders(source: Path, target: Path, in_place: bool, done: Preprocessing) -> None:
    """Refuse a preprocessed source, and a target that holds anything but a run of the same kind.

    Args:
        source: root of the raw dataset.
        target: root of the preprocessed dataset.
        in_place: whether the source is to be overwritten (`target` is `source`); refused once that is finished.
        done: what is to be done.

    Raises:
        UserError: a folder is refused.
    """
    manifest = read_manifest(target)
    if in_place:
        if manifest is not None and manifest["complete"]:
            raise UserError(f"{source}: already preprocessed, see {MANIFEST} there. Nothing to do.")
    else:
        if read_manifest(source) is not None:
            raise UserError(f"{source}: already preprocessed, see {MANIFEST} there. Pass the raw dataset.")
        inner, outer = target.resolve(), source.resolve()
        if inner == outer or inner in outer.parents or outer in inner.parents:
            raise UserError(f"{target}: lies in or around {outer}. Choose a folder outside, for example {outer}_out.")
        ours = {*leftovers(target), target / LOCK}
        if manifest is None and target.exists() and (not target.is_dir() or {*target.iterdir()} - ours):
            raise UserError(
                f"{target}: expected a new or empty folder, found other files. Choose another --target_dir."
            )
    refuse_links(target)
    if manifest is None or all(share is None for share in manifest["files"].values()):
        return
    before, now = ({**made, **made["settings"]} for made in (manifest, done.as_json()))
    names = [name for name in now if name in before and name != "settings" and before[name] != now[name]]
    names = names or sorted(before.keys() - {"complete", "files"} ^ now.keys())
    if names:
        told = ", ".join(f"{name} {before.get(name)}, now asked for {now.get(name)}" for name in names)
        raise UserError(
            f"{target / MANIFEST}: made with {told}. Use the same options, or another --target_dir, or remove that "
            "folder."
        )
