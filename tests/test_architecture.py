"""Rules that keep folders apart, files small and loading safe. Each is also tried on a small tree that breaks it."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("utils",),
    ("datasets",),
    ("evaluation",),
    ("models", "processing"),
    ("report",),
    ("experiments",),
    ("inspection", "sweeps"),
)
"""Rooms, from below. A room's files import of their own and of floors below; scripts import everything but scripts."""
ROOMS = tuple(room for floor in FLOORS for room in floor)
FOLDERS = (*ROOMS, "benchmarks", "examples", "tests")
APART = {"models": "datasets"}  # though it lies below: samples come to methods as what they need of them

REGISTRY = "models.methods"  # knows the methods by name
# Of `models`, these import each other and `utils` only.
FOUNDATIONS = ("models.point_ops", "models.sampling_kernel", "models.neighbour_kernel", "models.lifting")
OPTIONS = "utils.cli"  # the command lines' own: it sets the process up
HEAVY = ("open3d", "wandb", "matplotlib", "pandas")  # imported inside the functions that use them
SILENT = ("models", "evaluation.metrics", "processing")  # numeric code; the scripts in it may print

MAX_FILE, MAX_SCRIPT, MAX_FUNCTION = 400, 150, 60


def source_files(root: Path) -> list[Path]:
    """Python files of the project; in `datasets`, other sub-folders than `scenes` hold data."""
    nested = [path for folder in FOLDERS if folder != "datasets" for path in (root / folder).rglob("*.py")]
    return sorted(
        [*root.glob("*.py"), *(root / "datasets").glob("*.py"), *(root / "datasets/scenes").glob("*.py"), *nested]
    )


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(module: str, *packages: str) -> bool:
    """Whether `module` is one of `packages` or lies in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def is_test(path: Path, root: Path) -> bool:
    return path.relative_to(root).parts[0] == "tests"


def is_script(path: Path, root: Path) -> bool:
    """A file at the root, or one that runs when it is called."""
    guard = "__name__ == '__main__'"
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    runs = any(isinstance(node, ast.If) and ast.unparse(node.test) == guard for node in statements)
    return path.parent == root or (runs and not is_test(path, root))


def imported_modules(path: Path, root: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it; `from a import f` counts as `a`."""
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            for alias in node.names:
                inner = root.joinpath(*base.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                found.add(f"{base}.{alias.name}" if is_module else base)
    return found


def project_imports(path: Path, root: Path) -> set[str]:
    own = {*FOLDERS, *(script.stem for script in root.glob("*.py"))}
    return {module for module in imported_modules(path, root) if module.split(".")[0] in own}


def allowed_imports(name: str) -> tuple[str, ...]:
    """What a module that is no script may import of the project."""
    room = name.split(".")[0]
    if name in FOUNDATIONS:
        return "utils", *FOUNDATIONS
    if room not in ROOMS:
        return *ROOMS, "benchmarks"
    [own] = (i for i, floor in enumerate(FLOORS) if room in floor)
    below = (lower for floor in FLOORS[:own] for lower in floor)
    return room, *(lower for lower in below if lower != APART.get(room))


def layer_violations(root: Path) -> Iterator[str]:
    """Rooms import downwards only; scripts import the rooms, and nobody imports scripts."""
    files = [path for path in source_files(root) if not is_test(path, root)]
    scripts = {module_name(path, root) for path in files if is_script(path, root)}
    for path in files:
        name = module_name(path, root)
        allowed = (*ROOMS, "benchmarks") if name in scripts else allowed_imports(name)
        for module in sorted(project_imports(path, root)):
            if module in scripts or not inside(module, *allowed):
                yield f"{name} imports {module}"


def circle_violations(root: Path) -> Iterator[str]:
    """No module imports itself by way of others, wherever in it the import stands, for types only included."""
    imports = {module_name(path, root): project_imports(path, root) for path in source_files(root)}

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        ahead = [start]
        while ahead:
            new = imports.get(ahead.pop(), set()) - found
            found |= new
            ahead += new
        return found

    reach = {name: reached(name) for name in imports}
    circles = {tuple(sorted(other for other in reach[name] if name in reach.get(other, ()))) for name in imports}
    yield from (f"{' and '.join(circle)} import one another" for circle in sorted(circles) if circle)


def option_violations(root: Path) -> Iterator[str]:
    """In the rooms, only scripts import what command lines share: it acts on the process that imports it."""
    for path in source_files(root):
        name = module_name(path, root)
        if name.split(".")[0] in ROOMS and not is_script(path, root) and OPTIONS in project_imports(path, root):
            yield f"{name} imports {OPTIONS}"


def effect_violations(root: Path) -> Iterator[str]:
    """Importing a module of a room calls nothing for its effect and sets nothing, but on classes of its own."""
    for path in source_files(root):
        if module_name(path, root).split(".")[0] not in ROOMS or is_script(path, root):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = tuple(node.name for node in tree.body if isinstance(node, ast.ClassDef))
        for node in [node for node in module_level(tree) if isinstance(node, ast.stmt)]:
            called = [node.value.func] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else []
            targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else []
            if isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For):
                targets = [node.target]
            changed = [*called, *(target for target in targets if isinstance(target, ast.Attribute | ast.Subscript))]
            if any(not inside(ast.unparse(expression), *own) for expression in changed):
                yield f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(node)[:80]}"


def method_violations(root: Path) -> Iterator[str]:
    """A method's folder is imported neither by another method nor by what the methods share."""
    folders = [path for path in (root / "models").glob("*/") if any(path.glob("*.py"))]
    methods = {f"models.{path.name}" for path in folders} - {"models.extractors"}
    for path in (root / "models").rglob("*.py"):
        name = module_name(path, root)
        if name == REGISTRY:
            continue
        for module in sorted(project_imports(path, root)):
            others = [method for method in methods if inside(module, method) and not inside(name, method)]
            if others:
                yield f"{name} imports {module}"


def size_violations(root: Path) -> Iterator[str]:
    """Files, scripts and functions stay short enough to be read at once."""
    for path in source_files(root):
        text = path.read_text(encoding="utf-8")
        lines, limit = len(text.splitlines()), MAX_SCRIPT if is_script(path, root) else MAX_FILE
        name = path.relative_to(root)
        if lines > limit:
            yield f"{name}: {lines} lines, limit {limit}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION:
                    yield f"{name}: {node.name} has {length} lines, limit {MAX_FUNCTION}"


def loading_violations(root: Path) -> Iterator[str]:
    """No pickle from strangers: torch.load(weights_only=True), no pickle.load(s), no allow_pickle=True."""
    for path in source_files(root):
        if is_test(path, root):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            unsafe = (
                (called == "torch.load" and options.get("weights_only") != "True")
                or called in ("pickle.load", "pickle.loads", "joblib.load")
                or options.get("allow_pickle", "False") != "False"
            )
            if unsafe:
                yield f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(node)[:80]}"


def print_violations(root: Path) -> Iterator[str]:
    """Numeric code does not print."""
    for path in source_files(root):
        if not inside(module_name(path, root), *SILENT) or is_script(path, root):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                yield f"{path.relative_to(root)}:{node.lineno}: print"


def module_level(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: all but those in functions and under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        type_checking = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not type_checking:
            yield child
            yield from module_level(child)


def heavy_import_violations(root: Path) -> Iterator[str]:
    """Importing a module of the product, or asking a script for help, imports no heavy optional package."""
    for path in source_files(root):
        if is_test(path, root):
            continue
        for node in module_level(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                if inside(name, *HEAVY):
                    yield f"{path.relative_to(root)}: imports {name} at its top"


RULES: tuple[Callable[[Path], Iterator[str]], ...] = (
    layer_violations,
    circle_violations,
    option_violations,
    effect_violations,
    method_violations,
    size_violations,
    loading_violations,
    print_violations,
    heavy_import_violations,
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
    "models/methods.py": "def build() -> None:\n    from models.cfm import detector\n",
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
