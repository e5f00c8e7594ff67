"""DINO ViT-B/8 (Caron et al., ICCV 2021) through timm, frozen."""

from typing import Any

import torch
from torch import Tensor, nn

from models.extractors.attention import is_faster_unfused

MODEL = "vit_base_patch8_224.dino"
WIDTH = 768


class DinoEncoder(nn.Module):
    """Images → patch tokens of the last kept block after the final norm, class token dropped."""

    def __init__(self) -> None:
        """Build the whole model; its weights are to be loaded into `vit`."""
        super().__init__()
        import timm

        self.vit: Any = timm.create_model(MODEL, pretrained=False, num_classes=0)
        self.eval().requires_grad_(False)

    def prune(self, depth: int) -> None:
        """Keep the first `depth` blocks, then the final norm."""
        self.vit.blocks = self.vit.blocks[:depth]

    def set_precision(self, dtype: torch.dtype) -> None:
        """Keep the weights, and run the model, in this type."""
        self.vit.to(dtype)

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, 224, 224) ImageNet-normalised float32 → (B, 784, 768) float32, tokens row-major on a 28×28 grid."""
        images = rgb.to(self.vit.cls_token.dtype)
        if is_faster_unfused(images):
            for block in self.vit.blocks:
                block.attn.fused_attn = False
        tokens = self.vit.forward_features(images)
        return tokens[:, self.vit.num_prefix_tokens :].float()
