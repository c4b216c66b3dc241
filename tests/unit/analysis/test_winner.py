"""The winner: its values, its network, and how sure it is to be the best."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from models.architecture import architecture_of
from models.cost import searched_network_cost, searched_network_parts
from pipeline.analysis import architecture, explorer, intervals, marks, style, winner
from pipeline.analysis.page import to_latex
from pipeline.storage.results import Results
from pipeline.storage.tables import incumbents

WithLosses = Callable[[dict[float, list[float]]], Results]


# Intervals ------------------------------------------------------------------------------------------------------------
def test_wilsons_interval_is_that_of_the_literature() -> None:
    # 81 of 263: Newcombe 1998, table I, method 3.
    low, high = intervals.wilson(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert intervals.wilson(0, 20)[0] == 0
    assert intervals.wilson(0, 20)[1] == pytest.approx(0.1611, abs=1e-4)


def test_wilsons_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    for share in (0.02, 0.1, 0.3):
        held = [low <= share <= high for low, high in (intervals.wilson(k, 150) for k in range(151))]
        assert binom.pmf(np.arange(151), 150, share)[held].sum() == pytest.approx(0.95, abs=0.025)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(100, 50_000), st.sets(st.integers(1, 99), min_size=30))
def test_errors_tell_on_how_many_images_they_were_counted(of: int, wrong: set[int]) -> None:
    found = intervals.counted_on(k / of for k in wrong)
    assert found is not None
    assert of % found == 0  # with counts that share a divisor, a part of it


def test_errors_that_are_no_counts_have_no_interval() -> None:
    generator = np.random.default_rng(0)
    assert intervals.counted_on(generator.uniform(0, 1, 50)) is None
    assert intervals.counted_on([0.1, 0.2]) is None
    assert intervals.counted_on([1.5, 2.5, 3.5, 4.5, 5.5]) is None


# The winner -----------------------------------------------------------------------------------------------------------
def test_the_yaml_of_the_incumbent_reads_back_as_its_values(results: Results) -> None:
    best = incumbents(results).iloc[-1]
    values = winner.items(results)[0]
    text = values.codes[0].text
    assert text.startswith(f"# {best['config_id']} of run {results.run_id}")
    assert yaml.safe_load(text) == {name: best[name] for name in results.hyperparameters}
    assert values.codes[1].text == f"make retrain-incumbent RUN={results.run_id}"


def test_ties_and_rivals_inside_the_interval_are_told(with_losses: WithLosses) -> None:
    counts = [3, 3, 4, 5, 60, 71, 83, 90]
    run = with_losses({1.0: [0.9] * 8, 3.0: [k / 150 for k in counts]})
    text = winner.ties_text(run, 0.02)
    assert text.startswith("1 of 7 others on this budget have the same result.")
    assert "3 of 7 others on this budget lie inside its interval" in text
    assert winner.interval_text(run, 0.02) == "2.00% (3 of 150 wrong; 95% interval 0.68% to 5.71%)"
    assert winner.interval_text(run, float("nan")) == "not measured"


def test_equal_errors_share_a_rank_among_the_ten_best(with_losses: WithLosses) -> None:
    table = winner.ten_table(with_losses({1.0: [0.3, 0.2, 0.2, 0.5]}))
    assert table["rank"].tolist() == ["1 (shared)", "1 (shared)", "3", "4"]
    assert table["configuration"].tolist() == ["0-0-1", "0-0-2", "0-0-0", "0-0-3"]


# Its network ----------------------------------------------------------------------------------------------------------
SHAKE = {
    "initial_filters": 16, "widen_factor_1": 4.0, "widen_factor_2": 2.0, "widen_factor_3": 2.0, "death_rate": 0.2,
    "nr_residual_blocks_1": 4, "nr_residual_blocks_2": 4, "nr_residual_blocks_3": 4,
    "res_branches_1": 2, "res_branches_2": 2, "res_branches_3": 1,
}  # fmt: skip


def test_the_parts_of_a_network_add_up_to_it() -> None:
    network = architecture_of(SHAKE)
    parts = searched_network_parts(network, (3, 32, 32), 10)
    whole = searched_network_cost(network, (3, 32, 32), 10)
    assert [part.name for part in parts] == ["convolution", "group 1", "group 2", "group 3", "linear layer"]
    assert sum(part.parameters for part in parts) == whole.parameters
    assert sum(part.flops_per_image for part in parts) == whole.flops_per_image
    assert [part.size for part in parts[1:4]] == [(32, 32), (16, 16), (8, 8)]


def test_the_caption_of_a_network_says_how_its_groups_are_regularised(results: Results) -> None:
    item = architecture.architecture_figure(results, "0-0-0", SHAKE)
    assert "Shake-Shake in groups 1 and 2, ShakeDrop (death rate 0.2) in group 3" in item.caption
    assert "(12 in all)" in item.caption
    assert item.data is not None
    assert item.data["channels"].tolist() == [16, 64, 128, 256, 10]


def test_a_configuration_of_another_space_has_no_drawing(results: Results) -> None:
    assert architecture.architecture_figure(results, "0-0-0", {"x": 1}).lacking
    assert architecture.architecture_figure(replace(results, dataset="mine"), "0-0-0", SHAKE).lacking


# What the page's script gets ------------------------------------------------------------------------------------------
def numbers(text: str, dtype: str) -> list[int]:
    return np.frombuffer(base64.b64decode(text), dtype).tolist()


def test_marks_are_places_in_the_figure_from_its_lower_left_corner() -> None:
    figure, axes = style.new_figure(2)
    axis = axes[0, 0]
    axis.set(xlim=(0, 1), ylim=(1, 100), yscale="log")
    figure.canvas.draw()
    packed = marks.Marks(axis, marks.EVALUATION, np.array([7, 3]), np.array([0.0, 1.0]), np.array([1.0, -1])).packed(
        figure
    )
    box = axis.get_position()
    assert numbers(packed["rows"], "<u2") == [7, 3]
    assert numbers(packed["x"], "<u2")[0] == pytest.approx(box.x0 * marks.SCALE, abs=2)
    # What a logarithmic axis cannot show has no place.
    assert numbers(packed["y"], "<u2")[0] == pytest.approx(box.y0 * marks.SCALE, abs=2)
    assert numbers(packed["y"], "<u2")[1] == marks.MISSING


def test_lines_that_share_their_x_send_it_once() -> None:
    figure, axes = style.new_figure(2)
    lines = np.array([[0.1, 0.2, np.nan], [0.3, 0.2, 0.1]])
    packed = marks.Marks(axes[0, 0], marks.CONFIGURATION, np.arange(2), np.arange(3) / 3, lines).packed(figure)
    assert (packed["points"], packed["rows"]) == (3, 2)
    assert (len(numbers(packed["x"], "<u2")), len(numbers(packed["y"], "<u2"))) == (3, 6)


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    line = np.column_stack([np.arange(100.0), np.arange(100.0)])
    x, _ = marks.thinned([line, line[:2]], most=10)
    assert (x[0, 0], x[0, -1]) == (0, 99)
    assert x[1, :2].tolist() == [0, 1]
    assert np.isnan(x[1, 2:]).all()


def test_the_page_gets_every_evaluation_and_configuration_as_plain_json(results: Results) -> None:
    data = json.loads(json.dumps(explorer.explorer(results), allow_nan=False))
    assert len(data["evaluations"]["loss"]) == len(results.evaluations)
    crashed = results.evaluations.index[results.evaluations["status"] == "crashed"][0]
    assert data["evaluations"]["loss"][crashed] is None
    assert data["states"][data["evaluations"]["state"][crashed]] == "crashed"
    assert set(data["configurations"]["values"]) == set(results.hyperparameters)
    assert explorer._values(pd.Series([0.123456, np.nan, 12.0])) == [0.1235, None, 12]


def test_a_table_is_latex_that_says_the_same() -> None:
    table = pd.DataFrame({"error (%)": ["3.33 ± 0.1", "–"], "name_one": ["a & b", "{x}"]})
    lines = to_latex(table).splitlines()
    assert lines[:2] == [r"\begin{tabular}{ll}", r"\toprule"]
    assert lines[2] == r"error (\%) & name\_one \\"
    assert lines[4:6] == [r"3.33 $\pm$ 0.1 & a \& b \\", r"-- & \{x\} \\"]
