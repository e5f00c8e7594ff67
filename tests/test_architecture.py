"""Each rule of `architecture.py` holds for the project, accepts a good tree, and finds a planted breach."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.architecture import (
    ROOT,
    RULES,
    circle_violations,
    effect_violations,
    heavy_import_violations,
    is_script,
    layer_violations,
    loading_violations,
    method_violations,
    naming_violations,
    option_violations,
    print_violations,
    size_violations,
    source_files,
)


def test_rules_see_every_part_of_the_project() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in source_files(ROOT)}
    assert {"cfm_training.py", "utils/files.py", "models/extractors/weights.py", "datasets/sample.py"} <= names
    assert {"processing/preprocess_mvtec.py", "tests/test_architecture.py"} <= names
    assert not any(name.startswith(".venv") for name in names)
    assert is_script(ROOT / "processing" / "preprocess_mvtec.py", ROOT)
    assert not is_script(ROOT / "processing" / "background" / "removal.py", ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_project_keeps_the_rule(rule: Callable[[Path], Iterator[str]]) -> None:
    assert list(rule(ROOT)) == []


GOOD_TREE = {
    "train.py": "from models import cfm\nfrom datasets.sample import S\nfrom utils import cli\nprint(1)\n",
    "utils/__init__.py": "",
    "utils/cli.py": "from utils.files import x\nA: int = 3\nB = dict(a=A)\ndef f() -> None:\n    print('may say so')\n",
    "utils/files.py": "from utils import errors\n",
    "utils/errors.py": "from __future__ import annotations\nimport json, torch\nclass A:\n    pass\nA.add('me')\n",
    "models/__init__.py": "",
    "models/methods.py": "from models.cfm import detector\nMETHODS = {'cfm': detector}\n",
    "models/memory/bank.py": "from models.lifting import x\n",
    "models/btf/detector.py": "from models.memory import bank\nNAME = 'BTF'\n",
    "models/point_ops.py": "from utils.errors import UserError\n",
    "models/lifting.py": "from models.point_ops import x\n",
    "models/cfm/__init__.py": "",
    "models/cfm/detector.py": "from . import losses\nfrom ..lifting import x\nA = torch.load('f', weights_only=True)\n",
    "models/cfm/losses.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n",
    "models/dbmrnet/detector.py": "def plot() -> None:\n    import matplotlib.pyplot\n",
    "models/extractors/dino.py": "import timm\nfrom models import lifting\n",
    "evaluation/results.py": "from datasets.sample import S\n",
    "datasets/sample.py": "from utils.files import atomic_path\n",
    "datasets/mvtec3d/not_ours.py": "import models, wandb\n",
    "processing/background.py": "from evaluation.results import S\n",
    "report/page.py": "from models.lifting import x\nfrom processing.background import S\n",
    "experiments/run.py": "from report.page import x\nfrom models.methods import build\n",
    "inspection/detector.py": "from experiments.run import x\nfrom processing.background import S\n",
    "sweeps/grid.py": "from experiments import run\n",
    "processing/preprocess.py": "sys.path.insert(0, '.')\nfrom utils import cli\nfrom models.cfm import detector\n"
    "if __name__ == '__main__':\n    print(1)\n",
    "benchmarks/plain.py": "from models.cfm import detector\nfrom utils import cli\n",
    "tests/test_x.py": "import pandas, pickle, train\nfrom processing import preprocess\npickle.loads(b'')\n",
}


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("rule", RULES)
def test_rule_accepts_a_good_tree(rule: Callable[[Path], Iterator[str]], tmp_path: Path) -> None:
    assert list(rule(write_tree(tmp_path, GOOD_TREE))) == []


LONG_FUNCTION = "def f() -> None:\n" + "    pass\n" * 60


@pytest.mark.parametrize(
    ("rule", "name", "text", "found"),
    [
        (layer_violations, "utils/a.py", "import models.lifting\n", "utils.a imports models.lifting"),
        (layer_violations, "utils/a.py", "def f() -> None:\n    from datasets import sample\n", "datasets.sample"),
        (layer_violations, "datasets/a.py", "from evaluation.results import S\n", "imports evaluation.results"),
        (layer_violations, "datasets/a.py", "import processing\n", "datasets.a imports processing"),
        (layer_violations, "evaluation/a.py", "from models.lifting import x\n", "evaluation.a imports models.lifting"),
        (layer_violations, "evaluation/a.py", "import processing.background\n", "imports processing.background"),
        (layer_violations, "models/a.py", "from processing.background import x\n", "imports processing.background"),
        (layer_violations, "models/a.py", "from datasets.sample import S\n", "models.a imports datasets.sample"),
        (layer_violations, "models/a.py", "from report.page import x\n", "models.a imports report.page"),
        (layer_violations, "models/a.py", "from tests import helper\n", "models.a imports tests"),
        (
            layer_violations,
            "models/__init__.py",
            "from inspection.detector import x\n",
            "models imports inspection.detector",
        ),
        (layer_violations, "models/cfm/a.py", "from ...datasets import sample\n", "imports datasets.sample"),
        (layer_violations, "models/lifting.py", "from models import cfm\n", "models.lifting imports models.cfm"),
        (layer_violations, "models/point_ops.py", "from .cfm.losses import x\n", "imports models.cfm.losses"),
        (layer_violations, "processing/a.py", "from models import lifting\n", "processing.a imports models.lifting"),
        (layer_violations, "processing/a.py", "from report.page import x\n", "processing.a imports report.page"),
        (layer_violations, "processing/a.py", "from processing.preprocess import x\n", "imports processing.preprocess"),
        (layer_violations, "processing/a.py", "from processing import preprocess\n", "imports processing.preprocess"),
        (layer_violations, "report/a.py", "from experiments.run import x\n", "report.a imports experiments.run"),
        (layer_violations, "experiments/a.py", "from inspection import detector\n", "imports inspection.detector"),
        (layer_violations, "inspection/a.py", "from sweeps.grid import x\n", "inspection.a imports sweeps.grid"),
        (
            layer_violations,
            "sweeps/a.py",
            "from inspection.detector import x\n",
            "sweeps.a imports inspection.detector",
        ),
        (layer_violations, "infer.py", "from train import parse\n", "infer imports train"),
        (layer_violations, "benchmarks/a.py", "import train\n", "benchmarks.a imports train"),
        (
            circle_violations,
            "utils/errors.py",
            "def f() -> None:\n    from utils.files import x\n",
            "utils.errors and utils.files",
        ),
        (
            circle_violations,
            "utils/errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from utils.cli import x\n",
            "utils.cli and utils.errors and utils.files import one another",
        ),
        (
            option_violations,
            "experiments/a.py",
            "def f() -> None:\n    from utils import cli\n",
            "experiments.a imports utils.cli",
        ),
        (option_violations, "processing/a.py", "from utils.cli import x\n", "processing.a imports utils.cli"),
        (effect_violations, "utils/a.py", "import os\nos.environ['A'] = '1'\n", "utils/a.py:2: os.environ['A'] = '1'"),
        (effect_violations, "utils/a.py", "import os\nos.environ.setdefault('A', '1')\n", "os.environ.setdefault"),
        (
            effect_violations,
            "models/a.py",
            "import torch\nif True:\n    torch.manual_seed(0)\n",
            "torch.manual_seed(0)",
        ),
        (effect_violations, "models/a.py", "class A:\n    torch.backends.cudnn.allow_tf32 = False\n", "allow_tf32"),
        (method_violations, "models/cfm/a.py", "from models.dbmrnet import detector\n", "models.dbmrnet.detector"),
        (method_violations, "models/dbmrnet/a.py", "from ..cfm.losses import x\n", "imports models.cfm.losses"),
        (method_violations, "models/extractors/a.py", "import models.cfm\n", "models.extractors.a imports models.cfm"),
        (method_violations, "models/scores.py", "from models.cfm.losses import x\n", "models.scores imports"),
        (method_violations, "models/memory/a.py", "from models.cfm import losses\n", "models.memory.a imports"),
        (method_violations, "experiments/a.py", "from models.cfm.losses import x\n", "experiments.a imports"),
        (naming_violations, "experiments/a.py", "def f(x: str) -> bool:\n    return x == 'CFM'\n", "a.py:2: 'CFM'"),
        (naming_violations, "models/memory/a.py", "A = f'dbmrnet_best_{1}'\n", "a.py:1: 'dbmrnet_best_'"),
        (naming_violations, "models/dbmrnet/a.py", "PART = 'cfm'\n", "models/dbmrnet/a.py:1: 'cfm'"),
        (size_violations, "models/a.py", "x = 1\n" * 401, "models/a.py: 401 lines, limit 400"),
        (size_violations, "infer.py", "x = 1\n" * 151, "infer.py: 151 lines, limit 150"),
        (size_violations, "processing/preprocess.py", "if __name__ == '__main__':\n" + " x = 1\n" * 150, "151 lines"),
        (size_violations, "tests/a.py", LONG_FUNCTION, "tests/a.py: f has 61 lines, limit 60"),
        (loading_violations, "utils/a.py", "import torch\ntorch.load('f')\n", "utils/a.py:2: torch.load('f')"),
        (loading_violations, "utils/a.py", "x = torch.load('f', weights_only=False)\n", "weights_only=False"),
        (loading_violations, "utils/a.py", "import pickle\npickle.loads(b'')\n", "pickle.loads"),
        (loading_violations, "utils/a.py", "np.load('f', allow_pickle=True)\n", "allow_pickle=True"),
        (print_violations, "models/cfm/a.py", "def f() -> None:\n    print(1)\n", "models/cfm/a.py:2: print"),
        (print_violations, "processing/background.py", "print(1)\n", "processing/background.py:1: print"),
        (heavy_import_violations, "utils/a.py", "import matplotlib.pyplot as plt\n", "imports matplotlib.pyplot"),
        (heavy_import_violations, "infer.py", "try:\n    from wandb import init\nexcept OSError:\n    pass\n", "wandb"),
        (heavy_import_violations, "models/a.py", "class A:\n    import open3d\n", "models/a.py: imports open3d"),
    ],
)
def test_rule_detects_a_violation(
    rule: Callable[[Path], Iterator[str]], name: str, text: str, found: str, tmp_path: Path
) -> None:
    violations = list(rule(write_tree(tmp_path, GOOD_TREE | {name: text})))
    assert len(violations) == 1
    assert found in violations[0]
