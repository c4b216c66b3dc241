import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.errors import RunError
from pipeline.launch.backend import QueueState
from pipeline.run.details import IncumbentDetails, RunDetails, WorkerSpeed
from pipeline.run.folder import RunFolder
from pipeline.run.status import (
    STALE_S,
    BracketStatus,
    FrontStatus,
    IncumbentStatus,
    RungStatus,
    WorkerStatus,
    publish_status,
    read_status,
)
from pipeline.run.status_view import Screen, duration, progress_line, sparkline, status_lines, status_table
from tests.unit.run.statuses import status_of


def test_a_status_survives_its_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_status(folder) is None
    status = status_of()
    publish_status(folder, status)
    assert read_status(folder) == status


def test_a_status_of_another_version_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.status.write_text('{"run_id": "x"}')
    with pytest.raises(RunError, match=r"status\.json"):
        read_status(folder, wait_s=0)


def test_lines_and_tables_say_all_that_matters(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    queue = QueueState(pending=3, master="job 12, running")
    lines = "\n".join(status_lines(folder, status_of(), queue))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(status_table(folder, status_of(), queue))
    for text in (lines, console.export_text()):
        for expected in ("digits-1", "searching", "node1", "7_0", "0-0-3 on 1.2", "suspect", "6.25%",
                         "10 finished", "1 crashed", "3 pending", "job 12, running", "node3", "10/27"):  # fmt: skip
            assert expected in text


def test_the_front_of_several_objectives_is_shown(tmp_path: Path) -> None:
    status = status_of(front=FrontStatus(3.0, 4, 9, ("error 2% (0-0-1)", "parameters 10,000 (0-0-2)"), 0.75))
    publish_status(RunFolder(tmp_path), status)
    again = read_status(RunFolder(tmp_path))
    assert again is not None
    line = "Front on 3 s: 4 of 9 configurations, hypervolume 0.750; best error 2% (0-0-1), parameters 10,000 (0-0-2)"
    assert line in status_lines(RunFolder(tmp_path), again)


def test_nine_workers_and_everything_else_are_seen_on_a_terminal_of_100_by_30(tmp_path: Path) -> None:
    now = time.time()
    names = [f"node{i}-45495457_{i}-r1-ab1{i}" for i in range(9)]
    rungs = tuple(RungStatus(400.0 * 3**i, 27, 9, 1, 2, 15) for i in range(4))
    status = status_of(
        message="1 task ended on node4 before a worker joined. The last one said: No module named 'torch' (jobs/1.out)",
        workers=tuple(
            WorkerStatus(n, n[:5], n[6:16], "cuda 0", "training", "10-0-26 on 10800, attempt 2", now - 2000, now + 9e4)
            for n in names
        ),
        brackets=tuple(BracketStatus(i, False, rungs) for i in range(6)),
        incumbents=tuple(IncumbentStatus(400.0 * 3**i, "0-0-3", 0.0625) for i in range(4)),
    )
    values = {f"hyperparameter_{i}": f"0.{i:04}" for i in range(17)}
    details = RunDetails(
        IncumbentDetails("0-0-3", 10800.0, values, (0.9, 0.4, 0.1), "90.00%", "10.00%"),
        {name: WorkerSpeed(12345.0 + i, 0.4 if i == 4 else 1.0, is_slow=i == 4) for i, name in enumerate(names)},
    )
    screen = Screen(lines=30, sort="images/s", footer="q leaves")
    console = Console(width=100, height=30, record=True, file=io.StringIO())
    queue = QueueState(pending=1, reasons={"Resources": 1})
    console.print(status_table(RunFolder(tmp_path), status, queue, details, screen, "End: in about 2 h 20 min"))
    text = console.export_text()
    lines = text.rstrip("\n").splitlines()
    assert len(lines) <= 30
    for expected in (
        *names, "10-0-26 on 10800", "6.25% on 10800 s", "1 pending", "Node node3", "12,349 slow", "90.00% █▄▁ 10.00%",
        "hyperparameter_0 0.0000", "End: in about 2 h 20 min", "11/65 evaluations", "5 of 27 configurations from",
        "██░░░░ 10/27 (2)", "Spent: 8 min 32 s of training", "q leaves",
    ):  # fmt: skip
        assert expected in text
    workers = [line for line in lines if line.startswith("node")]
    assert workers[0].startswith("node4"), "the slowest comes first"


@pytest.mark.parametrize(("by", "first"), [("name", "a"), ("state", "b"), ("time left", "c"), ("images/s", "d")])
def test_workers_are_sorted_by_what_was_asked_for(tmp_path: Path, by: str, first: str) -> None:
    now = time.time()
    workers = tuple(
        WorkerStatus(name, "host", "", "cpu", "suspect" if name == "b" else "training", "", now, now + left)
        for name, left in (("d", 900), ("c", 60), ("b", 700), ("a", 800))
    )
    speeds = {name: WorkerSpeed(100.0 if name == "d" else 200.0) for name in "abcd"}
    console = Console(width=100, record=True, file=io.StringIO())
    table = status_table(
        RunFolder(tmp_path), status_of(workers=workers), None, RunDetails(None, speeds), Screen(sort=by)
    )
    console.print(table)
    lines = console.export_text().splitlines()
    assert lines[next(i for i, line in enumerate(lines) if line.startswith("worker ")) + 1].startswith(f"{first}, host")


def test_the_clock_of_an_ended_run_stands_still(tmp_path: Path) -> None:
    ended = status_of(state="finished", started=1000.0, updated=1360.0, workers=())
    for now in (2000.0, 2e9):
        assert "since 6 min 0 s" in "\n".join(status_lines(RunFolder(tmp_path), ended, now=now))


def test_sparklines_show_the_shape_of_a_curve() -> None:
    assert sparkline((7.0, 3.0, 0.0)) == "█▄▁"
    assert len(sparkline(tuple(float(i) for i in range(1000)))) == 40
    assert sparkline((2.0,)) == "▁"


def test_a_silent_master_is_called_silent(tmp_path: Path) -> None:
    stale = status_of(updated=time.time() - 2 * STALE_S)
    assert stale.is_stale()
    assert "resume-search" in status_lines(RunFolder(tmp_path), stale)[0]
    assert not status_of(updated=0, state="finished").is_stale(), "an ended run is silent by right"


@pytest.mark.parametrize("state", ["searching", "left"])
def test_a_master_whose_job_waits_in_the_queue_needs_no_person(tmp_path: Path, state: Any) -> None:
    stale = status_of(updated=time.time() - 2 * STALE_S, state=state)
    queue = QueueState(master="job 12, pending (BeginTime)", master_waits=True)
    lines = status_lines(RunFolder(tmp_path), stale, queue)
    assert "goes on once Slurm starts its job" in lines[0]
    assert "resume-search" not in lines[0]
    assert "job 12, pending (BeginTime)" in "\n".join(lines)


def test_before_its_master_has_started_a_run_shows_where_it_waits(tmp_path: Path) -> None:
    queue = QueueState(master="job 12, pending (Priority)", master_waits=True)
    assert "job 12, pending (Priority)" in "\n".join(status_lines(RunFolder(tmp_path), None, queue))


def test_progress_says_how_many_proposals_came_from_the_model() -> None:
    assert (
        progress_line(status_of()) == "11/65 evaluations, 5 of 27 configurations from the model, best on 0.4 s: 6.25%"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (125, "2 min 5 s"), (7500, "2 h 5 min"), (180000, "2 d 2 h")]
)
def test_durations_read_as_a_person_says_them(seconds: Any, text: Any) -> None:
    assert duration(seconds) == text
