"""What every method of the registry keeps, from training to results; a new one is tried by being entered."""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import evaluate
import train
from datasets.sample import Sample, make_sample
from evaluation.thresholds import load_scores, thresholds_path
from experiments.calibration import nominal_scores
from models.checkpoints import find_run, load_run, weights_sha256
from models.method import Method, Pipeline
from models.methods import METHODS
from tests.domes import SIDE, dome, write_domes
from utils import cli

SMALL = {
    "cfm": ["--extractor", "handcrafted", "--pixel_fraction", "0.05"],
    "dbmrnet": ["--preset", "small"],
    "btf": ["--features", "hog"],
    "m3dm": ["--extractor", "cnn_normals"],
    "ast": ["--mode", "depth", "--width", "16"],
}
"""Options of methods that would take long, or weights from elsewhere."""


@dataclass(frozen=True)
class Case:
    """A method, trained on domes, for three epochs where it has any. folder: data/, checkpoints/."""

    key: str
    folder: Path

    @property
    def method(self) -> Method:
        return METHODS[self.key]

    @property
    def epochs(self) -> int:
        return min(3, self.method.epochs)

    def words(self) -> list[str]:
        words = ["--method", self.key, "--dataset_path", str(self.folder / "data"), "--class_name", "dome"]
        return [*words, "--epochs_no", str(self.epochs), "--batch_size", "2", "--device", "cpu"]

    def train(self, place: Path, *more: str) -> int:
        return train.main([*self.words(), *SMALL.get(self.key, []), "--checkpoint_savepath", str(place), *more])

    def load(self) -> Pipeline:
        return load_run(find_run(self.folder / "checkpoints/dome"), "cpu").pipeline


@pytest.fixture(scope="module", params=METHODS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    write_domes(folder / "data")
    made = Case(request.param, folder)
    assert made.train(folder / "checkpoints") == 0
    return made


def samples(pipeline: Pipeline, *seeds: int, dent: float = 0.0) -> list[Sample]:
    return [make_sample(*dome(seed, dent), view=pipeline.view) for seed in seeds]


def test_it_is_named_and_its_options_parse(case: Case) -> None:
    assert case.method.name.lower() == case.key
    assert case.method.title
    assert case.method.citation
    options = cli.training_parser(case.method).parse_args(["--class_name", "dome"])
    assert options.epochs_no == case.method.epochs
    assert case.method.name in str(options.checkpoint_savepath)
    assert not cli.inference_parser(case.method, 0.01).parse_args(["--class_name", "dome"]).save_maps


def test_each_of_its_files_names_its_run(case: Case) -> None:
    place = case.folder / "checkpoints/dome"
    run = find_run(place)
    assert run.method == case.method.name
    assert str(run) == f"{case.method.name} dome {case.epochs}ep_2bs"
    assert {path.suffix for path in place.iterdir()} >= {".json", case.method.suffix}
    for path in place.iterdir():
        assert find_run(path).name == run.name
        assert find_run(path).method == run.method
    assert any(path.is_file() for path in case.method.weights(run))


def test_maps_repeat_and_a_batch_is_its_samples(case: Case) -> None:
    pipeline, other = case.load(), case.load()
    batch = samples(pipeline, 11, 12)
    found, again, loaded = pipeline.maps(batch), pipeline.maps(batch), other.maps(batch)
    for i, sample in enumerate(batch):
        (single,) = pipeline.maps([sample])
        for name in ("psi_2d", "psi_3d", "smoothed"):
            values = getattr(found[i], name)
            assert values.shape == sample.valid.shape
            assert torch.isfinite(values).all()
            assert values.min() >= 0
            assert not values.requires_grad
            assert torch.equal(values, getattr(again[i], name))
            assert torch.equal(values, getattr(loaded[i], name))
            torch.testing.assert_close(values, getattr(single, name), rtol=1e-2, atol=1e-3 * float(values.max()))
        beyond = torch.nn.functional.max_pool2d(sample.valid[None].float(), 25, stride=1, padding=12)[0] == 0
        assert not found[i].psi_2d[beyond].any()
        assert not found[i].psi_3d[beyond].any()


@pytest.mark.parametrize("n_points", [0, 1, 4])
def test_clouds_of_few_points_have_finite_maps(case: Case, n_points: int) -> None:
    pipeline = case.load()
    image, cloud = dome(13)
    kept = np.zeros((SIDE, SIDE, 1), np.float32)
    kept[48, 40 : 40 + n_points] = 1
    (found,) = pipeline.maps([make_sample(image, cloud * kept, view=pipeline.view)])
    assert torch.isfinite(found.smoothed).all()
    if n_points == 0:
        assert not found.smoothed.any()
    assert np.isfinite(found.image_score())


def test_thresholds_are_those_of_the_weights_that_were_saved(case: Case) -> None:
    run = find_run(case.folder / "checkpoints/dome")
    pipeline, stored = case.load(), load_scores(thresholds_path(run.name, run.part))
    assert (stored.source, len(stored.maxima)) == ("validation", 3)
    assert stored.weights == weights_sha256(run)
    images = iter(samples(pipeline, 4, 5, 6))  # seeds of the validation split
    found = nominal_scores(pipeline, images, "validation", stored.weights)
    assert found is not None
    assert found.settings == stored.settings
    assert np.allclose(found.maxima, stored.maxima, rtol=1e-3)


def interrupted(epoch: int) -> Callable[..., Callable[[dict[str, Any]], None]]:
    """In place of `wandb_logger`: stops the run in an epoch."""

    def report(entry: dict[str, Any]) -> None:
        if entry["epoch"] == epoch:
            raise KeyboardInterrupt

    return lambda *_: report


def test_a_run_that_was_stopped_ends_like_the_first(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=itertools.count(0, 60).__next__, perf_counter=time.perf_counter)
    monkeypatch.setattr("utils.training.time", clock)  # the state is saved after each epoch
    with monkeypatch.context() as patch:
        patch.setattr("experiments.training.wandb_logger", interrupted(2))
        try:
            case.train(tmp_path)
        except KeyboardInterrupt:  # a method without epochs is not asked
            names = [path.name for path in (tmp_path / "dome").iterdir()]
            assert any("_resume_" in name for name in names)
            assert not any("_thresholds_" in name for name in names)
    assert case.train(tmp_path, "--resume") == 0
    first, second = (find_run(place / "dome") for place in (case.folder / "checkpoints", tmp_path))
    assert weights_sha256(first) == weights_sha256(second)
    assert not any("_resume_" in path.name for path in (tmp_path / "dome").iterdir())
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "dome").iterdir()}
    assert case.train(tmp_path, "--resume") == 0  # finished: nothing is written
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "dome").iterdir()} == stamps


def test_results_say_how_they_were_made_and_have_its_branches(case: Case, tmp_path: Path) -> None:
    words = ["--checkpoint_folder", str(case.folder / "checkpoints"), "--quantitative_folder", str(tmp_path)]
    assert evaluate.main([*case.words(), *words]) == 0
    result = json.loads((tmp_path / f"dome_{case.epochs}ep_2bs.json").read_text())
    assert result["config"]["method"] == case.method.name
    assert result["config"]["training"]["method"] == case.method.name
    assert result["thresholds"]["images"] == 3
    assert list(result.get("branches", {})) == list(case.method.branches)
    figures = [json.dumps(metrics) for metrics in (result, *result.get("branches", {}).values())]
    assert len(set(figures)) == len(figures)
    pipeline = case.load()
    (found,) = pipeline.maps(samples(pipeline, 7))  # the first good test image
    (sample,) = (s for s in result["samples"] if (s["defect"], s["stem"]) == ("good", "000"))
    assert sample["raw_max"] == pytest.approx(float(found.smoothed.max()), rel=1e-2)
