"""Rules that keep folders apart, files small and loading safe; `test_architecture.py` tries them."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    ("utils",),
    ("datasets",),
    ("evaluation",),
    ("models", "processing"),
    ("report",),
    ("experiments",),
    ("inspection", "sweeps"),
    ("exporting",),
)
"""Rooms, from below. A room's files import of their own and of floors below; scripts import everything but scripts."""
ROOMS = tuple(room for floor in FLOORS for room in floor)
FOLDERS = (*ROOMS, "benchmarks", "examples", "tests")
APART = {"models": "datasets"}  # though it lies below: samples come to methods as what they need of them

REGISTRY = "models.methods"  # alone knows the methods by name
SHARED = ("models.extractors", "models.memory")  # folders that are no methods
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
    return path.parent == root or (not is_test(path, root) and runs(path.read_text(encoding="utf-8")))


@cache  # all rules ask for the same files
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def nodes(text: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parsed(text)))


@cache
def runs(text: str) -> bool:
    guard = "__name__ == '__main__'"
    return any(isinstance(node, ast.If) and ast.unparse(node.test) == guard for node in parsed(text).body)


@cache
def import_statements(text: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in nodes(text) if isinstance(node, ast.Import | ast.ImportFrom))


def imported_modules(path: Path, root: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it; `from a import f` counts as `a`."""
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in import_statements(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
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
        tree = parsed(path.read_text(encoding="utf-8"))
        own = tuple(node.name for node in tree.body if isinstance(node, ast.ClassDef))
        for node in [node for node in module_level(tree) if isinstance(node, ast.stmt)]:
            called = [node.value.func] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else []
            targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else []
            if isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For):
                targets = [node.target]
            changed = [*called, *(target for target in targets if isinstance(target, ast.Attribute | ast.Subscript))]
            if any(not inside(ast.unparse(expression), *own) for expression in changed):
                yield f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(node)[:80]}"


def method_folders(root: Path) -> list[str]:
    """Names of the methods' folders in `models`; what several methods use lies in SHARED ones."""
    folders = [path.name for path in (root / "models").glob("*/") if any(path.glob("*.py"))]
    return [name for name in folders if f"models.{name}" not in SHARED]


def method_violations(root: Path) -> Iterator[str]:
    """Of the rooms, only the registry and its own files import a method's folder."""
    methods = [f"models.{name}" for name in method_folders(root)]
    for path in source_files(root):
        name = module_name(path, root)
        if name.split(".")[0] not in ROOMS or name == REGISTRY or is_script(path, root):
            continue
        for module in sorted(project_imports(path, root)):
            if any(inside(module, method) and not inside(name, method) for method in methods):
                yield f"{name} imports {module}"


def naming_violations(root: Path) -> Iterator[str]:
    """Of the rooms, only the registry and its own files compare with a method's name or make file names of it."""
    methods = method_folders(root)
    for path in source_files(root):
        name = module_name(path, root)
        if name.split(".")[0] not in ROOMS or name == REGISTRY:
            continue
        others = [method for method in methods if not inside(name, f"models.{method}")]
        named = re.compile(rf"(?i)\W*({'|'.join(others)})(_\w*)?\W*")
        for node in nodes(path.read_text(encoding="utf-8")):
            if (
                others
                and isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and named.fullmatch(node.value)
            ):
                yield f"{path.relative_to(root)}:{node.lineno}: {node.value!r}"


def size_violations(root: Path) -> Iterator[str]:
    """Files, scripts and functions stay short enough to be read at once."""
    for path in source_files(root):
        text = path.read_text(encoding="utf-8")
        lines, limit = len(text.splitlines()), MAX_SCRIPT if is_script(path, root) else MAX_FILE
        name = path.relative_to(root)
        if lines > limit:
            yield f"{name}: {lines} lines, limit {limit}"
        for node in nodes(text):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION:
                    yield f"{name}: {node.name} has {length} lines, limit {MAX_FUNCTION}"


def loading_violations(root: Path) -> Iterator[str]:
    """No pickle from strangers: torch.load(weights_only=True), no pickle.load(s), no allow_pickle=True."""
    for path in source_files(root):
        if is_test(path, root):
            continue
        for node in nodes(path.read_text(encoding="utf-8")):
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
        for node in nodes(path.read_text(encoding="utf-8")):
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
        for node in module_level(parsed(path.read_text(encoding="utf-8"))):
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
    naming_violations,
    size_violations,
    loading_violations,
    print_violations,
    heavy_import_violations,
)
