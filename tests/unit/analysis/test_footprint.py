"""The plane that a search's configurations are laid in, the way from a chosen configuration, and figures in words."""

import numpy as np
import pytest

from pipeline.analysis import footprint, local, page, style
from pipeline.analysis.alt_text import alt_text
from pipeline.analysis.axes import Axis, ordered, read_axes
from pipeline.analysis.importance import fit_budgets, ranking
from pipeline.analysis.items import Item
from pipeline.analysis.marginals import best_on
from pipeline.errors import RunError
from pipeline.storage.results import Results

NAN = float("nan")


def test_distances_are_those_of_gower() -> None:
    axes = [Axis("x", "x"), Axis("c", "c", choices=("a", "b", "d"), coordinates=(0.0, 0.5, 1.0), is_numeric=False)]
    points = np.array([[0.0, 0.0], [0.5, 0.5], [NAN, 1.0], [NAN, 1.0]])
    found = footprint.distances(points, axes)
    expected = [[0, 0.75, 1, 1], [0.75, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    np.testing.assert_allclose(found, np.array(expected, dtype=float))


def test_the_footprint_has_every_incumbent_and_no_more_than_it_can_hold(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "MOST_TRIED", 30)
    axes = read_axes(results.configspace, ordered(results.hyperparameters))
    found = footprint.project(results, axes)
    assert len(found.rows) == len(set(found.rows)) == 30
    best = best_on(results, max(results.finished()["budget"]))
    assert found.rows[found.incumbents[-1]] == best["configuration"]
    assert 0 < found.stress < 1
    # Corners lie around what was tried.
    centre = found.tried.mean(axis=0)
    away = [np.linalg.norm(points - centre, axis=1).mean() for points in (found.tried, found.border)]
    assert away[1] > away[0]
    data = footprint.footprint_data(results, found)
    assert len(data) == 30 + footprint.BORDER
    assert data["incumbent"].max() == len(found.incumbents)


def test_an_ablation_may_begin_at_any_configuration(results: Results) -> None:
    fits, _ = fit_budgets(results)
    fits = dict(list(fits.items())[:1])
    (fit,) = fits.values()
    names = ranking(fits)
    start = results.configurations["config_id"].iloc[3]
    item = local.items(results, fits, names, start)[-1]
    assert item.title == f"From {start} to the best"
    assert item.data is not None
    point = local.coordinates_of(fit, local.drawn(results, start))
    assert item.data["loss"].iloc[0] == pytest.approx(local.predicted(fit, point[None, :])[0])
    with pytest.raises(RunError, match="No configuration '99-0-0' was drawn"):
        local.items(results, fits, names, "99-0-0")


def test_a_figure_in_words_names_axes_their_ends_and_what_it_tells_apart() -> None:
    figure, axes = style.new_figure(2.0)
    axes[0, 0].plot([0, 10], [1, 5], label="a line")
    axes[0, 0].set(xlabel="time (s)", ylabel="error (%)", xlim=(0, 10), ylim=(1, 5))
    figure.legend(loc="outside upper center")
    figure.draw_without_rendering()
    text = alt_text("Errors", figure)
    assert text == "Figure: Errors. across: time (s), 0 to 10; up: error (%), 1 to 5. It tells apart: a line."


def test_a_warning_is_shown_once_in_a_section_and_pointed_at_afterwards() -> None:
    first, second = (Item(name, name, "", warnings=("doubtful", name)) for name in ("one", "two"))
    shown = [entry for _, entry in page._warned([first, second])]
    assert shown == [{"warnings": ["doubtful", "one"], "warned": None}, {"warnings": ["two"], "warned": first}]
