"""What a report is made of: sections of figures and tables, each with its caption, its data and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from pipeline.analysis.marks import Marks


@dataclass(frozen=True)
class Code:
    """A text to copy: a file's contents, or a command."""

    title: str
    text: str


@dataclass(frozen=True)
class Item:
    """A figure or a table of the report.

    Attributes:
        name: stem of its files; unique in the report.
        caption: what to see, and on how many configurations it stands.
        figure: None for a table, or when there is nothing to draw yet.
        table: shown as a table, with formatted texts; None for a figure.
        data: the numbers behind it, written as CSV; None when `data_file` has them already.
        data_file: a table of the run, by its name in the tables folder.
        lacking: why there is nothing to show yet; "" when there is.
        warnings: what a reader must know before believing it.
        codes: texts to copy.
        marks: where the figure shows which evaluation or configuration.
        has_choice: below it, the page's script draws any two metrics against each other.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None = None
    table: pd.DataFrame | None = None
    data: pd.DataFrame | None = None
    data_file: str | None = None
    lacking: str = ""
    warnings: tuple[str, ...] = ()
    codes: tuple[Code, ...] = ()
    marks: Sequence[Marks] = ()
    has_choice: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        anchor: its name in links.
        about: an introduction of a sentence or two.
    """

    anchor: str
    title: str
    about: str
    items: list[Item] = field(default_factory=list)


@dataclass(frozen=True)
class Files:
    """Where an item was written, relative to the report: "" when it was not."""

    png: str = ""
    pdf: str = ""
    csv: str = ""
    markdown: str = ""
    latex: str = ""
