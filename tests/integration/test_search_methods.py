"""Searches by each method, with brackets and without, on real processes: killed, resumed, and named in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.analysis.summary import facts
from pipeline.run.history import read_history
from pipeline.search.verify import verify
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results
from tests.integration.support import results_count, wait_until
from tests.integration.surrogate import Processes, make_run, start_master, start_worker


@pytest.mark.parametrize(
    ("method", "scheduler", "named"),
    [
        ("gp", "brackets", "gp, "),
        ("gp", "asha", "gp without barriers (asha), "),
        ("bohb", "brackets", "bohb, "),
        ("hyperband", "asha", "hyperband without barriers (asha), "),
        ("random", "brackets", "random, "),
    ],
)
def test_a_search_whose_master_is_killed_ends_verified_in_a_report_that_names_its_method(
    tmp_path: Path, processes: Processes, method: str, scheduler: str, named: str
) -> None:
    size = ["search.iterations=16"] if method == "random" else []  # one configuration each
    folder = make_run(tmp_path / "run", f"search.method={method}", f"search.scheduler={scheduler}", *size)
    workers = [start_worker(folder, f"w{i}", seconds=0.05) for i in range(2)]
    master = start_master(folder)
    processes.append(master)
    wait_until(lambda: results_count(folder) >= 8)
    master.kill()
    master.wait()
    resumed = start_master(folder)
    processes += [resumed, *workers]
    assert [process.wait(90) for process in (resumed, *workers)] == [0, 0, 0]

    draws = read_history(folder).draws
    assert any(draw.info["model_based_pick"] for draw in draws) == (method == "gp")  # bohb's needs more results
    assert verify(folder) == []
    assert dict(facts(load_results(collect(folder))))["method"].startswith(named)
