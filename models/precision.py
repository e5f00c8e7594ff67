"""The types of matrix products that --precision names; weights of the mappers and accumulated sums stay float32."""

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
