"""The losses, on arrangements whose values can be worked out."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from datasets.sample import Sample
from models.dbmrnet.inputs import Inputs, prepare, take
from models.dbmrnet.losses import chamfer, colour_loss, depth_loss, reconstruction_losses, splat_loss
from models.dbmrnet.masking import Mask
from models.dbmrnet.network import MaskedReconstruction, patchify
from models.dbmrnet.settings import CROSS_LOSSES, ModelSettings

CPU = torch.device("cpu")
RADIUS = torch.tensor(0.5)
MakeFlat = Callable[..., Inputs]


def square() -> Tensor:
    """(80, 80) bool, valid in 20…59 along both axes: in units of the flat cloud, −1…0.95."""
    valid = torch.zeros(80, 80, dtype=torch.bool)
    valid[20:60, 20:60] = True
    return valid


def inner_points(count: int = 300) -> Tensor:
    """(1, count, 3) points of z = 0 well on the square."""
    points = torch.rand(1, count, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7
    return points * torch.tensor([1.0, 1, 0])


def test_chamfer_equals_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    rebuilt, true = torch.randn(2, 3, 5, 3, generator=generator), torch.randn(2, 3, 7, 3, generator=generator)
    there, back = [], []
    for b in range(2):
        for g in range(3):
            squared = [[float(((p - q) ** 2).sum()) for q in true[b, g]] for p in rebuilt[b, g]]
            there += [min(row) for row in squared]
            back += [min(column) for column in zip(*squared, strict=True)]
    expected = sum(there) / len(there) + sum(back) / len(back)
    assert float(chamfer(rebuilt, true)) == pytest.approx(expected, rel=1e-5)
    assert float(chamfer(true, true)) == 0
    assert float(chamfer(true, true + torch.tensor([0.0, 0, 1e-3]))) == pytest.approx(2e-6, rel=1e-3)


def test_depth_loss_is_the_squared_height_in_radii(flat_inputs: MakeFlat) -> None:
    inputs, points = flat_inputs(square()), inner_points()
    assert float(depth_loss(inputs, points, RADIUS)) == pytest.approx(0, abs=1e-6)
    for height in (0.1, -0.3):
        raised = points + torch.tensor([0.0, 0, height])
        assert float(depth_loss(inputs, raised, RADIUS)) == pytest.approx((height / 0.5) ** 2, abs=1e-5)


def test_depth_loss_off_the_object(flat_inputs: MakeFlat) -> None:
    inputs = flat_inputs(square())
    away = torch.tensor([[[1.5, 0.0, 0.0], [-1.9, 1.9, 3.0], [50.0, 0.0, 0.0]]])
    assert float(depth_loss(inputs, away, RADIUS)) == pytest.approx(1)
    # Column 59.25 is valid by three quarters, which is too little to compare depths: 1 − 0.75 is left.
    edge = torch.tensor([[[0.9625, 0.0, 5.0]]])
    assert float(depth_loss(inputs, edge, RADIUS)) == pytest.approx(0.25, abs=1e-4)
    one_of_four = torch.cat([inner_points(3), away[:, :1]], dim=1)
    assert float(depth_loss(inputs, one_of_four, RADIUS)) == pytest.approx(0.25, abs=1e-5)


def test_depth_at_the_rim_is_not_diluted_by_what_is_invalid(flat_inputs: MakeFlat) -> None:
    inputs = flat_inputs(square())
    shifted = replace(
        inputs, cloud=inputs.cloud + 2.0 * inputs.valid[:, None] * torch.tensor([0.0, 0, 1]).view(3, 1, 1)
    )
    rim = torch.tensor([[[0.9525, 0.0, 2.0]]])  # column 59.05: 0.95 valid
    assert float(depth_loss(shifted, rim, RADIUS)) == pytest.approx(0.05, abs=1e-4)


def test_depth_loss_is_zero_at_true_points_of_a_curved_cloud(
    make_dome: Callable[..., Sample], settings: ModelSettings
) -> None:
    inputs = prepare([make_dome(0, 192, (144, 192))], settings, 0, CPU)
    inner = torch.nn.functional.avg_pool2d(inputs.valid[0, None, None].float(), 3, stride=1, padding=1)[0, 0] > 0.99
    points = inputs.cloud[0].permute(1, 2, 0)[inner][None]
    radius = torch.tensor(0.15)  # about that of the groups at these sizes
    assert float(depth_loss(inputs, points, radius)) < 1e-6
    raised = torch.cat([points[..., :2], points[..., 2:] + 0.05], dim=-1)
    assert float(depth_loss(inputs, raised, radius)) > 0.05
    aside = points + torch.tensor([0.4, 0, 0])
    assert float(depth_loss(inputs, aside, radius)) > 0.05


def test_splat_loss_on_a_plane(flat_inputs: MakeFlat) -> None:
    inputs, points = flat_inputs(square()), inner_points()
    assert float(splat_loss(inputs, points, RADIUS)) == pytest.approx(0, abs=1e-6)
    raised = points + torch.tensor([0.0, 0, 0.2])
    assert float(splat_loss(inputs, raised, RADIUS)) == pytest.approx(0.16, abs=1e-4)
    away = torch.tensor([[[1.5, 0.0, 0.0], [-1.5, 1.5, 9.0]]])
    assert float(splat_loss(inputs, away, RADIUS)) == pytest.approx(1)


def test_splat_compares_means_of_cells_by_hand(flat_inputs: MakeFlat) -> None:
    inputs = flat_inputs(square())
    # The cell of column and row 8 has its centre at pixel 33.5, that of column 9 at 37.5; u = 20·x + 40.
    points = torch.tensor([[[(33.5 - 40) / 20, (33.5 - 40) / 20, 0.1], [(36.5 - 40) / 20, (33.5 - 40) / 20, 0.5]]])
    # The second one gives a quarter to column 8 and three quarters to column 9.
    first, second = (0.1 + 0.25 * 0.5) / 1.25, 0.5
    expected = ((first / 0.5) ** 2 + (second / 0.5) ** 2) / 2
    assert float(splat_loss(inputs, points, RADIUS)) == pytest.approx(expected, abs=1e-4)


def test_splat_loss_is_small_at_true_points_of_a_tilted_plane(flat_inputs: MakeFlat) -> None:
    inputs = flat_inputs(square())
    x, y = inputs.cloud[:, :1], inputs.cloud[:, 1:2]
    tilted = replace(inputs, cloud=torch.cat([x, y, 0.5 * x - 0.3 * y], dim=1))
    points = tilted.cloud[0, :, 24:56, 24:56].flatten(1).T[None]
    # Tent and box weigh a linear depth alike, except in the outermost cells, which have points on one side only.
    assert float(splat_loss(tilted, points, RADIUS)) < 0.01
    raised = points + torch.tensor([0.0, 0, 0.2])
    assert float(splat_loss(tilted, raised, RADIUS)) == pytest.approx(0.16, abs=0.01)


@pytest.mark.parametrize("window", [(0.0, 0.0, 80.0), (16.0, 12.0, 52.0)])
def test_colour_loss(flat_inputs: MakeFlat, window: tuple[float, float, float]) -> None:
    left, top, side = window
    places = (torch.arange(64) + 0.5) * side / 64 - 0.5
    u, v = (places + left).expand(64, 64), (places + top)[:, None].expand(64, 64)
    inputs = flat_inputs(square(), torch.stack([u / 40, v / 40, (u - v) / 20]), window)
    points = inner_points()
    pixels = 20 * points[..., :2] + 40
    true = torch.stack([pixels[..., 0] / 40, pixels[..., 1] / 40, (pixels[..., 0] - pixels[..., 1]) / 20], dim=-1)
    assert float(colour_loss(inputs, points, true)) == pytest.approx(0, abs=1e-6)
    wrong = true + torch.tensor([0.3, 0, 0])
    assert float(colour_loss(inputs, points, wrong)) == pytest.approx(0.03, abs=1e-5)
    away = torch.tensor([[[1.0 + 0.2, 0.0, 0.0]]])
    assert float(colour_loss(inputs, away, torch.tensor([[[64 / 40, 1.0, 24 / 20]]]))) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("cross_loss", CROSS_LOSSES)
def test_losses_of_the_network_by_hand(
    cross_loss: str, inputs: Inputs, draw_masks: Callable[..., tuple[Mask, Mask]]
) -> None:
    network = MaskedReconstruction(ModelSettings("small", cross_loss=cross_loss), 3)
    network.fit_radii(inputs)
    masks = draw_masks(4)
    with torch.no_grad():
        found = network(inputs, *masks)
        losses = reconstruction_losses(network, inputs, found, *masks)
        points = network.rebuilt_points(found)
    hidden, hidden_patches = (mask.hidden for mask in masks)

    true, rebuilt = take(take(inputs.points, inputs.groups), hidden), take(points, hidden)
    assert float(losses["loss_3D"]) == pytest.approx(float(chamfer(rebuilt, true) / network.radii[3] ** 2), rel=1e-4)

    patches = patchify(inputs.image, 8)
    difference = take(patches, hidden_patches) - take(found.patches, hidden_patches)
    assert float(losses["loss_2D"]) == pytest.approx(float(difference.square().mean()), rel=1e-5)

    flat = rebuilt.flatten(1, 2)
    if cross_loss == "rgb":
        assert found.colours is not None
        expected = colour_loss(inputs, flat, take(found.colours, hidden).flatten(1, 2))
    else:
        function = depth_loss if cross_loss == "depth" else splat_loss
        expected = function(inputs, flat, network.radii[3])
    assert float(losses["loss_cross"]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("cross_loss", CROSS_LOSSES)
def test_visible_tokens_do_not_count(
    cross_loss: str, inputs: Inputs, draw_masks: Callable[..., tuple[Mask, Mask]]
) -> None:
    network = MaskedReconstruction(ModelSettings("small", cross_loss=cross_loss), 3)
    network.fit_radii(inputs)
    masks = draw_masks(4)
    with torch.no_grad():
        found = network(inputs, *masks)
        before = reconstruction_losses(network, inputs, found, *masks)
        changed = replace(
            found,
            offsets=found.offsets + 3 * masks[0].visible[..., None, None],
            patches=found.patches + 3 * masks[1].visible[..., None],
            colours=None if found.colours is None else found.colours + 3 * masks[0].visible[..., None, None],
        )
        after = reconstruction_losses(network, inputs, changed, *masks)
    assert before == after


@pytest.mark.parametrize("cross_loss", CROSS_LOSSES)
def test_losses_and_gradients_of_degenerate_clouds_are_finite(
    cross_loss: str,
    make_dome: Callable[..., Sample],
    make_grid: Callable[..., Sample],
    draw_masks: Callable[..., tuple[Mask, Mask]],
) -> None:
    model, whole = ModelSettings("small", cross_loss=cross_loss), make_dome(0)
    clouds = []
    for count in (0, 1, 2, 5, 30):
        valid = torch.zeros_like(whole.valid)
        valid.view(-1)[whole.valid.view(-1).nonzero().flatten()[7::60][:count]] = True
        clouds.append(make_grid(whole.xyz, valid, whole.rgb))
    inputs, masks = prepare(clouds, model, 0, CPU), draw_masks(5)
    network = MaskedReconstruction(model, 3)
    network.fit_radii(inputs)
    losses = reconstruction_losses(network, inputs, network(inputs, *masks), *masks)
    sum(losses.values(), torch.zeros(())).backward()
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)
