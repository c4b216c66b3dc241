"""All problems, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

from benchmarks.search.problem import Problem
from benchmarks.search.synthetic import Conditional, Counting, Hartmann, Misleading, Noisy17
from benchmarks.search.tables.table import SURROGATES, Recorded, table_path

PROBLEMS: Mapping[str, Callable[[], Problem]] = {
    "counting": Counting,
    "hartmann3": partial(Hartmann, 3),
    "hartmann6": partial(Hartmann, 6),
    "noisy17": Noisy17,
    "conditional": Conditional,
    "misleading": Misleading,
    **{
        f"{table}-{surrogate}": partial(Recorded, table, surrogate)
        for table in ("digits", "fashion_mnist")
        if table_path(table).exists()
        for surrogate in SURROGATES
    },
}


@cache
def problem(name: str) -> Problem:
    """A problem; made once, because some fit a surrogate."""
    return PROBLEMS[name]()
