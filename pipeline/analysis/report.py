"""Make the report of a collected run: report.html, figures as PNG and PDF, tables as CSV and Markdown.

It reads results.h5 alone: no run folder, no torch, no network; the page needs no other file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.analysis import correlations, costs, curves, exploration, importance, poster, trajectories, winner
from pipeline.analysis.explorer import explorer
from pipeline.analysis.items import Section
from pipeline.analysis.page import write_page
from pipeline.analysis.summary import cards, facts
from pipeline.run.folder import RunFolder
from pipeline.storage.results import Results, load_results
from pipeline.storage.tables import write_tables


def make_report(
    results: Path,
    folder: RunFolder,
    *,
    correlation: str = "spearman",
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write report.html and everything it links to.

    Args:
        results: a results.h5.
        folder: gets report.html, figures/ and tables/; need not be the run's own folder.
        correlation: between budgets, "spearman" or "kendall".
        progress: told what has just been written.

    Returns:
        The path of report.html.

    Raises:
        RunError: results.h5 is missing or damaged.
    """
    run = load_results(results)
    write_tables(run, folder.tables)
    progress("Tables")
    is_ours = run.problem.is_built_in
    makers: tuple[Callable[[Results], Section], ...] = (
        winner.section,
        trajectories.section,
        *((poster.section,) if is_ours else ()),
        curves.section,
        partial(correlations.section, method=correlation),
        importance.section,
        exploration.section,
        costs.section,
    )
    return write_page(
        folder.report,
        title=f"Joint search on {run.dataset}",
        subtitle=run.run_id,
        made_from=f"Collected {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(run.collected))}.",
        cards=cards(run),
        facts=facts(run),
        sections=[partial(make, run) for make in makers],
        warnings=run.warnings,
        data=explorer(run),
        progress=progress,
    )
