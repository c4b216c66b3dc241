"""The searched network: a multi-branch residual network whose branches are shaken (Zela et al. 2018)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architecture import Architecture, Group
from models.recipe import DEFAULT, RECIPES, Recipe
from models.regularisers import shake_drop, shake_shake


class SearchedNetwork(nn.Module):
    """Convolution, groups of residual blocks, global average pool, linear layer.

    With 16 initial filters, 4 blocks and 2 branches per group and widening factors (2|4|6, 2, 2) this is
    Shake-Shake 26 2x32d | 2x64d | 2x96d.
    """

    def __init__(self, architecture: Architecture, in_channels: int, classes: int, recipe: str = DEFAULT) -> None:
        """Build with initial weights drawn from torch's default generator; `recipe`: a name of `RECIPES`."""
        super().__init__()
        self.stem = Convolution(in_channels, architecture.initial_filters, 3)
        self.stem_norm = nn.BatchNorm2d(architecture.initial_filters)
        self.groups = nn.Sequential(
            *(build_group(g, architecture.death_rate, RECIPES[recipe]) for g in architecture.groups)
        )
        self.classifier = Classifier(architecture.out_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(n, channels, h, w) images of any size to (n, classes) logits."""
        x = self.stem_norm(self.stem(images))
        x = F.relu(self.groups(x), inplace=True)
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


def build_group(group: Group, death_rate: float, recipe: Recipe) -> nn.Sequential:
    """The residual blocks of a group; the first changes width and resolution."""
    first = Block(group.in_channels, group.channels, group.stride, group.branches, death_rate, recipe)
    count = group.blocks - 1
    rest = (Block(group.channels, group.channels, 1, group.branches, death_rate, recipe) for _ in range(count))
    return nn.Sequential(first, *rest)


class Block(nn.Module):
    """A residual block: shortcut plus shaken branches."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        branches: int,
        death_rate: float,
        recipe: Recipe = RECIPES[DEFAULT],
    ) -> None:
        super().__init__()
        self.death_rate = death_rate
        self.recipe = recipe
        momentum = recipe.branch_momentum if branches > 1 else RECIPES[DEFAULT].branch_momentum
        self.branches = nn.ModuleList(Branch(in_channels, channels, stride, momentum) for _ in range(branches))
        same_shape = in_channels == channels and stride == 1
        self.shortcut = None if same_shape else Shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, channels, h / stride, w / stride), rounded up."""
        # Every branch, and the shortcut where shape changes, begins with the same ReLU: once is enough.
        activated = F.relu(x)
        branches = [branch(activated) for branch in self.branches]
        shifted = activated if self.recipe.shifted_path_has_relu else x
        shortcut = x if self.shortcut is None else self.shortcut(activated, shifted)
        if len(branches) == 1:
            return shake_drop(shortcut, branches[0], self.death_rate, self.training, self.recipe.gate_per_batch)
        return shake_shake(shortcut, branches, self.training, self.recipe.softmax_weights)


class Branch(nn.Module):
    """(ReLU)-conv3x3-BN-ReLU-conv3x3-BN; the first ReLU is the block's."""

    def __init__(self, in_channels: int, channels: int, stride: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, channels, 3, stride)
        self.norm1 = nn.BatchNorm2d(channels, momentum=momentum)
        self.conv2 = Convolution(channels, channels, 3)
        self.norm2 = nn.BatchNorm2d(channels, momentum=momentum)

    def forward(self, activated: Tensor) -> Tensor:
        """(n, in_channels, h, w), after the ReLU, to (n, channels, h / stride, w / stride), rounded up."""
        x = F.relu(self.norm1(self.conv1(activated)), inplace=True)
        out: Tensor = self.norm2(self.conv2(x))
        return out


class Shortcut(nn.Module):
    """The two-path shortcut of Shake-Shake where shape changes (Gastaldi 2017).

    Two 1x1 convolutions see every stride-th pixel, the second shifted by one pixel right and down, and give half of
    the channels each. With one output channel the first path, which would have none, is left out.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = channels // 2
        self.path1 = Convolution(in_channels, half, 1) if half else None
        self.path2 = Convolution(in_channels, channels - half, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, activated: Tensor, to_shift: Tensor) -> Tensor:
        """What the paths see, each (n, in_channels, h, w), to (n, channels, h / stride, w / stride), rounded up."""
        s = self.stride
        plain = activated[:, :, ::s, ::s]
        shifted = to_shift[:, :, 1::s, 1::s]
        # A zero border where the shifted grid leaves the image.
        missing_h, missing_w = plain.shape[2] - shifted.shape[2], plain.shape[3] - shifted.shape[3]
        if missing_h or missing_w:
            shifted = F.pad(shifted, (0, missing_w, 0, missing_h))
        out: Tensor = self.path2(shifted)
        if self.path1 is not None:
            out = torch.cat((self.path1(plain), out), dim=1)
        normed: Tensor = self.norm(out)
        return normed


class Convolution(nn.Conv2d):
    """A convolution that keeps the size (over the stride), without bias: batch normalisation follows.

    Initial weights as in the authors' code: He et al. 2015, by fan-out.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)

    def reset_parameters(self) -> None:
        """Draw initial weights; called when the convolution is made."""
        fan_out = self.out_channels * self.kernel_size[0] * self.kernel_size[1]
        nn.init.normal_(self.weight, 0.0, math.sqrt(2 / fan_out))


class Classifier(nn.Linear):
    """The last layer; its bias begins at zero."""

    def reset_parameters(self) -> None:
        """Draw initial weights; called when the layer is made."""
        super().reset_parameters()
        nn.init.zeros_(self.bias)
