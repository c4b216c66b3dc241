"""Validation and checkpoints keep within their share of the budget, on a clock that only the work itself moves."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import AttemptHeader, EpochRow
from pipeline.training import checkpoint as checkpoint_module
from pipeline.training import loop as attempt_module
from pipeline.training import train as train_module
from pipeline.training.clock import BudgetClock
from pipeline.training.measure import Measurement
from pipeline.training.recorder import LONGEST_WAIT_S
from pipeline.training.trainer import Trainer
from tandem_trial.clock import PhaseClock
from tests.unit.training.support import Bench, KeptCurve


class WorkClock:
    """A clock moved by steps, validations and checkpoints, each by what it is said to cost; they do nothing else."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, step_s: float, validation_s: float, checkpoint_s: float
    ) -> None:
        self.now = 0.0
        self.counts = {"step": 0, "validation": 0, "checkpoint": 0}
        self.costs = {"step": step_s, "validation": validation_s, "checkpoint": checkpoint_s}
        monkeypatch.setattr(train_module, "PhaseClock", partial(PhaseClock, now=lambda: self.now))
        monkeypatch.setattr(Trainer, "step", self._step)
        monkeypatch.setattr(attempt_module, "measure", self._measure)
        monkeypatch.setattr(attempt_module, "save_checkpoint", lambda *_: self._work("checkpoint"))

    def _work(self, kind: str) -> None:
        self.now += self.costs[kind]
        self.counts[kind] += 1

    @property
    def _step(self) -> Callable[..., Any]:
        def step(trainer: Trainer, rate_factor: float) -> None:
            self._work("step")
            trainer.batches += 1
            trainer.batches_in_sums += 1

        return step

    def _measure(self, *_: Any) -> Measurement:
        self._work("validation")
        return Measurement(loss=1.0, error=0.5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def trained(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    tmp_path: Path,
    budget: int,
    step_s: float,
    validation_s: float,
    checkpoint_s: float,
    *overrides: str,
) -> tuple[WorkClock, Mapping[str, Any], list[EpochRow]]:
    """Train on the moved clock; returns the clock, the result's info and the rows. An epoch is 10 steps."""
    bench = Bench(root, tmp_path, f"search.max_budget={budget}", f"search.min_budget={budget / 3}", *overrides)
    clock = WorkClock(monkeypatch, step_s, validation_s, checkpoint_s)
    result, curve = bench.train(bench.evaluation(budget))
    return clock, result.info, curve.rows


def test_cheap_validations_happen_every_epoch(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> None:
    clock, _, rows = trained(monkeypatch, root, tmp_path, 60, 1.0, 0.1, 0.01)
    assert clock.counts["validation"] == len(rows) == 6
    assert not any(math.isnan(row.validation_error) for row in rows)


@pytest.mark.parametrize("validation_s", [1.0, 3.0, 8.0])
def test_validations_that_cost_too_much_are_thinned_to_their_share_and_rows_stay(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path, validation_s: float
) -> None:
    clock, _, rows = trained(monkeypatch, root, tmp_path, 600, 1.0, validation_s, 0.01)
    assert len(rows) == 60
    intermediate = (clock.counts["validation"] - 1) * validation_s
    assert intermediate <= 0.05 * 600
    assert intermediate >= 0.05 * 600 - 2 * validation_s  # the share is used, not left
    assert not math.isnan(rows[-1].validation_error)


def test_a_validation_of_five_times_the_budget_happens_once_at_the_end(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    clock, info, _ = trained(monkeypatch, root, tmp_path, 30, 1.0, 150.0, 0.01)
    assert clock.counts["validation"] <= 2  # the first estimate may be wrong once, before anything was measured
    assert info["training_s"] == 30
    assert info["validation_s"] == clock.counts["validation"] * 150


def test_checkpoints_come_at_the_interval_or_at_twenty_times_what_one_takes(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    interval = "training.checkpoint_interval_s=30"
    quick, _, _ = trained(monkeypatch, root, tmp_path / "quick", 600, 1.0, 0.1, 0.5, interval)
    assert quick.counts["checkpoint"] == pytest.approx(600 / 30, abs=2)
    monkeypatch.undo()
    slow, info, _ = trained(monkeypatch, root, tmp_path / "slow", 600, 1.0, 0.1, 5.0, interval)
    assert slow.counts["checkpoint"] == pytest.approx(600 / 100, abs=1)
    assert info["checkpoint_s"] <= 0.05 * 600 + 5.0  # the last one is exempt


def test_validation_and_checkpoints_together_keep_within_the_share(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    clock, info, _ = trained(monkeypatch, root, tmp_path, 1200, 1.0, 2.0, 1.0, "training.checkpoint_interval_s=40")
    exempt = 2.0 + 1.0
    assert info["validation_s"] + info["checkpoint_s"] - exempt <= 0.05 * 1200 + 1.0
    assert clock.counts["validation"] > 5


@pytest.mark.parametrize(
    ("budget", "validation_s", "checkpoint_s"), [(220, 9.0, 9.9), (400, 0.4, 3.0), (400, 1.5, 9.9)]
)
def test_validations_leave_room_for_the_checkpoints_to_come(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path, budget: int, validation_s: float, checkpoint_s: float
) -> None:
    _, info, _ = trained(monkeypatch, root, tmp_path, budget, 1.0, validation_s, checkpoint_s)
    exempt = validation_s + checkpoint_s
    unmeasured = checkpoint_s  # what the first one takes is an assumption until it is written
    assert info["validation_s"] + info["checkpoint_s"] - exempt - unmeasured <= 0.05 * budget


class SlowDisk(KeptCurve):
    """A sink that keeps what every write held, and when; a write takes its time on the moved clock."""

    def __init__(self, clock: WorkClock, write_s: float) -> None:
        super().__init__()
        self.clock = clock
        self.write_s = write_s
        self.writes: list[tuple[float, tuple[EpochRow, ...]]] = []

    def begin(self, header: AttemptHeader, inherited: Sequence[EpochRow]) -> None:
        self.clock.now += self.write_s
        super().begin(header, inherited)

    def add(self, *rows: EpochRow) -> None:
        self.writes.append((self.clock.now, rows))
        self.clock.now += self.write_s
        super().add(*rows)


@pytest.mark.parametrize(
    ("step_s", "write_s", "together"), [(0.001, 0.004, 17), (0.02, 0.004, 1), (0.1, 0.5, 11), (10.0, 0.5, 1)]
)
def test_rows_of_short_epochs_are_written_together_so_that_writing_keeps_within_its_share(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path, step_s: float, write_s: float, together: int
) -> None:
    budget = 999.5 * step_s  # 100 epochs
    bench = Bench(root, tmp_path, f"search.max_budget={budget}", f"search.min_budget={budget / 3}")
    clock = WorkClock(monkeypatch, step_s, 0.0, 0.0)
    disk = SlowDisk(clock, write_s)
    bench.train(bench.evaluation(budget), curve=disk)
    assert [row.batches for row in disk.rows] == list(range(10, 1001, 10))
    assert disk.ended.status == "finished"
    writes = disk.writes[:-1]  # the last one, before the end, is exempt
    assert max(len(rows) for _, rows in disk.writes) == together
    assert write_s * len(writes) <= max(0.05 * budget, write_s * budget / LONGEST_WAIT_S)
    waited_s = [when - row.wall_s for when, rows in disk.writes for row in rows]
    assert max(waited_s) <= min(40 * write_s, LONGEST_WAIT_S) + 10 * step_s
    if together == 1:
        assert max(waited_s) == 0


def test_what_a_killed_process_had_not_written_is_in_its_checkpoint_and_the_next_attempt_has_every_row(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    in_batches = ("search.budget_unit=batches", "search.max_budget=3000", "search.min_budget=1000")
    bench = Bench(root, tmp_path, *in_batches, "training.checkpoint_interval_s=1")
    clock = WorkClock(monkeypatch, 0.001, 0.0, 0.0)
    save_checkpoint = checkpoint_module.save_checkpoint

    def save_and_die(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        raise Killed

    monkeypatch.setattr(attempt_module, "save_checkpoint", save_and_die)
    first = SlowDisk(clock, 0.02)
    with pytest.raises(Killed):
        bench.train(bench.evaluation(3000), curve=first)
    assert 0 < len(first.rows) < 100  # the checkpoint came after 100 epochs
    monkeypatch.setattr(attempt_module, "save_checkpoint", save_checkpoint)
    second = SlowDisk(clock, 0.02)
    bench.train(bench.evaluation(3000, attempt=2), curve=second)
    assert [row.batches for row in second.rows] == list(range(10, 3001, 10))
    assert second.rows[: len(first.rows)] == first.rows


def test_every_second_of_the_moved_clock_is_in_one_column(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    clock, info, rows = trained(monkeypatch, root, tmp_path, 90, 1.0, 1.3, 0.7)
    parts = [info[name] for name in ("startup_s", "compile_s", "trained_here_s", "validation_s", "checkpoint_s")]
    assert sum(parts) == pytest.approx(info["wall_s"])
    assert info["wall_s"] == pytest.approx(clock.now)
    for row in rows:
        together = row.startup_s + row.compile_s + row.training_s + row.validation_s + row.checkpoint_s
        assert together == pytest.approx(row.wall_s)


CONFIGURATIONS = [
    {"batch_size": 32, "res_branches_1": 3},
    {"batch_size": 128, "initial_filters": 16, "nr_residual_blocks_1": 2},
    {"batch_size": 64, "mixup_alpha": 0.0, "cutout_length": 0, "death_rate": 0.0},
]


@pytest.mark.parametrize("values", CONFIGURATIONS)
@pytest.mark.parametrize("budget", [0.01, 0.4])
def test_real_budgets_are_overshot_by_at_most_the_last_batch_and_all_time_is_accounted_for(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path, values: dict[str, Any], budget: float
) -> None:
    bench = Bench(root, tmp_path, "search.min_budget=0.01", "search.max_budget=0.81", "search.eta=3")
    spent = []  # the budget clock after every batch
    step_done = BudgetClock.step_done

    def note_and_decide(clock: BudgetClock, budget_s: float) -> bool:
        spent.append(clock.training_s)
        return step_done(clock, budget_s)

    monkeypatch.setattr(BudgetClock, "step_done", note_and_decide)
    # Time of this process: a busy machine holds it up in places that no clock of the attempt can see.
    monkeypatch.setattr(train_module, "PhaseClock", partial(PhaseClock, now=time.process_time))
    curve = KeptCurve()
    began = time.process_time()
    result, _ = bench.train(bench.evaluation(budget, **values), curve=curve)
    whole_s = time.process_time() - began
    info: Mapping[str, Any] = result.info
    assert len(spent) == info["batches"]
    assert ([0, *spent][-2]) < budget <= info["training_s"]  # before the last batch there was some left
    parts = [info[name] for name in ("startup_s", "compile_s", "trained_here_s", "validation_s", "checkpoint_s")]
    assert sum(parts) == pytest.approx(info["wall_s"])
    assert sum(parts) == pytest.approx(whole_s, rel=0.01, abs=0.02)  # before the clock begins and after it ends
    assert info["training_s"] == curve.rows[-1].training_s


def test_checkpoints_are_written_even_when_every_epoch_is_a_single_batch(root: Path, tmp_path: Path) -> None:
    bench = Bench(root, tmp_path, "search.budget_unit=batches", "search.min_budget=4", "search.max_budget=4",
                  "training.checkpoint_interval_s=1e-6", "training.overhead_share=1")  # fmt: skip
    bench.data = replace(
        bench.data, padded_train=bench.data.padded_train[:64], train_labels=bench.data.train_labels[:64]
    )
    saved = []

    def look() -> None:
        path = bench.folder.checkpoint((0, 0, 0), 4, 1)
        saved.append(path.exists())

    _, curve = bench.train(bench.evaluation(4, batch_size=64), look)
    assert [row.batches for row in curve.rows] == [1, 2, 3, 4]
    assert saved[0] is False
    assert saved[-1] is True
    assert any(saved[:-3])  # before the last epoch's end
