"""A small copy of the figures' font, which a PDF takes its glyphs from in a hundredth of the time."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from fontTools import subset  # type: ignore[import-untyped]
from matplotlib import font_manager

WHOLE, SMALL = "DejaVu Sans", "Tandem Sans"
# Latin, Greek, punctuation, super- and subscripts, arrows, mathematics: what figures write. The rest of the world's
# letters come from the whole font, letter by letter.
LETTERS = (*range(0x20, 0x250), *range(0x370, 0x400), *range(0x2010, 0x20D0), *range(0x2190, 0x2300))


@cache
def families() -> list[str]:
    """Names for `font.family`, the small font first; it lives as long as the process."""
    folder = tempfile.TemporaryDirectory(prefix="tandem-fonts-")
    for weight in ("normal", "bold"):
        path = Path(folder.name, f"{weight}.ttf")
        _write_small(weight, path)
        font_manager.fontManager.addfont(path)
    _kept.append(folder)
    return [SMALL, WHOLE]


# Emptied, and so removed from the disk, when the process ends.
_kept: list[tempfile.TemporaryDirectory[str]] = []


def _write_small(weight: str, path: Path) -> None:
    whole = font_manager.findfont(font_manager.FontProperties(family=WHOLE, weight=weight))
    options = subset.Options(name_IDs=[1, 2, 4, 6], layout_features=["kern"], glyph_names=True)
    options.drop_tables += ["FFTM"]  # when the font's editor saved it
    font = subset.load_font(str(whole), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=LETTERS)
    subsetter.subset(font)
    for record in font["name"].names:
        # A changed font may not carry the old one's name (its licence).
        record.string = str(record).replace(WHOLE, SMALL).replace(WHOLE.replace(" ", ""), SMALL.replace(" ", ""))
    font.save(str(path))
    font.close()
