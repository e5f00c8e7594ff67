"""Training of AST: the teacher first, then the student on what that says; and what comes of it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from datasets.sample import Sample, make_sample
from models.ast.detector import ASTPipeline, Networks
from models.ast.inputs import Inputs, channels, prepare, sixth_stage, view_of
from models.ast.plan import settings_for
from models.ast.scoring import distance
from models.ast.settings import ASTSettings
from models.ast.training import ASTConfig, ASTLearner, train
from models.extractors.backbone import Backbone, load_backbone
from tests.domes import SIDE, dome
from utils.checkpoint import CheckpointName
from utils.errors import UserError

CPU = torch.device("cpu")
DEPTH = ASTSettings("depth", 16)


def sample(seed: int, dent: float = 0.0, chosen: ASTSettings = DEPTH) -> Sample:
    return make_sample(*dome(seed, dent), view=view_of(chosen))


def config(epochs: int, batch_size: int = 2, seed: int = 0, model: ASTSettings = DEPTH) -> ASTConfig:
    return ASTConfig(model, {}, "fp32", epochs, batch_size, seed)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return prepare([sample(seed) for seed in range(4)], DEPTH, None, CPU)


def learned(inputs: Inputs, chosen: ASTConfig, folder: Path) -> tuple[Networks, list[dict[str, float]]]:
    log: list[dict[str, float]] = []
    name = CheckpointName(folder, "dome", chosen.epochs, chosen.batch_size)
    return train(inputs, chosen, name, False, log.append), log


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Networks, list[dict[str, float]]]:
    """Networks and log of a run of three epochs each."""
    return learned(inputs, config(3), tmp_path_factory.mktemp("whole"))


def test_the_teacher_learns_first_and_then_the_student(whole: tuple[Networks, list[dict[str, float]]]) -> None:
    _, log = whole
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert [next(key for key in entry if key.startswith("loss")) for entry in log] == [
        *["loss_teacher"] * 3,
        *["loss_student"] * 3,
    ]
    assert log[2]["loss_teacher"] < log[0]["loss_teacher"]
    assert log[5]["loss_student"] < log[3]["loss_student"]


def test_steps_change_one_network_and_losses_are_those_of_the_formulas(inputs: Inputs) -> None:
    learner = ASTLearner(inputs, config(1, batch_size=4))
    first = {name: value.clone() for name, value in learner.networks.state_dict().items()}
    x, mask = inputs.features, inputs.mask
    loss = learner.step([0, 1, 2, 3], torch.Generator())["loss_teacher"]
    assert float(loss) == pytest.approx(float((mask[:, None] * x.square()).sum() / 2 / mask.numel()), rel=1e-5)
    learner.after_epoch()
    second = {name: value.clone() for name, value in learner.networks.state_dict().items()}
    assert changed(first, second) == {"teacher"}
    with torch.no_grad():
        wanted = distance(learner.networks.teacher(x[[2, 0]])[0], learner.networks.student(x[[2, 0]]), mask[[2, 0]])
    found = learner.step([2, 0], torch.Generator())["loss_student"]
    assert float(found) == pytest.approx(float(wanted.mean()), rel=1e-5)
    assert changed(second, learner.networks.state_dict()) == {"student"}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the networks whose trained weights differ."""
    names = [name for name in before if name.endswith(("weight", "bias", "gain"))]
    return {name.split(".")[0] for name in names if not torch.equal(before[name], after[name])}


def test_training_repeats_and_hangs_on_the_seed(inputs: Inputs, tmp_path: Path) -> None:
    first, second, other = (
        learned(inputs, config(1, seed=seed), tmp_path / str(i))[0].state_dict() for i, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["student.layers.0.weight"], other["student.layers.0.weight"])


@pytest.mark.parametrize("epoch", [2, 5])
def test_a_run_stopped_in_either_half_ends_like_one_that_was_not(
    inputs: Inputs, whole: tuple[Networks, list[dict[str, float]]], tmp_path: Path, epoch: int
) -> None:
    """Of three epochs each: the second of the teacher, and the second of the student, whose targets are made again."""

    def stop(entry: dict[str, float]) -> None:
        if entry["epoch"] == epoch:
            raise KeyboardInterrupt

    networks, log = whole
    name = CheckpointName(tmp_path, "dome", 3, 2)
    with pytest.raises(KeyboardInterrupt):
        train(inputs, config(3), name, False, stop, save_seconds=0)
    rest: list[dict[str, float]] = []
    found = train(inputs, config(3), name, True, rest.append, save_seconds=0).state_dict()
    assert [entry["epoch"] for entry in rest] == list(range(epoch, 7))  # the one that was not saved is done again
    assert all(torch.equal(found[key], value) for key, value in networks.state_dict().items())
    assert rest[-1]["loss_student"] == log[-1]["loss_student"]


def test_a_dent_is_found_where_it_is(inputs: Inputs, tmp_path: Path) -> None:
    networks, _ = learned(inputs, config(20, batch_size=1), tmp_path)
    pipeline = ASTPipeline(DEPTH, None, networks, CPU)
    good = pipeline.maps([sample(10), sample(11)])
    (bad,) = pipeline.maps([sample(12, dent=0.004)])
    assert bad.image_score() > 2 * max(found.image_score() for found in good)
    row, column = divmod(int(bad.smoothed.argmax()), 224)
    assert abs(row - 40.5 * 224 / SIDE) < 14
    assert abs(column - 52.5 * 224 / SIDE) < 14


@pytest.mark.parametrize(("mode", "width"), [("rgb", 192), ("both", 256), ("depth", 64)])
def test_features_are_colours_then_depths(mode: str, width: int) -> None:
    chosen, backbone = settings_for(mode, 8, "efficientnet_lite0", None)
    assert (chosen.backbone, len(chosen.weights_sha256 or "")) == (
        (None, 0) if mode == "depth" else ("efficientnet_lite0", 64)
    )
    assert channels(chosen, backbone) == width
    item = sample(0, chosen=chosen)
    found = prepare([item], chosen, backbone, CPU)
    assert found.features.shape == (1, width, 24, 24)
    assert not found.features.requires_grad
    if mode != "rgb":  # the views differ by a quarter of a pixel where depths are picked
        wanted = prepare([sample(0)], DEPTH, None, CPU)
        assert float((found.features[:, -64:] - wanted.features).abs().mean()) < 0.01
        assert float((found.mask - wanted.mask).abs().mean()) < 0.01


def test_the_sixth_stage_is_the_one_before_the_last_of_timm() -> None:
    """By timm's own way through the network, which gives the last stage of a stride: all but blocks 6 is run here."""
    backbone, _ = load_backbone("efficientnet_lite0", None)
    image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = sixth_stage(image, backbone)
    assert found.shape == (192, 3, 3)
    normalised = ((image - backbone.mean) / backbone.std)[None]
    (last,) = backbone.network.forward_intermediates(normalised, indices=[4], norm=False, intermediates_only=True)
    torch.testing.assert_close(backbone.network.blocks[6](found[None]), last, rtol=1e-4, atol=1e-4)


def test_networks_without_such_a_stage_are_refused() -> None:
    with pytest.raises(UserError, match="--backbone resnet10t: expected an EfficientNet of timm"):
        sixth_stage(torch.zeros(3, 64, 64), Backbone("resnet10t"))


def test_papers_network_has_304_channels() -> None:
    with torch.device("meta"):
        from models.ast.settings import PAPER_BACKBONE

        network = Backbone(PAPER_BACKBONE).network
    assert network.blocks[5][-1].conv_pwl.out_channels == 304
