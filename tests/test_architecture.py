"""Rules that keep folders apart, files small and loading safe. Each is also tried on a small tree that breaks it."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("utils", "models", "datasets", "processing", "inspection", "benchmarks", "tests")

# What the files of a folder may import of the project. Scripts may import everything but scripts; tests, everything.
ALLOWED = {
    "utils": ("utils",),
    "models": ("models", "utils"),
    "datasets": ("datasets", "utils"),
    "processing": ("processing", "datasets", "utils"),
    "inspection": ("inspection", "models", "processing", "datasets", "utils"),
}
FACADE = "models"  # of the whole, for programs: may hand out what stands above it
# Of `models`, these import each other and `utils` only.
FOUNDATIONS = ("models.point_ops", "models.sampling_kernel", "models.neighbour_kernel", "models.lifting")
HEAVY = ("open3d", "wandb", "matplotlib", "pandas")  # imported inside the functions that use them
SILENT = ("models", "utils.metrics", "processing")  # numeric code; the scripts in it may print

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


def layer_violations(root: Path) -> Iterator[str]:
    """Folders import downwards only; scripts import the product's folders, and nobody imports scripts."""
    files = [path for path in source_files(root) if not is_test(path, root)]
    scripts = {module_name(path, root) for path in files if is_script(path, root)}
    for path in files:
        name = module_name(path, root)
        folder = name.split(".")[0]
        allowed = ALLOWED[folder] if folder in ALLOWED and name not in scripts else (*ALLOWED, "benchmarks")
        if name == FACADE:
            allowed = (*allowed, "inspection")
        if name in FOUNDATIONS:
            allowed = ("utils", *FOUNDATIONS)
        for module in sorted(project_imports(path, root)):
            if module in scripts or not inside(module, *allowed):
                yield f"{name} imports {module}"


def method_violations(root: Path) -> Iterator[str]:
    """A method's folder is imported neither by another method nor by what the methods share."""
    folders = [path for path in (root / "models").glob("*/") if any(path.glob("*.py"))]
    methods = {f"models.{path.name}" for path in folders} - {"models.extractors"}
    for path in (root / "models").rglob("*.py"):
        name = module_name(path, root)
        if name == "models":  # the registry
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
    assert not is_script(ROOT / "processing" / "background.py", ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_project_keeps_the_rule(rule: Callable[[Path], Iterator[str]]) -> None:
    assert list(rule(ROOT)) == []


GOOD_TREE = {
    "train.py": "from models import cfm\nfrom datasets.sample import S\nimport processing.background\nprint(1)\n",
    "utils/__init__.py": "",
    "utils/files.py": "from utils import errors\n",
    "utils/errors.py": "from __future__ import annotations\nimport json, torch\nprint('a script may say so')\n",
    "models/__init__.py": "def build() -> None:\n    from inspection.detector import load\n",
    "models/point_ops.py": "from utils.errors import UserError\n",
    "models/lifting.py": "from models.point_ops import x\n",
    "models/cfm/__init__.py": "",
    "models/cfm/detector.py": "from . import losses\nfrom ..lifting import x\ntorch.load('f', weights_only=True)\n",
    "models/cfm/losses.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n",
    "models/dbmrnet/detector.py": "def plot() -> None:\n    import matplotlib.pyplot\n",
    "models/extractors/dino.py": "import timm\nfrom models import lifting\n",
    "datasets/sample.py": "from utils.files import atomic_path\n",
    "datasets/mvtec3d/not_ours.py": "import models, wandb\n",
    "processing/background.py": "from datasets.sample import S\n",
    "inspection/detector.py": "from models.cfm import detector\nfrom processing.background import x\n",
    "processing/preprocess.py": "from models.cfm import detector\nif __name__ == '__main__':\n    print(1)\n",
    "benchmarks/plain.py": "from models.cfm import detector\n",
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
        (layer_violations, "models/a.py", "from processing.background import x\n", "imports processing.background"),
        (layer_violations, "models/a.py", "from datasets.sample import S\n", "models.a imports datasets.sample"),
        (layer_violations, "models/a.py", "from tests import helper\n", "models.a imports tests"),
        (layer_violations, "models/a.py", "from inspection import detector\n", "imports inspection.detector"),
        (layer_violations, "processing/a.py", "from inspection.detector import x\n", "imports inspection.detector"),
        (layer_violations, "models/cfm/a.py", "from ...datasets import sample\n", "imports datasets.sample"),
        (layer_violations, "models/lifting.py", "from models import cfm\n", "models.lifting imports models.cfm"),
        (layer_violations, "models/point_ops.py", "from .cfm.losses import x\n", "imports models.cfm.losses"),
        (layer_violations, "datasets/a.py", "import processing\n", "datasets.a imports processing"),
        (layer_violations, "datasets/a.py", "from models.lifting import x\n", "datasets.a imports models.lifting"),
        (layer_violations, "processing/a.py", "from models import lifting\n", "processing.a imports models.lifting"),
        (layer_violations, "processing/a.py", "from processing.preprocess import x\n", "imports processing.preprocess"),
        (layer_violations, "processing/a.py", "from processing import preprocess\n", "imports processing.preprocess"),
        (layer_violations, "infer.py", "from train import parse\n", "infer imports train"),
        (layer_violations, "benchmarks/a.py", "import train\n", "benchmarks.a imports train"),
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
