"""Problems of the user's own, searched for real: the examples, the template, a master and workers killed in between."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hpbandster.core.result import logged_results_to_HBS_result

from pipeline import operations
from pipeline.analysis.architecture import architecture_figure
from pipeline.export.export import export
from pipeline.launch import local_workers
from pipeline.problems.templates import write_templates
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history
from pipeline.run.status import read_status
from pipeline.run.status_view import status_lines
from pipeline.search.verify import verify
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from pipeline.storage.results import Results, load_results
from tests.integration.support import results_count, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ("search.iterations=2", "workers.patience_s=6", "workers.handback_margin_s=2")


def quietly(text: str) -> None:
    pass


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield tmp_path
    for path in tmp_path.glob("results/*/settings.yaml"):
        if path.parent.name != "latest":
            operations.stop(RunFolder(path.parent), quietly)


def copied(example: str, place: Path) -> Path:
    shutil.copytree(EXAMPLES / example, place / example)
    return place / example / f"{example}.yaml"


def submit(settings: Path, place: Path, *overrides: str) -> RunFolder:
    return operations.submit(load_settings(settings, [*SMALL, *overrides]), place / "results", quietly)


def collected(folder: RunFolder) -> Results:
    """The results of a run once it has ended; without its figures, which take longer than these searches."""
    status = operations.wait_for(folder, lambda s: s.has_ended, 240)
    assert status is not None
    assert status.state == "finished", folder.master_log.read_text()[-3000:]
    assert verify(folder) == []
    results = load_results(collect(folder))
    assert set(results.evaluations["status"]) <= {"finished", "crashed"}
    return results


def kill_all(folder: RunFolder) -> None:
    """The master and its workers, as a power cut would; in the middle of their search."""
    status = read_status(folder)
    assert status is not None
    pids = [status.pid, *(int(job) for job in local_workers.running(folder))]
    for pid in pids:
        os.killpg(os.getpgid(pid), signal.SIGKILL)
    assert 0 < len(read_history(folder).results) < status.planned


# So that what is drawn depends on nothing that a kill changes.
DRAWN_ALIKE = ("search.method=hyperband",)


def submit_twice(settings: Path, place: Path, *overrides: str) -> tuple[RunFolder, RunFolder]:
    """The same search twice, side by side: one to be killed, and one that is left alone."""
    overrides = (*DRAWN_ALIKE, *overrides)
    folders = [submit(settings, place, f"name={name}", *overrides) for name in ("killed", "undisturbed")]
    wait_until(lambda: results_count(folders[0]) >= 2, 240)
    return folders[0], folders[1]


def assert_ended_alike(killed: RunFolder, undisturbed: RunFolder) -> None:
    """Each has a result of the same evaluations, with the same losses."""
    operations.wait_for(undisturbed, lambda s: s.has_ended, 240)
    measured, expected = (
        sorted((result.config_id, result.budget, result.loss) for result in read_history(folder).results)
        for folder in (killed, undisturbed)
    )
    assert measured == expected


def test_a_tabular_search_has_choices_conditions_and_a_maximised_metric_in_its_report(place: Path) -> None:
    folder = submit(copied("tabular", place), place)
    results = collected(folder)
    assert results.problem.metric.direction == "maximise"
    done = results.evaluations[results.evaluations["status"] == "finished"]
    accuracy = results.metrics.loc[done.index, "accuracy"]
    assert np.allclose(accuracy, -done["loss"])
    assert accuracy.max() > 0.8
    drawn = results.configurations
    assert not ((drawn["model"] == "forest") & (drawn["scale"] == 1)).any(), "forbidden"
    assert (drawn["kernel"] != "").equals(drawn["model"] == "svm"), "a condition"
    operations.collect(folder, quietly)
    text = folder.report.read_text(encoding="utf-8")
    assert "incumbent&#39;s accuracy" in text or "incumbent's accuracy" in text
    assert "validation error" not in text.lower().replace("validation_error", "")


# These evaluations take milliseconds: without it, the search may be over before the test sees that it has begun.
HELD = """
def held(trial, fit=objective):
    import pathlib, time

    while trial.config_id == (0, 0, 2) and not pathlib.Path({release!r}).exists():
        time.sleep(0.02)
    return fit(trial)


problem = Problem(held, SPACE, metric=problem.metric, metrics=problem.metrics, forbidden=FORBIDDEN)
"""


def test_a_search_for_two_objectives_ends_alike_though_everything_was_killed_in_between(place: Path) -> None:
    two = ("search.objectives=[accuracy, kilobytes]", "search.max_budget=33")
    settings, release = copied("tabular", place), place / "release"
    with settings.with_suffix(".py").open("a") as file:
        file.write(HELD.format(release=str(release)))
    folder, undisturbed = submit_twice(settings, place, *two)
    kill_all(folder)
    release.touch()
    operations.resume(folder, None, quietly)
    results = collected(folder)
    assert_ended_alike(folder, undisturbed)
    assert np.isfinite(results.metrics[["accuracy", "kilobytes"]].to_numpy()).all()
    status = read_status(folder)
    assert status is not None
    assert status.front is not None
    operations.collect(folder, quietly)
    front = pd.read_csv(folder.tables / "front.csv")
    assert len(front) == status.front.size >= 1
    assert "Hypervolume over wall-clock time" in folder.report.read_text(encoding="utf-8")
    stock = logged_results_to_HBS_result(str(folder.path))
    assert stock.get_runs_by_id(stock.get_incumbent_id())[-1].loss == -front["accuracy"].max()


def test_a_recurrent_network_goes_on_from_its_checkpoints_though_everything_was_killed_and_its_file_edited(
    place: Path,
) -> None:
    folder, undisturbed = submit_twice(copied("sequence", place), place)
    kill_all(folder)
    before = read_history(folder).results
    (place / "sequence" / "sequence.py").write_text("raise RuntimeError('edited meanwhile')")
    said: list[str] = []
    operations.resume(folder, None, said.append)
    assert any("has changed since the run began" in line for line in said)
    results = collected(folder)
    assert read_history(folder).results[: len(before)] == before
    assert_ended_alike(folder, undisturbed)  # to the last bit: from a checkpoint it goes on exactly
    promoted = results.evaluations[results.evaluations["continued_from"].str.startswith("rung")]
    assert len(promoted)
    for row in promoted.index:
        steps = results.curve(row)["batches"].to_numpy()
        assert (np.diff(steps) > 0).all()  # one chain: no step twice
        assert steps[-1] == results.evaluations["budget"][row]
    export(folder, place / "mine", None, None, quietly)
    about = json.loads((place / "mine" / "about.json").read_text())
    done = results.finished()
    assert about["metrics"]["accuracy"] == -done[done["budget"] == 180]["loss"].min()
    assert about["steps"] == 180
    assert (place / "mine" / "checkpoint").is_file()


BADLY_BEHAVED = """
from pathlib import Path
from tandem_trial import Problem

def objective(trial):
    how = trial["how"]
    if how == "other metric":
        trial.report(accuracy=0.5)
    if how == "floods":
        for _ in range(60_000):
            print("x" * 40)
    if how == "writes outside":
        (trial.folder.parents[2] / "mine.txt").write_text(str(trial.config_id))
    if how == "never asks":
        for _ in range(20):
            trial.step()
            trial.report(loss=1.0)
    return None if how == "nothing" else trial["x"]

problem = Problem(objective, {"how": {"choices": HOWS}, "x": [0.0, 1.0]})
"""


def test_what_objectives_do_wrong_stands_in_the_status_and_the_report_and_nothing_is_lost(place: Path) -> None:
    hows = ["fine", "nothing", "other metric", "floods", "writes outside", "never asks"]
    (place / "bad.py").write_text(BADLY_BEHAVED.replace("HOWS", repr(hows)))
    first = [f"{{how: {how}, x: 0.5}}" for how in hows]
    (place / "bad.yaml").write_text(
        f"name: bad\nproblem: {place}/bad.py\n"
        f"search: {{budget_unit: steps, min_budget: 1, max_budget: 9, try_first: [{', '.join(first)}]}}\n"
        "workers: {count: 1}\ntraining: {device: cpu, threads: 1}\nslurm: {gpus_per_worker: 0}\n"
    )
    folder = submit(place / "bad.yaml", place, "search.iterations=1")
    results = collected(folder)
    said = [
        "crashed, bad_result: the objective returned without reporting loss; it reported nothing",
        "crashed, bad_result: 'accuracy' was reported; the problem's metrics are: loss",
        "its output is more than the log keeps",
        "mine.txt came or changed in the run folder while it ran",
        "the objective never asks trial.should_stop()",
        "it begins anew: no checkpoint was saved before, or trial.load() is not called",
    ]
    status = read_status(folder)
    assert status is not None
    shown, log = "\n".join(status_lines(folder, status)), "".join(p.read_text() for p in folder.logs.glob("w*.log"))
    for text in said:
        assert any(text in warning for warning in results.warnings), text
        assert text in shown, text
        assert text.removeprefix("crashed, ").replace("bad_result: ", "") in log, text
    finished = results.evaluations["status"] == "finished"
    assert set(results.configurations.loc[results.evaluations.loc[finished, "configuration"], "how"]) >= {"fine"}


def test_a_template_is_searched_as_it_is(place: Path) -> None:
    _, settings = write_templates("my_problem", place)
    assert collected(submit(settings, place)).problem.name == "my_problem"


def test_a_shell_program_by_its_command_ends_alike_though_everything_was_killed_in_between(place: Path) -> None:
    folder, undisturbed = submit_twice(copied("command", place), place, "search.iterations=6")
    kill_all(folder)
    operations.resume(folder, None, quietly)
    results = collected(folder)
    assert_ended_alike(folder, undisturbed)
    assert (results.metrics["distance"].dropna() >= 0).all()
    promoted = results.evaluations[results.evaluations["continued_from"].str.startswith("rung")]
    assert len(promoted)


def test_a_folder_of_images_is_searched_without_code_though_some_are_damaged_and_everything_was_killed_in_between(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = importlib.util.spec_from_file_location("make_images", EXAMPLES / "image_folder" / "make_images.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    maker.main(place / "images", 40)
    (place / "images" / "rows" / "torn.png").write_bytes(b"not an image")
    # In batches, so that two searches can be compared; seconds measure the machine, too.
    own = (f"data.source={place / 'images'}", f"data.root={place / 'data'}", "workers.count=1",
           "search.budget_unit=batches", "search.min_budget=10", "search.max_budget=30")  # fmt: skip
    folder, undisturbed = submit_twice(copied("image_folder", place), place, *own)
    kill_all(folder)
    operations.resume(folder, None, quietly)
    results = collected(folder)
    assert_ended_alike(folder, undisturbed)
    assert "torn.png" in caplog.text
    assert results.images["image_shape"] == [3, 16, 16]
    assert results.dataset == "images"
    assert set(results.configurations["optimizer"]) == {"sgd", "adamw"}
    assert set(results.configurations["nr_residual_blocks_1"]) == {1}
    done = results.finished()
    assert done["validation_error"].min() < 0.6  # chance is 2/3
    export(folder, place / "mine", None, None, quietly)
    picture = next((place / "images" / "rows").glob("[0-9]*.png"))
    torn = place / "images" / "rows" / "torn.png"
    command = [sys.executable, "-W", "ignore", str(place / "mine" / "predict.py"), str(torn), str(picture)]
    refused, answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert refused.startswith(f"{torn}: cannot be read: ")
    assert answer.startswith(f"{picture}: ")
    assert all(f"{name} " in answer for name in results.images["classes"])
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in done.iloc[0].items()}
    figure = architecture_figure(results, plain["config_id"], {n: plain[n] for n in results.hyperparameters})
    assert figure.lacking == ""
