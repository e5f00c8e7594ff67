"""What part of a frame a detector looks at, and at which size."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

VIEWS = ("object", "frame")


@dataclass(frozen=True)
class ViewSettings:
    """A square part of the frame on a grid of its own.

    kind: `object`, the square around the valid points; `frame`, all of it, padded to a square.
    size: side S of the view's grid in pixels.
    margin: the square around the object is larger by this share of its side.
    """

    kind: Literal["object", "frame"] = "object"
    size: int = 224
    margin: float = 0.15


class Window(NamedTuple):
    """A square in the frame padded to a square of side 1; it may reach beyond. top, left: its first corner."""

    top: float
    left: float
    side: float


WHOLE_FRAME = Window(0.0, 0.0, 1.0)
