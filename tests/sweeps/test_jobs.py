"""sweeps/jobs.py: which commands are run for a grid, which points share one, and what is refused before any is run."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import sweep
from sweeps.grid import read_grid
from sweeps.jobs import Job, Step, make_jobs
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path, options: dict[str, Any], **more: Any) -> tuple[list[Job], list[list[Step]]]:
    (folder / "g.yaml").write_text(yaml.safe_dump({"title": "G", "options": options, **more}, sort_keys=False))
    grid = read_grid(folder / "g.yaml")
    return make_jobs(grid, grid.points(), sweep.PARSERS)


def test_each_command_takes_the_options_that_it_has(tmp_path: Path) -> None:
    options = {"method": "cfm", "class_name": "gear", "shots": 5, "seed": 3, "extractor": "handcrafted"}
    [job], _ = make(
        tmp_path, options | {"draw_shots": True, "aggregation": "max", "precision": None, "skip_bad": False}
    )
    train, evaluate = (step.words for step in job.steps)
    assert " ".join(train) == (
        "train.py --method cfm --checkpoint_savepath {job}/checkpoints --token_cache {tokens} --resume "
        "--class_name gear --shots 5 --seed 3 --extractor handcrafted --draw_shots"
    )
    assert " ".join(evaluate) == (
        "evaluate.py --method cfm --checkpoint_folder {job}/checkpoints --quantitative_folder {step}/results "
        "--qualitative_folder {step}/pictures --class_name gear --extractor handcrafted --aggregation max"
    )
    assert job.steps[0].name == f"train_{job.id}"


def test_points_with_the_same_training_share_a_job(tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "cfm", "class_name": ["gear", "cap"], "aggregation": ["sum", "max"], "seed": 0}
    jobs, steps = make(tmp_path, options)
    assert [(job.points, len(job.steps)) for job in jobs] == [((0, 1), 3), ((2, 3), 3)]
    assert [own[0] == steps[0][0] for own in steps] == [True, True, False, False]
    names = [step.name.partition("_")[0] for step in jobs[0].steps]
    assert names == ["train", "evaluate", "evaluate"]


def test_ids_are_hashes_of_options_and_of_nothing_else(tmp_path: Path) -> None:
    def ids(**options: Any) -> list[str]:
        jobs, _ = make(tmp_path, {"class_name": "gear", "method": "cfm", **options})
        return [job.id for job in jobs]

    [one] = ids(shots=5, seed=0)
    assert ids(seed="0", shots="5") == [one]  # neither their order nor YAML's types
    assert ids(shots=5, seed=0, token_cache=None, precision=None) == [one]
    assert one not in ids(shots=[6, None], seed=0) + ids(shots=5, seed=1) + ids(shots=5, seed=0, draw_shots=True)
    assert ids(method="btf", shots=5, seed=0) != [one]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"method": "cmf"}, "g: method 'cmf' is not known; there are cfm, dbmrnet"),
        ({}, "g: method None is not known"),
        ({"method": "cfm", "shot": 5}, "has the option --shot with method cfm"),
        ({"method": "cfm", "preset": "small"}, "has the option --preset with method cfm"),
        ({"method": "cfm", "shots": 0}, "train.py refuses .*at least 1, got 0"),
        ({"method": "cfm", "aggregation": "mean"}, "evaluate.py refuses .*invalid choice: 'mean'"),
        ({"method": "cfm", "checkpoint_folder": "x"}, "--checkpoint_folder is set by the sweep"),
    ],
)
def test_what_a_command_would_refuse_is_refused_at_once(options: dict[str, Any], found: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=found):
        make(tmp_path, {"class_name": "gear", **options})


def test_any_script_can_be_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate_maps\.py takes its options from a mapping"):
        make(tmp_path, {"name": "a"}, commands=["evaluate_maps.py"])
    own = {"dataset_base_dir": "{root}", "anomaly_maps_dir": "{step}/{kind}", "map": None, "exact": True}
    jobs, _ = make(tmp_path, {"root": "data", "kind": ["a", "b"]}, commands=[{"evaluate_maps.py": own}])
    assert [" ".join(job.steps[0].words) for job in jobs] == [
        f"evaluate_maps.py --dataset_base_dir data --anomaly_maps_dir {{step}}/{kind} --exact" for kind in "ab"
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "grids").glob("*.yaml")), ids=lambda path: path.stem)
def test_commands_of_the_projects_grids_are_accepted(path: Path) -> None:
    grid = read_grid(path)
    jobs, steps = make_jobs(grid, grid.points(), sweep.PARSERS)
    assert len(steps) == len(grid.points())
    assert len({job.id for job in jobs}) == len(jobs)
    sets = [set(point.options.items()) for point in grid.points()]
    assert all({"class_name", "dataset_path"} <= dict(own).keys() for own in sets)
