"""What the check of a dataset says of what is known: exposures, a row of the table, a part of a release."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.records import Record
from processing.checks import check_report, dataset_checks, raw_eyecandies
from processing.checks.alignment import TURNS, Alignment
from processing.checks.dataset_checks import ClassCheck
from processing.checks.sample_checks import Figures


def measured(part: str, exposures: Sequence[float], raw: bool = False) -> list[Figures]:
    """Figures of samples of a part, "train/good" for instance, with these exposures."""
    split, defect = part.split("/")
    files = [Path(f"root/gear/{part}/rgb/{index:03d}.png") for index in range(len(exposures))]
    records = [Record("gear", split, defect, path.stem, path, path, None) for path in files]
    return [Figures(record, exposure=value, raw=raw) for record, value in zip(records, exposures, strict=True)]


def test_exposure_of_tests_is_compared_with_training() -> None:
    trained = measured("train/good", np.linspace(100, 136, 20).tolist())
    dark = measured("test/cut", [92, 93, 94, 95, 101, 102, 103, 104, 105, 106, 107, 108])
    same = measured("test/good", np.linspace(99, 130, 12).tolist())
    [found] = dataset_checks._exposure_findings(ClassCheck("gear", [*trained, *dark, *same]))
    assert (found.problem, found.kind) == (False, "exposure")
    assert "(mean RGB on the object 118, 100 to 136): test/defects 102, 4 of 12 outside that range." in found.text
    assert found.samples == tuple(f"gear/test/cut/{index:03d}" for index in range(4))


def test_exposure_is_not_compared_where_it_says_nothing() -> None:
    dark = measured("test/cut", [50.0] * 12)
    few = measured("train/good", [100.0] * 9)
    assert not dataset_checks._exposure_findings(ClassCheck("gear", [*few, *dark]))
    raw = measured("train/good", [100.0] * 20, raw=True) + measured("test/cut", [50.0] * 12, raw=True)
    assert not dataset_checks._exposure_findings(ClassCheck("gear", raw))


def test_table_says_how_clouds_lie_and_why_it_is_not_known() -> None:
    figures = measured("train/good", [100.0, 120.0, 110.0]) + measured("test/good", [90.0])
    for f in figures:
        f.rgb_size, f.valid_share, f.depth, f.extent = (400, 300), 0.2, (0.61, 0.64), (0.05, 0.04, 0.03)
    aligned = Alignment(4, 0.6, 0.6, TURNS[0], (1.0, 1.0), (0.0, 0.0), 0.01, True)
    words = [
        (aligned, "aligned within 4 px, correlation 0.60"),
        (replace(aligned, best=0.9, aligned=False), "OFF, correlation 0.60 instead of 0.90"),
        (replace(aligned, aligned=None), "cannot be judged: why"),
        (None, "cannot be judged: why"),
    ]
    for alignment, told in words:
        one = ClassCheck("gear", figures, alignment=alignment, alignment_note="why")
        head, row = (line.split("  ") for line in check_report.table([one]).splitlines())
        cells = [cell.strip() for cell in row if cell.strip()]
        assert cells[-3:] == ["110 (100 … 120)", "90 (90 … 90)", told]
        assert "0.61 … 0.64" in cells
        assert "50 × 40 × 30" in cells
        assert "extent in mm" in [cell.strip() for cell in head]


def test_columns_are_aligned() -> None:
    assert check_report.columns([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"


def test_part_of_raw_eyecandies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told once; the private test split, which is never read, does not count."""
    data = tmp_path / "raw/Confetto/train/data"
    data.mkdir(parents=True)
    monkeypatch.setattr(raw_eyecandies.eyecandies, "RAW_COUNTS", {"train": 2, "val": 0, "test_private": 400})
    monkeypatch.setattr(raw_eyecandies.eyecandies, "CLASSES", ("Confetto", "Lollipop"))
    Image.new("RGB", (512, 512)).save(data / "000_image_4.png")
    Image.new("I;16", (512, 512)).save(data / "000_depth.png")
    for key in ("info_depth.yaml", "pose.txt"):
        (data / f"000_{key}").write_text("1")
    counts, [found] = raw_eyecandies.check(tmp_path / "raw", None, 1)
    assert counts == {"Confetto": {"train": 1, "val": 0, "test_private": 0}}
    assert (found.problem, found.kind) == (False, "subset")
    assert found.text.startswith("a part of Eyecandies: Confetto has train 1 of 2; without Lollipop.")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda data: (data / "000_pose.txt").unlink(), "unpaired"),
        (lambda data: (data / "001_image_4.png").write_bytes(b""), "unreadable"),
        (lambda data: Image.new("I;16", (512, 500)).save(data / "000_depth.png"), "sizes"),
        (lambda data: Image.new("L", (512, 512)).save(data / "000_depth.png"), "depth_type"),
    ],
)
def test_faults_of_raw_eyecandies(
    change: Callable[[Path], object], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "raw/Confetto/train/data"
    data.mkdir(parents=True)
    for index in ("000", "001"):
        Image.new("RGB", (512, 512)).save(data / f"{index}_image_4.png")
        Image.new("I;16", (512, 512)).save(data / f"{index}_depth.png")
        for key in ("info_depth.yaml", "pose.txt"):
            (data / f"{index}_{key}").write_text("1")
    monkeypatch.setattr(dataset_checks.eyecandies, "RAW_COUNTS", {"train": 2})
    assert not [one for one in raw_eyecandies.check(tmp_path / "raw", None, 1)[1] if one.problem]
    change(data)
    assert [one.kind for one in raw_eyecandies.check(tmp_path / "raw", None, 1)[1] if one.problem] == [kind]
