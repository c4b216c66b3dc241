"""Commands that look at runs and change nothing."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli.app import RESULTS, AsJson, ResultsFolder, RunOption, app, say
from pipeline.run.folder import find_run


@app.command("list")
def list_all(results: ResultsFolder = RESULTS, as_json: AsJson = False) -> None:
    """List the runs: state, evaluations, the best result of each, training spent. `*` is the latest."""
    from pipeline.run.listing import list_runs, listing_lines

    runs = list_runs(results)
    if as_json:
        say(json.dumps([asdict(run) for run in runs], indent=2))
    else:
        say("\n".join(listing_lines(runs)) if runs else f"No run in {results} yet. `tandem submit-search` starts one.")


@app.command()
def show(
    configuration: Annotated[str, typer.Argument(metavar="CONFIG", help="A configuration's id, such as 3-0-7.")],
    run: RunOption = None,
    results: ResultsFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Show a configuration of a run: its values, results, curves, and attempts that failed."""
    from pipeline.inspection import configuration_data, configuration_lines, show_configuration

    shown = show_configuration(find_run(results, run), configuration)
    if as_json:
        say(json.dumps(configuration_data(shown), indent=2))
    else:
        say("\n".join(configuration_lines(shown)))


@app.command()
def logs(
    what: Annotated[
        str | None,
        typer.Argument(metavar="WORKER|CONFIG", help="A worker's name or a configuration's id; default: the master."),
    ] = None,
    run: RunOption = None,
    results: ResultsFolder = RESULTS,
    keep_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
) -> None:
    """Print the log of the master, of a worker, or what workers logged while they were at a configuration."""
    from pipeline.inspection import configuration_log, follow, follow_configuration, is_configuration, log_path

    folder = find_run(results, run)
    of_configuration = what is not None and is_configuration(what)
    if keep_on:
        with suppress(KeyboardInterrupt):
            for line in (
                follow_configuration(folder, what or "") if of_configuration else follow(log_path(folder, what))
            ):
                say(line)
    elif of_configuration:
        say("\n".join(configuration_log(folder, what or "")))
    else:
        say(log_path(folder, what).read_text(encoding="utf-8", errors="replace").rstrip("\n"))
