"""Write a page of sections: one self-contained HTML file, with figures and tables as files beside it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import jinja2
import matplotlib
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.items import Files, Item, Section
from pipeline.analysis.summary import Card
from pipeline.files import publish, publish_text
from pipeline.storage.tables import write_csv

PNG_DPI, PDF_DPI = 130, 200  # of what is drawn as pixels inside a PDF
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
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write a page, `figures/` and `tables/` beside it; sections are made one by one, so that few figures are alive.

    Args:
        subtitle: beside the name in the table of contents.
        made_from: a sentence on what the page stands on.
        sections: each makes its section when it is its turn.
        progress: told the title of each section once it is written.

    Returns:
        `path`.
    """
    written = []
    with matplotlib.rc_context(cast(Any, style.RC)):
        for make in sections:
            section = make()
            items = [_written(item, path.parent) for item in section.items]
            written.append({"anchor": section.anchor, "title": section.title, "about": section.about, "items": items})
            progress(section.title)
    page = _template().render(
        title=title,
        subtitle=subtitle,
        made_from=made_from,
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        cards=cards,
        facts=facts,
        sections=written,
        warnings=warnings,
        style=_asset("report.css"),
    )
    publish_text(path, page)
    return path


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_asset("report.html.j2"))


def _written(item: Item, root: Path) -> dict[str, Any]:
    """Write an item's files; what the template needs of it. Its figure is freed."""
    image = png = pdf = csv = markdown = ""
    if item.figure is not None:
        png, pdf = f"{FIGURES}/{item.name}.png", f"{FIGURES}/{item.name}.pdf"
        style.write_warnings(item.figure, item.warnings)
        for name, dpi in ((png, PNG_DPI), (pdf, PDF_DPI)):
            with publish(root / name) as temporary:
                item.figure.savefig(temporary, format=name.rpartition(".")[2], dpi=dpi)
            item.figure.set_layout_engine("none")  # the layout holds for the second file, and is slow to find
        image = base64.b64encode((root / png).read_bytes()).decode()
        item.figure.clear()
    data = item.data if item.data is not None else item.table
    if data is not None:
        csv = f"{TABLES}/{item.name}.csv"
        write_csv(data, root / csv)
    elif item.data_file is not None:
        csv = f"{TABLES}/{item.data_file}"
    if item.table is not None:
        markdown = f"{TABLES}/{item.name}.md"
        publish_text(root / markdown, to_markdown(item.table))
    return {"item": item, "image": image, "files": Files(png, pdf, csv, markdown)}


def to_markdown(table: pd.DataFrame) -> str:
    """A table of texts as Markdown."""
    rows = [[str(c) for c in table.columns], ["---"] * len(table.columns)]
    rows += [[str(value).replace("|", r"\|") for value in row] for row in table.itertuples(index=False)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
