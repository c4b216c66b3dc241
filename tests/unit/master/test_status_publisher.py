"""The status that the master publishes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from pipeline.bounds import BoundsError
from pipeline.master import status_publisher
from pipeline.master.events import DispatchEnded, MasterOutcome, ThreadDied
from pipeline.master.status_publisher import StatusPublisher
from pipeline.problems.description import VALIDATION_ERROR
from pipeline.rpc.messages import Outcome
from pipeline.run.status import RungStatus, read_status
from pipeline.settings import changed
from tandem_trial.problem import Metric
from tests.unit.master.conftest import Master


@pytest.fixture
def publisher(master: Master) -> StatusPublisher:
    return StatusPublisher(master.folder, master.settings, master.lease, "127.0.0.1:9", master.dispatcher.inbox)


def last_status(publisher: StatusPublisher, master: Master, state: str = "stopped", message: str = "") -> Any:
    publisher.publish_last(master.scheduler, MasterOutcome(state, message))
    return read_status(master.folder)


def test_the_status_says_what_workers_and_evaluations_are_at(publisher: StatusPublisher, master: Master) -> None:
    master.join("w0")
    master.join("w1", "b")
    master.step()
    master.confirm("w0")
    master.deliver("w0", Outcome("finished", loss=0.25, info={"training_s": 1.5}))
    master.scheduler.commit()
    status = last_status(publisher, master, "stopped", "asked to stop")
    assert (status.state, status.message, status.term, status.address) == ("stopped", "asked to stop", 1, "127.0.0.1:9")
    assert (status.finished, status.crashed, status.planned, status.trained_s) == (1, 0, 4, 1.5)
    assert [(w.name, w.host, w.state, w.evaluation) for w in status.workers] == [
        ("w0", "a", "idle", ""),
        ("w1", "b", "training", "0-0-1 on 1, attempt 1"),  # told to start: a person need not tell that apart
    ]
    assert status.brackets[0].rungs == (RungStatus(1.0, 3, 1, 0, 1, 0), RungStatus(3.0, 1, 0, 0, 0, 0))
    assert [(i.budget, i.config_id, i.loss) for i in status.incumbents] == [(1.0, "0-0-0", 0.25)]


def test_what_is_planned_is_said_before_the_first_bracket_is_there(publisher: StatusPublisher, master: Master) -> None:
    assert master.scheduler.search.open_brackets() == []
    assert last_status(publisher, master).planned == 4


def test_with_several_objectives_the_status_has_the_front(publisher: StatusPublisher, master: Master) -> None:
    master.scheduler.search.objectives.metrics = (VALIDATION_ERROR, Metric("parameters"))
    assert last_status(publisher, master).front is None
    master.join("w0")
    for loss, parameters in ((0.25, 20_000), (0.5, 10_000), (0.75, 30_000)):
        master.step()
        master.confirm("w0")
        master.deliver("w0", Outcome("finished", loss=loss, info={"parameters": parameters}))
        master.scheduler.commit()
    front = last_status(publisher, master).front
    assert (front.budget, front.size, front.finished) == (1.0, 2, 3)
    assert front.best == ("validation error 25.00% (0-0-0)", "parameters 10,000 (0-0-1)")
    assert 0 < front.hypervolume < 1
    assert str(front).startswith("2 of 3 configurations, hypervolume 0.")


def test_a_worker_that_did_not_take_its_evaluation_is_shown_as_idle_and_a_silent_one_as_suspect(
    publisher: StatusPublisher, master: Master
) -> None:
    master.join("w0")
    master.join("w1", "b")
    master.step()
    connection = master.connections["w0"]
    master.scheduler.handle(DispatchEnded(connection, connection.last, "refused", "busy"))
    master.silence("w1", 30)
    master.scheduler.tick()
    assert [w.state for w in last_status(publisher, master).workers] == ["idle", "suspect"]


def test_a_queued_evaluation_is_not_shown_as_running(publisher: StatusPublisher, master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    master.deliver("w0", Outcome("handed_back", reason="allocation_end", is_leaving=True))
    rung = last_status(publisher, master).brackets[0].rungs[0]
    assert (rung.running, rung.queued) == (0, 1)


def test_a_slow_disk_does_not_hold_up_the_search(
    publisher: StatusPublisher, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, may_go_on = threading.Event(), threading.Event()

    def slow(folder: Any, status: Any) -> None:
        writing.set()
        assert may_go_on.wait(10)

    monkeypatch.setattr(status_publisher, "publish_status", slow)
    publisher.publish(master.scheduler)
    assert writing.wait(10)
    began = time.monotonic()
    for _ in range(100):
        publisher.publish(master.scheduler)
    assert time.monotonic() - began < 5
    may_go_on.set()
    publisher.publish_last(master.scheduler, MasterOutcome("stopped"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BoundsError("trained_s is 1e13")])
def test_a_status_that_cannot_be_written_is_followed_by_the_next(
    publisher: StatusPublisher, master: Master, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    written = []
    real = status_publisher.publish_status

    def refuses_once(folder: Any, status: Any) -> None:
        written.append(status)
        if len(written) == 1:
            raise error
        real(folder, status)

    monkeypatch.setattr(status_publisher, "publish_status", refuses_once)
    publisher.publish(master.scheduler)
    assert last_status(publisher, master).state == "stopped"
    assert len(written) == 2


def test_a_defect_in_the_status_thread_reaches_the_loop(
    publisher: StatusPublisher, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_publisher, "publish_status", lambda folder, status: 1 / 0)
    publisher.publish(master.scheduler)
    event = master.dispatcher.inbox.get(timeout=10)
    assert isinstance(event, ThreadDied)
    assert "ZeroDivisionError" in event.traceback


def test_seconds_that_guests_make_up_neither_stop_the_status_nor_a_resumed_master(
    publisher: StatusPublisher, master: Master
) -> None:
    master.join("w0")
    for training_s in (9e11, 9e11, 1e30):
        master.step()
        master.confirm("w0")
        master.deliver("w0", Outcome.from_plain(result(training_s)))
    master.step()
    assert last_status(publisher, master).trained_s == 1e12
    # As an earlier version took it in.
    results = master.folder.results
    results.write_text(results.read_text().replace("training_s (as sent)", "training_s"))
    assert results.read_text().count('"training_s": 1e+30') == 1
    master.close()
    master.start()
    again = StatusPublisher(master.folder, master.settings, master.lease, "127.0.0.1:9", master.dispatcher.inbox)
    assert last_status(again, master).finished == 3


def result(training_s: float) -> dict[str, Any]:
    return {"status": "finished", "loss": 0.25, "info": {"training_s": training_s}}


def test_a_command_that_fails_is_in_the_status_and_the_last_word_is_published_before_it_is_told(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = master.folder.path / "seen"
    command = f"cat status.json > {seen}; echo no channel; exit 1"
    settings = changed(master.settings, {"hooks.on_end": command})
    publisher = StatusPublisher(master.folder, settings, master.lease, "127.0.0.1:9", master.dispatcher.inbox)
    outcome = MasterOutcome("stopped", "asked to stop")
    publisher.publish_last(master.scheduler, outcome)
    publisher.tell_end(master.scheduler, outcome)
    assert '"state": "stopped"' in seen.read_text()
    status = read_status(master.folder)
    assert status is not None
    assert status.message == "asked to stop (hooks.on_end failed with status 1: no channel)"
