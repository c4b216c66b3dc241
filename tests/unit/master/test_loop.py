"""The master's loop, a pass at a time; tests/integration/test_reliability.py starts whole masters."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.master.events import MasterOutcome
from pipeline.master.loop import LATE_S, TICK_S, Loop
from tests.unit.master.conftest import Master


def loop_of(master: Master) -> Loop:
    """A loop that looks at time and events alone."""
    unused: Any = SimpleNamespace()
    loop = Loop(master.folder, master.scheduler, unused, unused, lambda: None, unused, master.lease, master.runtime)
    loop._next_tick, loop._next_status = master.runtime.monotonic(), math.inf
    return loop


@pytest.mark.parametrize("error", [OSError("no space"), ValueError("a status out of bounds")])
def test_a_last_word_that_cannot_be_said_does_not_keep_the_others_back(master: Master, error: Exception) -> None:
    said = []

    def publish_last(*arguments: Any) -> None:
        raise error

    loop = loop_of(master)
    loop.publisher = SimpleNamespace(  # type: ignore[assignment]
        publish_last=publish_last, tell_end=lambda *a: said.append("told"), close=lambda: said.append("closed")
    )
    loop.end(MasterOutcome("stopped", "asked to stop"))
    assert said == ["told", "closed"]
    assert '"ended": "stopped"' in (master.folder.masters / "000001.beat").read_text()
    assert master.dispatcher.is_down


@pytest.mark.parametrize("is_the_masters", [True, False])
def test_a_pass_that_comes_late_tells_the_masters_own_pause_from_its_workers_silence(
    master: Master, is_the_masters: bool
) -> None:
    loop = loop_of(master)
    master.join("w0")
    loop._pass([])
    master.confirm("w0")
    patience_s = master.settings.workers.patience_s
    assert patience_s > LATE_S
    if is_the_masters:
        master.runtime.skipped_s += 3 * patience_s
    else:
        master.silence("w0", 3 * patience_s)
        master.runtime.skipped_s += TICK_S
    loop._pass([])
    (worker,) = master.scheduler.pool.workers.values()
    assert worker.is_lost is not is_the_masters
    assert [event["outcome"] for event in master.events("returned")] == ([] if is_the_masters else ["lost"])
