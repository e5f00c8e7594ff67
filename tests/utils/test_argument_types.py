"""utils/argument_types.py: the options in tests/utils/test_cli.py say what is refused."""

import numpy as np
import torch

from utils import argument_types


def test_largest_seed_is_one_that_generators_take() -> None:
    largest = argument_types.seed(str((1 << 63) - 1))
    assert torch.Generator().manual_seed(largest).initial_seed() == largest
    assert 0 <= np.random.default_rng([largest, 3]).random() < 1
