"""The master's decisions, without its processes: who is given what, who is given up, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.master.evaluations import EvaluationState
from pipeline.master.events import DispatchEnded, Gone, Unreachable
from pipeline.master.failures import MAX_FRUITLESS
from pipeline.master.worker_pool import LONGEST_REST_S, MAX_REFUSALS, QUIET_S, WorkerState
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.rpc.undelivered import Undelivered, leave_result
from tests.unit.master.conftest import Master

FINISHED = Outcome("finished", loss=0.5, info={"training_s": 1.0})
FIRST = ((0, 0, 0), 1.0)


def state_of(master: Master, key: Any) -> EvaluationState:
    return master.scheduler.evaluations.jobs[key].state


def work_off(master: Master, *names: str) -> None:
    """Let workers finish what they are given until the scheduler knows how the run ends."""
    for _ in range(50):
        master.step()
        for name in names:
            connection = master.connections[name]
            worker = master.scheduler.pool.workers.get(f"incarnation of {name}")
            if worker is not None and worker.attempt is not None and connection.dispatched:
                master.confirm(name)
                master.deliver(name, FINISHED)
    assert master.scheduler.state == "stopping"


def test_a_search_goes_from_its_first_draw_to_its_last_result(master: Master) -> None:
    master.join("w0")
    work_off(master, "w0")
    assert [r.config_id for r in master.history.results] == [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 0)]
    assert master.connections["w0"].dismissed[-1] == "done"
    assert master.scheduler.outcome is None  # its worker has not left yet
    master.leave("w0", "done")
    master.step()
    assert master.scheduler.outcome.state == "finished"


def test_a_draw_is_on_disk_before_it_is_dispatched(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    master.join("w0")
    seen = []
    monkeypatch.setattr(
        master.connections["w0"], "dispatch", lambda evaluation: seen.append((evaluation, master.history.draws))
    )
    master.step()
    ((evaluation, draws),) = seen
    assert evaluation.config_id in {draw.config_id for draw in draws}
    assert master.events("dispatched")[0]["attempt"] == evaluation.attempt == 1


def test_a_result_is_acknowledged_once_it_is_on_disk(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    reply = master.deliver("w0", FINISHED)
    assert not reply.done()
    master.scheduler.commit()
    assert reply.result(0) == {"accepted": True}
    assert len(master.history.results) == 1


def test_an_evaluation_that_is_handed_back_goes_to_the_next_worker_as_another_attempt(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    master.deliver("w0", Outcome("handed_back", reason="allocation_end", is_leaving=True))
    assert state_of(master, FIRST) is EvaluationState.WAITING
    master.step()
    assert master.connections["w0"].dispatched[1:] == []  # it leaves
    master.join("w1", "b")
    master.step()
    assert master.connections["w1"].last == AttemptId(*FIRST, 2)


def test_a_worker_whose_process_is_gone_loses_its_evaluation_to_another(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    master.scheduler.handle(Gone(master.connections["w0"], "connection refused"))
    assert master.dispatcher.forgotten == ["incarnation of w0"]
    assert state_of(master, FIRST) is EvaluationState.WAITING
    assert [event["outcome"] for event in master.events("returned")] == ["lost"]
    master.join("w1", "b")
    master.step()
    assert master.connections["w1"].last == AttemptId(*FIRST, 2)


def test_a_worker_that_is_silent_beyond_the_patience_is_replaced_and_stopped_when_it_returns_too_late(
    master: Master,
) -> None:
    patience_s = master.settings.workers.patience_s
    master.join("w0")
    master.step()
    master.confirm("w0")
    first = master.connections["w0"].last
    master.silence("w0", patience_s + 1)
    master.join("w1", "b")
    master.step()
    assert master.connections["w1"].last == AttemptId(*first.key, 2)
    master.confirm("w1")
    master.deliver("w1", FINISHED)
    master.step()  # the result is durable
    assert master.connections["w0"].stopped == [(first, "superseded")]
    master.connections["w0"].report(first)
    master.step()
    assert (first, "superseded") in master.connections["w0"].stopped


def test_a_worker_that_returns_before_another_has_begun_goes_on(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    attempt = master.connections["w0"].last
    master.silence("w0", master.settings.workers.patience_s + 1)
    master.step()
    assert state_of(master, attempt.key) is EvaluationState.WAITING
    master.connections["w0"].report(attempt)
    master.step()
    assert state_of(master, attempt.key) is EvaluationState.RUNNING
    assert len(master.connections["w0"].dispatched) == 1
    assert master.connections["w0"].stopped == []


def test_a_call_that_is_not_answered_counts_as_begun_until_the_worker_says_otherwise(master: Master) -> None:
    master.join("w0")
    master.step()
    connection = master.connections["w0"]
    attempt = connection.last
    master.scheduler.handle(DispatchEnded(connection, attempt, "unknown", "no answer in time"))
    worker = master.scheduler.pool.workers["incarnation of w0"]
    assert worker.state is WorkerState.TRAINING
    connection.report(None)  # it never had it
    master.step()
    assert connection.last == AttemptId(*attempt.key, 2)


def test_a_worker_that_refuses_its_evaluation_is_believed_at_its_next_word(master: Master) -> None:
    master.join("w0")
    master.step()
    connection = master.connections["w0"]
    master.scheduler.handle(DispatchEnded(connection, connection.last, "refused", "it has one already"))
    worker = master.scheduler.pool.workers["incarnation of w0"]
    assert worker.state is WorkerState.UNCONFIRMED
    master.step()
    assert len(connection.dispatched) == 1  # nothing more before it has said what it is at
    connection.report(None)
    master.step()
    assert connection.last.number == 2


def test_a_worker_that_the_master_has_forgotten_is_asked_to_register(master: Master) -> None:
    master.connections["ghost"] = master.connections.get("ghost") or type("C", (), {"last": AttemptId(*FIRST, 1)})()
    reply = master.deliver("ghost", FINISHED)
    assert reply.result(0) == {"accepted": False, "unknown": True, "reason": "register first"}


def test_the_same_process_on_a_new_connection_keeps_its_evaluation(master: Master) -> None:
    master.join("w0")
    master.step()
    old = master.connections["w0"]
    attempt = old.last
    assert master.join("w0", holds=attempt) == {"accepted": True}
    assert old.is_closed
    worker = master.scheduler.pool.workers["incarnation of w0"]
    assert (worker.state, worker.attempt) == (WorkerState.TRAINING, attempt)


def test_a_new_process_of_the_same_name_takes_the_place_of_the_old_one(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    master.join("w0", suffix=" again")
    assert list(master.scheduler.pool.workers) == ["incarnation of w0 again"]
    assert state_of(master, FIRST) is EvaluationState.WAITING


def test_workers_that_the_search_cannot_use_free_their_gpus(make_master: Callable[..., Any]) -> None:
    master = make_master("search.max_budget=1", "search.iterations=1")  # one evaluation in all
    master.join("w0")
    master.step()
    master.confirm("w0")
    master.join("w1", "b")
    master.step()
    assert master.connections["w1"].dismissed == ["not_needed"]
    assert master.connections["w0"].dismissed == []


def test_workers_are_asked_for_as_many_as_the_search_can_use(make_master: Callable[..., Any]) -> None:
    master = make_master("workers.count=10")
    master.step()
    deadline = time.monotonic() + 10
    while not master.requested and time.monotonic() < deadline:  # asked in a thread of its own
        time.sleep(0.01)
    assert master.requested == [3]


def test_nothing_new_is_drawn_while_a_worker_may_return_to_the_next_master(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    attempt = master.connections["w0"].last
    drawn = master.history.draws
    master.close()
    master.start()
    assert state_of(master, attempt.key) is EvaluationState.RETURNING
    master.join("w1", "b")
    master.step()
    assert master.history.draws == drawn
    assert master.connections["w1"].dispatched == []
    master.join("w0", holds=attempt, suffix=" still")
    assert state_of(master, attempt.key) is EvaluationState.RUNNING
    master.step()
    assert master.connections["w1"].last.key == ((0, 0, 1), 1.0)


def test_a_worker_that_does_not_return_to_the_next_master_costs_no_more_than_its_attempt(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    attempt = master.connections["w0"].last
    master.close()
    master.start()
    master.runtime.skipped_s += master.settings.workers.patience_s + 1
    master.step()
    assert state_of(master, attempt.key) is EvaluationState.WAITING
    master.join("w1", "b")
    master.step()
    assert master.connections["w1"].last == AttemptId(*attempt.key, 2)  # type: ignore[call-arg]


def test_a_result_that_was_left_in_the_run_folder_counts(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    attempt = master.connections["w0"].last
    leave_result(master.folder, Undelivered(attempt, FINISHED, "w0", "a"))
    master.close()
    master.start()
    master.step()
    assert [(r.config_id, r.loss) for r in master.history.results] == [(attempt.config_id, 0.5)]
    assert not list(master.folder.undelivered.glob("*.json"))


def test_a_crash_is_held_until_something_finishes_and_is_recorded_then(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    master.deliver("w0", Outcome("crashed", kind="error", reason="ZeroDivisionError"))
    assert state_of(master, FIRST) is EvaluationState.HELD
    master.step()
    master.confirm("w0")
    master.deliver("w0", FINISHED)
    master.scheduler.commit()
    assert {r.config_id: r.exception for r in master.history.results} == {
        (0, 0, 0): "error: ZeroDivisionError",
        (0, 0, 1): None,
    }


def test_a_failure_that_every_evaluation_shares_stops_the_run_with_its_cause(master: Master) -> None:
    master.join("w0")
    for _ in range(3):
        master.step()
        master.confirm("w0")
        master.deliver("w0", Outcome("broken", reason="DataError: the images are missing"))
    assert master.scheduler.state == "stopping"
    assert master.scheduler.message == "DataError: the images are missing"
    assert master.connections["w0"].dismissed == ["broken"]
    assert master.join("w1", "b") == {"accepted": False, "leave": True, "reason": "broken"}
    master.leave("w0")
    master.step()
    assert master.scheduler.outcome.state == "broken"


def test_a_master_that_lacks_threads_for_workers_says_so_while_it_does(master: Master) -> None:
    master.dispatcher.problem = "no thread can be had for another connection"
    master.join("w0")
    assert master.scheduler.message == "no thread can be had for another connection"
    master.dispatcher.problem = ""
    assert master.scheduler.message == ""


def test_a_training_that_has_begun_no_batch_for_long_is_named_while_its_worker_answers(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    connection = master.connections["w0"]
    connection.quiet_s = QUIET_S - 1
    assert master.scheduler.message == ""
    connection.quiet_s = 780.0
    assert master.scheduler.message.startswith("0-0-0 on 1, attempt 1 on w0 has begun no batch for 13 min; if it hangs")
    master.deliver("w0", Outcome("finished", loss=0.5))
    assert master.scheduler.message == ""


def test_a_worker_that_cannot_be_reached_is_named_until_one_joins(master: Master) -> None:
    master.scheduler.handle(Unreachable("w9", "the way into the node is blocked"))
    assert master.scheduler.message == "worker w9: the way into the node is blocked"
    master.join("w0")
    assert master.scheduler.message == ""


def test_an_end_waits_for_workers_that_checkpoint_and_not_for_silent_ones(master: Master) -> None:
    master.join("w0")
    master.join("w1", "b")
    master.step()
    master.scheduler.end("stopped", "asked to stop")
    master.step()
    assert master.scheduler.outcome is None
    master.leave("w0")
    master.silence("w1", 30)
    master.step()
    assert (master.scheduler.outcome.state, master.scheduler.outcome.message) == ("stopped", "asked to stop")


def test_closing_closes_the_network_too(make_master: Callable[..., Any]) -> None:
    master = make_master()
    master.close()
    assert master.dispatcher.is_down


def test_a_node_on_which_workers_end_before_they_join_is_left_out_and_that_is_remembered(master: Any) -> None:
    master.join("w0")
    master.join("w1", "b")
    master.scheduler.requester.failing_nodes = {"b": "3 tasks ended there"}
    master.step()
    assert master.scheduler.policy.excluded == {"b": "3 tasks ended there"}
    assert master.connections["w1"].dismissed == ["excluded"]
    assert master.events("node_suspected")[0]["reason"] == "3 tasks ended there"


def report(master: Master, name: str, attempt: AttemptId | None) -> None:
    """A worker's answer to a ping of this moment."""
    connection = master.connections[name]
    master.runtime.skipped_s += 0.1
    connection.reported, connection.heard = attempt, master.runtime.monotonic()
    connection.reported_at = master.runtime.monotonic()


@pytest.mark.parametrize(
    "end", [Outcome("handed_back", reason="allocation_end", is_leaving=True), Outcome("crashed", kind="not_finite")]
)
def test_an_evaluation_whose_first_worker_returned_is_not_forgotten_when_the_other_ends_it_and_it_is_handed_back(
    master: Master, end: Outcome
) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    first = master.connections["w0"].last
    master.silence("w0", master.settings.workers.patience_s + 1)
    master.join("w1", "b")
    master.step()
    second = master.connections["w1"].last
    assert second == AttemptId(*first.key, 2)
    master.confirm("w1")
    report(master, "w0", first)  # it is back, and still at it
    master.step()
    master.deliver("w1", end, second)
    assert state_of(master, first.key) is EvaluationState.RUNNING  # by w0
    master.deliver("w0", Outcome("handed_back", reason="allocation_end", is_leaving=True), first)
    assert state_of(master, first.key) is EvaluationState.WAITING
    master.join("w2", "c")
    master.step()
    assert AttemptId(*first.key, 3) in [master.connections[name].last for name in ("w1", "w2")]


def test_an_end_that_is_delivered_again_because_its_answer_was_lost_counts_once(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    attempt = master.connections["w0"].last
    crash = Outcome("crashed", kind="not_finite", reason="nan")
    master.join("w1", "b")
    master.deliver("w0", crash)
    assert state_of(master, attempt.key) is EvaluationState.WAITING  # another node is to confirm it
    master.join("w0", holds=attempt, suffix=" on a new connection")  # it has not heard the answer
    assert state_of(master, attempt.key) is EvaluationState.WAITING
    worker = master.scheduler.pool.workers["incarnation of w0 on a new connection"]
    assert (worker.state, worker.attempt) == (WorkerState.UNCONFIRMED, None)


def test_the_masters_own_pause_is_nobodys_silence(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    pause_s = 3 * master.settings.workers.patience_s
    master.runtime.skipped_s += pause_s
    master.scheduler.excuse_silence(pause_s)
    master.step()
    worker = master.scheduler.pool.workers["incarnation of w0"]
    assert not worker.is_lost
    assert not worker.is_suspect
    assert master.events("returned") == []


def test_a_worker_that_falls_silent_again_and_again_at_one_attempt_has_died_once(master: Master) -> None:
    master.join("w0")
    master.join("w1", "b")
    master.step()
    master.confirm("w0")
    attempt = master.connections["w0"].last
    for _ in range(4):
        master.silence("w0", master.settings.workers.patience_s + 1)
        master.scheduler.tick()
        report(master, "w0", attempt)
        master.scheduler.tick()
    assert state_of(master, attempt.key) is EvaluationState.RUNNING
    assert master.history.results == ()


def test_what_ran_out_of_memory_on_a_small_device_goes_to_a_larger_one_and_the_small_one_to_something_else(
    master: Master,
) -> None:
    master.join("small", "a", memory_mb=8_000)
    master.join("large", "b", memory_mb=24_000)
    master.step()
    master.confirm("small")
    first = master.connections["small"].last
    master.deliver("small", Outcome("crashed", kind="out_of_memory", reason="CUDA"))
    master.step()
    assert master.connections["small"].last.key != first.key  # not paused, and not the same again
    master.confirm("large")
    master.deliver("large", FINISHED)
    master.step()
    assert master.connections["large"].last == AttemptId(*first.key, 2)


def test_a_crash_that_was_left_in_the_run_folder_says_on_how_small_a_device(master: Master) -> None:
    master.join("small", "a", memory_mb=8_000)
    master.step()
    master.confirm("small")
    attempt = master.connections["small"].last
    ended = Outcome("crashed", kind="out_of_memory", reason="CUDA")
    leave_result(master.folder, Undelivered(attempt, ended, "small", "a", 8_000))
    master.close()
    master.start()
    master.join("large", "b", memory_mb=24_000)
    master.step()
    assert not master.history.results
    assert master.connections["large"].last == AttemptId(*attempt.key, 2)


def test_what_runs_out_of_memory_on_the_largest_device_is_the_configurations_fault(master: Master) -> None:
    master.join("large", "b", memory_mb=24_000)
    master.step()
    master.confirm("large")
    master.deliver("large", Outcome("crashed", kind="out_of_memory", reason="CUDA"))
    master.step()
    assert [r.exception for r in master.history.results] == ["out_of_memory: CUDA"]


def rest(master: Master) -> None:
    """Let every worker that was given a rest have had it."""
    master.runtime.skipped_s += LONGEST_REST_S
    for connection in master.connections.values():
        connection.heard = master.runtime.monotonic()


def test_a_worker_that_ends_an_attempt_without_a_word_kills_no_more_than_three(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    master.deliver("w0", FINISHED)
    for _ in range(3):
        master.step()
        master.confirm("w0")
        assert master.connections["w0"].last.key == ((0, 0, 1), 1.0)
        report(master, "w0", None)
        master.scheduler.tick()
        rest(master)
    master.step()
    result = master.history.results[-1]
    assert result.exception.startswith("killed_its_worker: 3 attempts without progress on a; last: its worker ended it")


def test_a_result_that_never_arrives_is_tried_again_and_told_as_one_that_cannot_be_sent_when_it_goes_on_so(
    master: Master,
) -> None:
    unsent = Outcome("lost", kind="bad_result", reason="no result was sent")
    master.join("w0")
    master.step()
    master.confirm("w0")
    master.deliver("w0", FINISHED)  # the installation works
    for number in range(3):
        master.step()
        master.confirm("w0")
        assert master.connections["w0"].last == AttemptId((0, 0, 1), 1.0, number + 1)
        master.deliver("w0", unsent)
    master.step()
    last = master.history.results[-1]
    assert last.exception == "bad_result: 3 attempts without progress on a; last: no result was sent"
    master.step()
    master.confirm("w0")
    master.deliver("w0", unsent)
    master.step()
    master.confirm("w0")
    assert master.connections["w0"].last == AttemptId((0, 0, 2), 1.0, 2)
    master.deliver("w0", FINISHED)  # it was the network
    master.step()
    assert [r.loss is None for r in master.history.results] == [False, True, False]


def test_results_that_cannot_be_sent_from_the_first_on_stop_the_run(make_master: Callable[..., Any]) -> None:
    master = make_master("search.max_budget=1", "search.iterations=9")
    master.join("w0")
    for _ in range(9):
        master.step()
        master.confirm("w0")
        master.deliver("w0", Outcome("lost", kind="bad_result", reason="no result was sent"))
    assert "the first 3 evaluations failed alike" in master.scheduler.message
    assert "no result was sent" in master.scheduler.message
    assert master.history.results == ()


def take_nothing(master: Master, name: str) -> None:
    """The worker is given something, refuses, and has rested."""
    master.step()
    connection = master.connections[name]
    master.scheduler.handle(DispatchEnded(connection, connection.last, "refused", "not now"))
    report(master, name, None)
    master.scheduler.tick()
    rest(master)


def test_a_worker_that_takes_nothing_is_sent_away_and_no_configuration_is_blamed(master: Master) -> None:
    for number in range(2):
        name = f"w{number}"
        master.join(name)
        for _ in range(MAX_REFUSALS):
            assert master.connections[name].dismissed == []
            take_nothing(master, name)
        assert master.scheduler.message == f"worker {name} does not take what it is given: not now"
        assert master.connections[name].dismissed == ["refuses"]
        master.leave(name, "refuses")
    master.join("good")
    work_off(master, "good")
    assert len(master.history.results) == 4
    assert all(result.loss is not None for result in master.history.results)


def test_what_a_worker_that_never_delivered_anything_ends_without_a_word_is_its_own_doing(master: Master) -> None:
    master.join("w0")
    for _ in range(MAX_REFUSALS):
        master.step()
        master.confirm("w0")
        report(master, "w0", None)
        master.scheduler.tick()
        rest(master)
    assert master.connections["w0"].dismissed == ["refuses"]
    assert master.history.results == ()


def test_workers_that_take_nothing_one_after_the_other_stop_the_run_with_what_they_say(master: Master) -> None:
    for number in range(3):
        master.join(f"w{number}")
        for _ in range(MAX_REFUSALS):
            take_nothing(master, f"w{number}")
        master.leave(f"w{number}", "refuses")
    assert master.scheduler.state == "stopping"
    assert master.scheduler.message == f"a worker took none of {MAX_REFUSALS} evaluations: not now"
    assert master.history.results == ()


def test_a_worker_that_refuses_is_given_time_before_it_is_asked_again(master: Master) -> None:
    master.join("w0")
    master.step()
    connection = master.connections["w0"]
    master.scheduler.handle(DispatchEnded(connection, connection.last, "refused", "not now"))
    report(master, "w0", None)
    master.step()  # once is no sign of anything
    for seconds in (2, 4, 8):
        master.scheduler.handle(DispatchEnded(connection, connection.last, "refused", "not now"))
        dispatched = len(connection.dispatched)
        report(master, "w0", None)
        master.step()
        assert len(connection.dispatched) == dispatched
        master.runtime.skipped_s += seconds
        connection.heard = master.runtime.monotonic()
        master.step()
        assert len(connection.dispatched) == dispatched + 1


def test_a_guest_that_is_busy_is_never_sent_away_for_it(master: Master) -> None:
    master.join("w0")
    for _ in range(3 * MAX_REFUSALS):
        master.step()
        connection = master.connections["w0"]
        master.scheduler.handle(DispatchEnded(connection, connection.last, "busy", "it is busy"))
        report(master, "w0", None)
        master.scheduler.tick()
        rest(master)
    assert connection.dismissed == []
    assert master.history.results == ()


def test_an_evaluation_that_is_handed_back_without_end_is_told_as_a_crash(master: Master) -> None:
    for number in range(MAX_FRUITLESS):
        name = f"w{number}"
        master.join(name)
        master.step()
        master.confirm(name)
        assert master.connections[name].last == AttemptId(*FIRST, number + 1)
        master.deliver(name, Outcome("handed_back", reason="allocation_end", is_leaving=True))
        master.leave(name, "allocation_end")
    master.step()
    (result,) = master.history.results
    assert result.exception == "error: 30 attempts in a row came to nothing; last: allocation_end"


def test_a_search_in_which_nothing_ever_finished_ends_broken(make_master: Callable[..., Any]) -> None:
    master = make_master("search.max_budget=1", "search.iterations=2")
    master.join("w0")
    for _ in range(2):
        master.step()
        master.confirm("w0")
        master.deliver("w0", Outcome("crashed", kind="not_finite", reason="nan"))
    master.step()
    assert master.scheduler.state == "stopping"
    assert master.scheduler.message.startswith("all 2 evaluations crashed")


def test_a_few_results_that_are_no_results_stop_the_run_at_once(make_master: Callable[..., Any]) -> None:
    master = make_master("search.max_budget=1", "search.iterations=9")
    master.join("w0")
    for _ in range(3):
        master.step()
        master.confirm("w0")
        master.deliver("w0", Outcome("crashed", kind="bad_result", reason="training returned a float"))
    assert master.scheduler.message == "the first 3 evaluations failed alike: training returned a float"


def test_nobody_is_asked_for_while_workers_wait_for_a_straggler(make_master: Callable[..., Any]) -> None:
    master = make_master("search.max_budget=9", "search.iterations=1", "workers.count=4")
    asked = []
    master.scheduler.requester.tick = lambda present, useful: asked.append(useful)
    for number in range(9):
        master.join(f"w{number}", "abc"[number % 3])
    master.step()
    for number in range(8):  # the ninth of the rung goes on
        master.confirm(f"w{number}")
        master.deliver(f"w{number}", FINISHED)
    master.step()
    assert asked[-1] == 1


def test_a_new_master_gives_work_to_workers_that_nobody_who_may_return_can_miss(master: Master) -> None:
    master.join("w0")
    master.step()
    master.confirm("w0")
    attempt = master.connections["w0"].last
    master.close()
    master.start()
    master.join("w1", "b")
    master.step()
    assert master.connections["w1"].dispatched == []  # it is kept for what w0 may not return with
    assert "workers of the last master may return with 1 evaluation:" in master.scheduler.message
    master.join("w2", "c")
    master.step()
    given = [master.connections[name].last for name in ("w1", "w2") if master.connections[name].dispatched]
    assert len(given) == 1
    assert given[0].key != attempt.key
