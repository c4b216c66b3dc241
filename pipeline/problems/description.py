"""What a run's problem is called and what it measures: all that storage, status and figures need of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SettingsError
from pipeline.records import STOCK_DEVICE
from pipeline.settings import Settings
from tandem_trial.problem import Metric

# The paper's search: what it minimises, and what it measures beside it.
VALIDATION_ERROR = Metric("validation_error", direction="minimise", scale="log", percent=True)
_IMAGE_METRICS = (
    Metric("validation_loss", "nats", scale="log"),
    Metric("training_loss", "nats", scale="log"),
    Metric("training_error", percent=True, scale="log"),
    Metric("parameters", scale="log"),
    Metric("flops_per_image", "FLOP", scale="log", label="FLOPs per image"),
    Metric("latency_s", "s", scale="log", label="latency of a batch"),
)
# What a stock hpbandster worker returns.
LOSS = Metric("loss")


@dataclass(frozen=True)
class Description:
    """A problem without its functions.

    Attributes:
        name: for titles: of the problem; of the data set where it is the paper's.
        metric: what is minimised or maximised.
        metrics: all of them, that one first.
        is_built_in: it is the paper's search.
    """

    name: str
    metric: Metric
    metrics: tuple[Metric, ...]
    is_built_in: bool

    def to_plain(self) -> dict[str, Any]:
        """As a dict of plain types."""
        metrics = [metric.to_plain() for metric in self.metrics]
        return {"name": self.name, "is_built_in": self.is_built_in, "metrics": metrics}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Description:
        """The inverse of `to_plain`; of nothing, as earlier versions wrote it, the paper's search."""
        if not plain:
            return cls("", VALIDATION_ERROR, (VALIDATION_ERROR, *_IMAGE_METRICS), True)
        metrics = tuple(Metric(**metric) for metric in plain["metrics"])
        return cls(str(plain["name"]), metrics[0], metrics, bool(plain["is_built_in"]))


def describe(settings: Settings, devices: Collection[str] = ()) -> Description:
    """The problem of a run whose settings are frozen.

    Args:
        devices: of the workers that have joined, as the journal has them. What stock workers alone evaluate is their
            own: all that is known of it is a loss.

    Raises:
        SettingsError: it is one of the user's own, and has not been read yet (`pipeline.problems.freezing`).
    """
    if settings.problem.is_built_in:
        if devices and set(devices) == {STOCK_DEVICE}:
            return Description(settings.name, LOSS, (LOSS,), False)
        return Description(settings.data.name, VALIDATION_ERROR, (VALIDATION_ERROR, *_IMAGE_METRICS), True)
    frozen = settings.problem.frozen
    if frozen is None:
        raise SettingsError("problem: what it measures is known once the run is submitted, and not before")
    metrics = tuple(metric.to_metric() for metric in (frozen.metric, *frozen.metrics))
    return Description(frozen.name, metrics[0], metrics, False)


def objectives_of(settings: Settings) -> tuple[Metric, ...]:
    """The metrics that a run optimises together; empty: the problem's own alone.

    Raises:
        SettingsError: the problem does not measure one of them, or its own metric is not the first.
    """
    names = settings.search.objectives
    if not names:
        return ()
    problem = describe(settings)
    known = {metric.name: metric for metric in problem.metrics}
    for place, name in enumerate(names):
        if name not in known:
            raise SettingsError(f"search.objectives: the problem does not measure {name}; it has: {', '.join(known)}")
        if name in names[:place]:
            raise SettingsError(f"search.objectives: {name} is there twice")
    if names[0] != problem.metric.name:
        raise SettingsError(f"search.objectives: the first is the problem's own metric, {problem.metric.name}, which "
                            f"hpbandster's files call the loss; got {names[0]}")  # fmt: skip
    return tuple(known[name] for name in names) if len(names) > 1 else ()
