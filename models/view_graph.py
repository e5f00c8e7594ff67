"""A view in arithmetic that a static graph carries: cut out of the frame, and its map brought back.

Number for number what `datasets.views` and `models.view_maps` make, from tensors alone: no shape and no loop depends on
the values. Positions are integers, parts of a pixel, so that float32 loses nothing of them, whatever the runtime.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor

from models.resampling import linear
from models.view_maps import FRAME, SMOOTHING
from utils.view import ViewSettings

REACH = 3  # pixels beyond the window that its resizing looks at, and one more: `datasets.views.BICUBIC_REACH`
_MARGIN = 1000  # largest denominator of a margin
_HALF = 2.0**11  # Pillow's shares have 22 bits


class FrameView:
    """The view of frames of one size.

    Attributes:
        shape: (h, w) of the frame.
        settings: of the view, S pixels a side.
        unit: parts that a pixel is divided into; windows are counted in them.
    """

    def __init__(self, shape: tuple[int, int], settings: ViewSettings) -> None:
        self.shape, self.settings = shape, settings
        self.enlargement = Fraction(1 + settings.margin).limit_denominator(_MARGIN)
        self.unit = 2 * self.enlargement.denominator
        self.length = max(shape)

    @property
    def padding(self) -> tuple[int, int]:
        """Rows above and columns to the left that make the frame square."""
        return (self.length - self.shape[0]) // 2, (self.length - self.shape[1]) // 2

    def window(self, valid: Tensor) -> tuple[Tensor, Tensor]:
        """First corner and side of the view, counted from the frame's first pixel.

        Args:
            valid: (h, w) bool, True = measured.

        Returns:
            (2,) and () int64, in parts of a pixel; of no meaning where nothing is valid.
        """
        if self.settings.kind == "frame":
            starts = torch.tensor([-self.unit * before for before in self.padding], device=valid.device)
            return starts, torch.tensor(self.unit * self.length, device=valid.device)
        ends = []
        for axis, length in enumerate(self.shape):
            line = valid.any(dim=1 - axis)
            places = torch.arange(length, device=valid.device)
            ends.append((torch.where(line, places, length).min(), torch.where(line, places, -1).max()))
        extent = torch.stack([last - first for first, last in ends]).max().clamp(min=0) + 1
        doubled = torch.stack([1 + first + last for first, last in ends])  # twice the box's middle
        side = self.enlargement.numerator * extent
        return self.enlargement.denominator * doubled - side, 2 * side

    def picks(self, start: Tensor, side: Tensor) -> Tensor:
        """(S,) int64, on which row or column of the frame each pixel of the view lies; beyond the frame too.

        Args:
            start, side: of the window along this line.
        """
        size = self.settings.size
        whole = 2 * size * self.unit
        ahead = 2 * self.length  # division of positive numbers only: runtimes differ in that of negative ones
        odd = 2 * torch.arange(size, device=side.device) + 1
        return (2 * size * start + odd * side + ahead * whole) // whole - ahead

    def cut_cloud(self, xyz: Tensor, valid: Tensor, starts: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """(h, w, 3) and (h, w) of the frame → (1, 3, S, S) and (1, S, S) of the view, picked; 0 and False beyond."""
        lines, insides = [], []
        for start, length in zip(starts.unbind(), self.shape, strict=True):
            places = self.picks(start, side)
            insides.append((places >= 0) & (places < length))
            lines.append(places.clamp(0, length - 1))
        seen = valid[lines[0]][:, lines[1]] & insides[0][:, None] & insides[1]
        points = xyz[lines[0]][:, lines[1]].permute(2, 0, 1) * seen  # a factor along the last axis is slow to spread
        return points[None], seen[None]

    def cut_image(self, rgb: Tensor, starts: Tensor, side: Tensor) -> Tensor:
        """(h, w, 3) uint8 of the frame → (1, 3, S, S) float32, whole numbers in [0, 255], bicubic.

        As Pillow does it (Resample.c): along the rows, rounded to whole numbers, then along the columns, rounded again.
        Shares are multiples of 2⁻²², summed as two numbers of 11 bits, so that float32 makes no error at all.
        """
        # Whole lines are picked and turned, colour by colour: runtimes do that faster than pixels of three bytes.
        places, shares = self._taps(starts[1], side, self.shape[1])  # (S, K) each
        colours = torch.arange(3, device=rgb.device)[:, None, None]
        across = _mixed(rgb.flatten(1).T[3 * places + colours], shares)  # (3, S, h)
        places, shares = self._taps(starts[0], side, self.shape[0])
        down = _mixed(across.flatten(0, 1).T[places], shares)  # (S, 3·S)
        return down.unflatten(1, (3, self.settings.size)).transpose(0, 1)[None]

    def _taps(self, start: Tensor, side: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Which pixels of a line of the frame each pixel of the view is mixed of, and their shares: (S, K) each.

        Pillow is given the window cut out with REACH pixels around, the frame's edge repeated, and where the window
        lies in that, in float32; what follows is double.

        Returns:
            int64 pixels of the frame, and float64 whole numbers, of 2²² in all.
        """
        size, unit = self.settings.size, self.unit
        ahead = 2 * self.length
        first = (start + ahead * unit) // unit - ahead
        inset = start - first * unit  # of the window in its first pixel
        begin = (REACH * unit + inset) / unit
        extent = (REACH * unit + inset + side) / unit - begin
        whole = extent.floor()
        odd = 2 * torch.arange(size, device=side.device) + 1
        steps = odd * whole.long()  # the centre of pixel i lies at begin + (2i + 1)·extent / 2S
        pixel = steps // (2 * size)
        fraction = (extent - whole).double()
        rest = (steps - pixel * (2 * size) + odd * fraction) / (2 * size) + (begin.double() - REACH)
        scale = (extent.double() / size).clamp(min=1)
        lowest = (rest - 2 * scale + 0.5).floor()
        taps = torch.arange(self._most_taps(), device=side.device)
        offsets = lowest[:, None] + taps  # from `pixel`, (S, K)
        places = (pixel + REACH)[:, None] + offsets.long()  # in what is cut out
        there = (places >= 0) & (places < 2 * REACH + (inset + side + unit - 1) // unit)
        weights = _bicubic(((offsets + 0.5 - rest[:, None]) / scale).abs()) * there
        shares = (weights / weights.sum(dim=1, keepdim=True) * _HALF**2).round()
        return (places + first - REACH).clamp(0, length - 1), shares

    def _most_taps(self) -> int:
        """K, for a window as large as any."""
        largest = self.length * (1 if self.settings.kind == "frame" else self.enlargement)
        return 2 * math.ceil(2 * max(1, largest / self.settings.size)) + 1

    def spread(self, starts: Tensor, side: Tensor, count: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """Matrices A and B, (FRAME, cells), that bring a map of cells to the frame's grid, smoothed: A·m·Bᵀ.

        Args:
            starts, side: of the window.
            count: () float32, number of the view's valid pixels.
            cells: a side of the map.
        """
        size = self.settings.size
        smooth = _gaussian(size, SMOOTHING * count.sqrt()) @ linear(cells, size, side.device)  # (S, cells)
        found = []
        odd = 2 * torch.arange(FRAME, device=side.device) + 1
        for start, before in zip(starts.unbind(), self.padding, strict=True):
            beyond = odd * (self.length * self.unit) - (start + before * self.unit) * (2 * FRAME)
            centres = beyond / (2 * FRAME * side) * size - 0.5
            weights = 1 - (centres[:, None] - torch.arange(size, device=side.device)).abs()
            found.append(weights.clamp(min=0) @ smooth)
        return found[0], found[1]


def _mixed(lines: Tensor, shares: Tensor) -> Tensor:
    """Lines of whole numbers (…, S, K, n) by their shares (S, K), see `FrameView.cut_image` → (…, S, n)."""
    upper = (shares / _HALF).floor()
    parts = torch.stack([upper, shares - upper * _HALF], dim=1).float()  # (S, 2, K)
    high, low = (parts @ lines.float()).unbind(dim=-2)
    return ((high + (low / _HALF).floor() + _HALF / 2) / _HALF).floor().clamp(0, 255)


def _bicubic(distance: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, of distances ≥ 0."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def _gaussian(size: int, deviation: Tensor) -> Tensor:
    """What `models.view_maps` smooths with: (size, size), each row cut off beyond 4 deviations of either end."""
    most = math.ceil(4 * SMOOTHING * size) + 1
    places = torch.arange(-most, size + most, device=deviation.device)
    deviation = deviation.clamp(min=1e-3)
    reach = (4 * deviation).ceil() + 1
    kept = (places >= -reach) & (places < size + reach)
    distance = (places - torch.arange(size, device=deviation.device)[:, None]) / deviation
    weights = torch.exp(-distance.square() / 2) * kept
    return (weights / weights.sum(dim=1, keepdim=True))[:, most : most + size]
