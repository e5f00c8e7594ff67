"""What a whole class takes, extrapolated from the seconds of an image: what is paid once, and every epoch."""

from typing import Any

IMAGES = 250
EPOCHS = {"training": 50, "dbmrnet": 300}
"""Of the kinds that are extrapolated: the defaults of `--epochs_no`."""


def extrapolate(what: str, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Seconds of a class by precision.

    Args:
        what: the kind; of `dbmrnet` the preset `full` is taken.
        rows: its figures by name.

    Returns:
        Of each precision: `once` (tokens extracted, or inputs prepared), `training`, their `total`, and of one `step`.
        Empty for a kind that is not extrapolated.
    """
    found = {}
    for precision in ("fp32", "bf16") if what in EPOCHS else ():
        if what == "training":
            row, seconds = rows[precision], rows[f"extraction {precision}"]["seconds"]
        else:
            row = rows[f"train full, {precision}"]
            seconds = row["figures"]["preparation_seconds"]
        once, training = IMAGES * seconds, IMAGES * EPOCHS[what] * row["seconds"]
        step = row["images"] * row["seconds"]
        found[precision] = {"once": once, "training": training, "total": once + training, "step": step}
    return found


def in_words(what: str, precision: str, seconds: dict[str, float]) -> str:
    """One sentence from what `extrapolate` says of a precision; minutes for `dbmrnet`, seconds otherwise."""
    subject, done, unit, length = {
        "training": ("one class", "extracted", "s", 1),
        "dbmrnet": ("one class, full", "prepared", "min", 60),
    }[what]
    once, training, total = (f"{seconds[part] / length:.1f} {unit}" for part in ("once", "training", "total"))
    return (
        f"{subject}, {precision}, extrapolated: {IMAGES} images {done} {once} + {EPOCHS[what]} epochs of them trained "
        f"{training} = {total}; measured {seconds['step']:.4g} s a step"
    )
