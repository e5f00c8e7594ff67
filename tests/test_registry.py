"""A method is a folder and a line: one that is entered here trains, evaluates, predicts, resumes and is reported."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

import calibrate
import evaluate
import predict
import train
from evaluation.tables.runs import run_settings
from inspection import load_detector
from models.checkpoints import find_run
from models.methods import METHODS
from processing import aggregate_results
from tests.domes import dome, write_domes

CONSTANT = '''
"""A map that is the same everywhere: the mean of red in nominal images."""
from dataclasses import dataclass
import torch
from models.anomaly_map import DefectMap
from models.method import Learned, Loaded, Method
from utils.checkpoint import load_settings, load_state


@dataclass(frozen=True)
class Config:
    data: str
    factor: float
    epochs: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Plan:
    config: Config
    data: object

    def read(self):
        return [sample.rgb[0].mean() for _, sample in self.data.samples("train", "reading")]

    def learn(self, read, name, resume, report):
        level = self.config.factor * torch.stack(read).mean().abs()
        return Learned({"Constant": {"level": level}}, Pipeline(float(level)))


@dataclass(frozen=True)
class Pipeline:
    level: float
    view = None
    settings = {"kind": "constant"}

    def maps(self, samples):
        full = [torch.full(sample.valid.shape, self.level) for sample in samples]
        return [DefectMap(values, values, values) for values in full]


class Constant(Method):
    name = title = "Constant"
    citation = "none"

    def add_training_options(self, parser):
        parser.add_argument("--factor", type=float, default=1.0)

    def plan(self, data, options, device):
        run = options.epochs_no, options.batch_size, options.seed
        return Plan(Config(" ".join(data.hashes("train").values()), options.factor, *run), data)

    def load(self, run, device, precision, options):
        (state,) = map(load_state, self.weights(run))
        return Loaded(Pipeline(float(state["level"])), load_settings(run.name, self.name))

    def describe(self, loaded, options):
        return {"factor": loaded.settings["config"]["factor"]}
'''


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset, with the method in the registry."""
    path = tmp_path / "constant/method.py"
    path.parent.mkdir()
    path.write_text(CONSTANT, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("constant_method", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(METHODS, "constant", module.Constant())
    monkeypatch.chdir(tmp_path)
    return write_domes(tmp_path / "data")


def test_a_method_that_is_entered_is_served_by_everything(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--method", "constant", "--dataset_path", str(data), "--class_name", "dome", "--device", "cpu"]
    assert train.main([*words, "--factor", "2"]) == 0
    place = Path("checkpoints/checkpoints_Constant_mvtec/dome")
    names = {path.name for path in place.iterdir()}
    run = "dome_1ep_4bs"
    assert names == {f"Constant_{run}.safetensors", f"Constant_{run}.json", f"Constant_thresholds_{run}.json"}
    assert str(find_run(place)) == "Constant dome 1ep_4bs"
    capsys.readouterr()
    assert train.main([*words, "--factor", "2", "--resume"]) == 0
    assert "Constant dome 1ep_4bs: this run is finished" in capsys.readouterr().out

    assert evaluate.main(words) == 0
    results = Path("results/quantitatives_constant_mvtec")
    result = json.loads((results / f"{run}.json").read_text())
    assert (result["config"]["method"], run_settings(result)["factor"]) == ("Constant", "2.0")
    assert result["i_auroc"] == 0.5
    assert "factor 2.0" in (results / run / "report.html").read_text(encoding="utf-8")
    assert aggregate_results.main(["--quantitative_folder", str(results), "--output", "table.md"]) == 0
    assert "Constant 1ep_4bs" in Path("table.md").read_text()

    detector = load_detector(place, device="cpu")
    answer = detector.predict(*dome(20))
    level = result["samples"][0]["raw_max"]
    assert level > 0
    assert np.array_equal(answer.map, np.full((96, 96), np.float32(level)))
    assert not answer.anomalous
    test = data / "dome/test/dent"
    pair = ["--rgb", str(test / "rgb/000.png"), "--xyz", str(test / "xyz/000.tiff")]
    assert predict.main(["--checkpoint", str(place), *pair, "--output", "answers"]) == 0
    assert float(tifffile.imread(next(Path("answers/maps").iterdir())).max()) == np.float32(level)
    assert calibrate.main(["--checkpoint", str(place), "--input", str(data / "dome/validation")]) == 0
    assert "image threshold" in capsys.readouterr().out


def test_help_names_the_methods(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for script in (train, evaluate):
        with pytest.raises(SystemExit, match="0"):
            script.main(["--help"])
        assert f"--method {{{','.join(METHODS)}}}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        train.main(["--method=constant", "--help"])
    assert "--factor" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        train.main(["--method", "none"])
