"""One configuration of an interrupted run, and its logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.inspection import (
    configuration_data,
    configuration_lines,
    configuration_log,
    follow,
    follow_configuration,
    log_path,
    show_configuration,
)
from pipeline.run.folder import RunFolder
from tests.earlier_run import unpack_earlier_run


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return unpack_earlier_run(tmp_path)


def test_a_configuration_is_shown_with_its_values_results_and_curves(folder: RunFolder) -> None:
    shown = show_configuration(folder, "0-0-0")
    text = "\n".join(configuration_lines(shown))
    assert text.startswith("Configuration 0-0-0, drawn at random after 0 results")
    for expected in (
        "learning_rate",
        "On 1 batch: validation error 92.67% (attempt 1",
        "Curve on 1 batch, attempt 1: 92.67%",
    ):
        assert expected in text
    data = json.loads(json.dumps(configuration_data(shown)))
    assert data["results"][0]["loss"] == pytest.approx(0.926666, abs=1e-4)
    assert data["curves"][0]["metric"] == "validation_error"


def test_a_failed_attempt_is_shown_with_its_reason(folder: RunFolder) -> None:
    with folder.journal.open("a") as journal:
        journal.write(
            json.dumps({
                "time": 1.0, "event": "returned", "config_id": [0, 0, 6], "budget": 3.0, "attempt": 1, "worker": "w1",
                "host": "node1", "outcome": "lost", "reason": "silent for 60 s", "progressed": False, "lost_s": 1.0,
            }) + "\n"
        )  # fmt: skip
    lines = configuration_lines(show_configuration(folder, "0-0-6"))
    assert lines[-1] == "Attempt 1 on 3 batches, w1 on node1: lost, silent for 60 s"


@pytest.mark.parametrize("name", ["9-9-9", "nonsense"])
def test_a_configuration_that_is_not_there_is_named_with_the_last_that_is(folder: RunFolder, name: str) -> None:
    with pytest.raises(RunError, match=rf"no configuration '{name}' .*; the last is 1-0-"):
        show_configuration(folder, name)


def test_a_damaged_curve_does_not_hide_the_rest(folder: RunFolder) -> None:
    for path in (folder.attempts / "0-0-0").glob("*.h5"):
        path.write_bytes(path.read_bytes()[:100])
    shown = show_configuration(folder, "0-0-0")
    assert shown.curves == {}
    assert shown.results


def test_what_workers_logged_about_a_configuration_is_found_among_the_rest(folder: RunFolder) -> None:
    folder.logs.mkdir()
    folder.worker_log("w1").write_text(
        "a tandem.worker: evaluation (0, 0, 3) on 1, attempt 1\na tandem.worker: crashed\nTraceback: no such layer\n"
        "b tandem.worker: evaluation (0, 0, 4) on 1, attempt 1\nb tandem.worker: finished\n"
        "c tandem.worker: leaving: done\n"
    )
    assert configuration_log(folder, "0-0-3") == [
        "w1: a tandem.worker: evaluation (0, 0, 3) on 1, attempt 1",
        "w1: a tandem.worker: crashed",
        "w1: Traceback: no such layer",
    ]
    folder.output_log("w1").write_text(
        "imports\n--- evaluation (0, 0, 3) on 1, attempt 1\nprinted\n--- evaluation (0, 0, 4) on 1, attempt 1\nelse\n"
    )
    assert configuration_log(folder, "0-0-3")[3:] == ["w1: --- evaluation (0, 0, 3) on 1, attempt 1", "w1: printed"]
    with pytest.raises(RunError, match="0-0-5"):
        configuration_log(folder, "0-0-5")
    assert log_path(folder, "w1") == folder.worker_log("w1")
    with pytest.raises(RunError, match="Workers with a log: w1"):
        log_path(folder, "w2")


def test_a_followed_log_gives_whole_lines_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first\nsec")
    lines = follow(path)
    assert next(lines) == "first"
    with path.open("a") as file:
        file.write("ond\n")
    assert next(lines) == "second"


def test_the_log_of_a_configuration_is_followed_through_the_workers_that_it_comes_to(folder: RunFolder) -> None:
    folder.logs.mkdir()
    begin = "a tandem.worker: evaluation (0, 0, 3) on 1, attempt 1\n"
    folder.worker_log("w1").write_text(begin + "a tandem.worker: tra")
    lines = follow_configuration(folder, "0-0-3")
    assert next(lines) == f"w1: {begin.strip()}"
    with folder.worker_log("w1").open("a") as log:
        log.write("ining\na tandem.worker: evaluation (0, 0, 3): what is noted of it ends nothing\n")
    assert next(lines) == "w1: a tandem.worker: training"
    assert next(lines).endswith("ends nothing")
    folder.worker_log("w2").write_text(begin)
    assert next(lines) == f"w2: {begin.strip()}"


def test_a_crashed_configuration_is_shown_with_its_traceback(folder: RunFolder) -> None:
    folder.logs.mkdir()
    folder.worker_log("w1").write_text(
        "2026-11-26 10:00:00,000 INFO    tandem.worker: evaluation (0, 0, 6) on 3, attempt 1\n"
        "2026-11-26 10:00:01,000 ERROR   tandem.worker: the evaluation raised an error\n"
        'Traceback (most recent call last):\n  File "x.py", line 1, in f\nValueError: no such layer\n'
        "2026-11-26 10:00:02,000 INFO    tandem.worker: finished\n"
    )
    assert show_configuration(folder, "0-0-6").traceback == (), "nothing failed"
    with folder.journal.open("a") as journal:
        journal.write(
            json.dumps({
                "time": 1.0, "event": "returned", "config_id": [0, 0, 6], "budget": 3.0, "attempt": 1, "worker": "w1",
                "host": "node1", "outcome": "crashed", "reason": "error: ValueError", "progressed": None, "lost_s": 0.0,
            }) + "\n"
        )  # fmt: skip
    shown = show_configuration(folder, "0-0-6")
    lines = ["Traceback (most recent call last):", '  File "x.py", line 1, in f', "ValueError: no such layer"]
    assert list(shown.traceback) == lines
    assert configuration_lines(shown)[-3:] == [f"  {line}" for line in lines]
    assert configuration_data(shown)["traceback"] == lines
