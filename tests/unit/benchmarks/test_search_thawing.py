"""What is measured about thawing."""

from benchmarks.search.suite import problem
from benchmarks.search.thawing import measure


def test_everyone_who_came_back_or_would_have_been_the_best_had_been_frozen() -> None:
    frozen, back, gains, both = measure(problem("misleading"), 20, 15.0)
    assert frozen > 0
    assert both <= min(back, len(gains))
    assert max(back, len(gains)) <= frozen
    assert all(gain > 0 for gain in gains)
