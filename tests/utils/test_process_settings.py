"""utils/process_settings.py: what a process gets that asks for it. tests/test_imports.py: others get nothing."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_forked_process_computes(tmp_path: Path) -> None:
    """OpenMP's threads do not exist in the child: without care, its first large product waits for them for ever."""
    code = """
import os, time
from utils import process_settings
process_settings.apply()
import torch
product = lambda: float((torch.ones(400, 400) @ torch.ones(400, 400) + torch.ones(400, 400)).sum())
torch.set_num_threads(2)
assert product() == 400**2 * 401
child = os.fork()
if child == 0:
    os._exit(0 if product() == 400**2 * 401 else 1)
for _ in range(300):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        raise SystemExit(status)
    time.sleep(0.1)
os.kill(child, 9)
raise SystemExit(2)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_freed_memory_is_kept_until_it_is_returned() -> None:
    code = """
import os
from utils import process_settings
process_settings.apply()
def mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
before = mib()
blocks = [b"x" * (1 << 20) for _ in range(200)]
del blocks
kept = mib() - before
process_settings.return_freed_memory()
print(kept, mib() - before)
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    kept, left = map(float, found.stdout.split())
    assert kept > 190
    assert left < 10
