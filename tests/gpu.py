"""The device of the tests that compare a GPU with the CPU: CUDA's, or the one that GPU_TESTS_DEVICE names.

With GPU_TESTS_DEVICE=cpu the CPU takes the GPU's place, which tries the tests themselves.
"""

import os

import pytest
import torch

from utils.devices import pick_device

NAME = os.environ.get("GPU_TESTS_DEVICE", "cuda")
AVAILABLE = NAME == "cpu" or torch.cuda.is_available()
GPU = pick_device(NAME) if AVAILABLE else torch.device("cuda")
CPU = torch.device("cpu")
DEVICES = {"cpu": CPU, "gpu": GPU}

needs_gpu = pytest.mark.skipif(not AVAILABLE, reason="needs a CUDA GPU")
