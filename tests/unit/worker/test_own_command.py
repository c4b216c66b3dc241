"""A program of any language as an objective: its rows, its checkpoint, how it is ended, and what it does wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import CrashedError
from pipeline.records import Evaluation, LowerRung, TrainResult, WorkerIdentity
from pipeline.run.creation import create_run, read_settings
from pipeline.run.folder import RunFolder
from pipeline.settings import validate_settings
from pipeline.storage.curves import read_attempt
from pipeline.worker.own_objective import OwnEvaluator
from tandem_trial.command import filled

PROGRAM = r"""
how=$1; metrics=$TANDEM_METRICS
case $how in
  rows)    printf '{"epoch": 1, "loss": 0.5, "other": 1}\n{"epoch": 2, "lo' >> $metrics; sleep 0.2
           printf 'ss": 0.25}\n' >> $metrics;;
  torn)    printf '{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "lo' >> $metrics;;
  prose)   echo 'loss is 0.5' >> $metrics;;
  foreign) echo '{"accuracy": 0.5}' >> $metrics;;
  silent)  ;;
  fails)   echo 'no such layer' >&2; exit 3;;
  keeps)   cat $TANDEM_CHECKPOINT/trained 2>/dev/null; echo $TANDEM_BUDGET >> $TANDEM_CHECKPOINT/trained
           echo "{\"epoch\": $TANDEM_BUDGET, \"loss\": $(wc -l < $TANDEM_CHECKPOINT/trained)}" >> $metrics;;
  churns)  for i in $(seq 100); do
             echo $i > $TANDEM_CHECKPOINT/new; mv $TANDEM_CHECKPOINT/new $TANDEM_CHECKPOINT/state
             echo "{\"epoch\": 1, \"loss\": $i, \"checkpoint\": true}" >> $metrics
           done;;
  deaf)    trap '' TERM; touch $TANDEM_FOLDER/began; while :; do sleep 0.05; done;;
  polite)  trap 'echo "{\"epoch\": 1, \"loss\": 7}" >> $metrics; exit 0' TERM
           touch $TANDEM_FOLDER/began; while :; do sleep 0.05; done;;
esac
"""
HOWS = ["rows", "torn", "prose", "foreign", "silent", "fails", "keeps", "churns", "deaf", "polite"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    place = tmp_path_factory.mktemp("command")
    (place / "train.sh").write_text(PROGRAM)
    problem = {
        "command": ["sh", str(place / "train.sh"), "{how}"],
        "space": {"how": {"choices": HOWS}},
        "metric": {"name": "loss"},
        "stop_grace_s": 0.5,
        "hang_timeout_min": 10,
    }
    search = {"budget_unit": "epochs", "min_budget": 1, "max_budget": 3}
    training = {"device": "cpu", "threads": 1, "checkpoint_interval_s": 1e-3}
    return create_run(
        validate_settings({"problem": problem, "search": search, "training": training}), place / "results"
    )


numbers = iter(range(1000))


def evaluated(
    evaluator: OwnEvaluator, how: str, should_stop: Callable[[], str | None] = lambda: None
) -> tuple[TrainResult, Evaluation]:
    given = Evaluation((0, 0, next(numbers)), {"how": how}, 3.0, 1, 3)
    return evaluator(given, should_stop), given


def test_rows_come_by_a_file_whose_last_line_may_be_half_written(folder: RunFolder, evaluator: OwnEvaluator) -> None:
    result, given = evaluated(evaluator, "rows")
    assert (result.loss, result.info["epochs"]) == (0.25, 2.0)
    assert read_attempt(folder.attempt(given.config_id, 3.0, 1))[1]["loss"].tolist() == [0.5, 0.25]
    assert evaluated(evaluator, "torn")[0].loss == 0.5


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("prose", "bad_result", "'loss is 0.5', which is no line of JSON"),
        ("foreign", "bad_result", "without reporting loss"),
        ("silent", "bad_result", 'it reported nothing; a program adds lines such as {"loss": 0.5} to the file'),
        ("fails", "error", "the program ended with exit status 3; it last said: no such layer (`sh "),
    ],
)
def test_what_a_program_does_wrong_is_a_crash_with_its_reason(
    evaluator: OwnEvaluator, how: str, kind: str, said: str
) -> None:
    with pytest.raises(CrashedError) as caught:
        evaluated(evaluator, how)
    assert caught.value.kind == kind
    assert said in caught.value.reason


def test_what_a_program_leaves_in_its_checkpoint_is_there_again_on_the_next_budget(evaluator: OwnEvaluator) -> None:
    lower = Evaluation((0, 0, next(numbers)), {"how": "keeps"}, 1.0, 1, 3)
    assert evaluator(lower, lambda: None).loss == 1
    upper = Evaluation(lower.config_id, lower.configuration, 3.0, 1, 3, LowerRung(1.0, 1))
    result = evaluator(upper, lambda: None)
    assert (result.loss, result.info["continued_from"]) == (2, "rung 1 attempt 1")


def test_a_program_may_replace_its_checkpoint_at_any_moment(folder: RunFolder, evaluator: OwnEvaluator) -> None:
    result, given = evaluated(evaluator, "churns")
    assert result.loss == 100
    assert folder.checkpoint(given.config_id, 3.0, 1).is_file()


@pytest.mark.parametrize("how", ["polite", "deaf"])
def test_a_program_that_must_stop_is_asked_by_term_and_killed_after_its_grace(
    folder: RunFolder, evaluator: OwnEvaluator, how: str
) -> None:
    given = Evaluation((0, 0, next(numbers)), {"how": how}, 3.0, 1, 3)
    began = (folder.trial(given.config_id, 3.0, 1) / "began").exists
    result = evaluator(given, lambda: "signal TERM" if began() else None)
    assert (result.status, result.reason) == ("handed_back", "signal TERM")
    curve = read_attempt(folder.attempt(given.config_id, 3.0, 1))[1]["loss"].tolist()
    assert curve == ([7.0] if how == "polite" else [])


@pytest.mark.parametrize(
    ("command", "given", "expected"),
    [
        (
            "train --lr {lr} --momentum {momentum} {budget}",
            {"lr": 0.5, "momentum": 0.9},
            "train --lr 0.5 --momentum 0.9 7",
        ),
        ("train --lr {lr} --momentum {momentum} {budget}", {"lr": 0.5}, "train --lr 0.5 7"),
        ("train --momentum={momentum} sgd.momentum={momentum} -v", {"lr": 0.5}, "train -v"),
        ("train {lr} {momentum} {budget}", {"lr": -0.5}, "train -0.5  7"),  # an empty text keeps the places
        ("train --lr={lr} {momentum} {budget}", {"lr": 0.5}, "train --lr=0.5  7"),
        ('train {"a":1} m{momentum}', {}, 'train {"a":1} m'),
    ],
)
def test_an_option_whose_hyperparameter_is_switched_off_is_left_out(
    command: str, given: dict[str, float], expected: str
) -> None:
    arguments = filled(command.split(" "), {**given, "budget": 7}, ["lr", "momentum"])
    assert arguments == expected.split(" ")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment without a single package."""
    folder = tmp_path_factory.mktemp("foreign") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


def run_of_one_evaluation(problem: dict[str, Any], budget_unit: str, results: Path) -> RunFolder:
    """A run of a problem whose loss is its x, after x = 0.25 was evaluated."""
    search = {"budget_unit": budget_unit, "min_budget": 1, "max_budget": 1}
    settings = validate_settings({"problem": problem, "search": search, "training": {"device": "cpu", "threads": 1}})
    folder = create_run(settings, results)
    evaluator = OwnEvaluator(folder, read_settings(folder), WorkerIdentity("w", "here"))
    try:
        assert evaluator(Evaluation((0, 0, 0), {"x": 0.25}, 1.0, 1, 3), lambda: None).loss == 0.25
    finally:
        evaluator.close()
    return folder


def test_a_program_in_python_reports_by_the_tiny_package_in_the_environment_that_its_command_names(
    tmp_path: Path, foreign: Path
) -> None:
    (tmp_path / "train.py").write_text(
        "import importlib.util, sys\n"
        "from tandem_trial import checkpoint_folder, report\n"
        "assert not any(map(importlib.util.find_spec, ('numpy', 'torch', 'pipeline', 'models')))\n"
        "report(epoch=1, loss=float(sys.argv[1]), other='2.5')\n"
        "print(sys.prefix, checkpoint_folder().is_dir())\n"
    )
    problem = {
        "command": f"{foreign}/bin/python {tmp_path}/train.py {{x}}",
        "space": {"x": [0.0, 1.0]},
        "metric": "loss",
    }
    folder = run_of_one_evaluation(problem, "epochs", tmp_path / "results")
    assert f"{foreign} True" in folder.output_log("w").read_text()
    # By hand, it prints its rows.
    by_hand = [sys.executable, "-c", "from tandem_trial import report; report(loss=0.5)"]
    assert subprocess.run(by_hand, capture_output=True, text=True, check=True).stdout == '{"loss": 0.5}\n'


def test_another_interpreter_needs_nothing_of_tandem(tmp_path: Path, foreign: Path) -> None:
    """A problem that says which interpreter it runs in."""
    (tmp_path / "mine.py").write_text(
        "import importlib.util, sys\n"
        "from tandem_trial import Problem\n"
        "assert not any(map(importlib.util.find_spec, ('numpy', 'torch', 'ConfigSpace', 'pydantic')))\n"
        "def objective(trial):\n"
        "    print(sys.prefix)\n"
        "    return trial['x']\n"
        "problem = Problem(objective, {'x': [0.0, 1.0]})\n"
    )
    use = {"use": str(tmp_path / "mine.py"), "python": str(foreign / "bin" / "python")}
    folder = run_of_one_evaluation(use, "steps", tmp_path / "results")
    assert str(foreign) in folder.output_log("w").read_text()
    assert json.loads(folder.provenance.read_text())["problem"][0]["copy"] == "problem/mine.py"
