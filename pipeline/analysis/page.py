"""Write a page of sections: one self-contained HTML file, with figures and tables as files beside it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jinja2
import matplotlib
import pandas as pd
from PIL import Image

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
        script=_asset("report.js"),
        policy=content_policy(_asset("report.css"), _asset("report.js")),
        explorer=data,
        packed=None if data is None else embedded({**data, "figures": _marks(written)}),
    )
    publish_text(path, page)
    return path


def content_policy(css: str, script: str) -> str:
    """A content security policy under which the page may do nothing but use its own style and script, named by hash."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(css)}'; script-src 'sha256-{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _marks(written: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {entry["item"].name: entry["marks"] for section in written for entry in section["items"] if entry["marks"]}


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_asset("report.html.j2"))


def _written(item: Item, root: Path) -> dict[str, Any]:
    """Write an item's files; what the template needs of it. Its figure is freed."""
    image = png = pdf = csv = markdown = latex = ""
    marks: list[dict[str, Any]] = []
    if item.figure is not None:
        png, pdf = f"{FIGURES}/{item.name}.png", f"{FIGURES}/{item.name}.pdf"
        style.write_warnings(item.figure, item.warnings)
        for name, dpi in ((png, PNG_DPI), (pdf, PDF_DPI)):
            with publish(root / name) as temporary:
                item.figure.savefig(temporary, format=name.rpartition(".")[2], dpi=dpi)
            item.figure.set_layout_engine("none")  # the layout holds for the second file, and is slow to find
        image = base64.b64encode(for_page(root / png)).decode()
        marks = [each.packed(item.figure) for each in item.marks]
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
        latex = f"{TABLES}/{item.name}.tex"
        publish_text(root / latex, to_latex(item.table))
    return {"item": item, "image": image, "marks": marks, "files": Files(png, pdf, csv, markdown, latex)}


def for_page(png: Path) -> bytes:
    """An image in 256 colours: less than half the bytes, and no eye sees it in lines, dots and maps."""
    buffer = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
    return buffer.getvalue()


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
