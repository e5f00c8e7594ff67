"""What is doubted of the things that background removal left, by figures set by hand."""

import numpy as np

from processing.background.kept_parts import Kept, cut_by_geometry, doubts, measure_kept

PARTS = {f"{index:03d}": Kept(share, 0.0, True) for index, share in enumerate((0.10, 0.12, 0.14, 0.15, 0.16))}


def test_shares_of_frame_and_edge() -> None:
    """100 × 200 pixels: the edge is 2 pixels wide, 2 · 2 · (100 + 200 - 4) = 1184 pixels."""
    valid = np.zeros((100, 200), bool)
    valid[40:60, 150:] = True
    kept = measure_kept(valid, True)
    assert kept == Kept(20 * 50 / 20_000, 20 * 2 / 1184, True)
    assert measure_kept(np.ones((30, 40), bool), False) == Kept(1.0, 1.0, False)
    valid[:, 198:] = False
    assert measure_kept(valid, True).edge == 0


def test_parts_of_similar_size_inside_the_frame_are_not_doubted() -> None:
    assert doubts("bolt", PARTS) == []
    assert doubts("bolt", {}) == []
    edges = {"a": Kept(0.07, 0.01, True), "b": Kept(0.14, 0.0, True), "c": Kept(0.28, 0.01, True)}
    assert doubts("bolt", edges) == []  # just half and just twice the median, and a hundredth of the edge


def test_what_reaches_the_edge_is_doubted() -> None:
    (found,) = doubts("bolt", PARTS | {"arm": Kept(0.13, 0.05, True), "other": Kept(0.13, 0.023, False)})
    assert (found.problem, found.kind, found.class_name, found.samples) == (False, "kept", "bolt", ("arm", "other"))
    assert "reaches the edge of the frame, 2.3% to 5.0% of it: perhaps a table or an arm rather than" in found.text
    assert "--background depth-range, mask or none" in found.text


def test_what_fills_the_frame_is_doubted() -> None:
    (found,) = doubts("bolt", {"top": Kept(0.42, 0.0, True), "again": Kept(0.42, 0.0, True)})
    assert (
        "fills more than a third of the frame, 42.0%: perhaps the table or the box rather than the part" in found.text
    )
    assert found.samples == ("top", "again")


def test_good_samples_of_another_size_are_doubted() -> None:
    other = {"small": Kept(0.06, 0.0, True), "large": Kept(0.30, 0.0, True), "broken": Kept(0.01, 0.0, False)}
    (found,) = doubts("bolt", PARTS | other)
    assert found.samples == ("small", "large")  # a defect may change the size
    assert "is 6.0% to 30.0% of the frame, the median of the good samples 14.0%: perhaps another thing" in found.text


def test_what_a_mask_chose_or_nobody_is_not_judged() -> None:
    def stamp(settings: object) -> dict[str, object]:
        return {"preprocessing": {"settings": settings}}

    assert cut_by_geometry(None)
    assert cut_by_geometry(stamp({"background": "plane"}))
    assert cut_by_geometry(stamp({"background": "depth-range"}))
    assert cut_by_geometry(stamp({"plane_distance": 0.005}))
    assert cut_by_geometry(stamp(None))
    assert not cut_by_geometry(stamp({"background": "mask"}))
    assert not cut_by_geometry(stamp({"background": "none"}))
