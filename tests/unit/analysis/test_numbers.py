"""The numbers behind the figures, on small runs whose answers are known."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from benchmarks.synthetic_run import EPOCH_S, write_synthetic_run
from pipeline.analysis import (
    correlations,
    costs,
    coverage,
    curves,
    exploration,
    importance,
    ranks,
    single_curves,
    style,
    trajectories,
)
from pipeline.analysis.axes import Axis, label_coordinates
from pipeline.analysis.compared import ComparedRun, comparison_figure, duplicate_seeds, mean_trajectory
from pipeline.analysis.comparison import group_name, read_runs
from pipeline.analysis.metric import ERROR, VALIDATION_ERROR
from pipeline.errors import RunError
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from pipeline.storage.results import Results, load_results

LADDER = ["search.min_budget=1", "search.max_budget=27", "search.eta=3"]
WithLosses = Callable[[dict[float, list[float]]], Results]


def test_spearman_is_scipys_and_ties_share_their_rank() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 6, (2, 40)), generator.integers(0, 6, (2, 40))
    for row in range(2):
        assert correlations.spearman(x, y)[row] == pytest.approx(spearmanr(x[row], y[row]).statistic)


def test_only_configurations_on_both_budgets_are_correlated(with_losses: WithLosses) -> None:
    nan = math.nan
    low = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    high = [0.5, nan, 0.4, 0.3, 0.2, nan]
    row = correlations.rank_correlations(with_losses({1.0: low, 3.0: high})).iloc[0]
    assert (row["n"], row["correlation"]) == (4, -1.0)
    assert math.isnan(row["low"])  # four pairs give no interval


def test_the_bootstrap_interval_holds_the_true_correlation_about_as_often_as_it_says(results: Results) -> None:
    # Bivariate normal with Pearson r: Spearman's rho is 6/pi asin(r/2).
    generator = np.random.default_rng(3)
    r, held = 0.6, 0
    for seed in range(60):
        x = generator.standard_normal(60)
        y = r * x + math.sqrt(1 - r**2) * generator.standard_normal(60)
        low, high = correlations._bootstrap(np.column_stack([x, y]), correlations.spearman, np.random.default_rng(seed))
        held += low <= 6 / math.pi * math.asin(r / 2) <= high
    assert 51 <= held <= 60


def test_kendalls_tau_is_an_option(with_losses: WithLosses) -> None:
    run = with_losses({1.0: [0.1, 0.2, 0.3, 0.4], 3.0: [0.1, 0.2, 0.4, 0.3]})
    assert correlations.rank_correlations(run, "kendall")["correlation"].tolist() == [pytest.approx(4 / 6)]


def test_a_run_with_too_few_on_two_budgets_says_so(with_losses: WithLosses) -> None:
    section = correlations.section(with_losses({1.0: [0.1, 0.2], 3.0: [0.3]}))
    assert "Only 1 configuration has finished on two budgets; 4 are needed." in section.items[0].lacking


def test_a_trajectory_holds_only_improvements(with_losses: WithLosses) -> None:
    run = with_losses({1.0: [0.5, 0.6, 0.4, 0.4], 3.0: [0.9, 0.45]})
    path = trajectories.trajectory(run, 1.0)
    assert path["loss"].tolist() == [0.5, 0.4]
    assert path["evaluations"].tolist() == [1, 3]
    # Overall: the first result on a larger budget replaces what was there, as worse as it may be.
    overall = trajectories.trajectory(run)
    assert overall["loss"].tolist() == [0.5, 0.4, 0.9, 0.45]
    assert overall["budget"].tolist() == [1, 1, 3, 3]


def test_the_last_incumbent_is_the_best_on_the_largest_budget(results: Results) -> None:
    done = results.finished()
    best = done.loc[done.loc[done["budget"] == max(results.budgets), "loss"].idxmin()]
    last = trajectories.trajectory(results).iloc[-1]
    assert (last["config_id"], last["loss"]) == (best["config_id"], best["loss"])


def test_spent_seconds_are_the_time_that_workers_were_busy(results: Results) -> None:
    attempts = results.attempts.head(3).copy()
    attempts["started"] = EPOCH_S + np.array([0.0, 5.0, 20.0])
    attempts["ended"] = EPOCH_S + np.array([10.0, 15.0, 30.0])
    run = replace(results, attempts=attempts)
    spent = trajectories.spent_seconds(run, EPOCH_S + np.array([0.0, 5.0, 10.0, 17.0, 25.0, 99.0]))
    np.testing.assert_allclose(spent, [0, 5, 15, 20, 25, 30], atol=1e-6)


def test_the_parts_of_the_cost_add_up_to_the_worker_time(results: Results) -> None:
    parts = costs.time_parts(results)
    np.testing.assert_allclose(
        parts.drop(columns="budget").sum(axis=1), results.attempts["wall_s"].fillna(0), rtol=0.03
    )
    assert parts["training lost"].sum() == pytest.approx(results.attempts["lost_s"].sum())
    assert parts["training lost"].sum() > 0


def test_no_worker_is_busier_than_all_the_time(results: Results) -> None:
    table = costs.utilisation(results)
    assert table["worker"].tolist() == ["w0", "w1", "w2", "w3"]
    assert ((table["share"] > 0.3) & (table["share"] <= 1)).all()


def test_crossings_count_the_pairs_that_change_their_order() -> None:
    assert ranks.crossings([1, 2, 3], [1, 2, 3]) == (0, 3)
    assert ranks.crossings([1, 2, 3], [3, 2, 1]) == (3, 3)
    assert ranks.crossings([1, 2, 3], [2, 1, 3]) == (1, 3)


def test_coverage_tells_an_even_sample_from_a_concentrated_one() -> None:
    axes = [Axis("a", "a"), Axis("b", "b"), Axis("n", "n", choices=(1, 2), coordinates=(0.0, 1.0), masses=(0.5, 0.5))]
    grid = np.linspace(0.05, 0.95, 10)
    even = np.array([(x, y, n) for x in grid for y in grid for n in (0.0, 1.0)])
    alone, pairs = coverage.coverage(even, axes)
    np.testing.assert_allclose(alone, 1.0)
    assert pairs == 1.0
    alone, pairs = coverage.coverage(np.tile([0.5, 0.5, 0.0], (50, 1)), axes)
    np.testing.assert_allclose(alone, [0.1, 0.1, 0.5])
    assert pairs == pytest.approx(np.mean([1 / 100, 1 / 20, 1 / 20]))
    inactive = np.array([[math.nan, 0.5, 0.0]])
    assert coverage.coverage(inactive, axes)[0][1] == pytest.approx(0.1)


def compared(folder: Path, method: str, seed: int, *more: str) -> Path:
    overrides = [f"search.method={method}", f"seed={seed}", "search.iterations=4", "workers.count=2"]
    settings = load_settings("digits", [*LADDER, *overrides, *more])
    return collect(write_synthetic_run(folder / f"{method}-{seed}", settings, seed=seed, max_rows=2))


def test_runs_are_grouped_by_method_and_averaged_over_seeds(tmp_path: Path) -> None:
    paths = [compared(tmp_path, method, seed) for method in ("bohb", "random") for seed in (0, 1)]
    found = read_runs(paths)
    runs = found.runs
    assert (found.dataset, found.budget) == (
        "digits",
        style.budget_label(load_results(paths[0]).budgets[-1], "seconds"),
    )
    assert [run.group for run in runs] == ["BOHB", "BOHB", "random search", "random search"]
    pair = runs[:2]
    mean = mean_trajectory(pair, "evaluations")
    last = [run.path[run.path["evaluations"] <= mean["evaluations"].iloc[-1]]["loss"].iloc[-1] for run in pair]
    assert mean["mean"].iloc[-1] == pytest.approx(np.mean(last))
    assert mean["standard_error"].iloc[-1] == pytest.approx(abs(last[0] - last[1]) / 2)


def test_what_else_differs_between_runs_of_one_method_names_their_groups() -> None:
    settings = [
        load_settings("digits", [f"search.random_fraction={f}", f"training.memory_gb={10 * f}"]).model_dump(mode="json")
        for f in (0.1, 0.5)
    ]
    assert group_name(settings[0], settings) == "BOHB, random_fraction=0.1"


def test_what_differs_between_methods_is_not_taken_for_the_methods_own() -> None:
    settings = [
        load_settings("digits", [f"search.method={m}", f"search.promotion={p}", f"search.num_samples={n}"]).model_dump(
            mode="json"
        )
        for m, p, n in (("bohb", "continue", 64), ("random", "restart", 32))
    ]
    names = [group_name(one, settings) for one in settings]
    assert names == ["BOHB, promotion=continue", "random search, promotion=restart"]


def test_runs_on_different_budgets_are_not_compared(tmp_path: Path) -> None:
    one = compared(tmp_path, "bohb", 0)
    other = compared(tmp_path, "bohb", 1, "search.max_budget=9")
    with pytest.raises(RunError, match=r"one largest budget.*bohb-0: digits, .*; bohb-1: digits, 9 seconds"):
        read_runs([one, other])


@pytest.mark.parametrize(
    ("budget", "unit", "label"),
    [(400, "seconds", "400 s"), (1200, "seconds", "1200 s"), (3600, "seconds", "1 h"), (10800, "seconds", "3 h"),
     (0.4, "seconds", "0.4 s"), (9, "epochs", "9 epochs"), (1, "epochs", "1 epoch"), (1, "batches", "1 batch")],
)  # fmt: skip
def test_budgets_are_written_as_on_the_poster(budget: float, unit: str, label: str) -> None:
    assert style.budget_label(budget, unit) == label


def test_configurations_table_and_figures_name_hyperparameters_alike(results: Results) -> None:
    frame = coverage.coverages(results, exploration.read_axes(results.configspace, list(results.hyperparameters)))
    assert isinstance(frame, pd.DataFrame)
    assert set(results.hyperparameters) < set(frame.columns)


def test_integers_with_many_values_fill_equal_bins_whatever_single_precision_does() -> None:
    axis = exploration.read_axes(
        {"hyperparameters": [{"name": "n", "type": "uniform_int", "lower": 0, "upper": 19, "log": False}]}
    )[0]
    assert coverage.bin_numbers(axis, np.array(axis.coordinates)).tolist() == [n // 2 for n in range(20)]


def test_points_at_zero_are_drawn_on_a_logarithmic_axis_which_says_so() -> None:
    _figure, axes = style.new_figure(2)
    axis = axes[0, 0]
    axis.plot([1, 2, 3], [4.0, 2.0, 0.0])
    points = axis.scatter([1, 2], [0.0, 3.0])
    style.metric_axis(axis, ERROR, ERROR.label)
    assert axis.lines[0].get_ydata().tolist() == [4, 2, 1]
    assert points.get_offsets()[:, 1].tolist() == [1, 3]
    assert axis.get_ylabel() == "error (%); 0 drawn at 1"
    assert axis.get_ylim()[0] <= 1


def test_the_best_configurations_are_shown_when_one_makes_no_error(results: Results) -> None:
    evaluations = results.evaluations.copy()
    done = evaluations[(evaluations["status"] == "finished") & (evaluations["budget"] == max(results.budgets))]
    evaluations.loc[done.index[0], "loss"] = 0.0
    items = exploration.section(replace(results, evaluations=evaluations)).items
    item = next(item for item in items if item.name == "parallel_coordinates")
    assert item.data is not None
    assert item.data["config_id"].iloc[0] == done["config_id"].iloc[0]


def test_a_narrowed_space_makes_a_group_of_its_own_and_the_place_of_the_data_does_not() -> None:
    overrides = (["space.batch_size=[32, 64]", "data.root=/a"], ["data.root=/b"])
    settings = [load_settings("digits", each).model_dump(mode="json") for each in overrides]
    assert [group_name(s, settings) for s in settings] == ["BOHB, batch_size=[32, 64]", "BOHB, batch_size=default"]


def test_a_run_given_twice_is_refused_and_a_seed_run_twice_is_told(tmp_path: Path) -> None:
    one = compared(tmp_path, "bohb", 0)
    with pytest.raises(RunError, match="Given more than once: bohb-0"):
        read_runs([one, one])
    run = read_runs([one]).runs[0]
    assert duplicate_seeds({"BOHB": [run, replace(run, seed=1)]}) == ()
    assert "several runs have seed 0" in duplicate_seeds({"BOHB": [run, replace(run, run_id="again")]})[0]


def run_of(name: str, times: list[float], errors: list[float], end: float) -> ComparedRun:
    """A run of one group whose incumbents were found at these times."""
    columns = ("time_s", "spent_s", "evaluations")
    path = pd.DataFrame({**dict.fromkeys(columns, times), "loss": errors, "test_error": errors}, dtype=float)
    return ComparedRun(name, "BOHB", len(name), path, end, end, end)


def test_a_mean_trajectory_has_a_step_at_every_improvement_however_early() -> None:
    mean = mean_trajectory([run_of("a", [1, 2, 900], [0.8, 0.4, 0.1], 1000), run_of("bb", [3], [0.2], 990)], "time_s")
    assert mean["time_s"].tolist() == [3, 900, 990]
    np.testing.assert_allclose(mean["mean"], [0.3, 0.15, 0.15])


def test_a_run_without_a_result_does_not_hide_the_others_of_its_group() -> None:
    item = comparison_figure([run_of("a", [1, 5], [0.4, 0.2], 9), run_of("bb", [], [], 0)], "3 h", VALIDATION_ERROR)
    assert item.data is not None
    assert set(item.data["n"]) == {1}
    assert item.caption.endswith("Left out, without a result on 3 h yet: bb.")


def test_runs_that_do_not_overlap_have_no_mean() -> None:
    item = comparison_figure([run_of("a", [1], [0.4], 2), run_of("bb", [5], [0.2], 9)], "3 h", VALIDATION_ERROR)
    assert (item.figure, item.data) == (None, None)
    assert "no mean can be taken" in item.lacking


def test_a_run_that_has_not_validated_anything_yet_says_so(results: Results) -> None:
    blind = replace(results, learning_curves=results.learning_curves.assign(validation_error=np.nan))
    assert curves.all_curves(blind).lacking == "Nothing has been measured on the validation set yet."


def test_an_attempt_that_was_lost_before_it_wrote_a_file_has_its_cost(results: Results, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(results.path.parent, tmp_path / "run")))
    lost = results.attempts[(results.attempts["outcome"] == "lost") & (results.attempts["lost_s"] > 0)].iloc[0]
    (folder.path / lost["file"]).unlink()
    parts = costs.time_parts(load_results(collect(folder))).drop(columns="budget")
    attempts = results.attempts
    assert parts.to_numpy().sum() == pytest.approx((attempts["ended"] - attempts["started"]).sum(), rel=1e-3)
    assert parts["training lost"].sum() == pytest.approx(attempts["lost_s"].sum())


def test_no_error_bar_of_a_share_leaves_what_a_share_can_be() -> None:
    _figure, axes = style.new_figure(2)
    importance._bars(axes[0, 0], pd.Series([0.1, 0.7]), pd.Series([0.3, 0.4]), style.BLUE)
    (lines,) = axes[0, 0].collections
    np.testing.assert_allclose([segment[:, 0] for segment in lines.get_segments()], [[0, 40], [30, 100]], atol=1e-9)


def test_a_hyperparameter_of_two_values_has_each_of_them_as_a_tick_once() -> None:
    _figure, axes = style.new_figure(2)
    axis = Axis("n", "n", choices=(1, 2), coordinates=(0.0, 1.0), masses=(0.5, 0.5), lower=1, upper=2)
    label_coordinates(axis, axes[0, 0].xaxis)
    assert [text.get_text() for text in axes[0, 0].get_xticklabels()] == ["1", "2"]


def test_a_caption_speaks_of_rungs_only_where_the_incumbent_went_through_some(results: Results) -> None:
    best = trajectories.trajectory(results).iloc[-1]
    row = results.evaluations[
        (results.evaluations["config_id"] == best["config_id"]) & (results.evaluations["budget"] == best["budget"])
    ]
    below = results.curve(int(row.index[0]))["rung"] < best["budget"]
    assert ("dotted" in single_curves.incumbent_curve(results).caption) == below.any()
    alone = replace(results, learning_curves=results.learning_curves.assign(rung=best["budget"]))
    assert "dotted" not in single_curves.incumbent_curve(alone).caption
