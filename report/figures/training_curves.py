"""The losses of a run over its epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report.figures.canvas import new_figure, save_figure


def save_loss_plot(path: Path, entries: Sequence[Mapping[str, Any]], title: str) -> None:
    """Write the losses over the epochs.

    Args:
        entries: one per epoch, as read from the log: `epoch` (counted from 1) and any number of `loss…` figures; where
            one network is trained after another, those of one are missing in the epochs of the other.
        title: heading of the plot.
    """
    names = list(dict.fromkeys(name for entry in entries for name in entry if name.startswith("loss")))
    figure = new_figure(6.4, 3.8)
    axes = figure.add_axes((0.15, 0.14, 0.82, 0.76))
    for name in names:
        there = [entry for entry in entries if name in entry]
        epochs, losses = [entry["epoch"] for entry in there], [entry[name] for entry in there]
        axes.plot(epochs, losses, "-" if len(entries) > 30 else ".-", label=name.replace("_", " "), linewidth=1.4)
    if names and all(entry.get(name, 1) > 0 for entry in entries for name in names):
        axes.set_yscale("log")
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    if names:
        axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)
