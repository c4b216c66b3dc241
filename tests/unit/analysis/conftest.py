"""A small synthetic run, collected once, and runs with losses of one's own choice."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.synthetic_run import EPOCH_S, write_synthetic_run
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from pipeline.storage.results import Results, load_results

LADDER = ["search.min_budget=1", "search.max_budget=27", "search.eta=3"]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    settings = load_settings("digits", [*LADDER, "workers.count=4", "search.iterations=8"])
    return load_results(collect(write_synthetic_run(tmp_path_factory.mktemp("r") / "run", settings, max_rows=4)))


@pytest.fixture(scope="session")
def with_losses(results: Results) -> Callable[[dict[float, list[float]]], Results]:
    """Makes a run whose configurations 0, 1, ... finished on these budgets with these losses, one a second."""

    def make(losses: dict[float, list[float]]) -> Results:
        rows = [
            {"configuration": c, "budget": budget, "loss": loss, "status": "finished", "test_error": np.nan}
            for budget, values in losses.items()
            for c, loss in enumerate(values)
            if not math.isnan(loss)
        ]
        evaluations = results.evaluations.head(0).reindex(range(len(rows)))
        for name in rows[0]:
            evaluations[name] = [row[name] for row in rows]  # type: ignore[assignment]
        evaluations["finished"] = EPOCH_S + np.arange(1.0, len(rows) + 1)
        evaluations["config_id"] = [f"0-0-{row['configuration']}" for row in rows]
        evaluations["submitted"] = EPOCH_S
        return replace(results, evaluations=evaluations, budgets=tuple(losses))

    return make
