"""Positions, attention and its local alignment, against formulas written out."""

import math

import pytest
import torch

from models.dbmrnet.transformer import FORBIDDEN, Attention, alignment_bias, sincos_positions


def test_sincos_positions_by_hand() -> None:
    side, width = 3, 16
    found = sincos_positions(side, width)
    assert found.shape == (9, 16)
    for row in range(side):
        for column in range(side):
            expected = []
            for place in (row, column):
                angles = [place / 10000 ** (i / 4) for i in range(4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            assert found[row * side + column].tolist() == pytest.approx(expected, abs=1e-6)
    assert len({tuple(row) for row in found.tolist()}) == 9


def test_alignment_bias_by_hand() -> None:
    points = torch.tensor([[[0.0, 0.0], [1.6, 0.2]]])
    patches = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [3.0, 1.0]]])
    # Largest difference along an axis, points × patches: 0, 1, 3; 1.6, 0.8, 1.4.
    no = FORBIDDEN
    across = [[0, 0, no], [no, 0, 0]]
    back = [list(row) for row in zip(*across, strict=True)]
    upper = [[0, 0, *row] for row in across]
    assert alignment_bias(points, patches, 1.5, "two_way")[0].tolist() == upper + [[*row, 0, 0, 0] for row in back]
    assert alignment_bias(points, patches, 1.5, "one_way")[0].tolist() == upper + [[0] * 5] * 3


@pytest.mark.parametrize("radius", [-1.0, 0.0, 0.9, 1.2, 1.5, 1.7, 3.0])
def test_alignment_radius_is_inclusive_and_negative_forbids_all(radius: float) -> None:
    points = torch.tensor([[[0.0, 0.0], [1.6, 0.2]]])
    patches = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [3.0, 1.0]]])
    # The pairs' distances are 0, 1, 3, 1.6, 0.8, 1.4.
    bias = alignment_bias(points, patches, radius, "two_way")[0]
    expected = sum(distance <= radius for distance in (0, 1, 3, 1.6, 0.8, 1.4))
    assert int((bias[:2, 2:] == 0).sum()) == expected
    assert torch.equal(bias, bias.T)
    assert not bool(bias[:2, :2].any())
    assert not bool(bias[2:, 2:].any())


def test_attention_equals_the_formula_and_forbidden_pairs_have_no_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    attention = Attention(8, 2)
    queries, context = torch.randn(1, 3, 8, generator=generator), torch.randn(1, 4, 8, generator=generator)
    bias = torch.zeros(1, 3, 4)
    bias[0, 0, 2], bias[0, 2, :3] = FORBIDDEN, FORBIDDEN
    found = attention(queries, context, bias)[0]
    q = attention.query(queries[0])
    k, v = attention.key_value(context[0]).split(8, dim=1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = (q[:, part] @ k[:, part].T / 2 + bias[0]).softmax(dim=1)
        assert weights[0, 2].item() == 0
        heads.append(weights @ v[:, part])
    torch.testing.assert_close(found, attention.out(torch.cat(heads, dim=1)), rtol=0, atol=1e-5)

    changed = context.clone()
    changed[0, 2] += 5
    again = attention(queries, changed, bias)[0]
    assert torch.equal(again[0], found[0])
    assert torch.equal(again[2], found[2])
    assert not torch.equal(again[1], found[1])
