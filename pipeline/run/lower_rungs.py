"""What an evaluation has seen of the rungs below its own: losses on the way, which stand in its result's info.

An evaluation that begins on a larger budget trains past the lower rungs, and its learning curve tells what it would
have had there. That teaches a model how much budgets agree: configurations on both, chosen by no promotion.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pipeline.run.history import Result

# Key in results.json's info: [budget, loss] of each.
LOWER_RUNGS_KEY = "lower_rungs"
# What a budget counts, as a learning curve calls it.
CLOCK_COLUMNS = {"seconds": "training_s", "epochs": "epoch", "batches": "batches", "steps": "batches"}
# A row in the last tenth of a rung tells what the rung would: the learning rate has almost ended its cycle there.
LAST_SHARE = 0.1


def lower_rung_losses(clock: Sequence[float], losses: Sequence[float], rungs: Iterable[float]) -> list[list[float]]:
    """[rung, loss] of each rung at whose end a training was measured.

    Args:
        clock: budget spent at each row, ascending.
        losses: of each row; NaN where none was measured.
    """
    measured = [(float(at), float(loss)) for at, loss in zip(clock, losses, strict=True) if math.isfinite(loss)]
    found = []
    for rung in rungs:
        near = [loss for at, loss in measured if (1 - LAST_SHARE) * rung <= at <= rung * (1 + 1e-3)]
        if near:
            found.append([rung, near[-1]])
    return found


def lower_rungs(result: Result, ladder: Sequence[float]) -> list[tuple[float, float]]:
    """(budget, loss) of the rungs below that a result tells of.

    A worker that is not Tandem's may have sent anything: what has not this form is left out.
    """
    said = result.info.get(LOWER_RUNGS_KEY)
    pairs = said if isinstance(said, list | tuple) else ()
    return [
        (float(budget), float(loss))
        for budget, loss in (pair for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2)
        if _is_number(budget) and _is_number(loss) and budget in ladder and budget < result.budget
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
