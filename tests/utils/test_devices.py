"""utils/devices.py: which device a name means on machines with as many GPUs as a test wants."""

from collections.abc import Callable

import pytest
import torch

from utils.devices import autocast, pick_device
from utils.errors import UserError

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


def test_precision_decides_the_type_of_products() -> None:
    a = torch.ones(2, 2)
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(torch.device("cpu"), precision):
            assert (a @ a).dtype == expected
