"""utils/devices.py: which device a name means on machines with as many GPUs as a test wants."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from utils.devices import DTYPES, autocast, peak_memory, pick_device, product_type
from utils.errors import UserError

ROOT = Path(__file__).parents[2]
GPUs = Callable[[int], list[torch.device]]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> GPUs:
    """(number) -> a list that the device goes to which is made the current one."""

    def have(count: int) -> list[torch.device]:
        chosen: list[torch.device] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        return chosen

    return have


@pytest.mark.parametrize(
    ("count", "name", "expected"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda"), (2, "cpu", "cpu"), (2, "cuda", "cuda")],
)
def test_names_without_a_number(count: int, name: str, expected: str, gpus: GPUs) -> None:
    chosen = gpus(count)
    assert pick_device(name) == torch.device(expected)
    assert not chosen
    assert not torch.backends.cudnn.allow_tf32


def test_a_numbered_gpu_becomes_the_current_one(gpus: GPUs) -> None:
    chosen = gpus(3)
    assert pick_device("cuda:2") == torch.device("cuda:2")
    assert chosen == [torch.device("cuda:2")]


@pytest.mark.parametrize(
    ("count", "name", "message"),
    [
        (0, "cuda", "no CUDA GPU is available here"),
        (0, "cuda:0", "no CUDA GPU is available here"),
        (2, "cuda:2", "--device cuda:2: the GPUs here are cuda:0 to cuda:1"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(count: int, name: str, message: str, gpus: GPUs) -> None:
    gpus(count)
    with pytest.raises(UserError, match=message):
        pick_device(name)


@pytest.mark.parametrize(("capability", "lower"), [("AVX512", torch.bfloat16), ("AVX2", torch.float32)])
def test_precision_decides_the_type_of_products(
    capability: str, lower: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    a, cpu = torch.ones(2, 2), torch.device("cpu")
    for precision, expected in (("fp32", torch.float32), ("bf16", lower)):
        assert product_type(cpu, precision) == expected
        with autocast(cpu, precision):
            assert (a @ a).dtype == expected
    assert {name: product_type(torch.device("cuda:1"), name) for name in DTYPES} == DTYPES


def test_peak_memory_is_the_high_water_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmPeak:\t9999 kB\nVmHWM:\t  524544 kB\nVmRSS:\t1024 kB\n")
    cpu = torch.device("cpu")
    assert peak_memory(cpu, tmp_path / "status") == {"process": 512.25, "gpu": None}
    assert peak_memory(cpu, tmp_path / "absent") == {"process": None, "gpu": None}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 << 20)
    assert peak_memory(torch.device("cuda:1"), tmp_path / "status") == {"process": 512.25, "gpu": 3.0}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell it")
def test_peak_memory_of_a_process_grows_and_stays() -> None:
    """Of a new one: what this one needed at most is gigabytes, which would have to be filled to raise it."""
    code = """if True:
        import torch
        from utils.devices import peak_memory
        before = peak_memory(torch.device("cpu"))["process"]
        block = bytearray(b"x") * (int(before) + 64 << 20)
        del block
        print(before, peak_memory(torch.device("cpu"))["process"])
    """
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    before, after = map(float, printed.split())
    assert after >= before + 60
