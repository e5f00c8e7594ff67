"""What the check of a dataset says of a sample is what its readers refuse, and what they put up with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.frames import nearest
from datasets.readers import read_gt, read_rgb, read_xyz
from datasets.records import Record
from processing.checks.findings import KINDS
from processing.checks.sample_checks import measure
from utils.errors import UserError

SIDE = 120


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A sound sample with a defect: a plane 0.5 m away in the middle of the frame."""
    v, u = np.mgrid[:SIDE, :SIDE] - 59.7
    xyz = np.stack([0.002 * u, 0.002 * v, np.full(u.shape, 0.5)], axis=-1).astype(np.float32)
    xyz[:15] = xyz[-15:] = 0
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    made = Record("nut", "test", "hole", "0", *(tmp_path / name for name in ("0.png", "0_xyz.tiff", "0_gt.png")))
    assert made.gt is not None
    Image.fromarray(rgb).save(made.rgb)
    tifffile.imwrite(made.xyz, xyz, photometric="rgb")
    Image.fromarray(np.uint8(255) * (np.hypot(u, v) < 5)).save(made.gt)
    assert measure((made, True)).faults == {}
    return made


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 3
    Image.new("RGB", (SIDE, SIDE)).save(path, "PNG", exif=exif)


def pages(path: Path, kind: type, *shape: int) -> None:
    tifffile.imwrite(path, np.zeros((*shape, SIDE, SIDE, 3), kind), photometric="rgb")


def two_arrays(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(np.ones((SIDE, SIDE, 3), np.float32), photometric="rgb", metadata=None)
        file.write(np.ones((SIDE, SIDE), np.float32), photometric="minisblack", metadata=None)


def scaled(path: Path, factor: float) -> None:
    tifffile.imwrite(path, tifffile.imread(path) * np.float32(factor), photometric="rgb")


@pytest.mark.parametrize(
    ("file", "plant", "read", "kind", "told"),
    [
        ("rgb", turned, read_rgb, "unreadable", "EXIF orientation 3"),
        ("rgb", lambda path: pages(path, np.uint8, 2), read_rgb, "unreadable", "holds 2 pages"),
        ("rgb", lambda path: pages(path, np.uint16), read_rgb, "unreadable", "8 bits a channel, found 16"),
        ("rgb", lambda path: Image.new("I;16", (SIDE, SIDE)).save(path), read_rgb, "rgb_type", "mode I;16"),
        ("gt", lambda path: pages(path, np.uint16), read_gt, "unreadable", "8 bits a channel, found 16"),
        ("gt", lambda path: Image.new("F", (SIDE, SIDE)).save(path, "TIFF"), read_gt, "unreadable", "mode F"),
        ("xyz", two_arrays, read_xyz, "unreadable", "holds 2 arrays"),
        ("xyz", lambda path: scaled(path, 1000), read_xyz, "unit", r"in millimetres \(z around 500\)"),
        ("xyz", lambda path: scaled(path, 0.001), read_xyz, "unit", r"in kilometres, .*\(z around 0.0005\)"),
    ],
)
def test_what_the_readers_refuse_is_a_problem(
    file: str, plant: Callable[[Path], None], read: Callable[[Path], object], kind: str, told: str, record: Record
) -> None:
    plant(getattr(record, file))
    with pytest.raises(UserError, match=told):
        read(getattr(record, file))
    faults = measure((record, True)).faults
    assert list(faults) == [kind]
    assert KINDS[kind][0]


def test_what_can_be_worked_with_is_noted(record: Record) -> None:
    assert measure((replace(record, gt=None), True)).faults == {"no_mask": "none"}
    assert record.gt is not None
    Image.open(record.gt).convert("P").save(record.gt)
    tifffile.imwrite(record.xyz, nearest(tifffile.imread(record.xyz)[::2, ::2], (SIDE, SIDE)), photometric="rgb")
    faults = measure((record, True)).faults
    assert list(faults) == ["repeated", "mask_mode"]
    assert int(faults["repeated"].split("%")[0]) == pytest.approx(50, abs=2)
    assert not any(KINDS[kind][0] for kind in ("repeated", "mask_mode", "no_mask"))
