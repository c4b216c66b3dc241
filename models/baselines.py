"""The poster's baselines: ResNet-18 in its CIFAR form, and three Shake-Shake 26 networks.

The Shake-Shake networks are points of the search space, so they are configurations here and no code of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import RESNET18_BLOCKS, RESNET18_WIDTHS
from models.network import Branch, Classifier, Convolution


def shake_shake_26(width: int) -> Mapping[str, float]:
    """Architecture of a Shake-Shake 26 (Gastaldi 2017), 2x32d by width 32, as hyperparameters of the search space."""
    values: dict[str, float] = {"initial_filters": 16, "death_rate": 0.0}
    for i, factor in enumerate((width / 16, 2.0, 2.0), start=1):
        values |= {f"nr_residual_blocks_{i}": 4, f"res_branches_{i}": 2, f"widen_factor_{i}": factor}
    return values


SHAKE_SHAKE: Mapping[str, Mapping[str, float]] = {
    f"shake_shake_26_2x{width}d": shake_shake_26(width) for width in (32, 64, 96)
}


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016) for small images: 3x3 stem, no initial pooling; 11.2 M parameters on CIFAR-10."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem = Convolution(in_channels, RESNET18_WIDTHS[0], 3)
        self.stem_norm = nn.BatchNorm2d(RESNET18_WIDTHS[0])
        blocks = []
        before = RESNET18_WIDTHS[0]
        for i, width in enumerate(RESNET18_WIDTHS):
            for j in range(RESNET18_BLOCKS):
                blocks.append(BasicBlock(before, width, stride=2 if i > 0 and j == 0 else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = Classifier(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, channels, h, w) images of any size to (n, classes) logits."""
        x = F.relu(self.stem_norm(self.stem(images)), inplace=True)
        logits: Tensor = self.classifier(self.blocks(x).mean((2, 3)))
        return logits


class BasicBlock(Branch):
    """A branch plus shortcut, then ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(in_channels, channels, stride)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(Convolution(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, channels, h / stride, w / stride), rounded up."""
        return F.relu(super().forward(x) + self.shortcut(x), inplace=True)
