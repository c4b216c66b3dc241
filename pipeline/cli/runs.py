"""Commands that start a run or ask, end and collect one."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.app import (
    INTERRUPTED,
    RESULTS,
    AsJson,
    Overrides,
    Preset,
    Quiet,
    ResultsFolder,
    Run,
    app,
    progress,
    say,
)
from pipeline.errors import SettingsError, TandemError
from pipeline.run.folder import RunFolder, find_collected, find_run, make_inside

if TYPE_CHECKING:
    from pipeline.run.status import RunStatus
    from pipeline.settings import Settings

# From the end of a worker's job until it is back, where nobody has said it.
ABSENCE_S = 30.0


@app.command("submit-search")
def submit_search(
    preset: Preset = "digits",
    overrides: Overrides = None,
    results: ResultsFolder = RESULTS,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the site, print what would be asked of it and the plan; start nothing."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Start a search: on Slurm where there is one, else on this machine. With --quiet: print the run folder."""
    from pipeline import operations
    from pipeline.settings import load_settings

    settings = load_settings(preset, overrides or ())
    if dry_run:
        _rehearse(settings, results)
        return
    folder = operations.submit(settings, results, progress(quiet))
    if quiet:
        say(str(folder.path))
    else:
        _say_next(folder)


def _rehearse(settings: Settings, results: Path) -> None:
    """All that would happen, and what it would take."""
    from pipeline import operations
    from pipeline.planning.advice import advise, overhead_of
    from pipeline.planning.view import plan_lines
    from pipeline.problems.freezing import read_problem

    operations.check_submission(settings, results, say)
    if settings.workers.count > 0:
        known = read_problem(settings)
        say("")
        say("\n".join(plan_lines(advise(known, settings.workers.count, overhead_of(known, None), ABSENCE_S))))
    say("")
    say("Nothing was started.")


def _say_next(folder: RunFolder) -> None:
    """The commands that come after a submission."""
    from pipeline import joining

    run = folder.shell_path
    by_hand = f"  {joining.worker_command(folder)}"
    place = joining.scripts_place()
    say("")
    if not joining.asks_for_workers(folder):
        say("No worker was started (workers.count=0): the search waits for those that you start. One more each time:")
        say(f"{by_hand}   ({place})")
        say("")
    say("Next:")
    say(f"  tandem status {run}            what it is doing (make status)")
    say(f"  tandem collect-results {run}   tables, figures and report, at any time (make collect-results)")
    say(f"  tandem stop-search {run}       end it in order (make stop-search)")
    if joining.asks_for_workers(folder):
        say(by_hand)
        say(f"                                        one more worker, {place}")


@app.command()
def demo(
    preset: Preset = "digits", overrides: Overrides = None, results: ResultsFolder = RESULTS, quiet: Quiet = False
) -> None:
    """Submit a search, watch it to its end, collect it, and show the results. With --quiet: print the report's path."""
    from pipeline import operations
    from pipeline.settings import load_settings

    settings = load_settings(preset, overrides or ())
    if settings.workers.count == 0:
        raise SettingsError("workers.count: a demo without workers never ends; give 1 or more, or use submit-search.")
    tell = progress(quiet)
    folder = operations.submit(settings, results, tell)
    is_interrupted = False
    try:
        _watch(folder, tell)
    except KeyboardInterrupt:
        is_interrupted = True
        operations.stop(folder, tell)
    operations.require_unbroken(folder)
    _collect(folder, quiet=quiet)
    if is_interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
def status(
    run: Run = None,
    results: ResultsFolder = RESULTS,
    once: Annotated[bool, typer.Option("--once", help="Print once and leave, also on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run is doing: live on a terminal, plain lines into a pipe. q or Ctrl-C leaves; the run goes on."""
    from pipeline import joining, operations
    from pipeline.launch.choice import queue_state
    from pipeline.run.status import read_status
    from pipeline.run.status_view import status_lines
    from pipeline.watching.details import run_details

    folder = find_run(results, run)
    if sys.stdout.isatty() and not once and not as_json:
        with suppress(KeyboardInterrupt):
            _watch_live(folder, can_leave=True)
        return
    status = read_status(folder)
    end = operations.forecast_of(folder, status)
    details = None if status is None else run_details(folder, status)
    if as_json:
        more = {
            "forecast": None if end is None else asdict(end),
            "details": None if details is None else asdict(details),
        }
        say(json.dumps({**({} if status is None else asdict(status)), **more}, indent=2))
        return
    lines = status_lines(folder, status, queue_state(folder), details=details)
    for line in [*lines, *([] if end is None else [str(end)])]:
        say(line)
    if status is not None and status.state == "waiting for workers" and not joining.asks_for_workers(folder):
        say(f"workers.count=0: nobody starts workers but you: {joining.worker_command(folder)}")
    if status is not None and not status.has_ended:
        say(_page_line(folder))


@app.command("stop-search")
def stop_search(run: Run = None, results: ResultsFolder = RESULTS, quiet: Quiet = False) -> None:
    """End a run in order: workers checkpoint and leave, the queue is emptied, results are complete."""
    from pipeline import operations

    operations.stop(find_run(results, run), progress(quiet))


@app.command("resume-search")
def resume_search(
    run: Run = None,
    results: ResultsFolder = RESULTS,
    iterations: Annotated[int | None, typer.Option(help="Go on to this many brackets in all.")] = None,
    quiet: Quiet = False,
) -> None:
    """Go on with a run that was stopped or lost its master, or extend a finished one."""
    from pipeline import operations

    operations.resume(find_run(results, run), iterations, progress(quiet))


@app.command("collect-results")
def collect_results(
    run: Run = None,
    results: ResultsFolder = RESULTS,
    kendall: Annotated[
        bool, typer.Option("--kendall", help="Rank correlation: Kendall's tau, not Spearman's.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="CONFIG", help="Where the way to the best begins; default: the default values."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Merge what is there, finished or not, into results.h5, tables, figures and report.html. --quiet: its path."""
    _collect(find_collected(results, run), "kendall" if kendall else "spearman", quiet, start)


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(metavar="PRESET", help="As --preset.")] = None,
    preset: Preset = "digits",
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Get and prepare the data of a preset, on a host with internet."""
    from pipeline import operations
    from pipeline.settings import load_settings

    tell = progress(quiet)
    operations.prepare_data(load_settings(name or preset, overrides or ()), tell)
    tell("It is ready.")


@app.command()
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the problem: NAME.py and NAME.yaml are written here.")
    ],
) -> None:
    """Write a commented problem of your own to start from: a search space, an objective, and the settings."""
    from pipeline.problems.templates import write_templates

    for path in write_templates(name, Path.cwd()):
        say(f"Wrote {path.name}")
    say(f"It can be searched as it is: tandem demo -p {name}.yaml")


@app.command()
def presets() -> None:
    """List the presets, with what each says of itself."""
    from pipeline.settings import preset_comment, preset_names

    for name in preset_names():
        say(f"{name}\n    {preset_comment(name)}")


@app.command("settings")
def show_settings(preset: Preset = "digits", overrides: Overrides = None) -> None:
    """Print the settings of a preset, each with its meaning, as YAML to start from."""
    from pipeline.settings import documented_settings, load_settings

    say(documented_settings(load_settings(preset, overrides or ())))


@app.command()
def verify(run: Run = None, results: ResultsFolder = RESULTS) -> None:
    """Re-derive every proposal and promotion of a run from its files, and say where they differ."""
    from pipeline.run.history import read_history, read_journal
    from pipeline.search.replay import underivable
    from pipeline.search.verify import verify as find_differences

    folder = find_run(results, run)
    lost = underivable(read_history(folder), read_journal(folder))
    if lost:
        say(f"{len(lost)} draws had seen results that the disk has lost since: nobody can derive them again.")
    differences = find_differences(folder)
    for difference in differences:
        say(difference)
    if differences:
        raise typer.Exit(1)
    say(f"Run {folder.run_id}: every proposal and promotion follows from the files.")


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Ids, names or folders of runs.")],
    results: ResultsFolder = RESULTS,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: one in RESULTS named after the runs.")
    ] = None,
) -> None:
    """Show several runs (methods, seeds) on the same axes, with mean and standard error over seeds."""
    from pipeline import operations
    from pipeline.analysis.comparison import comparison_name

    folders = [find_collected(results, run) for run in runs]
    output = output or results / comparison_name(folder.run_id for folder in folders)
    say(f"Comparison: {operations.compare(folders, output, say)}")


@app.command()
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, name or folder.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to; is made.")],
    results: ResultsFolder = RESULTS,
    budget: Annotated[float | None, typer.Option(help="Trained on this budget; default: the largest.")] = None,
    config: Annotated[
        str | None, typer.Option(help="This configuration, such as 3-0-7; default: the best one.")
    ] = None,
) -> None:
    """Write a trained network into a folder that needs PyTorch alone (of an own problem: checkpoint, configuration)."""
    from pipeline.export.export import export as write

    write(find_run(results, run), folder, budget, config, say)


@app.command("stock-worker")
def stock_worker(run: Run = None, results: ResultsFolder = RESULTS) -> None:
    """Print what a worker written for hpbandster itself needs to join a run from this host."""
    from pipeline import joining

    for line in joining.stock_worker_lines(find_run(results, run)):
        say(line)


@app.command("worker-options")
def worker_options(run: Run = None, results: ResultsFolder = RESULTS) -> None:
    """Print the options of sbatch for a worker of a run: sbatch $(tandem worker-options RUN) slurm/worker.sh RUN."""
    from pipeline import joining

    say(joining.worker_options(find_run(results, run)))


@app.command()
def scripts(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="slurm/ is made in it.")] = Path(),
) -> None:
    """Write slurm/worker.sh and master.sh, for workers and masters submitted by hand without a checkout."""
    from pipeline.launch.scripts import write_scripts

    for path in write_scripts(folder):
        say(f"Wrote {path}")


@app.command("run-master", hidden=True)
def run_master(run: str, results: ResultsFolder = RESULTS) -> None:
    """Be the master of a run (started by submit-search, resume-search and slurm/master.sh)."""
    from pipeline import operations

    folder = find_run(results, run)
    make_inside(folder, folder.logs)
    _log_to(folder.master_log)
    try:
        operations.run_master(folder)
    except TandemError as error:
        # Of a master that is a job, standard error is in a file of submitit's that nobody was told of.
        logging.getLogger("tandem.master").error("%s", error)
        raise


@app.command("run-worker", hidden=True)
def run_worker(run: Run = None, results: ResultsFolder = RESULTS) -> None:
    """Be a worker of a run (started by slurm/worker.sh, or by hand on any machine that sees the run folder)."""
    from pipeline.worker.process import run_to_join, work

    work(run_to_join(results, run))


def _watch(folder: RunFolder, tell: Callable[[str], None]) -> None:
    """Show progress until the run ends: live on a terminal, a line now and then in a log."""
    if sys.stdout.isatty() and tell is say:
        _watch_live(folder, can_leave=False)
        return
    import time

    from pipeline import operations
    from pipeline.run.status_view import progress_line

    started, last = time.monotonic(), 0.0
    for status in operations.watch(folder):
        now = time.monotonic()
        if status is not None and (now - last > 10 or status.has_ended):
            last = now
            tell(f"[{now - started:4.0f} s] {progress_line(status)}")


def _watch_live(folder: RunFolder, can_leave: bool) -> None:
    from functools import partial

    from pipeline import operations
    from pipeline.launch.choice import queue_state
    from pipeline.watching.screen import LiveScreen

    def forecast(status: RunStatus) -> str:
        end = operations.forecast_of(folder, status)
        return _page_line(folder) if end is None else f"{end}\n{_page_line(folder)}"

    LiveScreen(folder, partial(operations.watch, folder), lambda: queue_state(folder), forecast, can_leave).show()


def _page_line(folder: RunFolder) -> str:
    """Where the page is that shows the run as it goes on."""
    if folder.live_page.exists():
        return f"Page: {folder.live_page} (`tandem watch --page` renews it)"
    return f"A page that renews itself: `tandem watch --page {folder.shell_path}`"


def _collect(folder: RunFolder, correlation: str = "spearman", quiet: bool = False, start: str | None = None) -> None:
    from pipeline import operations
    from pipeline.analysis.console import summary_text

    report = operations.collect(folder, progress(quiet), correlation, start)
    say(str(report) if quiet else f"{summary_text(folder.collected)}\nReport: {report}")


def _log_to(path: Path) -> None:
    logging.basicConfig(
        filename=path, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
