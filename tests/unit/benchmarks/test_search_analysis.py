"""What stored searches say: regret, ranks, paired tests and the document."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search import report
from benchmarks.search.analysis import Comparison, Search, budget_to_reach, read
from benchmarks.search.protocol import Trace, regrets
from benchmarks.search.results import Key
from benchmarks.search.run import run, searches

BUDGETS = (10.0, 25.0, 100.0)


def compared(regret_of: Callable[[Key], Sequence[float]]) -> Comparison:
    """A comparison of methods a, b and c on two problems with four seeds each."""
    keys = [Key(p, m, 1, s) for p in ("p", "q") for m in "abc" for s in range(4)]
    return Comparison({k: Search(k, np.array(regret_of(k)), 1.0, 1.0, "") for k in keys}, BUDGETS)


def test_the_incumbent_is_the_best_observed_on_the_largest_budget_and_regret_its_true_one() -> None:
    trace = Trace(
        budget=[1, 3, 3, 1, 3],
        loss=[0.1, 0.9, 0.5, 0.0, None],
        value=[0.2, 0.8, 0.6, 0.3, None],
        spent=[1, 2, 3, 4, 5],
    )
    # A lower loss on a lower budget does not count any more, a crash never does.
    assert regrets(trace, best=0.1, worst=9.0) == pytest.approx([0.1, 0.7, 0.5, 0.5, 0.5])


def test_ranks_share_ties_and_count_only_what_every_method_has() -> None:
    comparison = compared(lambda k: [1.0, {"a": 0.1, "b": 0.2, "c": 0.2}[k.method], 0.5])
    ranks = comparison.ranks(["a", "b", "c"], 1, ["p", "q"])
    assert ranks.shape == (8, 3, 3)
    assert ranks[0].T.tolist() == [[2, 2, 2], [1, 2.5, 2.5], [2, 2, 2]]
    less = Comparison({k: s for k, s in comparison.searches.items() if (k.method, k.seed) != ("c", 0)}, BUDGETS)
    assert len(less.ranks(["a", "b", "c"], 1, ["p", "q"])) == 6
    assert less.ranks([], 1, ["p", "q"]).shape == (0, 0, 3)  # no method has every problem


def test_methods_with_fewer_seeds_are_compared_over_the_searches_that_all_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "BUDGETS", BUDGETS)
    comparison = compared(lambda k: [1.0, k.seed + {"a": 0.1, "b": 0.2, "c": 0.3}[k.method], 0.5])
    few = {k: s for k, s in comparison.searches.items() if k.method != "c" or k.seed == 2}
    less = Comparison(few, BUDGETS)
    assert less.whole(1, ["p", "q"], 25.0, seeds=4) == ["a", "b"]
    shared = less.shared(["a", "b", "c"], 1, 25.0)
    assert {k.seed for k in shared.searches} == {2}
    assert shared.mean_regret("a", 1, ["p", "q"])[0][1] == pytest.approx(2.1)
    tables = "\n".join(report._summary(less, 1, ["p", "q"]))
    assert "The methods with 4 seeds:" in tables
    assert "With fewer seeds (c), beside those above on the same searches:" in tables


def test_mean_regret_weighs_problems_alike_and_has_the_error_of_its_seeds() -> None:
    comparison = compared(lambda k: [k.seed + 10.0 * (k.problem == "q")] * 3)
    mean, error = comparison.mean_regret("a", 1, ["p", "q"])
    assert mean == pytest.approx([6.5] * 3)
    assert error == pytest.approx([np.sqrt(2 * np.var(range(4), ddof=1) / 4) / 2] * 3)


def test_a_difference_that_every_pair_shows_is_told_from_chance() -> None:
    comparison = compared(lambda k: [1.0, 0.5, {"a": 0.1, "b": 0.3, "c": 0.1}[k.method] + 0.01 * k.seed])
    pair = comparison.paired("a", "b", 1, ["p", "q"], 100.0)
    assert (pair.pairs, pair.mean) == (8, pytest.approx(-0.2))
    assert pair.p < 0.01
    assert comparison.paired("a", "c", 1, ["p", "q"], 100.0) is None, "no difference at all is no test"
    assert comparison.paired("a", "b", 1, ["p"], 100.0) is None, "four pairs are too few"


def test_a_goal_is_reached_where_regret_stays_below_it() -> None:
    comparison = compared(lambda k: [0.2, 0.4, 0.1])
    assert budget_to_reach(comparison, "a", 1, ["p"], 0.3) == 100
    assert budget_to_reach(comparison, "a", 1, ["p"], 0.5) == 10
    assert np.isnan(budget_to_reach(comparison, "a", 1, ["p"], 0.05))


def test_the_document_is_rewritten_between_its_marks_from_stored_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_surrogates", list)
    keys = list(searches(["hartmann3"], ["tandem.random", "tandem.hyperband"], [1], range(2)))
    run(keys, tmp_path / "results", 100.0)
    document = tmp_path / "quality.md"
    document.write_text(f"# Mine\n\n{report.BEGIN}\nold\n{report.END}\n\nThe end.\n")
    report.write(tmp_path / "results", document)
    text = document.read_text()
    assert text.startswith("# Mine\n")
    assert text.endswith("\n\nThe end.\n")
    assert "old" not in text
    assert "| tandem.hyperband | 1 x 2 |" in text
    mean, _ = read(tmp_path / "results", report.CURVE).mean_regret("tandem.random", 1, ["hartmann3"])
    assert f"{mean[-1]:.3f}" in text
    assert (tmp_path / "images" / "search-quality-1.png").stat().st_size > 10_000


def test_a_document_is_begun_where_there_is_none_and_left_alone_where_there_are_no_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_surrogates", list)
    mine = tmp_path / "mine.md"
    with pytest.raises(SystemExit, match="no searches"):
        report.write(tmp_path / "results", mine)
    assert not mine.exists()
    run(list(searches(["hartmann3"], ["tandem.random"], [1], range(1))), tmp_path / "results", 10.0)
    report.write(tmp_path / "results", mine)
    assert "| tandem.random | 1 x 1 |" in mine.read_text()
