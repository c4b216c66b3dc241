"""What a person wants to see of a run beside its status: the incumbent itself, and how fast each worker trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class IncumbentDetails:
    """The best configuration on the largest budget that has results.

    Attributes:
        values: by hyperparameter, as a person reads them.
        curve: the metric's values over its training, as a person reads the first and the last of them.
        first, last: of these values, for a person.
    """

    config_id: str
    budget: float
    values: Mapping[str, str]
    curve: tuple[float, ...] = ()
    first: str = ""
    last: str = ""


@dataclass(frozen=True)
class WorkerSpeed:
    """How fast a worker trains.

    Attributes:
        images_per_s: of what it trains now, or trained last.
        relative: its speed over that of others at networks of the same cost, the median of what it has trained; None:
            there is too little to compare.
        is_slow: whether it is much slower than they are.
    """

    images_per_s: float
    relative: float | None = None
    is_slow: bool = False


@dataclass(frozen=True)
class RunDetails:
    """Both, as far as they are known.

    Attributes:
        speeds: by the worker's name.
    """

    incumbent: IncumbentDetails | None = None
    speeds: Mapping[str, WorkerSpeed] = field(default_factory=dict)
