import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import BrokenError
from pipeline.records import LowerRung
from pipeline.run import lineage
from pipeline.run.lineage import previous_path
from pipeline.training.checkpoint import find_resume_point
from tests.unit.training.support import Bench, stop_after

IN_BATCHES = ("search.budget_unit=batches", "search.min_budget=9", "search.max_budget=27")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def bench(root: Path, tmp_path: Path) -> Bench:
    """Attempt 1 on 27 batches was stopped after 4 batches, attempt 2 after 7; the rung below is finished."""
    bench = Bench(root, tmp_path, *IN_BATCHES, "training.checkpoint_interval_s=1e-6", "training.overhead_share=1")
    bench.train(bench.evaluation(9))
    bench.train(bench.evaluation(27, 1), stop_after(4))
    bench.train(bench.evaluation(27, 2), stop_after(3))
    return bench


def path(bench: Bench, budget: int, attempt: int) -> Path:
    return bench.folder.checkpoint((0, 0, 0), budget, attempt)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-700])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_other_content(file: Path) -> None:
    torch.save({"something": "else"}, file)


DAMAGES = [flip_a_bit, cut, empty, replace_by_other_content]


def test_the_latest_attempt_at_the_same_evaluation_comes_first(bench: Bench) -> None:
    point = find_resume_point(bench.folder, bench.evaluation(27, 3, LowerRung(9, 1)))
    assert point.origin == "attempt 2"
    assert point.state.batches == 7


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_previous_one_and_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture, damage: Callable[..., Any]
) -> None:
    damage(path(bench, 27, 2))
    with caplog.at_level(logging.WARNING):
        point = find_resume_point(bench.folder, bench.evaluation(27, 3))
    assert point.origin == "attempt 2"
    assert point.state.batches < 7
    assert str(path(bench, 27, 2)) in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
def test_when_all_of_an_attempt_is_damaged_earlier_attempts_serve_then_the_lower_rung_then_nothing(
    bench: Bench, damage: Callable[..., Any]
) -> None:
    evaluation = bench.evaluation(27, 3, LowerRung(9, 1))
    for attempt in (2, 1):
        damage(path(bench, 27, attempt))
        damage(previous_path(path(bench, 27, attempt)))
        origin = find_resume_point(bench.folder, evaluation).origin
        assert origin == ("attempt 1" if attempt == 2 else "rung 9 attempt 1")
    damage(path(bench, 9, 1))
    assert find_resume_point(bench.folder, evaluation) is None


def test_a_checkpoint_of_another_configuration_or_seed_is_not_used(bench: Bench) -> None:
    assert find_resume_point(bench.folder, bench.evaluation(27, 3, learning_rate=0.2)) is None


def test_another_attempt_at_the_lower_rung_serves_when_the_accepted_one_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "VISIBLE_S", 0.1)
    path(bench, 9, 1).rename(path(bench, 9, 4))
    point = find_resume_point(bench.folder, bench.evaluation(27, 1, LowerRung(9, 1)))
    assert point.origin == "rung 9 attempt 4"


def test_a_promotion_waits_for_a_checkpoint_that_this_host_does_not_see_yet(bench: Bench) -> None:
    file = path(bench, 9, 1)
    hidden = file.rename(file.with_name("hidden"))
    timer = threading.Timer(0.3, hidden.rename, (file,))
    timer.start()
    point = find_resume_point(bench.folder, bench.evaluation(27, 1, LowerRung(9, 1)))
    timer.join()
    assert point.origin == "rung 9 attempt 1"


def test_a_finished_evaluation_keeps_its_last_checkpoint_only(bench: Bench) -> None:
    assert path(bench, 9, 1).is_file()
    assert not previous_path(path(bench, 9, 1)).exists()
    assert not [p for p in bench.folder.checkpoints.rglob("*") if p.suffix == ".tmp"]


def test_training_from_a_damaged_checkpoint_reaches_the_same_end(bench: Bench) -> None:
    flip_a_bit(path(bench, 27, 2))
    result, _ = bench.train(bench.evaluation(27, 3))
    again = bench.train(bench.evaluation(27, 1))[0]  # attempt 1 has no earlier one: from the start
    assert result.loss == again.loss


def test_a_checkpoint_does_not_bring_back_a_run_folder_that_was_renamed(root: Path, tmp_path: Path) -> None:
    bench = Bench(
        root, tmp_path / "run", *IN_BATCHES, "training.checkpoint_interval_s=1e-6", "training.overhead_share=1"
    )
    asked = stop_after(3)

    def rename_after_three_batches() -> str | None:
        if asked() is not None and bench.folder.path.exists():
            bench.folder.path.rename(tmp_path / "renamed")
        return None

    with pytest.raises(BrokenError, match=r"cannot write the checkpoint .*The folder is gone"):
        bench.train(bench.evaluation(9), rename_after_three_batches)
    assert [path.name for path in tmp_path.iterdir()] == ["renamed"]
