"""Figures for a paper or a talk: a file per panel, as wide as a column, with text of the size that journals ask for."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from pipeline.analysis import figure_files
from pipeline.analysis.items import Item

VECTOR, PIXELS = "pdf", "png"
PRINT_DPI = 600


@dataclass(frozen=True)
class JournalStyle:
    """How figures look in one place.

    Attributes:
        width_in: of a file.
        smallest_pt, largest_pt: all text lies between them.
        scale: of text and lines, from the report's size to this one's, before that.
        shape: height over width of one panel of many.
    """

    name: str
    width_in: float
    smallest_pt: float
    largest_pt: float
    scale: float
    shape: float


# Columns of 89 and 183 mm, as Nature has them; those of Science, IEEE, Elsevier and PNAS differ by 3 mm at most.
STYLES = {
    each.name: each
    for each in (
        JournalStyle("single", 3.5, 7.0, 9.0, 0.9, 0.72),
        JournalStyle("double", 7.2, 7.0, 9.0, 1.0, 0.45),
        JournalStyle("slides", 10.0, 14.0, 20.0, 1.9, 0.5),
    )
}
# The narrowest that figures with long texts can be: in a single column, these would lie on each other or be cut.
NARROWEST_IN = dict.fromkeys(
    ("incumbent_architecture", "parallel_coordinates", "coverage", "rank_correlation", "fanova_pairs"), 7.2
)
# What a panel needs above and below its rows, and a row of a size of text.
AROUND_ROWS_IN, ROW_OF_TEXT = 1.1, 1.45


def write_panels(item: Item, folder: Path, to: JournalStyle, kind: str = VECTOR) -> list[Path]:
    """Write the panels of an item's figure, each into a file of its own.

    Args:
        kind: `VECTOR` (PDF, fonts embedded as Type 42) or `PIXELS` (PNG of `PRINT_DPI`).

    Returns:
        The files; none where the item has no figure (yet).
    """
    if item.figure is None:
        return []
    written = []
    for name, figure in panels(item.figure):
        path = folder / f"{item.name}{name}.{kind}"
        fit(figure, to, NARROWEST_IN.get(item.name, 0.0), is_panel=bool(name))
        _write(figure, item.warnings, path, to.smallest_pt)
        written.append(path)
    return written


def _write(figure: Figure, warnings: Sequence[str], path: Path, text_pt: float) -> None:
    figure_files.write_warnings(figure, warnings, text_pt)
    if path.suffix == f".{PIXELS}":
        figure_files.write_png(figure_files.draw(figure, (), PRINT_DPI), path, PRINT_DPI)
        return
    figure.set_dpi(72)
    figure_files.lay_out(figure)
    figure_files.write_pdf(figure, path, PRINT_DPI)


def panels(figure: Figure) -> Iterator[tuple[str, Figure]]:
    """A figure's panels as figures: ("", the figure) where there is one panel, else ("-1", ...), ("-2", ...)."""
    count = len(_drawn(figure))
    if count < 2:
        yield "", figure
        return
    kept = io.BytesIO()
    pickle.dump(figure, kept)
    for number in range(count):
        copy: Figure = pickle.loads(kept.getvalue())
        _leave_only(copy, _drawn(copy)[number])
        yield f"-{number + 1}", copy


def _drawn(figure: Figure) -> list[Axes]:
    """The panels that show something, in reading order: no colour bars, no spare ones."""
    return [axis for axis in figure.axes if axis.get_subplotspec() is not None and axis.axison and axis.has_data()]


def _leave_only(figure: Figure, panel: Axes) -> None:
    """Make one panel the whole figure, with the labels, the legend and the colour bar that it shared."""
    named = shared_labels(figure, panel)
    bars = {m.colorbar for m in [*panel.collections, *panel.images] if m.colorbar is not None}
    wanted = [(bar.mappable, bar.ax.get_ylabel()) for bar in bars]
    legends = [axis.get_legend() for axis in figure.axes if axis is not panel and not axis.axison]
    entries: list[tuple[Any, list[str]]] = [
        (legend.legend_handles, [t.get_text() for t in legend.get_texts()]) for legend in legends if legend
    ]
    for axis in [axis for axis in figure.axes if axis is not panel]:
        axis.remove()
    panel.set_subplotspec(GridSpec(1, 1, figure=figure)[0])
    panel.tick_params(labelbottom=True, labelleft=True)
    for own, shared in zip((panel.xaxis.label, panel.yaxis.label), named, strict=True):
        if shared is not None:
            own.set(text=shared.get_text(), fontsize=shared.get_fontsize())
    for mappable, label in wanted:
        figure.colorbar(mappable, ax=panel, pad=0.02, aspect=20).set_label(label)
    for handles, labels in entries:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def shared_labels(figure: Figure, panel: Axes) -> tuple[Text | None, Text | None]:
    """Labels of x and y: the panel's own, else the lowest of its column's (or of a row that has one x) and the first of
    its row's; None: none.
    """
    spec = panel.get_subplotspec()
    assert spec is not None
    places = [(axis, axis.get_subplotspec()) for axis in figure.axes]
    column = [a for a, s in places if s is not None and s.colspan == spec.colspan]
    row = [a for a, s in places if s is not None and s.rowspan == spec.rowspan]
    alike = [a for a in row if panel.get_shared_x_axes().joined(panel, a)]
    across = next((a.xaxis.label for a in [panel, *column[::-1], *alike] if a.get_xlabel()), None)
    down = next((a.yaxis.label for a in [panel, *row] if a.get_ylabel()), None)
    return across, down


def fit(figure: Figure, to: JournalStyle, narrowest_in: float, is_panel: bool) -> None:
    """Give a figure the style's width, and its text, lines and legend the sizes of it."""
    width, height = figure.get_size_inches()
    new_width = max(to.width_in, narrowest_in * max(to.scale, 1))
    shape = to.shape if is_panel else max(height / width, to.shape) if new_width < width else height / width
    texts: list[Any] = figure.findobj(Text)
    for text in texts:
        text.set_fontsize(min(max(text.get_fontsize() * to.scale, to.smallest_pt), to.largest_pt))
    for axis in figure.axes:
        for side in (axis.xaxis, axis.yaxis):
            ticks: list[Any] = side.get_major_ticks()
            if ticks:  # those that the new limits bring are like the first
                side.set_tick_params(labelsize=ticks[0].label1.get_fontsize())
        if to.scale > 1:
            _enlarge_marks(axis, to.scale)
    figure.set_size_inches(new_width, max(new_width * shape, _height_of_rows_in(figure)))
    for legend in list(figure.legends):
        _fold(figure, legend, new_width, to)


def _enlarge_marks(axis: Axes, scale: float) -> None:
    """Lines and dots, as the text beside them."""
    for line in axis.lines:
        line.set(linewidth=line.get_linewidth() * scale, markersize=line.get_markersize() * scale)
    for collection in axis.collections:
        if isinstance(collection, PathCollection):
            collection.set_sizes(collection.get_sizes() * scale**2)


def _height_of_rows_in(figure: Figure) -> float:
    """What a panel needs whose rows have names, as bars do."""
    sides = [axis.yaxis for axis in figure.axes if isinstance(axis.yaxis.get_major_locator(), FixedLocator)]
    named = [[float(tick.label1.get_fontsize()) for tick in side.get_major_ticks()] for side in sides]
    rows_pt = max((sum(sizes) for sizes in named), default=0.0)
    return AROUND_ROWS_IN + ROW_OF_TEXT * rows_pt / 72 if rows_pt else 0.0


def _fold(figure: Figure, legend: Any, width_in: float, to: JournalStyle) -> None:
    """Set a legend again, in as many columns as the width holds."""
    labels = [text.get_text() for text in legend.get_texts()]
    # A letter is about half as wide as high; a handle and the space around it take the room of six.
    widest_in = (max(map(len, labels), default=0) + 6) * 0.55 * to.smallest_pt / 72
    columns = max(1, min(len(labels), int(width_in / widest_in)))
    handles = legend.legend_handles
    legend.remove()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=to.smallest_pt)
