"""Pictures of any size as the network takes them: cropped or squeezed to one size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fitted(pixels: Tensor, height: int, width: int, fit: str) -> Tensor:
    """An image (channels, h, w) uint8 as (channels, height, width) uint8.

    Args:
        fit: "crop": its middle, as large as its shape allows; "squeeze": all of it.
    """
    there = pixels.shape[1:]
    scale = max(height / there[0], width / there[1])
    crops = (max(height, round(there[0] * scale)), max(width, round(there[1] * scale)))
    shape = (height, width) if fit == "squeeze" else crops
    resized = F.interpolate(pixels[None].float(), shape, mode="bilinear", antialias=True)[0]
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return resized[:, top : top + height, left : left + width].round().clamp(0, 255).to(torch.uint8)
