"""The states of an evaluation, and the queue of those that wait."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.master.evaluations import TRANSITIONS, EvaluationJob, Evaluations, EvaluationState
from tests.unit.master.conftest import job


def test_every_state_says_what_may_follow_it() -> None:
    assert set(TRANSITIONS) == set(EvaluationState)


def test_every_state_but_the_first_can_be_reached_and_every_state_can_end() -> None:
    def reachable(start: EvaluationState) -> set[EvaluationState]:
        found, todo = set(), [start]
        while todo:
            for state in TRANSITIONS[todo.pop()] - found:
                found.add(state)
                todo.append(state)
        return found

    assert reachable(EvaluationState.NEW) == set(EvaluationState) - {EvaluationState.NEW}
    for state in set(EvaluationState) - {EvaluationState.ENDED}:
        assert EvaluationState.ENDED in reachable(state)


@pytest.mark.parametrize(("before", "after"), list(product(EvaluationState, EvaluationState)))
def test_a_change_that_the_table_lacks_is_refused_and_changes_nothing(
    before: EvaluationState, after: EvaluationState
) -> None:
    made = job(0)
    made.state = before
    if after is before or after in TRANSITIONS[before]:
        made.move_to(after)
        assert made.state is after
    else:
        with pytest.raises(RuntimeError, match=f"cannot go from {before.value} to {after.value}"):
            made.move_to(after)
        assert made.state is before


def test_a_lost_evaluation_goes_first() -> None:
    evaluations = Evaluations()
    jobs = [job(index) for index in range(3)]
    for each in jobs:
        evaluations.submit(each)
    evaluations.start(jobs[1])
    evaluations.requeue(jobs[1], avoid={"a"})
    assert list(evaluations.waiting) == [jobs[1], jobs[0], jobs[2]]
    assert jobs[1].avoid == {"a"}


def test_an_evaluation_that_waits_already_keeps_its_place() -> None:
    evaluations = Evaluations()
    jobs = [job(index) for index in range(2)]
    for each in jobs:
        evaluations.submit(each)
    evaluations.requeue(jobs[1], avoid={"b"})
    assert list(evaluations.waiting) == jobs
    assert jobs[1].avoid == {"b"}


def test_an_evaluation_whose_result_has_come_is_open_no_more_and_is_forgotten_once_that_is_durable() -> None:
    evaluations = Evaluations()
    made = job(0)
    evaluations.submit(made)
    assert evaluations.open(made.key) is made
    evaluations.end(made)
    assert evaluations.open(made.key) is None
    assert not evaluations.waiting
    assert made.key in evaluations.jobs
    evaluations.forget(made.key)
    assert made.key not in evaluations.jobs


def test_an_evaluation_that_every_usable_host_must_avoid_is_held_once_the_others_have_stayed_away() -> None:
    evaluations = Evaluations()
    made = job(0)
    evaluations.submit(made)
    evaluations.requeue(made, avoid={"a"})
    assert evaluations.hold_stranded(lambda job: False, 0.0) == []  # there is another
    assert evaluations.hold_stranded(lambda job: True, 60.0) == []
    assert made.stranded_since is not None
    made.stranded_since -= 61
    assert evaluations.hold_stranded(lambda job: True, 60.0) == [made]
    assert made.state is EvaluationState.HELD
    assert not evaluations.waiting


@given(st.integers(1, 50))
def test_attempt_numbers_rise_by_one_and_are_never_used_twice(count: int) -> None:
    made = job(0)
    assert [made.next_attempt().number for _ in range(count)] == list(range(1, count + 1))
    assert made.last_attempt().number == count


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whichever order, the queue holds those that wait, once each."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluations = Evaluations()
        self.count = 0

    def _any(self, choice: int) -> EvaluationJob:
        jobs = [j for j in self.evaluations.jobs.values() if j.state is not EvaluationState.ENDED]
        return jobs[choice % len(jobs)]

    def has_open(self) -> bool:
        return any(j.state is not EvaluationState.ENDED for j in self.evaluations.jobs.values())

    @rule(awaited=st.booleans())
    def draw(self, awaited: bool) -> None:
        made = job(self.count)
        self.count += 1
        if awaited:
            self.evaluations.expect(made, 1.0)
        else:
            self.evaluations.submit(made)

    @precondition(has_open)
    @rule(choice=st.integers(0, 99), what=st.sampled_from(["start", "requeue", "hold", "end"]))
    def change(self, choice: int, what: str) -> None:
        getattr(self.evaluations, what)(self._any(choice))

    @rule()
    def commit(self) -> None:
        for key in [k for k, j in self.evaluations.jobs.items() if j.state is EvaluationState.ENDED]:
            self.evaluations.forget(key)

    @invariant()
    def the_queue_holds_those_that_wait(self) -> None:
        waiting = [j for j in self.evaluations.jobs.values() if j.state is EvaluationState.WAITING]
        assert sorted(j.id for j in self.evaluations.waiting) == sorted(j.id for j in waiting)


TestAnyOrder = AnyOrder.TestCase
