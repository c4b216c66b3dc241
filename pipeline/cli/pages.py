"""Commands that make something to look at: the live page, figures and tables for a paper."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import RESULTS, ResultsFolder, Run, RunOption, app, say
from pipeline.errors import RunError
from pipeline.run.folder import RunFolder, find_collected, find_run
from pipeline.wording import counted


@app.command()
def watch(
    run: Run = None,
    results: ResultsFolder = RESULTS,
    page: Annotated[
        bool, typer.Option("--page", help="Keep live.html in the run folder renewed, instead of printing lines.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Also serve the page on this port of this host alone; 0: any free one."),
    ] = None,
) -> None:
    """Follow a run until it ends, line by line or, with --page, as a page that renews itself. Ctrl-C leaves."""
    folder = find_run(results, run)
    with suppress(KeyboardInterrupt):
        if page or port is not None:
            _keep_page(folder, port)
        else:
            _print_progress(folder)


def _print_progress(folder: RunFolder) -> None:
    from pipeline import operations
    from pipeline.run.status_view import progress_line

    last = ""
    for status in operations.watch(folder):
        line = "no master has published a status yet" if status is None else progress_line(status)
        if line != last:
            say(f"{time.strftime('%H:%M:%S')} {line}")
            last = line


def _keep_page(folder: RunFolder, port: int | None) -> None:
    import platform

    from pipeline import operations
    from pipeline.analysis.live import RENEWED_S, write_live_page
    from pipeline.analysis.serving import served
    from pipeline.problems.description import describe
    from pipeline.run.creation import read_settings

    metric = describe(read_settings(folder)).metric
    with ExitStack() as stack:
        say(f"Page: {folder.live_page} (any browser that sees the folder shows it)")
        if port is not None:
            address = stack.enter_context(served(folder.live_page, port))
            number = address.split(":")[2].partition("/")[0]
            say(f"Page: {address}")
            say(f"From elsewhere, first: ssh -L {number}:localhost:{number} {platform.node()}")
        next_s = 0.0
        for status in operations.watch(folder):
            began = time.monotonic()
            if began < next_s and (status is None or not status.has_ended):
                continue
            end = operations.forecast_of(folder, status)
            write_live_page(folder, status, "" if end is None else str(end), metric)
            # Of a long run the page is written less often, so that it costs little.
            next_s = began + max(RENEWED_S, 20 * (time.monotonic() - began))
        say("The run has ended, or its master is gone: the page stays as it is.")


@app.command()
def figures(
    run: Run = None,
    results: ResultsFolder = RESULTS,
    to: Annotated[
        str, typer.Option("--style", help="single or double (column widths of journals), or slides.")
    ] = "single",
    kind: Annotated[str, typer.Option("--format", help="pdf (vector, fonts embedded) or png (600 dpi).")] = "pdf",
    only: Annotated[list[str] | None, typer.Option("--only", help="A figure's name; may be repeated.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: figures/STYLE beside the report.")
    ] = None,
) -> None:
    """Draw the figures of a collected run for a paper or a talk: one file per panel."""
    from pipeline.analysis.journal import PIXELS, STYLES, VECTOR
    from pipeline.analysis.report import make_figures

    if to not in STYLES:
        raise RunError(f"No style {to!r}. There are: {', '.join(STYLES)}.")
    if kind not in (VECTOR, PIXELS):
        raise RunError(f"No format {kind!r}. There are: {VECTOR}, {PIXELS}.")
    folder = find_collected(results, run)
    output = output or folder.figures / to
    written = make_figures(folder.collected, output, STYLES[to], kind, only or ())
    say(f"{counted(len(written), 'file')} in {output}")


@app.command()
def tables(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE", help="Names of tables; default: all of the report.")
    ] = None,
    run: RunOption = None,
    results: ResultsFolder = RESULTS,
    latex: Annotated[bool, typer.Option("--latex", help="As LaTeX (needs the package booktabs).")] = False,
) -> None:
    """Print the tables of a collected run's report, as Markdown or LaTeX."""
    folder, ending = find_collected(results, run), ".tex" if latex else ".md"
    known = {path.stem: path for path in sorted(folder.tables.glob(f"*{ending}"))}
    if not known:
        raise RunError(f"No tables in {folder.tables} yet: `tandem collect-results {folder.shell_path}` makes them.")
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise RunError(f"No table {', '.join(unknown)}. There are: {', '.join(known)}.")
    mark = "%" if latex else "#"
    for name in names or known:
        say(f"{mark} {name}\n{known[name].read_text(encoding='utf-8')}")
