"""Baselines and the incumbent, really trained (tiny budgets), reach the table of results."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.analysis.poster import POSTER, results_table, summarise
from pipeline.errors import RunError
from pipeline.records import config_name
from pipeline.retraining.plan import missing, plan_baselines, plan_incumbent, previous_attempt
from pipeline.retraining.retrain import as_one_worker, retrain, retrain_all
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history
from pipeline.settings import Settings, changed, load_settings
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results
from pipeline.storage.retrained import INCUMBENT
from pipeline.training.data import prepare_data
from pipeline.training.device import device_for


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    overrides = ["search.budget_unit=batches", "search.min_budget=1", "search.max_budget=3", "search.iterations=2"]
    root = tmp_path_factory.mktemp("data")
    settings = load_settings("digits", [*overrides, f"data.root={root}", "training.threads=1", "workers.count=2"])
    prepare_data(settings.data)
    return settings


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> RunFolder:
    return write_synthetic_run(tmp_path / "results" / "run", settings, max_rows=2)


def test_the_table_names_the_models_of_the_registry() -> None:
    from models.registry import MODEL_NAMES

    assert list(POSTER) == [*MODEL_NAMES, INCUMBENT]


def test_a_trained_baseline_and_incumbent_stand_in_the_table_and_the_rest_is_missing(
    folder: RunFolder, settings: Settings
) -> None:
    results = folder.path.parent
    narrow = plan_baselines(settings, results, seeds=(0, 1))
    chosen = [task for task in narrow if task.model == "resnet18"]
    said: list[str] = []
    retrain_all([*chosen, *plan_incumbent(folder, settings, seeds=(0,))], settings, said.append)
    assert said[0] == "Trainings: 0 of 3 finished, 0 running, 3 to do."
    collected = load_results(collect(folder))
    summary = summarise(collected).set_index("model")
    assert summary["seeds"].to_dict() == {**dict.fromkeys(POSTER, 0), "resnet18": 2, INCUMBENT: 1}
    assert 10e6 < summary.loc["resnet18", "parameters"] < 12e6  # type: ignore[arg-type]
    assert 0 < summary.loc["resnet18", "mean"] < 1  # type: ignore[arg-type]
    table = results_table(collected)
    assert table.table is not None
    shown = table.table.set_index("model")["test error (%)"]
    assert "±" in shown["ResNet-18"]
    assert "one seed" in shown["incumbent of the search"]
    assert shown["Shake-Shake 26 2x96d"] == "missing"
    assert "make baselines" in table.caption
    assert missing(narrow) == [task for task in narrow if task.model != "resnet18"]


def test_a_retraining_that_was_stopped_goes_on_from_its_checkpoint(folder: RunFolder, settings: Settings) -> None:
    task = plan_incumbent(folder, settings, seeds=(7,))[0]
    asked = iter([None, None, "signal SIGTERM"])
    stopped = retrain(task, settings, lambda: next(asked, "signal SIGTERM"))
    assert stopped.status == "handed_back"
    assert previous_attempt(task) == (1, "handed_back")
    assert task.work.path.is_dir()
    finished = retrain(task, settings, lambda: None)
    assert (finished.status, finished.info["continued_from"]) == ("finished", "attempt 1")
    assert finished.info["batches"] == 3
    assert finished.info["test_error"] is not None
    assert not task.work.path.exists()
    assert missing([task]) == []


def test_another_configuration_than_the_incumbent_is_retrained_beside_it(folder: RunFolder, settings: Settings) -> None:
    done = [r for r in read_history(folder).results if r.loss is not None and r.budget == 3]
    best, *others = sorted(done, key=lambda r: (r.loss or 0.0, r.config_id))
    assert plan_incumbent(folder, settings, (0,), best.config_id) == plan_incumbent(folder, settings, (0,))
    [task] = plan_incumbent(folder, settings, (0,), others[0].config_id)
    assert task.config_id == others[0].config_id
    assert task.path.name == f"{config_name(task.config_id)}-s0.h5"
    with pytest.raises(RunError, match="9-0-9 has not finished on budget 3; the best that have: "):
        plan_incumbent(folder, settings, (0,), (9, 0, 9))


def test_a_run_without_a_result_on_the_largest_budget_has_no_incumbent(tmp_path: Path, settings: Settings) -> None:
    folder = write_synthetic_run(tmp_path / "run", settings, max_rows=2, evaluations=1)
    with pytest.raises(RunError, match="no incumbent on budget 3 yet"):
        plan_incumbent(folder, settings)


def test_a_training_of_another_budget_unit_is_missing(folder: RunFolder, settings: Settings) -> None:
    task = plan_incumbent(folder, settings, seeds=(5,))[0]
    assert retrain(task, settings, lambda: None).status == "finished"
    assert missing([task]) == []
    assert missing([replace(task, budget_unit="epochs")]) != []


def test_training_here_has_a_workers_threads(settings: Settings) -> None:
    ours = load_settings("digits", ["workers.count=1000", "training.threads=0"])
    assert as_one_worker(ours).training.threads == 1
    assert as_one_worker(settings).training.threads == settings.training.threads


def test_nothing_trains_on_a_gpu_where_workers_ask_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    kinds = [
        device_for(load_settings("digits", [f"slurm.gpus_per_worker={count}", f"training.device={wanted}"])).type
        for count, wanted in ((0, "auto"), (1, "auto"), (0, "cuda"), (1, "cpu"))
    ]
    assert kinds == ["cpu", "cuda", "cuda", "cpu"]


def test_a_baseline_that_crashed_is_named_with_its_reason_and_not_asked_for_again(
    folder: RunFolder, settings: Settings
) -> None:
    small = changed(settings, {"training.max_parameters": 1000})
    plan = [task for task in plan_baselines(settings, folder.path.parent, seeds=(0,)) if task.model == "resnet18"]
    said: list[str] = []
    retrain_all(plan, small, said.append)
    assert "crashed: too_large" in said[-1]
    table = results_table(load_results(collect(folder)))
    assert table.table is not None
    assert table.table.set_index("model")["seeds"]["ResNet-18"] == "0 (+ 1 crashed: too_large)"
    assert "ResNet-18" not in table.caption
