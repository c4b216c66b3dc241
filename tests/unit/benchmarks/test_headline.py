"""The headline experiment: its protocol, and that its report says what the stored searches say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.headline import kept, kills, report, run, tested
from benchmarks.headline.authors import Authors, restarting_cosine
from benchmarks.headline.processes import networks
from benchmarks.headline.protocol import SIDES, STOCK, Key, Size, keys, network_name, settings_of
from benchmarks.headline.run import finished, incumbents
from benchmarks.headline.tested import data_of, measured_test_error
from pipeline.records import Evaluation, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings
from pipeline.training.data import prepare_data
from tests.unit.training.support import TINY, KeptCurve

SIZE = Size(100.0, 90.0, "processor")


def test_every_seed_has_a_search_of_every_side_before_the_next_begins() -> None:
    order = keys(list(SIDES), 3)
    assert [{key.side for key in order[i : i + 4]} for i in (0, 4, 8)] == [set(SIDES)] * 3
    assert [key.seed for key in order] == [0] * 4 + [1] * 4 + [2] * 4
    assert len({order[i].side for i in (0, 4, 8)}) == 3  # no side is always the first


def test_all_sides_have_the_presets_space_and_ladder_and_differ_in_their_method(tmp_path: Path) -> None:
    settings = {side: settings_of(SIZE, Key(side, 3), tmp_path) for side in SIDES}
    assert len({json.dumps(s.model_dump(mode="json")["space"]) for s in settings.values()}) == 1
    assert {s.search.max_budget for s in settings.values()} == {90.0}
    assert [s.search.method for s in settings.values()] == ["bohb", "bohb", "gp", "random"]


@pytest.mark.parametrize(
    ("position", "factor"),
    [(0.0, 1.0), (200.0, 0.5), (400.0, 1.0), (1200.0, 1.0), (3600.0, 0.8536), (10800.0, 0.1464)],
)
def test_the_authors_learning_rates_restart_and_are_cut_by_the_budget(position: float, factor: float) -> None:
    assert restarting_cosine(position, 400.0) == pytest.approx(factor, abs=1e-4)


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of the small data set's data, in the place of the preset's."""
    monkeypatch.setattr(tested, "PRESET", "digits")
    data_of.cache_clear()
    prepare_data(load_settings("digits", [f"data.root={tmp_path / 'data'}"]).data)
    return tmp_path / "data"


def test_a_kept_network_of_either_side_is_measured_on_the_test_set(digits: Path, tmp_path: Path) -> None:
    from pipeline.training.train import train

    settings = load_settings("digits", [f"data.root={digits}", "training.threads=1", "training.test=all"])
    networks(tmp_path).mkdir()
    authors = Authors(settings, lambda: 0.0)
    spent = iter(range(100))
    authors.now = lambda: float(next(spent))
    error, model = authors.train(TINY, 4.5)  # five steps of a second each
    assert 0 < error < 1
    kept = {"configuration": dict(TINY), "model": model.state_dict()}
    torch.save(kept, networks(tmp_path) / network_name((0, 0, 0), 10.0))
    theirs = measured_test_error(tmp_path, {"config_id": [0, 0, 0], "budget": 10.0}, digits)
    assert 0 < theirs < 1

    folder, evaluation = RunFolder(tmp_path / "run"), Evaluation((0, 0, 1), TINY, 0.2, 1, seed=1)
    folder.path.mkdir()
    result = train(evaluation, settings, folder, data_of(digits), KeptCurve(), WorkerIdentity("w", "h"))
    folder.checkpoint((0, 0, 1), 0.2, 1).rename(networks(tmp_path) / network_name((0, 0, 1), 0.2))
    assert measured_test_error(tmp_path, {"config_id": [0, 0, 1], "budget": 0.2}, digits) == result.info["test_error"]


def test_incumbents_are_those_that_were_better_than_all_before_and_crashes_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "size.json").write_text("{}")
    began = (tmp_path / "size.json").stat().st_mtime
    lines = [
        [[0, 0, i], 10.0, {"submitted": began, "started": began, "finished": began + 10 * (i + 1)},
         None if loss is None else {"loss": loss, "info": {}}, None]
        for i, loss in enumerate([0.5, None, 0.6, 0.4])
    ]  # fmt: skip
    (tmp_path / "run" / "results.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluations = finished(tmp_path / "run", [(0.0, 0.0, 0.0), (100.0, 50.0, 1.0)])
    assert [e["processor_s"] for e in evaluations] == pytest.approx([5.0, 10.0, 15.0, 20.0], abs=1e-3)
    monkeypatch.setattr(run, "measured_test_error", lambda folder, e, root: e["validation_error"] + 0.01)
    found = incumbents(tmp_path, evaluations, tmp_path)
    assert [e["config_id"][2] for e in found] == [0, 3]
    assert [e["test_error"] for e in found] == pytest.approx([0.51, 0.41])


def record(side: str, seed: int, errors: dict[float, float]) -> dict[str, Any]:
    found = [{"processor_s": at, "test_error": error, "budget": 90.0} for at, error in errors.items()]
    return {
        "key": {"side": side, "seed": seed}, "size": {"clock": "processor"}, "wall_s": 200.0, "processor_s": 100.0,
        "evaluations": found, "incumbents": found, "curve_rows": 7,
    }  # fmt: skip


def store(results: Path, *records: dict[str, Any]) -> Path:
    """Records where a machine's results are; returns the folder."""
    for r in records:
        path = results / SIZE.name / Key(**r["key"]).name / "search.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(r))
    return results


def test_the_report_compares_the_seeds_that_every_side_has_and_replaces_what_it_wrote_before(tmp_path: Path) -> None:
    records = [record(STOCK, s, {80.0: 0.4 + s / 5}) for s in (0, 1)] + [record("bohb", s, {20.0: 0.3}) for s in (0, 1)]
    records.append(record("bohb", 2, {1.0: 0.01}))
    store(tmp_path, *records)
    document = tmp_path / "docs" / "page.md"
    document.parent.mkdir()
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.report([tmp_path], SIZE, document)
    first = document.read_text()
    assert f"| {report.TITLES[STOCK]} | 50.0 (10.0) | 1.0 | 1.0 | 80 s (0.80 of the time) | 7 |" in first
    assert f"| {report.TITLES['bohb']} | 30.0 (0.0) | 1.0 | 1.0 | 20 s (0.20 of the time) | 7 |" in first
    assert "| 0 | 40.0 (80) | 30.0 (20) |\n| 1 | 60.0 (80) | 30.0 (20) |\n" in first
    assert "2 seeds a side" in first
    assert "2.0 times its workers' processor time" in first
    assert (document.parent / report.IMAGE).stat().st_size > 1000
    report.report([tmp_path], SIZE, document)
    assert document.read_text() == first
    assert (first.startswith("before\n"), first.endswith("after\n"), "old" in first) == (True, True, False)


def test_searches_that_are_kept_count_on_another_machine_whose_own_take_their_place(tmp_path: Path) -> None:
    first = store(tmp_path / "first", record(STOCK, 0, {80.0: 0.4}), record("bohb", 0, {20.0: 0.3}))
    (first / f"kills-{STOCK}.json").write_text(json.dumps(dict.fromkeys(kills.LINES, "much")))
    repository = tmp_path / "kept"
    kept.keep(first, repository)
    assert len(list(repository.rglob("*.*"))) == 3  # the records, and nothing else
    other = store(tmp_path / "other", record("bohb", 0, {20.0: 0.2}), record(STOCK, 1, {80.0: 0.5}))
    there = kept.stored([repository, other], kept.SEARCH.format(size=SIZE.name, key="*"))
    assert [path.parent.name for path in there] == ["bohb-seed0", "stock-seed0", "stock-seed1"]
    by_side = report.read([repository, other], SIZE)
    assert [r["incumbents"][0]["test_error"] for r in by_side["bohb"]] == [0.2]
    assert [r["incumbents"][0]["test_error"] for r in by_side[STOCK]] == [0.4, 0.5]
    assert list(kills.kill_lines([repository, other])) == list(kills.kill_lines([first])) != []


def test_what_was_not_run_is_said_not_to_have_been(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"{report.BEGIN}\nold\n{report.END}")
    report.report([tmp_path], SIZE, document)
    assert "No searches are stored yet" in document.read_text()
    assert not (tmp_path / report.IMAGE).exists()


def test_before_its_first_incumbent_a_search_is_guessing_and_what_is_never_reached_is_said_to_be() -> None:
    moments = np.array([0.0, 19.0, 20.0, 99.0])
    one = record("gp", 0, {20.0: 0.3, 90.0: 0.2})
    assert report.error_at(one, moments).tolist() == [0.9, 0.9, 0.3, 0.2]
    assert math.isnan(report.time_to_reach([one], 0.1, moments))
    assert np.isnan(report.curve([one], moments)[1]).all()


def test_a_search_that_never_comes_to_its_seeds_reference_has_no_time_in_the_table_of_seeds() -> None:
    by_side = {STOCK: [record(STOCK, 4, {10.0: 0.5, 80.0: 0.2})], "random": [record("random", 4, {50.0: 0.3})]}
    assert list(report.table_of_seeds(by_side, SIZE))[-2] == "| 4 | 20.0 (80) | 30.0 (-) |"


def test_the_table_of_the_kills_has_the_sides_that_were_tried(tmp_path: Path) -> None:
    assert list(kills.kill_lines([tmp_path])) == []
    (tmp_path / f"kills-{STOCK}.json").write_text(json.dumps(dict.fromkeys(kills.LINES, "much")))
    lines = list(kills.kill_lines([tmp_path]))
    assert lines[2] == f"| | {report.TITLES[STOCK]} |"
    assert sum(line.endswith("| much |") for line in lines) == len(kills.LINES)
