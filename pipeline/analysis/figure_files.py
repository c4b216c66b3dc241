"""Write a figure as PNG and PDF: laid out once, drawn once for each, with its warnings below it."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from pipeline.files import publish

PNG_DPI, PDF_DPI = 130, 200  # of what is drawn as pixels inside a PDF
WARNING_PT, LINE_OF_TEXT = 7.0, 1.34
LETTERS_PER_IN = 18.4  # of that size


@dataclass(frozen=True)
class Drawn:
    """A figure that was laid out and drawn as pixels.

    Attributes:
        image: RGB, with the warnings at its foot.
        foot: the share of its height that warnings take.
    """

    image: Image.Image
    foot: float

    def for_page(self) -> bytes:
        """A PNG without the warnings, which the page writes itself, in 256 colours.

        That is a third of the bytes, and no eye sees it in lines, dots and maps. An octree finds the colours in an
        eighth of the time of a median cut, and its pictures take a fifth less.
        """
        width, height = self.image.size
        shown = self.image.crop((0, 0, width, round(height * (1 - self.foot))))
        buffer = io.BytesIO()
        reduced = shown.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        _whiten(reduced)
        reduced.save(buffer, "PNG")
        return buffer.getvalue()


def _whiten(image: Image.Image) -> None:
    """Make the background white again: an octree gives it the mean of all that is nearly white."""
    corner, palette = int(np.asarray(image)[0, 0]), image.getpalette() or []
    palette[3 * corner : 3 * corner + 3] = [255, 255, 255]
    image.putpalette(palette)


def draw(figure: Figure, warnings: Sequence[str] = (), dpi: int = PNG_DPI) -> Drawn:
    """Lay a figure out, for all files, and draw it."""
    foot = write_warnings(figure, warnings)
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    lay_out(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    image = Image.fromarray(pixels).convert("RGB")
    return Drawn(image, foot)


def lay_out(figure: Figure) -> None:
    """Find the layout, which is slow, and keep it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")


def write_png(drawn: Drawn, path: Path, dpi: int = PNG_DPI) -> None:
    """Write the pixels."""
    with publish(path) as temporary:
        drawn.image.save(temporary, "PNG", dpi=(dpi, dpi))


def write_pdf(figure: Figure, path: Path, dpi: int = PDF_DPI) -> None:
    """Write a figure that was laid out as PDF; text stays text."""
    figure.set_dpi(dpi)
    # Publishers refuse type 3 fonts.
    with publish(path) as temporary, matplotlib.rc_context({"pdf.fonttype": 42}):
        # `Figure.savefig` would draw everything once more, to find a layout.
        FigureCanvasPdf(figure).print_pdf(str(temporary))  # type: ignore[no-untyped-call]


def write_warnings(figure: Figure, warnings: Sequence[str], text_pt: float = WARNING_PT) -> float:
    """Write warnings below a figure, in text of some size: one that goes into a paper takes them along.

    Returns:
        The share of the new height that they take.
    """
    if not warnings:
        return 0.0
    width, height = figure.get_size_inches()
    columns = round(width * LETTERS_PER_IN * WARNING_PT / text_pt)
    lines = [line for text in warnings for line in textwrap.wrap(f"Warning: {text}", columns)]
    added = 0.06 + LINE_OF_TEXT * text_pt / 72 * len(lines)
    figure.set_size_inches(width, height + added)
    foot = added / (height + added)
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, foot, 1, 1 - foot))
    text, place = "\n".join(lines), 0.03 / (height + added)
    figure.text(0.01, place, text, size=text_pt, color="#8A4B00", va="bottom", linespacing=1.3)
    return float(foot)
