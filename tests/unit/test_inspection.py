"""One configuration of an interrupted run, and its logs."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.inspection import (
    configuration_data,
    configuration_lines,
    configuration_log,
    follow,
    log_path,
    show_configuration,
    sparkline,
)
from pipeline.run.folder import RunFolder

ARCHIVE = Path(__file__).parents[1] / "data" / "run-of-0.1.0.tar.xz"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return RunFolder(next(tmp_path.iterdir()))


def test_a_configuration_is_shown_with_its_values_results_and_curves(folder: RunFolder) -> None:
    shown = show_configuration(folder, "0-0-0")
    text = "\n".join(configuration_lines(shown))
    assert text.startswith("Configuration 0-0-0, drawn at random after 0 results")
    for expected in ("learning_rate", "On 1: validation error 92.67% (attempt 1", "Curve on 1, attempt 1: 92.67%"):
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
    assert lines[-1] == "Attempt 1 on 3, w1 on node1: lost, silent for 60 s"


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


def test_sparklines_show_the_shape_of_a_curve() -> None:
    assert sparkline((7.0, 3.0, 0.0)) == "█▄▁"
    assert len(sparkline(tuple(float(i) for i in range(1000)))) == 40
    assert sparkline((2.0,)) == "▁"
