"""What is measured of a sample."""

import numpy as np

from datasets.measures import exposure


def test_exposure_is_the_mean_of_the_channels_on_valid_points() -> None:
    rgb = np.array([[[0, 30, 60], [255, 255, 255]], [[90, 90, 90], [10, 20, 30]]], np.uint8)
    valid = np.array([[True, False], [True, False]])
    assert exposure(rgb, valid) == 60
