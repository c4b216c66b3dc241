"""Commands that are told what becomes of a run: real shells, beside a master that waits for none of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.master import hooks as master_hooks
from pipeline.master.hooks import Hooks
from pipeline.run.folder import RunFolder
from pipeline.run.status import IncumbentStatus, RunStatus
from pipeline.settings import HookSettings
from tests.unit.run.statuses import status_of

NOTE = "cat >> told.jsonl; echo >> told.jsonl; echo $TANDEM_EVENT >> events"


def with_best(loss: float, **changes: Any) -> RunStatus:
    return status_of(incumbents=(IncumbentStatus(0.4, "0-0-1", loss),), **changes)


def hooks(tmp_path: Path, **commands: Any) -> Hooks:
    return Hooks(HookSettings(**commands), RunFolder(tmp_path))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("state", "event"), [("finished", "end"), ("stopped", "end"), ("broken", "break"), ("left", None)]
)
def test_an_end_and_a_break_are_told_and_a_master_that_goes_on_elsewhere_is_neither(
    tmp_path: Path, state: str, event: str | None
) -> None:
    hooks(tmp_path, on_end=NOTE, on_break=NOTE).end(status_of(state=state, message="why"))
    if event is None:
        assert not (tmp_path / "events").exists()
        return
    assert (tmp_path / "events").read_text().split() == [event]
    (status,) = told(tmp_path)
    assert (status["event"], status["state"], status["message"]) == (event, state, "why")
    assert status["run_folder"] == str(tmp_path)


def test_a_new_incumbent_is_told_once_and_one_that_an_earlier_master_knew_is_not(tmp_path: Path) -> None:
    watching = hooks(tmp_path, on_incumbent=NOTE)
    for loss in (0.5, 0.5, 0.4, 0.4):
        watching.look(with_best(loss))
    watching.end(with_best(0.4, state="finished"))
    assert [status["incumbents"][0]["loss"] for status in told(tmp_path)] == [0.4]


def test_the_first_result_of_a_run_is_an_incumbent(tmp_path: Path) -> None:
    watching = hooks(tmp_path, on_incumbent=NOTE)
    watching.look(status_of(incumbents=()))
    watching.look(with_best(0.9))
    watching.end(with_best(0.9, state="stopped"))
    assert len(told(tmp_path)) == 1


def test_of_incumbents_that_come_while_a_command_runs_the_last_is_told_and_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    waiting = f"while [ -e gate ]; do sleep 0.05; done; {NOTE}"
    watching = hooks(tmp_path, on_incumbent=waiting)
    watching.look(status_of(incumbents=()))
    watching.look(with_best(0.9))
    wait_until(lambda: watching.is_at_work)
    for loss in (0.8, 0.7, 0.6):
        watching.look(with_best(loss))  # while the first command stands still
    (tmp_path / "gate").unlink()
    watching.end(with_best(0.6, state="finished"))
    assert [status["incumbents"][0]["loss"] for status in told(tmp_path)] == [0.9, 0.6]


def test_a_master_that_leaves_does_not_wait_for_a_command_that_hangs_nor_for_those_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master_hooks, "LEAVE_S", 0.2)
    watching = hooks(tmp_path, on_incumbent=f"{NOTE}; sleep 1000", timeout_s=900.0)
    watching.look(status_of(incumbents=()))
    watching.look(with_best(0.9))
    wait_until((tmp_path / "events").exists)
    watching.look(with_best(0.8))
    began = time.monotonic()
    watching.end(with_best(0.8, state="left"))
    assert time.monotonic() - began < 450, "half of what one of the two commands may take"
    assert watching.problem == "hooks.on_incumbent was ended: this master leaves"
    assert len(told(tmp_path)) == 1


def test_a_master_that_leaves_lets_a_command_of_a_moment_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_hooks, "LEAVE_S", 60.0)
    watching = hooks(tmp_path, on_incumbent=NOTE)
    watching.look(status_of(incumbents=()))
    watching.look(with_best(0.9))
    watching.end(with_best(0.9, state="left"))
    assert len(told(tmp_path)) == 1


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("echo no such channel >&2; exit 3", "hooks.on_end failed with status 3: no such channel"),
        ("sleep 1000", "hooks.on_end was ended: it took more than 0.2 s"),
        ("/no/such/command", "hooks.on_end failed with status 127"),
        ("sleep 1000 & exit 0", ""),  # what it leaves behind is its own affair
    ],
)
def test_a_command_that_fails_or_hangs_is_ended_and_named(tmp_path: Path, command: str, problem: str) -> None:
    telling = hooks(tmp_path, on_end=command.replace("1000", "20"), timeout_s=0.2 if "ended" in problem else 60.0)
    telling.end(status_of(state="finished"))
    assert telling.problem.startswith(problem)
    assert bool(telling.problem) == bool(problem)


def test_without_commands_there_is_no_thread(tmp_path: Path) -> None:
    idle = hooks(tmp_path)
    idle.look(with_best(0.1))
    idle.end(status_of(state="finished"))
    assert not idle.problem
