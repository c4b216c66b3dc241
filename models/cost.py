"""What a model costs, by arithmetic: parameters, FLOPs and training memory, without building anything.

The space holds monsters (25 G parameters): they are counted here and refused before the first byte is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models.architecture import RESNET18_BLOCKS, RESNET18_WIDTHS, Architecture

# A weight and its gradient.
VALUES_PER_PARAMETER = 2
# Of the activations: gradients in flight and the convolutions' workspace, largest at the widest layer.
WORKING_LAYERS = 4
# Allocators cannot use every gap between tensors: resident memory of training on a CPU grew by 1.31 times the
# estimate without this factor (Shake-Shake 26 2x32d, batches of 8 to 96).
ALLOCATOR_SLACK = 1.35
# Of a forward pass alone, counted in its largest activations: the outputs of five branches, the input that they share,
# the sum and the convolutions' workspace.
EVALUATION_LAYERS = 8
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
        parameters: trained values.
        flops_per_image: forward pass; convolutions and linear layers, multiplication and addition counted apart.
        saved_values_per_image: activations that the forward pass keeps for the backward pass.
        largest_layer_per_image: values of the largest activation.
    """

    parameters: int
    flops_per_image: int
    saved_values_per_image: int
    largest_layer_per_image: int

    def training_bytes(self, batch_size: int, activation_bytes: int = FLOAT32_BYTES, moments: int = 1) -> int:
        """Estimated memory of a training step in bytes: weights, gradients, moments, activations, workspace.

        Args:
            batch_size: images per batch.
            activation_bytes: 4 in float32, 2 under bfloat16 autocast (which also keeps a copy of the weights).
            moments: values that the optimiser keeps per parameter: 1 of SGD, 2 of AdamW.
        """
        weights = self.parameters * (VALUES_PER_PARAMETER + moments) * FLOAT32_BYTES
        if activation_bytes < FLOAT32_BYTES:
            weights += self.parameters * activation_bytes
        per_image = self.saved_values_per_image + WORKING_LAYERS * self.largest_layer_per_image
        return weights + int(ALLOCATOR_SLACK * batch_size * per_image * activation_bytes)

    def evaluation_batch(self, most: int, training_batch: int) -> int:
        """Images per batch when measuring, so that measuring never needs more memory than training did.

        Args:
            most: images per batch where memory does not matter.
            training_batch: images per batch in training.
        """
        saved_in_training = training_batch * (
            self.saved_values_per_image + WORKING_LAYERS * self.largest_layer_per_image
        )
        return min(most, max(1, saved_in_training // (EVALUATION_LAYERS * self.largest_layer_per_image)))


@dataclass(frozen=True)
class Part:
    """A part of a network.

    Attributes:
        channels: of its output.
        size: (height, width) of its output.
        parameters, flops_per_image: its own.
        so_far: of the network up to and including it.
    """

    name: str
    channels: int
    size: tuple[int, int]
    parameters: int
    flops_per_image: int
    so_far: Cost


@dataclass
class _Tally:
    """Adds up layers; sizes are (height, width) of a layer's output."""

    parameters: int = 0
    flops: int = 0
    saved: int = 0
    largest: int = 0
    size: tuple[int, int] = field(default=(0, 0))
    counted: tuple[int, int] = (0, 0)

    def shrink(self, stride: int) -> None:
        self.size = (-(-self.size[0] // stride), -(-self.size[1] // stride))

    def values(self, channels: int) -> int:
        return channels * self.size[0] * self.size[1]

    def save(self, channels: int) -> None:
        """Keep an activation of the present size for the backward pass."""
        self.saved += self.values(channels)
        self.largest = max(self.largest, self.values(channels))

    def conv(self, in_channels: int, channels: int, kernel: int) -> None:
        """A convolution whose output has the present size; batch normalisation, which follows it, keeps the output."""
        weights = in_channels * channels * kernel**2
        self.parameters += weights
        self.flops += 2 * weights * self.size[0] * self.size[1]

    def norm(self, channels: int) -> None:
        """Batch normalisation: keeps its input."""
        self.parameters += 2 * channels
        self.save(channels)

    def linear(self, channels: int, classes: int) -> None:
        self.parameters += channels * classes + classes
        self.flops += 2 * channels * classes
        self.saved += channels + classes  # its input, and what the loss keeps

    def cost(self) -> Cost:
        return Cost(self.parameters, self.flops, self.saved, self.largest)

    def part(self, name: str, channels: int) -> Part:
        """What was added since the last part."""
        before, self.counted = self.counted, (self.parameters, self.flops)
        return Part(name, channels, self.size, self.parameters - before[0], self.flops - before[1], self.cost())


def searched_network_cost(architecture: Architecture, image_shape: tuple[int, int, int], classes: int) -> Cost:
    """The cost of a `SearchedNetwork`.

    Args:
        architecture: see there.
        image_shape: (channels, height, width).
        classes: number of classes.
    """
    return searched_network_parts(architecture, image_shape, classes)[-1].so_far


def searched_network_parts(
    architecture: Architecture, image_shape: tuple[int, int, int], classes: int
) -> tuple[Part, ...]:
    """The parts of a `SearchedNetwork` in the order of the forward pass: first convolution, groups, linear layer.

    Arguments as `searched_network_cost`.
    """
    tally = _Tally(size=image_shape[1:])
    tally.save(image_shape[0])
    tally.conv(image_shape[0], architecture.initial_filters, 3)
    tally.norm(architecture.initial_filters)
    parts = [tally.part("convolution", architecture.initial_filters)]
    for number, group in enumerate(architecture.groups, start=1):
        for index in range(group.blocks):
            in_channels, stride = (group.in_channels, group.stride) if index == 0 else (group.channels, 1)
            _block(tally, in_channels, group.channels, stride, group.branches)
        parts.append(tally.part(f"group {number}", group.channels))
    tally.save(architecture.out_channels)  # the last ReLU
    tally.linear(architecture.out_channels, classes)
    return (*parts, tally.part("linear layer", classes))


def _block(tally: _Tally, in_channels: int, channels: int, stride: int, branches: int) -> None:
    tally.save(in_channels)  # the ReLU that branches and shortcut share
    tally.shrink(stride)
    for _ in range(branches):
        tally.conv(in_channels, channels, 3)
        tally.norm(channels)
        tally.save(channels)  # the ReLU in between, in place
        tally.conv(channels, channels, 3)
        tally.norm(channels)
    if in_channels != channels or stride != 1:
        half = channels // 2
        for path in filter(None, (half, channels - half)):
            tally.save(in_channels)  # the pixels that the path sees
            tally.conv(in_channels, path, 1)
        tally.norm(channels)


def resnet18_cost(image_shape: tuple[int, int, int], classes: int) -> Cost:
    """The cost of a `ResNet18`; arguments as `searched_network_cost`."""
    tally = _Tally(size=image_shape[1:])
    tally.save(image_shape[0])
    before = RESNET18_WIDTHS[0]
    tally.conv(image_shape[0], before, 3)
    tally.norm(before)
    tally.save(before)
    for i, width in enumerate(RESNET18_WIDTHS):
        for j in range(RESNET18_BLOCKS):
            stride = 2 if i > 0 and j == 0 else 1
            tally.shrink(stride)
            tally.conv(before, width, 3)
            tally.norm(width)
            tally.save(width)
            tally.conv(width, width, 3)
            tally.norm(width)
            if stride != 1 or before != width:
                tally.conv(before, width, 1)
                tally.norm(width)
            tally.save(width)
            before = width
    tally.linear(before, classes)
    return tally.cost()
