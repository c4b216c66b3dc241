"""The searched network of a configuration as a picture: groups, blocks, branches, widths, and where its costs lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from models.architecture import Architecture, architecture_of
from models.cost import Part, searched_network_parts
from pipeline.analysis import style
from pipeline.analysis.items import Item
from pipeline.storage.results import Results
from pipeline.training.datasets import DATASET_INFO

COLOURS = ("#5B6472", style.BLUE, style.GREEN, style.PURPLE, "#5B6472")
OPACITY = 0.85


def architecture_figure(results: Results, config_id: str, configuration: Mapping[str, Any]) -> Item:
    """The network of one configuration."""
    name, title = "incumbent_architecture", "The incumbent's architecture"
    try:
        architecture = architecture_of(plain(configuration))
        image_shape, classes = shape_and_classes(results)
    except (ValueError, KeyError):
        return Item(name, title, "", lacking="The configuration describes no network of the paper's search space.")
    parts = searched_network_parts(architecture, image_shape, classes)
    caption = architecture_caption(config_id, architecture, parts)
    figure, texts = draw_architecture(architecture, parts), parts_texts(architecture, parts)
    return Item(name, title, caption, figure, table=texts, data=parts_table(parts))


def shape_and_classes(results: Results) -> tuple[tuple[int, int, int], int]:
    """(channels, height, width) of the images that a run has trained on, and how many classes they have.

    Raises:
        KeyError: the run does not say.
    """
    if results.images:
        channels, height, width = (int(size) for size in results.images["image_shape"])
        return (channels, height, width), len(results.images["classes"])
    info = DATASET_INFO[results.dataset]
    return info.image_shape, info.classes


def plain(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with Python's own numbers."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in configuration.items()}


def parts_table(parts: Sequence[Part]) -> pd.DataFrame:
    """A row per part: name, channels, height, width, parameters, flops_per_image."""
    rows = [(p.name, p.channels, *p.size, p.parameters, p.flops_per_image) for p in parts]
    return pd.DataFrame(rows, columns=["part", "channels", "height", "width", "parameters", "flops_per_image"])


def parts_texts(architecture: Architecture, parts: Sequence[Part]) -> pd.DataFrame:
    """A row of texts per part, for people: also its blocks, branches and stride."""
    groups = dict(zip([part.name for part in parts[1:-1]], architecture.groups, strict=True))
    rows = []
    for part in parts:
        group = groups.get(part.name)
        built = (group.blocks, group.branches, group.stride) if group else (style.MISSING,) * 3
        size = f"{part.size[0]}×{part.size[1]}"
        costs = style.amount(part.parameters), style.amount(part.flops_per_image)
        rows.append([part.name, *map(str, built), str(part.channels), size, *costs])
    names = ["part", "blocks", "branches", "stride", "channels", "output", "parameters", "FLOPs per image"]
    return pd.DataFrame(rows, columns=names)


def draw_architecture(architecture: Architecture, parts: Sequence[Part]) -> Figure:
    """Above, the parts in the order of the forward pass; below, their shares of parameters and FLOPs."""
    figure, axes = style.new_figure(3.7, 2, 1, height_ratios=[2.5, 1])
    top, bottom = axes[:, 0]
    _draw_network(top, architecture, parts)
    _draw_shares(bottom, parts)
    return figure


def _draw_network(axis: Any, architecture: Architecture, parts: Sequence[Part]) -> None:
    axis.set_axis_off()
    axis.set(xlim=(0, 10), ylim=(-1.5, 1.55))
    widest = max(part.channels for part in parts[:-1])
    spans = ((0.1, 0.6), (1.3, 3.4), (4.1, 6.2), (6.9, 9.0), (9.6, 9.95))
    for number, (part, (left, right), colour) in enumerate(zip(parts, spans, COLOURS, strict=True)):
        is_last = number == len(parts) - 1
        height = 0.3 if is_last else 0.3 + 0.65 * part.channels / widest
        above, below = "", f"{part.channels} {'classes' if is_last else 'channels'}"
        if 0 < number < len(parts) - 1:
            group = architecture.groups[number - 1]
            _draw_blocks(axis, left, right, height, group.blocks, group.branches, colour)
            above = f"{_counted(group.blocks, 'block')} of {_counted(group.branches, 'branch', 'branches')}"
            below += f", stride {group.stride}"
        else:
            axis.add_patch(Rectangle((left, -height), right - left, 2 * height, color=colour, alpha=0.85, lw=0))
        middle = (left + right) / 2
        name = "linear" if is_last else "conv" if number == 0 else part.name
        axis.text(middle, 1.32, name, ha="center", weight="bold", size=8.5)
        axis.text(middle, 1.05, above, ha="center", size=7.5)
        axis.text(middle, -1.1, below, ha="center", va="top", size=7.5)
        if not is_last:
            following = spans[number + 1][0]
            arrow = {"arrowstyle": "->", "lw": 0.9}
            axis.annotate("", (following - 0.03, 0), (right + 0.03, 0), arrowprops=arrow)
            size = f"{part.size[0]}×{part.size[1]}"
            axis.text((right + following) / 2, 0.12, size, ha="center", size=6.5)


def _counted(count: int, one: str, several: str = "") -> str:
    return f"1 {one}" if count == 1 else f"{count} {several or one + 's'}"


def _draw_blocks(axis: Any, left: float, right: float, height: float, blocks: int, branches: int, colour: str) -> None:
    """A rounded box per residual block, with a bar per branch."""
    step = (right - left) / blocks
    for block in range(blocks):
        x, width = left + block * step, 0.82 * step
        box = FancyBboxPatch((x, -height), width, 2 * height, boxstyle="round,pad=0,rounding_size=0.05",
                             facecolor=colour, alpha=0.16, lw=0)  # fmt: skip
        axis.add_patch(box)
        bar = 2 * height / branches
        for branch in range(branches):
            low = -height + branch * bar + 0.12 * bar
            inset = 0.14 * width
            size = (width - 2 * inset, 0.76 * bar)
            axis.add_patch(Rectangle((x + inset, low), *size, color=colour, alpha=OPACITY, lw=0))


def _draw_shares(axis: Any, parts: Sequence[Part]) -> None:
    for row, values in enumerate(([p.parameters for p in parts], [p.flops_per_image for p in parts])):
        total, left = sum(values), 0.0
        for part, value, colour in zip(parts, values, COLOURS, strict=True):
            share = 100 * value / total
            axis.barh(row, share, left=left, color=colour, alpha=OPACITY, height=0.62, edgecolor="white", lw=0.8)
            if share > 9:
                text = f"{part.name}\n{style.amount(value)}"
                ink = style.ink_on(colour, OPACITY)
                axis.text(left + share / 2, row, text, ha="center", va="center", color=ink, size=7)
            left += share
    axis.set(xlim=(0, 100), ylim=(1.5, -0.5), xlabel="share (%)")
    totals = [style.amount(sum(p.parameters for p in parts)), style.amount(sum(p.flops_per_image for p in parts))]
    axis.set_yticks([0, 1], [f"{totals[0]} parameters", f"{totals[1]}FLOP per image"])
    axis.grid(False)


def architecture_caption(config_id: str, architecture: Architecture, parts: Sequence[Part]) -> str:
    """How it is regularised, and what the drawing shows."""
    alone = [str(i) for i, group in enumerate(architecture.groups, start=1) if group.branches == 1]
    shaken = [str(i) for i, group in enumerate(architecture.groups, start=1) if group.branches > 1]
    how = [f"Shake-Shake in {_groups(shaken)}"] if shaken else []
    if alone:
        how.append(f"ShakeDrop (death rate {architecture.death_rate:.2g}) in {_groups(alone)}")
    blocks = sum(group.blocks for group in architecture.groups)
    return (
        f"The network of {config_id}: a box per residual block ({blocks} in all), in it a bar per branch (two 3x3 "
        f"convolutions each), as high as it is wide in channels; between the parts, height and width of the images. "
        f"Regularised by {', '.join(how)}. Below: where its {style.amount(parts[-1].so_far.parameters)} parameters and "
        "the FLOPs of a forward pass (multiplication and addition counted apart) lie."
    )


def _groups(numbers: Sequence[str]) -> str:
    """`group 1`, `groups 1 and 2`, `groups 1, 2 and 3`."""
    if len(numbers) == 1:
        return f"group {numbers[0]}"
    return f"groups {', '.join(numbers[:-1])} and {numbers[-1]}"
