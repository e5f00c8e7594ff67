"""Mappers, loss, detector and the training run on small made-up tokens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import plain_cfm
from models.cfm import training
from models.cfm.detector import CrossmodalDetector
from models.cfm.losses import LastLayerLoss
from models.cfm.mappers import MAPPERS, CrossmodalMapper
from models.cfm.scoring import discrepancy, scatter_to_grid
from models.extractors.handcrafted import Handcrafted
from models.lifting import LiftingOperator
from models.tokens import PIXELS_A_BLOCK, ModalityTokens, Tokens
from utils.checkpoint import CheckpointName, save_state
from utils.errors import UserError
from utils.run_record import read_json_lines
from utils.training import is_finished, resume_path, save_run

MakeTokens = Callable[[int], Tokens]
CPU = torch.device("cpu")
CONFIG = training.CFMConfig({"extractor": "made up"}, {"images": 5}, "mlp", "fp32", 6, 2, 3, 1.0)


def run(
    tokens: list[Tokens],
    folder: Path,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
    config: training.CFMConfig = CONFIG,
) -> dict[str, Tensor]:
    """Train and return the weights."""
    name = CheckpointName(folder, "thing", config.epochs, config.batch_size)
    detector = training.train(tokens, config, name, CPU, resume, report, save_seconds=0)
    save_run(name, "CFM", training.states(detector, {}), config, {}, ".pth")
    return detector.state_dict()


@pytest.mark.parametrize("variant", sorted(MAPPERS))
def test_factored_first_layer_equals_the_plain_mapper(variant: str, make_random_tokens: MakeTokens) -> None:
    tokens = make_random_tokens(0)
    torch.manual_seed(0)
    mapper = CrossmodalMapper(8, 6, variant)
    mapper.requires_grad_(False)
    features = tokens.xyz.lifted()
    expected = plain_cfm.map_features(features, mapper.state_dict())
    torch.testing.assert_close(mapper(features), expected, rtol=0, atol=1e-6)
    factored = mapper.from_lifted(tokens.xyz.lift.multiply(mapper.hidden_tokens(tokens.xyz.tokens)))
    torch.testing.assert_close(factored, expected, rtol=0, atol=1e-5)


def test_published_parameter_names_and_sizes() -> None:
    small, big = CrossmodalMapper(768, 1152, "mlp"), CrossmodalMapper(1152, 768, "mlp_big")
    assert [name for name, _ in small.named_parameters()][::2] == ["input.weight", "projection.weight", "output.weight"]
    assert [name for name, _ in big.named_parameters()][2::2] == [
        *(f"projection_{letter}.weight" for letter in "abcde"),
        "output.weight",
    ]
    assert sum(p.numel() for p in small.parameters()) == 768 * 960 + 960 * 960 + 960 * 1152 + 960 + 960 + 1152


def test_discrepancy_of_known_vectors() -> None:
    mapped = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]])
    observed = torch.tensor([[5.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert discrepancy(mapped, observed).tolist() == pytest.approx([0.0, 2**0.5, 2.0, 1.0], abs=1e-6)


def test_scatter_leaves_the_background_zero() -> None:
    grid = scatter_to_grid(torch.tensor([1.0, 2.0]), torch.tensor([1, 8]), 3)
    assert grid.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 2]]


def test_training_learns_the_relation(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    tokens = [make_random_tokens(seed) for seed in range(5)]
    entries: list[dict[str, Any]] = []
    run(tokens, tmp_path, report=entries.append, config=replace(CONFIG, epochs=40))
    for name in ("loss_2Dto3D", "loss_3Dto2D"):
        assert entries[-1][name] < 0.85 * entries[0][name]
    assert [entry["epoch"] for entry in entries] == list(range(1, 41))


def test_same_seed_same_weights_and_other_seed_other_weights(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    tokens = [make_random_tokens(seed) for seed in range(5)]
    first, second = run(tokens, tmp_path / "a"), run(tokens, tmp_path / "b")
    other = run(tokens, tmp_path / "c", config=replace(CONFIG, seed=4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["rgb_to_xyz.input.weight"], other["rgb_to_xyz.input.weight"])


def test_resumed_run_ends_like_an_uninterrupted_one(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    tokens = [make_random_tokens(seed) for seed in range(5)]
    expected = run(tokens, tmp_path / "whole")

    def stop_in_epoch_4(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path / "stopped", report=stop_in_epoch_4)
    resumed: list[dict[str, Any]] = []
    found = run(tokens, tmp_path / "stopped", resume=True, report=resumed.append)
    assert [entry["epoch"] for entry in resumed] == [4, 5, 6]
    assert all(torch.equal(expected[name], found[name]) for name in expected)

    logs = [read_json_lines(tmp_path / part / "thing" / "CFM_thing_6ep_2bs.jsonl") for part in ("whole", "stopped")]
    without_time = [[{k: v for k, v in entry.items() if k != "seconds"} for entry in log] for log in logs]
    assert without_time[0] == without_time[1]
    assert not (tmp_path / "stopped/thing/CFM_resume_thing_6ep_2bs.pth").exists()


def test_finished_run_is_recognised(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    name = CheckpointName(tmp_path, "thing", CONFIG.epochs, CONFIG.batch_size)
    files = name, training.PART, name.path(training.RGB_TO_XYZ)
    assert not is_finished(*files, CONFIG, False)
    run([make_random_tokens(0)], tmp_path)
    for resume in (False, True):
        assert is_finished(*files, CONFIG, resume)
        with pytest.raises(UserError, match=r"made otherwise \(seed: \d+, now 9\)\..*--overwrite"):
            is_finished(*files, replace(CONFIG, seed=9), resume)
    other = replace(CONFIG, data={**CONFIG.data, "sha256": "f" * 64}, extractor={**CONFIG.extractor, "mode": "x"})
    with pytest.raises(UserError, match=r"data\.sha256: of other files; extractor\.mode: .*, now 'x'"):
        is_finished(*files, other, False)
    resume_path(name, training.PART).touch()  # of a run that was to replace it
    assert not is_finished(*files, other, True)


def test_weights_of_others_are_not_overwritten(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    """The original authors' have neither settings nor a log; ours without settings were stopped while being written."""
    run([make_random_tokens(0)], tmp_path)
    name = CheckpointName(tmp_path, "thing", CONFIG.epochs, CONFIG.batch_size)
    files = name, training.PART, name.path(training.RGB_TO_XYZ)
    name.path(training.PART, ".json").unlink()
    assert not is_finished(*files, CONFIG, False)
    name.path(training.PART, ".jsonl").unlink()
    with pytest.raises(UserError, match=r"CFM_2Dto3D_thing_.*: is there already, .*--overwrite"):
        is_finished(*files, CONFIG, False)


def test_damaged_run_is_replaced_only_when_asked(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    run([make_random_tokens(0)], tmp_path)
    name = CheckpointName(tmp_path, "thing", CONFIG.epochs, CONFIG.batch_size)
    name.path(training.RGB_TO_XYZ).write_bytes(b"x")
    with pytest.raises(UserError, match=r"sha256 differs.*To train again in its place, add --overwrite"):
        is_finished(name, training.PART, name.path(training.RGB_TO_XYZ), CONFIG, False)


def test_resuming_with_other_options_is_refused(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    tokens = [make_random_tokens(0)]

    def stop(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path, report=stop)
    with pytest.raises(UserError, match="another configuration"):
        run(tokens, tmp_path, resume=True, config=replace(CONFIG, seed=9))


def test_loss_that_is_not_finite_stops_the_run(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    tokens = make_random_tokens(0)
    with pytest.raises(UserError, match="not finite"):
        run([replace(tokens, rgb=ModalityTokens(tokens.rgb.tokens * torch.nan, tokens.rgb.lift))], tmp_path)
    assert not list(tmp_path.rglob("*.pth"))


def test_checkpoint_round_trip(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    tokens = [make_random_tokens(seed) for seed in range(3)]
    weights = run(tokens, tmp_path)
    assert sorted(path.name for path in (tmp_path / "thing").iterdir()) == [
        "CFM_2Dto3D_thing_6ep_2bs.pth",
        "CFM_3Dto2D_thing_6ep_2bs.pth",
        "CFM_thing_6ep_2bs.json",
        "CFM_thing_6ep_2bs.jsonl",
    ]
    detector, settings, extractor_state = training.load(CheckpointName(tmp_path, "thing", 6, 2), None)
    assert all(torch.equal(weights[name], value) for name, value in detector.state_dict().items())
    assert settings is not None
    assert settings["config"]["seed"] == 3
    assert extractor_state == {}


def test_checkpoint_that_was_swapped_is_refused(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    run([make_random_tokens(0)], tmp_path)
    path = tmp_path / "thing/CFM_2Dto3D_thing_6ep_2bs.pth"
    torch.save(CrossmodalMapper(6, 8, "mlp").state_dict(), path)
    with pytest.raises(UserError, match="sha256 differs"):
        training.load(CheckpointName(tmp_path, "thing", 6, 2), None)


@pytest.mark.parametrize("variant", sorted(MAPPERS))
def test_original_authors_checkpoint_has_no_settings(variant: str, tmp_path: Path) -> None:
    folder = tmp_path / "bagel"
    folder.mkdir()
    states = {
        "CFM_2Dto3D": CrossmodalMapper(768, 1152, variant).state_dict(),
        "CFM_3Dto2D": CrossmodalMapper(1152, 768, variant).state_dict(),
    }
    for name, state in states.items():
        torch.save(state, folder / f"{name}_bagel_250ep_4bs.pth")
    detector, settings, _ = training.load(CheckpointName(tmp_path, "bagel", 250, 4), None)
    assert settings is None
    assert detector.variant == variant
    assert torch.equal(detector.xyz_to_rgb.output.weight, states["CFM_3Dto2D"]["output.weight"])


def test_other_weights_are_no_mapper(tmp_path: Path) -> None:
    (tmp_path / "bagel").mkdir()
    for part in ("CFM_2Dto3D", "CFM_3Dto2D"):
        torch.save({"weight": torch.zeros(3)}, tmp_path / "bagel" / f"{part}_bagel_50ep_4bs.pth")
    with pytest.raises(UserError, match="not a pair of crossmodal mappers"):
        training.load(CheckpointName(tmp_path, "bagel", 50, 4), None)


def test_other_widths_than_the_extractors_are_refused() -> None:
    class Narrow(Handcrafted):
        xyz_width = 384

    with pytest.raises(UserError, match=r"widths \(72, 38\).* gives \(72, 384\)"):
        training.check_extractor(Narrow(), CrossmodalDetector(72, 38, "mlp", "fp32"), None)


def test_fresh_run_forgets_an_older_one(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    tokens, name = [make_random_tokens(0)], CheckpointName(tmp_path, "thing", CONFIG.epochs, CONFIG.batch_size)

    def stop(entry: dict[str, Any]) -> None:
        if entry["epoch"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path, report=stop)
    assert resume_path(name, training.PART).exists()
    assert not is_finished(name, training.PART, name.path(training.RGB_TO_XYZ), CONFIG, False)
    detector = training.train(tokens, CONFIG, name, CPU, False, lambda entry: None)
    assert not resume_path(name, training.PART).exists()
    assert len(read_json_lines(name.path(training.PART, ".jsonl"))) == 6
    assert not detector.training


def test_missing_checkpoint_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "bagel").mkdir()
    (tmp_path / "bagel/CFM_2Dto3D_bagel_250ep_4bs.pth").touch()
    with pytest.raises(UserError, match=r"no such file.*250ep_4bs"):
        training.load(CheckpointName(tmp_path, "bagel", 50, 4), None)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.02)])
@pytest.mark.parametrize("variant", sorted(MAPPERS))
def test_loss_pools_the_pixels_of_all_images_and_gradients_equal_the_chain_rule(
    variant: str, precision: str, tolerance: float, make_random_tokens: MakeTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PIXELS_A_BLOCK, "cpu", 100)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")  # or bf16 may be fp32
    batch = [make_random_tokens(seed) for seed in range(2)]
    detector = CrossmodalDetector(6, 8, variant, precision, seed=2)
    detector.backward(batch)
    once = [cast(Tensor, parameter.grad).clone() for parameter in detector.parameters()]
    detector.backward(batch)  # gradients are added to those that are there
    for parameter, gradient in zip(detector.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)

    detector.zero_grad(set_to_none=True)
    losses = detector.backward(batch)
    found = {name: parameter.grad for name, parameter in detector.named_parameters()}

    detector.zero_grad(set_to_none=True)
    for name, mapper, ways in (
        ("loss_2Dto3D", detector.rgb_to_xyz, [(tokens.rgb, tokens.xyz) for tokens in batch]),
        ("loss_3Dto2D", detector.xyz_to_rgb, [(tokens.xyz, tokens.rgb) for tokens in batch]),
    ):
        pairs = [(mapper(source.lifted()), target.lifted()) for source, target in ways]
        expected = torch.cat([1 - functional.cosine_similarity(*pair, eps=1e-6) for pair in pairs]).mean()
        expected.backward()
        assert float(losses[name]) == pytest.approx(expected.item(), rel=tolerance)
    for name, parameter in detector.named_parameters():
        gradient, reference = cast(Tensor, found[name]), cast(Tensor, parameter.grad)
        assert (gradient - reference).norm() < tolerance * reference.norm(), name


@pytest.mark.parametrize(("noise", "tolerance"), [(0.3, 1e-4), (0.03, 1e-3)])
def test_last_layer_loss_where_target_and_mapped_are_close(noise: float, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    layer, pixels = torch.nn.Linear(33, 20), 50
    activations = torch.randn(pixels, 33, generator=generator).requires_grad_()
    mapped = layer(activations)
    target = mapped.detach() + noise * torch.randn(pixels, 20, generator=generator)
    expected = (1 - functional.cosine_similarity(mapped, target)).mean()
    expected.backward()
    reference = [cast(Tensor, t.grad).clone() for t in (activations, layer.weight, layer.bias)]

    layer.zero_grad(set_to_none=True)
    count = torch.arange(pixels + 1, dtype=torch.int32)
    identity = LiftingOperator(count, count[:-1], torch.ones(pixels), pixels)
    loss = LastLayerLoss(layer, torch.float32, pixels)
    loss.begin(target)
    gradient = loss.add(activations.detach(), identity, target.norm(dim=1))
    loss.end()
    loss.backward()
    assert float(loss.total) == pytest.approx(expected.item(), rel=tolerance)
    for found, wanted in zip((gradient, layer.weight.grad, layer.bias.grad), reference, strict=True):
        assert (cast(Tensor, found) - wanted).norm() < tolerance * wanted.norm()


def test_drawn_pixels_are_a_random_share_with_the_same_features(make_random_tokens: MakeTokens) -> None:
    tokens = make_random_tokens(0)
    drawn = tokens.draw_pixels(0.25, torch.Generator().manual_seed(0))
    assert len(drawn.foreground) == round(0.25 * len(tokens.foreground))
    places = torch.searchsorted(tokens.foreground, drawn.foreground)
    assert torch.equal(tokens.foreground[places], drawn.foreground)
    assert drawn.foreground.unique().numel() == len(drawn.foreground)
    for some, everything in ((drawn.rgb, tokens.rgb), (drawn.xyz, tokens.xyz)):
        torch.testing.assert_close(some.lifted(), everything.lifted()[places])
        features = torch.randn(len(places), 3)
        dense = torch.zeros(len(tokens.foreground), 3)
        dense[places] = features
        torch.testing.assert_close(some.lift.transposed.multiply(features), everything.lift.transposed.multiply(dense))
    other = tokens.draw_pixels(0.25, torch.Generator().manual_seed(1))
    assert not torch.equal(other.foreground, drawn.foreground)
    assert len(tokens.draw_pixels(1e-9, torch.Generator()).foreground) == 1


def test_training_on_a_share_of_the_pixels_learns_and_repeats(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    tokens = [make_random_tokens(seed) for seed in range(5)]
    entries: list[dict[str, Any]] = []
    config = replace(CONFIG, epochs=40, pixel_fraction=0.2)
    first = run(tokens, tmp_path / "a", report=entries.append, config=config)
    assert entries[-1]["loss_2Dto3D"] < 0.85 * entries[0]["loss_2Dto3D"]
    second = run(tokens, tmp_path / "b", config=config)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_declared_widths_cannot_make_a_larger_network_than_the_file(tmp_path: Path) -> None:
    """A first layer of one row for a million features would make hidden layers of 500 000 × 500 000."""
    name = CheckpointName(tmp_path, "thing", 1, 1)
    state = {"input.weight": torch.zeros(1, 1_000_000), "output.weight": torch.zeros(8, 1)}
    for part in (training.RGB_TO_XYZ, training.XYZ_TO_RGB):
        save_state(name.path(part), state)
    with pytest.raises(UserError, match=r"not a pair of crossmodal mappers \(layers 1000000→1 and 1→8, not the width"):
        training.load(name, None)
