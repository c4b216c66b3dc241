"""Write a page of sections: one self-contained HTML file, with figures and tables as files beside it."""

from __future__ import annotations

import base64
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.analysis import figure_files, style
from pipeline.analysis.alt_text import alt_text
from pipeline.analysis.items import Files, Item, Section
from pipeline.analysis.markup import asset, content_policy, embedded, template
from pipeline.analysis.summary import Card
from pipeline.files import publish_text
from pipeline.storage.tables import write_csv

FIGURES, TABLES = "figures", "tables"


def write_page(
    path: Path,
    *,
    title: str,
    subtitle: str = "",
    made_from: str = "",
    cards: Sequence[Card],
    facts: Sequence[tuple[str, str]],
    sections: Iterable[Callable[[], Section]],
    warnings: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write a page, `figures/` and `tables/` beside it; sections are made one by one, so that few figures are alive.

    Args:
        subtitle: beside the name in the table of contents.
        made_from: a sentence on what the page stands on.
        sections: each makes its section when it is its turn.
        data: what the page's script shows when figures are pointed at; see `explorer.explorer`.
        progress: told the title of each section once it is written.

    Returns:
        `path`.
    """
    written = []
    with style.settings(), uncollected():
        for make in sections:
            section = make()
            items = [_written(item, path.parent) | again for item, again in _warned(section.items)]
            written.append({"anchor": section.anchor, "title": section.title, "about": section.about, "items": items})
            progress(section.title)
    script = asset("scatter.js") + asset("report.js")
    page = template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        made_from=made_from,
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        cards=cards,
        facts=facts,
        sections=written,
        warnings=warnings,
        style=asset("report.css"),
        script=script,
        policy=content_policy(asset("report.css"), script),
        explorer=data,
        packed=None if data is None else embedded({**data, "figures": _marks(written)}),
    )
    publish_text(path, page)
    return path


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's garbage collector.

    Figures are webs of small objects: it would search them all, again and again, for a tenth of a report's time. What
    it would have freed is 0.15 GB.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _warned(items: Sequence[Item]) -> Iterator[tuple[Item, dict[str, Any]]]:
    """Each item with the warnings that the page shows at it, and the earlier item that has shown the others."""
    shown: dict[str, Item] = {}
    for item in items:
        fresh = [text for text in item.warnings if text not in shown]
        earlier = next((shown[text] for text in item.warnings if text in shown), None)
        shown |= dict.fromkeys(fresh, item)
        yield item, {"warnings": fresh, "warned": earlier}


def _marks(written: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {entry["item"].name: entry["marks"] for section in written for entry in section["items"] if entry["marks"]}


def _written(item: Item, root: Path) -> dict[str, Any]:
    """Write an item's files; what the template needs of it, without its figure."""
    image = alt = png = pdf = csv = markdown = latex = ""
    marks: list[dict[str, Any]] = []
    if item.figure is not None:
        png, pdf = f"{FIGURES}/{item.name}.png", f"{FIGURES}/{item.name}.pdf"
        drawn = figure_files.draw(item.figure, item.warnings)
        figure_files.write_png(drawn, root / png)
        image = base64.b64encode(drawn.for_page()).decode()
        alt = alt_text(item.title, item.figure)
        marks = [each.packed(item.figure, drawn.foot) for each in item.marks]
        figure_files.write_pdf(item.figure, root / pdf)
    data = item.data if item.data is not None else item.table
    if data is not None:
        csv = f"{TABLES}/{item.name}.csv"
        write_csv(data, root / csv)
    elif item.data_file is not None:
        csv = f"{TABLES}/{item.data_file}"
    if item.table is not None:
        markdown = f"{TABLES}/{item.name}.md"
        publish_text(root / markdown, to_markdown(item.table))
        latex = f"{TABLES}/{item.name}.tex"
        publish_text(root / latex, to_latex(item.table))
    item = replace(item, figure=None, marks=())
    return {"item": item, "image": image, "alt": alt, "marks": marks, "files": Files(png, pdf, csv, markdown, latex)}


# What means something to LaTeX, and what its usual fonts lack.
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "²": r"$^2$", "–": "--",
    }
)  # fmt: skip


def to_latex(table: pd.DataFrame) -> str:
    """A table of texts as LaTeX; needs the package booktabs."""
    rows = [" & ".join(str(value).translate(_LATEX) for value in row) for row in table.itertuples(index=False)]
    head = " & ".join(str(name).translate(_LATEX) for name in table.columns)
    lines = [rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    return "\n".join([*lines, *(rf"{row} \\" for row in rows), r"\bottomrule", r"\end{tabular}", ""])


def to_markdown(table: pd.DataFrame) -> str:
    """A table of texts as Markdown."""
    rows = [[str(c) for c in table.columns], ["---"] * len(table.columns)]
    rows += [[str(value).replace("|", r"\|") for value in row] for row in table.itertuples(index=False)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
