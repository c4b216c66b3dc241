"""Searches by a model, with brackets and without, on real processes: killed, resumed, and named in the report."""

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


@pytest.mark.parametrize(("scheduler", "named"), [("brackets", "gp, "), ("asha", "gp without barriers (asha), ")])
def test_a_search_by_a_model_whose_master_is_killed_ends_verified_in_a_report_that_names_it(
    tmp_path: Path, processes: Processes, scheduler: str, named: str
) -> None:
    folder = make_run(tmp_path / "run", "search.method=gp", f"search.scheduler={scheduler}")
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
    assert any(draw.info["model_based_pick"] for draw in draws)
    assert verify(folder) == []
    assert dict(facts(load_results(collect(folder))))["method"].startswith(named)
