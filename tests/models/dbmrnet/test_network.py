"""The network: nothing hidden leaks into the encoder, and gradients cross the modalities only where they may."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.dbmrnet.inputs import Inputs, grid_pixels, take
from models.dbmrnet.losses import reconstruction_losses
from models.dbmrnet.masking import Mask, interpolate_depth
from models.dbmrnet.neighbours import visible_neighbours
from models.dbmrnet.network import MaskedReconstruction, patchify, unpatchify
from models.dbmrnet.settings import CROSS_LOSSES, PRESETS, ModelSettings

DrawMasks = Callable[..., tuple[Mask, Mask]]
EMBEDDINGS = ("image_embedding", "point_embedding")


def noisy_image(inputs: Inputs, where: Tensor, generator: torch.Generator) -> Inputs:
    """Noise in the pixels of these image tokens, (B, T2) bool."""
    flags = where.view(-1, 1, 8, 8).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    return replace(inputs, image=inputs.image + 3 * torch.randn(inputs.image.shape, generator=generator) * flags)


def moved_points(inputs: Inputs, where: Tensor, generator: torch.Generator, axes: tuple[int, ...]) -> Inputs:
    """Points, centres and pixels of the cloud whose token is one of these, (B, T3) bool, moved along some axes."""

    def moved(points: Tensor, owners: Tensor) -> Tensor:
        shift = torch.zeros_like(points)
        shift[..., axes] = torch.randn(*points.shape[:2], len(axes), generator=generator)
        return points + shift * take(where, owners)[..., None]

    pixels = inputs.cloud.flatten(2).transpose(1, 2)
    flat = torch.tensor([1.0, 1, 0])
    owners = torch.cdist(pixels * flat, inputs.centres[:, : where.shape[1]] * flat).argmin(dim=-1)
    cloud = moved(pixels, owners).transpose(1, 2).view_as(inputs.cloud) * inputs.valid[:, None]
    return replace(
        inputs,
        points=moved(inputs.points, inputs.owners),
        centres=moved(inputs.centres, inputs.centre_owners),
        cloud=cloud,
    )


def encoded(network: MaskedReconstruction, inputs: Inputs, masks: tuple[Mask, Mask]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        points, image, _ = network.encode(inputs, *masks)
    return points, image


def same(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(first, second, strict=True)]


def test_encoder_sees_nothing_that_is_hidden(
    network: MaskedReconstruction, inputs: Inputs, draw_masks: DrawMasks
) -> None:
    masks = draw_masks(4)
    before, generator = encoded(network, inputs, masks), torch.Generator().manual_seed(0)
    assert [part.shape for part in before] == [(4, 16, 128)] * 2
    points_hidden, image_hidden = (~mask.visible for mask in masks)
    noise = noisy_image(inputs, image_hidden, generator)
    assert not torch.equal(noise.image, inputs.image)
    assert same(encoded(network, noise, masks), before) == [True, True]
    for axes in ((2,), (0, 1, 2)):
        moved = moved_points(inputs, points_hidden, generator, axes)
        for name in ("points", "centres", "cloud"):
            assert not torch.equal(getattr(moved, name), getattr(inputs, name))
        assert same(encoded(network, moved, masks), before) == [True, True]
    centres_only = replace(inputs, centres=moved_points(inputs, points_hidden, generator, (2,)).centres)
    assert same(encoded(network, centres_only, masks), before) == [True, True]
    everything = moved_points(noise, points_hidden, generator, (0, 1, 2))
    assert same(encoded(network, everything, masks), before) == [True, True]


def test_encoder_sees_what_is_visible(network: MaskedReconstruction, inputs: Inputs, draw_masks: DrawMasks) -> None:
    masks = draw_masks(4)
    before, generator = encoded(network, inputs, masks), torch.Generator().manual_seed(0)
    noise = noisy_image(inputs, masks[1].visible, generator)
    assert same(encoded(network, noise, masks), before) == [False, False]
    moved = moved_points(inputs, masks[0].visible, generator, (2,))
    assert same(encoded(network, moved, masks), before) == [False, False]
    # A single visible token is enough.
    one = torch.zeros_like(masks[1].visible)
    one[0, masks[1].kept[0, 3]] = True
    found = encoded(network, noisy_image(inputs, one, generator), masks)
    assert not torch.equal(found[1][0], before[1][0])
    assert torch.equal(found[1][1:], before[1][1:])


def test_visible_tokens_do_not_change_with_the_rest_of_the_batch(
    network: MaskedReconstruction, inputs: Inputs, draw_masks: DrawMasks
) -> None:
    masks = draw_masks(4)
    together = encoded(network, inputs, masks)
    for i in range(4):
        row = torch.tensor([i])
        point_mask, image_mask = (Mask(mask.kept[row], mask.hidden[row]) for mask in masks)
        alone = encoded(network, inputs.select(row), (point_mask, image_mask))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked_centres", ["xyi", "xyz"])
def test_only_xyz_gives_hidden_depths_to_the_decoder(
    masked_centres: str, inputs: Inputs, draw_masks: DrawMasks
) -> None:
    made = MaskedReconstruction(ModelSettings("small", masked_centres=masked_centres), 3).eval()
    masks = draw_masks(4)
    generator = torch.Generator().manual_seed(0)
    moved = moved_points(inputs, ~masks[0].visible, generator, (2,))
    with torch.no_grad():
        before, after = made(inputs, *masks), made(moved, *masks)
    leaks = masked_centres == "xyz"
    for name in ("offsets", "patches", "point_tokens", "image_tokens", "origins"):
        assert torch.equal(getattr(before, name), getattr(after, name)) != leaks, name
    centres = inputs.centres[:, :64]
    assert torch.equal(before.origins, centres if leaks else interpolate_depth(centres, masks[0]))
    assert torch.equal(take(before.origins, masks[0].kept), take(centres, masks[0].kept))


def test_rebuilt_points_by_hand(network: MaskedReconstruction, inputs: Inputs, draw_masks: DrawMasks) -> None:
    with torch.no_grad():
        found = network(inputs, *draw_masks(4))
    points = network.rebuilt_points(found)
    assert points.shape == (4, 64, 16, 3)
    expected = found.origins[1, 7] + found.offsets[1, 7, 5] * network.radii[3]
    torch.testing.assert_close(points[1, 7, 5], expected)


def test_radii_are_medians_of_the_farthest_neighbour(network: MaskedReconstruction, inputs: Inputs) -> None:
    stages = [inputs.points, inputs.centres, inputs.centres[:, :128], inputs.centres[:, :64]]
    for i, (centres, points, k) in enumerate(
        [(stages[1], stages[0], 16), (stages[2], stages[1], 8), (stages[3], stages[2], 8), (stages[3], stages[0], 16)]
    ):
        # The dome is smooth: its nearest in space are among the candidates, which are near in the plane.
        farthest = torch.cdist(centres.double(), points.double()).topk(k, dim=-1, largest=False).values[..., -1]
        assert float(network.radii[i]) == pytest.approx(float(farthest.median()), rel=1e-3)
        if i < 3:
            _, distances = visible_neighbours(centres, points, inputs.near[i], None, k)
            assert float(network.radii[i]) == float(distances[..., -1].median())


def test_all_visible_masks_are_no_masks(network: MaskedReconstruction, inputs: Inputs) -> None:
    everything = Mask(torch.arange(64).expand(4, -1), torch.zeros(4, 0, dtype=torch.int64))
    with torch.no_grad():
        masked, plain = network(inputs, everything, everything), network(inputs)
    torch.testing.assert_close(masked.patches, plain.patches, rtol=0, atol=1e-5)
    torch.testing.assert_close(masked.offsets, plain.offsets, rtol=0, atol=1e-5)


def test_patchify_by_hand_and_back() -> None:
    image = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    patches = patchify(image, 4)
    assert patches.shape == (2, 9, 48)
    assert torch.equal(patches[1, 5].view(3, 4, 4), image[1, :, 4:8, 8:12])
    assert torch.equal(unpatchify(patches, 4), image)
    other = torch.randn(2, 9, 48, generator=torch.Generator().manual_seed(1))
    assert torch.equal(patchify(unpatchify(other, 4), 4), other)


def test_tokens_lie_where_their_pixels_are(network: MaskedReconstruction, inputs: Inputs) -> None:
    assert grid_pixels(8, torch.device("cpu"))[0, :10].tolist() == [[i, 0] for i in range(8)] + [[0, 1], [1, 1]]
    left, top, side = inputs.window[0].tolist()
    v, u = (int(n) for n in inputs.valid[0].nonzero()[700])
    place = network.to_grid(inputs.select(torch.tensor([0])), inputs.cloud[0, :, v, u][None, None])[0, 0]
    expected = [(u + 0.5 - left) / side * 8 - 0.5, (v + 0.5 - top) / side * 8 - 0.5]
    assert place.tolist() == pytest.approx(expected, abs=0.02)


def gradients(model: ModelSettings, inputs: Inputs, masks: tuple[Mask, Mask], loss: str) -> dict[str, float]:
    """Largest absolute gradient that one loss gives to the weights of each embedding."""
    made = MaskedReconstruction(model, 3)
    made.fit_radii(inputs)
    reconstruction_losses(made, inputs, made(inputs, *masks), *masks)[loss].backward()
    found = {}
    for part in EMBEDDINGS:
        parts = [p.grad.abs().max() for p in getattr(made, part).parameters() if p.grad is not None]
        found[part] = float(torch.stack(parts).max()) if parts else 0.0
    return found


@pytest.mark.parametrize(
    ("loss", "cross_loss"), [("loss_3D", "depth"), ("loss_2D", "depth"), *(("loss_cross", c) for c in CROSS_LOSSES)]
)
def test_each_loss_alone_reaches_both_embeddings(
    loss: str, cross_loss: str, inputs: Inputs, draw_masks: DrawMasks
) -> None:
    found = gradients(ModelSettings("small", cross_loss=cross_loss), inputs, draw_masks(4), loss)
    assert min(found.values()) > 1e-7


@pytest.mark.parametrize("local_layers", [None, 3, 2])
@pytest.mark.parametrize("loss", ["loss_3D", "loss_2D", "loss_cross"])
def test_separated_branches_get_no_gradient_of_each_other(
    loss: str, local_layers: int | None, inputs: Inputs, draw_masks: DrawMasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(PRESETS["small"], shared_depth=0))
    model = ModelSettings("small", alignment_radius=-1, local_layers=local_layers)
    found = gradients(model, inputs, draw_masks(4), loss)
    own, other = EMBEDDINGS if loss == "loss_2D" else EMBEDDINGS[::-1]
    assert found[own] > 1e-7
    if local_layers == 2:  # the third encoder block joins them
        assert found[other] > 1e-7
    else:
        assert found[other] == 0


def test_one_way_alignment_keeps_points_from_the_image_only(inputs: Inputs, draw_masks: DrawMasks) -> None:
    made = MaskedReconstruction(ModelSettings("small", alignment_radius=-1, alignment="one_way"), 3).eval()
    masks, generator = draw_masks(4), torch.Generator().manual_seed(0)
    before = encoded(made, inputs, masks)
    assert same(encoded(made, noisy_image(inputs, masks[1].visible, generator), masks), before) == [True, False]
    moved = moved_points(inputs, masks[0].visible, generator, (2,))
    assert same(encoded(made, moved, masks), before) == [False, False]


def test_two_way_alignment_below_zero_separates_both(inputs: Inputs, draw_masks: DrawMasks) -> None:
    made = MaskedReconstruction(ModelSettings("small", alignment_radius=-1), 3).eval()
    masks, generator = draw_masks(4), torch.Generator().manual_seed(0)
    before = encoded(made, inputs, masks)
    assert same(encoded(made, noisy_image(inputs, masks[1].visible, generator), masks), before) == [True, False]
    moved = moved_points(inputs, masks[0].visible, generator, (2,))
    assert same(encoded(made, moved, masks), before) == [False, True]


def test_weights_follow_from_the_seed_alone(settings: ModelSettings) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, second, other = (MaskedReconstruction(settings, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(first.image_head.weight, other.image_head.weight)
    counts = [sum(p.numel() for p in part.parameters()) for part in (first, first.local)]
    assert counts[0] - counts[1] == pytest.approx(1.45e6, rel=0.05)
