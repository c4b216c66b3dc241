"""The searched network as the authors compute it: each branch twice, each with a ReLU of its own, contiguous."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from models.architecture import Architecture


class ShakeShake(Function):
    """Weighted sum of branches; other weights in the backward pass."""

    @staticmethod
    def forward(ctx, alpha, beta, *branches):
        ctx.save_for_backward(beta)
        return sum(alpha[i] * branches[i] for i in range(len(branches)))

    @staticmethod
    def backward(ctx, gradient):
        (beta,) = ctx.saved_tensors
        return (None, None, *(beta[i] * gradient for i in range(beta.shape[0])))


class ShakeDrop(Function):
    """One gate per batch, random weights per image where it is closed."""

    @staticmethod
    def forward(ctx, x, alpha, beta, death_rate, training):
        ctx.gate = (torch.rand(1) > death_rate).numpy()
        ctx.save_for_backward(beta)
        if not training:
            return x.mul(1 - death_rate)
        return x.clone() if ctx.gate else alpha * x

    @staticmethod
    def backward(ctx, gradient):
        (beta,) = ctx.saved_tensors
        return (gradient if ctx.gate else gradient * beta), None, None, None, None


class Branch(nn.Module):
    """ReLU-conv3x3-BN-ReLU-conv3x3-BN."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Skip(nn.Module):
    """Two pooled and convolved paths, the second shifted by a pixel."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.path1 = nn.Sequential(nn.AvgPool2d(1, stride), nn.Conv2d(in_channels, half, 1, bias=False))
        self.path2 = nn.Sequential(nn.AvgPool2d(1, stride), nn.Conv2d(in_channels, channels - half, 1, bias=False))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        first = self.path1(F.relu(x))
        second = self.path2(F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1)))
        return self.norm(torch.cat([first, second], 1))


class Block(nn.Module):
    """Sums the branches, throws the sum away, computes them again and shakes them."""

    def __init__(self, in_channels: int, channels: int, stride: int, branches: int, death_rate: float) -> None:
        super().__init__()
        self.death_rate = death_rate
        self.branches = nn.ModuleList(Branch(in_channels, channels, stride) for _ in range(branches))
        same = in_channels == channels and stride == 1
        self.skip = nn.Sequential() if same else Skip(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        n, count = x.size(0), len(self.branches)
        out = sum([branch(x) for branch in self.branches])
        if count == 1:
            alpha = torch.rand(n, device=x.device).view(n, 1, 1, 1).mul(2).add(-1)
            beta = torch.rand(n, device=x.device).view(n, 1, 1, 1)
            out = ShakeDrop.apply(out, alpha, beta, self.death_rate, self.training)
        else:
            draw = torch.rand if self.training else torch.ones
            alpha, beta = (F.softmax(draw(count, n, device=x.device).view(count, n, 1, 1, 1), 0) for _ in range(2))
            out = ShakeShake.apply(alpha, beta, *[branch(x) for branch in self.branches])
        return out + self.skip(x)


class ReferenceNetwork(nn.Module):
    """The macro model; takes images of any size, where the authors' pools 8x8."""

    def __init__(self, architecture: Architecture, in_channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, architecture.initial_filters, 3, 1, 1, bias=False),
            nn.BatchNorm2d(architecture.initial_filters),
        ]
        for group in architecture.groups:
            for i in range(group.blocks):
                before, stride = (group.in_channels, group.stride) if i == 0 else (group.channels, 1)
                layers.append(Block(before, group.channels, stride, group.branches, architecture.death_rate))
        self.layers = nn.Sequential(*layers, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(architecture.out_channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                module.weight.data.normal_(0, math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.Linear):
                module.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.layers(x))
