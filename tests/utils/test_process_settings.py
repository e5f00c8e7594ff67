"""utils/process_settings.py: what a process gets that asks for it. tests/test_imports.py: others get nothing."""

import subprocess
import sys
from pathlib import Path

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
