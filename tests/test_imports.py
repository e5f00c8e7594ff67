"""Importing the library leaves the importing program as it was; command lines set their own process up."""

import subprocess
import sys
from pathlib import Path

import pytest

import inspection
from inspection import detector
from tests.architecture import ROOMS, is_script, module_name, source_files

ROOT = Path(__file__).resolve().parents[1]
WATCHED = """
import ctypes, importlib, os, random, signal, sys, threading
import numpy as np, torch

touched = []


def register_at_fork(**_):
    by = sys._getframe(1).f_code.co_filename
    if by.startswith((ROOT, os.getcwd())) and "site-packages" not in by:  # Python's own modules do so too
        touched.append("register_at_fork")


os.register_at_fork = register_at_fork


class Watched(ctypes.CDLL):
    def __getattr__(self, name):
        if name == "mallopt":
            touched.append(name)
        return super().__getattr__(name)


ctypes.CDLL = Watched


def state():
    return {
        "environment": dict(os.environ),
        "allocator and forks": list(touched),
        "folder and path": (os.getcwd(), list(sys.path)),
        "threads of torch": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "threads": threading.active_count(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "generators": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "torch": (
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.backends.cudnn.allow_tf32,
            torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(),
        ),
        "numpy": (np.geterr(), np.get_printoptions()),
    }


def import_all(names):
    before = state()
    for name in names:
        importlib.import_module(name)
    after = state()
    return [name for name in before if before[name] != after[name]]
"""


def changed(code: str, folder: Path) -> str:
    """What is printed by code after `WATCHED`, run in another folder with the project on the path."""
    whole = f"import sys\nROOT = {str(ROOT)!r}\nsys.path.append(ROOT)\n{WATCHED}\n{code}"
    done = subprocess.run([sys.executable, "-c", whole], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


# Slow: a process that imports all of the library.
@pytest.mark.slow
def test_importing_the_library_changes_nothing(tmp_path: Path) -> None:
    modules = [module_name(path, ROOT) for path in source_files(ROOT) if not is_script(path, ROOT)]
    library = [name for name in modules if name.split(".")[0] in ROOMS]
    assert {"inspection.detector", "models.extractors.backbone", "utils.cli", "report.pages"} <= set(library)
    assert changed(f"print(import_all({library}))", tmp_path) == "[]"


PLANTED = {
    "os.environ['OMP_WAIT_POLICY'] = 'x'": "environment",
    "ctypes.CDLL(None).mallopt": "allocator and forks",
    "os.register_at_fork(before=print)": "allocator and forks",
    "sys.path.insert(0, 'x')": "folder and path",
    "torch.set_num_threads(torch.get_num_threads() + 1)": "threads of torch",
    "np.random.rand()": "generators",
    "torch.manual_seed(3)": "generators",
    "torch.backends.cudnn.allow_tf32 ^= True": "torch",
}


# Slow: a process that imports torch.
@pytest.mark.slow
def test_a_change_would_be_seen(tmp_path: Path) -> None:
    for number, line in enumerate(PLANTED):
        (tmp_path / f"planted_{number}.py").write_text(f"import ctypes, os, sys\nimport numpy as np, torch\n{line}\n")
    code = f"sys.path.append(os.getcwd())\nfor i in range({len(PLANTED)}):\n    print(*import_all([f'planted_{{i}}']))"
    assert changed(code, tmp_path).splitlines() == list(PLANTED.values())


def test_the_api_is_handed_out_by_inspection() -> None:
    assert inspection.load_detector is detector.load_detector
    assert not hasattr(inspection, "load_detectors")


@pytest.mark.parametrize("start", ["cli.run(lambda: 0)", "next(run_parallel(os.cpu_count, [], 2), None)"])
def test_command_lines_set_their_process_up_before_torch(start: str, tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.append({str(ROOT)!r})
from utils import cli
from utils.parallel import run_parallel
assert "torch" not in sys.modules
before = os.environ.get("OMP_WAIT_POLICY")
{start}
print(before, *map(os.environ.get, ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "ORT_DISABLE_TELEMETRY")))
"""
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    expected = "None PASSIVE 10000 1" if start.startswith("cli") else "None None None None"
    assert done.stdout.strip() == expected
