"""What figures stand on and what their captions say: the data and the texts, not the pixels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pipeline.analysis import (
    compared,
    comparison,
    correlations,
    curves,
    exploration,
    figure_files,
    marginals,
    metric,
    poster,
    quantiles,
    ranks,
    single_curves,
    style,
    throughput,
    trajectories,
    utilisation,
)
from pipeline.analysis.axes import Axis, ordered, read_axes
from pipeline.analysis.compared import ComparedRun
from pipeline.analysis.importance import fit_budgets, ranking
from pipeline.errors import RunError
from pipeline.storage.results import Results
from pipeline.storage.tables import incumbents
from pipeline.wording import value_text

WithLosses = Callable[[dict[float, list[float]]], Results]
NAN = float("nan")


# Metric ---------------------------------------------------------------------------------------------------------------
def test_a_metric_writes_its_own_numbers() -> None:
    error, loss = metric.VALIDATION_ERROR, metric.WrittenMetric("loss", unit="", factor=1.0, digits=3)
    assert (error.label, error.text(0.0333), error.text(NAN)) == ("validation error (%)", "3.33%", "–")
    assert (loss.label, loss.text(1.5), loss.label_of("loss on 3 h")) == ("loss", "1.500", "loss on 3 h")
    assert error.mean_text(np.array([0.1, 0.2])) == "15.00 ± 5.00"
    assert error.mean_text(np.array([0.1])) == "10.00 (one run)"


# Axes -----------------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(st.floats(-7, 7), st.floats(0.02, 9), st.sampled_from([1.2, 2.0, 6.0]))
def test_a_logarithmic_axis_has_at_least_two_numbers_and_no_more_than_have_room(
    low: float, decades: float, width_in: float
) -> None:
    figure = Figure(figsize=(width_in, 2))
    side = figure.subplots().xaxis
    side.axes.set_xscale("log")
    style.plain_log_ticks(side)
    limits = 10**low, 10 ** (low + decades)
    side.axes.set_xlim(limits)
    shown = [tick for tick in side.get_majorticklocs() if limits[0] <= tick <= limits[1]]
    assert 2 <= len(shown) <= max(side.get_tick_space(), 5)


# Curves ---------------------------------------------------------------------------------------------------------------
def test_a_curves_points_are_its_own_rungs_and_the_one_it_went_on_from(results: Results) -> None:
    points = curves.curve_points(results)
    promoted = results.evaluations[results.evaluations["continued_from"].str.startswith("rung")]
    number = int(promoted.index[0])
    mine = points[points["evaluation"] == number]
    whole = results.curve(number).dropna(subset=["validation_error"])
    own = whole[whole["rung"] == mine["budget"].iloc[0]]
    before = whole[whole["rung"] < mine["budget"].iloc[0]]
    assert mine["training_s"].tolist() == [before["training_s"].iloc[-1], *own["training_s"]]
    assert mine["loss"].tolist() == [before["validation_error"].iloc[-1], *own["validation_error"]]


def test_the_caption_of_the_curves_counts_those_that_are_drawn(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = curves.curve_points(results)
    assert f"of {points['evaluation'].nunique()} evaluations" in curves.curves_caption(results, points)
    assert "quantile" not in curves.curves_caption(results, points)
    monkeypatch.setattr(curves, "MAX_CURVES", 5)
    assert "quantile of all curves" in curves.curves_caption(results, points)


def test_quantiles_of_curves_count_each_curve_only_where_it_is() -> None:
    lines = [np.array([[1.0, v], [10.0, v]]) for v in range(9)] + [np.array([[1.0, 100.0], [2.0, 100.0]])]
    table = quantiles.curve_quantiles(lines, points=20)
    assert table["n"].iloc[0] == 10
    assert table["n"].iloc[-1] == 9
    assert table["middle"].iloc[-1] == 4
    assert quantiles.curve_quantiles([]).empty


def test_quantiles_of_points_hold_about_as_many_points_in_every_bin() -> None:
    x = np.arange(1000.0)
    table = quantiles.binned_quantiles(x, x % 10, bins=10)
    assert table["n"].tolist() == [100] * 10
    assert table["middle"].tolist() == [4.5] * 10


def test_a_cloud_is_widest_where_values_are_most_frequent() -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal(4000)
    shifts = np.abs(quantiles.density_jitter(values, 1.0, generator))
    assert shifts[np.abs(values) < 0.3].max() > 4 * shifts[np.abs(values) > 2.5].max()


def test_a_row_of_a_partial_epoch_is_no_point_of_the_training_curve() -> None:
    curve = pd.DataFrame({"batches": [100, 200, 300, 303], "training_error": [0.5, 0.4, 0.3, 0.9]})
    assert single_curves.whole_rows(curve)["training_error"].tolist() == [0.5, 0.4, 0.3]


def test_rows_that_come_more_often_from_some_moment_on_stay_on_the_training_curve() -> None:
    batches = np.cumsum([100] * 30 + [20] * 20 + [3])
    curve = pd.DataFrame({"batches": batches, "training_error": np.arange(51.0)})
    kept = single_curves.whole_rows(curve)["training_error"]
    assert kept.iloc[-1] == 49
    assert set(range(30)) <= set(kept)
    assert len(kept) >= 45


def test_the_learning_rate_is_that_of_the_schedule_and_starts_again_on_every_rung(results: Results) -> None:
    best = results.finished().sort_values("curve_length").iloc[-1]
    curve = results.curve(int(best.name))
    rates = single_curves.learning_rates(results, curve, 0.1)
    assert rates is not None
    ends = curve.groupby("rung")["training_s"].max()
    assert int(rates["learning_rate"].isna().sum()) == len(ends)
    just_after = rates[rates["training_s"] > ends.iloc[0]].iloc[0] if len(ends) > 1 else rates.iloc[0]
    assert just_after["learning_rate"] > 0.09
    assert single_curves.learning_rates(replace(results, settings={"unknown": 1}), curve, 0.1) is None


# Ranks ----------------------------------------------------------------------------------------------------------------
def test_a_share_of_few_pairs_is_given_as_a_count() -> None:
    assert ranks.counted(1, 6) == "1 of 6 pairs"
    assert ranks.counted(30, 100) == "30 of 100 pairs (30%)"


def test_only_as_many_are_called_the_best_as_an_eye_can_follow() -> None:
    assert [ranks.best_count(n) for n in (3, 16, 150)] == [1, 3, 10]


def test_the_caption_of_the_ranks_says_how_many_are_drawn(with_losses: WithLosses) -> None:
    many = [i / 100 for i in range(40)]
    run = with_losses({1.0: many, 3.0: many[::-1]})
    caption = ranks.ranks_caption(run, ranks.ranks(run))
    assert "Ranks of the 40 configurations" in caption
    assert "the best 30 of them drawn" in caption
    assert "1 s to 3 s 780 of 780 pairs (100%)" in caption


def test_budgets_without_a_result_yet_do_not_hide_the_ranks_on_the_others(with_losses: WithLosses) -> None:
    run = with_losses({1.0: [0.1, 0.2, 0.3], 3.0: [0.3, 0.2, 0.1], 9.0: [0.1]})
    assert ranks.ranks(run).to_dict("list") == {1.0: [1, 2, 3], 3.0: [3, 2, 1]}


def test_a_configuration_across_its_budgets_is_said_to_have_finished_where_it_did(results: Results) -> None:
    running = single_curves.across_caption(results, 0, begun=4, finished=3, candidates=6)
    assert "on its 4 budgets (1 not finished)" in running
    assert "the best of the 6 configurations that finished on 3 budgets" in running
    alone = single_curves.across_caption(results, 0, begun=2, finished=2, candidates=1)
    assert "not finished" not in alone
    assert "the only configuration that finished on 2 budgets" in alone


# Correlation ----------------------------------------------------------------------------------------------------------
def test_negative_correlations_differ_in_colour_and_few_configurations_are_pale() -> None:
    norm = Normalize(-1, 1)
    weak, strong = (correlations.cell_colour(v, 50, norm) for v in (-0.63, -0.81))
    assert np.abs(weak - strong).max() > 0.1
    pale = correlations.cell_colour(-0.81, 5, norm)
    assert pale.min() > strong.min() + 0.3
    assert correlations.cell_colour(0.0, 50, norm).min() > 0.9


# What a budget bought -------------------------------------------------------------------------------------------------
def bought(results: Results, **columns: object) -> pd.DataFrame:
    return throughput.bought(replace(results, evaluations=results.evaluations.assign(**columns)))  # type: ignore[arg-type]


def test_a_quiet_run_has_no_warning_about_its_budgets(results: Results) -> None:
    data = bought(results, images_per_s=1000.0, batches_here=100.0, overshoot=0.01)
    assert throughput.throughput_warnings(results, data) == ()


def test_overshoot_few_batches_and_a_drifting_machine_are_told_with_the_budgets_that_suffer(results: Results) -> None:
    is_small = results.evaluations["budget"] == 1
    generator = np.random.default_rng(0)
    data = bought(
        results,
        overshoot=np.where(is_small, 3.0, 0.0),
        batches_here=np.where(is_small, 1.0, 100.0),
        images_per_s=generator.uniform(300, 1400, len(results.evaluations)),
    )
    late, few, drift = throughput.throughput_warnings(results, data)
    count = int((data["budget"] == 1).sum())
    assert late.startswith(f"{count} of {count} evaluations on 1 s trained more than 20% beyond")
    assert few.startswith(f"{count} of {count} evaluations on 1 s had fewer than 10 batches")
    assert "The machine did not keep its speed" in drift


def test_a_rung_of_few_batches_is_not_said_to_end_at_a_learning_rate_of_zero(results: Results) -> None:
    few = results.evaluations.assign(batches_here=np.where(results.evaluations["budget"] == 1, 7.0, 500.0))
    note = throughput.short_schedule_note(replace(results, evaluations=few))
    assert "on 1 s (median 7)" in note
    assert "3 s" not in note
    assert throughput.short_schedule_note(replace(results, evaluations=few.assign(batches_here=99.0))) == ""


# Exploration ----------------------------------------------------------------------------------------------------------
def test_the_best_configurations_are_never_all_of_them(results: Results) -> None:
    best = exploration.best_configurations(results)
    there = results.finished()
    there = there[there["budget"] == there["budget"].max()]
    assert 1 <= len(best) <= max(1, len(there) // 4)
    assert best["loss"].is_monotonic_increasing
    assert f"the {len(best)} best of {len(there)} configurations" in exploration.parallel_caption(results, best)


def test_the_search_space_is_a_table_with_the_incumbents_values(results: Results) -> None:
    axes = read_axes(results.configspace, ordered(results.hyperparameters))
    item = exploration.search_space(results, axes)
    assert item.table is not None
    table = item.table.set_index("name")
    assert len(table) == 17
    assert table.loc["weight_decay", "range"] == "1e-5 to 1e-3"
    assert table.loc["weight_decay", "kind"] == "number, logarithmic"
    assert table.loc["cutout_length", "range"] == "0 to 2"
    assert (table["incumbent"] != "–").all()


def test_whole_numbers_are_shifted_by_less_than_half_the_way_to_the_next() -> None:
    axis = Axis("n", "n", choices=(1, 2, 3), coordinates=(0.0, 0.5, 1.0), masses=(0.3, 0.3, 0.4))
    assert 0 < np.abs(axis.jitter(200)).max() < 0.25
    assert (Axis("x", "x").jitter(5) == 0).all()


def test_numbers_of_one_axis_are_written_alike() -> None:
    assert [style.plain_number(v, 1e-5) for v in (1e-5, 1e-4, 1e-3)] == ["1e-5", "1e-4", "1e-3"]
    assert [style.plain_number(v, 0.5) for v in (0.5, 2.0, 128.0)] == ["0.5", "2", "128"]
    assert [value_text(v, 3) for v in (2.914e-5, 1.7e-24, 0.5, 64.0)] == ["2.91e-5", "1.7e-24", "0.5", "64"]


def test_text_on_a_colour_is_the_more_legible_of_white_and_black() -> None:
    assert {style.ink_on(colour) for colour in ("white", "yellow", "#4393c3")} == {"black"}
    assert {style.ink_on(colour) for colour in ("#3182bd", "#08306b", "black")} == {"white"}
    assert style.ink_on("black", alpha=0.1) == "black"


# Importance -----------------------------------------------------------------------------------------------------------
def test_all_marginals_of_a_budget_lie_within_its_common_limits(results: Results) -> None:
    fit = next(iter(fit_budgets(results)[0].values()))
    low, high = marginals.common_limits(fit)
    for axis in fit.axes:
        _, mean, spread = fit.curve(axis.name, 30)
        assert low <= (mean - spread).min()
        assert (mean + spread).max() <= high


# Workers --------------------------------------------------------------------------------------------------------------
def test_workers_are_sorted_as_people_count() -> None:
    assert sorted(["w10", "w2", "w1", "a-3"], key=style.natural) == ["a-3", "w1", "w2", "w10"]


def test_busy_seconds_are_those_inside_each_piece_of_time() -> None:
    edges = np.array([0.0, 10.0, 20.0, 30.0])
    busy = utilisation.busy_seconds(np.array([5.0, 22.0]), np.array([12.0, 25.0]), edges)
    assert busy.tolist() == [5, 2, 3]


def test_too_many_attempts_for_bars_are_drawn_as_shares_of_the_same_time(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = utilisation.gantt(results)
    monkeypatch.setattr(utilisation, "MAX_BARS", 3)
    shares = utilisation.gantt(results)
    assert shares.figure is not None
    over_time, per_worker = shares.figure.axes
    spans, workers = utilisation.attempt_spans(results), utilisation.utilisation(results)
    spent = (spans["end_s"] - spans["begin_s"]).groupby(spans["worker"]).sum()
    end_s = float(workers["left"].max()) - trajectories.start_time(results)
    busy = over_time.patches[-1].get_data().values  # type: ignore[attr-defined]
    assert busy.sum() * end_s / utilisation.PIECES == pytest.approx(spent.sum())
    present = (workers["left"] - workers["joined"]).to_numpy()
    shown = per_worker.patches[-1].get_data().values  # type: ignore[attr-defined]
    assert shown == pytest.approx(100 * spent[workers["worker"]].to_numpy() / present)
    assert bars.caption.partition(". ")[2] in shares.caption


# Trajectories ---------------------------------------------------------------------------------------------------------
def test_the_caption_of_the_errors_over_time_names_the_overall_incumbent(results: Results) -> None:
    done = trajectories.finished_over_time(results)
    best = trajectories.trajectory(results)
    caption = trajectories.over_time_caption(results, done, best)
    assert f"Overall incumbent: {best['config_id'].iloc[-1]} on 27 s with" in caption
    assert f"one of {len(done)} finished evaluations" in caption


# The poster's table ---------------------------------------------------------------------------------------------------
def test_a_table_without_a_training_says_how_to_make_one_and_nothing_of_the_poster(results: Results) -> None:
    item = poster.results_table(results)
    assert item.table is None
    assert f"make baselines RUN={results.run_id}" in item.lacking


# Comparison -----------------------------------------------------------------------------------------------------------
def run_of(group: str, seed: int, error: float) -> ComparedRun:
    path = pd.DataFrame({"time_s": [1.0], "spent_s": [1.0], "evaluations": [1.0], "loss": [error], "test_error": [NAN]})
    return ComparedRun(f"{group}-{seed}", group, seed, path, 9.0, 9.0, 9.0)


def runs_of(count: int) -> list[ComparedRun]:
    return [run_of(g, s, e + s / 1000) for s in range(count) for g, e in (("BOHB", 0.1), ("random", 0.2))]


def test_groups_are_compared_seed_by_seed() -> None:
    test = compared.paired_tests(runs_of(8)).iloc[0]
    assert (test["n"], test["wins"], test["ties"]) == (8, 8, 0)
    assert test["difference"] == pytest.approx(-0.1)
    assert test["p"] == pytest.approx(2 / 2**8)
    assert np.isnan(compared.paired_tests(runs_of(5)).iloc[0]["p"])
    assert compared.mean_ranks(runs_of(4)) == {"BOHB": 1.0, "random": 2.0}


def test_seeds_that_a_group_lacks_are_not_ranked() -> None:
    runs = [*runs_of(3), run_of("BOHB", 7, 0.9)]
    assert len(compared.shared_ends(runs)) == 3
    item = compared.comparison_table(runs, "3 h", metric.VALIDATION_ERROR)
    assert item.table is not None
    assert item.table["mean rank"].tolist() == ["1.00", "2.00"]
    assert "over the 3 seeds that every group has" in item.caption


def test_runs_that_maximise_a_score_are_compared_by_it() -> None:
    score = metric.WrittenMetric("score", "points", -1.0, None, False, "score")
    runs = [run_of(g, s, -loss) for s in range(6) for g, loss in (("BOHB", 60.0 + s), ("random", 50.0))]
    table = compared.ends_table(runs, score)
    assert table["score (points)"].str.split(" ").str[0].tolist() == ["62.5", "50"]
    assert table["mean rank"].tolist() == ["1.00", "2.00"]
    assert "test error (%)" not in table
    paired = compared.paired_table(runs, "9 epochs", score)
    assert paired.table is not None
    assert paired.table["mean difference (points)"].tolist() == ["12.5"]
    assert "a positive difference: the first group is better" in paired.caption
    drawn = compared.draw_comparison(runs, compared.comparison_data(runs), score)
    assert drawn.axes[0].get_ylabel() == "score (points)"
    assert drawn.axes[0].get_ylim()[1] > 60


def test_a_comparison_does_not_write_over_that_of_other_runs(tmp_path: Path) -> None:
    runs = runs_of(2)
    (tmp_path / "tables").mkdir()
    (tmp_path / "comparison.html").touch()
    (tmp_path / "tables" / "compared_runs.csv").write_text("run\nBOHB-0\n")
    with pytest.raises(RunError, match="holds the comparison of BOHB-0"):
        comparison._require_own(tmp_path, runs)
    comparison._require_own(tmp_path, runs[:1])
    assert comparison.comparison_name(["a", "b"]) == comparison.comparison_name(["b", "a"])
    assert comparison.comparison_name(["a"]) != comparison.comparison_name(["b"])


def test_warnings_are_written_into_the_figure_below_what_it_shows() -> None:
    figure, _ = style.new_figure(2.0)
    foot = figure_files.write_warnings(figure, ["do not believe this"])
    assert [text.get_text() for text in figure.texts] == ["Warning: do not believe this"]
    assert figure.get_size_inches()[1] * (1 - foot) == pytest.approx(2.0)


def test_curves_and_marginals_have_a_place_for_a_configuration(results: Results) -> None:
    best = int(incumbents(results).index[-1])
    incumbent = single_curves.incumbent_curve(results)
    assert [mark.rows.tolist() for mark in incumbent.marks] == [[best]]
    across = single_curves.across_budgets(results)
    assert across.data is not None
    assert len(across.marks) == across.data["budget"].nunique()
    assert len({results.evaluations["config_id"][mark.rows[0]] for mark in across.marks}) == 1
    fits, _ = fit_budgets(results)
    drawing = marginals.draw_marginals(results, fits, ranking(fits)[:1])
    for (budget, fit), mark in zip(fits.items(), drawing.marks, strict=True):
        assert (results.evaluations["budget"][mark.rows] == budget).all()
        grid, mean, _ = fit.curve(ranking(fits)[0])
        known = ~np.isnan(mark.x)
        assert known.any()
        np.testing.assert_allclose(mark.y[known], 100 * np.interp(mark.x[known], grid, mean))
