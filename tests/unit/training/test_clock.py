"""The budget clock and the phases, on a clock and a device that the test moves."""

from collections import deque
from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.clock import BudgetClock, Fence
from tandem_trial.clock import PHASES, PhaseClock


class Machine:
    """A host whose clock moves when work is done, and a device that works through a queue of steps meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.device_free_at = 0.0

    def host_works(self, seconds: float) -> None:
        self.now += seconds

    def launch(self, seconds: float) -> float:
        """Queue a step; returns when it will be done."""
        self.device_free_at = max(self.device_free_at, self.now) + seconds
        return self.device_free_at

    def wait_until(self, moment: float) -> None:
        self.now = max(self.now, moment)

    def synchronise(self) -> None:
        self.wait_until(self.device_free_at)


class DeviceFence(Fence):
    """The fence of a CUDA device, with events of the machine above."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(torch.device("cuda"))
        self.machine = machine
        self.most_pending = 0
        self._pending = deque()

    def step(self) -> None:
        event = type("Event", (), {})()
        done_at = self.machine.device_free_at
        event.synchronize = lambda: self.machine.wait_until(done_at)
        self._pending.append(event)
        while len(self._pending) > 1:
            self._pending.popleft().synchronize()


def test_every_moment_belongs_to_exactly_one_phase() -> None:
    machine = Machine()
    phases = PhaseClock(machine.synchronise, now=lambda: machine.now)
    machine.host_works(2)
    with phases.phase("training"):
        machine.host_works(5)
        with phases.phase("checkpoint"):
            machine.host_works(1)
        machine.host_works(3)
    with phases.phase("validation"):
        machine.host_works(4)
    assert {name: phases.seconds(name) for name in PHASES} == {
        "startup": 2, "compile": 0, "training": 8, "validation": 4, "checkpoint": 1,
    }  # fmt: skip
    assert sum(phases.seconds(name) for name in PHASES) == phases.wall_s == 15


def test_a_phase_that_fails_is_charged_and_left() -> None:
    machine = Machine()
    phases = PhaseClock(machine.synchronise, now=lambda: machine.now)

    def fail_after(seconds: int) -> None:
        with phases.phase("validation"):
            machine.host_works(seconds)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after(3)
    machine.host_works(1)
    assert (phases.seconds("validation"), phases.seconds("startup")) == (3, 1)


def test_work_that_the_device_has_not_done_yet_is_charged_to_the_phase_that_gave_it() -> None:
    machine = Machine()
    phases = PhaseClock(machine.synchronise, now=lambda: machine.now)
    with phases.phase("training"):
        machine.launch(10)  # returns at once
    with phases.phase("validation"):
        machine.host_works(1)
    assert (phases.seconds("training"), phases.seconds("validation")) == (10, 1)


steps = st.lists(st.floats(0.01, 2.0), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(steps, st.floats(0.5, 20.0), st.floats(0.0, 0.5))
def test_a_budget_is_overshot_by_at_most_one_batch_on_an_asynchronous_device(
    durations: list[float], budget: float, launch_s: float
) -> None:
    machine = Machine()
    phases = PhaseClock(machine.synchronise, now=lambda: machine.now)
    clock = BudgetClock(phases, DeviceFence(machine), inherited_s=0.0)
    longest = max(durations) + launch_s
    with phases.phase("training"):
        for i in count():
            machine.host_works(launch_s)
            machine.launch(durations[i % len(durations)])
            if clock.step_done(budget):
                break
    # Steps whose lengths jump by more than the clock allows for may add the one step in flight.
    jump = max(durations) / min(durations) > BudgetClock.CAREFUL_STEPS - 1
    assert budget <= clock.training_s <= budget + longest * (2 if jump else 1) + 1e-9


@settings(max_examples=50, deadline=None)
@given(steps, st.floats(0.5, 20.0), st.floats(0.0, 15.0))
def test_a_budget_is_overshot_by_at_most_one_batch_on_a_cpu_and_counts_what_was_inherited(
    durations: list[float], budget: float, inherited: float
) -> None:
    machine = Machine()
    phases = PhaseClock(machine.synchronise, now=lambda: machine.now)
    clock = BudgetClock(phases, Fence(torch.device("cpu")), inherited)
    with phases.phase("training"):
        for i in count():
            machine.host_works(durations[i % len(durations)])
            if clock.step_done(budget):
                break
    assert clock.training_s >= budget
    assert clock.training_s <= max(budget, inherited) + max(durations) + 1e-9


def test_the_device_never_waits_for_the_host_until_the_end_is_near() -> None:
    machine = Machine()
    phases = PhaseClock(machine.synchronise, now=lambda: machine.now)
    clock = BudgetClock(phases, DeviceFence(machine), 0.0)
    idle = 0.0
    with phases.phase("training"):
        for _ in range(90):
            machine.host_works(0.01)  # launching is quicker than the step
            idle += max(0.0, machine.now - machine.device_free_at)
            machine.launch(0.1)
            clock.step_done(budget_s=10.0)
    assert idle == pytest.approx(0.02)  # before the first step, and after it, when nothing was known of its length
