"""The student: a convolutional network that learns what the teacher says of nominal features (AST).

Being no flow, it does not follow the teacher to where that sends what is new.
"""

import torch
from torch import Tensor, nn

from models.ast import position

BLOCKS = 4


class ResidualBlock(nn.Module):
    """Two convolutions, each with batch normalisation and leaky ReLU, beside the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) → the same shape."""
        found: Tensor = x + self.layers(x)
        return found


class Student(nn.Module):
    """Features and places → what the teacher is expected to say. places: (1, 32, h, w), see `position_code`."""

    places: Tensor

    def __init__(self, channels: int, width: int, cells: int) -> None:
        """channels: D of the features. width: channels within."""
        super().__init__()
        first = nn.Conv2d(channels + position.CHANNELS, width, 3, padding=1)
        blocks = [ResidualBlock(width) for _ in range(BLOCKS)]
        self.layers = nn.Sequential(first, nn.LeakyReLU(), *blocks, nn.Conv2d(width, channels, 3, padding=1))
        self.register_buffer("places", position.position_code(cells), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) → the same shape, float32."""
        inputs = torch.cat([x, self.places.expand(len(x), -1, -1, -1)], dim=1)
        found: Tensor = self.layers(inputs)
        return found.float()
