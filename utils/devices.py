"""Where work is done and in which type: devices, copies to them, and the types of matrix products."""

import re
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Types of matrix products that --precision names; weights of the mappers and accumulated sums stay float32."""


def pick_device(name: str) -> torch.device:
    """The device for --device, which becomes the current one. On a GPU, float32 convolutions are kept from TF32.

    Args:
        name: `auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: a GPU was asked for that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device(name if name != "auto" else "cuda" if count else "cpu")
    if device.type == "cuda":
        if (device.index or 0) >= count:
            there = f"the GPUs here are cuda:0 to cuda:{count - 1}" if count else "no CUDA GPU is available here"
            raise UserError(f"--device {name}: {there}. Use --device auto, or cpu.")
        if device.index is not None:
            torch.cuda.set_device(device)  # of kernels, memory figures and whatever else names no device
    return device


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`; to a GPU from pinned memory, so that copying need not wait for it."""
    source = tensor.pin_memory() if device.type == "cuda" else tensor
    return source.to(device, non_blocking=True)


def product_type(device: torch.device, precision: str) -> torch.dtype:
    """The type of matrix products on `device` for `precision`, a key of DTYPES.

    float32 on a CPU with AVX2 and no AVX-512 in any case: in bfloat16, products take 7 times and convolutions 26 times
    as long there.
    """
    slow = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return torch.float32 if slow else DTYPES[precision]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products inside are in the type of `product_type`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=product_type(device, precision) == torch.bfloat16)


def peak_memory(device: torch.device, status: Path = Path("/proc/self/status")) -> dict[str, float | None]:
    """The most memory that this process has held so far, in MiB: `process`, of the machine; `gpu`, of torch's tensors.

    None where it cannot be told: `process` on other systems than Linux, `gpu` without one.
    """
    text = status.read_text(encoding="utf-8") if status.is_file() else ""
    line = re.search(r"^VmHWM:\s*(\d+) kB", text, re.MULTILINE)  # not getrusage: that counts the parent's too
    gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {"process": int(line[1]) / 1024 if line else None, "gpu": gpu}
