"""An objective of the user's own in its child process: what it may do wrong, and what becomes of it and of the next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import BrokenError, CrashedError, SettingsError
from pipeline.problems.freezing import read_problem
from pipeline.records import Evaluation, LowerRung, WorkerIdentity
from pipeline.run import lineage
from pipeline.run.creation import create_run, read_settings
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings, changed, validate_settings
from pipeline.storage.curves import read_attempt
from pipeline.worker import child_process, own_objective
from pipeline.worker.own_objective import OwnEvaluator

pytestmark = pytest.mark.slow

PROBLEM = """
import json, os, signal, sys, time
import numpy as np
import models, pipeline
from tandem_trial import Metric, Problem

assert models.MINE and pipeline.MINE, "a user's own packages of these names"


def objective(trial):
    how = trial["how"]
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exit":
        os._exit(3)
    if how == "sys.exit":
        sys.exit("enough")
    if how == "error":
        raise RuntimeError("no such layer")
    if how == "memory":
        raise MemoryError("too much")
    if how == "nothing":
        return None
    if how == "other metric":
        trial.report(acc=1.0)
    if how == "text":
        trial.report(accuracy="good")
    if how == "not finite":
        trial.report(accuracy=float("nan"))
    if how == "only extra":
        trial.report(kilowatts=3)
        return None
    if how == "infinite extra":
        return {"accuracy": 0.5, "kilowatts": float("inf")}
    if how == "import":
        import no_such_package
    if how == "at once":
        return {"accuracy": np.float32(0.5), "kilowatts": np.int64(7)}
    if how == "number":
        return 0.25
    if how == "prints":
        for i in range(60_000):
            print("x" * 40)
        return 0.5
    if how == "hangs":
        trial.should_stop()
        time.sleep(60)
    if how == "ignores":
        while True:
            trial.should_stop()
            trial.step()
            time.sleep(0.01)
    if how == "counts nothing":
        while not trial.should_stop():
            time.sleep(0.01)
    if how == "outside":
        open("here.txt", "w").write("x")
        return 0.5
    if how == "late load":
        trial.step()
        trial.load()
    if how == "empty save":
        with trial.save():
            pass
    steps = 0
    saved = trial.load() if how != "forgets" else None
    if saved is not None:
        steps = json.loads((saved / "state.json" if saved.is_dir() else saved).read_text())
    while not trial.should_stop():
        time.sleep(0.002)
        steps += 1
        trial.step()
        trial.report(accuracy=1 - 1 / (steps + 1))
        while how != "forgets" and steps == 7 and trial.budget == 30 and trial.attempt == 1 and not trial.should_stop():
            time.sleep(0.002)
        if trial.should_save():
            save(trial, steps)
    save(trial, steps)


def save(trial, steps):
    with trial.save() as path:
        if trial["how"] == "folder":
            path.mkdir()
            path = path / "state.json"
        path.write_text(json.dumps(steps))


problem = Problem(
    objective,
    space={"how": {"choices": HOWS}, "x": [0.0, 1.0]},
    metric=Metric("accuracy", direction="maximise", percent=True),
    metrics=[Metric("kilowatts", unit="kW")],
)
"""
HOWS = ["fine", "folder", "forgets", "segfault", "exit", "sys.exit", "error", "memory", "nothing", "other metric",
        "text", "not finite", "only extra", "infinite extra", "import", "at once", "number", "prints", "hangs",
        "ignores", "counts nothing", "outside", "late load", "empty save"]  # fmt: skip


def write_problem(folder: Path) -> Path:
    folder.mkdir()
    for package in ("models", "pipeline"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("MINE = True\n")
    (folder / "mine.py").write_text(PROBLEM.replace("HOWS", repr(HOWS)))
    return folder / "mine.py"


def settings_for(problem: Path, **more: object) -> Settings:
    search = {"min_budget": 10, "max_budget": 90, "budget_unit": "steps", **more.pop("search", {})}  # type: ignore[dict-item]
    return validate_settings({
        "problem": {"use": str(problem), "stop_grace_s": 0.5, "hang_timeout_min": 10, **more},
        "search": search,
        "training": {"device": "cpu", "threads": 1},
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    place = tmp_path_factory.mktemp("own")
    return create_run(settings_for(write_problem(place / "code")), place / "results")


numbers = iter(range(1000))


def evaluation(
    how: str, budget: float = 10.0, attempt: int = 1, number: int | None = None, lower: tuple[float, int] | None = None
) -> Evaluation:
    config_id = (0, 0, next(numbers) if number is None else number)
    continues = None if lower is None else LowerRung(*lower)
    return Evaluation(config_id, {"how": how, "x": 0.5}, budget, attempt, 3, continues)


def never() -> None:
    return None


def test_a_maximised_metric_is_minimised_in_the_results_and_stands_as_it_is_in_the_curve(
    folder: RunFolder, evaluator: OwnEvaluator
) -> None:
    given = evaluation("fine")
    result = evaluator(given, never)
    assert (result.status, result.loss) == ("finished", -(1 - 1 / 11))
    assert result.info["metrics"] == {"accuracy": 1 - 1 / 11}
    assert result.info["batches"] == 10
    header, rows, end = read_attempt(folder.attempt(given.config_id, 10.0, 1))
    assert rows["accuracy"].tolist() == [1 - 1 / (n + 1) for n in range(1, 11)]
    assert all(math.isnan(v) for v in rows["kilowatts"])
    assert (header.dataset, end.status, end.metrics["accuracy"]) == ("mine", "finished", 1 - 1 / 11)


def test_a_run_folder_that_was_renamed_is_not_made_again(tmp_path: Path) -> None:
    run = create_run(settings_for(write_problem(tmp_path / "code")), tmp_path / "results")
    evaluator = OwnEvaluator(run, read_settings(run), WorkerIdentity("w", "here"))
    try:
        evaluator(evaluation("number"), never)
        run.path.rename(tmp_path / "renamed")
        with pytest.raises(BrokenError, match=r"run folder .* is gone"):
            evaluator(evaluation("number"), never)
        assert not run.path.exists()
    finally:
        evaluator.close()


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("segfault", "died", "SIGSEGV"),
        ("exit", "died", "exit status 3"),
        ("sys.exit", "error", "SystemExit: enough"),
        ("error", "error", "RuntimeError: no such layer (mine.py:"),
        ("memory", "out_of_memory", "too much"),
        ("nothing", "bad_result", "without reporting accuracy; it reported nothing"),
        ("only extra", "bad_result", "it reported kilowatts"),
        ("other metric", "bad_result", "'acc' was reported; the problem's metrics are: accuracy, kilowatts"),
        ("text", "bad_result", "accuracy was reported as a str"),
        ("not finite", "not_finite", "accuracy is nan"),
        ("hangs", "hung", "hang_timeout_min"),
        ("counts nothing", "hung", "no row, no step"),
        ("ignores", "did_not_stop", "after its budget was spent"),
        ("late load", "bad_result", "trial.load() comes before"),
        ("empty save", "bad_result", "nothing was written"),
    ],
)
def test_what_an_objective_does_wrong_is_a_crash_with_a_reason_and_the_next_evaluation_is_fine(
    folder: RunFolder, evaluator: OwnEvaluator, monkeypatch: pytest.MonkeyPatch, how: str, kind: str, said: str
) -> None:
    given = evaluation(how)
    if kind == "hung":  # for this evaluation only: a busy machine makes others look like it
        monkeypatch.setattr(evaluator, "_settings", changed(evaluator._settings, {"problem.hang_timeout_min": 0.02}))
    with pytest.raises(CrashedError) as caught:
        evaluator(given, never)
    monkeypatch.undo()
    assert caught.value.kind == kind
    assert said in caught.value.reason
    end = read_attempt(folder.attempt(given.config_id, 10.0, 1))[2]
    assert end.status == "crashed"
    assert end.reason.startswith(kind)
    assert evaluator(evaluation("number"), never).loss == -0.25


def test_with_several_objectives_each_must_be_reported_and_finite(
    evaluator: OwnEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluator(evaluation("infinite extra"), never).loss == -0.5, "an objective alone counts"
    both = changed(evaluator._settings, {"search.objectives": ("accuracy", "kilowatts")})
    monkeypatch.setattr(evaluator, "_settings", both)
    assert evaluator(evaluation("at once"), never).info["metrics"] == {"accuracy": 0.5, "kilowatts": 7.0}
    for how, said in (
        ("number", "bad_result: the objective returned without reporting kilowatts; it reported accuracy"),
        ("infinite extra", "not_finite: kilowatts is inf"),
    ):
        with pytest.raises(CrashedError) as caught:
            evaluator(evaluation(how), never)
        assert str(caught.value) == said


def test_an_import_that_fails_is_everybodys_fault(evaluator: OwnEvaluator) -> None:
    with pytest.raises(BrokenError, match="no_such_package"):
        evaluator(evaluation("import"), never)


def test_an_objective_may_return_its_metrics_at_once_as_numpy_has_them(
    folder: RunFolder, evaluator: OwnEvaluator
) -> None:
    given = evaluation("at once")
    result = evaluator(given, never)
    assert result.loss == -0.5
    assert result.info["metrics"] == {"accuracy": 0.5, "kilowatts": 7.0}
    assert read_attempt(folder.attempt(given.config_id, 10.0, 1))[1]["kilowatts"].tolist() == [7.0]


def test_a_flood_of_output_is_cut_and_so_is_the_log_of_many_evaluations(
    folder: RunFolder, evaluator: OwnEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waited_for(condition: Callable[[], bool]) -> bool:  # the log is written beside
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        return condition()

    monkeypatch.setattr(child_process, "MAX_LOG_BYTES", 1_500_000)
    log, cut = folder.output_log("w"), "the rest of this evaluation's output is left out"
    result = evaluator(evaluation("prints"), never)
    assert "its output is more than the log keeps" in " ".join(result.info["notes"])
    assert waited_for(lambda: cut in log.read_text())
    assert len(log.read_text()) < 1_500_000
    evaluator(evaluation("prints"), never)
    assert waited_for(log.with_name(log.name + ".old").is_file)
    assert not log.exists() or len(log.read_text()) < 1_500_000


def test_relative_paths_lead_into_the_attempts_own_folder(folder: RunFolder, evaluator: OwnEvaluator) -> None:
    given = evaluation("outside")
    evaluator(given, never)
    assert (folder.trial(given.config_id, 10.0, 1) / "here.txt").is_file()


@pytest.mark.parametrize("how", ["fine", "folder"])
def test_a_stopped_attempt_goes_on_from_its_checkpoint_and_a_promoted_one_from_the_lower_rungs(
    folder: RunFolder, evaluator: OwnEvaluator, how: str
) -> None:
    number = next(numbers)
    reached = folder.attempt((0, 0, number), 30.0, 1).exists  # a row was written
    stopped = evaluator(evaluation(how, 30.0, 1, number), lambda: "signal TERM" if reached() else None)
    assert (stopped.status, stopped.reason) == ("handed_back", "signal TERM")
    finished = evaluator(evaluation(how, 30.0, 2, number), never)
    assert finished.info["continued_from"] == "attempt 1"
    assert finished.info["batches"] == 30
    assert finished.info["lower_rungs"] == [[10.0, -(1 - 1 / 11)]]
    promoted = evaluator(evaluation(how, 90.0, 1, number, lower=(30.0, 2)), never)
    assert promoted.info["continued_from"].startswith("rung 30 attempt")
    rows = read_attempt(folder.attempt((0, 0, number), 90.0, 1))[1]
    assert rows["batches"].tolist() == list(range(1, 91))  # one chain, no row twice
    assert rows["rung"].tolist() == [30.0] * 30 + [90.0] * 60


def test_an_objective_that_forgets_its_checkpoints_trains_again_from_the_start_and_the_log_says_so(
    evaluator: OwnEvaluator, caplog: pytest.LogCaptureFixture
) -> None:
    number = next(numbers)
    evaluator(evaluation("forgets", 10.0, 1, number), never)
    promoted = evaluator(evaluation("forgets", 30.0, 1, number, lower=(10.0, 1)), never)
    assert (promoted.status, promoted.info["continued_from"], promoted.info["batches"]) == ("finished", "start", 30)
    assert "trial.load() is not called" in caplog.text


def test_nobody_waits_for_the_checkpoint_of_an_objective_that_saves_none(
    folder: RunFolder, evaluator: OwnEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = next(numbers)
    assert evaluator(evaluation("fine", 10.0, 1, number), never).info["has_checkpoint"] is True
    number = next(numbers)
    assert evaluator(evaluation("number", 10.0, 1, number), never).info["has_checkpoint"] is False
    monkeypatch.setattr(lineage, "VISIBLE_S", math.inf)
    given = replace(evaluation("number", 30.0, 1, number), continues=LowerRung(10.0, 1, has_checkpoint=False))
    assert evaluator(given, never).info["continued_from"] == "start"


def test_a_child_that_does_not_stop_when_its_worker_must_leave_is_ended_and_handed_back(
    folder: RunFolder, evaluator: OwnEvaluator
) -> None:
    given = evaluation("hangs", 1e9)
    has_begun = folder.trial(given.config_id, given.budget, 1).exists
    result = evaluator(given, lambda: "signal TERM" if has_begun() else None)
    assert result.status == "handed_back"
    assert "did not stop within 0.5 s" in result.reason


def test_a_child_outlives_its_evaluations(evaluator: OwnEvaluator) -> None:
    evaluator(evaluation("number"), never)
    before = evaluator._child
    evaluator(evaluation("at once"), never)
    assert evaluator._child is before


def test_the_copy_in_the_run_folder_is_what_runs(tmp_path: Path) -> None:
    file = write_problem(tmp_path / "code")
    folder = create_run(settings_for(file), tmp_path / "results")
    file.write_text("raise RuntimeError('edited meanwhile')")
    made = OwnEvaluator(folder, read_settings(folder), WorkerIdentity("w", "here"))
    try:
        assert made(evaluation("number"), never).loss == -0.25
    finally:
        made.close()


def test_a_problem_that_takes_for_ever_to_load_has_a_time_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_run(settings_for(write_problem(tmp_path / "code")), tmp_path / "results")
    (folder.path / "problem" / "mine.py").write_text("import time\n\ntime.sleep(600)\n")
    monkeypatch.setattr(own_objective, "READ_S", 0.2)
    made = OwnEvaluator(folder, read_settings(folder), WorkerIdentity("w", "here"))
    with pytest.raises(BrokenError, match=r"the problem was not loaded in 0 s"):
        made(evaluation("number"), never)
    assert made._child is None  # it was ended


def test_a_problem_that_does_not_import_is_refused_in_one_line_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import tandem_trial\n\nimport not_there\n")
    with pytest.raises(SettingsError) as caught:
        read_problem(settings_for(tmp_path / "bad.py"))
    assert "\n" not in str(caught.value)
    assert "No module named 'not_there' (bad.py:3)" in str(caught.value)
