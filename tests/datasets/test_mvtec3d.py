"""Published counts of MVTec 3D-AD."""

import numpy as np

from datasets.mvtec3d import RELEASED_COUNTS, missing_samples


def test_counts_add_up_to_the_published_totals() -> None:
    assert np.sum(list(RELEASED_COUNTS.values()), axis=0).tolist() == [2656, 294, 249, 948]


def test_missing_samples_names_incomplete_classes_of_the_release_only() -> None:
    assert missing_samples({"bagel": 376, "rope": 400}) == {"rope": 32}
    assert missing_samples({"bagel": 10, "my_part": 5}) == {}
