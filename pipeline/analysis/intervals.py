"""How sure an error is that was counted on so many images: Wilson's interval, and from which count an error comes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

# Of the normal distribution, for 95%.
Z95 = 1.959964
# No set of images that errors are counted on is larger; and with fewer different errors its size is a guess.
MOST_COUNTED, FEWEST_DIFFERENT = 200_000, 5


@dataclass(frozen=True)
class Counted:
    """An error as a count.

    Attributes:
        wrong: how many were wrong.
        of: how many were looked at.
        low, high: Wilson's 95% interval of the error.
    """

    wrong: int
    of: int
    low: float
    high: float


def wilson(wrong: int, of: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval (1927) of a share that was counted: unlike the normal one, right for few and for none."""
    share = wrong / of
    centre = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def counted_on(errors: Iterable[float]) -> int | None:
    """On how many items errors were counted: the smallest number of which they all are whole shares.

    Returns:
        None: they are no shares of a whole number up to `MOST_COUNTED`, or too few differ to tell.
    """
    different = {float(e) for e in np.unique([e for e in errors if not math.isnan(e)])} - {0.0, 1.0}
    if len(different) < FEWEST_DIFFERENT or not all(0 <= e <= 1 for e in different):
        return None
    total = 1
    for error in different:
        share = Fraction(error).limit_denominator(MOST_COUNTED)
        total = math.lcm(total, share.denominator)
        if abs(float(share) - error) > 1e-12 or total > MOST_COUNTED:
            return None
    return total


def count(error: float, of: int) -> Counted:
    """An error on so many items, with its interval."""
    wrong = round(error * of)
    return Counted(wrong, of, *wilson(wrong, of))
