"""Make the report of a collected run: report.html, figures as PNG and PDF, tables as CSV and Markdown.

It reads results.h5 alone: no run folder, no torch, no network; the page needs no other file.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pipeline.analysis import (
    correlations,
    costs,
    curves,
    exploration,
    importance,
    objectives,
    poster,
    style,
    trajectories,
    winner,
)
from pipeline.analysis.explorer import explorer
from pipeline.analysis.items import Section
from pipeline.analysis.journal import VECTOR, JournalStyle, write_panels
from pipeline.analysis.page import write_page
from pipeline.analysis.summary import cards, facts
from pipeline.errors import RunError, TandemError
from pipeline.run.folder import RunFolder
from pipeline.storage.results import Results, load_results
from pipeline.storage.tables import write_tables


def make_report(
    results: Path,
    folder: RunFolder,
    *,
    correlation: str = "spearman",
    start: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write report.html and everything it links to.

    Args:
        results: a results.h5.
        folder: gets report.html, figures/ and tables/; need not be the run's own folder.
        correlation: between budgets, "spearman" or "kendall".
        start: config_id that the ablation begins at; None: the default.
        progress: told what has just been written.

    Returns:
        The path of report.html.

    Raises:
        RunError: results.h5 is missing or damaged, or no configuration has the id `start`.
    """
    run = load_results(results)
    with naming(results):
        write_tables(run, folder.tables)
        progress("Tables")
        return write_page(
            folder.report,
            title=f"Joint search on {run.dataset}",
            subtitle=run.run_id,
            made_from=f"Collected {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(run.collected))}.",
            cards=cards(run),
            facts=facts(run),
            sections=sections(run, correlation, start),
            warnings=run.warnings,
            data=explorer(run),
            progress=progress,
        )


@contextmanager
def naming(results: Path) -> Iterator[None]:
    """Within it, numbers that nothing can be drawn of are an error that names their file, and the place in the program.

    A results.h5 may have come from elsewhere, and holds whatever another program or a disk has made of it.

    Raises:
        RunError: in place of any exception that is no answer of the program's own.
    """
    try:
        yield
    except (TandemError, OSError):
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(
            f"Of what is in {results} no report can be made ({said}, {Path(last.filename).name}:{last.lineno}). "
            f"`tandem collect-results` makes the file anew; if it just has, this is a defect of the program."
        ) from error


def sections(run: Results, correlation: str = "spearman", start: str | None = None) -> list[Callable[[], Section]]:
    """What makes each section of the report, in order."""
    is_ours = run.problem.is_built_in
    makers: tuple[Callable[[Results], Section], ...] = (
        winner.section,
        *((objectives.section,) if objectives.objectives(run) else ()),
        trajectories.section,
        *((poster.section,) if is_ours else ()),
        curves.section,
        partial(correlations.section, method=correlation),
        partial(importance.section, start=start),
        exploration.section,
        costs.section,
    )
    return [partial(make, run) for make in makers]


def make_figures(
    results: Path, folder: Path, to: JournalStyle, kind: str = VECTOR, names: Collection[str] = ()
) -> list[Path]:
    """Write the report's figures for a paper: a file per panel, see `journal`.

    Args:
        results: a results.h5.
        names: of the figures that are wanted; none: all.

    Returns:
        The files.

    Raises:
        RunError: results.h5 is missing or damaged, or a name is none of a figure that can be drawn yet.
    """
    run = load_results(results)
    written, known = [], []
    with style.settings(), naming(results):
        for make in sections(run):
            for item in make().items:
                if item.figure is not None:
                    known.append(item.name)
                    if not names or item.name in names:
                        written += write_panels(item, folder, to, kind)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise RunError(f"No figure {', '.join(unknown)}. There are: {', '.join(known)}.")
    return written
