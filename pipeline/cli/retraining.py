"""Commands that train chosen configurations again for the full budget: the table of test errors."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.app import RESULTS, Overrides, ResultsFolder, Run, Seeds, app, say
from pipeline.errors import SettingsError
from pipeline.run.folder import find_run


@app.command()
def baselines(
    preset: Annotated[str | None, typer.Option("--preset", "-p", help="As in submit-search; default: cifar10.")] = None,
    overrides: Overrides = None,
    run: Annotated[str | None, typer.Option(help="Train as this run does, and not as a preset says.")] = None,
    results: ResultsFolder = RESULTS,
    seeds: Seeds = 3,
) -> None:
    """Train the paper's baselines for the full budget, on training plus validation data: what is missing of them."""
    from pipeline import operations
    from pipeline.retraining.plan import plan_baselines
    from pipeline.retraining.retrain import retrain_all
    from pipeline.run.creation import read_settings
    from pipeline.settings import load_settings

    if run is None:
        settings = load_settings(preset or "cifar10", overrides or ())
    elif preset or overrides:
        raise SettingsError("--run takes all settings from that run: leave out --preset and --set, or leave out --run.")
    else:
        folder = find_run(results, run)
        settings, results = read_settings(folder), folder.path.parent
    operations.prepare_data(settings, say)
    retrain_all(plan_baselines(settings, results.resolve(), range(seeds)), settings, say)


@app.command("retrain-incumbent")
def retrain_incumbent(
    run: Run = None,
    results: ResultsFolder = RESULTS,
    seeds: Seeds = 3,
    config: Annotated[
        str | None, typer.Option(metavar="ID", help="Another configuration than the best of the (first) objective.")
    ] = None,
) -> None:
    """Train a run's incumbent for the full budget, on training plus validation data: what is missing of it."""
    from pipeline.retraining.plan import config_of, plan_incumbent
    from pipeline.retraining.retrain import retrain_all
    from pipeline.run.creation import read_settings

    folder = find_run(results, run)
    settings = read_settings(folder)
    retrain_all(plan_incumbent(folder, settings, range(seeds), config_of(config)), settings, say)
