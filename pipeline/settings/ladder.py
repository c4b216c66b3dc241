"""The ladder of budgets, from the smallest to the largest by steps of eta."""

from __future__ import annotations

import math

# More than any search needs: the configurations of the first rung grow with it.
MAX_BUDGET_RATIO = 1e7
# Budgets are typed by people: 0.33 is a third of 1.
TOLERANCE = 1e-3


def spaced_budgets(low: float, high: float, eta: float) -> tuple[float, ...]:
    """The budgets from smallest to largest, spaced by eta, with a tolerance of one in a thousand.

    hpbandster truncates by rounding (1..243 with eta 3 gives 3..243); here both ends are always in.

    Raises:
        ValueError: high is not low times a whole power of eta, 1 included; the text names the nearest that is, for
            either end. Or it is more than `MAX_BUDGET_RATIO` times low.
    """
    if high / low > MAX_BUDGET_RATIO * (1 + TOLERANCE):
        raise ValueError(f"search.max_budget: {high:g} is more than {MAX_BUDGET_RATIO:g} times {low:g}, the smallest")
    # No more rungs than the ratio allows: what the error names must work.
    most = math.floor(math.log(MAX_BUDGET_RATIO, eta) + 1e-9)
    rungs = min(max(0, round(math.log(high / low, eta))), most)
    if abs(low * eta**rungs / high - 1) > TOLERANCE:
        problem = f"below search.min_budget ({low:g})" if high < low else f"not {low:g} times a power of {eta:g}"
        raise ValueError(
            f"search.max_budget: {high:g} is {problem}; "
            f"nearest that work: search.max_budget={low * eta**rungs:g} or search.min_budget={high / eta**rungs:g}"
        )
    # Multiplying down from the top, as hpbandster does, keeps the largest budget exact.
    return (*(_plain(high * eta ** (i - rungs)) for i in range(rungs)), float(high))


def _plain(budget: float) -> float:
    """Without the last digits' noise of a power (399.99999999999994): budgets name files."""
    return float(f"{budget:.9g}")
