"""When a run will end, from what its evaluations have taken so far."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipeline.files import publish_text
from pipeline.planning.forecast import forecast
from pipeline.planning.simulation import NoProposer
from pipeline.run.folder import RunFolder
from pipeline.run.history import Result, draw_line, read_history, result_line
from pipeline.run.json_lines import JsonLinesWriter
from pipeline.run.status import RunStatus, WorkerStatus
from pipeline.search.replay import rebuild
from pipeline.search.search import Search
from pipeline.settings import Settings, dump_settings, load_settings
from tests.unit.run.statuses import status_of

NOW = 1_800_000_000.0
SECONDS_PER_UNIT = 10.0
SETTINGS = load_settings(
    "digits",
    ["search.min_budget=1", "search.max_budget=9", "search.iterations=3", "search.promotion=restart"],
)


def run_with(path: Path, results: int) -> RunFolder:
    """A run of one worker whose evaluations took ten seconds for each unit of their budget, one after the other."""
    folder = RunFolder(path)
    publish_text(folder.settings, dump_settings(SETTINGS))
    search = Search(SETTINGS)
    with JsonLinesWriter(folder.configs) as configs, JsonLinesWriter(folder.results) as lines:
        for _ in range(results):
            due = search.next_evaluation()
            assert due is not None
            config_id, _, budget = due
            took = SECONDS_PER_UNIT * budget
            info = {"attempt": 1, "training_s": budget}
            result = Result(config_id, budget, NOW, NOW, NOW + took, config_id[2] / 100, info, None)
            configs.append(draw_line(d) for d in search.take_new_draws())
            lines.append([result_line(result)])
            search.absorb(result)
    folder.journal.touch()
    return folder


def status_with(workers: int, state: str = "searching") -> RunStatus:
    made = tuple(WorkerStatus(f"w{i}", "node1", "", "cpu", "idle", "", time.time()) for i in range(workers))
    return status_of(workers=made, state=state)


def rest(settings: Settings, results: int) -> float:
    """Budget units that a search still trains after so many results."""
    search = Search(settings, NoProposer())
    units = []
    while (due := search.next_evaluation()) is not None:
        units.append(due[2])
        search.absorb(Result(due[0], due[2], 0, 0, 0, due[0][2] / 100, {"attempt": 1, "training_s": due[2]}, None))
    return sum(units[results:])


def test_one_worker_ends_when_the_rest_has_been_trained(tmp_path: Path) -> None:
    told = forecast(run_with(tmp_path, 14), SETTINGS, status_with(1), NOW)
    assert told is not None
    assert told.likely_s == pytest.approx(SECONDS_PER_UNIT * rest(SETTINGS, 14))
    assert (told.earliest_s, told.latest_s) == (told.likely_s, told.likely_s)
    assert "with 1 worker as now" in str(told)


def test_more_workers_end_earlier(tmp_path: Path) -> None:
    folder = run_with(tmp_path, 14)
    one, four = (forecast(folder, SETTINGS, status_with(n), NOW) for n in (1, 4))
    assert one is not None
    assert four is not None
    assert one.likely_s / 4 <= four.likely_s < one.likely_s


def test_what_is_under_way_has_less_before_it(tmp_path: Path) -> None:
    folder = run_with(tmp_path, 12)
    before = forecast(folder, SETTINGS, status_with(1), NOW)
    # Two rungs are complete: the best of them goes on to the largest budget, and began five seconds ago.
    ((config_id, _, budget),) = rebuild(SETTINGS, read_history(folder)).outstanding()
    event = {"config_id": list(config_id), "budget": budget, "attempt": 1, "worker": "w1"}
    folder.journal.write_text(json.dumps({"time": NOW - 5, "event": "dispatched", **event}) + "\n")
    after = forecast(folder, SETTINGS, status_with(1), NOW)
    assert before is not None
    assert after is not None
    assert after.likely_s == pytest.approx(before.likely_s - 5)


@pytest.mark.parametrize(
    ("results", "workers", "state"), [(9, 1, "searching"), (14, 0, "searching"), (14, 1, "finished")]
)
def test_nothing_is_foretold_of_a_run_that_has_ended_or_says_too_little(
    tmp_path: Path, results: int, workers: int, state: str
) -> None:
    assert forecast(run_with(tmp_path, results), SETTINGS, status_with(workers, state), NOW) is None
