"""Which checkpoints stay."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest

from pipeline.master import checkpoints
from pipeline.master.checkpoints import CheckpointKeeper
from pipeline.master.lease import LeaseLostError
from pipeline.rpc.messages import AttemptId
from pipeline.run.folder import RunFolder
from pipeline.run.history import Result
from pipeline.search.search import Search
from pipeline.settings import load_settings


def wait_until(condition: Callable[..., Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Run:
    """A search whose every attempt leaves a checkpoint, and the previous one, of 1,000 bytes each."""

    def __init__(self, path: Path, *overrides: str) -> None:
        base = ["search.min_budget=1", "search.max_budget=9", "search.iterations=1", "search.method=hyperband"]
        self.settings = load_settings("digits", [*base, *overrides])
        self.folder = RunFolder(path)
        self.search = Search(self.settings)
        self.keeper = CheckpointKeeper(self.folder, self.search, queue.SimpleQueue())
        self.next_loss = 0.9

    def write(self, config_id: tuple[int, int, int], budget: float, attempt: int, what: bytes = b"x") -> None:
        path = self.folder.checkpoint(config_id, budget, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        for each in (path, path.with_name(path.name + ".previous")):
            each.write_bytes(what * 1000)

    def evaluate(self, count: int, attempt: int = 1, loss: float | None = None, parameters: int = 0) -> None:
        for _ in range(count):
            config_id, _, budget = self.search.next_evaluation()
            self.write(config_id, budget, attempt)
            self.next_loss -= 0.01
            value = self.next_loss if loss is None else loss
            info = {"attempt": attempt, "training_s": budget, "parameters": parameters}
            result = Result(config_id, budget, 0, 0, 0, value, info, None)
            self.search.absorb(result)
            self.keeper.evaluation_ended(result, AttemptId(config_id, budget, attempt))

    def files(self) -> list[str]:
        self.keeper.close()
        root = self.folder.checkpoints
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_rung_keeps_the_checkpoints_of_those_it_promotes(run: Run) -> None:
    run.evaluate(9)  # the last three are the best
    assert run.files() == [f"0-0-{i}/b1-a1.pt" for i in (6, 7, 8)]


def test_a_finished_rung_above_makes_the_checkpoints_below_useless(run: Run) -> None:
    run.evaluate(10)
    assert [name for name in run.files() if name.startswith("0-0-6")] == ["0-0-6/b3-a1.pt"]


def test_a_finished_bracket_leaves_incumbents_only(run: Run) -> None:
    run.evaluate(13)
    assert run.files() == []
    assert sorted(p.name for p in run.folder.incumbents.glob("*.pt")) == ["b1.pt", "b3.pt", "b9.pt"]
    about = json.loads((run.folder.incumbents / "b9.json").read_text())
    assert (about["config_id"], about["attempt"], about["loss"]) == ("0-0-8", 1, pytest.approx(0.77))


def test_of_several_objectives_the_front_on_the_largest_budget_keeps_its_weights(tmp_path: Path) -> None:
    several = ("search.objectives=[validation_error, parameters]", "search.method=random", "search.iterations=4")
    run = Run(tmp_path, *several)  # a bracket is one evaluation on the largest budget

    def kept() -> list[str]:
        run.keeper.call(lambda: None)
        return sorted(path.name for path in run.folder.incumbents.glob("b9-*"))

    run.evaluate(1, loss=0.5, parameters=10)
    run.evaluate(1, loss=0.1, parameters=30)
    assert kept() == ["b9-0-0-0.json", "b9-0-0-0.pt", "b9-1-0-0.json", "b9-1-0-0.pt"]
    run.evaluate(1, loss=0.2, parameters=40)  # dominated by the second
    run.evaluate(1, loss=0.4, parameters=9)  # dominates the first
    front = ["b9-1-0-0.json", "b9-1-0-0.pt", "b9-3-0-0.json", "b9-3-0-0.pt"]
    assert kept() == front
    assert json.loads((run.folder.incumbents / "b9-3-0-0.json").read_text())["config_id"] == "3-0-0"
    (run.folder.incumbents / "b9-0-0-0.pt").write_bytes(b"left behind by a master that died before deleting it")
    run.keeper.close()
    run.keeper = CheckpointKeeper(run.folder, run.search, queue.SimpleQueue())
    run.keeper.catch_up()
    assert kept() == front
    assert run.files() == []


def test_an_incumbent_is_kept_when_a_worse_one_follows(tmp_path: Path) -> None:
    run = Run(tmp_path, "search.iterations=3")
    config_id, _, budget = run.search.next_evaluation()
    run.write(config_id, budget, 1, what=b"best ")
    result = Result(config_id, budget, 0, 0, 0, 0.1, {"attempt": 1}, None)
    run.search.absorb(result)
    run.keeper.evaluation_ended(result, AttemptId(config_id, budget, 1))
    run.evaluate(8)
    run.files()
    assert (run.folder.incumbents / "b1.pt").read_bytes().startswith(b"best")


def test_the_attempts_that_were_lost_leave_nothing_behind(run: Run) -> None:
    config_id = (0, 0, 0)
    for attempt in (1, 2):
        run.write(config_id, 1.0, attempt)
    run.evaluate(1, attempt=3)
    assert run.files() == ["0-0-0/b1-a3.pt"]


def test_the_next_rungs_checkpoint_survives_the_clearing_of_the_one_below(run: Run) -> None:
    run.evaluate(9)
    promoted, _, budget = run.search.next_evaluation()
    run.write(promoted, budget, 1)  # it has begun before the keeper has cleared up
    assert "0-0-6/b3-a1.pt" in run.files()


def test_where_promotions_restart_no_finished_attempt_keeps_a_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path, "search.promotion=restart")
    run.evaluate(5)
    assert run.files() == []


def test_what_is_on_disk_never_exceeds_the_bound(tmp_path: Path) -> None:
    run = Run(tmp_path, "search.iterations=3")
    for _ in range(20):
        run.evaluate(1)
        run.keeper.note_load(running=1, interrupted=0)
        run.keeper.call(run.keeper.measure)
        assert run.keeper.used_mb <= run.keeper.bound_mb
    run.keeper.close()


def test_a_master_that_is_resumed_does_what_the_one_before_died_before(run: Run) -> None:
    run.keeper.close()
    for _ in range(13):
        config_id, _, budget = run.search.next_evaluation()
        run.write(config_id, budget, 1)
        run.next_loss -= 0.01
        info = {"attempt": 1, "training_s": budget}
        run.search.absorb(Result(config_id, budget, 0, 0, 0, run.next_loss, info, None))
    run.keeper = CheckpointKeeper(run.folder, run.search, queue.SimpleQueue())
    run.keeper.catch_up()
    run.keeper.catch_up()  # nothing goes wrong when all is done already
    assert run.files() == []
    assert sorted(p.name for p in run.folder.incumbents.iterdir()) == [
        f"b{budget}.{kind}" for budget in (1, 3, 9) for kind in ("json", "pt")
    ]


def test_weights_that_the_disk_refuses_are_kept_once_it_takes_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "RETRY_S", 0.05)
    run.folder.incumbents.write_text("a file where the folder should be")
    run.evaluate(13)
    wait_until(lambda: "cannot be kept" in run.keeper.problem)
    run.keeper.call(lambda: None)
    kept = sorted({path.parent.name for path in run.folder.checkpoints.rglob("*.pt")})
    assert "0-0-8" in kept  # nothing is cleared before the weights are kept
    run.folder.incumbents.unlink()
    wait_until(lambda: not run.keeper.problem)
    assert run.files() == []
    assert (run.folder.incumbents / "b9.pt").is_file()


def test_what_the_disk_refuses_of_one_configuration_does_not_keep_others_from_making_room(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "RETRY_S", 60.0)
    run.evaluate(1)  # the incumbent until the next
    run.keeper.call(lambda: None)
    (run.folder.incumbents / "b1.tmp").mkdir()  # refuses what the next one wants to keep
    run.evaluate(1)
    run.evaluate(7, loss=0.95)
    run.keeper.call(lambda: None)
    names = {path.parent.name for path in run.folder.checkpoints.rglob("*.pt")}
    assert "0-0-1" in names
    assert not names & {"0-0-5", "0-0-6", "0-0-7", "0-0-8"}  # not promoted
    (run.folder.incumbents / "b1.tmp").rmdir()
    run.keeper.close()


def test_an_interrupted_attempt_that_has_a_checkpoint_replaces_those_before_it(run: Run) -> None:
    for attempt in (1, 2):
        run.write((0, 0, 0), 1.0, attempt)
        run.keeper.attempt_ended(AttemptId((0, 0, 0), 1.0, attempt))
    run.keeper.attempt_ended(AttemptId((0, 0, 0), 1.0, 3))  # it had no time to write one
    assert run.files() == ["0-0-0/b1-a2.pt", "0-0-0/b1-a2.pt.previous"]


def test_an_attempt_that_another_has_overtaken_leaves_nothing_behind(run: Run) -> None:
    run.evaluate(9)
    run.write((0, 0, 0), 1.0, 2)
    run.keeper.attempt_was_superfluous(AttemptId((0, 0, 0), 1.0, 2))
    assert [name for name in run.files() if name.startswith("0-0-0")] == []


def test_a_folder_that_cannot_be_listed_for_a_moment_ends_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.evaluate(1)
    run.keeper.call(run.keeper.measure)
    before = run.keeper.used_mb

    def stale(self: Path, pattern: str) -> Never:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("pathlib.Path.rglob", stale)
    run.keeper.call(run.keeper.measure)
    assert run.keeper.used_mb == before > 0
    run.keeper.close()


def test_a_keeper_that_ends_on_a_full_disk_deletes_nothing_that_was_to_be_kept(run: Run) -> None:
    run.folder.incumbents.write_text("a file where the folder should be")
    run.evaluate(13)
    assert "0-0-8/b9-a1.pt" in run.files()


def test_a_master_that_was_superseded_deletes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def is_over() -> None:
        raise LeaseLostError("another master has taken over")

    run.keeper.close()
    run.keeper = CheckpointKeeper(run.folder, run.search, queue.SimpleQueue(), check_lease=is_over)
    run.evaluate(9)
    assert len(run.files()) == 18
    assert not run.folder.incumbents.exists()
