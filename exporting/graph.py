"""One ONNX graph of a detector: from a camera's arrays to map, score and decision."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.frames import from_square, nearest, pad_to_square
from inspection.onnx_file import OUTPUTS
from models.view_maps import FRAME
from utils.errors import UserError

if TYPE_CHECKING:
    import onnx

INPUTS = ("rgb", "xyz")
"""What a graph takes, see `PartGraph`. What it gives, OUTPUTS: `map` (1, h, w) float32; `score` (1,) float32, its
maximum on the detector's grid; `anomalous` (1,) bool; `points` (1,) float32, share of that grid that is measured;
`grid` (1, 224, 224) float32, the map on it.
"""

Range = tuple[float | None, float | None]


class PartGraph(nn.Module):
    """(1, h, w, 3) uint8 and (1, h, w, 3) float32 metres → OUTPUTS."""

    rows: Tensor
    columns: Tensor
    lines: Tensor

    def __init__(
        self,
        maps: nn.Module,
        shape: tuple[int, int],
        threshold: float,
        points: Range,
        depths: tuple[float, float] | None,
    ) -> None:
        """
        Args:
            maps: from arrays to the map on the grid, see `models.method.Method.graph`.
            shape: (h, w) of the frame.
            threshold: a part is anomalous when its score is above.
            points: or when the measured share of the grid lies outside of these; None: any.
            depths: metres; what lies outside is cut off as in the training data. None: nothing is.
        """
        super().__init__()
        self.maps, self.threshold, self.depths = maps, float32_below(threshold), depths
        self.points = points
        down, across = resizing(shape)
        self.register_buffer("rows", torch.from_numpy(down))
        self.register_buffer("columns", torch.from_numpy(across))
        numbers = np.arange(shape[0] * shape[1]).reshape(shape) + 1
        grid = nearest(pad_to_square(numbers), (FRAME, FRAME)).ravel()
        self.register_buffer("lines", torch.from_numpy(grid[grid > 0] - 1))  # pixels of the frame that the grid shows

    def forward(self, rgb: Tensor, xyz: Tensor) -> tuple[Tensor, ...]:
        """See `OUTPUTS`."""
        cloud = xyz[0]
        valid = (cloud[..., 0] != 0) & (cloud[..., 1] != 0) & (cloud[..., 2] != 0)
        if self.depths is not None:
            valid = valid & (cloud[..., 2] >= self.depths[0]) & (cloud[..., 2] <= self.depths[1])
        grid = self.maps(rgb[0], cloud, valid)
        points = valid.flatten()[self.lines].float().sum() / FRAME**2
        score = grid.max()
        anomalous = score > self.threshold
        low, high = self.points
        anomalous = anomalous if low is None else anomalous | (points < low)
        anomalous = anomalous if high is None else anomalous | (points > high)
        native = self.rows @ grid @ self.columns.T
        return native[None], score[None], anomalous[None], points[None], grid[None]


def float32_below(value: float) -> float:
    """The largest float32 that is not above a number: what is compared with it in float32 exceeds both or neither."""
    found = np.float32(value)
    return float(found if float(found) <= value else np.nextafter(found, np.float32(-np.inf)))


def resizing(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`datasets.frames.from_square` as matrices, (h, FRAME) and (w, FRAME): it is linear along either side.

    Its answers to single lines of ones; where all lines are alike, resizing along the other side changes nothing.
    """
    found = []
    for axis in range(2):
        columns = []
        for line in range(FRAME):
            ones = np.zeros((FRAME, FRAME), np.float32)
            ones[(line, slice(None)) if axis == 0 else (slice(None), line)] = 1
            columns.append(from_square(ones, shape).take(shape[1 - axis] // 2, axis=1 - axis))
        found.append(np.stack(columns, axis=1))
    return found[0], found[1]


def to_onnx(graph: nn.Module, shape: tuple[int, int]) -> "onnx.ModelProto":
    """Export by torch's exporter (`torch.export`, translated by onnxscript), without a word.

    Raises:
        UserError: a package is missing, or something in the graph has no translation.
    """
    with imported():
        import onnxscript  # noqa: F401
    example = torch.zeros(1, *shape, 3, dtype=torch.uint8), torch.zeros(1, *shape, 3)
    example[1][:, shape[0] // 4 : -(shape[0] // 4), shape[1] // 4 : -(shape[1] // 4)] = 0.5
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            program: Any = torch.onnx.export(
                graph, example, dynamo=True, verbose=False, input_names=INPUTS, output_names=OUTPUTS
            )
        except torch.onnx.OnnxExporterError as error:
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise UserError(f"this detector cannot be exported ({reason}). Take another --backbone.") from error
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def imported() -> Iterator[None]:
    """Imports of what exporting takes besides. Raises UserError where it is missing."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install -r requirements-export.txt") from error
