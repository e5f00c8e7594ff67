"""Which parts thresholds may come from: good ones that were not trained on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.readers import read_gt
from datasets.records import SUFFIXES
from inspection.pairs import Pair
from processing.own_data.file_patterns import spelled
from utils.errors import UserError
from utils.files import sha256_file
from utils.run_record import TRAINING_IMAGES

MASK_FOLDERS = ("gt", "ground_truth")


def check_parts(pairs: Sequence[Pair], settings: Mapping[str, Any] | None) -> str | None:
    """Refuse parts that were trained on, and such with a defect, by the files around them.

    Args:
        pairs: of the parts.
        settings: of the checkpoint, None where it has none.

    Returns:
        Why it cannot be told what was trained on; None where it can.

    Raises:
        UserError: names such parts.
    """
    names = (settings or {}).get(TRAINING_IMAGES)
    known = names if isinstance(names, Mapping) else {}
    trained, defective = _trained_on(pairs, known), [pair for pair in pairs if _is_defective(pair)]
    problems = []
    if trained:
        problems.append(f"{_listed(trained)} were trained on, and fit the detector better than new parts do")
    if defective:
        problems.append(f"{_listed(defective)} have a defect, by their masks or their folder's name")
    if problems:
        raise UserError(
            f"thresholds come from good parts that were not trained on: of {len(pairs)} parts, "
            f"{'; '.join(problems)}. Name a folder without them, for example validation/good."
        )
    return None if known else "the checkpoint does not tell its training images: make sure that none is among these."


def _trained_on(pairs: Sequence[Pair], known: Mapping[str, Any]) -> list[Pair]:
    """The pairs whose image or cloud was trained on. An image that several training samples share tells nothing."""
    hashes = [str(digest).split() for digest in known.values()]
    counts = Counter(rgb for rgb, *_ in hashes)
    told = {rgb for rgb, count in counts.items() if count == 1} | {xyz for _, *rest in hashes for xyz in rest}
    return [pair for pair in pairs if told and not told.isdisjoint(map(sha256_file, (pair.rgb, pair.xyz)))]


def _is_defective(pair: Pair) -> bool:
    """Whether a mask of the part marks anything, or it lies in test/DEFECT/rgb of a dataset."""
    above = pair.rgb.absolute().parents
    stems = {pair.rgb.stem, Path(pair.name).name}
    masks = (
        folder / name / f"{stem}{suffix}"
        for folder in above[:2]
        for name in MASK_FOLDERS
        for stem in stems
        for suffix in SUFFIXES["gt"]
    )
    if any(read_gt(mask).any() for mask in masks if mask.is_file()):
        return True
    if len(above) < 4 or (above[0].name.lower(), above[2].name) != ("rgb", "test"):
        return False
    of_dataset = (above[2] / "good").is_dir() or (above[3] / "train").is_dir()
    return of_dataset and spelled("defect", above[1].name) != "good"


def _listed(pairs: Sequence[Pair]) -> str:
    """Their number, and the first names."""
    return f"{len(pairs)} ({', '.join(pair.name for pair in pairs[:5])}{', …' if len(pairs) > 5 else ''})"
