"""What a figure shows, in words, for those who cannot see it: its axes with their ends, and what it tells apart."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

# A grid of many panels is said by its first ones.
MOST_PANELS, MOST_SERIES = 3, 8


def alt_text(title: str, figure: Figure) -> str:
    """A few sentences that do not repeat the caption; the figure has been laid out."""
    panels = [axis for axis in figure.axes if axis.axison and axis.get_label() != "<colorbar>"]
    said = [text for text in map(_panel, panels[:MOST_PANELS]) if text]
    more = f" And {len(panels) - MOST_PANELS} more panels." if len(panels) > MOST_PANELS else ""
    series = list(dict.fromkeys(label for holder in (figure, *panels) for label in _legend(holder)))
    apart = f" It tells apart: {', '.join(series[:MOST_SERIES])}." if series else ""
    return f"Figure: {title}. {' '.join(said)}{more}{apart}".replace("\n", " ").strip()


def _panel(axis: Any) -> str:
    parts = [text for text in (_side("across", axis.xaxis), _side("up", axis.yaxis)) if text]
    title = axis.get_title()
    return f"{f'{title}: ' if title else ''}{'; '.join(parts)}." if parts else ""


def _side(direction: str, side: Any) -> str:
    low, high = sorted(side.get_view_interval())
    slack = 1e-9 * (high - low)
    ticks = zip(side.get_majorticklocs(), side.get_majorticklabels(), strict=False)
    inside = [tick.get_text() for place, tick in ticks if low - slack <= place <= high + slack]
    written = [text for text in inside if text]
    label = side.get_label_text()
    if not label and not written:
        return ""
    ends = "" if not written else written[0] if len(written) == 1 else f"{written[0]} to {written[-1]}"
    return f"{direction}: {', '.join(text for text in (label, ends) if text)}"


def _legend(holder: Any) -> list[str]:
    legends = holder.legends if isinstance(holder, Figure) else [holder.get_legend()]
    return [text.get_text() for legend in legends if legend is not None for text in legend.get_texts()]
