"""What costs what, what the model is worth, and what lies around the winner; and runs of the user's own problems."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipeline.analysis import curves, local, metric, style, trajectories, views, winner
from pipeline.analysis.fanova import Fanova
from pipeline.analysis.importance import fit_budgets, ranking
from pipeline.problems.description import Description
from pipeline.storage.results import Results
from tandem_trial.problem import Metric

WithLosses = Callable[[dict[float, list[float]]], Results]
NAN = float("nan")


@pytest.fixture(scope="module")
def fit(results: Results) -> Fanova:
    return next(iter(fit_budgets(results)[0].values()))


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    costs = np.array([1.0, 2.0, 2.0, 3.0, 0.5, NAN])
    losses = np.array([0.5, 0.2, 0.1, 0.3, 0.9, 0.0])
    assert views.front(costs, losses, True).tolist() == [True, False, True, False, True, False]
    assert views.front(costs, losses, False).tolist() == [False, False, True, True, False, False]


def test_the_caption_of_the_fronts_counts_them(results: Results) -> None:
    item = views.pareto(results)
    assert item.data is not None
    count = int(item.data["on_front_of_parameters"].sum())
    assert count >= 1
    assert f"the fronts ({count}, " in item.caption


def test_the_rungs_table_counts_every_evaluation_once(results: Results) -> None:
    table = views.rungs_table(results)
    assert table["evaluations"].astype(int).sum() == len(results.evaluations)
    assert table["finished"].astype(int).sum() == len(results.finished())
    assert table["promoted"].iloc[-1] == "–"
    above = results.evaluations[results.evaluations["budget"] == results.budgets[1]]["configuration"]
    below = results.evaluations[results.evaluations["budget"] == results.budgets[0]]["configuration"]
    assert int(table["promoted"].iloc[0]) == len(set(above) & set(below))


def test_proposals_of_the_model_are_held_against_random_ones(results: Results, with_losses: WithLosses) -> None:
    count = 12
    run = with_losses({1.0: [i / 100 for i in range(1, count + 1)]})
    is_model = np.zeros(len(run.configurations), dtype=bool)
    is_model[: count // 2] = True
    run = replace(run, configurations=run.configurations.assign(model_based=is_model))
    row = views.proposal_tests(run).iloc[0]
    assert (row["n_model"], row["n_random"], row["chance"]) == (6, 6, 1.0)
    assert row["p"] == pytest.approx(0.0022, abs=1e-4)
    alone = replace(run, configurations=run.configurations.assign(model_based=False))
    assert "has not proposed anything yet" in views.proposals(alone).lacking


def test_only_configurations_on_two_budgets_have_a_way_up(with_losses: WithLosses) -> None:
    run = with_losses({1.0: [0.3, 0.2, 0.5], 3.0: [0.1, NAN, 0.4], 9.0: [0.05]})
    item = views.funnel(run)
    assert item.data is not None
    assert item.data["config_id"].tolist() == run.configurations["config_id"].iloc[[0, 2]].tolist()
    assert "of 2 configurations that finished on two or more; in blue, the 1 that" in item.caption


def test_many_ways_up_are_drawn_as_quantiles(with_losses: WithLosses) -> None:
    few, many = (
        views.funnel(with_losses({100.0: list(range(1, n + 1)), 300.0: [0.5] * (n // 4) + [NAN] * (n - n // 4)}))
        for n in (40, 4 * views.MOST_WAYS + 4)
    )
    for item, lines in ((few, 10), (many, 2)):
        assert item.figure is not None
        assert len(item.figure.axes[0].lines) == lines
        assert ("quantile" in item.caption) == (item is many)
    assert len(many.marks[0].rows) == views.MOST_WAYS + 1


def test_an_ablation_goes_from_the_default_to_the_winner_in_the_best_order(results: Results, fit: Fanova) -> None:
    best = results.finished().sort_values("loss").iloc[0]
    path = local.ablation(fit, best)
    assert path["step"].tolist() == list(range(len(path)))
    assert path["name"].iloc[1:].is_unique
    end = local.predicted(fit, local.coordinates_of(fit, best)[None, :])[0]
    assert path["loss"].iloc[-1] == pytest.approx(end)
    start = np.array([local.default_of(axis) for axis in fit.axes])
    target = local.coordinates_of(fit, best)
    first = []
    for place in np.flatnonzero(start != target):
        point = start.copy()
        point[place] = target[place]
        first.append(local.predicted(fit, point[None, :])[0])
    assert path["loss"].iloc[1] == pytest.approx(min(first))


def test_local_importance_is_the_movement_of_the_prediction_around_the_winner(results: Results, fit: Fanova) -> None:
    best = results.finished().sort_values("loss").iloc[0]
    table = local.local_importance(fit, best, ranking({1.0: fit}))
    assert table["share"].sum() == pytest.approx(1)
    here = local.predicted(fit, local.coordinates_of(fit, best)[None, :])[0]
    inside = (table["lowest"] <= here + 1e-9) & (here - 1e-9 <= table["highest"])
    # A grid of 50 points need not hold the winner's own value.
    assert inside.mean() > 0.9


# A problem of the user's own ------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def own(results: Results) -> Results:
    """The run as if it had maximised a score in points, 100 minus the error in percent."""
    score = Metric("score", unit="points", direction="maximise")
    evaluations = results.evaluations.assign(loss=100 * results.evaluations["loss"] - 100)
    for column in ("parameters", "flops_per_image", "images_per_s", "test_error", "epochs"):
        evaluations[column] = NAN
    rows = results.learning_curves
    rows = rows.assign(score=100 - 100 * rows["validation_error"], validation_error=NAN, learning_rate=NAN)
    return replace(
        results, problem=Description("mine", score, (score,), False), evaluations=evaluations, learning_curves=rows
    )


def test_a_score_that_is_maximised_is_written_as_itself(own: Results) -> None:
    score = metric.objective(own)
    assert (score.label, score.better, score.is_log) == ("score (points)", "higher", False)
    best = own.finished()["loss"].min()
    assert score.text(best) == f"{-best:.4g} points"
    assert winner.interval_text(own, best) == score.text(best)
    assert winner.ten_table(own)["score (points)"].iloc[0] == f"{-best:.4g}"


def test_curves_of_a_users_problem_are_its_own_metrics(own: Results, results: Results) -> None:
    points = curves.curve_points(own)
    assert len(points) == len(curves.curve_points(results))
    figure = curves.all_curves(own).figure
    assert figure is not None
    assert figure.axes[0].get_ylabel() == "score (points)"
    assert figure.axes[0].get_yscale() == "linear"


def test_every_section_of_a_users_problem_has_something_to_say(own: Results) -> None:
    for item in [*winner.items(own), *trajectories.section(own).items, *curves.section(own).items]:
        assert "nan" not in item.caption
        assert item.lacking or item.figure is not None or item.table is not None
    assert not [code for code in winner.items(own)[0].codes if "retrain" in code.text]


def test_amounts_are_written_for_people() -> None:
    assert [style.amount(v) for v in (512.0, 59_900.0, 27.6e6, 4.16e9)] == ["512", "59.9 k", "27.6 M", "4.16 G"]
    assert style.millions(NAN) == "–"
