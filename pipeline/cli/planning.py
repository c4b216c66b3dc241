"""What a search will cost, before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.app import AsJson, Overrides, Preset, app, say


@app.command()
def plan(
    preset: Preset = "digits",
    overrides: Overrides = None,
    workers: Annotated[int | None, typer.Option(help="Simulate with so many workers; default: workers.count.")] = None,
    overhead: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="What an evaluation takes besides its training, in budget units. [default: 15 s, or 1 s "
            "where the smallest budget is below a minute]",
        ),
    ] = None,
    absence: Annotated[
        float, typer.Option(min=0, help="Seconds from the end of a worker's job until it is back.")
    ] = 30.0,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Overrides of another search to put beside it, such as 'search.eta=4'; may be repeated."),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it, too: a file that ends in .png, .pdf or .svg.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a search would take: evaluations, GPU-hours, and time with how many workers. Starts nothing."""
    from pipeline.planning.advice import advise, overhead_of
    from pipeline.planning.view import comparison_lines, plan_data, plan_lines
    from pipeline.problems.freezing import read_problem
    from pipeline.settings import load_settings

    searches = [("this", list(overrides or ())), *((c, [*(overrides or ()), *c.split()]) for c in compare or ())]
    plans = []
    for name, changes in searches:
        settings = read_problem(load_settings(preset, changes))
        count = settings.workers.count if workers is None else workers
        plans.append((name, advise(settings, count, overhead_of(settings, overhead), absence)))
    if figure is not None:
        from pipeline.planning.figure import write_figure

        write_figure(plans[0][1], figure)
    if as_json:
        say(json.dumps({name: plan_data(advice) for name, advice in plans}, indent=2))
    else:
        say("\n".join(plan_lines(plans[0][1]) if len(plans) == 1 else comparison_lines(plans)))
    if figure is not None and not as_json:
        say(f"Figure: {figure}")
