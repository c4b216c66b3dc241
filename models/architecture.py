"""The architecture that a configuration describes: groups of residual blocks with their widths, branches and strides.

Ten of the 17 hyperparameters, and the death rate, say how the network is built; `network.py` builds it and `cost.py`
counts it, both from the same `Architecture`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GROUPS = (1, 2, 3)
# ResNet-18 in its CIFAR form, one of the poster's baselines: channels of its groups, blocks per group.
RESNET18_WIDTHS = (64, 128, 256, 512)
RESNET18_BLOCKS = 2


@dataclass(frozen=True)
class Group:
    """Residual blocks of one width.

    Attributes:
        blocks: residual blocks, at least 1.
        branches: residual branches per block, at least 1; one is regularised by ShakeDrop, more by Shake-Shake.
        in_channels: channels that enter the first block.
        channels: channels of every block's output.
        stride: of the first block; 2 halves the resolution (rounded up).
    """

    blocks: int
    branches: int
    in_channels: int
    channels: int
    stride: int


@dataclass(frozen=True)
class Architecture:
    """A searched network.

    Attributes:
        initial_filters: channels of the first convolution.
        groups: in the order of the forward pass.
        death_rate: probability with which ShakeDrop replaces a block's only branch; in [0, 1].
    """

    initial_filters: int
    groups: tuple[Group, ...]
    death_rate: float

    @property
    def out_channels(self) -> int:
        """Channels that enter the linear layer."""
        return self.groups[-1].channels


def architecture_of(configuration: Mapping[str, object]) -> Architecture:
    """The architecture of a configuration of the search space (Zela et al. 2018).

    The width of group i is round(width of group i-1 x widen_factor_i), at least 1; groups 2 and 3 halve the
    resolution in their first block.

    Raises:
        ValueError: a hyperparameter is missing or no number; the text names it.
    """
    filters = int(_number(configuration, "initial_filters"))
    groups = []
    width = filters
    for i in GROUPS:
        channels = max(1, round(width * _number(configuration, f"widen_factor_{i}")))
        groups.append(
            Group(
                blocks=int(_number(configuration, f"nr_residual_blocks_{i}")),
                branches=int(_number(configuration, f"res_branches_{i}")),
                in_channels=width,
                channels=channels,
                stride=1 if i == 1 else 2,
            )
        )
        width = channels
    return Architecture(filters, tuple(groups), _number(configuration, "death_rate"))


def _number(configuration: Mapping[str, object], name: str) -> float:
    value = configuration.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}: got {value!r}, a configuration of the searched network has a number there")
    return value
