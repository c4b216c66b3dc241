"""The section `search` of the settings, and the budgets that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.settings.ladder import spaced_budgets
from pipeline.settings.section import Positive, SettingsSection, Share


class PriorSettings(SettingsSection):
    """Where an expert expects a good value of a hyperparameter."""

    value: int | float | str | bool
    """The value."""
    confidence: Literal["low", "medium", "high"] = "medium"
    """Of a number: a standard deviation of a half, a quarter or an eighth of its (logarithmic) range."""


class SearchSettings(SettingsSection):
    """How configurations are proposed and promoted."""

    method: Literal["bohb", "gp", "hyperband", "random"] = "bohb"
    """BOHB (Falkner et al. 2018), a Gaussian process over configurations and budgets, Hyperband (Li et al. 2018), or
    random search on the largest budget."""
    scheduler: Literal["brackets", "asha"] = "brackets"
    """Hyperband's brackets, whose rungs are promoted when they are complete; or asynchronous successive halving (Li et
    al. 2020): every configuration begins on the smallest budget and is promoted as soon as it is among the best 1/eta
    of its rung."""
    budget_unit: Literal["seconds", "epochs", "batches", "steps"] = "seconds"
    """What a budget counts: what training takes on any machine, or what an objective counts (steps are batches)."""
    min_budget: Positive = 400.0
    """Smallest budget, in budget units."""
    max_budget: Positive = 10800.0
    """Largest budget, in budget units; min_budget times a whole power of eta."""
    eta: Annotated[float, Field(ge=2, le=1e6, allow_inf_nan=False)] = 3.0
    """One configuration in eta is promoted; each rung's budget is eta times the one below."""
    iterations: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """Number of brackets; under asha, of batches of as many new configurations as the largest bracket has."""
    promotion: Literal["continue", "restart"] = "continue"
    """A promoted configuration continues from its lower rung's checkpoint, or is trained from scratch."""
    promote_by: Literal["rank", "posterior", "agreement"] = "rank"
    """gp: which configurations of a rung are promoted: those with the smallest losses there; once there are a few
    results on the largest budget, those of which the model expects the smallest losses on it; or those only where it
    has learnt that the rung's budget and the largest disagree (docs/proposals.md: which pays)."""
    freeze_below: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """gp, in brackets: a rung's survivor is not trained on if the model gives it less than this chance of beating the
    incumbent on the largest budget; its place stays empty (docs/proposals.md). 0: all are trained on."""
    random_fraction: Share = 1 / 3
    """BOHB: share of proposals drawn at random."""
    top_n_percent: Annotated[int, Field(ge=1, le=99)] = 15
    """BOHB: share of the observations on a budget that count as good, in percent."""
    num_samples: Annotated[int, Field(ge=1, le=100_000)] = 64
    """BOHB: candidates drawn per proposal."""
    bandwidth_factor: Positive = 3.0
    """BOHB: candidates come from the good density widened by this factor."""
    min_bandwidth: Positive = 1e-3
    """BOHB: lower limit of a kernel's bandwidth (of a unit interval)."""
    objectives: Annotated[tuple[str, ...], Field(max_length=5)] = ()
    """Several of the problem's metrics that are optimised together, its own first: [validation_error, parameters].
    Default: its own alone."""
    priors: Mapping[str, PriorSettings] = Field(default_factory=dict)
    """What an expert expects, by hyperparameter: {learning_rate: {value: 0.1, confidence: high}}. It fades as results
    come in."""
    try_first: tuple[Mapping[str, int | float | str | bool], ...] = ()
    """Configurations to begin with, whole or in part (the rest is drawn): [{learning_rate: 0.1, batch_size: 64}]."""
    start_from: str | None = None
    """Id or folder of an earlier run of the same problem: the models of bohb and gp begin with its results, as far as
    their configurations and budgets are of this run. They are copied when the run is made."""
    gp_random_fraction: Share = 0.2
    """gp: share of proposals drawn at random."""
    acquisition: Literal["improvement", "improvement_per_second"] = "improvement"
    """gp: what a proposal shall promise most of: improvement on the largest budget, or improvement per second of
    training, where budgets count epochs, batches or steps, and what one takes is learnt (docs/proposals.md)."""
    min_points_in_model: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """BOHB: observations that each density needs; default and least: number of hyperparameters + 1."""

    @model_validator(mode="after")
    def _costs_differ(self) -> SearchSettings:
        if self.acquisition == "improvement":
            return self
        if self.method != "gp" or self.budget_unit == "seconds" or len(self.objectives) > 1:
            raise ValueError(
                "acquisition: improvement_per_second needs method=gp, one objective, and a budget_unit other than "
                "seconds (of which every configuration costs the same); leave it at improvement"
            )
        return self

    @model_validator(mode="after")
    def _whoever_freezes_is_there(self) -> SearchSettings:
        if self.freeze_below and (self.method != "gp" or self.scheduler != "brackets" or len(self.objectives) > 1):
            raise ValueError("freeze_below needs method=gp, scheduler=brackets and one objective; leave it at 0")
        return self

    @model_validator(mode="after")
    def _whoever_promotes_is_there(self) -> SearchSettings:
        if self.promote_by == "rank":
            return self
        if self.method != "gp":
            raise ValueError(f"promote_by: {self.promote_by} needs method=gp, not {self.method}; leave it at rank")
        if len(self.objectives) > 1:
            raise ValueError("promote_by: several objectives are promoted by fronts; leave it at rank")
        return self


def budget_ladder(search: SearchSettings) -> tuple[float, ...]:
    """The budgets of a search, ascending; random search has the largest alone.

    Raises:
        ValueError: as `pipeline.settings.ladder.spaced_budgets`.
    """
    if search.method == "random":
        return (search.max_budget,)
    return spaced_budgets(search.min_budget, search.max_budget, search.eta)
