"""Whose fault a failure is."""

from __future__ import annotations

from itertools import count

import pytest

from pipeline.master.failures import MAX_CONTRADICTED, PAUSE_AFTER, FailurePolicy
from pipeline.runtime import SystemRuntime

ONE, TWO = {"a"}, {"a", "b"}
NUMBERS = count(1)  # of attempts


def key(index: int) -> tuple[tuple[int, int, int], float]:
    return (0, 0, index), 1.0


@pytest.fixture
def policy() -> FailurePolicy:
    made = FailurePolicy(max_attempts=3, max_broken=3)
    made.finished(key(99), "a")  # the installation works
    return made


def test_on_a_single_node_a_crash_is_the_configurations(policy: FailurePolicy) -> None:
    decision = policy.crashed(key(1), "a", "not_finite", "nan", ONE)
    assert (decision.action, decision.kind, decision.reason) == ("crash", "not_finite", "nan")


def test_where_there_are_two_nodes_a_crash_is_tried_on_the_other(policy: FailurePolicy) -> None:
    decision = policy.crashed(key(1), "a", "error", "boom", TWO)
    assert (decision.action, decision.avoid) == ("retry", {"a"})
    assert policy.crashed(key(1), "b", "error", "boom", TWO).action == "crash"


def test_what_arithmetic_found_needs_no_second_node(policy: FailurePolicy) -> None:
    assert policy.crashed(key(1), "a", "too_large", "2 G parameters", TWO).action == "crash"


def test_a_node_whose_crashes_finish_elsewhere_is_left_out(policy: FailurePolicy) -> None:
    for index in range(MAX_CONTRADICTED):
        policy.crashed(key(index), "a", "error", "CUDA error", TWO)
        assert "a" not in policy.excluded
        policy.finished(key(index), "b")
    assert "evaluations crashed there (error) that finished on b" in policy.excluded["a"]


def test_that_another_node_has_more_memory_is_no_fault(policy: FailurePolicy) -> None:
    for index in range(5):
        policy.crashed(key(index), "a", "out_of_memory", "12 GB", TWO)
        policy.finished(key(index), "b")
    assert policy.excluded == {}


def test_a_node_with_unresolved_crashes_is_given_nothing_new_until_they_are_resolved(policy: FailurePolicy) -> None:
    for index in range(PAUSE_AFTER):
        policy.crashed(key(index), "a", "error", "boom", TWO)
    assert policy.is_paused("a")
    assert not policy.is_paused("b")
    policy.crashed(key(0), "b", "error", "boom", TWO)  # the configuration's fault after all
    assert not policy.is_paused("a")


def test_a_configuration_whose_attempts_die_without_progress_kills_its_workers(policy: FailurePolicy) -> None:
    actions = [policy.died(key(1), number, "a", "gone", False, ONE).action for number in range(3)]
    assert actions == ["retry", "retry", "crash"]


def test_progress_clears_the_record_of_deaths(policy: FailurePolicy) -> None:
    for _ in range(10):
        assert policy.died(key(1), next(NUMBERS), "a", "gone", False, ONE).action == "retry"
        assert policy.died(key(1), next(NUMBERS), "a", "gone", True, ONE).action == "retry"


def test_where_there_are_two_nodes_deaths_on_one_alone_do_not_count(policy: FailurePolicy) -> None:
    for _ in range(2):
        policy.died(key(1), next(NUMBERS), "a", "gone", False, TWO)
    third = policy.died(key(1), next(NUMBERS), "a", "gone", False, TWO)
    assert (third.action, third.avoid) == ("retry", {"a"})
    assert policy.died(key(1), next(NUMBERS), "b", "gone", False, TWO).kind == "killed_its_worker"


def test_a_node_that_loses_power_once_is_not_left_out(policy: FailurePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(8):  # all its workers at once
        policy.died(key(index), next(NUMBERS), "a", "gone", False, TWO)
    for index in range(8):
        policy.finished(key(index), "b")
    assert policy.excluded == {}


def test_a_node_whose_workers_die_at_one_time_after_the_other_is_left_out() -> None:
    class Clock(SystemRuntime):
        now = 0.0

        def monotonic(self) -> float:
            self.now += 100
            return self.now

    policy = FailurePolicy(max_attempts=3, max_broken=3, clock=Clock())
    for index in range(3):
        policy.died(key(index), next(NUMBERS), "a", "gone", False, TWO)
        policy.finished(key(index), "b")
    assert "workers died there" in policy.excluded["a"]


def test_a_broken_installation_stops_the_run_after_a_few_alike() -> None:
    policy = FailurePolicy(max_attempts=3, max_broken=3)
    actions = [policy.broken("a", "no data in /data", ONE).action for i in range(3)]
    assert actions == ["retry", "retry", "stop"]


def test_what_is_broken_on_two_nodes_alike_stops_the_run_at_once() -> None:
    policy = FailurePolicy(max_attempts=3, max_broken=3)
    assert policy.broken("a", "no data", TWO).action == "retry"
    assert policy.broken("b", "no data", TWO).action == "retry"
    decision = policy.broken("b", "no data", TWO)
    assert (decision.action, decision.reason) == ("stop", "no data")


def test_what_is_broken_on_one_node_alone_leaves_that_node_out(policy: FailurePolicy) -> None:
    for index in range(3):
        decision = policy.broken("a", "no data", TWO)
        assert (decision.action, decision.avoid) == ("retry", {"a"})
        policy.finished(key(index), "b")
    assert "broken there alone: no data" in policy.excluded["a"]


def test_a_success_in_between_starts_the_count_of_broken_ones_again(policy: FailurePolicy) -> None:
    for index in range(10):
        assert policy.broken("a", "disk hiccup", ONE).action == "retry"
        policy.finished(key(index), "a")


def test_the_first_evaluations_that_fail_alike_with_an_error_stop_the_run_and_are_not_recorded() -> None:
    policy = FailurePolicy(max_attempts=3, max_broken=3)
    actions = [policy.crashed(key(i), "a", "error", f"KeyError: layer {i}", ONE).action for i in range(3)]
    assert actions == ["hold", "hold", "stop"]


def test_held_crashes_are_believed_once_something_finishes() -> None:
    policy = FailurePolicy(max_attempts=3, max_broken=3)
    assert policy.crashed(key(1), "a", "error", "boom", ONE).action == "hold"
    assert policy.finished(key(2), "a") == [(key(1), "error", "boom")]
    assert policy.release_held() == []


def test_the_last_node_is_never_left_out_for_being_broken() -> None:
    policy = FailurePolicy(max_attempts=3, max_broken=3)
    policy.exclude("b", "bad")
    actions = [policy.broken("a", "no data", TWO).action for i in range(3)]
    assert actions[-1] == "stop"
    assert list(policy.excluded) == ["b"]


def test_a_crash_that_no_second_node_is_left_to_try_is_believed(policy: FailurePolicy) -> None:
    policy.crashed(key(1), "a", "error", "boom", TWO)
    decision = policy.reconsider(key(1))
    assert (decision.action, decision.kind, decision.reason) == ("crash", "error", "boom")
    assert policy.reconsider(key(2)).action == "retry"


def test_crashes_that_no_second_node_is_left_to_try_stop_a_run_in_which_nothing_works() -> None:
    policy = FailurePolicy(max_attempts=3, max_broken=3)
    for index in range(3):
        assert policy.crashed(key(index), "a", "error", "boom", TWO).action == "retry"
    assert [policy.reconsider(key(i)).action for i in range(3)] == ["hold", "hold", "stop"]


def test_what_breaks_alike_on_half_of_the_nodes_stops_the_run_also_when_it_worked_before(policy: FailurePolicy) -> None:
    hosts = {"a", "b", "c", "d", "e"}
    policy.finished(((0, 0, 0), 1.0), "a")
    actions = [policy.broken(host, "no data", hosts).action for i, host in enumerate("abc")]
    assert actions == ["retry", "retry", "stop"]
    assert policy.excluded == {}


def test_two_bad_nodes_among_many_are_left_out_and_stop_nothing(policy: FailurePolicy) -> None:
    hosts = set("abcdefgh")
    policy.finished(((0, 0, 0), 1.0), "c")
    actions = {policy.broken(host, "no data", hosts).action for i, host in enumerate("ababab")}
    assert actions == {"retry"}
    assert set(policy.excluded) == {"a", "b"}


def test_one_attempt_dies_once_however_often_its_worker_falls_silent(policy: FailurePolicy) -> None:
    actions = [policy.died(key(1), 1, "a", "silent", False, ONE).action for _ in range(5)]
    assert actions == ["retry"] * 5


def test_running_out_of_memory_says_nothing_against_a_node(policy: FailurePolicy) -> None:
    for index in range(PAUSE_AFTER + 1):
        policy.crashed(key(index), "a", "out_of_memory", "12 GB", TWO)
    assert not policy.is_paused("a")
