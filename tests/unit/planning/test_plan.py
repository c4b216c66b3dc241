"""What a plan says of a search: held against arithmetic by hand, and against what no schedule can beat."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.planning.advice import advise, model_observations, overhead_of
from pipeline.planning.costs import search_cost
from pipeline.planning.disk import checkpoint_sizes_mb
from pipeline.planning.figure import write_figure
from pipeline.planning.simulation import Site, simulate
from pipeline.planning.view import comparison_lines, plan_data, plan_lines
from pipeline.settings import Settings, changed, load_settings

PAPER = ["search.min_budget=400", "search.max_budget=10800", "search.eta=3", "search.iterations=4"]


def paper(*overrides: str) -> Settings:
    return load_settings("cifar10", [*PAPER, *overrides])


def small(*overrides: str) -> Settings:
    return load_settings("digits", ["search.min_budget=1", "search.max_budget=27", "search.eta=3", *overrides])


def test_the_papers_four_brackets_cost_45_gpu_hours() -> None:
    cost = search_cost(paper())
    assert cost.training == 45 * 3600
    assert cost.training_continued == 38 * 3600
    assert [dict(b.rungs) for b in cost.brackets] == [
        {400: 27, 1200: 9, 3600: 3, 10800: 1}, {1200: 9, 3600: 3, 10800: 1}, {3600: 6, 10800: 2}, {10800: 4},
    ]  # fmt: skip
    assert search_cost(paper("search.iterations=64")).training == 16 * cost.training


def test_a_search_that_ends_within_a_cycle_of_brackets_counts_those_it_has() -> None:
    cost = search_cost(small("search.iterations=5"))
    assert [b.times for b in cost.brackets] == [2, 1, 1, 1]
    assert cost.planned == len(simulate(small("search.iterations=5"), Site(3)).finished)


@pytest.mark.parametrize("promotion", ["continue", "restart"])
def test_one_worker_needs_the_sum_of_all_training_and_overhead(promotion: str) -> None:
    chosen = small("search.iterations=4", f"search.promotion={promotion}")
    cost = search_cost(chosen)
    timeline = simulate(chosen, Site(1, overhead=2.0))
    assert timeline.wall == pytest.approx(cost.training_as_set + 2.0 * cost.planned)
    assert timeline.utilisation == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(
    workers=st.integers(1, 40),
    iterations=st.integers(1, 6),
    overhead=st.floats(0, 3),
    allocation=st.sampled_from([float("inf"), 60.0, 12.0]),
    promotion=st.sampled_from(["continue", "restart"]),
)
def test_nothing_is_trained_twice_or_by_two_and_no_promotion_comes_early(
    workers: int, iterations: int, overhead: float, allocation: float, promotion: str
) -> None:
    chosen = small(f"search.iterations={iterations}", f"search.promotion={promotion}")
    cost = search_cost(chosen)
    timeline = simulate(chosen, Site(workers, overhead, allocation, margin=1.0, absence=5.0))
    assert len(timeline.finished) == cost.planned
    of_evaluation, of_worker = defaultdict(list), defaultdict(list)
    for stretch in timeline.stretches:
        of_evaluation[stretch.config_id, stretch.budget].append(stretch)
        of_worker[stretch.worker].append(stretch)
    for stretches in (*of_evaluation.values(), *of_worker.values()):
        assert all(a.end <= b.begin + 1e-9 for a, b in pairwise(stretches))
    # Every stretch has its overhead, or was too short even for that.
    trained = sum(max(0.0, s.end - s.begin - overhead) for s in timeline.stretches)
    assert trained == pytest.approx(cost.training_as_set)
    for (config_id, budget), stretches in of_evaluation.items():
        below = [s for (other, b), found in of_evaluation.items() if other == config_id and b < budget for s in found]
        assert all(s.end <= stretches[0].begin + 1e-9 for s in below)


def test_a_search_without_barriers_is_simulated_and_claims_no_brackets() -> None:
    chosen = small("search.iterations=4", "search.scheduler=asha")
    cost, timeline = search_cost(chosen), simulate(chosen, Site(1))
    assert (cost.brackets, cost.planned) == ((), len(timeline.finished))
    assert cost.training_continued == pytest.approx(timeline.wall)
    assert cost.training_continued < cost.training
    assert "no barriers" in "\n".join(plan_lines(advise(chosen, 2, 0.0, 0.0)))


def test_more_workers_are_never_slower_by_much_and_are_worth_less() -> None:
    advice = advise(small("search.iterations=8"), 4, 0.0, 0.0)
    walls = [s.wall for s in advice.staffing]
    assert walls == sorted(walls, reverse=True)
    assert {s.workers: s.utilisation for s in advice.staffing}[advice.worthwhile] >= 0.8
    assert advice.staffing[-1].utilisation < 0.8


def test_a_time_limit_hands_evaluations_on_and_costs_their_overhead() -> None:
    chosen = small("search.iterations=4")
    free, limited = simulate(chosen, Site(2, 1.0)), simulate(chosen, Site(2, 1.0, 15.0, 1.0, 5.0))
    assert (free.handed_back, limited.handed_back > 0) == (0, True)
    assert limited.wall > free.wall


def test_the_model_needs_what_its_densities_need() -> None:
    assert model_observations(small()) == 36  # 2 (d + 1) in 17 dimensions
    assert model_observations(small("search.method=hyperband")) is None
    assert advise(paper(), 10, 15.0, 30.0).model_from is None, "four brackets have 27 results on their smallest budget"
    advice = advise(paper("search.iterations=8"), 10, 15.0, 30.0)
    assert advice.model_from is not None
    budgets = [b for _, b in advice.timeline.finished[: advice.model_from]]
    assert max(map(budgets.count, set(budgets))) == 36


def test_a_search_without_workers_or_without_time_to_train_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"workers\.count"):
        simulate(small(), Site(0))
    with pytest.raises(SettingsError, match="walltime_min"):
        simulate(small(), Site(1, 15.0, allocation=60.0, margin=50.0))


def test_a_plan_reads_as_text_and_as_json_and_plans_stand_side_by_side(tmp_path: Path) -> None:
    advice = advise(paper(), 10, overhead_of(paper(), None), 30.0)
    text = "\n".join(plan_lines(advice))
    assert "45.0 GPU-hours when they restart" in text
    assert "10 (as set)" in text
    data = json.loads(json.dumps(plan_data(advice)))
    assert data["training"] == {"continue": 38 * 3600, "restart": 45 * 3600}
    assert data["evaluations"][-1] == {"budget": 10800, "count": 8}
    other = advise(paper("search.method=hyperband", "search.eta=27"), 10, 15.0, 30.0)
    lines = comparison_lines([("this", advice), ("search.eta=27", other)])
    assert lines[0].split() == ["this", "search.eta=27"]
    assert "400 10800" in lines[2]
    write_figure(advice, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SettingsError, match=r"\.pdf"):
        write_figure(advice, tmp_path / "plan.docx")


def test_the_disk_that_a_plan_names_is_what_the_master_keeps_of_networks_of_that_size() -> None:
    chosen = small("search.iterations=1")
    advice = advise(chosen, 2, 0.0, 0.0)
    # The 27 configurations of the bracket may all be promoted, and two of them are trained.
    assert advice.disk.checkpoints == 27 + 5 * 2
    assert advise(changed(chosen, {"search.promotion": "restart"}), 2, 0.0, 0.0).disk.checkpoints == 5 * 2
    sizes = checkpoint_sizes_mb(chosen)
    assert advice.disk.checkpoint_mb == pytest.approx(sum(sizes) / len(sizes))
    limit = load_settings("cifar10", ["training.max_parameters=1000000"])
    assert max(checkpoint_sizes_mb(limit)) <= 8.0, "a million weights and as many momenta, of 4 bytes each"
    text = "\n".join(plan_lines(advice))
    assert "Disk: at most 37 checkpoints at once" in text
    assert plan_data(advice)["disk"]["checkpoints"] == 37
