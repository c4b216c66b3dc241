"""Make the report of a collected run: report.html, figures as PNG and PDF, tables as CSV and Markdown.

It reads results.h5 alone: no run folder, no torch, no network; the page needs no other file.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jinja2
import matplotlib
import pandas as pd

from pipeline.analysis import curves, style, trajectories
from pipeline.analysis.items import Files, Item, Section
from pipeline.analysis.summary import cards, facts
from pipeline.files import publish, publish_text
from pipeline.run_folder import RunFolder
from pipeline.storage.results import Results, load_results
from pipeline.storage.tables import write_csv, write_tables

PNG_DPI = 130
SECTIONS: tuple[Callable[[Results], Section], ...] = (trajectories.section, curves.section)


def make_report(results: Path, folder: RunFolder, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Write report.html and everything it links to.

    Args:
        results: a results.h5.
        folder: gets report.html, figures/ and tables/; need not be the run's own folder.
        progress: told the title of each section as it is made.

    Returns:
        The path of report.html.

    Raises:
        RunError: results.h5 is missing or damaged.
    """
    run = load_results(results)
    progress("tables")
    write_tables(run, folder.tables)
    pages = []
    with matplotlib.rc_context(cast(Any, style.RC)):
        for make in SECTIONS:
            section = make(run)
            progress(section.title)
            items = [_written(item, folder) for item in section.items]
            pages.append({"anchor": section.anchor, "title": section.title, "about": section.about, "items": items})
    page = _template().render(
        run=run,
        cards=cards(run),
        facts=facts(run),
        sections=pages,
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        collected=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.collected)),
        style=_asset("report.css"),
    )
    publish_text(folder.report, page)
    return folder.report


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_asset("report.html.j2"))


def _written(item: Item, folder: RunFolder) -> dict[str, Any]:
    """Write an item's files; what the template needs of it. Its figure is freed with it."""
    image = ""
    png = pdf = csv = markdown = ""
    if item.figure is not None:
        path = folder.figures / f"{item.name}.png"
        with publish(path) as temporary:
            item.figure.savefig(temporary, format="png", dpi=PNG_DPI)
        image = base64.b64encode(path.read_bytes()).decode()
        with publish(path.with_suffix(".pdf")) as temporary:
            item.figure.savefig(temporary, format="pdf", dpi=200)
        png, pdf = f"{folder.figures.name}/{item.name}.png", f"{folder.figures.name}/{item.name}.pdf"
        item.figure.clear()
    data = item.data if item.data is not None else item.table
    if data is not None:
        write_csv(data, folder.tables / f"{item.name}.csv")
        csv = f"{folder.tables.name}/{item.name}.csv"
    elif item.data_file is not None:
        csv = f"{folder.tables.name}/{item.data_file}"
    if item.table is not None:
        publish_text(folder.tables / f"{item.name}.md", to_markdown(item.table))
        markdown = f"{folder.tables.name}/{item.name}.md"
    return {"item": item, "image": image, "files": Files(png, pdf, csv, markdown)}


def to_markdown(table: pd.DataFrame) -> str:
    """A table of texts as Markdown."""
    rows = [[str(c) for c in table.columns], ["---"] * len(table.columns)]
    rows += [[str(value).replace("|", r"\|") for value in row] for row in table.itertuples(index=False)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
