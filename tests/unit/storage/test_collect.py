import dataclasses
import json
import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.errors import RunError
from pipeline.files import read_json
from pipeline.records import INFO_KEYS, AttemptEnd, AttemptHeader
from pipeline.run.folder import RunFolder
from pipeline.run.history import JOURNAL_EVENTS, read_history, read_journal
from pipeline.run.lower_rungs import LOWER_RUNGS_KEY
from pipeline.settings import Settings, load_settings
from pipeline.storage.collect import collect, throughput
from pipeline.storage.curves import ROW_DTYPE, read_attempt, write_attempt
from pipeline.storage.gather import FoundAttempt, lost_seconds
from pipeline.storage.results import Results, load_results
from pipeline.storage.retrained import baseline_path, incumbent_path
from pipeline.storage.tables import write_tables


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(
        "digits", ["search.min_budget=1", "search.max_budget=27", "workers.count=4", "search.iterations=8"]
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> tuple[RunFolder, Results]:
    folder = write_synthetic_run(tmp_path_factory.mktemp("results") / "ended", settings, seed=1, max_rows=6)
    return folder, load_results(collect(folder))


@pytest.fixture
def running(tmp_path: Path, settings: Settings) -> RunFolder:
    return write_synthetic_run(tmp_path / "results" / "going-on", settings, seed=1, max_rows=6, evaluations=30)


def test_every_result_is_an_evaluation_in_the_same_order(finished: tuple[RunFolder, Results]) -> None:
    folder, results = finished
    history = read_history(folder)
    evaluations = results.evaluations
    assert len(evaluations) == len(history.results) > 80
    for result, row in zip(history.results, evaluations.itertuples(), strict=True):
        assert (row.iteration, row.stage, row.index, row.budget) == (*result.config_id, result.budget)
        assert row.status == ("crashed" if result.loss is None else "finished")
        assert row.loss == result.loss or (np.isnan(row.loss) and result.loss is None)  # type: ignore[arg-type]
    assert list(results.budgets) == sorted(evaluations["budget"].unique())


def test_an_evaluations_curve_is_the_rows_of_its_accepted_attempt(finished: tuple[RunFolder, Results]) -> None:
    folder, results = finished
    retried = results.evaluations[(results.evaluations["attempts"] > 1) & (results.evaluations["status"] == "finished")]
    assert len(retried) >= 3
    for number in [*retried.index, 0, len(results.evaluations) - 1]:
        row = results.evaluations.iloc[number]
        path = folder.attempt((row["iteration"], row["stage"], row["index"]), row["budget"], row["attempt"])
        rows = pd.DataFrame(read_attempt(path)[1])
        curve = results.curve(number)
        assert (curve["evaluation"] == number).all()
        pd.testing.assert_frame_equal(curve.drop(columns="evaluation").reset_index(drop=True), rows)


def test_the_long_table_has_no_rows_but_those_of_the_evaluations(finished: tuple[RunFolder, Results]) -> None:
    _, results = finished
    lengths = results.evaluations["curve_length"]
    assert results.evaluations["curve_offset"].tolist() == [0, *lengths.cumsum()[:-1]]
    assert len(results.learning_curves) == lengths.sum()


def test_superseded_attempts_stay_listed(finished: tuple[RunFolder, Results]) -> None:
    folder, results = finished
    dispatched = [event for event in read_journal(folder) if event["event"] == "dispatched"]
    assert len(results.attempts) == len(dispatched) > len(results.evaluations)
    assert set(results.attempts.loc[~results.attempts["accepted"], "outcome"]) == {"lost", "handed_back"}
    assert (results.attempts.groupby("evaluation")["accepted"].sum() == 1).all()


def test_a_run_that_goes_on_is_collected_with_its_evaluations_in_progress(running: RunFolder) -> None:
    results = load_results(collect(running))
    counts = results.evaluations["status"].value_counts()
    assert counts["finished"] + counts.get("crashed", 0) == 30
    assert counts["running"] == 3  # of four workers, one has just delivered
    going_on = results.evaluations[results.evaluations["status"] == "running"]
    assert going_on["loss"].isna().all()
    assert going_on["curve_length"].sum() > 0


def test_collecting_twice_gives_the_same(running: RunFolder) -> None:
    first = load_results(collect(running))
    second = load_results(collect(running))
    for name in ("configurations", "evaluations", "attempts", "learning_curves", "journal"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))


def test_damaged_and_missing_files_are_named_and_cost_only_themselves(
    running: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_results(collect(running))
    done = before.attempts[before.attempts["accepted"] & (before.attempts["outcome"] == "finished")]
    damaged, missing = (running.path / name for name in done["file"].iloc[:2])
    damaged.write_bytes(damaged.read_bytes()[:1500])
    missing.unlink()
    running.collected.unlink()
    (running.attempts / "3-0-7").mkdir(exist_ok=True)
    (running.attempts / "3-0-7" / "bad-a1x.h5").touch()
    (running.attempts / "3-0-7" / "b3-ax.h5").touch()
    with caplog.at_level(logging.WARNING):
        after = load_results(collect(running))
    assert len(after.evaluations) == len(before.evaluations)
    assert after.evaluations["loss"].sum() == before.evaluations["loss"].sum()
    lost_rows = done["rows"].iloc[:2].sum()
    assert len(after.learning_curves) == len(before.learning_curves) - lost_rows
    for path in (damaged, missing, running.attempts / "3-0-7" / "b3-ax.h5"):
        assert any(str(path) in warning for warning in after.warnings)
        assert str(path) in caplog.text
    problem = after.attempts.set_index("file").loc[str(damaged.relative_to(running.path)), "problem"]
    assert "is damaged" in problem


TABLES = ("configurations", "evaluations", "metrics", "attempts", "learning_curves", "journal", "retrained")


def same_tables(one: Results, other: Results) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_what_was_collected_of_files_that_are_gone_or_damaged_is_kept(
    running: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_results(collect(running))
    files = sorted(running.attempts.glob("*/*.h5"))
    for path in files[::3]:  # a removal that was interrupted
        path.unlink()
    files[1].write_bytes(files[1].read_bytes()[:1500])
    partly = load_results(collect(running))
    same_tables(dataclasses.replace(partly, attempts=partly.attempts.assign(problem="")), before)
    assert [str(files[1]) in problem for problem in partly.attempts["problem"] if problem] == [True]
    shutil.rmtree(running.attempts)
    caplog.clear()
    for _ in range(2):
        same_tables(load_results(collect(running)), before)
    told = f"{len(files)} attempts of {running.attempts} cannot be read there any more: what results.h5 had of them"
    assert caplog.messages == [f"{told} is kept"] * 2
    for path in (running.journal, running.provenance, running.configspace):  # an earlier page of the docs allowed it
        path.unlink()
    after = load_results(collect(running))
    same_tables(after, before)
    assert (after.provenance, after.configspace) == (before.provenance, before.configspace)


def test_a_run_that_goes_on_after_its_curves_were_removed_is_collected_as_if_they_were_there(
    running: RunFolder, settings: Settings
) -> None:
    attempts = load_results(collect(running)).attempts
    ended = attempts.loc[(attempts["outcome"] != "running") & (attempts["file"] != ""), "file"]
    longer = write_synthetic_run(running.path.parents[1] / "longer", settings, seed=1, max_rows=6, evaluations=50)
    shutil.copytree(longer.path, running.path, dirs_exist_ok=True)
    for name in ended:
        (running.path / name).unlink()
    same_tables(load_results(collect(running)), load_results(collect(longer)))


def test_a_results_file_that_cannot_be_read_is_not_replaced_by_one_without_curves(running: RunFolder) -> None:
    whole = load_results(collect(running))
    content = running.collected.read_bytes()
    running.collected.write_bytes(content[:5000])
    same_tables(load_results(collect(running)), whole)
    running.collected.write_bytes(content[:5000])
    shutil.rmtree(running.attempts)
    with pytest.raises(RunError, match=r"is gone, .* may stand in \S+results\.h5 alone, .* or move it away"):
        collect(running)
    assert running.collected.read_bytes() == content[:5000]
    running.collected.unlink()
    assert load_results(collect(running)).learning_curves.empty


def test_a_run_that_has_drawn_nothing_yet_is_collected_as_empty(running: RunFolder) -> None:
    for path in (running.configs, running.results, running.journal):
        path.unlink()
    for path in running.attempts.glob("*/*"):
        path.unlink()
    results = load_results(collect(running))
    assert (len(results.evaluations), len(results.learning_curves), results.hyperparameters) == (0, 0, ())
    write_tables(results, running.tables)


def test_a_torn_last_line_and_a_second_result_of_one_evaluation_do_not_count(running: RunFolder) -> None:
    before = load_results(collect(running))
    lines = running.results.read_text().splitlines()
    again = json.loads(next(line for line in lines if '"loss"' in line))
    again[3]["loss"] = 0.0
    running.results.write_text("\n".join([*lines, json.dumps(again), lines[0][:40]]))
    after = load_results(collect(running))
    pd.testing.assert_series_equal(after.evaluations["loss"], before.evaluations["loss"])
    assert any("has two results" in warning for warning in after.warnings)


@pytest.mark.parametrize(("name", "content"), [("provenance", b""), ("configspace", b"{"), ("status", b"\xff")])
def test_a_damaged_file_of_the_run_is_named_and_can_be_done_without(
    running: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    monkeypatch.setattr("pipeline.storage.collect.read_json", lambda path: read_json(path, wait_s=0))
    path = getattr(running, name)
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}\.json is damaged"):
        collect(running)
    path.unlink()
    assert getattr(load_results(collect(running)), name) == {}


def test_a_damaged_results_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "results.h5"
    with pytest.raises(RunError, match="collect-results"):
        load_results(path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(RunError, match="is damaged"):
        load_results(path)
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = "tandem results 0"
    with pytest.raises(RunError, match="has the schema 'tandem results 0', this version reads"):
        load_results(path)


def test_every_column_of_the_collected_file_is_described(finished: tuple[RunFolder, Results]) -> None:
    described = []

    def look(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and not name.startswith("run/"):
            described.append((name, node.attrs["description"] != "", "unit" in node.attrs))

    with h5py.File(finished[0].collected, locking=False) as file:
        file.visititems(look)
    assert len(described) > 100
    assert [name for name, has_text, has_unit in described if not (has_text and has_unit)] == []


def attempt(number: int, inherited: float, trained: float, outcome: str, source: str = "start") -> FoundAttempt:
    header = AttemptHeader(
        "r",
        (0, 0, 0),
        {},
        100.0,
        "seconds",
        number,
        0,
        0.0,
        inherited,
        source,
        "digits",
        1,
        1.0,
        "cpu",
        "h",
        "w",
        "",
        {},
    )
    rows = np.zeros(1, dtype=ROW_DTYPE)
    rows["training_s"] = trained
    return FoundAttempt((0, 0, 0), 100.0, number, Path("x"), header, rows, outcome=outcome)


def test_lost_seconds_are_those_after_the_checkpoint_that_the_next_attempt_went_on_from() -> None:
    lost, back = attempt(1, 0, 50, "lost"), attempt(2, 40, 70, "handed_back", "attempt 1")
    done = attempt(3, 70, 100, "finished", "attempt 2")
    done.accepted = True
    chain = [lost, back, done]
    assert [lost_seconds(a, chain, True) for a in chain] == [10, 0, 0]


def test_an_attempt_that_nobody_went_on_from_is_lost_whole_once_that_is_certain() -> None:
    lost, done = attempt(1, 20, 50, "lost", "rung 20 attempt 1"), attempt(2, 20, 100, "finished", "rung 20 attempt 1")
    done.accepted = True
    assert lost_seconds(lost, [lost, done], True) == 30
    assert np.isnan(lost_seconds(lost, [lost], False))
    late = attempt(1, 0, 100, "finished")
    assert lost_seconds(late, [late, done], True) == 100


def test_retrained_baselines_and_incumbents_are_collected(running: RunFolder) -> None:
    header = read_attempt(next(running.attempts.glob("*/*.h5")))[0]
    end = AttemptEnd("finished", "", 1.0, 9.0, 0.2, 0.05, 0.3, 0.06)
    no_rows = np.empty(0, ROW_DTYPE)
    baseline = AttemptHeader(**{**header.__dict__, "configuration": {"model": "resnet18"}, "seed": 3})
    path = baseline_path(running.path.parent, load_settings(running.settings), "resnet18", 3)
    write_attempt(path, baseline, no_rows, end)
    write_attempt(incumbent_path(running.path, 4), header, no_rows)
    retrained = load_results(collect(running)).retrained
    assert retrained[["model", "status", "test_error"]].fillna(-1).values.tolist() == [
        ["resnet18", "finished", 0.06],
        ["incumbent", "died", -1],
    ]


def test_what_a_model_costs_is_a_metric_of_every_evaluation(finished: tuple[RunFolder, Results]) -> None:
    _, results = finished
    done = results.evaluations["status"] == "finished"
    for name in ("parameters", "flops_per_image", "latency_s"):
        assert (results.metrics.loc[done, name] == results.evaluations.loc[done, name]).all()
        assert (results.metrics.loc[done, name] > 0).all()
    assert (results.evaluations.loc[done, "latency_batch"] == 32).all()


def test_a_synthetic_run_has_the_lines_of_a_real_one(finished: tuple[RunFolder, Results]) -> None:
    folder, results = finished
    for event in read_journal(folder):
        assert set(event) == {"time", "event", *JOURNAL_EVENTS[event["event"]]}
    for result in read_history(folder).results:
        assert set(result.info) == ({*INFO_KEYS, LOWER_RUNGS_KEY} if result.loss is not None else set())
    assert results.configurations["model_based"].any()
    assert {"crashed", "finished"} == set(results.evaluations["status"])
    assert results.evaluations["host"].nunique() == 2
    assert results.evaluations["device"].nunique() == 2


def test_the_same_seed_writes_the_same_synthetic_run(tmp_path: Path, settings: Settings) -> None:
    texts = []
    for name in ("a", "b"):
        folder = write_synthetic_run(tmp_path / name, settings, seed=5, max_rows=2, evaluations=40)
        texts.append((folder.configs.read_text(), folder.results.read_text(), folder.journal.read_text()))
    assert texts[0] == texts[1]


def test_tables_hold_what_was_collected(finished: tuple[RunFolder, Results], tmp_path: Path) -> None:
    _, results = finished
    write_tables(results, tmp_path)
    evaluations = pd.read_csv(tmp_path / "evaluations.csv")
    assert evaluations["loss"].sum() == pytest.approx(results.evaluations["loss"].sum())
    assert set(results.hyperparameters) < set(evaluations.columns)
    long = pd.read_parquet(tmp_path / "learning_curves.parquet")
    assert len(long) == len(results.learning_curves) == len(pd.read_csv(tmp_path / "learning_curves.csv"))
    best = pd.read_csv(tmp_path / "incumbents.csv").set_index("budget")["loss"]
    for budget, loss in results.finished().groupby("budget")["loss"].min().items():
        assert best[budget] == pytest.approx(loss)
    write_tables(results, tmp_path, max_csv_rows=10)
    assert not (tmp_path / "learning_curves.csv").exists()


def rows_of(seconds: list[float], batches: list[int], rungs: list[float], images_per_s: list[float]) -> np.ndarray:
    rows = np.zeros(len(seconds), ROW_DTYPE)
    rows["training_s"], rows["batches"], rows["rung"], rows["images_per_s"] = seconds, batches, rungs, images_per_s
    return rows


def test_what_a_budget_bought_leaves_out_what_the_lower_rung_trained() -> None:
    rows = rows_of([1, 2, 3.3], [10, 20, 33], [1, 3, 3], [100, 50, 200])
    bought = throughput(rows, 3.0, "seconds")
    assert bought["batches_here"] == 23
    assert bought["images_per_s"] == pytest.approx((50 * 1 + 200 * 1.3) / 2.3)
    assert bought["overshoot"] == pytest.approx(0.1)
    assert "overshoot" not in throughput(rows, 3.0, "epochs")
    assert throughput(rows, 9.0, "seconds") == {}
    assert "images_per_s" not in throughput(rows_of([1], [1], [1], [np.nan]), 1.0, "seconds")


def test_a_results_file_of_an_earlier_version_lacks_columns_and_is_read(
    finished: tuple[RunFolder, Results], tmp_path: Path
) -> None:
    path = tmp_path / "results.h5"
    path.write_bytes(finished[0].collected.read_bytes())
    with h5py.File(path, "r+") as file:
        for name in ("batches_here", "images_per_s", "overshoot"):
            del file["evaluations"][name]
    assert load_results(path).evaluations["overshoot"].isna().all()
