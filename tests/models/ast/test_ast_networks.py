"""Teacher, student, places and scores: against plain versions of the formulas."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.ast.detector import Networks
from models.ast.flow import CLAMP, SOFTENING, Block, Flow, flow_loss
from models.ast.inputs import Inputs
from models.ast.position import position_code
from models.ast.scoring import distance, enlarge
from models.ast.student import Student


def stirred(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random weights everywhere, in float64: a flow's gains are 0 at first."""
    generator = torch.Generator().manual_seed(seed)
    network.double()
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(0.15 * torch.randn(weights.shape, generator=generator, dtype=torch.float64))
    return network.eval()


def invert(flow: Flow, z: Tensor) -> Tensor:
    """Features from z, from the last block to the first: shifts are taken away, and scales divided by."""
    for block in reversed(list(flow.blocks)):
        assert isinstance(block, Block)
        half = z.shape[1] // 2
        first, second = z[:, :half], z[:, half:]
        scale, shift = block.of_first(first, flow.places)
        second = (second - shift) / scale.exp()
        scale, shift = block.of_second(second, flow.places)
        first = (first - shift) / scale.exp()
        z = torch.empty_like(z)
        z[:, block.order] = torch.cat([first, second], dim=1)
    return z


def features(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("channels", [4, 7])
def test_the_flow_is_invertible(channels: int) -> None:
    flow = stirred(Flow(channels, 6))
    x = features(2, channels, 6, 6)
    with torch.no_grad():
        z, _ = flow(x)
        found = invert(flow, z)  # type: ignore[arg-type]
    assert float((z - x).abs().max()) > 0.5
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


def test_log_determinant_is_that_of_the_jacobian() -> None:
    """Of four channels and 3×3 cells; autograd's 36×36 matrix mixes cells, of which each coupling is triangular."""
    flow = stirred(Flow(4, 3))
    x = features(1, 4, 3, 3)
    jacobian = torch.autograd.functional.jacobian(lambda values: flow(values)[0].flatten(), x).view(36, 36)
    sign, expected = torch.linalg.slogdet(jacobian)
    _, found = flow(x)
    assert found.shape == (1, 3, 3)
    assert abs(float(sign)) == 1
    assert float(expected.abs()) > 0.1
    torch.testing.assert_close(found.sum(), expected)


def test_a_new_flow_only_permutes() -> None:
    flow = Flow(6, 4)
    x = features(2, 6, 4, 4).float()
    z, log_determinant = flow(x)
    expected = x
    for seed in range(4):
        expected = expected[:, torch.randperm(6, generator=torch.Generator().manual_seed(seed))]
    assert torch.equal(z, expected)
    assert not log_determinant.any()
    assert [block.of_first.first.kernel_size[0] for block in flow.blocks] == [3, 3, 3, 5]  # type: ignore[union-attr,index]


def test_scales_are_bounded_and_shifts_are_not() -> None:
    """log e(s) = 1.9·.636·atan(s / 1.9): one number, weights all zero but the last bias and the gain."""
    subnet = Block(4, 3, 0).of_second
    with torch.no_grad():
        for weights in subnet.parameters():
            weights.zero_()
        subnet.second.bias.copy_(torch.tensor([1.0, 1e9, 5.0, -3.0]))  # type: ignore[union-attr]
        subnet.gain.fill_(2.0)
    scale, shift = subnet(torch.zeros(1, 2, 3, 3), torch.zeros(1, 32, 3, 3))
    assert scale[0, :, 0, 0].tolist() == pytest.approx(
        [CLAMP * SOFTENING * math.atan(2 / 1.9), 1.9 * 0.636 * math.pi / 2]
    )
    assert shift[0, :, 1, 1].tolist() == [10.0, -6.0]


def test_flow_loss_by_hand() -> None:
    """Two cells: ½·(9 + 16) − 2 = 10.5, half of it counts; the other is masked. Mean over both: 2.625."""
    z = torch.tensor([[3.0, 1e3], [4.0, 7.0]]).view(1, 2, 1, 2)
    log_determinant = torch.tensor([2.0, 9.0]).view(1, 1, 2)
    assert float(flow_loss(z, log_determinant, torch.tensor([[[0.5, 0.0]]]))) == pytest.approx(2.625)


def test_places_are_sines_and_cosines() -> None:
    code = position_code(5)
    assert code.shape == (1, 32, 5, 5)
    for row, column in ((0, 0), (1, 3), (4, 2)):
        for k in range(8):
            frequency = 10_000 ** (-2 * k / 16)
            expected = [f(place * frequency) for place in (column, row) for f in (math.sin, math.cos)]
            found = code[0, [2 * k, 2 * k + 1, 16 + 2 * k, 17 + 2 * k], row, column]
            assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_student_has_the_papers_parameters_and_is_the_plain_network() -> None:
    """Colours of 304 and depths of 64 channels: 82.6 million, by counting weights of the layers that are printed."""
    with torch.device("meta"):
        full = Student(304 + 64, 1024, 24)
    assert sum(weights.numel() for weights in full.parameters()) == 82_601_328

    student = stirred(Student(3, 5, 4))
    x = features(2, 3, 4, 4)
    state = {name: value for name, value in student.state_dict().items() if "num_batches" not in name}
    values = list(state.values())

    def convolve(values: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.conv2d(values, weights, bias, padding=1)

    def leaky(values: Tensor) -> Tensor:
        return torch.where(values > 0, values, 0.01 * values)

    found = leaky(convolve(torch.cat([x, position_code(4).double().expand(2, -1, -1, -1)], dim=1), *values[:2]))
    for block in range(4):
        start, inner = 2 + 12 * block, found
        for first in (start, start + 6):
            weights, bias, gain, offset, mean, variance = values[first : first + 6]
            scaled = gain / (variance + 1e-5).sqrt()
            inner = convolve(inner, weights * scaled[:, None, None, None], (bias - mean) * scaled + offset)
            inner = leaky(inner)
        found = found + inner
    torch.testing.assert_close(student(x).double(), convolve(found, *values[-2:]), rtol=1e-4, atol=1e-4)


def test_score_is_the_masked_distance_masked_again() -> None:
    """A student that says the same but for 2 more in one channel of eight at one cell: 4 / 8, times m²."""

    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            said = networks.teacher(x)[0].clone()
            said[0, 3, 5, 7] += 2
            said[0, 3, 9, 9] += 100
            return said

    networks = Networks(8, 4, "fp32", 0).eval()
    networks.student = Wrong()  # type: ignore[assignment]
    mask = torch.ones(1, 24, 24)
    mask[0, 5, 7], mask[0, 9, 9] = 0.5, 0.0
    found = networks.score(Inputs(features(1, 8, 24, 24).float(), mask))
    expected = torch.zeros(1, 24, 24)
    expected[0, 5, 7] = 0.125
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        distance(torch.ones(1, 2, 1, 1), torch.tensor([4.0, 1.0]).view(1, 2, 1, 1), mask[:, :1, :1]),
        torch.full((1, 1, 1), 4.5),
    )


def test_map_is_the_score_enlarged() -> None:
    """At the middle of a cell's pixels, a bicubic curve through one cell of 1 among zeros is nearly 1."""
    score = torch.zeros(24, 24)
    score[6, 15] = 1.0
    valid = torch.zeros(224, 224, dtype=torch.bool)
    valid[50:70, 100:145] = True
    found = enlarge(score, valid)
    row, column = (int((place + 0.5) * 224 / 24) for place in (6, 15))
    assert 0.97 < found.image_score() <= 1.0
    assert divmod(int(found.smoothed.argmax()), 224) == (row, column)
    assert found.smoothed.min() == 0
    assert np.hypot(*(np.argwhere(found.smoothed.numpy() > 0.01) - [row, column]).T).max() < 2 * 224 / 24 * math.sqrt(2)
    assert torch.equal(found.psi_3d, found.smoothed * valid)
    assert torch.equal(found.psi_2d, found.psi_3d)
